"""Finite elements on the samples a network gets: linear along each axis, cell by cell of a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dynbook.domains import Box, Interval, finite, kind, whole
from dynbook.maps import can_be_called, states


def increasing(name: str, points: Tensor | Sequence[float]) -> Float[Tensor, " n"]:
    """The points, float64 unless they are a float32 tensor, if they increase and are two.

    Raises
    ------
    TypeError
        If they are no real numbers.
    ValueError
        If they do not increase strictly, are fewer than two, not in a row, or not finite.
    """
    if not isinstance(points, Tensor) or points.dtype != torch.float32:
        points = numbers(name, points, dtype=torch.float64)
    if points.ndim != 1 or len(points) < 2:
        raise ValueError(f"{name} must have shape (n,) with n ≥ 2, got {tuple(points.shape)}")
    gaps = finite(f"what is between {name}", finite(name, points).diff())
    if not (gaps > 0).all():
        i = int((gaps <= 0).nonzero()[0])
        raise ValueError(
            f"{name} must increase strictly, got {points[i]:g} and then {points[i + 1]:g} at index "
            f"{i + 1}: sort them, and drop duplicates"
        )
    return points


def numbers(name: str, values: object, **like) -> Tensor:
    """Real numbers as a tensor, such as ``torch.as_tensor`` makes; TypeError if they are none."""
    try:
        if isinstance(values, Tensor) and values.is_complex():
            raise ValueError("complex")
        return torch.as_tensor(values, **like)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must be real numbers, or a tensor of them, got {kind(values)}"
        ) from error


def inside(name: str, x: Tensor, points: Float[Tensor, " n"]) -> Tensor:
    """x itself, if it lies in [points[0], points[−1]], entry by entry; ValueError if not."""
    left, right = points[0].item(), points[-1].item()
    if ((x < points[0].to(x)) | (x > points[-1].to(x))).any():
        worst = x.flatten()[(x.flatten() - (left + right) / 2).abs().argmax()]
        raise ValueError(
            f"{name} must lie in the domain [{left:g}, {right:g}], got {worst:g}: the samples are "
            "elsewhere, or the domain is too small"
        )
    return x


def _cell(
    x: Float[Tensor, "*b"], points: Float[Tensor, " n"]
) -> tuple[Int[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Cell number i and place t in [0, 1] within [points[i], points[i + 1]] of each entry of x."""
    i = (torch.searchsorted(points, x.detach().contiguous(), right=True) - 1).clamp(
        0, len(points) - 2
    )
    return i, (x - points[i]) / (points[i + 1] - points[i])


def piecewise_linear(
    x: Float[Tensor, "*b"], points: Float[Tensor, " n"], values: Float[Tensor, " n"]
) -> Float[Tensor, "*b"]:
    """The line through (points, values) at x: exact at the points, never beyond their values.

    All is done in the dtype of x. The line can be differentiated by x and by the values.

    Raises
    ------
    TypeError, ValueError
        If x is no float32 or float64 tensor, is not finite or leaves the points; if these do not
        increase, in the dtype of x too; or if the values are not as many finite numbers.
    """
    states("x", x)
    points = increasing("points", increasing("points", points).to(x))
    values = finite("values", numbers("values", values, dtype=x.dtype, device=x.device))
    if values.shape != points.shape:
        raise ValueError(
            f"values must have shape ({len(points)},), one a point, got {tuple(values.shape)}"
        )
    i, t = _cell(inside("x", x, points), points)
    return torch.lerp(values[i], values[i + 1], t)


@dataclass(frozen=True)
class Elements:
    """A continuous function that is linear along each axis in each cell of a grid.

    Attributes
    ----------
    nodes : tuple of d Tensors (n_1,), …, (n_d,)
        The grid, increasing along each axis.
    values : Tensor (n_1, …, n_d, outputs)
        Nodal values.

    Raises
    ------
    TypeError, ValueError
        If nodes do not increase, or values are not one finite row for each node.
    """

    nodes: tuple[Tensor, ...]
    values: Tensor

    def __post_init__(self):
        shape = tuple(map(len, _grid(self.nodes)))
        if states("values", self.values).shape[:-1] != shape:
            raise ValueError(
                f"values must have shape ({', '.join(map(str, shape))}, outputs), a row for each "
                f"node, got {tuple(self.values.shape)}"
            )

    @property
    def count(self) -> int:
        """Degrees of freedom: nodes times outputs."""
        return self.values.numel()

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b outputs"]:
        """Its values at points anywhere in the grid, in their dtype, on their device.

        Raises
        ------
        TypeError, ValueError
            If x is no such tensor, is not finite or leaves the grid, or if nodes coincide in its
            dtype.
        """
        index, weight = _corners(x, self.nodes)
        values = self.values.to(x).flatten(0, -2)
        return sum(w[..., None] * values[i] for i, w in zip(index, weight, strict=True))


def uniform_grid(count: int, domain: Interval | Box | None = None) -> tuple[Tensor, ...]:
    """Equidistant nodes, as many along each axis, at most count in all, ends included.

    Parameters
    ----------
    count : int
        Degrees of freedom to spend, at least 2^d.
    domain : Interval or Box
        Default: Interval(−1, 1).

    Returns
    -------
    tuple of d Tensors (n,), float64, n = ⌊count^(1/d)⌋

    Raises
    ------
    TypeError, ValueError
        If the domain is neither, or count is too small.
    """
    domain = Interval() if domain is None else domain
    if not isinstance(domain, (Interval, Box)):
        raise TypeError(f"domain must be an Interval or a Box, got {kind(domain)}")
    sides = [domain] if isinstance(domain, Interval) else domain.sides()
    side = int(whole("count", count, least=2 ** len(sides)) ** (1 / len(sides)) + 1e-9)
    return tuple(torch.linspace(s.left, s.right, side, dtype=torch.float64) for s in sides)


def interpolate(f: Callable[[Tensor], Tensor], nodes: Sequence[Tensor]) -> Elements:
    """The elements that agree with f at the nodes.

    Parameters
    ----------
    f : callable
        From points (N, d) to values (N, outputs), as the functions of :mod:`dynbook.targets`.
    nodes : sequence of d Tensors
        As :func:`uniform_grid` makes them.

    Raises
    ------
    TypeError, ValueError
        If nodes do not increase or differ in dtype or device, or f returns something else or not
        finite.
    """
    nodes = _grid(nodes)
    if len(kinds := {(axis.dtype, axis.device) for axis in nodes}) > 1:
        raise TypeError(f"nodes must share dtype and device, got {len(kinds)} kinds")
    x = torch.cartesian_prod(*nodes).reshape(-1, len(nodes))
    y = _outputs(can_be_called("f", f)(x.clone()), len(x), "f(nodes)")
    return Elements(tuple(axis.clone() for axis in nodes), y.reshape(*map(len, nodes), -1))


def least_squares(
    x: Float[Tensor, "N d"], y: Float[Tensor, "N outputs"], nodes: Sequence[Tensor]
) -> Elements:
    """The elements that are closest to the samples: they minimise Σ |u(x_k) − y_k|².

    The normal equations have 3^d entries a row and are factored as a sparse matrix, in float64;
    equilibrated, they are well conditioned where each cell has samples.

    Parameters
    ----------
    x, y : Tensor (N, d), (N, outputs)
        Samples, anywhere in the grid.
    nodes : sequence of d Tensors
        As :func:`uniform_grid` makes them.

    Returns
    -------
    Elements, of the samples' dtype and device.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, an entry is not finite, a sample lies outside the grid, or the
        samples do not determine all nodal values.
    """
    from scipy.sparse import csr_array, diags_array
    from scipy.sparse.linalg import splu

    nodes, x = _grid(nodes), states("x", x)
    if x.ndim != 2:
        raise ValueError(f"x must have shape (N, d), one sample a row, got {tuple(x.shape)}")
    y, nodes = _outputs(y, len(x), "y"), _grid([axis.detach().to(x, copy=True) for axis in nodes])
    index, weight = _corners(x.double().cpu(), [axis.double().cpu() for axis in nodes])
    shape = tuple(map(len, nodes))
    rows = np.tile(np.arange(len(x)), len(index))
    design = csr_array(
        (weight.flatten().numpy(), (rows, index.flatten().numpy())), (len(x), int(np.prod(shape)))
    )
    norms = np.sqrt((design**2).sum(0))
    if not norms.all():
        node = np.unravel_index(int(norms.argmin()), shape)
        place = ", ".join(f"{axis[i]:g}" for axis, i in zip(nodes, node, strict=True))
        raise ValueError(f"the node at ({place}) has no sample in the cells around it: {_FEWER}")
    scaled = design @ diags_array(1 / norms)
    try:
        normal, symmetric = (scaled.T @ scaled).tocsc(), {"SymmetricMode": True}
        factors = splu(normal, "MMD_AT_PLUS_A", diag_pivot_thresh=0, options=symmetric)
        pivots = np.abs(factors.U.diagonal())
    except RuntimeError:  # SuperLU met a pivot that is zero
        pivots = np.zeros(1)
    if pivots.min() <= len(norms) * np.finfo(float).eps:
        raise ValueError(f"the samples do not determine all {len(norms)} nodal values: {_FEWER}")
    values = factors.solve(scaled.T @ y.detach().double().cpu().numpy()) / norms[:, None]
    return Elements(nodes, torch.from_numpy(values).to(x).reshape(*shape, -1))


_FEWER = "take fewer nodes or more samples"


def _corners(x: Tensor, nodes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Number among all nodes, and weight, of the 2^d corners of each point's cell: (2^d, …)."""
    states("x", x)
    if x.shape[-1] != len(nodes):
        raise ValueError(
            f"x must have shape (..., {len(nodes)}), a point of the grid in each row, got "
            f"{tuple(x.shape)}"
        )
    nodes = _grid([axis.to(x) for axis in nodes])
    places = [_cell(inside(f"x[..., {k}]", x[..., k], axis), axis) for k, axis in enumerate(nodes)]
    index, weight = [], []
    for corner in product((0, 1), repeat=len(nodes)):
        number, share = torch.zeros_like(places[0][0]), torch.ones_like(x[..., 0])
        for bit, (i, t), axis in zip(corner, places, nodes, strict=True):
            number, share = number * len(axis) + i + bit, share * (t if bit else 1 - t)
        index.append(number)
        weight.append(share)
    return torch.stack(index), torch.stack(weight)


def _grid(nodes: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if isinstance(nodes, Tensor) or not isinstance(nodes, Sequence) or not nodes:
        raise TypeError(
            f"nodes must be a sequence of d tensors, one for each axis, got {kind(nodes)}; where d "
            "is 1, give (nodes,)"
        )
    return tuple(increasing(f"nodes[{k}]", axis) for k, axis in enumerate(nodes))


def _outputs(y: Tensor, count: int, name: str) -> Tensor:
    """y itself, if it is one finite row for each sample."""
    if not isinstance(y, Tensor) or not y.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {kind(y)}")
    if y.ndim != 2 or len(y) != count or not y.shape[1]:
        raise ValueError(
            f"{name} must have shape ({count}, outputs), one row for each point, got "
            f"{tuple(y.shape)}"
        )
    return finite(name, y)
