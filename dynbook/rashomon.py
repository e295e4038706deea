"""How likely a good two-layer network is: the Rashomon bound, and what it is made of.

The class H_n holds h(x) = (1/n) Σ a_j σ(w_j·x − b_j) on the unit ball of R^d, with w_j on the
sphere, |a_j| ≤ A and |b_j| ≤ 1, all independent and uniform. A function f is well approximated with
probability P(‖h − f‖ ≤ ε‖f‖), the measure of its Rashomon set (:cite:t:`zhao2023`). For σ = ReLU
and f = Δg, where g vanishes with its gradient at the boundary, ⟨σ(w·x − b), f⟩ is the integral of g
over the hyperplane w·x = b: its ridge integral. `dynbook.linear_tail` and `dynbook.rare_events`
measure what is bounded here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import Ball, Interval, finite, gauss, kind, whole
from dynbook.gram import features

Function = Callable[[Tensor], Tensor]


def rashomon_bound(
    n: int, eps: float, f_norm: float, amplitude: float, kappa: float, *, log10: bool = False
) -> float:
    """Upper bound exp(−n (1 − ε)² ‖f‖⁴ / (2 A² κ²)) on P(‖h − f‖ ≤ ε‖f‖), h drawn from H_n.

    If ‖h − f‖ ≤ ε‖f‖ then ⟨h, f⟩ ≥ (1 − ε)‖f‖², and ⟨h, f⟩ is a mean of n independent variables
    in [−Aκ, Aκ] of mean zero: this is Hoeffding's inequality (:cite:t:`hoeffding1963`). If Aκ is
    below (1 − ε)‖f‖² the set is empty, although the bound is e^{−n/2} or a little less.

    Parameters
    ----------
    n : int
        Number of neurons.
    eps : float
        Relative error ε in (0, 1).
    f_norm : float
        ‖f‖ in L²(dx).
    amplitude : float
        A > 0.
    kappa : float
        sup |⟨σ(w·x − b), f⟩| over neurons, as :func:`kappa` finds it; with an absolute value, which
        :cite:t:`zhao2023` leaves out.
    log10 : bool
        Whether to return log₁₀ of the bound, which does not underflow.

    Raises
    ------
    ValueError
        If one of them is out of its range.
    """
    n = whole("n", n)
    eps, f_norm = relative_error(eps), positive("f_norm", f_norm, "f = 0 has no relative error")
    amplitude, kappa = positive("amplitude", amplitude), positive("kappa", kappa)
    log_ratio = math.log1p(-eps) + 2 * math.log(f_norm) - math.log(amplitude) - math.log(kappa)
    if log_ratio > 300:
        raise ValueError(f"(1 − ε)‖f‖²/(Aκ) = e^{log_ratio:.0f} is too large: the set is empty")
    exponent = -n / 2 * math.exp(2 * log_ratio)
    return exponent / math.log(10) if log10 else math.exp(exponent)


def relative_error(eps: float) -> float:
    """The argument as a float; a ValueError unless 0 < ε < 1."""
    if not 0 < eps < 1:
        raise ValueError(
            f"eps must lie in (0, 1), got {eps:g}: h = 0 has relative error 1, so that from there "
            "on the set is not rare"
        )
    return float(eps)


def positive(name: str, value: float, why: str = "") -> float:
    """The argument as a float; a ValueError unless it is positive and finite."""
    if not 0 < value < math.inf:
        raise ValueError(
            f"{name} must be positive and finite, got {value:g}" + (why and f": {why}")
        )
    return float(value)


@dataclass(frozen=True)
class Target:
    """A function f = Δg on the unit ball, and all that the Rashomon bound asks of it.

    Attributes
    ----------
    f, g : callable
        Points (m, d) to values (m,), float64.
    ridge : callable
        Neurons w (m, d), b (m,) to the ridge integrals ∫_{w·x=b} g (m,); in one dimension g(w b).
    norm : float
        ‖f‖ in L²(dx).
    dim : int
        d = 1 (the interval (−1, 1)), 2 (the disk) or 3.
    radial : bool
        Whether the ridge integral depends on b alone.
    """

    f: Function = field(repr=False)
    g: Function = field(repr=False)
    ridge: Callable[[Tensor, Tensor], Tensor] = field(repr=False)
    norm: float
    dim: int
    radial: bool = False

    @property
    def domain(self) -> Interval | Ball:
        return Interval() if self.dim == 1 else Ball(self.dim)


def target(g: Function, dim: int = 1, f: Function | None = None, *, points: int = 40_000) -> Target:
    """The target f = Δg of a function g on the unit ball, by quadrature.

    Parameters
    ----------
    g : callable
        Points (m, d) to values (m,) in float64, twice continuously differentiable, zero with its
        gradient on the sphere |x| = 1.
    dim : int
        1, 2 or 3.
    f : callable, optional
        Δg; default: by automatic differentiation.
    points : int
        About how many, for the norm; ridge integrals take as many per unit of area. Enough for
        some √points oscillations of g.

    Raises
    ------
    TypeError, ValueError
        If g is of another kind or not finite, does not vanish with its gradient at the boundary
        (then ⟨σ, Δg⟩ is not its ridge integral), or has Δg = 0; if f is not Δg, g has a kink, or
        the points are too few for either.
    """
    dim = whole("dim", dim, 3)
    domain = Interval() if dim == 1 else Ball(dim)
    x, weights = domain.quadrature(whole("points", points, least=64))
    inside = _values("g", g, x)
    f = f or (lambda x: _derivatives(g, x)[1])
    values = _values("f", f, x)
    edge, _ = directions(dim, 64)
    slope, scale = _derivatives(g, edge)[0].norm(dim=-1).max(), inside.abs().max()
    for name, size in (("g", _values("g", g, edge).abs().max()), ("its gradient", slope)):
        if size > 1e-6 * scale:
            raise ValueError(
                f"g must vanish with its gradient at the boundary |x| = 1, but {name} reaches "
                f"{size:.1e} there (g reaches {scale:.1e} inside): multiply g by (1 − |x|²)³"
            )
    norm = positive("‖Δg‖", (weights @ values**2).sqrt().item(), "f = 0 has no relative error")

    def ridge(w: Tensor, b: Tensor) -> Tensor:
        return ridge_integral(g, w, b, points=math.isqrt(points) if dim == 2 else points // 10)

    w, _ = directions(dim, 8)
    b = 2 * torch.arange(1, 4 * len(w) + 1, dtype=torch.float64) / (4 * len(w) + 1) - 1
    w = w.repeat(4, 1)
    seen = features(torch.relu, w, b, x).mT @ (weights * values)
    off, largest = (seen - ridge(w, b)).abs().max().item(), (weights @ values.abs()).item()
    if off > 3e-3 * largest:
        raise ValueError(
            f"f must be Δg: ⟨σ(w·x − b), f⟩ and the integral of g over w·x = b differ by {off:.1e} "
            f"(∫|f| = {largest:.1e}); is f another function, has g a kink, or does it oscillate so "
            f"fast that {points:,} points are too few?"
        )
    return Target(f, g, ridge, norm, dim)


def _values(name: str, function: Function, x: Tensor) -> Tensor:
    y = function(x)
    if not isinstance(y, Tensor) or y.dtype != x.dtype or y.shape != x.shape[:1]:
        got = f"{kind(y)} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else kind(y)
        raise TypeError(
            f"{name} must map points {tuple(x.shape)} to float64 values ({len(x)},), got {got}"
        )
    return finite(name, y.detach())


def _derivatives(g: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (m, d) and Laplacian (m,) of g, automatically."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = g(x)
        if not y.requires_grad:
            raise TypeError("g must be made of torch's operations on x, to be differentiated")
        gradient = torch.autograd.grad(y.sum(), x, create_graph=True)[0]
        second = [
            torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)[0][:, i]
            for i in range(x.shape[-1])
        ]
    return gradient.detach(), sum(second)


def ridge_integral(
    g: Function, w: Float[Tensor, "m d"], b: Float[Tensor, " m"], *, points: int = 200
) -> Float[Tensor, " m"]:
    """Integrals of g over the parts of the hyperplanes w·x = b, |w| = 1, in the unit ball.

    They are points in one dimension (the value g(w b)), chords in two, disks in three; 0 where
    |b| ≥ 1. The rule is Gauss's on a chord and that of :class:`~dynbook.domains.Ball` on a disk.

    Raises
    ------
    ValueError
        If the shapes do not fit, some |w| is not 1 or g is not finite.
    """
    if w.ndim != 2 or b.shape != w.shape[:1] or not 1 <= w.shape[1] <= 3 or w.dtype != b.dtype:
        raise ValueError(
            f"w (m, d), d ≤ 3, and b (m,) must fit, got {w.dtype} {tuple(w.shape)} and {b.dtype} "
            f"{tuple(b.shape)}"
        )
    if len(b) == 0:
        return b
    if ((w.norm(dim=-1) - 1).abs() > 1e-6).any():
        raise ValueError("w must hold unit vectors; divide by w.norm(dim=-1, keepdim=True)")
    dim = w.shape[1]
    if dim == 1:
        y, weights = b.new_zeros(1, 0), b.new_ones(1)
    elif dim == 2:
        t, weights = (v.to(b) for v in gauss(points))
        y, weights = 2 * t[:, None] - 1, 2 * weights
    else:
        y, weights = (v.to(b) for v in Ball(2).quadrature(points))
    out = []
    per_chunk = max(1, 400_000 // len(y))
    for v, c in zip(w.split(per_chunk), b.split(per_chunk), strict=True):
        half = (1 - c**2).clamp(min=0).sqrt()
        frame = torch.linalg.qr(v[:, :, None], mode="complete").Q[:, :, 1:]  # spans w·y = 0
        x = c[:, None, None] * v[:, None] + half[:, None, None] * (y @ frame.mT)
        values = finite("g", g(x.reshape(-1, dim)).detach().reshape(len(c), -1))
        out.append(half ** (dim - 1) * (values @ weights) * (c.abs() < 1))
    return torch.cat(out)


def directions(dim: int, count: int) -> tuple[Float[Tensor, "m d"], Float[Tensor, " m"]]:
    """A quadrature of the uniform measure on the sphere: about count unit vectors, weights.

    Exact for polynomials of low degree; in one dimension the two points ±1.
    """
    dim, count = whole("dim", dim, 3), whole("count", count)
    if dim == 1:
        w = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
        return w, w.new_full((2,), 0.5)
    side = count if dim == 2 else max(math.isqrt(count // 2), 2)
    angle = math.pi * torch.arange(2 * side if dim == 3 else side, dtype=torch.float64)
    angle = (angle + 0.5) / side * (1 if dim == 3 else 2)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    if dim == 2:
        return circle, torch.full_like(angle, 1 / side)
    z, weights = gauss(side)
    z = (2 * z - 1)[:, None].expand(-1, 2 * side)
    w = torch.cat([(1 - z**2).sqrt()[..., None] * circle, z[..., None]], -1).reshape(-1, 3)
    return w, (weights / (2 * side))[:, None].expand(-1, 2 * side).reshape(-1)


def moment(
    target: Target, activation: Function | None = None, *, points: int | None = None
) -> Callable[[Tensor, Tensor], Tensor]:
    """The function (w, b) ↦ ⟨σ(w·x − b), f⟩: ridge integrals, or a quadrature for another σ.

    Parameters
    ----------
    target : Target
    activation : callable, optional
        Elementwise; default: ReLU, whose moments are `Target.ridge`.
    points : int, optional
        Of the quadrature. Default: 4000 in one dimension, else 20,000.

    Returns
    -------
    callable, unit vectors w (m, d) and b (m,) to values (m,).
    """
    if activation is None:
        return target.ridge
    x, weights = target.domain.quadrature(points or (4000 if target.dim == 1 else 20_000))
    weighted = _values("f", target.f, x) * weights

    def moments(w: Tensor, b: Tensor) -> Tensor:
        chunk = max(1, 4_000_000 // len(x))
        return torch.cat(
            [
                features(activation, v, c, x).detach().mT @ weighted
                for v, c in zip(w.split(chunk), b.split(chunk), strict=True)
            ]
        )

    return moments


def moment_nodes(
    target: Target, activation: Function | None = None, *, biases: int = 2048, sphere: int = 256
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Values of ⟨σ(w·x − b), f⟩ for random w and b, with weights that sum to one.

    A Gauss rule in b (cells of eight points) times a rule on the sphere: what
    :func:`dynbook.linear_tail.linear_tail` takes.

    Parameters
    ----------
    target, activation
        As for :func:`moment`.
    biases, sphere : int
        Number of nodes in b, and of directions unless f is radial or in one dimension.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    b, weights = Interval().quadrature(biases)
    w, parts = directions(target.dim, sphere)
    if target.radial or (target.dim == 1 and activation is None):
        w, parts = w[:1], w.new_ones(1)
    of = moment(target, activation)
    values = of(w.repeat_interleave(len(b), 0), b[:, 0].repeat(len(w)))
    return finite("⟨σ, f⟩", values), (parts[:, None] * weights / 2).reshape(-1)


def kappa(target: Target, activation: Function | None = None, *, points: int = 4096) -> float:
    """κ = sup over neurons of |⟨σ(w·x − b), f⟩|: for ReLU, of the ridge integral of g.

    The largest of the values on a grid of neurons (and those along the axes), sharpened by a climb
    from the eight best: it converges from below, and a bound with a κ that is too small is none.
    Take more points if f oscillates between those of the grid.

    Parameters
    ----------
    target, activation
        As for :func:`moment`.
    points : int
        About how many neurons the grid has: on b ∈ [−1, 1] and, unless f is radial, on the sphere.

    Raises
    ------
    ValueError
        If a value is not finite, or all are zero.
    """
    points = whole("points", points, least=16)
    if target.radial or target.dim == 1:
        w, _ = directions(1 if target.dim == 1 else target.dim, 2)
        w = w[:1] if target.radial else w
    else:
        w = torch.cat(
            [torch.eye(target.dim).double(), directions(target.dim, math.isqrt(points))[0]]
        )
    b = torch.linspace(-1, 1, 2 * (points // len(w) // 2) + 1, dtype=torch.float64)
    of = moment(target, activation)
    size = finite("⟨σ, f⟩", of(w.repeat_interleave(len(b), 0), b.repeat(len(w)))).abs()
    best, start = size.topk(min(8, len(size)))  # climbed from side by side
    w, b = w[start // len(b)], b[start % len(b)]
    moves = torch.eye(target.dim + 1, dtype=torch.float64)
    moves = torch.cat([moves, -moves])[:, None]
    step = b.new_full((len(b), 1), 2 / math.sqrt(len(size)))
    while (step > 1e-7).any():
        near = w + step * moves[..., 1:]
        near = near / near.norm(dim=-1, keepdim=True)
        shifted = (b + (step * moves[..., :1])[..., 0]).clamp(-1, 1)
        values = of(near.flatten(0, 1), shifted.flatten()).abs().view(shifted.shape)
        value, i = values.max(0)
        better, each = value > best, torch.arange(len(b))
        best = torch.where(better, value, best)
        w = torch.where(better[:, None], near[i, each], w)
        b = torch.where(better, shifted[i, each], b)
        step = torch.where(better[:, None], step, step / 2)
    kappa = best.max().item()
    if not kappa > 1e-13 * target.norm:
        raise ValueError(f"κ must be positive, got {kappa:.0e}: f is orthogonal to every neuron")
    return kappa
