"""Functions that oscillate at frequency ν in the unit ball, with everything known about them.

f = Δg with g = (1 − |x|²)³ u(νx)/N, where Δu = −u: u is a plane wave, or the one wave that depends
on |x| alone; N makes ‖f‖ = 1. Their κ differ: ν⁻² for the plane wave, which has a neuron that looks
along its crests, and ν^{−(d+3)/2} for the radial one, which has none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynbook.domains import Interval, ball_volume, gauss, whole
from dynbook.rashomon import Target, positive


def wave(nu: float, dim: int = 1, *, radial: bool = False) -> Target:
    r"""The target of frequency ν: g = (1 − |x|²)³ cos(ν x_1)/N, or Λ(ν|x|) in place of the cosine.

    Λ_μ(z) = Γ(μ + 1)(2/z)^μ J_μ(z) with μ = d/2 − 1 is the mean of cos(z·e) over all directions e:
    cos z, J_0(z) and sin(z)/z for d = 1, 2, 3. By Sonine's integral the plane wave has

    .. math::

        \int_{w\cdot x = b} g \,=\, \frac{c}{N} (1 - b^2)^{3 + (d-1)/2}
        \cos(\nu b w_1)\, \Lambda_{3+(d-1)/2}\bigl(\nu \sqrt{(1 - b^2)(1 - w_1^2)}\bigr),

    c the integral of (1 − |y|²)³ over the ball of R^{d−1}, so that κ = c/N, at w = ±e_1, b = 0. The
    radial wave's ridge integrals are the mean of these over directions. In one dimension both are
    (1 − b²)³ cos(νb)/N, which is g(w b).

    Parameters
    ----------
    nu : float
        Frequency ν > 0, radians per unit of length.
    dim : int
        d = 1, 2 or 3.
    radial : bool
        Whether g depends on |x| only.

    Returns
    -------
    Target, with ‖f‖ = 1.

    Raises
    ------
    ValueError
        If ν is not positive and finite, or d not 1, 2 or 3.
    """
    nu, dim = positive("nu", nu), whole("dim", dim, 3)
    radial = radial or dim == 1
    order = dim / 2 - 1

    def u(x: Tensor, square: Tensor) -> Tensor:
        return (nu * x[..., 0]).cos() if dim == 1 or not radial else bessel(order, nu**2 * square)

    def bump(x: Tensor) -> Tensor:
        square = (x**2).sum(-1)
        return (1 - square) ** 3 * u(x, square)

    def laplacian(x: Tensor) -> Tensor:
        square = (x**2).sum(-1)
        if dim == 1 or not radial:
            along = -nu * x[..., 0] * (nu * x[..., 0]).sin()  # x·∇u
        else:
            along = -(nu**2) * square * bessel(order + 1, nu**2 * square) / dim
        q = 1 - square
        return (24 * square * q - 6 * dim * q**2 - nu**2 * q**3) * u(x, square) - 12 * q**2 * along

    nodes = 32 + 2 * math.ceil(nu)
    scale = 1 / _norm(laplacian, dim, radial, nodes)
    power = 3 + (dim - 1) / 2
    c = scale * math.pi ** ((dim - 1) / 2) * 6 / math.gamma(power + 1)

    def plane(w_1: Tensor, b: Tensor) -> Tensor:
        q = (1 - b**2).clamp(min=0)
        return c * q**power * (nu * b * w_1).cos() * bessel(power, nu**2 * q * (1 - w_1**2))

    rule = _rule(nodes)

    def ridge(w: Tensor, b: Tensor) -> Tensor:
        if dim == 1:
            return c * (1 - b**2).clamp(min=0) ** 3 * (nu * b).cos()
        if not radial:
            return plane(w[..., 0], b)
        t, weights = (v.to(b) for v in rule)  # w_1 over the quarter of a circle, or (0, 1)
        w_1 = (math.pi / 2 * t).sin() if dim == 2 else t
        return plane(w_1, b[..., None]) @ weights

    return Target(
        f=lambda x: scale * laplacian(x),
        g=lambda x: scale * bump(x),
        ridge=ridge,
        norm=1.0,
        dim=dim,
        radial=radial,
    )


def bessel(order: float, square: Tensor) -> Tensor:
    """Λ_μ(z) = Γ(μ + 1)(2/z)^μ J_μ(z) of z² ≥ 0; Λ_μ(0) = 1. On the CPU, by scipy's J_μ.

    As a function of s = z² it is smooth, with the derivative −Λ_{μ+1}/(4(μ + 1)), so that it can be
    differentiated any number of times.
    """
    return _Bessel.apply(order, square)


class _Bessel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, order: float, square: Tensor) -> Tensor:
        from scipy.special import jv

        ctx.order = order
        ctx.save_for_backward(square)
        z = square.detach().double().cpu().clamp(min=1e-6).sqrt()
        value = math.gamma(order + 1) * torch.as_tensor(jv(order, z.numpy())) * (2 / z) ** order
        series = 1 - square / (4 * order + 4)  # the next term is below 1e-12
        return torch.where(square < 1e-6, series, value.to(square))

    @staticmethod
    def backward(ctx, upstream: Tensor):
        (square,) = ctx.saved_tensors
        return None, -upstream * bessel(ctx.order + 1, square) / (4 * ctx.order + 4)


def _rule(nodes: int) -> tuple[Tensor, Tensor]:
    """Gauss's rule on (0, 1), or for many nodes twice as many, eight to a cell, found at once."""
    if nodes <= 200:
        return gauss(nodes)
    x, weights = Interval(0, 1).quadrature(2 * nodes)
    return x[:, 0], weights


def _norm(f, dim: int, radial: bool, nodes: int) -> float:
    """‖f‖ for f that depends on |x|, or on x_1 and the rest of x through its length."""
    if radial:
        r, weights = _rule(nodes)
        x = torch.stack([r] + (dim - 1) * [torch.zeros_like(r)], -1)
        return (dim * ball_volume(dim) * (weights * r ** (dim - 1)) @ f(x) ** 2).sqrt().item()
    x_1, weights = Interval().quadrature(8 * nodes)
    t, parts = _rule(nodes)
    rest = (1 - x_1**2).sqrt() * t  # (m, nodes)
    x = torch.stack([x_1.expand_as(rest), rest] + (dim - 2) * [torch.zeros_like(rest)], -1)
    shell = (dim - 1) * ball_volume(dim - 1) * rest ** (dim - 2) * (1 - x_1**2).sqrt()
    return (weights @ ((f(x) ** 2 * shell) @ parts)).sqrt().item()
