"""Mean field: how lengths and angles travel through a wide random layer, and where chaos begins.

A layer is h' = W φ(h) + b with entries W_ij ~ N(0, σ_w²/N) and b_i ~ N(0, σ_b²)
(:cite:t:`poole2016`). As N → ∞ the pre-activations h are Gaussian, so that everything is a mean
⟨·⟩ over one or two Gaussian variables z. Every function takes any activation, for φ' comes from
autograd, and any batch of parameters, broadcast together; it answers in float64, on their device.

The points where φ or a derivative of it jumps are `kinks`; between them φ must be smooth, and what
the quadrature of `dynbook.gaussian` does not resolve is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import kind
from dynbook.gaussian import LEAST, activation_means, gaussian_mean, limits, pair_means

Activation = Callable[[Tensor], Tensor]
Search = Callable[[Tensor, Tensor], Tensor]  # of q, for the members at these indices

TINY, HUGE = 1e-14, 1e12  # a variance below one tends to 0, above the other to infinity
LOW, HIGH = 1e-40, 1e5  # of standard deviations: their squares stay away from all of these
RANGES = {
    "sigma_w": (f"in [{LOW:g}, {HIGH:g}]", lambda x: (x >= LOW) & (x <= HIGH)),
    "sigma_b": (
        f"0 or in [{LOW:g}, {HIGH:g}]",
        lambda x: (x == 0) | (x >= LOW) & (x <= HIGH),
    ),
    "q": ("≥ 0", lambda x: x >= 0),
    "c": ("in [−1, 1]", lambda x: x.abs() <= 1),
}


@dataclass(frozen=True)
class DepthScales:
    """How many layers a signal lasts; infinite where the approach is slower than exponential.

    Attributes
    ----------
    length : Tensor (...)
        ξ_q: |q_l − q*| falls like exp(−l/ξ_q).
    correlation : Tensor (...)
        ξ_c: |c_l − c*| falls like exp(−l/ξ_c).
    c : Tensor (...)
        The stable fixed point c* of the correlation map: 1 in the ordered phase.
    """

    length: Tensor
    correlation: Tensor
    c: Tensor


def length_map(
    phi: Activation,
    q: Float[Tensor, "*b"] | float,
    sigma_w: Float[Tensor, "*b"] | float,
    sigma_b: Float[Tensor, "*b"] | float,
    *,
    kinks: Sequence[float] = (0.0,),
) -> Float[Tensor, "*b"]:
    """Variance of a pre-activation one layer on, q' = σ_w² ⟨φ(√q z)²⟩ + σ_b².

    Parameters
    ----------
    phi : callable
        The activation φ, elementwise.
    q : Tensor (...) or float
        Variance of a pre-activation, |h|²/N, q ≥ 0.
    sigma_w, sigma_b : Tensor (...) or float
        Standard deviations: of a weight times the square root of the width, σ_w > 0, and of a
        bias, σ_b ≥ 0; both, where not 0, from 1e-40 to 1e5.
    kinks : sequence of float
        The points where φ or a derivative jumps: (0,) by default, right for ReLU and harmless for
        a smooth φ; (−1, 1) for a hard tanh.

    Raises
    ------
    TypeError, ValueError
        If φ is not elementwise, does not take float64, is not finite, or grows so fast or wiggles
        so much that the panels do not resolve φ² or φ'² to 1e-9 (mostly: a kink that was not
        named); if a parameter is not real and in its range, or the shapes do not broadcast.
    """
    q, sigma_w, sigma_b = _parameters(phi, kinks, q=q, sigma_w=sigma_w, sigma_b=sigma_b)
    return sigma_w**2 * _mean(gaussian_mean(lambda x: phi(x).square(), q, kinks), q) + sigma_b**2


def fixed_point(
    phi: Activation,
    sigma_w: Float[Tensor, "*b"] | float,
    sigma_b: Float[Tensor, "*b"] | float,
    *,
    start: float = 1.0,
    kinks: Sequence[float] = (0.0,),
) -> Float[Tensor, "*b"]:
    """The variance q* that the length map tends to from `start`.

    It is bracketed from `start` on by factors of two and then found by Ridders' method: as exactly
    at criticality, where iterating the map slows down without bound, as elsewhere. It attracts: the
    length map never falls faster than q^{−1/2}, so that it cannot oscillate.

    Parameters
    ----------
    phi, sigma_w, sigma_b, kinks
        As in :func:`length_map`.
    start : float
        Where q begins; it matters when several fixed points are stable, or all q are fixed, as for
        ReLU with σ_w² = 2 and σ_b = 0, where `start` itself is the answer.

    Returns
    -------
    Tensor (...): 0 where lengths shrink below 1e-14 (only for σ_b = 0), infinite where they grow
    above 1e12, as for ReLU with σ_w² > 2.

    Raises
    ------
    TypeError, ValueError
        As :func:`length_map`; or start is not in (1e-14, 1e12).
    """
    sigma_w, sigma_b = _parameters(phi, kinks, sigma_w=sigma_w, sigma_b=sigma_b)
    if not (isinstance(start, Real) and TINY < start < HUGE):
        raise ValueError(f"start must lie between {TINY:g} and {HUGE:g}, got {start}")
    shape, (sigma_w, sigma_b) = sigma_w.shape, (sigma_w.flatten(), sigma_b.flatten())

    def growth(q: Tensor, at: Tensor) -> Tensor:
        ahead = gaussian_mean(lambda x: phi(x).square(), q, kinks)
        return ((sigma_w[at] ** 2 * ahead + sigma_b[at] ** 2) / q).log().clamp(min=-1e3)

    near = torch.full_like(sigma_w, start)
    first, noise = growth(near, torch.arange(len(near), device=near.device)), 1e-14
    near, far, end = _march(growth, near, torch.where(first > 0, 2.0, 0.5))
    far = torch.where((far <= TINY) & (end < 0), (sigma_b**2).clamp(min=LEAST), far)
    q = _root(growth, torch.minimum(near, far), torch.maximum(near, far))
    q = torch.where((far >= HUGE) & (end > -noise), inf, q)
    q = torch.where((far <= TINY) & (end < noise) & (sigma_b == 0), 0.0, q)
    q = torch.where(first.abs() < noise, start, q)
    return q.reshape(shape)


def chi(
    phi: Activation,
    sigma_w: Float[Tensor, "*b"] | float,
    sigma_b: Float[Tensor, "*b"] | float,
    *,
    q: Float[Tensor, "*b"] | float | None = None,
    c: Float[Tensor, "*b"] | float = 1.0,
    kinks: Sequence[float] = (0.0,),
) -> Float[Tensor, "*b"]:
    """Mean square factor by which a layer stretches a tangent, χ₁ = σ_w² ⟨φ'(√q z)²⟩.

    With c < 1 it is χ_c = σ_w² ⟨φ'(u₁) φ'(u₂)⟩ at correlation c, the slope of the correlation map.
    χ₁ < 1 is order, χ₁ > 1 chaos (:cite:t:`schoenholz2017`).

    Parameters
    ----------
    phi, sigma_w, sigma_b, kinks
        As in :func:`length_map`.
    q : Tensor (...) or float
        Variance of the pre-activations, q ≥ 0; the fixed point q* by default. An infinite q stands
        for the limit, in which φ' takes its values at ±∞.
    c : Tensor (...) or float
        Correlation of two inputs, −1 ≤ c ≤ 1.

    Raises
    ------
    TypeError, ValueError
        As :func:`fixed_point`; or φ jumps, as the sign does: φ' then has point masses, that
        autograd leaves out, and χ would be infinite.
    """
    sigma_w, sigma_b, q, c = _arguments(phi, kinks, sigma_w, sigma_b, q, c)
    tangent = _mean(activation_means(phi, q, kinks)[1], q)
    if (c == 1).all():
        return sigma_w**2 * tangent
    return sigma_w**2 * pair_means(phi, q, 1 - c, kinks)[1]


def lyapunov_exponent(
    phi: Activation,
    sigma_w: Float[Tensor, "*b"] | float,
    sigma_b: Float[Tensor, "*b"] | float,
    *,
    kinks: Sequence[float] = (0.0,),
) -> Float[Tensor, "*b"]:
    """Largest Lyapunov exponent of infinitely wide random layers, λ = ½ ln χ₁, per layer.

    Width goes to infinity first, then depth. Arguments are those of :func:`length_map`, errors
    those of :func:`chi`.
    """
    return chi(phi, sigma_w, sigma_b, kinks=kinks).log() / 2


def correlation_map(
    phi: Activation,
    c: Float[Tensor, "*b"] | float,
    sigma_w: Float[Tensor, "*b"] | float,
    sigma_b: Float[Tensor, "*b"] | float,
    *,
    q: Float[Tensor, "*b"] | float | None = None,
    kinks: Sequence[float] = (0.0,),
) -> Float[Tensor, "*b"]:
    """Correlation of two inputs one layer on, c' = (σ_w² ⟨φ(u₁) φ(u₂)⟩ + σ_b²)/q'.

    u₁ and u₂ are Gaussian with variance q and correlation c, and q' = q at the fixed point. What
    is computed is the distance 1 − c' = σ_w² ⟨(φ(u₁) − φ(u₂))²⟩/2q', which keeps its digits as
    c → 1. With q* = 0 or ∞ the map is its limit: of directions, lengths apart.

    Parameters
    ----------
    phi, sigma_w, sigma_b, kinks
        As in :func:`length_map`.
    c, q : Tensor (...) or float
        As in :func:`chi`.

    Raises
    ------
    TypeError, ValueError
        As :func:`chi`.
    """
    sigma_w, sigma_b, q, c = _arguments(phi, kinks, sigma_w, sigma_b, q, c)
    q = limits(q)
    ahead = gaussian_mean(lambda x: phi(x).square(), q, kinks) + (sigma_b / sigma_w) ** 2
    return 1 - pair_means(phi, q, 1 - c, kinks, slope=False)[0] / ahead


def critical_line(
    phi: Activation,
    sigma_b: Float[Tensor, "*b"] | float,
    *,
    kinks: Sequence[float] = (0.0,),
) -> Float[Tensor, "*b"]:
    """The edge of chaos: the σ_w at which χ₁ = 1, for given σ_b.

    Each variance q is critical at σ_w² = 1/⟨φ'²⟩, and a fixed point for σ_b² = q − ⟨φ²⟩/⟨φ'²⟩; what
    is found is the smallest q that gives σ_b. ReLU reaches no σ_b > 0 at finite q: the answer √2 is
    then the limit, in which lengths grow in proportion to depth. Where no σ_w makes φ chaotic, as
    for a constant, it is infinite.

    Parameters
    ----------
    phi, sigma_b, kinks
        As in :func:`length_map`.

    Raises
    ------
    TypeError, ValueError
        As :func:`chi`; or the length found repels: GELU's run away before χ₁ reaches 1.
    """
    (sigma_b,) = _parameters(phi, kinks, sigma_b=sigma_b)
    shape, sigma_b = sigma_b.shape, sigma_b.flatten()

    def surplus(q: Tensor, at: Tensor) -> Tensor:
        square, slope = activation_means(phi, q, kinks)[:2]
        bias = (sigma_b[at] ** 2).where(sigma_b[at] > 0, -1e-13 * q)  # rounding is no bias
        return (bias - q + square / slope).nan_to_num(HUGE, posinf=HUGE)

    low = (sigma_b**2).clamp(min=2 * TINY)
    low, high, end = _march(surplus, low, torch.full_like(low, 2.0))
    q = torch.where(end > 0, inf, _root(surplus, low, high))
    _, tangent, rate = activation_means(phi, q, kinks)
    repels = (rate > (1 + 1e-6) * tangent) & q.isfinite()
    if repels.any():
        raise ValueError(
            f"phi must have a stable length at which χ₁ = 1, but at sigma_b = "
            f"{sigma_b[repels][0]:g} that length, q = {q[repels][0]:.3g}, repels: chaos begins "
            "where fixed_point jumps"
        )
    return tangent.rsqrt().reshape(shape)


def depth_scale(
    phi: Activation,
    sigma_w: Float[Tensor, "*b"] | float,
    sigma_b: Float[Tensor, "*b"] | float,
    *,
    kinks: Sequence[float] = (0.0,),
) -> DepthScales:
    """How deep lengths and correlations go: ξ = −1/ln(slope) at the stable fixed points.

    The slope is that of the length map at q*, or of the correlation map at c*
    (:cite:t:`schoenholz2017`). The correlation map is a power series with coefficients ≥ 0, hence
    convex on (0, 1), so that Newton's method from c = 0 rises to c* without overshooting.

    Parameters
    ----------
    phi, sigma_w, sigma_b, kinks
        As in :func:`length_map`.

    Raises
    ------
    TypeError, ValueError
        As :func:`chi`.
    """
    sigma_w, sigma_b = _parameters(phi, kinks, sigma_w=sigma_w, sigma_b=sigma_b)
    shape = sigma_w.shape
    sigma_w, sigma_b = sigma_w.flatten(), sigma_b.flatten()
    q = limits(fixed_point(phi, sigma_w, sigma_b, kinks=kinks))
    square, tangent, length = activation_means(phi, q, kinks)
    gain = 1 / (square + (sigma_b / sigma_w) ** 2)
    slope = gain * q * tangent
    delta = torch.zeros_like(q)  # 1 − c*
    active = (slope > 1 + 1e-9).nonzero()[:, 0]
    delta[active] = 1.0
    for _ in range(60):
        if len(active) == 0:
            break
        at, g = delta[active], gain[active]
        distance, correlated = pair_means(phi, q[active], at, kinks)
        slope[active] = g * q[active] * correlated
        step = (g * distance - at) / (1 - slope[active])
        delta[active] = at + step
        active = active[step.abs() > 1e-12 * at]
    return DepthScales(
        _decay(sigma_w**2 * length).reshape(shape),
        _decay(slope).reshape(shape),
        1 - delta.reshape(shape),
    )


# --- what comes in --------------------------------------------------------------------------


def _parameters(phi: Activation, kinks: Sequence[float], **values: Tensor | float) -> list[Tensor]:
    """The parameters, broadcast together in float64; phi and kinks are checked as well."""
    if not callable(phi):
        raise TypeError(f"phi must be a function of a tensor, as torch.tanh, got {kind(phi)}")
    named = isinstance(kinks, Sequence) and len(kinks) > 0
    if not named or not all(isinstance(k, Real) and isfinite(k) for k in kinks):
        raise ValueError(f"kinks must be a tuple of finite numbers, one or more, got {kinks!r}")
    device = next((v.device for v in values.values() if isinstance(v, Tensor)), None)
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real | Tensor):
            raise TypeError(f"{name} must be a number or a tensor, got {kind(value)}")
        if isinstance(value, Tensor) and (value.is_complex() or value.dtype == torch.bool):
            raise TypeError(f"{name} must be real, got {kind(value)}")
        value = torch.as_tensor(value, dtype=torch.float64, device=device)
        words, allowed = RANGES[name]
        if not allowed(value).all():
            raise ValueError(f"{name} must be {words}, got {value[~allowed(value)][0]:g}")
        values[name] = value
    _elementwise(phi, device)
    try:
        return [v.clone() for v in torch.broadcast_tensors(*values.values())]
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(v.shape)}" for name, v in values.items())
        raise ValueError(f"the parameters must broadcast together, got {shapes}") from None


def _elementwise(phi: Activation, device: torch.device | None) -> None:
    x = torch.linspace(-2.9, 3.1, 80, dtype=torch.float64, device=device)
    try:
        whole, part = phi(x.clone()), phi(x[:40].clone())
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"phi must take a float64 tensor of any length, but stops: {error}; a module with "
            "parameters takes it after module.double()"
        ) from error
    same = isinstance(whole, Tensor) and whole.shape == x.shape and part.shape == x[:40].shape
    if not same or not torch.allclose(whole[:40], part, rtol=1e-9, equal_nan=True):
        raise ValueError(
            "phi must act on each element alone and keep the shape, but what it does to some "
            "numbers depends on others, or on chance: a normalisation or dropout is no activation"
        )


def _mean(value: Tensor, q: Tensor) -> Tensor:
    """A mean at variance q, infinite where it grows with q and q is."""
    return torch.where(q.isinf() & (value > HUGE), inf, value)


def _arguments(
    phi: Activation,
    kinks: Sequence[float],
    sigma_w: Tensor | float,
    sigma_b: Tensor | float,
    q: Tensor | float | None,
    c: Tensor | float,
) -> list[Tensor]:
    """σ_w, σ_b, q and c, broadcast together, with q* where q is None."""
    if q is None:
        q = fixed_point(phi, sigma_w, sigma_b, kinks=kinks)
    return _parameters(phi, kinks, sigma_w=sigma_w, sigma_b=sigma_b, q=q, c=c)


def _march(f: Search, q: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From q by factors, up where f > 0 and down where f < 0, until it is not, or q leaves bounds.

    Returns the last two q, and f at the last.
    """
    at = torch.arange(len(q), device=q.device)
    near, far, value = q.clone(), q.clone(), f(q, at)
    side = (factor - 1).sign()
    while len(at := at[(side * value > 0)[at] & (far > TINY)[at] & (far < HUGE)[at]]):
        near[at], far[at] = far[at], far[at] * factor[at]
        value[at] = f(far[at], at)
    return near, far, value


def _root(f: Search, low: Tensor, high: Tensor) -> Tensor:
    """Where f, positive at low and not at high, is zero, to rounding: Ridders' method in ln q."""
    a, b, at = low.log(), high.log(), torch.arange(len(low), device=low.device)
    fa, fb, x = f(low, at), f(high, at), a.clone()
    for _ in range(60):
        middle = (a[at] + b[at]) / 2
        fm = f(middle.exp(), at)
        bend = (fm.square() - fa[at] * fb[at]).sqrt()
        guess = middle + (middle - a[at]) * torch.where(bend > 0, fm / bend, 0.0)
        fg = f(guess.exp(), at)
        moved = (guess - x[at]).abs()
        x[at] = guess
        for y, fy in ((middle, fm), (guess, fg)):
            up, down = (fy > 0) & (y > a[at]), (fy <= 0) & (y < b[at])
            a[at[up]], fa[at[up]] = y[up], fy[up]
            b[at[down]], fb[at[down]] = y[down], fy[down]
        at = at[(moved > 4e-16 * (1 + guess.abs())) & (fg != 0)]
        if len(at) == 0:
            break
    return x.exp()


def _decay(slope: Tensor) -> Tensor:
    """−1/ln|slope|; infinite where nothing decays, to rounding."""
    return torch.where(slope.abs() < 1 - 1e-14, -1 / slope.abs().log(), inf)
