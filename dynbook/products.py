"""Lyapunov exponents of a product of matrices, which is what the tangents of every map make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import kind, whole
from dynbook.maps import states
from dynbook.orthonormal import triangular
from dynbook.tangent import first_frame, next_frame, whole_rows, within_range

State = TypeVar("State")


class Factor(Protocol):
    """A matrix for each member of a batch, known by what it does to a frame."""

    def __matmul__(self, Y: Tensor) -> Tensor: ...

    def __getitem__(self, members: Tensor) -> Factor: ...


#: Loss allowed to an exponent, per factor, by multiplying several between two QR decompositions.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


@dataclass(frozen=True)
class Spectrum:
    """Lyapunov exponents and how they came about.

    Attributes
    ----------
    exponents : Tensor (…, k)
        Means of growth over its first axis, natural logarithms per unit of time; −inf where the
        tangent map is singular.
    growth : Tensor (T, …, k)
        ln R_jj divided by the time between two orthonormalisations: one row for each, T of them
        after n = T · qr_every steps.
    dt : float
        Duration of a step, in the unit of time.
    qr_every : int
        Steps in a row of growth.
    x, frame : Tensor (…, D) and (…, D, k)
        State, of a map, and orthonormal frame at the end: a run that starts from them, with the
        same qr_every, goes on to the bit.
    """

    exponents: Tensor
    growth: Tensor
    dt: float = 1.0
    qr_every: int = 1
    x: Tensor | None = None
    frame: Tensor | None = None

    @property
    def running(self) -> Float[Tensor, "T *b k"]:
        """Exponents as they stood after every row of growth; the last are the exponents."""
        count = torch.arange(1, len(self.growth) + 1, device=self.growth.device)
        return self.growth.cumsum(0) / count.view(-1, *[1] * (self.growth.ndim - 1))

    @property
    def standard_errors(self) -> Float[Tensor, "*b k"]:
        """Standard errors by batch means: about √T stretches of growth, taken as independent.

        They are honest if the growth forgets within √T rows, as on a mixing attractor; if it
        does not (quasiperiodic motion, two attractors, a drift), they are not. There are at least
        four stretches, so that with few rows the estimate is crude (a third too small or too
        large with 16 rows), and with fewer than four rows there is none. An exponent −inf has
        error 0: a singular product stays singular.

        Raises
        ------
        ValueError
            With fewer than four rows of growth.
        """
        T = len(self.growth)
        if T < 4:
            raise ValueError(f"standard errors need at least 4 rows of growth, got {T}: run longer")
        batches = max(4, math.isqrt(T))
        rows = self.growth[T % batches :] if T % batches else self.growth
        means = rows.unflatten(0, (batches, -1)).mean(1)
        errors = means.std(0) / math.sqrt(batches)
        return torch.where(self.exponents.isneginf(), 0, errors)


def gathered(run: Iterable[tuple[Tensor, State]]) -> tuple[Tensor, State]:
    """All rows of a run, stacked, and its last state.

    Rows are stacked by a thousand on the way: each as a tensor of its own takes half a kilobyte.
    """
    blocks, rows, state = [], [], None
    for row, after in run:
        rows.append(row)
        state = after
        if len(rows) == 1000:
            blocks.append(torch.stack(rows))
            rows.clear()
    return torch.cat([*blocks, *(row[None] for row in rows)]), state


@torch.no_grad()
def matrix_product_spectrum(
    matrices: Float[Tensor, "L *b N N"] | Iterable[Float[Tensor, "*b N N"]],
    k: int | None = None,
    *,
    qr_every: int | str = "auto",
    transient: int = 0,
    generator: torch.Generator | None = None,
    frame: Float[Tensor, "*b N k"] | None = None,
    method: str = "auto",
) -> Spectrum:
    """Exponents of the product A_L … A_2 A_1, by the same algorithm as for maps.

    Between two QR decompositions q factors are multiplied. That loses digits: ln R_jj changes by
    about √N ε ‖R‖ / R_jj. Members of the batch for which this exceeds 10⁻⁹ q (in float32, 10⁻⁴ q)
    do these q factors again, with a QR decomposition in the middle, and if need be one after each.
    So exponents lose less than some 10⁻⁹ to q, whatever the tails; it only decides about speed.

    Parameters
    ----------
    matrices : Tensor (L, …, N, N), or iterable of Tensors (…, N, N)
        The factors, first A_1. Leading dimensions are independent products. An iterable is taken
        q at a time, so that a generator can draw more factors than memory holds.
    qr_every : int or "auto"
        q. "auto" does the first min(20, L/16) factors one by one and takes the largest divisor q
        of L − transient with which 98 in 100 products of q of them stay within that tolerance; 1
        if the length of an iterable is not known.
    k, transient, generator, frame, method
        As for :func:`~dynbook.lyapunov.lyapunov_spectrum`.

    Returns
    -------
    Spectrum
        Exponents per factor; growth has (L − transient) / q rows, and qr_every is q.

    Raises
    ------
    TypeError, ValueError, LyapunovError
        As :func:`~dynbook.lyapunov.lyapunov_spectrum`, and if a factor is not square or unlike
        the first.
    """
    if not isinstance(matrices, Iterable):
        raise TypeError(f"matrices must be a tensor or an iterable of them, got {kind(matrices)}")
    rest = iter(matrices)
    first = next(rest, None)
    if first is None:
        raise ValueError("matrices must hold at least one factor, got none")
    states("matrices[0]", first)
    if first.ndim < 2 or first.shape[-1] != first.shape[-2]:
        raise ValueError(
            f"matrices must be square, (L, ..., N, N), got factors {tuple(first.shape)}"
        )
    _, Q = first_frame(first[..., 0], k, frame, generator)
    transient = whole("transient", transient, least=0)
    if isinstance(qr_every, str) and qr_every == "auto":
        q = _longest(matrices, Q, transient, method)
    else:
        q = whole("qr_every", qr_every)
    alike = (_alike(A, Q) for A in chain([first], rest))
    return spectrum_of(alike, Q, q, transient, method)


def spectrum_of(
    factors: Iterable[Factor], Q: Tensor, q: int, transient: int = 0, method: str = "auto"
) -> Spectrum:
    """The spectrum of a product of factors that need be no matrices: `A @ Y` is what they do to
    frames Y, and `A[members]` what belongs to some members of the batch."""
    growth, Q = gathered(_rows(factors, Q, q, transient, method))
    growth = growth / q
    return Spectrum(growth.mean(0), growth, 1.0, q, frame=Q)


def _longest(matrices: Iterable[Tensor], Q: Tensor, transient: int, method: str) -> int:
    """The largest q for which products of q factors stay within tolerance, as some of them do."""
    length = len(matrices) if isinstance(matrices, Tensor | Sequence) else 0
    most = min(20, length // 16)
    if most < 2:
        return 1
    few = (_alike(A, Q) for A in matrices[:most])
    logs = torch.stack([row for row, _ in _rows(few, Q, 1, 0, method)])
    for q in range(most, 1, -1):
        products = logs.unfold(0, q, 1).sum(-1)
        ratio = (products.amax(-1) - products.amin(-1)).exp()
        within = (ratio < _condition(q, Q)).double().mean()
        if (length - transient) % q == 0 and within >= 0.98:
            return q
    return 1


def _condition(q: int, Q: Tensor) -> float:
    """The largest ‖R‖ / R_jj that a product of q factors may have."""
    return TOLERANCE[Q.dtype] * q / torch.finfo(Q.dtype).eps / math.sqrt(Q.shape[-2])


def _rows(
    factors: Iterable[Factor], Q: Tensor, q: int, transient: int, method: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """ln R_jj over q factors, and the frame after them, from the end of the transient on."""
    factors, count, size = iter(factors), 0, transient % q or q
    while row := list(islice(factors, size)):
        logs, Q = _row(row, Q, count, method)
        count, size = count + len(row), q
        if count > transient:
            yield logs, Q
    whole_rows(count, transient, q)


def _row(row: list[Factor], Q: Tensor, count: int, method: str) -> tuple[Tensor, Tensor]:
    """One QR decomposition for all factors of the row, which come after so many others; for
    members that lose too much by that, one for each half of them."""
    Y = Q
    for A in row:
        Y = A @ Y
    after, R = triangular(Y, method)
    pivots = R.diagonal(dim1=-2, dim2=-1).abs()
    size = torch.linalg.vector_norm(R, dim=(-2, -1))
    sound = size < _condition(len(row), Q) * pivots.amin(-1)  # false for NaN
    logs = pivots.log()
    if not sound.all():
        again = ~sound if size.isfinite().all() else ...  # all, for an error's indices
        factors, frame = [A[again] for A in row], Q[again]
        if len(row) == 1:
            logs[again], after[again] = _carefully(factors[0], frame, count + 1, method)
        else:
            half = len(row) // 2
            first, frame = _row(factors[:half], frame, count, method)
            second, after[again] = _row(factors[half:], frame, count + half, method)
            logs[again] = first + second
    return logs, after


def _carefully(A: Factor, Q: Tensor, count: int, method: str) -> tuple[Tensor, Tensor]:
    """Factor number count by itself, checked, and with an orthonormal frame whatever its rank."""
    Y = A @ Q
    within_range(None, Y, count, 1)
    Q, R = next_frame(None, Y, count, 1, method)
    return R.diagonal(dim1=-2, dim2=-1).log(), Q


def _alike(A: Tensor, Q: Tensor) -> Tensor:
    shape = (*Q.shape[:-1], Q.shape[-2])
    if not isinstance(A, Tensor) or A.shape != shape or A.dtype != Q.dtype:
        got = f"{kind(A)} of shape {tuple(A.shape)}" if isinstance(A, Tensor) else kind(A)
        raise ValueError(f"matrices must be alike, {shape} and {Q.dtype}; got {got}")
    return A
