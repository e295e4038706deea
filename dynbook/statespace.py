"""Linear state-space layers: one map, read as a recurrence, as a convolution, as an equation."""

from __future__ import annotations

import math
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import finite, whole
from dynbook.maps import states

UNSTABLE = "the layer is unstable, some |eigenvalue| exceeds 1"


def legs(n: int) -> tuple[Float[Tensor, "N N"], Float[Tensor, " N"]]:
    """A and B of HiPPO-LegS :cite:p:`gu2020`: the state holds Legendre coefficients of the past.

    With p_i(z) = √(2i+1) P_i(2z − 1), orthonormal on (0, 1), x_i(t) = ∫₀¹ u(tz) p_i(z) dz solves
    t dx/dt = A x + B u, and x_i(t) = ∫₀^∞ u(t − s) p_i(e^{−s}) e^{−s} ds solves dx/dt = A x + B u.
    A is lower triangular with eigenvalues −1, …, −N.

    Parameters
    ----------
    n : int
        Number N of coefficients.

    Returns
    -------
    A : Tensor (N, N)
        −√(2i+1)(2j+1) below the diagonal, −(i+1) on it; float64.
    B : Tensor (N,)
        p_i(1) = √(2i+1).
    """
    i = torch.arange(whole("n", n), dtype=torch.float64)
    B = (2 * i + 1).sqrt()
    return -torch.tril(B[:, None] * B, -1) - torch.diag(i + 1), B


def legendre_sum(x: Float[Tensor, "*b N"], z: Float[Tensor, " m"]) -> Float[Tensor, "*b m"]:
    """Σ_i x_i p_i(z), the function on (0, 1) that a state of :func:`legs` stands for.

    By Clenshaw's rule, from i P_i(y) = (2i−1) y P_{i−1}(y) − (i−1) P_{i−2}(y) with y = 2z − 1.

    Raises
    ------
    TypeError, ValueError
        If z is not (m,), or dtypes or devices differ.
    """
    states("x", x), _alike("z", z, "x", x)
    if z.ndim != 1:
        raise ValueError(f"z must have shape (m,), got {tuple(z.shape)}")
    n, y = x.shape[-1], 2 * z - 1
    after = later = torch.zeros_like(x[..., :1] * y)
    for i in range(n - 1, -1, -1):
        now = math.sqrt(2 * i + 1) * x[..., i, None]
        now = now + (2 * i + 1) / (i + 1) * y * after - (i + 1) / (i + 2) * later
        after, later = now, after
    return after


def bilinear(
    A: Float[Tensor, "*b N N"], B: Float[Tensor, "*b N"], dt: float
) -> tuple[Float[Tensor, "*b N N"], Float[Tensor, "*b N"]]:
    """One step of dx/dt = A x + B u by the trapezoidal rule: x' = Ā x + B̄ u.

    Ā = (I − Δ/2 A)⁻¹ (I + Δ/2 A) and B̄ = (I − Δ/2 A)⁻¹ Δ B. An eigenvalue a of A becomes
    (1 + aΔ/2)/(1 − aΔ/2), so that what is stable stays so. The error after a fixed time is O(Δ²)
    if u is the *mean* of the input over the step, as (u_t + u_{t−1})/2 is nearly; with the one
    sample u_t it is O(Δ).

    Parameters
    ----------
    A, B : Tensor (…, N, N), (…, N)
        The equation.
    dt : float
        Time step Δ > 0.

    Raises
    ------
    TypeError, ValueError
        If shapes, dtypes or devices do not fit, an entry is not finite, Δ is not positive, or 2/Δ
        is an eigenvalue of A up to rounding.
    """
    _pair(A, B)
    if not isinstance(dt, Real) or not 0 < dt < math.inf:
        raise ValueError(f"dt must be positive and finite, got {dt!r:.40}")
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    both = torch.cat([eye + dt / 2 * A, dt * B[..., None]], -1)
    left = finite("Δ/2 A", eye - dt / 2 * A, "take a smaller step")
    rows = left.detach() / left.detach().abs().amax(-1, keepdim=True)
    if not (torch.linalg.cond(rows, 1) * torch.finfo(A.dtype).eps < 1e-2).all():
        raise ValueError(
            f"dt = {dt:g} makes I − Δ/2 A singular, 2/Δ = {2 / dt:g} is an eigenvalue of A: "
            "the equation grows that fast, take a smaller step"
        )
    solved = torch.linalg.solve(left, both)
    return solved[..., :-1], solved[..., -1]


def recurrence(
    A: Float[Tensor, "N N"], B: Float[Tensor, " N"], u: Float[Tensor, " T"]
) -> Float[Tensor, "T N"]:
    """The states x_t = A x_{t−1} + B u_t from rest, one after the other.

    Raises
    ------
    TypeError, ValueError
        If shapes, dtypes or devices do not fit, or an entry or a state is not finite.
    """
    _pair(A, B), _alike("u", u, "A", A)
    if A.ndim != 2 or u.ndim != 1:
        raise ValueError(
            f"A must have shape (N, N) and u (T,), got {tuple(A.shape)} and {tuple(u.shape)}"
        )
    x, seen = torch.zeros_like(B), []
    for push in u[:, None] * B:
        x = A @ x + push
        seen.append(x)
    return finite("recurrence", torch.stack(seen), UNSTABLE)


def krylov(
    A: Float[Tensor, "*b N N"], B: Float[Tensor, "*b N"], steps: int
) -> Float[Tensor, "*b N T"]:
    """B, A B, A² B, …: the response of each state to an input 1 at time 0 and 0 later.

    Its length is doubled with each product, [K, A^m K], so that it takes log₂ T of them. C K is
    the kernel of the layer y = C x.

    Parameters
    ----------
    A, B : Tensor (…, N, N), (…, N)
        The step x' = A x + B u.
    steps : int
        Length T.

    Raises
    ------
    TypeError, ValueError
        If shapes, dtypes or devices do not fit, an entry is not finite, or the response, or a power
        of A on the way, leaves the finite numbers.
    """
    _pair(A, B)
    steps, K = whole("steps", steps), B[..., None]
    while K.shape[-1] < steps:
        K = torch.cat([K, A @ K], -1)
        A = A @ A
    return finite("krylov", K[..., :steps], UNSTABLE)


def convolve(kernel: Float[Tensor, "*b T"], u: Float[Tensor, "*b T"]) -> Float[Tensor, "*b T"]:
    """The causal y_t = Σ_{s≤t} k_s u_{t−s}, by a Fourier transform of twice the length.

    Of the length T alone it would be periodic, and the end of the input would come before its
    start.

    Raises
    ------
    TypeError, ValueError
        If lengths, dtypes or devices differ, or the result leaves the finite numbers.
    """
    states("u", u), _alike("kernel", kernel, "u", u)
    T = u.shape[-1]
    if kernel.shape[-1] != T:
        raise ValueError(
            f"kernel must be as long as u, {T}, got {kernel.shape[-1]}: cut it, or pad with zeros"
        )
    transformed = torch.fft.rfft(kernel, 2 * T) * torch.fft.rfft(u, 2 * T)
    y = torch.fft.irfft(transformed, 2 * T)[..., :T]
    return finite("convolve", y, "kernel or u is too large")


def delay_memory(
    K: Float[Tensor, "*b N T"],
    delays: int,
    *,
    noise: float,
    autocovariance: Float[Tensor, " T"] | None = None,
) -> Float[Tensor, "*b D"]:
    """What the best linear read-out of x_t tells of u_{t−k}, k = 0, …, D − 1, with no sampling.

    With c_k = E[x_t u_{t−k}] and P = E[x_t x_tᵀ] it is the share c_kᵀ (P + ν² diag P)⁻¹ c_k / E[u²]
    of the variance: each number of the state is known up to independent noise of ν times its own
    standard deviation. The sum over all k is at most N if u is white :cite:p:`jaeger2002`.

    Parameters
    ----------
    K : Tensor (…, N, T)
        Responses, as of :func:`krylov`, long enough to have died out.
    delays : int
        Number D ≤ T of delays.
    noise : float
        ν > 0.
    autocovariance : Tensor (T,), optional
        E[u_t u_{t−k}] of a stationary input, k = 0, …, T − 1; by default white noise.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or device does not fit, ν is not positive, or is lost in rounding, a row
        of K is zero or has not died out (its last tenth holds more than 10⁻² of its norm), or a
        share beyond 1 shows that no input has this autocovariance.
    """
    states("K", K)
    if K.ndim < 2:
        raise ValueError(f"K must have shape (..., N, T), got {tuple(K.shape)}")
    T = K.shape[-1]
    delays = whole("delays", delays, most=T)
    if not isinstance(noise, Real) or not 0 < noise < math.inf:
        raise ValueError(
            f"noise must be positive and finite, got {noise!r:.40}: without any, rounding decides"
        )
    largest = K.abs().amax(-1, keepdim=True)
    if not (largest > 0).all():
        raise ValueError("K has a row of zeros: no input reaches this state, leave it out")
    K = K / largest
    left = K[..., -max(T // 10, 1) :].norm(dim=-1) / K.norm(dim=-1)
    if not (left <= 1e-2).all():
        raise ValueError(
            f"K must have died out, but the last tenth of a row holds {left.max():.1g} of its "
            "norm: take more steps"
        )
    C = K
    if autocovariance is not None:
        if _alike("autocovariance", autocovariance, "K", K).shape != (T,):
            raise ValueError(
                f"autocovariance must have shape ({T},), one entry for each step of K, got "
                f"{tuple(autocovariance.shape)}"
            )
        if not 0 < autocovariance[0] == autocovariance.abs().max():
            raise ValueError(
                "autocovariance must be positive and largest at delay 0, as a variance is, got "
                f"{autocovariance[0]:g} there and up to {autocovariance.abs().max():g}"
            )
        r = autocovariance / autocovariance[0]
        size = 2 * T  # what wraps around falls before T − 1
        product = torch.fft.rfft(K, size) * torch.fft.rfft(torch.cat([r.flip(0), r[1:]]), size)
        C = torch.fft.irfft(product, size)[..., T - 1 : 2 * T - 1]
    P = C @ K.mT
    scale = P.diagonal(dim1=-2, dim2=-1).sqrt()
    P, C = P / (scale[..., None] * scale[..., None, :]), C[..., :delays] / scale[..., None]
    P = P + noise**2 * torch.eye(P.shape[-1], dtype=P.dtype, device=P.device)
    root, failed = torch.linalg.cholesky_ex(P)
    share = (C * torch.cholesky_solve(C, root)).sum(-2)
    if failed.any() or not (share < 1 + 1e-3).all():
        raise ValueError(
            f"noise = {noise:g} is lost in rounding, make it larger"
            + ("" if autocovariance is None else "; or no input has this autocovariance")
        )
    return share


def _pair(A: Tensor, B: Tensor) -> None:
    states("A", A), _alike("B", B, "A", A)
    n = A.shape[-1]
    if A.ndim < 2 or A.shape[-2] != n or B.shape != A.shape[:-1]:
        raise ValueError(
            f"A must have shape (..., N, N) and B (..., N), got {tuple(A.shape)} and "
            f"{tuple(B.shape)}"
        )


def _alike(name: str, value: Tensor, other: str, like: Tensor) -> Tensor:
    if isinstance(value, Tensor) and (value.dtype, value.device) != (like.dtype, like.device):
        raise TypeError(
            f"{name} must be {like.dtype} on {like.device} as {other} is, got {value.dtype} on "
            f"{value.device}"
        )
    return states(name, value)
