"""Lyapunov exponents of any map: push a frame along the orbit, orthonormalise, and count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import whole
from dynbook.maps import Map
from dynbook.products import Spectrum, gathered
from dynbook.products import matrix_product_spectrum as matrix_product_spectrum
from dynbook.tangent import (
    LyapunovError,
    Push,
    first_frame,
    next_frame,
    pushes,
    whole_rows,
    within_range,
)


@dataclass(frozen=True)
class TangentHistory:
    """Orbit and orthonormal frames, with J_t Q_t = Q_{t+1} R_t.

    Time t counts orthonormalisations, ``qr_every`` steps apart; J_t is the Jacobian of the steps
    from t to t + 1.

    Attributes
    ----------
    x : Tensor (T + 1, …, D)
        States.
    Q : Tensor (T + 1, …, D, k)
        Frames of orthonormal columns: the backward Lyapunov vectors once the start is forgotten.
    R : Tensor (T, …, k, k)
        Upper triangular, diagonal ≥ 0: R[t] belongs to the way from t to t + 1.
    qr_every : int
        Steps of the map from t to t + 1.
    """

    x: Tensor
    Q: Tensor
    R: Tensor
    qr_every: int = 1


@torch.no_grad()
def tangent_product(
    steps: Map | Iterable[Map],
    x0: Float[Tensor, "*b D"],
    k: int | None = None,
    *,
    n: int | None = None,
    qr_every: int = 1,
    transient: int = 0,
    generator: torch.Generator | None = None,
    frame: Float[Tensor, "*b D k"] | None = None,
    method: str = "auto",
) -> TangentHistory:
    """Orbit, frames and triangular factors of J_n … J_1: all that exponents and vectors need.

    Parameters and errors are those of :func:`lyapunov_spectrum`; this one keeps everything,
    T (D + D k + k²) numbers for each member of the ensemble.
    """
    x, Q = first_frame(x0, k, frame, generator)
    states_, frames, factors = zip(
        *_frames(pushes(steps, n, transient), x, Q, qr_every, transient, method), strict=True
    )
    return TangentHistory(
        torch.stack(states_), torch.stack(frames), torch.stack(factors[1:]), qr_every
    )


@torch.no_grad()
def lyapunov_spectrum(
    steps: Map | Iterable[Map],
    x0: Float[Tensor, "*b D"],
    k: int | None = None,
    *,
    n: int | None = None,
    dt: float = 1.0,
    qr_every: int = 1,
    transient: int = 0,
    generator: torch.Generator | None = None,
    frame: Float[Tensor, "*b D k"] | None = None,
    method: str = "auto",
) -> Spectrum:
    """The k leading Lyapunov exponents along an orbit :cite:p:`benettin1980`.

    A frame Q of k orthonormal tangents is pushed along the orbit and orthonormalised again after
    each step, J Q = Q' R; then λ_j = (1/n) Σ ln R_jj, in the limit the rates at which a
    j-dimensional volume grows, less those of j − 1. They come out in descending order if n is
    large enough, and are not sorted.

    Parameters
    ----------
    steps : Map, or iterable of Maps
        One map, iterated n times; or one map for each step, such as layers(network). All of them
        keep shape and dtype. Random ones are allowed: state and tangents see the same draw.
    x0 : Tensor (…, D)
        Start. Leading dimensions are an ensemble: independent systems, one frame for each.
    k : int, optional
        How many exponents, 1 ≤ k ≤ D; all D if not given.
    n : int, optional
        Steps counted, after the transient. Needed for one map; of an iterable, the first
        transient + n are taken, or all.
    dt : float
        Duration of a step: exponents are per unit of time, by default per step.
    qr_every : int
        Steps between orthonormalisations; n must be a multiple. Digits are lost as
        ε exp(2 q (λ_1 − λ_k)), q = qr_every: keep q (λ_1 − λ_k) well below 18 in float64, 8 in
        float32.
    transient : int
        Steps taken first, with frame and all, and not counted.
    generator : torch.Generator, optional
        CPU generator of the first frame; seeded with 0 if not given. All members of an ensemble
        start from the same frame, so that a batch is its members.
    frame : Tensor (…, D, k), optional
        First frame, orthonormal: with x0 = history.x[-1] and frame = history.Q[-1] a run goes on
        where it stopped, to the bit.
    method : str
        As for :func:`~dynbook.orthonormal.orthonormalize`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or size, or a step changes shape or dtype or mixes the
        members of an ensemble.
    LyapunovError
        If orbit or tangent leaves the finite numbers, or a frame collapses between two
        orthonormalisations.

    Notes
    -----
    Errors are decided by the data, so it cannot be called inside ``torch.vmap``; leading
    dimensions make ensembles instead, at the same cost.
    """
    if not (isinstance(dt, Real) and 0 < dt < math.inf):
        raise ValueError(f"dt must be a positive number, got {dt!r:.40}")
    x, Q = first_frame(x0, k, frame, generator)
    frames = _frames(pushes(steps, n, transient), x, Q, qr_every, transient, method)
    pivots, (x, Q) = gathered((R.diagonal(dim1=-2, dim2=-1).clone(), (x, Q)) for x, Q, R in frames)
    growth = pivots[1:].log() / (qr_every * dt)
    return Spectrum(growth.mean(0), growth, dt, qr_every, x, Q)


def _frames(
    every: Iterable[Push], x: Tensor, Q: Tensor, qr_every: int, transient: int, method: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """State, frame and R at each orthonormalisation, from the end of the transient on.

    This is the algorithm: push, orthonormalise, go on with Q.
    """
    q, transient = whole("qr_every", qr_every), whole("transient", transient, least=0)
    count, Y = 0, Q
    if transient == 0:
        yield x, Q, torch.zeros_like(Q[..., : Q.shape[-1], :])
    for count, push in enumerate(every, 1):
        x, Y = push(x, Y)
        within_range(x, Y, count, q)
        if (count - transient) % q == 0:
            Y, R = next_frame(x, Y, count, q, method)
            if q > 1 and (R.diagonal(dim1=-2, dim2=-1) == 0).any():
                raise LyapunovError(
                    f"the frame collapsed within the {q} steps before step {count}: some tangents "
                    "differ by less than rounding; orthonormalise more often, qr_every=1, which "
                    "also reports a singular step as exponent −inf"
                )
            if count >= transient:
                yield x, Y, R
    whole_rows(count, transient, q)
