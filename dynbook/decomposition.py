"""Divide and conquer by composition: cut the domain, stretch each piece, work on what is smoother.

The derivative of f_2∘f_1 is the product of derivatives, so steepness is only moved from one map to
the other; where to cut decides how much of it each must carry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import finite, kind, whole
from dynbook.interpolants import increasing, inside, numbers, piecewise_linear
from dynbook.maps import can_be_called, gradient, states

Function = Callable[[Tensor], Tensor]
"""From numbers to numbers, entry by entry, any shape (...)."""


@dataclass(frozen=True)
class Decomposition:
    """f = Σ_i f_i∘ψ_i − Σ_{0<i<n} f(x_i), exactly; :func:`divide` makes it.

    ψ_i is a_i left of its cell, b_i right of it and linear between; f_i = f∘L_i with L_i the
    straight line from [a_i, b_i] back to the cell. So f_i∘ψ_i is f at x clipped to the cell: of the
    n terms one is f(x), the others are f at inner knots. This needs no continuity of f; but x comes
    back from its range rounded, so that within rounding of a jump f may be that of its other side.

    Attributes
    ----------
    f : callable
        The function, entry by entry.
    knots : Tensor (n + 1,)
        x_0 < … < x_n.
    ranges : Tensor (n, 2)
        (a_i, b_i), a_i ≠ b_i.
    """

    f: Function
    knots: Tensor
    ranges: Tensor

    def inner(self, x: Float[Tensor, "..."]) -> Float[Tensor, "n ..."]:
        """ψ_i(x) for all i.

        Raises
        ------
        TypeError, ValueError
            If x is no float32 or float64 tensor, is not finite, or leaves [x_0, x_n].
        """
        inside("x", states("x", x), self.knots)
        left, right, a, b = self._columns(x, x.ndim)
        t = (x - left) / (right - left)
        inner_end = torch.where(t[:-1] < 1, t[:-1], 1.0)  # at a knot the right cell moves alone
        return torch.lerp(a, b, torch.cat([inner_end, t[-1:]]).clamp(0, 1))

    def outer(self, y: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """f_i(y_i) for all i; row i must lie between a_i and b_i.

        Raises
        ------
        TypeError, ValueError
            If it does not, or f does not return finite numbers entry by entry.
        """
        states("y", y)
        if len(y) != len(self.ranges):
            raise ValueError(f"y must have {len(self.ranges)} rows, one a part, got {len(y)}")
        left, right, a, b = self._columns(y, y.ndim - 1)
        t = (y - a) / (b - a)
        if not ((t >= 0) & (t <= 1)).all():
            i = int((~((t >= 0) & (t <= 1))).nonzero()[0, 0])
            low, high = self.ranges[i].tolist()
            raise ValueError(f"y[{i}] must lie between a = {low:g} and b = {high:g}, its range")
        return _values("f", self.f, torch.lerp(left, right, t))

    def part(self, i: int) -> Function:
        """f_i = f∘L_i alone, from numbers between a_i and b_i."""
        i = whole("i", i, len(self.ranges) - 1, least=0)
        one = Decomposition(self.f, self.knots[i : i + 2], self.ranges[i : i + 1])
        return lambda y: one.outer(y[None])[0]

    @property
    def constant(self) -> Float[Tensor, ""]:
        """Σ f(x_i) over the inner knots, as float64 or what else the knots are."""
        return _values("f", self.f, self.knots[1:-1]).sum()

    def __call__(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Σ f_i(ψ_i(x)) − constant = f(x), up to rounding of its argument.

        Raises as :meth:`inner` and :meth:`outer`.
        """
        ends = _values("f", self.f, self.knots[1:-1].to(x))  # rounded as the parts are
        return self.outer(self.inner(x)).sum(0) - ends.sum()

    def errors(self, parts: Sequence[Function], x: Float[Tensor, "..."]) -> Float[Tensor, "n ..."]:
        """g_i(ψ_i(x)) − f_i(ψ_i(x)) of approximate parts g_i; their sum is the error of the whole.

        In cell k only row k moves; the others stand at e_i(b_i), i < k, or e_i(a_i), i > k: the
        errors of all parts at the ends of their ranges are felt everywhere.

        Raises as :meth:`inner` and :meth:`outer`; TypeError or ValueError if parts are not n
        functions in a sequence.
        """
        if not isinstance(parts, Sequence):
            raise TypeError(f"parts must be a list of functions, one a cell, got {kind(parts)}")
        if len(parts) != len(self.ranges):
            raise ValueError(f"parts must be {len(self.ranges)}, one a cell, got {len(parts)}")
        y = self.inner(x)
        given = [_values(f"parts[{i}]", g, y[i]) for i, g in enumerate(parts)]
        return torch.stack(given) - self.outer(y)

    @property
    def inner_slopes(self) -> Float[Tensor, " n"]:
        """s_i = (b_i − a_i)/(x_i − x_{i−1}), the slope of ψ_i in its cell; f_i' = f'∘L_i/s_i."""
        return self.ranges.diff(dim=-1)[:, 0] / self.knots.diff()

    def outer_slopes(self, points: int = 1001) -> Float[Tensor, " n"]:
        """Largest |f_i'|, by :func:`steepest`."""
        return steepest(self.f, self.knots, points) / self.inner_slopes.abs()

    def _columns(self, x: Tensor, dims: int) -> tuple[Tensor, ...]:
        """x_{i−1}, x_i, a_i, b_i, each (n, 1, …, 1) with so many ones, of dtype and device of x."""
        knots, ranges = increasing("knots", self.knots.to(x)), self.ranges.to(x)
        width = ranges.diff(dim=-1)[:, 0]
        if not (width.isfinite() & (width != 0)).all():
            raise ValueError(f"ranges must have finite b_i ≠ a_i in {x.dtype}, got {self.ranges}")
        numbers = (knots[:-1], knots[1:], *ranges.unbind(-1))
        return tuple(v.reshape(-1, *(1,) * dims) for v in numbers)


def divide(
    f: Function,
    knots: Float[Tensor, " n+1"] | Sequence[float],
    ranges: Float[Tensor, "n 2"] | Sequence[tuple[float, float]] | None = None,
) -> Decomposition:
    """Cut the domain of f at knots, and stretch each cell to a range of its own :cite:p:`zhao2023`.

    Parameters
    ----------
    f : callable
        Entry by entry, finite on [x_0, x_n].
    knots : Tensor (n + 1,), or numbers
        x_0 < … < x_n, the ends of the domain among them.
    ranges : Tensor (n, 2), or pairs, optional
        (a_i, b_i), a_i ≠ b_i, where f_i lives; a_i > b_i turns it round. Default: each [−1, 1].
        With |a_i| ≫ |b_i − a_i| as many digits are lost.

    Raises
    ------
    TypeError
        If f cannot be called or returns no tensor.
    ValueError
        If knots do not increase, ranges do not fit or a_i = b_i, an entry is not finite, or f is
        not at a knot.
    """
    knots = increasing("knots", knots)
    _values("f", f, knots)
    n = len(knots) - 1
    ranges = [(-1.0, 1.0)] * n if ranges is None else ranges
    ranges = finite("ranges", numbers("ranges", ranges, dtype=knots.dtype, device=knots.device))
    if ranges.shape != (n, 2):
        raise ValueError(
            f"ranges must have shape ({n}, 2), a pair for each cell, got {tuple(ranges.shape)}"
        )
    if (ranges[:, 0] == ranges[:, 1]).any():
        i = int((ranges[:, 0] == ranges[:, 1]).nonzero()[0])
        raise ValueError(f"ranges must have a_i ≠ b_i, got {ranges[i, 0]:g} twice at index {i}")
    return Decomposition(f, knots.clone(), ranges.clone())


@dataclass(frozen=True)
class Stretched:
    """f = f_2∘f_1 with f_1 piecewise linear and increasing; :func:`stretch` makes it.

    Attributes
    ----------
    f : callable
        The function, entry by entry.
    knots, images : Tensor (n + 1,)
        f_1 goes through (x_i, y_i).
    """

    f: Function
    knots: Tensor
    images: Tensor

    def inner(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """f_1(x); raises TypeError or ValueError if x is no such tensor or leaves the domain."""
        states("x", x)
        knots, images = self._in(x)
        return piecewise_linear(inside("x", x, self.knots), knots, images)

    def outer(self, y: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """f_2(y) = f(f_1⁻¹(y)); raises as :meth:`inner`, or if f is not finite."""
        states("y", y)
        knots, images = self._in(y)
        return _values("f", self.f, piecewise_linear(inside("y", y, self.images), images, knots))

    def _in(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Knots and images in the dtype of x, still increasing."""
        return increasing("knots", self.knots.to(x)), increasing("images", self.images.to(x))

    def __call__(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """f_2(f_1(x)) = f(x), up to rounding of its argument."""
        return self.outer(self.inner(x))

    @property
    def inner_slopes(self) -> Float[Tensor, " n"]:
        """Slope of f_1 in each cell."""
        return self.images.diff() / self.knots.diff()

    def outer_slopes(self, points: int = 1001) -> Float[Tensor, " n"]:
        """Largest |f_2'| in the image of each cell, by :func:`steepest`."""
        return steepest(self.f, self.knots, points) / self.inner_slopes


def stretch(
    f: Function,
    knots: Float[Tensor, " n+1"] | Sequence[float],
    images: Float[Tensor, " n+1"] | Sequence[float] | None = None,
) -> Stretched:
    """f as f_2∘f_1, f_1 through (x_i, y_i): the lecture's first example, for any f and knots.

    Where |f'| ≤ M_i in cell i of width h_i, |f_2'| ≤ M_i h_i/w_i in its image of width w_i. The
    images that make the largest of these least have w_i in proportion to M_i h_i, and it is then
    Σ M_i h_i/(x_n − x_0): for ever finer cells, the total variation of f by the length.

    Parameters
    ----------
    f : callable
        Entry by entry, finite on [x_0, x_n].
    knots : Tensor (n + 1,), or numbers
        x_0 < … < x_n.
    images : Tensor (n + 1,), or numbers, optional
        y_0 < … < y_n. Default: from x_0 to x_n with those best widths, for which f must have a
        derivative by autograd. The lecture's are −1, −0.9, 0.9, 1, knots at ±0.1.

    Raises
    ------
    TypeError
        If f cannot be called or returns no tensor.
    ValueError
        If knots or images do not increase or are not as many, or f is not finite; without images,
        if f has no derivative, or is as good as constant in a cell.
    """
    knots = increasing("knots", knots)
    _values("f", f, knots)
    if images is None:
        share = (steepest(f, knots) * knots.diff()).cumsum(0)
        if not share[0] > 0 or not (share.diff() > 1e-9 * share[-1]).all():
            raise ValueError(
                "f must vary in each cell for images to be chosen, but in one it is as good as "
                "constant: give images, or move the knots"
            )
        ends = knots[0] + (knots[-1] - knots[0]) * share[:-1] / share[-1]
        images = torch.cat([knots[:1], ends, knots[-1:]])
    images = increasing("images", increasing("images", images).to(knots))
    if len(images) != len(knots):
        raise ValueError(f"images must be as many as knots, {len(knots)}, got {len(images)}")
    return Stretched(f, knots.clone(), images.clone())


def halves(f: Function) -> tuple[Function, Function]:
    """f on [−1, 1] as f_2∘f_1, each f on one half and x on the other: the second example.

    f_1 = f on [−1, 0), x on [0, 1]; f_2 = x on [−1, 0), f on [0, 1]. It needs f(0) = 0 and
    −1 ≤ f ≤ 0 on the left, as :func:`dynbook.targets.wave` has; each map then turns half as often.

    Returns
    -------
    inner, outer : callable
        f_1 and f_2. They raise ValueError where x leaves [−1, 1] or f, on the left, [−1, 0].

    Raises
    ------
    TypeError, ValueError
        If f cannot be called or f(0) ≠ 0.
    """
    ends = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    middle = _values("f", f, ends)[1].item()
    if middle != 0:
        raise ValueError(f"f must vanish at 0, where the halves meet, got {middle:g}")

    def inner(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        states("x", x)
        left = _values("f", f, inside("x", x, ends).clamp(max=0))
        return torch.where(x < 0, inside("f on the left half", left, ends[:2]), x)

    def outer(y: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        states("y", y)
        return torch.where(y < 0, y, _values("f", f, inside("y", y, ends).clamp(min=0)))

    return inner, outer


def steepest(
    f: Function, knots: Float[Tensor, " n+1"] | Sequence[float], points: int = 1001
) -> Float[Tensor, " n"]:
    """Largest |f'| in each cell, at equidistant points of the closed cell, by autograd.

    It is reached from below as points grow: quadratically at a smooth maximum.

    Raises
    ------
    TypeError, ValueError
        If knots do not increase, points < 2, f is not finite or autograd sees no dependence.
    """
    knots = increasing("knots", knots)
    t = torch.linspace(0, 1, whole("points", points, least=2)).to(knots)
    x = torch.lerp(knots[:-1, None], knots[1:, None], t)
    _values("f", f, x)  # refused in its own words
    try:
        slopes = gradient(lambda x: _values("f", f, x).sum(-1), x)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            "f must be differentiable, but autograd sees no dependence on x: is there no_grad, "
            "detach, rounding or NumPy in f, or is f constant?"
        ) from error
    return finite("f'", slopes, "f must be differentiable by autograd").abs().amax(-1)


def turning_points(y: Float[Tensor, " n"]) -> int:
    """How often samples change between rising and falling; what is flat is passed over.

    Raises
    ------
    TypeError, ValueError
        If y is no finite float32 or float64 tensor of shape (n,).
    """
    if states("y", y).ndim != 1:
        raise ValueError(f"y must have shape (n,), got {tuple(y.shape)}")
    rise = y.diff()
    rise = rise[rise != 0].sign()
    return int((rise[1:] != rise[:-1]).sum())


def _values(name: str, f: Function, x: Tensor) -> Tensor:
    """f(x), if it is one finite number for each entry."""
    y = can_be_called(name, f)(x.clone())
    if not isinstance(y, Tensor):
        raise TypeError(f"{name} must return a tensor, made by torch, got {kind(y)}")
    if y.shape != x.shape:
        raise ValueError(
            f"{name} must act entry by entry, but takes {tuple(x.shape)} to {tuple(y.shape)}"
        )
    return finite(f"{name}(x)", y)
