"""How probabilities of Rashomon sets fall with the number of neurons: rate, and what stands before.

A network h of H_n (`dynbook.rashomon`) is the mean of n independent functions aσ(w·x − b), and the
Rashomon set is a ball around f. For every function v the ball lies in the half-space ⟨v, h⟩ ≥
⟨v, f⟩ − ε‖f‖‖v‖, so that P ≤ e^{−nI(v)}, I(v) = ⟨v, f⟩ − ε‖f‖‖v‖ − ln E e^{⟨v, aσ⟩}.
:func:`~dynbook.rashomon.rashomon_bound` takes a multiple of f for v; the best v has the true rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.gram import features
from dynbook.rashomon import Function, Target, positive, relative_error


@dataclass(frozen=True)
class Sharp:
    """P(‖h − f‖ ≤ ε‖f‖) for many neurons: e^{−nI} / √(2πn s²) / √(gain_1 gain_2 …).

    Attributes
    ----------
    rate : float
        I, per neuron. P ≤ e^{−nI} for every n; −ln P/n → I (Cramér; :cite:t:`dembo2010`, 6.1).
    spread : float
        s, the standard deviation of ⟨v, aσ⟩ under the law tilted by e^{⟨v, aσ⟩}.
    gains : Tensor (m,)
        1 + ‖v‖W_i/(ε‖f‖), largest first, W_i the tilted variances in the modes orthogonal to v.
    modes : Tensor (m, points)
        Those modes, of norm 1, at the points.
    points : Tensor (points, 1)
        Of the domain's quadrature.
    v : Tensor (points,)
        The best v.
    values, weights : Tensor
        The law of ⟨σ, v⟩/(2t), t = ⟨v, f⟩ − ε‖f‖‖v‖: :func:`~dynbook.linear_tail.linear_tail`
        with ε = ½ and ‖f‖ = 1 turns it into the exact tail of the best functional.
    """

    rate: float
    spread: float
    gains: Float[Tensor, " m"]
    modes: Float[Tensor, "m k"]
    points: Float[Tensor, "k 1"]
    v: Float[Tensor, " k"]
    values: Float[Tensor, " l"]
    weights: Float[Tensor, " l"]

    def log10(self, n: int) -> float:
        """log₁₀ P by Laplace's method; its error tends to 0 with 1/n.

        Raises
        ------
        ValueError
            If the result is not below 1: then the set is not rare, or n too small.
        """
        before = math.log(2 * math.pi * n * self.spread**2) + self.gains.log().sum().item()
        log10 = -(n * self.rate + before / 2) / math.log(10)
        if not log10 < 0:
            raise ValueError(f"for n = {n} Laplace's method has P = 10^{log10:.2g}: it is not rare")
        return log10


def sharp_rate(
    target: Target,
    eps: float,
    amplitude: float,
    activation: Function | None = None,
    *,
    points: int = 400,
) -> Sharp:
    r"""Rate and prefactor of the probability of a Rashomon set, in one dimension.

    Under the law tilted by the best v a network's mean is the point m of the ball where its rate is
    least, and h − m is nearly Gaussian with covariance V/n. A deviation y orthogonal to v must be
    made up for, as the ball curves: by ‖y‖²/(2ε‖f‖) along v, which costs n‖v‖ times that. Integrals
    of Gaussians remain (:cite:t:`bahadur1960` for one variable),

    .. math::

        P \approx \frac{e^{-nI}}{\sqrt{2\pi n\,s^2}}\,
        \det\Bigl(1 + \frac{\lVert v\rVert}{\varepsilon\lVert f\rVert} W\Bigr)^{-1/2}, \qquad
        s^2 = \langle v, Vv\rangle, \quad
        W = V - Vv\,v^\top V / s^2 .

    Parameters
    ----------
    target : Target
        One-dimensional.
    eps, amplitude
        As for :func:`~dynbook.rashomon.rashomon_bound`.
    activation : callable, optional
        Elementwise; default ReLU.
    points : int
        Of the quadrature in x, and as many for b.

    Raises
    ------
    ValueError
        If an argument is out of range, or the set is empty for every n (:func:`least_error`).
    ArithmeticError
        If no best v is found.
    """
    amplitude, radius = positive("amplitude", amplitude), relative_error(eps) * target.norm
    least = least_error(target, amplitude, activation, points=points)
    if eps <= least:
        raise ValueError(
            f"eps = {eps:g}: the set is empty for every n, as no mean of neurons with |a| ≤ "
            f"{amplitude:g} is nearer to f than {least:.3g}; take a larger eps or amplitude"
        )
    x, psi, weights, f, root = _grid(target, activation, points)

    def exponent(v: Tensor) -> tuple[Tensor, Tensor]:
        z = (amplitude * (v @ psi)).abs().clamp(min=1e-6)
        share = z + torch.log(-torch.expm1(-2 * z) / (2 * z)) + weights.log()
        return share.logsumexp(0), share

    v = f.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [v],
        max_iter=5000,
        max_eval=10_000,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        history_size=30,
        line_search_fn="strong_wolfe",
    )

    def minus_rate() -> Tensor:
        optimizer.zero_grad()
        value = exponent(v)[0] + radius * v.norm() - v @ f
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(minus_rate)
    v = v.detach()
    K, share = exponent(v)
    z = amplitude * (v @ psi)
    size = z.abs().clamp(min=1e-6)
    small = size < 1e-2
    slope = torch.where(small, size / 3, 1 / size.tanh() - 1 / size)  # E a/A, given the neuron
    square = torch.where(small, 1 / 3 + 2 * size**2 / 45, 1 - 2 * slope / size)
    share = (share - K).exp()
    mean = amplitude * psi @ (share * slope * z.sign())
    if not (mean - f).norm() < 1.001 * radius:
        raise ArithmeticError(f"no best v found for eps = {eps:g}; {least:.3g} is the least error")
    V = amplitude**2 * (psi * (share * square)) @ psi.mT - torch.outer(mean, mean)
    spread = v @ V @ v
    W = V - torch.outer(V @ v, V @ v) / spread
    size, modes = torch.linalg.eigh(W)
    reach = v @ f - radius * v.norm()
    return Sharp(
        rate=(reach - K).item(),
        spread=spread.sqrt().item(),
        gains=1 + v.norm() / radius * size.flip(0).clamp(min=0),
        modes=(modes.mT / root).flip(0),
        points=x,
        v=v / root,
        values=v @ psi / (2 * reach),
        weights=weights,
    )


def least_error(
    target: Target, amplitude: float, activation: Function | None = None, *, points: int = 400
) -> float:
    """inf ‖h − f‖/‖f‖ over the networks of all H_n together, in one dimension.

    They are dense in the closed convex hull of the functions ±Aσ(w·x − b), whose distance from f is
    found by non-negative least squares. Its residual v proves it: ‖h − f‖‖v‖ ≥ ⟨v, f⟩ − A sup|⟨σ,
    v⟩|, and the two sides differ by less than a thousandth.

    Parameters and refusals are those of :func:`sharp_rate`.
    """
    from scipy.optimize import nnls

    amplitude = positive("amplitude", amplitude)
    _, psi, _, f, _ = _grid(target, activation, points)
    hull = amplitude * torch.cat([psi, -psi, torch.zeros(len(psi), 1).double()], 1)
    heavy = 300 * target.norm  # the shares must sum to one
    sides = torch.cat([hull, torch.full((1, hull.shape[1]), heavy).double()])
    share, _ = nnls(sides.numpy(), np.append(f.numpy(), heavy), maxiter=50 * points)
    residual = f - hull @ torch.from_numpy(share / share.sum())
    proof = residual @ f - (hull.mT @ residual).max()
    error = residual.norm()
    if error - (proof / error).clamp(min=0) > 1e-3 * target.norm:
        raise ArithmeticError("the nearest mean of neurons was not found: take other points")
    return (error / target.norm).item()


def _grid(
    target: Target, activation: Function | None, points: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Points x, neurons (points, 2 points) and their weights, f; functions times √weight of x."""
    if target.dim != 1:
        raise ValueError(f"target must be one-dimensional, got d = {target.dim}")
    x, dx = target.domain.quadrature(points)
    b, w = x[:, 0].repeat(2), torch.ones(2 * len(x), 1).double()
    w[len(x) :] = -1
    root = dx.sqrt()
    psi = features(activation or torch.relu, w, b, x) * root[:, None]
    return x, psi, dx.repeat(2) / 4, target.f(x) * root, root
