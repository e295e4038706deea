"""Two-layer networks as families of ridge functions: their Gram matrix.

A network h(x) = Σ a_i σ(w_i·x − b_i) with fixed inner weights is linear in a, and least squares
against f reads G a = f with G_ij = ⟨σ_i, σ_j⟩ and f_i = ⟨σ_i, f⟩ (:cite:t:`zhang2023`). Everything
a solver or gradient descent can do with such a network is in the spectrum of G, `dynbook.lowpass`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.disk import disk_gram
from dynbook.domains import Ball, Domain, Interval

TILE = {"cpu": 192, "cuda": 2048}  # side of a tile: the temporaries of one stay in the cache


def ridges(
    w: Tensor | float, b: Float[Tensor, " n"], domain: Domain, *, kinks: bool = True
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """The neurons σ(w_i·x − b_i) as checked tensors w (n, d), b (n,).

    Refused with a ValueError or TypeError that names the argument: fewer than two neurons,
    non-finite entries, w = 0, mixed dtypes or devices. With kinks, also biases whose kink misses
    the domain: such a ReLU is zero or affine there, and a few of them make every Gram matrix
    singular. A smooth activation has no kink to place.
    """
    if not hasattr(domain, "extent"):
        raise TypeError(f"domain must be an Interval, Box or Ball, got {_kind(domain)}")
    if not isinstance(b, Tensor) or b.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"b must be a float32 or float64 tensor, got {_kind(b)}; convert with b.double()"
        )
    if b.ndim != 1 or len(b) < 2:
        raise ValueError(
            f"b must have shape (n,) with n ≥ 2 neurons, got {tuple(b.shape)}: "
            "a spectrum needs at least two"
        )
    if isinstance(w, int | float):
        w = torch.full_like(b, w)
    if not isinstance(w, Tensor):
        raise TypeError(f"w must be a tensor or a number, got {_kind(w)}")
    if w.dtype != b.dtype or w.device != b.device:
        raise TypeError(
            f"w and b must share dtype and device, got w {w.dtype} on {w.device} and "
            f"b {b.dtype} on {b.device}; move one with .to(...)"
        )
    if w.ndim == 1 and domain.dim == 1:
        w = w[:, None]
    if w.shape != (len(b), domain.dim):
        raise ValueError(
            f"w must have shape ({len(b)}, {domain.dim}), one row for each bias in dimension "
            f"{domain.dim}, got {tuple(w.shape)}"
        )
    for name, value in (("w", w), ("b", b)):
        if not value.isfinite().all():
            raise ValueError(f"{name} must be finite, got {first_bad(value)}")
    if (w == 0).all(-1).any():
        raise ValueError(
            f"w must be non-zero, neuron {int((w == 0).all(-1).nonzero()[0])} has w = 0: it is "
            "constant and has no direction; drop it"
        )
    low, high = domain.extent(w)
    outside = (b < low) | (b >= high)
    if kinks and outside.any():
        i = int(outside.nonzero()[0])
        raise ValueError(
            f"b must put every kink inside the domain, {low[i]:g} ≤ b < {high[i]:g} for neuron "
            f"{i}, got {b[i]:g}: this neuron is {'zero' if b[i] >= high[i] else 'affine'} on all "
            f"of {domain}; drop it or move its bias"
        )
    return w, b


def relu_gram(
    w: Tensor | float, b: Float[Tensor, " n"], domain: Domain | None = None, power: int = 1
) -> Float[Tensor, "n n"]:
    r"""Gram matrix of the neurons max(w_i·x − b_i, 0)^p, exact on an interval and on the disk.

    On an interval let s = (max w·x − b)/|w| be the length on which a neuron is active. Two that
    look the same way overlap on m = min(s_i, s_j), at the distance d = |s_i − s_j| of their kinks;
    two that face each other overlap on the h between the kinks, if at all. Up to |w_i w_j|^p,

    .. math::

        \int_0^m t^p (t + d)^p \, dt = \sum_{k=0}^p \binom pk \frac{d^{p-k} m^{p+k+1}}{p+k+1},
        \qquad \int_0^h t^p (h - t)^p \, dt = \frac{(p!)^2}{(2p+1)!} h^{2p+1},

    sums of non-negative terms: no digit is lost to cancellation. For p = 1, unit slopes, (−1, 1)
    and M = max(b_i, b_j) the first is (1 − M)³/3 + |b_i − b_j|(1 − M)²/2 (:cite:t:`zhang2023`). On
    the disk with p = 1 see :func:`dynbook.disk.disk_gram`. Elsewhere the integral is a quadrature,
    :func:`ridge_gram`, good to three or four digits.

    Parameters
    ----------
    w : Tensor (n, d), or (n,) or a number in one dimension
        Inner weights.
    b : Tensor (n,)
        Biases, float32 or float64; every kink must lie in the domain.
    domain : Interval, Box or Ball
        Default: Interval(−1, 1).
    power : int
        p ≥ 1.

    Returns
    -------
    Tensor (n, n), dimensionless, exactly symmetric, with the dtype and device of b. Working memory
    beyond it: O(n) on an interval and on the disk. Differentiable, except on the disk with p = 1.

    Raises
    ------
    ValueError, TypeError
        As :func:`ridges`; or power < 1.
    """
    if not (power >= 1 and power % 1 == 0):
        raise ValueError(
            f"power must be an integer ≥ 1, got {power}; ReLU^0 is a step, for which ridge_gram "
            "takes lambda t: (t > 0).to(t)"
        )
    p, domain = int(power), domain or Interval()
    w, b = ridges(w, b, domain)
    if isinstance(domain, Ball) and domain.dim == 2 and p == 1:
        return disk_gram(w, b)
    if not isinstance(domain, Interval):
        return ridge_gram(lambda t: t.clamp(min=0) ** p, w, b, domain)
    length = (domain.extent(w)[1] - b) / w[:, 0].abs()
    kink, sign = b / w[:, 0], w[:, 0].sign()
    beta = math.factorial(p) ** 2 / math.factorial(2 * p + 1)
    scale = w[:, 0].abs() ** p
    unit = (scale == 1).all()

    def block(i: slice, j: slice) -> Tensor:
        m = torch.minimum(length[i, None], length[j])
        total = _overlap(m, (length[i, None] - length[j]).abs_(), p)
        same = sign[i, None] == sign[j]
        if not same.all():
            h = (kink[j] - kink[i, None]).mul_(sign[i, None]).clamp_(min=0)
            total = torch.where(same, total, h.square().pow_(p).mul_(h).mul_(beta))
        return total if unit else total.mul_(scale[i, None]).mul_(scale[j])

    return symmetric_tiles(block, len(b), like=b)


def _overlap(m: Tensor, d: Tensor, p: int) -> Tensor:
    """∫ t^p (t + d)^p dt over (0, m), by Horner's rule."""
    total = m / (2 * p + 1)
    for k in range(p - 1, -1, -1):
        total.add_(d ** (p - k), alpha=math.comb(p, k) / (p + k + 1)).mul_(m)
    return total.mul_(m**p)


def symmetric_tiles(
    block: Callable[[slice, slice], Tensor], n: int, *, like: Tensor, tile: int | None = None
) -> Float[Tensor, "n n"]:
    """A symmetric (n, n) tensor from its upper tiles, block(rows, columns), mirrored."""
    out = like.new_empty(n, n)
    tile = tile or TILE.get(like.device.type, 512)
    for r in range(0, n, tile):
        rows = slice(r, min(r + tile, n))
        for c in range(r, n, tile):
            columns = slice(c, min(c + tile, n))
            out[rows, columns] = block(rows, columns)
    return mirrored(out)


def mirrored(out: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Copy the upper triangle over the lower one, in place: symmetric to the last bit."""
    tile = TILE.get(out.device.type, 512)
    for r in range(0, len(out), tile):
        rows, right = slice(r, r + tile), slice(r + tile, None)
        square = out[rows, rows]
        square.copy_(square.triu() + square.triu(1).mT)
        out[right, rows] = out[rows, right].mT
    return out


def features(
    activation: Callable[[Tensor], Tensor],
    w: Float[Tensor, "n d"],
    b: Float[Tensor, " n"],
    x: Float[Tensor, "m d"],
) -> Float[Tensor, "m n"]:
    """Design matrix Ψ_ki = σ(w_i·x_k − b_i) at the points x (m, d).

    Raises
    ------
    ValueError, TypeError
        If the activation is not elementwise, changes the dtype or returns a non-finite value.
    """
    psi = activation(torch.addmm(-b, x, w.mT))
    if not isinstance(psi, Tensor) or psi.dtype != b.dtype:
        raise TypeError(
            f"activation must map a {b.dtype} tensor to another, got {_kind(psi)}; "
            "convert inside it with .to(t)"
        )
    if psi.shape != (len(x), len(b)):
        raise ValueError(
            f"activation must act elementwise, got {tuple(psi.shape)} from {(len(x), len(b))}"
        )
    if not psi.isfinite().all():
        raise ValueError(f"activation must be finite on the domain, got {first_bad(psi)}")
    return psi


def ridge_gram(
    activation: Callable[[Tensor], Tensor],
    w: Tensor | float,
    b: Float[Tensor, " n"],
    domain: Domain | None = None,
    *,
    points: int = 20_000,
) -> Float[Tensor, "n n"]:
    """Gram matrix ∫ σ(w_i·x − b_i) σ(w_j·x − b_j) dx of any activation, by quadrature.

    Activations that are smooth on the scale of the points come to rounding (Gauss on an interval
    and a box, Gauss × trapezoid on a ball): |w| up to 5 or so with the default in the plane, 1 in
    space; if in doubt compare two values of points. A kink costs O(1/points), 1e-4 √(G_ii G_jj) at
    worst in the plane and 1e-3 in space; none on an interval, whose cells are cut at w_i x = b_i.

    Parameters
    ----------
    activation : callable
        Elementwise, Tensor to Tensor: torch.tanh, torch.sin, lambda t: torch.exp(-(t**2)), …
    w, b, domain
        As in :func:`relu_gram`, but with biases of any size.
    points : int
        About how many quadrature points; the sum runs over 4096 at a time.

    Raises
    ------
    ValueError, TypeError
        As :func:`ridges` and :func:`features`.
    """
    domain = domain or Interval()
    w, b = ridges(w, b, domain, kinks=False)
    x, weights = _points(w, b, domain, points)
    gram = b.new_zeros(len(b), len(b))
    for xs, ws in zip(x.split(4096), weights.split(4096), strict=True):
        psi = features(activation, w, b, xs) * ws.sqrt()[:, None]
        gram.addmm_(psi.mT, psi)
    return mirrored(gram)


def _points(w: Tensor, b: Tensor, domain: Domain, points: int) -> tuple[Tensor, Tensor]:
    """The domain's quadrature on the device of b; an interval is cut at the kinks."""
    breaks = b / w[:, 0] if isinstance(domain, Interval) else None
    x, weights = domain.quadrature(points, breaks)
    return x.to(b), weights.to(b)


def moments(
    f: Callable[[Tensor], Tensor],
    activation: Callable[[Tensor], Tensor],
    w: Tensor | float,
    b: Float[Tensor, " n"],
    domain: Domain | None = None,
    *,
    points: int = 20_000,
) -> Float[Tensor, " n"]:
    """Right-hand side f_i = ∫ f(x) σ(w_i·x − b_i) dx, by the quadrature of :func:`ridge_gram`.

    f maps points (m, d) to values (m,).

    Raises
    ------
    ValueError, TypeError
        As :func:`ridge_gram`; or if f returns another shape or dtype, or is not finite.
    """
    domain = domain or Interval()
    w, b = ridges(w, b, domain, kinks=False)
    x, weights = _points(w, b, domain, points)
    values = f(x)
    if not isinstance(values, Tensor) or values.dtype != b.dtype:
        raise TypeError(f"f must return a {b.dtype} tensor as b is, got {_kind(values)}")
    if values.shape != (len(x),):
        raise ValueError(
            f"f must map points ({len(x)}, {domain.dim}) to values ({len(x)},), got "
            f"{tuple(values.shape)}; in 1-D use x[:, 0]"
        )
    if not values.isfinite().all():
        raise ValueError(f"f must be finite on the domain, got {first_bad(values)}")
    out = torch.zeros_like(b)
    for xs, ws in zip(x.split(4096), (values * weights).split(4096), strict=True):
        out.addmv_(features(activation, w, b, xs).mT, ws)
    return out


def fem_gram(nodes: Float[Tensor, " n"]) -> Float[Tensor, "n n"]:
    """Mass matrix ⟨hat_i, hat_j⟩ of the P1 finite elements on increasing nodes: tridiagonal, local.

    Rows (…, h_{i−1}/6, (h_{i−1} + h_i)/3, h_i/6, …); condition number below 6 h_max/h_min, 4 in the
    limit of equal elements (:cite:t:`zhang2023`).

    Raises
    ------
    TypeError
        If the nodes are not a floating-point tensor.
    ValueError
        If they are fewer than two, not finite, or not strictly increasing.
    """
    diagonal, off = mass_matrix(nodes)
    gram = torch.diag(diagonal)
    gram.diagonal(1).copy_(off)
    gram.diagonal(-1).copy_(off)
    return gram


def mass_matrix(nodes: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
    """Diagonal (n,) and off-diagonal (n − 1,) of the P1 mass matrix; raises as :func:`fem_gram`."""
    if not isinstance(nodes, Tensor) or not nodes.is_floating_point():
        raise TypeError(f"nodes must be a floating-point tensor, got {_kind(nodes)}")
    if nodes.ndim != 1 or len(nodes) < 2:
        raise ValueError(f"nodes must have shape (n,) with n ≥ 2, got {tuple(nodes.shape)}")
    if not nodes.isfinite().all():
        raise ValueError(f"nodes must be finite, got {first_bad(nodes)}")
    h = nodes.diff()
    if not (h > 0).all():
        i = int((h <= 0).nonzero()[0])
        raise ValueError(
            f"nodes must increase strictly, got nodes[{i}] = {nodes[i]:g} and nodes[{i + 1}] = "
            f"{nodes[i + 1]:g}: sort them, and drop duplicates (they make G singular)"
        )
    zero = h.new_zeros(1)
    return (torch.cat([zero, h]) + torch.cat([h, zero])) / 3, h / 6


def first_bad(x: Tensor) -> str:
    """The first entry that is not finite, and where it is, for an error's text."""
    index = (~x.isfinite()).nonzero()[0].tolist()
    return f"{x[tuple(index)].item()} at index {index}"


def _kind(x: object) -> str:
    return f"a {x.dtype} tensor" if isinstance(x, Tensor) else f"{x!r:.40}"
