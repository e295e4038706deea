"""Where functions live: intervals, boxes and balls, with their volume and a quadrature rule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def gauss(points: int) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre nodes and weights on (0, 1), float64, exact for degree 2·points − 1."""
    x, w = np.polynomial.legendre.leggauss(points)
    return torch.from_numpy((x + 1) / 2), torch.from_numpy(w / 2)


@dataclass(frozen=True)
class Interval:
    """The interval [left, right] of the real line."""

    left: float = -1.0
    right: float = 1.0

    def __post_init__(self):
        if not -math.inf < self.left < self.right < math.inf:
            raise ValueError(
                f"Interval needs finite left < right, got [{self.left:g}, {self.right:g}]"
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
        """
        edges = torch.linspace(self.left, self.right, max(points // 8, 1) + 1, dtype=torch.float64)
        if breaks is not None:
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
        if points < 8**self.dim:
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
        return math.pi ** (self.dim / 2) / math.gamma(self.dim / 2 + 1)

    def extent(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of w·x over the domain, for w (n, d)."""
        norm = w.norm(dim=-1)
        return -norm, norm

    def quadrature(self, points: int, breaks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Gauss in the radius (and the height), equispaced in the angle.

        Exact for polynomials; for a kink the error falls like 1/points.
        """
        side = max(round((points / 2) ** (1 / self.dim)), 2)
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
