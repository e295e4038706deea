"""Two-layer networks as families of ridge functions: their Gram matrix, its spectrum, what it lets through.

A network h(x) = Σ a_i σ(w_i·x − b_i) with fixed inner weights is linear in a, and least squares against
f reads G a = f with G_ij = ⟨σ_i, σ_j⟩ and f_i = ⟨σ_i, f⟩ (:cite:t:`zhang2023`). Everything a solver or
gradient descent can do with such a network is in the spectrum of G.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.disk import disk_gram
from dynbook.domains import Ball, Domain, Interval, gauss

TILE = 512


def ridges(
    w: Tensor | float, b: Float[Tensor, " n"], domain: Domain
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """The neurons σ(w_i·x − b_i) as checked tensors w (n, d), b (n,).

    Refused with a ValueError or TypeError that names the argument: fewer than two neurons, non-finite
    entries, w = 0, mixed dtypes or devices, and biases whose kink misses the domain: such a neuron is
    zero or affine there, and a few of them make every Gram matrix singular.
    """
    if not isinstance(b, Tensor) or not b.is_floating_point():
        raise TypeError(f"b must be a floating-point tensor, got {_kind(b)}")
    if b.ndim != 1 or len(b) < 2:
        raise ValueError(
            f"b must have shape (n,) with n ≥ 2 neurons, got {tuple(b.shape)}: "
            "a spectrum needs at least two"
        )
    if not isinstance(w, Tensor):
        w = torch.full_like(b, float(w))
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
        raise ValueError(f"w must be non-zero, neuron {int((w == 0).all(-1).nonzero()[0])} is 0")
    low, high = domain.extent(w)
    outside = (b < low) | (b >= high)
    if outside.any():
        i = int(outside.nonzero()[0])
        raise ValueError(
            f"b must put every kink inside the domain, {low[i]:g} ≤ b < {high[i]:g} for neuron {i}, "
            f"got {b[i]:g}: this neuron is {'zero' if b[i] >= high[i] else 'affine'} on all of "
            f"{domain}; drop it or move its bias"
        )
    return w, b


def relu_gram(
    w: Tensor | float, b: Float[Tensor, " n"], domain: Domain | None = None, power: int = 1
) -> Float[Tensor, "n n"]:
    """Gram matrix of the neurons max(w_i·x − b_i, 0)^p, exact on an interval and on the disk.

    On an interval two neurons overlap on [lo, hi], where both are powers of linear functions with
    non-negative values, so p + 1 Gauss points integrate their product exactly, as a sum of non-negative
    terms: no digit is lost to cancellation, for any signs of the slopes. For unit slopes and p = 1 this
    is, with M = max(b_i, b_j), (1 − M)³/3 + |b_i − b_j|(1 − M)²/2 on (−1, 1) (:cite:t:`zhang2023`). On
    the disk with p = 1 see :func:`dynbook.disk.disk_gram`. Elsewhere the integral is a quadrature,
    :func:`ridge_gram`, good to about four digits.

    Parameters
    ----------
    w : Tensor (n, d), or (n,) or a number in one dimension
        Inner weights. The result has the dtype and device of b.
    b : Tensor (n,)
        Biases; every kink must lie in the domain.
    domain : Interval, Box or Ball
        Default: Interval(−1, 1).
    power : int
        p ≥ 1.

    Returns
    -------
    Tensor (n, n), symmetric, dimensionless. Working memory beyond it: O(512²) on an interval.

    Raises
    ------
    ValueError, TypeError
        As :func:`ridges`; or power < 1.
    """
    if power != int(power) or power < 1:
        raise ValueError(f"power must be an integer ≥ 1, got {power}: ReLU^0 is a step, see ridge_gram")
    domain = domain or Interval()
    w, b = ridges(w, b, domain)
    if isinstance(domain, Ball) and domain.dim == 2 and power == 1:
        return disk_gram(w, b)
    if not isinstance(domain, Interval):
        return ridge_gram(lambda t: t.clamp(min=0) ** power, w, b, domain)
    w = w[:, 0]
    rising, kink = w > 0, b / w
    left = torch.where(rising, kink, torch.full_like(b, domain.left))
    right = torch.where(rising, torch.full_like(b, domain.right), kink)
    nodes, weights = (x.to(b) for x in gauss(power + 1))
    position = torch.where(rising, nodes[:, None], 1 - nodes[:, None])  # (p + 1, n), from the kink

    def block(i: slice, j: slice) -> Tensor:
        lo = torch.maximum(left[i, None], left[None, j])
        hi = torch.minimum(right[i, None], right[None, j])
        size = (hi - lo).clamp_(min=0)
        near_i = torch.where(rising[i, None], lo - kink[i, None], kink[i, None] - hi)
        near_j = torch.where(rising[None, j], lo - kink[None, j], kink[None, j] - hi)
        total = torch.zeros_like(size)
        for q in range(power + 1):
            at_i = torch.addcmul(near_i, size, position[q, i, None])
            total.add_(
                at_i.mul_(torch.addcmul(near_j, size, position[q, None, j])).pow_(power),
                alpha=float(weights[q]),
            )
        return total.mul_(size)

    gram = symmetric_tiles(block, len(b), like=b)
    scale = w.abs() ** power
    return gram if (scale == 1).all() else gram.mul_(scale[:, None]).mul_(scale)


def symmetric_tiles(
    block: Callable[[slice, slice], Tensor], n: int, *, like: Tensor, tile: int = TILE
) -> Float[Tensor, "n n"]:
    """Fill a symmetric (n, n) tensor from its upper tiles, block(rows, columns), and mirror them."""
    out = like.new_empty(n, n)
    for r in range(0, n, tile):
        rows = slice(r, min(r + tile, n))
        for c in range(r, n, tile):
            columns = slice(c, min(c + tile, n))
            out[rows, columns] = block(rows, columns)
            if c > r:
                out[columns, rows] = out[rows, columns].mT
    return out


def features(
    activation: Callable[[Tensor], Tensor], w: Float[Tensor, "n d"], b: Float[Tensor, " n"], x: Tensor
) -> Float[Tensor, "m n"]:
    """Design matrix Ψ_ki = σ(w_i·x_k − b_i) at the points x (m, d)."""
    return activation(torch.addmm(-b, x, w.mT))


def ridge_gram(
    activation: Callable[[Tensor], Tensor],
    w: Tensor | float,
    b: Float[Tensor, " n"],
    domain: Domain | None = None,
    *,
    points: int = 20_000,
) -> Float[Tensor, "n n"]:
    """Gram matrix ∫ σ(w_i·x − b_i) σ(w_j·x − b_j) dx of any activation, by quadrature.

    Smooth activations come to rounding (Gauss on an interval and a box, Gauss × trapezoid on a ball); a
    kink costs O(1/points) except on an interval, where the cells are cut at the kinks b_i/w_i.

    Parameters
    ----------
    activation : callable
        Elementwise, Tensor to Tensor: torch.tanh, torch.sin, lambda t: torch.exp(−t²), …
    w, b, domain
        As in :func:`relu_gram`.
    points : int
        About how many quadrature points; the sum runs over them in chunks of n² memory.

    Raises
    ------
    ValueError, TypeError
        As :func:`ridges`; or if the activation returns a non-finite value.
    """
    domain = domain or Interval()
    w, b = ridges(w, b, domain)
    breaks = b / w[:, 0] if isinstance(domain, Interval) else None
    x, weights = (q.to(b) for q in domain.quadrature(points, breaks))
    gram = b.new_zeros(len(b), len(b))
    for xs, ws in zip(x.split(4096), weights.split(4096), strict=True):
        psi = features(activation, w, b, xs)
        if not psi.isfinite().all():
            raise ValueError(f"activation must be finite on the domain, got {first_bad(psi)}")
        psi.mul_(ws.sqrt()[:, None])
        gram.addmm_(psi.mT, psi)
    return gram


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

    f maps points (m, d) to values (m,). Raises ValueError if f has another shape or is not finite.
    """
    domain = domain or Interval()
    w, b = ridges(w, b, domain)
    breaks = b / w[:, 0] if isinstance(domain, Interval) else None
    x, weights = (q.to(b) for q in domain.quadrature(points, breaks))
    values = f(x)
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
    ValueError
        If the nodes are fewer than two, not finite, or not strictly increasing.
    """
    diagonal, off = mass_matrix(nodes)
    return torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1)


def mass_matrix(nodes: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
    """Diagonal (n,) and off-diagonal (n − 1,) of the P1 mass matrix."""
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
    index = (~x.isfinite()).nonzero()[0].tolist()
    return f"{x[tuple(index)].item()} at index {index}"


def _kind(x: object) -> str:
    return f"a {x.dtype} tensor" if isinstance(x, Tensor) else type(x).__name__
