"""Covariant Lyapunov vectors: the directions that the tangent map takes to each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import kind, whole
from dynbook.lyapunov import TangentHistory, tangent_product
from dynbook.maps import Map
from dynbook.orthonormal import all_finite
from dynbook.tangent import LyapunovError, push_forward


@dataclass(frozen=True)
class CovariantVectors:
    """Covariant Lyapunov vectors on a stretch of an orbit.

    Time counts orthonormalisations, ``qr_every`` steps apart, as in the history they come from.

    Attributes
    ----------
    x : Tensor (T, …, D)
        States.
    vectors : Tensor (T, …, D, k)
        Unit vectors, one per column: J_t v_j(t) is a positive multiple of v_j(t + 1).
    growth : Tensor (T − 1, …, k)
        ln of that multiple per step of the map; its mean tends to the exponent λ_j.
    start : int
        Time of the first of them in the whole run.
    qr_every : int
        Steps of the map between two of them.
    """

    x: Tensor
    vectors: Tensor
    growth: Tensor
    start: int
    qr_every: int = 1


@torch.no_grad()
def covariant_vectors(history: TangentHistory, *, discard: int) -> CovariantVectors:
    """Covariant vectors from frames and triangular factors, by the algorithm of Ginelli et al.

    A vector v(t) = Q_t c(t) is covariant if J_t v(t) ∝ v(t + 1); with J_t Q_t = Q_{t+1} R_t that
    is R_t c(t) ∝ c(t + 1). Run backwards, C_t = R_t⁻¹ C_{t+1} with every column normalised
    forgets at which upper triangular C it has started :cite:p:`ginelli2007`.

    Parameters
    ----------
    history : TangentHistory
        From :func:`~dynbook.lyapunov.tangent_product`, with a transient in which the frames
        have converged.
    discard : int
        How many times are dropped at both ends: the last, where C has not converged yet, and as
        many of the first. The error falls as exp(−q g t), q steps from one time to the next and g
        the gap of neighbouring exponents per step: 36/(q g) of them reach rounding in float64.

    Returns
    -------
    CovariantVectors
        At times discard, …, T − discard of the history's 0, …, T.

    Raises
    ------
    TypeError, ValueError
        If history is something else, or discard leaves less than two times.
    LyapunovError
        If some R_t is singular: a direction that is annihilated cannot be followed back.
    """
    if not isinstance(history, TangentHistory):
        raise TypeError(f"history must be a TangentHistory, got {kind(history)}")
    T = len(history.R)
    discard = whole("discard", discard, most=(T - 1) // 2, least=0)
    piece, _ = _back(history, _unit(history.Q[0]), 0, discard, T - discard)
    return piece


@torch.no_grad()
def covariant_segments(
    steps: Map | Sequence[Map],
    x0: Float[Tensor, "*b D"],
    k: int | None = None,
    *,
    n: int,
    discard: int,
    segment: int | None = None,
    qr_every: int = 1,
    transient: int = 0,
    generator: torch.Generator | None = None,
    frame: Float[Tensor, "*b D k"] | None = None,
    method: str = "auto",
) -> Iterator[CovariantVectors]:
    """Covariant vectors of a long run, a segment at a time, from the last segment to the first.

    On the way forward only the first state and frame of each segment are kept; on the way back
    the rest is computed a second time. With segments of √T times, memory grows as √T instead of
    T, for twice the work; the vectors are those of :func:`covariant_vectors`, to the bit.

    Parameters
    ----------
    steps : Map, or sequence of Maps
        As for :func:`~dynbook.lyapunov.lyapunov_spectrum`; no generator, and nothing random, for
        every step is taken twice.
    n, discard, segment : int
        Steps counted, a multiple of qr_every; times dropped at both ends, as in
        :func:`covariant_vectors`; times in a segment, √T of them if not given.
    x0, k, qr_every, transient, generator, frame, method
        As for :func:`~dynbook.lyapunov.lyapunov_spectrum`.

    Yields
    ------
    CovariantVectors
        Neighbouring segments share the time at which they meet.

    Raises
    ------
    TypeError, ValueError, LyapunovError
        As those two functions, and if a step gives something else the second time.
    """
    q, transient = whole("qr_every", qr_every), whole("transient", transient, least=0)
    T, rest = divmod(whole("n", n), q)
    if rest:
        raise ValueError(f"n must be a multiple of qr_every = {q}, got {n}")
    discard = whole("discard", discard, most=(T - 1) // 2, least=0)
    length = whole("segment", math.isqrt(T) if segment is None else segment)
    if not callable(steps) and not (isinstance(steps, Sequence) and len(steps) >= transient + n):
        raise TypeError(
            f"steps must be a map or a sequence of transient + n = {transient + n} maps at least, "
            f"got {kind(steps)}; list(steps) keeps what a generator gives"
        )

    def run(start: int, x: Tensor, Q: Tensor | None, before: int = 0) -> TangentHistory:
        """The segment that begins at time start, with that many steps before it."""
        first, last = transient - before + q * start, transient + q * min(start + length, T)
        maps = repeat(steps, last - first) if callable(steps) else steps[first:last]
        options = {"qr_every": q, "generator": generator, "frame": Q, "method": method}
        return tangent_product(maps, x, k, transient=before, **options)

    return _segments(run, x0, frame, transient, range(0, T, length), discard, T - discard)


@torch.no_grad()
def _segments(
    run: Callable[..., TangentHistory],
    x: Tensor,
    Q: Tensor | None,
    transient: int,
    starts: range,
    first: int,
    last: int,
) -> Iterator[CovariantVectors]:
    checkpoints = []
    for start in starts:
        history = run(start, x, Q, 0 if start else transient)
        checkpoints.append((history.x[0].clone(), history.Q[0].clone()))
        x, Q = history.x[-1].clone(), history.Q[-1].clone()
    C = _unit(Q)
    for start in reversed(starts):
        end, (x, Q) = x, checkpoints.pop()
        history = run(start, x, Q)
        if not torch.equal(history.x[-1], end):
            raise LyapunovError(
                f"steps must give the same the second time, but the orbit from time {start} on "
                "ends elsewhere; for random steps use covariant_vectors(tangent_product(…))"
            )
        piece, C = _back(history, C, start, first, last)
        if piece is not None:
            yield piece


def _back(
    history: TangentHistory, C: Tensor, start: int, first: int, last: int
) -> tuple[CovariantVectors | None, Tensor]:
    """A history that begins at time start, gone through backwards: what lies in first … last of
    it, and C at its beginning."""
    T = len(history.R)
    vectors, growth = [history.Q[T] @ C], []
    for t in reversed(range(T)):
        C, rate = _step_back(history.R[t], C, start + t)
        vectors.append(history.Q[t] @ C)
        growth.append(rate / history.qr_every)
    a, b = max(first - start, 0), min(last - start, T)
    if a >= b:
        return None, C
    vectors, growth = torch.stack(vectors[::-1]), torch.stack(growth[::-1])
    x, V, rates = history.x[a : b + 1], vectors[a : b + 1], growth[a:b]
    return CovariantVectors(x, V, rates, start + a, history.qr_every), C


def _step_back(R: Tensor, C: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """C_t, its columns normalised, from R_t C_t ∝ C_{t+1}; and ln of the factors by which they
    grow from t to t + 1."""
    flat = (R.diagonal(dim1=-2, dim2=-1) == 0).view(-1, R.shape[-1]).any(0)
    if flat.any():
        good = int(flat.int().argmax())
        raise LyapunovError(
            f"the tangent map from time {t} on is singular: direction {good + 1} of the frame is "
            f"annihilated and cannot be followed back; take k ≤ {good} vectors"
            if good
            else f"the tangent map from time {t} on is zero: there are no covariant vectors"
        )
    back = torch.linalg.solve_triangular(R, C, upper=True)
    size = torch.linalg.vector_norm(back, dim=-2)
    if not all_finite(size):
        raise LyapunovError(
            f"covariant vectors overflow at time {t}: R has pivots down to "
            f"{R.diagonal(dim1=-2, dim2=-1).min():.2g}; take a smaller qr_every or k"
        )
    return back / size[..., None, :], -size.log()


def _unit(Q: Tensor) -> Tensor:
    k = Q.shape[-1]
    return torch.eye(k).to(Q).expand(*Q.shape[:-2], k, k)


@torch.no_grad()
def covariance_residual(
    steps: Map | Sequence[Map], covariant: CovariantVectors
) -> Float[Tensor, "T *b k"]:
    """Sine of the angle between J_t v_j(t) and v_j(t + 1): zero if and only if v_j is covariant.

    It tests vectors from anywhere, for it knows of no algorithm. An index that is off by one in R
    makes it of order 1.

    Parameters
    ----------
    steps : Map, or sequence of Maps
        The map; or the maps of the whole run, that of its time 0 first.
    covariant : CovariantVectors
        The vectors, T + 1 times of them.

    Returns
    -------
    Tensor (T, …, k)

    Raises
    ------
    TypeError
        If covariant is something else.
    LyapunovError
        If some J v vanishes or overflows, so that it has no direction.
    """
    if not isinstance(covariant, CovariantVectors):
        raise TypeError(f"covariant must be CovariantVectors, got {kind(covariant)}")
    x, V, q = covariant.x[:-1], covariant.vectors[:-1], covariant.qr_every
    if callable(steps):
        pushed = _pushed(repeat(steps, q), x, V)  # all times at once, as one more ensemble
    else:
        last = q * (covariant.start + len(x))
        if not isinstance(steps, Sequence) or len(steps) < last:
            raise TypeError(
                f"steps must be a map or a sequence of {last} maps at least, got {kind(steps)}"
            )
        at = [q * (covariant.start + t) for t in range(len(x))]
        pushed = torch.stack([_pushed(steps[i : i + q], x[t], V[t]) for t, i in enumerate(at)])
    if not all_finite(pushed):
        raise LyapunovError("covariant has vectors that the tangent map annihilates or overflows")
    after = covariant.vectors[1:]
    along = (pushed * after).sum(-2, keepdim=True)
    return torch.linalg.vector_norm(pushed - along * after, dim=-2)


def _pushed(steps: Iterable[Map], x: Tensor, V: Tensor) -> Tensor:
    """Directions of J V."""
    for step in steps:
        x, V = push_forward(step, x, V)
        V = V / torch.linalg.vector_norm(V, dim=-2, keepdim=True)
    return V
