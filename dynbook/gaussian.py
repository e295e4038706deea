"""Expectations of functions with kinks over one or two Gaussian variables.

Gauss–Hermite quadrature converges slowly at a kink, and for a steep function. Here the line is cut
into Gauss–Legendre panels that meet at the kinks and shrink towards them by halves: between its
kinks a function only has to be smooth. What the panels do not resolve is refused. All is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, exp, log2, pi, sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import finite, gauss

REACH = 9.0  # of the panels: |z| > 9 has probability 2·10⁻¹⁹
POINTS = 20  # to a panel of the line, where the error is estimated
PAIR_POINTS = 10  # to a panel of the plane
LEAST = 1e-100  # a variance that stands for 0, its inverse for infinity


def gaussian_mean(
    f: Callable[[Tensor], Tensor], q: Float[Tensor, "*b"], kinks: Sequence[float] = (0.0,)
) -> Float[Tensor, "*b"]:
    """Mean ⟨f(√q z)⟩ over z ~ N(0, 1), for every variance q.

    Parameters
    ----------
    f : callable
        Elementwise; it is given a flat tensor.
    q : Tensor (...)
        Variances ≥ 0, float64. For 0 and ∞ the limits are taken, if they are finite.
    kinks : sequence of float
        The points where f or a derivative of it jumps.

    Raises
    ------
    ValueError
        If f is not finite, or the error estimate exceeds 1e-9 of ⟨|f|⟩: mostly a kink that was not
        named. Where f is analytic the error itself is near rounding.
    """
    root, _, z, weight = _line(q, kinks)
    return _resolved("f", _values(f, root[..., None, None] * z), z, weight, q)


def activation_means(
    phi: Callable[[Tensor], Tensor], q: Float[Tensor, "*b"], kinks: Sequence[float] = (0.0,)
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """⟨φ²⟩, ⟨φ'²⟩ and d⟨φ²⟩/dq = ⟨φ φ' z⟩/√q, with φ' from autograd, for every variance q.

    Parameters
    ----------
    phi, q, kinks
        As in :func:`gaussian_mean`.

    Raises
    ------
    ValueError
        As :func:`gaussian_mean`, for φ² and φ'²; or if φ jumps, or autograd does not give its
        derivative: on each panel the increment of φ must be the integral of φ'.
    """
    root, edges, z, weight = _line(q, kinks)
    value, slope = _with_slope(phi, root[..., None, None] * z)
    square = _resolved("φ²", value.square(), z, weight, q)
    tangent = _resolved("φ'²", slope.square(), z, weight, q)
    w = gauss(POINTS)[1].to(slope.device)
    flow = root[..., None] * edges.diff() * (slope @ w)
    rise = _values(phi, root[..., None] * edges).diff()
    seen = (-torch.minimum(edges[..., 1:].abs(), edges[..., :-1].abs()).square() / 2).exp()
    jump = ((rise - flow).abs() * seen).sum(-1)
    slack = 1e-7 * (flow.abs() * seen).sum(-1) + 1e-13 * value.abs().amax((-2, -1))
    if (jump > slack).any():
        raise ValueError(
            "phi must be continuous and its derivative that of autograd, but its increments and "
            f"the integrals of φ' differ by {jump.max():.2g}: at a jump φ' is infinite"
        )
    return square, tangent, (value * slope * z * weight).sum((-2, -1)) / root


def pair_means(
    phi: Callable[[Tensor], Tensor],
    q: Float[Tensor, "*b"],
    delta: Float[Tensor, "*b"],
    kinks: Sequence[float] = (0.0,),
    *,
    slope: bool = True,
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """⟨(φ(u₁) − φ(u₂))²⟩/2 and ⟨φ'(u₁) φ'(u₂)⟩ at correlation 1 − δ.

    u = √q (α s ± β d) with s and d independent, α² = 1 − δ/2 and β² = δ/2, so that a small δ keeps
    its digits. The integrand is even in d. The error is not estimated: call
    :func:`activation_means` first.

    Parameters
    ----------
    phi, q, kinks
        As in :func:`gaussian_mean`.
    delta : Tensor (...)
        0 ≤ δ ≤ 2, of the shape of q.
    slope : bool
        Whether the second mean is wanted; without it zeros are returned, in a third of the time.
    """
    chunks = zip(q.flatten().split(64), delta.flatten().split(64), strict=True)
    parts = [_pair_means(phi, *chunk, kinks, slope) for chunk in chunks]
    distance, correlated = (torch.cat(part).reshape(q.shape) for part in zip(*parts, strict=True))
    return distance, correlated


def limits(q: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """q, with 0 and ∞ replaced by what stands for these limits and can be computed with."""
    return q.clamp(LEAST, 1 / LEAST)


def _pair_means(
    phi: Callable[[Tensor], Tensor], q: Tensor, delta: Tensor, kinks: Sequence[float], slope: bool
) -> tuple[Tensor, Tensor]:
    root = limits(q).sqrt()
    alpha = (1 - delta / 2).clamp(min=1e-30).sqrt() * root
    beta = (delta / 2).sqrt() * root
    k = root.new_tensor(kinks)
    meet = torch.cat([k.abs(), (k[:, None] - k).abs().flatten() / 2]).unique()
    far = beta.clamp(min=1e-14 * root)[:, None]
    _, d, outer = _panels((meet / far).clamp(max=2 * REACH), beta, PAIR_POINTS, low=0.0)
    distance, correlated = torch.zeros_like(root), torch.zeros_like(root)
    for shift, w in zip(d.unbind(1), (2 * outer).unbind(1), strict=True):
        if not w.any():
            continue
        shift = shift * beta[:, None]  # (B, n)
        centres = torch.cat([k - shift[..., None], k + shift[..., None]], -1)
        centres = (centres / alpha[:, None, None]).clamp(-2 * REACH, 2 * REACH)
        _, s, inner = _panels(centres, alpha, PAIR_POINTS)
        s, shift = alpha[:, None, None, None] * s, shift[..., None, None]
        weight = inner * w[..., None, None]
        if slope:
            one, one_slope = _with_slope(phi, s + shift)
            two, two_slope = _with_slope(phi, s - shift)
            correlated += (one_slope * two_slope * weight).sum((1, 2, 3))
        else:
            one, two = _values(phi, s + shift), _values(phi, s - shift)
        distance += ((one - two).square() * weight).sum((1, 2, 3)) / 2
    return distance, correlated


def _values(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return finite("phi", f(x.flatten()), "it must be finite for every x").reshape(x.shape)


def _with_slope(phi: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """φ(x) and φ'(x), by autograd."""
    value, pullback = torch.func.vjp(lambda x: phi(x.clone()), x.flatten())
    (slope,) = pullback(torch.ones_like(value))
    remedy = "phi and its derivative must be finite for every x"
    return tuple(finite("phi", y, remedy).reshape(x.shape) for y in (value, slope))


def _line(q: Tensor, kinks: Sequence[float]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """√q, and panels for functions of √q z."""
    root = limits(q).sqrt()
    return root, *_panels(root.new_tensor(kinks) / root[..., None], root)


def _panels(
    centres: Tensor, scale: Tensor, points: int = POINTS, low: float = -REACH
) -> tuple[Tensor, Tensor, Tensor]:
    """Panels of (low, 9) that shrink by halves towards 0, and more towards centres (..., K).

    The smallest are those on which a function of scale·z, smooth on the scale 1, is smooth.
    Returns their edges (..., P + 1), nodes z (..., P, n) and Gaussian weights (..., P, n).
    """
    ordinary = scale[scale < 1e15]  # beyond, it stands for infinity: only what is at 0 matters
    largest = ordinary.max().item() if len(ordinary) else 1.0
    depth = max(3, ceil(log2(8 * REACH * max(largest, 1e-14))))
    halves = REACH * 2.0 ** -torch.arange(depth + 1, dtype=scale.dtype, device=scale.device)
    halves = torch.cat([-halves, halves.new_zeros(1), halves])
    edges = (centres[..., None] + halves).flatten(-2)
    middle = torch.arange(-6, 7).to(halves).mul(REACH / 6).expand(*edges.shape[:-1], -1)
    edges = torch.cat([edges, middle], -1).clamp(low, REACH).sort().values
    t, w = (x.to(scale.device) for x in gauss(points))
    width = edges.diff()[..., None]
    z = edges[..., :-1, None] + width * t
    return edges, z, width * w * (-z.square() / 2).exp() / sqrt(2 * pi)


def _resolved(name: str, f: Tensor, z: Tensor, weight: Tensor, q: Tensor) -> Tensor:
    """Σ f·weight, refused if the last Legendre coefficients or the tails are not negligible."""
    share = f * weight
    x = gauss(POINTS)[0].numpy() * 2 - 1
    last = np.polynomial.legendre.legvander(x, POINTS - 1)[:, -2:] * (2 * POINTS - 2)
    missed = (share @ torch.from_numpy(last).to(share)).abs().sum((-2, -1))
    tails = torch.stack([f[..., 0, 0], f[..., -1, -1]], -1).abs().sum(-1) * exp(-(REACH**2) / 2)
    size = share.abs().sum((-2, -1))
    bad = missed + tails > 1e-9 * size
    if bad.any():
        error, where = (missed + tails)[bad] / size[bad], q[bad]
        raise ValueError(
            f"⟨{name}⟩ at q = {where[0]:.3g} is not resolved (relative error up to "
            f"{error[0]:.0e}): name the points where phi or a derivative jumps, kinks=(…), or phi "
            "grows or wiggles too fast"
        )
    return share.sum((-2, -1))
