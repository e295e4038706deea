"""Where functions live, and neurons with them: intervals, boxes and balls, each with a quadrature.

What every module refuses in the same words stands here too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def whole(name: str, value: float, most: float = math.inf, least: int = 1) -> int:
    """The argument as an int; a ValueError unless it is a whole number, least … most."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not least <= value <= most or value % 1:
        bound = "" if most == math.inf else f" and ≤ {most}"
        raise ValueError(f"{name} must be an integer ≥ {least}{bound}, got {value!r:.40}")
    return int(value)


def first_bad(x: Tensor) -> str:
    """The first entry that is not finite, and where it is, for an error's text."""
    index = (~x.isfinite()).nonzero()[0].tolist()
    return f"{x[tuple(index)].item()} at index {index}"


def finite(name: str, x: Tensor, remedy: str = "") -> Tensor:
    """x itself; a ValueError if some entry is NaN or infinite."""
    if not x.isfinite().all():
        raise ValueError(f"{name} must be finite, got {first_bad(x)}" + (remedy and f": {remedy}"))
    return x


def kind(x: object) -> str:
    """What came, for an error's text."""
    return f"a {x.dtype} tensor" if isinstance(x, Tensor) else f"{x!r:.40}"


def cpu_generator(generator: object) -> torch.Generator:
    """The generator itself; a TypeError unless it is one on the CPU."""
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise TypeError(
            "generator must be a torch.Generator on the CPU, as torch.Generator().manual_seed(0) "
            f"makes, got {generator!r:.60}: the streams of GPUs differ from model to model"
        )
    return generator


def gauss(points: int) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre nodes and weights on (0, 1), float64, exact for degree 2·points − 1."""
    x, w = np.polynomial.legendre.leggauss(points)
    return torch.from_numpy((x + 1) / 2), torch.from_numpy(w / 2)


def ball_volume(dim: int) -> float:
    """Volume of the unit ball of R^d."""
    return math.pi ** (dim / 2) / math.gamma(dim / 2 + 1)


@dataclass(frozen=True)
class Interval:
    """The interval [left, right] of the real line."""

    left: float = -1.0
    right: float = 1.0

    def __post_init__(self):
        if not -math.inf < self.left < self.right < math.inf or self.volume == math.inf:
            raise ValueError(
                f"Interval needs left < right, got [{self.left:g}, {self.right:g}]: its ends and "
                "its length must be finite"
            )

    dim = 1

    @property
    def volume(self) -> float:
        return self.right - self.left

    def extent(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of w·x over the domain, for w (n, 1)."""
        ends = w * w.new_tensor([self.left, self.right])
        return ends.amin(-1), ends.amax(-1)

    def quadrature(self, points: int, breaks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Eight-point Gauss rule on about points/8 equal cells, cut again at the breaks.

        Exact for splines of degree 15 with knots at the breaks. Returns x (m, 1), weights (m,).
        Here and below, points < 1 or not whole raises ValueError.
        """
        cells = max(whole("points", points) // 8, 1)
        edges = torch.linspace(self.left, self.right, cells + 1, dtype=torch.float64)
        if breaks is not None:
            if breaks.isnan().any():
                raise ValueError(f"breaks must be numbers, got {first_bad(breaks)}")
            inside = breaks.detach().double().cpu().clamp(self.left, self.right)
            edges = torch.cat([edges, inside]).unique()
        t, w = gauss(8)
        size = edges.diff()
        x = edges[:-1, None] + size[:, None] * t
        return x.reshape(-1, 1), (size[:, None] * w).reshape(-1)


@dataclass(frozen=True)
class Box:
    """The box Π [lower_i, upper_i] of R^d."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self):
        if not 0 < len(self.lower) == len(self.upper):
            raise ValueError(
                "Box needs as many lower as upper corners, at least one, got "
                f"{len(self.lower)} and {len(self.upper)}"
            )
        self.sides()  # each is checked

    def sides(self) -> list[Interval]:
        return [Interval(a, b) for a, b in zip(self.lower, self.upper, strict=True)]

    @property
    def dim(self) -> int:
        return len(self.lower)

    @property
    def volume(self) -> float:
        return math.prod(side.volume for side in self.sides())

    def extent(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of w·x over the domain, for w (n, d)."""
        ends = torch.stack([w * w.new_tensor(self.lower), w * w.new_tensor(self.upper)])
        return ends.amin(0).sum(-1), ends.amax(0).sum(-1)

    def quadrature(self, points: int, breaks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tensor product of the interval's rule, at most the given number of points.

        Raises ValueError if they are fewer than 8^d, the least that such a rule takes.
        """
        if whole("points", points) < 8**self.dim:
            raise ValueError(
                f"points must be at least 8^d = {8**self.dim:,} for a product rule in dimension "
                f"d = {self.dim}, got {points:,}; beyond d = 6 average over random points instead"
            )
        per_side = int(points ** (1 / self.dim) + 1e-9)
        rules = [side.quadrature(per_side) for side in self.sides()]
        x = torch.cartesian_prod(*(r[0][:, 0] for r in rules)).reshape(-1, self.dim)
        return x, torch.cartesian_prod(*(r[1] for r in rules)).reshape(len(x), -1).prod(-1)


@dataclass(frozen=True)
class Ball:
    """The unit ball of R^d, d = 2 (the disk) or 3."""

    dim: int = 2

    def __post_init__(self):
        if self.dim not in (2, 3):
            raise ValueError(
                f"Ball is written for dim 2 and 3, got {self.dim}; use Interval in 1-D"
            )

    @property
    def volume(self) -> float:
        return ball_volume(self.dim)

    def extent(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of w·x over the domain, for w (n, d)."""
        norm = w.norm(dim=-1)
        return -norm, norm

    def quadrature(self, points: int, breaks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Gauss in the radius (and the height), equispaced in the angle.

        Exact for polynomials; for a kink the error falls like 1/points.
        """
        side = max(round((whole("points", points) / 2) ** (1 / self.dim)), 2)
        angle = 2 * math.pi * (torch.arange(2 * side, dtype=torch.float64) + 0.5) / (2 * side)
        r, wr = gauss(side)
        if self.dim == 2:
            x = torch.stack([r[:, None] * angle.cos(), r[:, None] * angle.sin()], -1)
            w = (wr * r * math.pi / side)[:, None].expand(-1, 2 * side)
            return x.reshape(-1, 2), w.reshape(-1)
        z, wz = gauss(side)
        z, wz = 2 * z - 1, 2 * wz
        rho = (1 - z**2).sqrt()
        direction = torch.stack(
            [
                (rho[:, None] * angle.cos()),
                (rho[:, None] * angle.sin()),
                z[:, None].expand(-1, 2 * side),
            ],
            -1,
        ).reshape(-1, 3)
        weight = (wz * math.pi / side)[:, None].expand(-1, 2 * side).reshape(-1)
        return (r[:, None, None] * direction).reshape(-1, 3), (
            (wr * r**2)[:, None] * weight
        ).reshape(-1)


Domain = Interval | Box | Ball
"""Anything with `dim`, `volume`, `extent(w)` and `quadrature(points, breaks)`."""


def ridges(
    w: Tensor | float, b: Float[Tensor, " n"], domain: Domain | None = None, *, kinks: bool = True
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"], Domain]:
    """The neurons σ(w_i·x − b_i), checked, as tensors w (n, d), b (n,), and where they live.

    Parameters
    ----------
    w : Tensor (n, d), or (n,) in one dimension, or a number there
        Inner weights, dtype and device of b.
    b : Tensor (n,)
        Biases, float32 or float64.
    domain : Interval, Box or Ball
        Default: Interval(−1, 1).
    kinks : bool
        Whether each kink w_i·x = b_i must meet the domain. A ReLU whose kink misses it is zero or
        affine there, and a few of them make every Gram matrix singular. A smooth activation has
        no kink to place.

    Raises
    ------
    TypeError
        If the domain is none, or w or b is no dense tensor of these dtypes and one device.
    ValueError
        If there are fewer than two neurons, a shape does not fit, an entry is not finite, some
        w_i = 0, or, with kinks, one misses the domain.
    """
    domain = Interval() if domain is None else domain
    if isinstance(domain, type) or not hasattr(domain, "extent"):
        raise TypeError(
            f"domain must be an Interval, Box or Ball, got {kind(domain)}; for one, Interval(-1, 1)"
        )
    if not isinstance(b, Tensor) or b.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"b must be a float32 or float64 tensor, got {kind(b)}; convert with b.double()"
        )
    if b.ndim != 1 or len(b) < 2:
        raise ValueError(
            f"b must have shape (n,) with n ≥ 2 neurons, got {tuple(b.shape)}: "
            "a spectrum needs at least two"
        )
    if isinstance(w, Real) or (isinstance(w, Tensor) and w.ndim == 0):
        w = torch.as_tensor(w, dtype=b.dtype, device=b.device).expand_as(b)
    if not isinstance(w, Tensor):
        raise TypeError(f"w must be a tensor or a number, got {kind(w)}")
    if w.dtype != b.dtype or w.device != b.device:
        raise TypeError(
            f"w and b must share dtype and device, got w {w.dtype} on {w.device} and "
            f"b {b.dtype} on {b.device}; move one with .to(...)"
        )
    for name, value in (("w", w), ("b", b)):
        if value.layout != torch.strided:
            raise TypeError(f"{name} must be dense, got {value.layout}; use {name}.to_dense()")
        finite(name, value)
    if w.ndim == 1 and domain.dim == 1:
        w = w[:, None]
    if w.shape != (len(b), domain.dim):
        raise ValueError(
            f"w must have shape ({len(b)}, {domain.dim}), one row for each bias in dimension "
            f"{domain.dim}, got {tuple(w.shape)}"
        )
    if (w == 0).all(-1).any():
        raise ValueError(
            f"w must be non-zero, neuron {int((w == 0).all(-1).nonzero()[0])} has w = 0: it is "
            "constant and has no direction; drop it"
        )
    if kinks:
        low, high = domain.extent(w)
        outside = (b < low) | (b >= high)
        if outside.any():
            i = int(outside.nonzero()[0])
            raise ValueError(
                f"b must put every kink inside the domain, {low[i]:g} ≤ b < {high[i]:g} for neuron "
                f"{i}, got {b[i]:g}: this neuron is {'zero' if b[i] >= high[i] else 'affine'} on "
                f"all of {domain}; drop it or move its bias (relu_gram takes kinks=False)"
            )
    return w, b, domain
