"""Two-layer networks as families of ridge functions: their Gram matrix.

A network h(x) = Σ a_i σ(w_i·x − b_i) with fixed inner weights is linear in a, and least squares
against f reads G a = f with G_ij = ⟨σ_i, σ_j⟩ and f_i = ⟨σ_i, f⟩ (:cite:t:`zhang2023`). Everything
a solver or gradient descent can do with such a network is in the spectrum of G, `dynbook.lowpass`.

The bias is subtracted: for a torch.nn.Linear pass w = layer.weight and b = −layer.bias. Integrals
are over dx, with no 1/n and no division by the volume.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from dynbook.disk import disk_gram, two_product
from dynbook.domains import Ball, Domain, Interval, finite, kind, ridges, whole

TILE = {"cpu": 192, "cuda": 2048}  # side of a tile: the temporaries of one stay in the cache
CELLS = {"cpu": 2**17, "cuda": 2**22}  # of rows that are computed together


def relu_gram(
    w: Tensor | float,
    b: Float[Tensor, " n"],
    domain: Domain | None = None,
    power: int = 1,
    *,
    points: int = 20_000,
    kinks: bool = True,
) -> Float[Tensor, "n n"]:
    r"""Gram matrix of the neurons max(w_i·x − b_i, 0)^p, exact on an interval and on the disk.

    On an interval let s = (max w·x − b)/|w| be the length on which a neuron is active. Two that
    look the same way overlap on m = min(s_i, s_j), at the distance d = |s_i − s_j| of their kinks;
    two that face each other overlap on the h between the kinks, if at all. Up to |w_i w_j|^p,

    .. math::

        \int_0^m t^p (t + d)^p \, dt = \sum_{k=0}^p \binom pk \frac{d^{p-k} m^{p+k+1}}{p+k+1},
        \qquad \int_0^h t^p (h - t)^p \, dt = \frac{(p!)^2}{(2p+1)!} h^{2p+1},

    sums of non-negative terms: no digit of s is lost to cancellation, though facing kinks b/w, and
    with them h, are rounded. For p = 1, unit slopes, (−1, 1) and M = max(b_i, b_j) the first is
    (1 − M)³/3 + |b_i − b_j|(1 − M)²/2 (:cite:t:`zhang2023`). On the disk with p = 1 see
    :func:`dynbook.disk.disk_gram`. Elsewhere the integral is a quadrature, :func:`ridge_gram`.

    Parameters
    ----------
    w : Tensor (n, d), or (n,) or a number in one dimension
        Inner weights.
    b : Tensor (n,)
        Biases, float32 or float64.
    domain : Interval, Box or Ball
        Default: Interval(−1, 1).
    power : int
        p = 1, …, 64. ReLU^0 is a step, for which :func:`ridge_gram` takes lambda t: (t > 0).to(t).
    points : int
        Of the quadrature, where there is one.
    kinks : bool
        Whether a kink that misses the domain is refused. With False, as for a trained network,
        dead neurons get zero rows; with affine ones an interval takes exact quadrature, O(n³).

    Returns
    -------
    Tensor (n, n), dimensionless, exactly symmetric, with the dtype and device of b. Working memory
    beyond it is O(n) on an interval and on the disk, unless gradients are asked for: their graph
    keeps several times n². On the disk with p = 1 there are none.

    Raises
    ------
    ValueError, TypeError
        As :func:`dynbook.domains.ridges`; or the power is out of range, G overflows the dtype, no
        quadrature point sees some neuron, or, on the disk with p = 1, w or b requires gradients.
    """
    p = whole("power", power, 64)
    w, b, domain = ridges(w, b, domain, kinks=kinks)
    if isinstance(domain, Ball) and domain.dim == 2 and p == 1:
        return disk_gram(w, b)
    low, high = domain.extent(w)
    if not isinstance(domain, Interval) or (not kinks and (b < low).any()):
        points = 8 * p if isinstance(domain, Interval) else points
        gram = _by_quadrature(lambda t: t.clamp(min=0) ** p, w, b, domain, points)
        return _seen(gram, b < high)
    length = _active_length(w[:, 0], b, domain)
    if p == 1 and _plain(length, w):
        return _bounded(_ramp_gram(w[:, 0].double(), b, length, domain))
    length = length.to(b)
    kink, sign = b / w[:, 0], w[:, 0].sign()
    beta = math.factorial(p) ** 2 / math.factorial(2 * p + 1)
    scale = w[:, 0].abs() ** p
    unit = not scale.requires_grad and bool((scale == 1).all())

    def block(i: slice, j: slice) -> Tensor:
        m = torch.minimum(length[i, None], length[j])
        total = _overlap(m, (length[i, None] - length[j]).abs_(), p)
        same = sign[i, None] == sign[j]
        if not same.all():
            h = (kink[j] - kink[i, None]).mul_(sign[i, None]).clamp_(min=0)
            total = torch.where(same, total, h.square().pow_(p).mul_(h).mul_(beta))
        return total if unit else total.mul_(scale[i, None]).mul_(scale[j])

    return _bounded(symmetric_tiles(block, len(b), like=b))


def _active_length(w: Tensor, b: Tensor, domain: Interval) -> Tensor:
    """(max w·x − b)/|w|, or 0, with the part of w·x that its rounding loses; in float64."""
    v = w.double()
    end = torch.where(v > 0, v.new_tensor(domain.right), v.new_tensor(domain.left))
    product, lost = two_product(v, end)
    return (((product - b.double()) + lost) / v.abs()).clamp(min=0)


def _plain(length: Tensor, w: Tensor) -> bool:
    """Whether no gradient is asked for, and the product of two slopes is an ordinary number."""
    if length.requires_grad or unpack_dual(length).tangent is not None:
        return False
    return bool(((w.abs() > 1e-150) & (w.abs() < 1e150)).all())


def _ramp_gram(w: Tensor, b: Tensor, length: Tensor, domain: Interval) -> Tensor:
    """G for p = 1 and no gradients in half the time: few passes, in place, over rows in the cache.

    As m (m + d) = s_i s_j, the first integral is m (s_i s_j/2 − m²/6) with m² ≤ s_i s_j. For m = −h
    and 0 in place of s_i s_j that is the second: matrix products with ones and zeros, which round
    nothing else, tell the two apart. Each operation gives (i, j) and (j, i) the same bits, and
    rounds once, whatever the processor: nothing is mirrored. All is float64, but for the result.
    """
    n, kink = len(b), (b.double() / w).clamp(domain.left, domain.right)
    right, left = (w > 0).double(), (w < 0).double()
    alike = bool((right == right[0]).all())
    scale = w.abs()
    unit = bool((scale == 1).all())
    looks = torch.stack([right, left])
    reach = looks * length  # s_j, if i looks there too
    bound = torch.stack([right * length - left * kink, left * length + right * kink, left, -right])
    other = torch.cat([looks, looks * kink])  # times bound: s_i, or facing −h, positive if h < 0
    rows = max(1, CELLS.get(b.device.type, 2**17) // n)
    out, buffers = b.new_empty(n, n), length.new_empty(3, min(rows, n), n)
    for first in range(0, n, rows):
        i = slice(first, first + rows)
        m, total, cube = buffers[:, : len(out[i])]
        if alike:
            torch.minimum(length[i, None], length, out=m)
            torch.mul(length[i, None] / 2, length, out=total)
        else:
            torch.mm(bound[:, i].mT, other, out=m)
            torch.mm(looks[:, i].mT, reach, out=total)
            torch.minimum(m, total, out=m)
            total.mul_(length[i, None] / 2)
        total.sub_(torch.mul(m, 1 / 6, out=cube).mul_(m))
        if not unit:
            total.mul_(torch.mul(scale[i, None], scale, out=cube))
        torch.mul(total, m, out=out[i])
    return out


def _bounded(gram: Tensor) -> Tensor:
    """No entry is larger than the largest on the diagonal: the diagonal tells if G overflows."""
    finite("G", gram.diagonal(), f"it overflows {gram.dtype}; scale w, b or the domain down")
    return gram


def _seen(gram: Tensor, live: Tensor) -> Tensor:
    unseen = (gram.diagonal() == 0) & live
    if unseen.any():
        raise ValueError(
            f"no quadrature point sees neuron {int(unseen.nonzero()[0])}: it is zero at all of "
            "them; take more points or drop it"
        )
    return gram


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
    """Design matrix Ψ_ki = σ(w_i·x_k − b_i).

    Parameters
    ----------
    activation : callable
        Elementwise, Tensor to Tensor.
    w, b, x : Tensor (n, d), (n,), (m, d)
        Neurons and points, of one dtype and device.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not fit, or the activation is not elementwise, changes the dtype or returns
        a non-finite value.
    """
    if not (w.ndim == x.ndim == 2 and x.shape[1:] == w.shape[1:] and b.shape == w.shape[:1]):
        raise ValueError(
            "w (n, d), b (n,) and x (m, d) must fit, got "
            f"{tuple(w.shape)}, {tuple(b.shape)} and {tuple(x.shape)}"
        )
    psi = activation(torch.addmm(-b, x, w.mT))
    if not isinstance(psi, Tensor) or psi.dtype != b.dtype:
        raise TypeError(
            f"activation must map a {b.dtype} tensor to another, got {kind(psi)}; "
            "convert inside it with .to(t)"
        )
    if psi.shape != (len(x), len(b)):
        raise ValueError(
            f"activation must act elementwise, got {tuple(psi.shape)} from {(len(x), len(b))}"
        )
    return finite("activation", psi)


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
    space; if in doubt compare two values of points. Kinks cost nothing on an interval, whose cells
    are cut at w_i x = b_i, and O(1/points) elsewhere: with the default below 1e-4 √(G_ii G_jj) in
    the plane and 1e-3 in space, if they lie in the middle 70 % of the range of w·x. The error of
    thinner ReLUs is of this size relative to those, not to themselves: 1e-2 and more near the edge.

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
        As :func:`dynbook.domains.ridges` and :func:`features`; or points is no positive integer, G
        overflows the dtype, or some neuron is zero at all points.
    """
    w, b, domain = ridges(w, b, domain, kinks=False)
    gram = _by_quadrature(activation, w, b, domain, points)
    return _seen(gram, torch.ones_like(b, dtype=torch.bool))


def _by_quadrature(
    activation: Callable[[Tensor], Tensor], w: Tensor, b: Tensor, domain: Domain, points: int
) -> Tensor:
    x, weights = _points(w, b, domain, points)
    gram = b.new_zeros(len(b), len(b))
    for xs, ws in zip(x.split(4096), weights.split(4096), strict=True):
        psi = features(activation, w, b, xs) * ws.sqrt()[:, None]
        gram.addmm_(psi.mT, psi)
    return _bounded(mirrored(gram))


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

    Parameters
    ----------
    f : callable
        Points (m, d) to values (m,), in the dtype of b.
    activation, w, b, domain, points
        As in :func:`ridge_gram`.

    Raises
    ------
    ValueError, TypeError
        As :func:`ridge_gram`; or if f returns another shape or dtype, or is not finite.
    """
    w, b, domain = ridges(w, b, domain, kinks=False)
    x, weights = _points(w, b, domain, points)
    values = f(x)
    if not isinstance(values, Tensor) or values.dtype != b.dtype:
        raise TypeError(f"f must return a {b.dtype} tensor as b is, got {kind(values)}")
    if values.shape != (len(x),):
        raise ValueError(
            f"f must map points ({len(x)}, {domain.dim}) to values ({len(x)},), got "
            f"{tuple(values.shape)}; in 1-D use x[:, 0]"
        )
    finite("f", values)
    out = torch.zeros_like(b)
    for xs, ws in zip(x.split(4096), (values * weights).split(4096), strict=True):
        out.addmv_(features(activation, w, b, xs).mT, ws)
    return finite("∫ f σ", out, f"it overflows {out.dtype}; scale f, w, b or the domain down")


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
    """Diagonal (n,) and off-diagonal (n − 1,) of the P1 mass matrix.

    Raises
    ------
    TypeError, ValueError
        As :func:`fem_gram`.
    """
    if not isinstance(nodes, Tensor) or not nodes.is_floating_point():
        raise TypeError(f"nodes must be a floating-point tensor, got {kind(nodes)}")
    if nodes.ndim != 1 or len(nodes) < 2:
        raise ValueError(f"nodes must have shape (n,) with n ≥ 2, got {tuple(nodes.shape)}")
    h = finite("nodes", nodes).diff()
    if not (h > 0).all():
        i = int((h <= 0).nonzero()[0])
        raise ValueError(
            f"nodes must increase strictly, got nodes[{i}] = {nodes[i]:g} and nodes[{i + 1}] = "
            f"{nodes[i + 1]:g}: sort them, and drop duplicates (they make G singular)"
        )
    zero = h.new_zeros(1)
    return (torch.cat([zero, h]) + torch.cat([h, zero])) / 3, h / 6
