"""The tangent map of a step: how a step carries small deviations, and what it must not do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice, repeat

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import cpu_generator, first_bad, kind, whole
from dynbook.maps import Map, advance, can_be_called, states
from dynbook.orthonormal import all_finite, orthonormalize

Tangent = Callable[[Tensor], Tensor]
Push = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class LyapunovError(ArithmeticError):
    """An orbit or its tangent left the finite numbers; the message names the step and a remedy."""


def linearize(
    step: Map, x: Float[Tensor, "*b D"], count: int = 1
) -> tuple[Float[Tensor, "*b D"], Tangent]:
    """f(x), and the tangent map at x as a function: Y (..., D, k) to J(x) Y, all columns at once.

    The pull-back u ↦ Jᵀu is linear, and its own pull-back is J: two reverse sweeps make a forward
    one. It gives what ``torch.func.jvp`` gives, to rounding, in a fifth of the time for a step
    of many small operations, and in no more for any that was tried.

    Parameters
    ----------
    step : Map
        f, made of operations that autograd can differentiate; it is called once.
    x : Tensor (…, D)
        State.
    count : int
        Number of the step, for errors.

    Raises
    ------
    TypeError, ValueError
        If the step changes shape, dtype or device, or autograd sees no dependence on x.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        after = advance(step, x.clone(), count)  # a clone, for steps that work in place
        u = torch.zeros_like(after, requires_grad=True)
        pulled = None
        if after.requires_grad:
            (pulled,) = torch.autograd.grad(after, x, u, create_graph=True, allow_unused=True)
    if pulled is None:
        raise ValueError(
            f"step {count} must be differentiable, but autograd sees no dependence on its state: "
            "is there no_grad, inference_mode, detach or NumPy in it, or is it constant?"
        )

    def tangent(Y: Tensor) -> Tensor:
        if Y.shape[:-1] != x.shape:
            raise ValueError(f"Y must have shape {(*x.shape, 'k')}, got {tuple(Y.shape)}")
        if not pulled.requires_grad:  # J = 0 everywhere, as of sign(x)
            return torch.zeros_like(Y)
        along = Y.movedim(-1, 0)
        (pushed,) = torch.autograd.grad(
            pulled, u, along, retain_graph=True, is_grads_batched=True, allow_unused=True
        )
        return torch.zeros_like(Y) if pushed is None else pushed.movedim(0, -1)

    return after.detach(), tangent


def push_forward(
    step: Map, x: Float[Tensor, "*b D"], Y: Float[Tensor, "*b D k"], count: int = 1
) -> tuple[Float[Tensor, "*b D"], Float[Tensor, "*b D k"]]:
    """f(x) and J(x) Y; see :func:`linearize`."""
    after, tangent = linearize(step, x, count)
    return after, tangent(Y)


def first_frame(
    x0: Tensor, k: int | None, frame: Tensor | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """The first state, and the first frame: the one that is given, or a random one for all."""
    x = states("x0", x0)
    D = x.shape[-1]
    if frame is None:
        k = whole("k", D if k is None else k, most=D)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        cpu_generator(generator)
        drawn = torch.randn(D, k, generator=generator, dtype=torch.float64)
        return x, orthonormalize(drawn.to(x))[0].expand(*x.shape, k)
    states("frame", frame)
    k = whole("k", frame.shape[-1] if k is None else k, most=D)
    if frame.shape != (*x.shape, k):
        raise ValueError(f"frame must have shape {(*x.shape, k)}, got {tuple(frame.shape)}")
    if frame.dtype != x.dtype or frame.device != x.device:
        raise TypeError(f"frame must be {x.dtype} on {x.device} as x0 is; use frame.to(x0)")
    off = (frame.mT @ frame - torch.eye(k).to(x)).abs().max()
    if off > torch.finfo(x.dtype).eps ** (1 / 3):
        raise ValueError(
            f"frame must have orthonormal columns, but QᵀQ differs from 1 by {off:.2g}; "
            "orthonormalize(frame)[0] has them"
        )
    return x, frame.detach()


def pushes(steps: Map | Iterable[Map], n: int | None, transient: int) -> Iterator[Push]:
    """Each step in turn as a function of state and frame; the first is searched for mixing."""
    n = None if n is None else whole("n", n)
    if callable(steps):
        if n is None:
            raise ValueError(
                "n must be given with one map, which is iterated n times; "
                "for the layers of a network, steps=layers(network)"
            )
        steps = repeat(steps)
    elif not isinstance(steps, Iterable):
        raise TypeError(f"steps must be a map or an iterable of maps, got {kind(steps)}")
    stop = None if n is None else n + whole("transient", transient, least=0)
    number = 0
    for number, step in enumerate(islice(steps, stop), 1):
        yield partial(_push, can_be_called(f"step {number}", step), number)
    if stop is not None and number < stop:
        raise ValueError(f"steps must hold transient + n = {stop} maps, got {number}")


def _push(step: Map, number: int, x: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    after, tangent = linearize(step, x, number)
    if number == 1:
        _independent(tangent, x, Y)
    return after, tangent(Y)


def _independent(tangent: Tangent, x: Tensor, Y: Tensor) -> None:
    """Refuses a step that mixes an ensemble: tangents of member 0 must not move the others."""
    members = math.prod(x.shape[:-1])
    if members < 2:
        return
    first = torch.zeros(members, 1, dtype=torch.bool, device=x.device)
    first[0] = True
    first = first.view(*x.shape[:-1], 1)
    v = Y[..., 0]
    masked = torch.stack([torch.where(first, v, 0), torch.where(first, 0, v)], -1)
    moved = tangent(masked)
    leak = torch.where(first, moved[..., 1], moved[..., 0])
    if (leak != 0).any():
        raise ValueError(
            f"steps must not mix the members of an ensemble, but the first step does: in x0 of "
            f"shape {tuple(x.shape)} all dimensions but the last count independent systems; let "
            "the step act on the last dimension, or torch.vmap a step for one state"
        )


def within_range(x: Tensor | None, Y: Tensor, count: int, qr_every: int) -> None:
    """Refuses a state or frame after step number count that is not finite."""
    if x is not None and not all_finite(x):
        raise LyapunovError(
            f"the orbit left the finite numbers at step {count}, {first_bad(x)}: it diverges from "
            "this x0, or the step is too large"
        )
    if not all_finite(Y):
        raise _overflow(f"left the finite numbers at step {count}, {first_bad(Y)}", x, qr_every)


def next_frame(
    x: Tensor | None, Y: Tensor, count: int, qr_every: int, method: str
) -> tuple[Tensor, Tensor]:
    """Q and R of the tangents after step number count; refuses those whose lengths overflow."""
    try:
        return orthonormalize(Y, method)
    except OverflowError:
        raise _overflow(f"overflows at step {count}", x, qr_every) from None


def whole_rows(count: int, transient: int, qr_every: int) -> None:
    """Refuses a run of count steps that leaves no row of growth, or part of one."""
    if count <= transient or (count - transient) % qr_every:
        raise ValueError(
            f"there must be more steps than the transient ({transient}), by a multiple of "
            f"qr_every ({qr_every}); got {count} steps in all"
        )


def _overflow(what: str, x: Tensor | None, qr_every: int) -> LyapunovError:
    """What is wrong with a tangent, and the remedy."""
    orbit = "" if x is None else ", though the orbit did not"
    remedy = "the step has no derivative there, or an enormous one"
    if qr_every > 1:
        remedy = f"orthonormalise more often, by qr_every less than {qr_every}"
    return LyapunovError(f"the tangent {what}{orbit}: {remedy}")
