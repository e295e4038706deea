r"""The Gram matrix of ReLU ridge functions on the unit disk, exact for every pair of ridges.

Write a neuron as |w| relu(ℓ) with ℓ(x) = u·x − s, |u| = 1, s = b/|w| = cos α: it is active on the
cap of half-angle α around u. For two of them, δ ∈ [0, π] the angle between u_i and u_j, we want
I = ∫ relu(ℓ_i) relu(ℓ_j) over the disk D.

**Half of it needs one neuron at a time.** L_ij = ∫ ℓ_i relu(ℓ_j) is an integral over the cap of j,
so by symmetry a combination of its moments, L_ij = cos δ M¹_j − s_i M⁰_j with M⁰ = ∫ relu(ℓ) and
M¹ = ∫ (u·x) relu(ℓ). And W = ∫ ℓ_i ℓ_j = π (cos δ/4 + s_i s_j).

**If the chords ℓ_i = 0, ℓ_j = 0 do not cross inside D**, one of relu(±ℓ_i) relu(±ℓ_j) is zero
throughout. Since relu(a) = a + relu(−a), I exceeds 0, L_ij, L_ji and L_ij + L_ji − W by the
integrals of these four (nonnegative) products, so that I = max(0, L_ij, L_ji, L_ij + L_ji − W).

**If they cross**, take ξ = ℓ_i, η = ℓ_j as coordinates, dx = dξ dη / sin δ. The form
ξη (ξ dη − η dξ)/4 has the differential ξη dξ dη and vanishes on both chords, so by Green's theorem
I = ∫ ℓ_i ℓ_j (ℓ_i ℓ_j' − ℓ_i' ℓ_j) dθ / (4 sin δ) over the one arc where both are positive. The
integral is elementary, and sorted by what belongs to one neuron it reads

.. math::

    I = \tfrac12 (L_{ij} + L_{ji}) - \tfrac{\delta}{2} \Bigl(\frac{\cos\delta}{4} + s_i s_j\Bigr)
        + \sin\delta\, \Bigl(\tfrac18 + q_i + q_j\Bigr)
        + \frac{1}{48} \Bigl[\tan\tfrac{\delta}{2}\,(s_i + s_j)^4
        + \cot\tfrac{\delta}{2}\,(s_i - s_j)^4\Bigr],
    \qquad q = \frac{s^2}{4} - \frac{s^4}{12}.

Chords cross only if |s_i − s_j| ≤ 2 tan(δ/2) and |s_i + s_j| ≤ 2 cot(δ/2), so the brackets are
harmless for nearly parallel and antiparallel ridges: one formula, no expansion. What is left is the
loss of digits when the caps themselves are thin, I ~ α⁷; there (a few pairs in a hundred) the
integral along the arc is taken by Gauss' rule, which is exact to rounding on so short an arc.

The operator whose matrix this is: :cite:t:`zhang2023`; ``dynbook.continuum`` has its spectrum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import Ball, finite, gauss, ridges

THIN = 6e-3  # where √(G_ii G_jj) of unit ridges is less, the closed form has lost three digits


class Ridges(NamedTuple):
    """Unit ridges ℓ(x) = u·x − s with u = (cos φ, sin φ), in float64; each (n,)."""

    scale: Tensor  # |w|, or 0 for a neuron that is active nowhere
    phi: Tensor
    s: Tensor
    height: Tensor  # 1 − s, with all its digits
    alpha: Tensor  # half-angle of the cap ℓ > 0
    root: Tensor  # √(∫ relu(ℓ)²)
    moments: Tensor  # (3, n): ∫, ∫(1 − u·x), ∫(u·x), each times relu(ℓ)
    beyond: Tensor  # (3, n): the same for −ℓ on the opposite cap


def disk_gram(
    w: Float[Tensor, "n 2"], b: Float[Tensor, " n"], *, out: Float[Tensor, "n n"] | None = None
) -> Float[Tensor, "n n"]:
    """Gram matrix G_ij = ∫ relu(w_i·x − b_i) relu(w_j·x − b_j) dx over the unit disk.

    Symmetric to the last bit; the error of an entry is below 1e-12 √(G_ii G_jj), also for
    coincident and nearly parallel ridges and for thin caps (of a half-angle α below 1e-3 the error
    is that of the direction, ε/α; below 3e-8, where b/|w| rounds to 1, the neuron counts as dead).
    All arithmetic is float64, whatever comes in: float32 inputs are taken as exact numbers and the
    result is rounded once.

    Parameters
    ----------
    w : Tensor (n, 2)
        Directions of n ≥ 2 neurons, any nonzero length; float32 or float64.
    b : Tensor (n,)
        Biases of any size: a neuron may be active on the whole disk or nowhere (a zero row).
    out : Tensor (n, n), optional
        Where to write; with it nothing of the size of the result is allocated.

    Returns
    -------
    Tensor (n, n)
        On the device and in the dtype of the inputs.

    Raises
    ------
    TypeError, ValueError
        As :func:`dynbook.domains.ridges` for kinks anywhere; or out does not fit; or w or b
        requires gradients, which are not computed; or G overflows (or b/|w| is below −1e140).
    """
    w, b, _ = ridges(w, b, Ball(2), kinks=False)
    if torch.is_grad_enabled() and (w.requires_grad or b.requires_grad):
        raise ValueError("w and b require gradients, and disk_gram has none: pass w.detach(), …")
    out = w.new_empty(len(w), len(w)) if out is None else out
    if out.shape != (len(w), len(w)) or (out.dtype, out.device) != (w.dtype, w.device):
        raise ValueError(
            f"out must have shape ({len(w)}, {len(w)}) and be {w.dtype} on {w.device} as w is, got "
            f"{tuple(out.shape)}, {out.dtype} on {out.device}"
        )
    g = _ridges(w.double(), b.double())
    size = torch.where(g.s > -1e140, g.scale * g.root, math.inf).square().to(out.dtype)
    finite("G", size, f"it overflows {out.dtype}; scale w and b down, or b against |w|")
    _fill(out, g)
    _fill_thin(out, g)
    out.diagonal().copy_(size)
    return out


def _ridges(w: Tensor, b: Tensor) -> Ridges:
    """Everything that belongs to one neuron, O(n)."""
    unit = torch.exp2(torch.frexp(w.abs().amax(1)).exponent.double())  # a power of two: exact
    w, b = w / unit[:, None], (b / unit).clamp(max=2)  # 2 is dead: |w| < √2 by now
    norm = torch.hypot(w[:, 0], w[:, 1])
    s = b / norm
    chord = _difference_of_squares(w, b).clamp(min=0).sqrt() / norm
    alpha = torch.atan2(chord, s)
    *moments, square = _cap_moments(alpha, (-1 - s).clamp(min=0))
    *beyond, _ = _cap_moments(math.pi - alpha, (s - 1).clamp(min=0))
    return Ridges(
        scale=norm * unit * (s < 1),
        phi=torch.atan2(w[:, 1], w[:, 0]),
        s=s,
        height=torch.where((s > 0) & (s < 1), chord.square() / (1 + s), 1 - s),
        alpha=alpha,
        root=square.sqrt(),
        moments=torch.stack(moments),
        beyond=torch.stack(beyond),
    )


def two_product(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x·y in float64 as the rounded product and what its rounding lost (Dekker 1971)."""

    def halves(z: Tensor) -> tuple[Tensor, Tensor]:
        head = z * 134217729.0  # 2²⁷ + 1 cuts 53 bits into 26 and 27
        head = head - (head - z)
        return head, z - head

    (a, b), (c, d), product = halves(x), halves(y), x * y
    return product, ((a * c - product) + (a * d + b * c)) + b * d


def _difference_of_squares(w: Tensor, b: Tensor) -> Tensor:
    """|w|² − b² without cancellation: each square as a rounded product and its error."""
    (x, dx), (y, dy), (z, dz) = (two_product(a, a) for a in (w.abs().amax(1), w.abs().amin(1), b))
    first = x - z
    back = first - x
    lost = (x - (first - back)) - (z + back)
    return (first + y) + (dx + dy - dz + lost)


def _cap_moments(alpha: Tensor, excess: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """∫ℓ, ∫(1−x)ℓ, ∫xℓ, ∫ℓ² over the cap x > cos α of the disk, for ℓ = x − cos α + excess.

    Sums of positive terms, so that the thinnest cap keeps its digits (the closed forms cancel);
    the integrand in the angle from the axis is entire and 24 nodes are exact to rounding.
    """
    nodes, weights = (a.to(alpha)[:, None] for a in gauss(24))
    angle = alpha * nodes
    ridge = 2 * torch.sin((alpha + angle) / 2) * torch.sin((alpha - angle) / 2) + excess
    mass = 2 * weights * alpha * torch.sin(angle).square() * ridge
    fall = 2 * torch.sin(angle / 2).square()
    return mass.sum(0), (mass * fall).sum(0), (mass * (1 - fall)).sum(0), (mass * ridge).sum(0)


def _fill(out: Tensor, g: Ridges) -> None:
    """The closed form, tile by tile over the upper half, mirrored.

    Whatever is a sum of products f(i) h(j) is a thin matrix product (cheaper than the outer sums),
    everything else works in place on eight buffers that stay in the cache.
    """
    rows, cols = (2048, 2048) if out.is_cuda else (128, 256)
    buffers = torch.empty(8, rows * cols, dtype=torch.float64, device=out.device)
    phi, s = g.phi, g.s.clamp(-1, 1)
    height = torch.where(s > 0, g.height.clamp(min=0), 1 - s)
    chord = torch.sin(g.alpha)
    q = 1 / 16 + s**2 / 4 - s**4 / 12
    mass, lean, pull = g.moments
    (cos, sin), (cos2, sin2) = ((torch.cos(a), torch.sin(a)) for a in (phi, phi / 2))
    one = torch.ones_like(s)

    def factors(left: list[Tensor], right: list[Tensor]) -> tuple[Tensor, Tensor]:
        return torch.stack(left, 1), torch.stack(right)

    half_sine = factors([sin2, -cos2], [cos2, sin2])  # ±sin δ/2
    half_cosine = factors([2 * cos2, 2 * sin2], [cos2, sin2])  # ±2 cos δ/2
    whole = factors([cos / 4, sin / 4, g.s], [cos, sin, g.s])  # W / π
    over_j = factors([g.height, one], [mass, -lean])  # L_ij at δ = 0: all digits for thin caps
    over_i = factors([mass, -lean], [g.height, one])

    n = len(out)
    for top in range(0, n, rows):
        r = slice(top, min(top + rows, n))
        phi_i, s_i, h_i, chord_i, q_i, pull_i, scale_i = (
            x[r, None] for x in (phi, s, height, chord, q, pull, g.scale)
        )
        for left in range(top, n, cols):
            c = slice(left, min(left + cols, n))
            size = r.stop - top, c.stop - left
            tiles = [x[: size[0] * size[1]].view(size) for x in buffers]
            haversine, tan, cross, total, tmp, lin_j, lin_i, w_pi = tiles

            def product(pair, tile, r=r, c=c):
                return torch.mm(pair[0][r], pair[1][:, c], out=tile)

            product(half_sine, haversine)
            product(half_cosine, tan)
            torch.mul(haversine, tan, out=total).abs_()  # sin δ
            torch.div(haversine, tan, out=tan).abs_().clamp_(1e-17, 1e17)  # tan(δ/2) / 2
            haversine.mul_(haversine)  # (1 − cos δ) / 2
            # the chords cross where |s_j − s_i cos δ| < sin α_i sin δ
            torch.sub(height[c], h_i, out=tmp)  # s_i − s_j
            torch.addcmul(tmp, haversine, s_i, value=-2, out=cross).abs_()
            cross.lt_(torch.mul(total, chord_i, out=w_pi))
            total.mul_(torch.add(q[c], q_i, out=w_pi))
            total.addcdiv_(tmp.square_().square_(), tan, value=1 / 96)
            torch.add(s[c], s_i, out=tmp).square_().square_()
            total.addcmul_(tmp, tan, value=1 / 24)
            torch.sub(phi[c], phi_i, out=tmp).abs_().sub_(math.pi).abs_()  # π − δ
            total.addcmul_(tmp, product(whole, w_pi), value=0.5)
            product(over_j, lin_j).addcmul_(haversine, pull[c], value=-2)
            product(over_i, lin_i).addcmul_(haversine, pull_i, value=-2)
            torch.maximum(lin_i, lin_j, out=tmp)
            lin_j.add_(lin_i).sub_(w_pi, alpha=math.pi)
            total.add_(lin_j, alpha=0.5).mul_(cross)
            torch.maximum(tmp, lin_j, out=tmp).clamp_(min=0)
            # I is nowhere less than its four linear pieces: no branch is needed
            torch.maximum(tmp, total, out=tmp).mul_(g.scale[c])
            out[r, c] = tmp.mul_(scale_i)
            out[c, r] = total.view(size[::-1]).copy_(tmp.T)
        block = out[r, r]
        block.copy_(block.triu() + block.triu(1).T)


def _fill_thin(out: Tensor, g: Ridges, size: int = 1 << 18) -> None:
    """Overwrite the pairs of thin ridges, where the closed form cancels.

    Sorted by size, the partners of a block of ridges are the neighbours that follow it.
    """
    order = g.root.argsort()
    g = Ridges(*(x[..., order] for x in g))
    start, stop = torch.searchsorted(g.root, g.root.new_tensor([1e-300, math.sqrt(THIN)])).tolist()
    rows = max(size // len(out), 1)
    for first in range(start, stop, rows):
        thin = slice(first, min(first + rows, stop))
        last = int(torch.searchsorted(g.root, THIN / g.root[first]))
        alpha, root = g.alpha[first:last], g.root[first:last]
        alpha_i, root_i = g.alpha[thin, None], g.root[thin, None]
        delta = _angle(g.phi[first:last], g.phi[thin, None])
        met = (delta < alpha + alpha_i) & (delta > alpha - alpha_i) | (alpha > 2)
        i, j = (met & (root < THIN / root_i) & (root >= root_i)).nonzero().T + first
        value = (_thin_pairs(i, j, g) * g.scale[i] * g.scale[j]).to(out.dtype)
        i, j = order[i], order[j]
        out[i, j] = value
        out[j, i] = value


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle in [0, π] between directions a, b ∈ [−π, π]."""
    return math.pi - ((a - b).abs() - math.pi).abs()


def _thin_pairs(i: Tensor, j: Tensor, g: Ridges) -> Tensor:
    """I for pairs (i, j) of which i has the smaller cap, without cancellation.

    On the arc, at angle 2p from its end on chord j and 2q from that on chord i, with P where the
    chords cross: ℓ_i = 2 sin q sin(α_i − q), ℓ_j likewise, and the integrand of the module's head
    is ℓ_i ℓ_j (1 − P·x)/4 with 1 − P·x = sin² α_i − cos α_i ℓ_i − t sin(α_i − 2q), where t is the
    place of P along chord i.
    """
    a_i, a_j, delta = g.alpha[i], g.alpha[j], _angle(g.phi[i], g.phi[j])
    arc = (a_i + a_j - delta) / 2  # half its length
    (sin_i, cos_i), (sin_j, cos_j) = ((torch.sin(a), torch.cos(a)) for a in (a_i, a_j))
    place = torch.sin((a_i + a_j + delta) / 2) * torch.sin((a_i + delta - a_j) / 2)
    place -= torch.sin(arc) * torch.sin((a_j + delta - a_i) / 2)
    place = (place / torch.sin(delta).clamp(min=1e-18)).clamp(-sin_i, sin_i)

    lift = sin_i * (sin_i + place)

    def integrand(sin_q, cos_q, sin_p, cos_p):
        sin_r = sin_i * cos_q - cos_i * sin_q  # r = α_i − q
        ridge_i = sin_q * sin_r
        ridge_j = sin_p * (sin_j * cos_p - cos_j * sin_p)
        return ridge_i * ridge_j * (lift - 2 * (ridge_i * cos_i + place * (sin_r * cos_q)))

    crossing = torch.zeros_like(arc)
    sin_m, cos_m = torch.sin(arc / 2), torch.cos(arc / 2)
    for node, weight in list(zip(*(a.tolist() for a in gauss(10)), strict=True))[5:]:
        half = arc * (node - 0.5)
        sin_d, cos_d = torch.sin(half), torch.cos(half)
        sc, cs, cc, ss = sin_m * cos_d, cos_m * sin_d, cos_m * cos_d, sin_m * sin_d
        far, near = (sc + cs, cc - ss), (sc - cs, cc + ss)
        crossing += 2 * weight * (integrand(*far, *near) + integrand(*near, *far))

    def linear(height, moments, versine):
        return height * moments[0] - moments[1] - versine * moments[2]

    versine = 2 * torch.sin(delta / 2).square()
    nested = linear(g.height[j], g.moments[:, i], versine)
    covering = nested + linear(g.height[i], g.beyond[:, j], 2 - versine)
    value = torch.where(delta > a_j - a_i, arc * crossing, nested)
    value = torch.where(delta > 2 * math.pi - a_i - a_j, covering, value)
    return torch.where(delta < a_i + a_j, value, 0)
