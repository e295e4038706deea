"""The tail of a mean of independent variables, exactly, however small.

For h drawn from H_n the functional ⟨h, f⟩ is the mean of n independent X_j = a_j Y_j, with a_j
uniform in (−A, A) and Y_j = ⟨σ(w_j·x − b_j), f⟩ (`dynbook.rashomon`). So P(⟨h, f⟩ ≥ (1 − ε)‖f‖²)
can be computed, where P(‖h − f‖ ≤ ε‖f‖), which is at most that, must be estimated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import finite, kind, whole
from dynbook.rashomon import positive, relative_error


@dataclass(frozen=True)
class Tail:
    """A tail probability, by its decimal logarithm.

    Attributes
    ----------
    log10 : float
        log₁₀ P; −inf where P = 0.
    error : float
        Estimated error of log10.
    """

    log10: float
    error: float

    @property
    def estimate(self) -> float:
        """10**log10, which may underflow."""
        return 10**self.log10


def linear_tail(
    values: Float[Tensor, " m"],
    weights: Float[Tensor, " m"],
    n: int,
    eps: float,
    f_norm: float,
    amplitude: float,
    *,
    points: int | None = None,
) -> Tail:
    """P(⟨h, f⟩ ≥ (1 − ε)‖f‖²) for h drawn from H_n, by exponential tilting and FFT convolution.

    The law of X = aY is spread over a lattice of step h, each value between its two neighbours so
    that its mean stays. Multiplied by e^{θx}, with the θ that moves the mean of X to (1 − ε)‖f‖²,
    what was a far tail lies in the middle, and rounding is relative to it (:cite:t:`daniels1954`).
    The n-th power of its Fourier transform is that of the sum. Steps h and h/3 are extrapolated;
    with half of a step between lattice and threshold both err by O(h²).

    Parameters
    ----------
    values, weights : Tensor (m,), float64
        The law of Y, as :func:`dynbook.rashomon.moment_nodes` gives it.
    n, eps, f_norm, amplitude
        As for :func:`dynbook.rashomon.rashomon_bound`.
    points : int, optional
        Of the coarser lattice. Default: 2¹⁵, or as many as make θh√n small, at most 2²².

    Returns
    -------
    Tail, whose error is the difference between the extrapolated value and that of h/3, an upper
    limit rather than an estimate. For n = 1 the tail is a sum over the nodes, and the error its
    difference from that over every third one.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, weights are negative or do not sum to one, or the points
        are too few for a tail so near to the end of the sum's range.
    """
    size, weights, n, x = _law(values, weights, n, eps, f_norm, amplitude)
    points = points if points is None else whole("points", points, least=64)
    if x >= size.max():
        return Tail(-math.inf, 0.0)
    if n == 1:
        beyond = weights * (1 - x / size).clamp(min=0) / 2
        tail = beyond.sum().log10()
        half = (beyond[::3].sum() / weights[::3].sum()).log10()
        return Tail(tail.item(), (tail - half).abs().item())
    theta = _tilt(size, weights, x)
    if points is None:
        points = min(max(1 << 15, int(40 * n**1.5 * theta * size.max())), 1 << 22)
    coarse, fine = (_lattice(size, weights, n, x, theta, points, part) for part in (1, 3))
    if not abs(coarse - fine) < 0.3:
        raise ValueError(f"points = {points:,} are too few here: take more")
    best = fine + math.log1p(-math.expm1(coarse - fine) / 8)
    return Tail(best / math.log(10), abs(best - fine) / math.log(10))


def _lattice(
    size: Tensor, weights: Tensor, n: int, x: float, theta: float, points: int, part: int
) -> float:
    """ln P(X_1 + … + X_n ≥ n x) on the lattice of about `points` points, refined `part` times."""
    most = n * size.max().item()
    below = max(int(n * x / (2 * most) * points - 0.5), 0)
    step = n * x / (below + 0.5) / part
    r = size / step
    if n * r.max() > 1 << 24:
        raise ValueError(
            f"a lattice for a sum of {n} variables up to {size.max():g} with the threshold "
            f"{n * x:g} would be too long; take saddle_point_tail"
        )
    whole_steps = r.floor().long()
    rest = r - whole_steps
    reach = int(whole_steps.max()) + 1
    each = weights / (2 * r)  # of a uniform law on (−size, size), per step
    mass = torch.zeros(reach + 2, dtype=torch.float64)  # at 0, 1, …: times the hat's integral
    mass.index_add_(0, (whole_steps - 1).clamp(min=0), each * (whole_steps > 0))
    mass = mass.flip(0).cumsum(0).flip(0)
    mass.index_add_(0, whole_steps, each * (1 - (1 - rest) ** 2 / 2))
    mass.index_add_(0, whole_steps + 1, each * rest**2 / 2)
    mass[0] = weights.sum() - 2 * mass[1:].sum()
    at = torch.arange(-reach, reach + 1, dtype=torch.float64) * step
    law = torch.cat([mass[1 : reach + 1].flip(0), mass[: reach + 1]])
    tilted = law * torch.exp(theta * (at - reach * step))
    growth = tilted.sum()
    length = 1 << (n * 2 * reach + 1 - 1).bit_length()
    power = torch.fft.rfft(tilted / growth, length) ** n
    total = torch.fft.irfft(power, length)
    over = torch.arange(-n * reach, n * reach + 1, dtype=torch.float64)
    first = n * reach + part * below + (part - 1) // 2 + 1  # smallest lattice point above n x
    beyond = total[first : n * 2 * reach + 1] * torch.exp(-theta * (over[first:] * step - n * x))
    return (
        n * (growth.log().item() + theta * reach * step) - theta * n * x + beyond.sum().log().item()
    )


def saddle_point_tail(
    values: Float[Tensor, " m"],
    weights: Float[Tensor, " m"],
    n: int,
    eps: float,
    f_norm: float,
    amplitude: float,
) -> float:
    """log₁₀ of the same tail by the formula of Lugannani and Rice (:cite:t:`lugannani1980`).

    With K(θ) = ln E e^{θX}, K'(θ) = x, r = √(2n(θx − K)) and u = θ√(nK''): P ≈ Q(r) + φ(r)(1/u −
    1/r), Q and φ the Gaussian tail and density. Relative errors are O(1/n), a few per cent for
    n = 8, at any size of P.

    Parameters and refusals are those of :func:`linear_tail`.
    """
    from scipy.special import erfcx

    size, weights, n, x = _law(values, weights, n, eps, f_norm, amplitude)
    if x >= size.max():
        return -math.inf
    theta = _tilt(size, weights, x)
    K, _, curvature = _cumulants(size, weights, theta)
    if not curvature > 0:
        raise ValueError(f"the threshold {x:g} is too near to the end {size.max():g} of the range")
    r = math.sqrt(max(2 * n * (theta * x - K), 0.0))
    u = theta * math.sqrt(n * curvature)
    mills = math.sqrt(math.pi / 2) * erfcx(r / math.sqrt(2))
    scaled = mills + (1 / u - 1 / r if r > 1e-3 else 0.0)  # whose limit is 0, X being symmetric
    if not scaled > 0:
        raise ValueError(f"the threshold {x:g} is too near to the end {size.max():g} of the range")
    return (math.log(scaled) - r**2 / 2 - math.log(2 * math.pi) / 2) / math.log(10)


def _law(
    values: Tensor, weights: Tensor, n: int, eps: float, f_norm: float, amplitude: float
) -> tuple[Tensor, Tensor, int, float]:
    """A|Y|, positive, its weights, n and the threshold (1 − ε)‖f‖², all checked.

    X is uniform in (−A|Y|, A|Y|), whatever the sign of Y.
    """
    for name, v in (("values", values), ("weights", weights)):
        if not isinstance(v, Tensor) or v.dtype != torch.float64 or v.ndim != 1:
            raise TypeError(f"{name} must be a float64 tensor (m,), got {kind(v)}")
        finite(name, v)
    if values.shape != weights.shape:
        raise ValueError(
            f"values and weights must have one shape, got {tuple(values.shape)} and "
            f"{tuple(weights.shape)}"
        )
    if (weights < 0).any() or not abs(weights.sum().item() - 1) < 1e-9:
        raise ValueError(f"weights must be ≥ 0 and sum to 1, got the sum {weights.sum():g}")
    values, weights = values[weights > 0].abs().cpu(), weights[weights > 0].cpu()
    size = positive("amplitude", amplitude) * values
    positive("the largest of values", size.max().item(), "f is orthogonal to every neuron")
    n = whole("n", n)
    x = (1 - relative_error(eps)) * positive("f_norm", f_norm, "f = 0 has no relative error") ** 2
    return size.clamp(min=1e-12 * size.max()), weights, n, x


def _cumulants(size: Tensor, weights: Tensor, theta: float) -> tuple[float, float, float]:
    """K(θ) = ln E e^{θX} and its first two derivatives, X uniform in (−size, size)."""
    z = theta * size
    small = z < 1e-2
    safe = torch.where(small, 1.0, z)
    slope = torch.where(small, z / 3 - z**3 / 45, 1 / safe.tanh() - 1 / safe)
    log_mean = torch.where(  # of e^{θX} given the size, ln(sinh z / z)
        small, z**2 / 6 - z**4 / 180, safe + torch.log(-torch.expm1(-2 * safe) / (2 * safe))
    )
    second = torch.where(small, 1 / 3 + z**2 / 30, 1 - 2 * slope / safe)
    share = log_mean + weights.log()
    K = share.logsumexp(0)
    share = (share - K).exp()
    mean = (share * size * slope).sum()
    return K.item(), mean.item(), ((share * size**2 * second).sum() - mean**2).item()


def _tilt(size: Tensor, weights: Tensor, x: float) -> float:
    """θ > 0 with K'(θ) = x."""
    from scipy.optimize import brentq

    high = 1 / size.max().item()
    while _cumulants(size, weights, high)[1] < x:
        high *= 2
    return brentq(lambda t: _cumulants(size, weights, t)[1] - x, 0.0, high, xtol=1e-10 * high)
