"""Random two-layer networks by the million, and their distance from a function.

A network h(x) = (1/n) Σ a_j σ(w_j·x − b_j) of the class H_n (`dynbook.rashomon`) is a tensor
(n, 2 + d), one row [a, b, w] per neuron; leading dimensions are independent networks. In one
dimension ‖h − f‖² = aᵀGa/n² − 2aᵀm/n + ‖f‖² comes without quadrature, for ReLU in closed form and
for smooth activations from their Chebyshev series.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import Interval, cpu_generator, finite, kind, whole
from dynbook.rare_events import Event
from dynbook.rashomon import Function, Target, positive, relative_error

Networks = Float[Tensor, "*s n c"]
Loss = Callable[[Tensor], Tensor]

BLOCK = 32_000  # neurons at a time: they stay in the cache, and below torch's threshold for threads


def draw_networks(
    count: int,
    n: int,
    amplitude: float,
    dim: int = 1,
    *,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Networks:
    """Networks drawn from H_n: a uniform in (−A, A), b in (−1, 1), w on the sphere, independent.

    Parameters
    ----------
    count, n, dim : int
        Number of networks and of neurons in each, and d.
    amplitude : float
        A > 0.
    generator : torch.Generator
        On the CPU; the networks are moved to the device.
    dtype, device
        Of the networks.

    Returns
    -------
    Tensor (count, n, 2 + d); samples lie last in memory.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or the generator is none on the CPU.
    """
    count, n, dim = whole("count", count), whole("n", n), whole("dim", dim)
    amplitude, rng = positive("amplitude", amplitude), cpu_generator(generator)
    x = torch.empty(2 + dim, n, count, dtype=dtype)
    x[0].uniform_(-amplitude, amplitude, generator=rng)
    if dim == 1:  # the sign and size of one number are independent
        x[1].uniform_(-2, 2, generator=rng)
        x[2].fill_(1.0).copysign_(x[1])
        x[1].abs_().sub_(1)
    else:
        x[1].uniform_(-1, 1, generator=rng)
        x[2:].normal_(generator=rng)
        x[2:] /= x[2:].norm(dim=0)
    return x.to(device).permute(2, 1, 0)


def one_neuron_move(networks: Networks, amplitude: float, generator: torch.Generator) -> Networks:
    """A step of a random walk in H_n, one neuron of each network: the uniform law is kept.

    The step's size is drawn anew each time, between 1/30 of the range and the whole of it, evenly
    in its logarithm, so that none need be tuned. a and b are reflected at the ends of their ranges;
    on the sphere w turns by as much. In one dimension the neuron's sign and the length s = 1 − b on
    which it is active walk together, as w s ∈ (−2, 2): a ReLU turns round where it is zero.

    Parameters
    ----------
    networks : Tensor (..., n, 2 + d)
    amplitude : float
        A.
    generator : torch.Generator
        On the CPU.
    """
    amplitude = positive("amplitude", amplitude)
    if networks.ndim < 3 or networks.shape[-1] < 3 or networks.shape[-2] < 1:
        raise ValueError(f"networks must have shape (..., n, 2 + d), got {tuple(networks.shape)}")
    flat = networks.flatten(0, -3)
    count, n, width = flat.shape
    rng = {"generator": cpu_generator(generator), "dtype": networks.dtype}
    draws = torch.rand(4, count, **rng).to(networks.device)
    j = (draws[0] * n).long().clamp(max=n - 1)
    size = 0.03 ** draws[1]
    step = (2 * draws[2:] - 1) * size
    rows = torch.arange(count, device=networks.device)
    a, b, *w = flat[rows, j].unbind(-1)
    if not (a.abs() <= amplitude).all():
        raise ValueError(f"networks must have |a| ≤ {amplitude:g}, got {a.abs().max():g}")
    a = _reflect(a + 2 * amplitude * step[0], amplitude)
    if width == 3:
        z = _reflect((1 - b) * w[0] + 4 * step[1], 2.0)
        neuron = [a, 1 - z.abs(), torch.where(z < 0, -1.0, 1.0).to(a)]
    else:
        turned = torch.randn(len(w), count, **rng).to(networks.device) * size + torch.stack(w)
        neuron = [a, _reflect(b + 2 * step[1], 1.0), *(turned / turned.norm(dim=0))]
    moved = flat.clone()
    moved[rows, j] = torch.stack(neuron, -1)
    return moved.view(networks.shape)


def _reflect(x: Tensor, bound: float) -> Tensor:
    """x folded back into [−bound, bound]; x may leave it by up to twice the bound."""
    x = torch.where(x > bound, 2 * bound - x, x)
    return torch.where(x < -bound, -2 * bound - x, x)


def network_values(
    networks: Networks, x: Float[Tensor, "m d"], activation: Function = torch.relu
) -> Float[Tensor, "*s m"]:
    """Values h(x_k) = (1/n) Σ a_j σ(w_j·x_k − b_j) of each network at each point."""
    a, b, w = networks[..., 0], networks[..., 1], networks[..., 2:]
    psi = activation(torch.addmm(-b.reshape(-1, 1), w.reshape(-1, w.shape[-1]), x.mT))
    terms = psi.view(-1, a.shape[-1], len(x)) * a.reshape(-1, a.shape[-1], 1)
    return terms.mean(1).view(*a.shape[:-1], len(x))


def relu_loss(target: Target) -> Loss:
    r"""The function networks (S, n, 3) ↦ ‖h − f‖² (S,) for ReLU in one dimension, in closed form.

    A neuron that looks left is one that looks right and an affine function: with the kink t = w b
    and s = 1 − t, (t − x)₊ = (x − t)₊ − (x − t). For those that look right

    .. math::

        \langle (x - t_i)_+, (x - t_j)_+ \rangle = \tfrac16 m^2 (3M - m), \qquad
        m = \min(s_i, s_j), \; M = \max(s_i, s_j),

    a sum of positive terms; ⟨h, f⟩ = (1/n) Σ a_j g(t_j), as f is orthogonal to affine functions.
    Rounding is about 1e-15 A² in float64. Neurons must have |b| ≤ 1, as those of H_n.

    Raises
    ------
    ValueError
        If the target is not one-dimensional, or a network is given that is not of the class.
    """
    _one_dimensional(target)

    def block(c: Tensor, b: Tensor, w: Tensor) -> Tensor:
        t = w * b
        s = 1 - t
        left = c * (w < 0)
        slope = left.sum(0)
        height = -(left * s).sum(0)  # of the affine part at x = 1, where y = 1 − x = 0
        total = 2 * height**2 + 4 * height * slope + 8 / 3 * slope**2
        cs = c * s
        total += (cs * s * (cs / 3 + height + slope * s / 3)).sum(0)
        for k in range(1, len(c)):
            m = torch.minimum(s[k:], s[:-k])
            pair = torch.maximum(s[k:], s[:-k]).mul_(3).sub_(m).mul_(m).mul_(m)
            total += pair.mul_(c[k:]).mul_(c[:-k]).sum(0).div_(3)
        ridge = target.g(t.view(-1, 1)).view_as(t)
        return total.sub_((c * ridge).sum(0), alpha=2).add_(target.norm**2)

    return lambda networks: _by_blocks(block, networks)


def smooth_loss(target: Target, activation: Function, *, tol: float = 1e-12) -> Loss:
    """The function networks (S, n, 3) ↦ ‖h − f‖² (S,), for a smooth activation in one dimension.

    σ(±x − b) = Σ_k c_k(±x) T_k(b), a Chebyshev series that ends where its terms fall below tol of
    the first. So h lies in a space of some 50 dimensions, the span of c_k(x) ± c_k(−x), in which
    an orthonormal basis is found once: the loss is the distance there, plus the part of f outside.

    Parameters
    ----------
    target : Target
        One-dimensional.
    activation : callable
        Elementwise, smooth on (−2, 2): torch.tanh, torch.sin, lambda t: torch.exp(-(t**2)), …
    tol : float
        Relative size of the terms left out; the error of the loss is about tol·A².

    Raises
    ------
    ValueError
        If the target is not one-dimensional, the series does not end within 128 terms, or a network
        is given with |b| > 1.
    """
    _one_dimensional(target)
    terms = 128
    b = ((torch.arange(2 * terms, dtype=torch.float64) + 0.5) * math.pi / (2 * terms)).cos()
    x, weights = Interval().quadrature(2000)
    grid = finite("activation", activation(x - b).detach())
    series = torch.from_numpy(np.polynomial.chebyshev.chebvander(b.numpy(), terms - 1))
    c = grid @ series / terms  # (points, terms)
    c[:, 0] /= 2
    sizes = c.abs().amax(0)
    positive("the largest |σ|", sizes.max().item(), "an activation that is zero sees nothing")
    kept = int((sizes > tol * sizes.max()).nonzero()[-1]) + 1
    if kept > terms - 4:
        raise ValueError(
            f"activation must be smooth: term {terms} of its Chebyshev series is still "
            f"{sizes[-4:].max() / sizes.max():.0e} of the largest; use relu_loss for ReLU and "
            "quadrature_loss for other kinks"
        )
    c = c[:, :kept]
    even, odd = (c + c.flip(0)) / 2, (c - c.flip(0)) / 2  # the rule's points are symmetric
    root = weights.sqrt()
    basis, R = torch.linalg.qr(root[:, None] * torch.cat([even, odd], 1))
    inside = basis.mT @ (root * target.f(x).detach())
    outside = max(target.norm**2 - float(inside @ inside), 0.0)

    def block(c: Tensor, b: Tensor, w: Tensor) -> Tensor:
        signed, before, now = c * w, torch.ones_like(b), b
        sums = [c.sum(0), (c * b).sum(0)]
        odds = [signed.sum(0), (signed * b).sum(0)]
        for _ in range(2, kept):
            before, now = now, (2 * b).mul_(now).sub_(before)
            sums.append((c * now).sum(0))
            odds.append((signed * now).sum(0))
        where = R.to(b) @ torch.stack(sums[:kept] + odds[:kept]) - inside.to(b)[:, None]
        return where.square_().sum(0).add_(outside)

    return lambda networks: _by_blocks(block, networks)


def quadrature_loss(
    target: Target, activation: Function = torch.relu, *, points: int = 2000
) -> Loss:
    """The function networks (S, n, 2 + d) ↦ ‖h − f‖² (S,), in any dimension, for any activation.

    By the quadrature of the target's domain, whose error for kinks falls like 1/points: on the disk
    5000 points give 3e-5 of a neuron's square. It takes n times points operations per network.
    """
    x, weights = target.domain.quadrature(points)
    values = target.f(x).detach()

    def loss(networks: Tensor) -> Tensor:
        _networks(networks, target.dim)
        n = networks.shape[-2]
        at, f, weight = (v.to(networks) for v in (x, values, weights))
        size = max(1, BLOCK // (n * len(x)))
        parts = networks.flatten(0, -3).split(size)
        off = [(network_values(part, at, activation) - f).square_() @ weight for part in parts]
        return torch.cat(off).view(networks.shape[:-2])

    return loss


def rashomon_event(
    target: Target,
    n: int,
    amplitude: float,
    activation: Function | None = None,
    *,
    loss: Loss | None = None,
    device: torch.device | str = "cpu",
) -> Event:
    """The Rashomon set as a rare event: networks of H_n, scored by their relative error.

    The score is ‖h − f‖/‖f‖, so that its probability at level ε in (0, 1) is that of the set; see
    :func:`dynbook.rare_events.probability_mc` and :func:`dynbook.rare_events.subset_simulation`.

    Parameters
    ----------
    target : Target
    n : int
        Number of neurons.
    amplitude : float
        A > 0.
    activation : callable, optional
        Default: ReLU.
    loss : callable, optional
        Networks (S, n, 2 + d) to ‖h − f‖² (S,). Default: in one dimension :func:`relu_loss` or
        :func:`smooth_loss`, on the disk and the ball :func:`quadrature_loss`.
    device : torch.device or str
        Where the networks are scored; they are drawn on the CPU.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or the activation has a kink in one dimension.
    """
    n, amplitude = whole("n", n), positive("amplitude", amplitude)
    norm = positive("target.norm", target.norm, "f = 0 has no relative error")
    if loss is not None and activation is not None:
        raise ValueError("give an activation or a loss, not both: the loss decides")
    if loss is None:
        if target.dim > 1:
            loss = quadrature_loss(target, activation or torch.relu)
        else:
            loss = smooth_loss(target, activation) if activation else relu_loss(target)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        return draw_networks(count, n, amplitude, target.dim, generator=generator, device=device)

    return Event(
        draw=draw,
        score=lambda networks: loss(networks).clamp(min=0).sqrt_().div_(norm),
        move=lambda networks, generator: one_neuron_move(networks, amplitude, generator),
        check=lambda levels: [relative_error(eps) for eps in levels.flatten().tolist()],
    )


def _by_blocks(block: Callable, networks: Tensor) -> Tensor:
    """block(a/n, b, w), each (n, S), over the networks, some at a time."""
    _networks(networks, 1)
    flat = networks.flatten(0, -3)
    out = flat.new_empty(len(flat))
    n = flat.shape[1]
    size = max(1, BLOCK // n) if flat.device.type == "cpu" else len(flat)
    for start in range(0, len(flat), size):
        a, b, w = (v.mT.contiguous() for v in flat[start : start + size].unbind(-1))
        if not ((b.abs() <= 1 + 1e-6) & (w.abs() == 1) & a.isfinite()).all():
            raise ValueError(
                "networks must have finite a, |b| ≤ 1 and w = ±1 in one dimension; quadrature_loss "
                "takes others"
            )
        out[start : start + size] = block(a / n, b, w)
    return out.view(networks.shape[:-2])


def _networks(networks: Tensor, dim: int) -> None:
    if not isinstance(networks, Tensor) or not networks.is_floating_point():
        raise TypeError(f"networks must be a floating-point tensor, got {kind(networks)}")
    if networks.ndim < 3 or networks.shape[-1] != 2 + dim or networks.shape[-2] < 1:
        raise ValueError(
            f"networks must have shape (S, n, {2 + dim}), rows [a, b, w] in {dim} dimensions, got "
            f"{tuple(networks.shape)}"
        )


def _one_dimensional(target: Target) -> None:
    if target.dim != 1:
        raise ValueError(
            f"target must be one-dimensional, got d = {target.dim}; use quadrature_loss"
        )
