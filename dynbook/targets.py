"""The functions that structured networks are tried on, from the lecture :cite:p:`zhao2023`.

Points (..., d) to values (..., 1), as a network takes them; those of one variable act entry by
entry. They live on [−1, 1]^d. x must be a floating-point tensor: TypeError if it is none where it
is taken entry by entry, ValueError if it is none of shape (..., 2) where points are in the plane.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import kind


def bump(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """exp(−(10x)²), the lecture's first example of a composition."""
    return torch.exp(-((10 * _entries(x)) ** 2))


def wave(x: Float[Tensor, "*b"], n: int = 10) -> Float[Tensor, "*b"]:
    """(cos 2πnx − 1)/2 = −sin² πnx in [−1, 0], 2n periods: the second example."""
    return -(torch.sin(math.pi * n * _entries(x)) ** 2)


def localised_sine(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """sin 50πx where |x| < 0.02, one period, and zero elsewhere."""
    return torch.where(_entries(x).abs() < 0.02, torch.sin(50 * math.pi * x), 0.0)


def chirp(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """sin(16π|x|^{3/2}): its frequency 12|x|^{1/2} grows from the centre outwards."""
    return torch.sin(16 * math.pi * _entries(x).abs() ** 1.5)


def ring(x: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 1"]:
    """A disk with a wavy rim: 25(ρ(θ) − |x|) + 0.5 cut off at 0 and 1, ρ = 0.1 + 0.02 cos πθ².

    θ = atan2(x_2, x_1) in (−π, π]: the rim winds faster towards the negative half axis, where ρ is
    continuous and its derivative jumps. The slide prints 5(ρ − |x|) + 0.5 between the bounds, which
    would jump there; its conditions are those of 25.
    """
    x = _plane(x)
    theta = torch.atan2(x[..., 1:], x[..., :1])
    rim = 0.1 + 0.02 * torch.cos(math.pi * theta**2)
    return (25 * (rim - x.norm(dim=-1, keepdim=True)) + 0.5).clamp(0, 1)


def crossed_waves(x: Float[Tensor, "*b 2"], s: float = 1.0) -> Float[Tensor, "*b 1"]:
    """Σ_ij a_ij sin(s b_i x_i + s c_ij x_i x_j) cos(s b_j x_j + s d_ij x_i²), i, j = 1, 2.

    All frequencies are proportional to the scale s; the lecture shows s = 1 and 3. ValueError if s
    is no finite number.
    """
    if not isinstance(s, Real) or not math.isfinite(s):
        raise ValueError(f"s must be a finite number, got {s!r:.40}")
    a, b = ((0.3, 0.2), (0.2, 0.3)), (2.4, 4.8)
    c, d = ((2.4, 4.8), (9.6, 4.8)), ((4.8, 7.2), (9.6, 7.2))
    x, k = _plane(x).unbind(-1), s * math.pi
    total = sum(
        a[i][j]
        * torch.sin(k * (b[i] * x[i] + c[i][j] * x[i] * x[j]))
        * torch.cos(k * (b[j] * x[j] + d[i][j] * x[i] ** 2))
        for i in (0, 1)
        for j in (0, 1)
    )
    return total[..., None]


def _entries(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor, got {kind(x)}")
    return x


def _plane(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.shape[-1:] != (2,):
        got = kind(x) + (f", {tuple(x.shape)}" if isinstance(x, Tensor) else "")
        raise ValueError(f"x must have shape (..., 2), points of the plane, got {got}")
    return x
