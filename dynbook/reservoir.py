"""Reservoirs: a random network is driven and not trained, and a linear read-out learns from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import cpu_generator, kind, whole
from dynbook.maps import Map, states


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
        If shapes or dtypes do not fit, an entry is not finite, or α lies outside (0, 1].
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
            states(name, value)
            sizes = zip(shape, value.shape, strict=False)
            if value.ndim != len(shape) or any(a not in (None, b) for a, b in sizes):
                wanted = "(N, d)" if name == "W_in" else "(N,)"
                raise ValueError(
                    f"{name} must have shape {wanted} with N = {n} as W has, "
                    f"got {tuple(value.shape)}"
                )
            if value.dtype != self.W.dtype:
                raise TypeError(f"{name} must be {self.W.dtype} as W is, got {value.dtype}")
        if not 0 < self.leak <= 1:
            raise ValueError(f"leak must lie in (0, 1], got {self.leak!r:.40}")

    def steps(self, u: Float[Tensor, "T *M d"]) -> list[Map]:
        """One map r ↦ r' for each input, as :func:`~dynbook.lyapunov.lyapunov_spectrum` takes them.

        With the inputs fixed, exponents of these maps are *conditional*: below zero, two copies
        under the same input forget in what they differed.

        Raises
        ------
        TypeError, ValueError
            If u is not a finite float tensor (T, …, d) of the dtype of W.
        """
        states("u", u)
        if u.ndim < 2 or u.shape[-1] != self.W_in.shape[1] or u.dtype != self.W.dtype:
            raise ValueError(
                f"u must have shape (T, {self.W_in.shape[1]}), one row for each step, and dtype "
                f"{self.W.dtype}, got {kind(u)} of shape {tuple(u.shape)}"
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
        """States after each input, from r0, or from rest."""
        r = torch.zeros_like(self.b) if r0 is None else states("r0", r0)
        seen = []
        for step in self.steps(u):
            r = step(r)
            seen.append(r)
        return torch.stack(seen)

    def closed(self, readout: Callable[[Tensor], Tensor]) -> Map:
        """The reservoir left to itself, u = readout(r): what it has learned, as one map."""
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
    """
    n, inputs = whole("n", n), whole("inputs", inputs)
    normal = partial(torch.randn, generator=cpu_generator(generator), dtype=torch.float64)
    W = normal(n, n)
    return Reservoir(
        W / spectral_radius(W), normal(n, inputs), bias * normal(n), radius, scale, leak
    )


def spectral_radius(W: Float[Tensor, "N N"]) -> float:
    """The largest |eigenvalue| of a matrix, where rounding leaves it any digits.

    Rounding moves an eigenvalue by up to ε ‖W‖/|y·x|, with its unit eigenvectors x, and y from the
    left. Of a nilpotent W (W^N = 0) all eigenvalues are zero and x and y are perpendicular: what
    comes out then is about ε^(1/N), near one for N = 100, and noise.

    Raises
    ------
    ValueError
        If W is nilpotent, or so near to it that the radius would be wrong by a thousandth.
    """
    from scipy.linalg import eig

    n = _square("W", W)
    values, left, right = eig(W.double().cpu().numpy(), left=True)
    top = abs(values).argmax()
    radius = float(abs(values[top]))
    overlap = abs((left[:, top].conj() * right[:, top]).sum())
    moved = n * torch.finfo(W.dtype).eps * float(torch.linalg.matrix_norm(W, 2))
    if not moved < 1e-3 * radius * overlap:
        raise ValueError(
            f"W must have a spectral radius that rounding leaves standing; {radius:.2g} was found, "
            "but W is nilpotent, or nearly so: it cannot be scaled to a radius. Scale it by its "
            "norm, torch.linalg.matrix_norm(W, 2)"
        )
    return radius


def ridge(X: Float[Tensor, "T F"], Y: Float[Tensor, "T d"], penalty: float) -> Float[Tensor, "F d"]:
    """The A that makes ‖XA − Y‖² + β‖A‖² least, by Cholesky of XᵀX + βI.

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit, β is not positive, or so small that rounding makes the matrix
        singular.
    """
    states("X", X), states("Y", Y)
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y):
        raise ValueError(
            f"X must have shape (T, F) and Y (T, d), got {tuple(X.shape)} and {tuple(Y.shape)}"
        )
    if not 0 < penalty < math.inf:
        raise ValueError(f"penalty must be positive and finite, got {penalty!r:.40}")
    gram = X.T @ X
    gram.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        raise ValueError(
            f"penalty {penalty:g} is lost in rounding beside XᵀX of norm "
            f"{torch.linalg.matrix_norm(gram):.1g}; make it larger"
        )
    return torch.cholesky_solve(X.T @ Y, factor)


def memory(
    r: Float[Tensor, "T N"], u: Float[Tensor, " T"], delays: int, *, penalty: float = 1e-9
) -> Float[Tensor, " K"]:
    """What a linear read-out of r_t tells of u_{t−k}: squared correlations, k = 0, 1, …

    The read-outs are fitted on the first half and judged on the second, so that no fit to noise
    counts. The sum is the memory capacity, at most N for independent inputs :cite:p:`jaeger2002`.

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
        If shapes do not fit, or T is too short.
    """
    states("r", r), states("u", u)
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
    scatter = (guess.square().sum(0) * truth.square().sum(0)).clamp(min=1e-300)
    return (guess * truth).sum(0).square() / scatter


def _square(name: str, W: Tensor) -> int:
    states(name, W)
    if W.ndim != 2 or W.shape[0] != W.shape[1]:
        raise ValueError(f"{name} must have shape (N, N), got {tuple(W.shape)}")
    return len(W)
