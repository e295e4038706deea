"""Reservoirs: a random network is driven and not trained, and a linear read-out learns from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import cpu_generator, finite, whole
from dynbook.maps import Map, can_be_called, states


@dataclass(frozen=True)
class Reservoir:
    """The echo-state network r' = (1 − α) r + α tanh(g W r + s W_in u + b) :cite:p:`jaeger2001`.

    A gain g or scale s that is a column (M, 1) makes M reservoirs with the same weights, which are
    driven side by side: states are then (M, N).

    Attributes
    ----------
    W : Tensor (N, N)
        Recurrent weights.
    W_in : Tensor (N, d)
        Weights of the d inputs.
    b : Tensor (N,)
        Biases.
    gain, scale : float or Tensor
        g and s. Where W has spectral radius one, the radius is g.
    leak : float
        α in (0, 1]; at 1 nothing of r is kept.

    Raises
    ------
    TypeError, ValueError
        If shapes, dtypes or devices do not fit, an entry, g or s is not finite, or α lies outside
        (0, 1].
    """

    W: Tensor
    W_in: Tensor
    b: Tensor
    gain: float | Tensor = 1.0
    scale: float | Tensor = 1.0
    leak: float = 1.0

    def __post_init__(self):
        n = _square("W", self.W)
        for name, value, shape in (("W_in", self.W_in, (n, None)), ("b", self.b, (n,))):
            _alike(name, value, "W", self.W)
            sizes = zip(shape, value.shape, strict=False)
            if value.ndim != len(shape) or any(a not in (None, b) for a, b in sizes):
                wanted = "(N, d)" if name == "W_in" else "(N,)"
                raise ValueError(
                    f"{name} must have shape {wanted} with N = {n} as W has, "
                    f"got {tuple(value.shape)}"
                )
        for name, value in (("gain", self.gain), ("scale", self.scale)):
            if isinstance(value, Tensor) and value.ndim:
                if _alike(name, value, "W", self.W).shape[-1] != 1:
                    raise ValueError(
                        f"{name} must be a number, or a column (M, 1) for M reservoirs, got shape "
                        f"{tuple(value.shape)}"
                    )
            elif not isinstance(value, Real | Tensor) or not math.isfinite(value):
                raise ValueError(f"{name} must be a number, or a column (M, 1), got {value!r:.40}")
        if not isinstance(self.leak, Real) or not 0 < self.leak <= 1:
            raise ValueError(f"leak must lie in (0, 1], got {self.leak!r:.40}")

    def steps(self, u: Float[Tensor, "T *M d"]) -> list[Map]:
        """One map r ↦ r' for each input, as :func:`~dynbook.lyapunov.lyapunov_spectrum` takes them.

        With the inputs fixed, exponents of these maps are *conditional*: below zero, two copies
        under the same input forget in what they differed.

        Raises
        ------
        TypeError, ValueError
            If u is not a finite tensor (T, …, d) of the dtype and device of W.
        """
        _alike("u", u, "W", self.W)
        if u.ndim < 2 or u.shape[-1] != self.W_in.shape[1]:
            raise ValueError(
                f"u must have shape (T, {self.W_in.shape[1]}), one row for each step, got "
                f"{tuple(u.shape)}"
            )
        return [partial(self.step, push=push) for push in u @ self.W_in.T]

    def step(self, r: Float[Tensor, "*b N"], push: Float[Tensor, "*b N"]) -> Float[Tensor, "*b N"]:
        """r' for a push W_in u."""
        after = (self.gain * (r @ self.W.T) + self.scale * push + self.b).tanh()
        return after if self.leak == 1 else (1 - self.leak) * r + self.leak * after

    @torch.no_grad()
    def drive(
        self, u: Float[Tensor, "T *M d"], r0: Float[Tensor, "*M N"] | None = None
    ) -> Float[Tensor, "T *M N"]:
        """States after each input, from r0, or from rest; no gradient goes through.

        Raises
        ------
        TypeError, ValueError
            As for :meth:`steps`; or if r0 does not end in N, or its leading dimensions do not fit
            those of u and the columns of g and s.
        """
        r = torch.zeros_like(self.b) if r0 is None else _alike("r0", r0, "W", self.W)
        steps, seen = self.steps(u), []
        columns = [v.shape[:-1] for v in (self.gain, self.scale) if isinstance(v, Tensor)]
        try:
            torch.broadcast_shapes(r.shape[:-1], u.shape[1:-1], *columns)
        except RuntimeError:
            fits = False
        else:
            fits = r.shape[-1:] == self.b.shape
        if not fits:
            raise ValueError(
                f"r0 must have shape (…, {len(self.b)}), the dimensions before as those of u and "
                f"of the columns of gain and scale, got {tuple(r.shape)}"
            )
        for step in steps:
            r = step(r)
            seen.append(r)
        return torch.stack(seen)

    def closed(self, readout: Callable[[Tensor], Tensor]) -> Map:
        """The reservoir left to itself, u = readout(r): what it has learned, as one map."""
        can_be_called("readout", readout)
        return lambda r: self.step(r, readout(r) @ self.W_in.T)


def make_reservoir(
    n: int,
    inputs: int = 1,
    *,
    radius: float = 1.0,
    scale: float = 1.0,
    leak: float = 1.0,
    bias: float = 0.0,
    generator: torch.Generator,
) -> Reservoir:
    """A reservoir of Gaussian weights, float64: W of spectral radius one, W_in and b of scale one.

    Parameters
    ----------
    n, inputs : int
        Neurons N and inputs d.
    radius, scale, leak
        The gain g, the scale s and α.
    bias : float
        Standard deviation of the biases.
    generator : torch.Generator
        On the CPU.

    Raises
    ------
    TypeError, ValueError
        If n or inputs is no number ≥ 1, radius is negative, or as for :class:`Reservoir` and the
        generator.
    """
    n, inputs = whole("n", n), whole("inputs", inputs)
    normal = partial(torch.randn, generator=cpu_generator(generator), dtype=torch.float64)
    W = normal(n, n)
    made = Reservoir(
        W / spectral_radius(W), normal(n, inputs), bias * normal(n), radius, scale, leak
    )
    if (torch.as_tensor(radius) < 0).any():
        raise ValueError(f"radius must be at least 0, the largest |eigenvalue| of gW, got {radius}")
    return made


def spectral_radius(W: Float[Tensor, "N N"]) -> float:
    """The largest |eigenvalue| of a matrix, where rounding leaves it any digits.

    Rounding moves an eigenvalue by up to ε ‖W‖/|y·x|, with its unit eigenvectors x, and y from the
    left. Where the eigenvalue is *defective*, x and y are perpendicular. So it is with a nilpotent
    W (W^N = 0), whose eigenvalues are all zero: what comes out is about ε^(1/N), near one for
    N = 100, and noise.

    Raises
    ------
    TypeError, ValueError
        If W is not a finite float tensor (N, N), is nilpotent, or has a largest eigenvalue so near
        to being defective that ε N ‖W‖/|y·x| exceeds a thousandth of it.
    """
    from scipy.linalg import eig

    n = _square("W", W)
    eps, W = torch.finfo(W.dtype).eps, W.detach().double().cpu()
    size = W.abs().max().item() or 1.0  # LAPACK does not undo its own scaling of 1e±200
    W = W / size
    values, left, right = eig(W.numpy(), left=True)
    top = abs(values).argmax()
    radius = float(abs(values[top]))
    overlap = abs((left[:, top].conj() * right[:, top]).sum())
    moved = n * eps * float(torch.linalg.matrix_norm(W, 2))
    if not moved < 1e-3 * radius * overlap:
        raise ValueError(
            "W must have a spectral radius that rounding leaves standing; "
            f"{size * radius:.2g} was found, but W is nilpotent, or its largest eigenvalue "
            "defective, or nearly so: it cannot be scaled to a radius. Scale it by its norm, "
            "torch.linalg.matrix_norm(W, 2)"
        )
    return size * radius


def ridge(X: Float[Tensor, "T F"], Y: Float[Tensor, "T d"], penalty: float) -> Float[Tensor, "F d"]:
    """The A that makes ‖XA − Y‖² + β‖A‖² least, by Cholesky of XᵀX + βI.

    Rounding is itself a penalty of about ε‖X‖²: near it A is uncertain, in directions that XA
    hardly sees.

    Raises
    ------
    TypeError, ValueError
        If shapes, dtypes or devices do not fit, β is not positive, or so small that rounding makes
        the matrix singular, or the squares of X leave the finite numbers.
    """
    states("X", X), _alike("Y", Y, "X", X)
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y):
        raise ValueError(
            f"X must have shape (T, F) and Y (T, d), got {tuple(X.shape)} and {tuple(Y.shape)}"
        )
    if not isinstance(penalty, Real) or not 0 < penalty < math.inf:
        raise ValueError(f"penalty must be positive and finite, got {penalty!r:.40}")
    gram = finite("XᵀX", X.T @ X, "X is too large to be squared")
    gram.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        raise ValueError(
            f"penalty {penalty:g} is lost in rounding beside XᵀX of norm "
            f"{torch.linalg.matrix_norm(gram):.1g}; make it larger"
        )
    return torch.cholesky_solve(finite("XᵀY", X.T @ Y, "Y is too large"), factor)


def memory(
    r: Float[Tensor, "T N"], u: Float[Tensor, " T"], delays: int, *, penalty: float = 1e-9
) -> Float[Tensor, " K"]:
    """What a linear read-out of r_t tells of u_{t−k}: squared correlations, k = 0, 1, …

    The read-outs are fitted on the first half and judged on the second, so that no fit to noise
    counts: of nothing remembered they find about 2/T for each delay. The sum is the memory
    capacity, at most N for independent inputs :cite:p:`jaeger2002`.

    Parameters
    ----------
    r, u : Tensor (T, N), (T,)
        States, and the input that each has just seen; the start left out.
    delays : int
        Number K of delays; T must be at least 4K and 4N.
    penalty : float
        As for :func:`ridge`.

    Raises
    ------
    TypeError, ValueError
        If shapes, dtypes or devices do not fit, T is too short, or u constant.
    """
    states("r", r), _alike("u", u, "r", r)
    delays = whole("delays", delays)
    if r.ndim != 2 or u.shape != r.shape[:1]:
        raise ValueError(
            f"r must have shape (T, N) and u (T,), got {tuple(r.shape)} and {tuple(u.shape)}"
        )
    if len(r) < 4 * max(delays, r.shape[1]):
        raise ValueError(
            f"r must have at least 4 N and 4 K steps, {4 * max(delays, r.shape[1])}, got {len(r)}"
        )
    past = u.unfold(0, delays, 1).flip(1)  # row t: u_{t+K−1}, …, u_t
    present = torch.cat([r, torch.ones_like(r[:, :1])], 1)[delays - 1 :]
    half = len(past) // 2
    guess = present[half:] @ ridge(present[:half], past[:half], penalty)
    truth = past[half:]
    guess, truth = guess - guess.mean(0), truth - truth.mean(0)
    guess_norm, norm, digits = guess.norm(dim=0), truth.norm(dim=0), torch.finfo(r.dtype)
    if not (norm > len(r) * digits.eps * u.abs().max()).all():
        raise ValueError(f"u must vary, got {u[-1]:g} in all of its second half")
    return (guess / guess_norm.clamp(min=digits.tiny) * truth / norm).sum(0).square()


def _alike(name: str, value: Tensor, other: str, like: Tensor) -> Tensor:
    if isinstance(value, Tensor) and (value.dtype, value.device) != (like.dtype, like.device):
        raise TypeError(
            f"{name} must be {like.dtype} on {like.device} as {other} is, got {value.dtype} on "
            f"{value.device}"
        )
    return states(name, value)


def _square(name: str, W: Tensor) -> int:
    states(name, W)
    if W.ndim != 2 or W.shape[0] != W.shape[1]:
        raise ValueError(f"{name} must have shape (N, N), got {tuple(W.shape)}")
    return len(W)
