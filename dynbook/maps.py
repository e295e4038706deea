"""A system is a map: layers, time steps, a step of gradient descent, and their orbits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dynbook.domains import first_bad, kind, whole
from dynbook.orthonormal import all_finite

Map = Callable[[Tensor], Tensor]
"""One step x ↦ x' on (..., D). Leading dimensions are an ensemble, whose members do not see each
other; ``torch.vmap(step)`` makes such a map of one that is written for a single state (D,)."""


class OrbitError(ArithmeticError):
    """An orbit left the finite numbers; the message names the step."""


def layers(network: nn.Module | Iterable[Map]) -> list[Map]:
    """The maps that a network composes, in their order: depth as time.

    What has no parameters (an activation, Flatten, Dropout at rest) joins the layer before it, or
    the first layer if it comes first: Sequential(Linear, Tanh, Linear, Tanh, Linear) is three
    maps, the last of them affine. A list is taken as it is.

    Parameters
    ----------
    network : torch.nn.Sequential, or iterable of maps
        A Sequential may hold others; they are opened, unless they do more than apply their parts
        in turn: a class with a forward of its own, as a residual block, or one with hooks, is one
        layer.

    Raises
    ------
    TypeError
        If network is another kind of module, whose order of layers cannot be known, or something
        in it cannot be called.
    ValueError
        If it is empty, or something in it behaves as in training (Dropout and RReLU are random
        then, and BatchNorm mixes the members of a batch).
    """
    if isinstance(network, nn.Module) and not _is_chain(network):
        raise TypeError(
            "network must be a torch.nn.Sequential, with neither hooks nor a forward of its own, "
            f"or a list of maps, got {type(network).__name__}: give its layers in their order, "
            "layers([net.first, net.second])"
        )
    if not isinstance(network, Iterable):
        raise TypeError(f"network must be a torch.nn.Sequential or a list, got {kind(network)}")
    parts = list(network)
    if not parts:
        raise ValueError("network must have at least one layer, got none")
    for number, part in enumerate(parts):
        at_rest(can_be_called(f"layer {number}", part))
    if not isinstance(network, nn.Module):
        return parts
    groups: list[list[nn.Module]] = [[]]
    for module in opened(network):
        if _has_weights(module) and any(map(_has_weights, groups[-1])):
            groups.append([])
        groups[-1].append(module)
    return [group[0] if len(group) == 1 else nn.Sequential(*group) for group in groups]


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _is_chain(network: Map) -> bool:
    """Whether its parts, one after the other, are all that it does."""
    if isinstance(network, nn.ModuleList):
        return True
    plain = getattr(type(network), "forward", None) is nn.Sequential.forward
    return plain and not (network._forward_hooks or network._forward_pre_hooks)


def opened(network: Map) -> list[Map]:
    """The modules that chains within chains hold, in their order."""
    if _is_chain(network):
        return [part for child in network for part in opened(child)]
    return [network]


def at_rest(part: Map) -> None:
    """Refuses a module in which something behaves as in training."""
    unrest = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RReLU)
    for module in part.modules() if isinstance(part, nn.Module) else ():
        if isinstance(module, unrest) and module.training:
            raise ValueError(
                f"network must be at rest, but its {type(module).__name__} behaves as in training; "
                "call network.eval() first"
            )


def euler(field: Map, dt: float | Tensor) -> Map:
    """Euler's step x ↦ x + Δt f(x) for dx/dt = f(x); its error after a fixed time is O(Δt).

    Parameters
    ----------
    field : callable
        f on (..., D), the same leading dimensions as a map.
    dt : float or Tensor
        Time step Δt ≠ 0, one for all or broadcast against the states; negative goes back in time.

    Raises
    ------
    ValueError
        If dt is zero or not finite and, at a step, if f does not keep the shape.
    """
    dt, field = _time_step(dt), _rate("field", field)
    return lambda x: x + dt * field(x)


def rk4(field: Map, dt: float | Tensor) -> Map:
    """The classical fourth-order Runge–Kutta step for dx/dt = f(x); error O(Δt⁴).

    Parameters and errors are those of :func:`euler`.
    """
    dt, field = _time_step(dt), _rate("field", field)

    def step(x: Tensor) -> Tensor:
        k1 = field(x)
        k2 = field(x + dt / 2 * k1)
        k3 = field(x + dt / 2 * k2)
        k4 = field(x + dt * k3)
        return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return step


def leapfrog(force: Map, dt: float | Tensor) -> Map:
    """Kick, drift, kick for q'' = F(q), unit mass, on x = (q, p); error O(Δt²).

    p½ = p + Δt/2 F(q), q' = q + Δt p½, p' = p½ + Δt/2 F(q'). Where F is a gradient the map is
    symplectic, so that its exponents come in pairs ±λ.

    Parameters
    ----------
    force : callable
        F from (..., m) to (..., m).
    dt : float or Tensor
        As for :func:`euler`.

    Raises
    ------
    ValueError
        If dt is zero or not finite and, at a step, if the last dimension is odd or F does not keep
        the shape.
    """
    dt, force = _time_step(dt), _rate("force", force)

    def step(x: Tensor) -> Tensor:
        if x.shape[-1] % 2:
            raise ValueError(
                "leapfrog acts on x = (q, p) with as many momenta as positions, got "
                f"shape {tuple(x.shape)}: the last dimension must be even"
            )
        q, p = x.chunk(2, -1)
        p = p + dt / 2 * force(q)
        q = q + dt * p
        return torch.cat([q, p + dt / 2 * force(q)], -1)

    return step


def gradient_descent(
    loss: Callable[[Tensor], Tensor], lr: float | Tensor, momentum: float | Tensor = 0.0
) -> Map:
    """A step of gradient descent, θ' = θ − η∇L(θ).

    With momentum it is Polyak's heavy ball :cite:p:`polyak1964`, a map on the doubled state
    x = (θ, v): v' = βv − η∇L(θ), θ' = θ + v'. It starts from rest at
    ``torch.cat([theta, torch.zeros_like(theta)], -1)``.

    Parameters
    ----------
    loss : callable
        L from (..., p) to (...): one number per member, of operations that autograd can
        differentiate, twice for the tangent of the step. A member's number must depend on that
        member alone, which is not checked: of a loss that mixes them, as by a mean over members,
        the step follows the gradient of the sum. ``torch.vmap(loss)``, which cannot mix them, makes
        such a loss of one for a single θ, :func:`dynbook.descent.module_loss` of a network. It gets
        a copy of θ, and may work in place.
    lr : float or Tensor
        Learning rate η > 0, one for all or broadcast against θ: a column (V, 1) gives each of V
        members its own.
    momentum : float or Tensor
        β in [0, 1). The number 0 leaves the state θ as it is; a tensor, broadcast as lr, doubles
        it whatever it holds.

    Raises
    ------
    TypeError
        If loss cannot be called, lr or momentum is not a number or a tensor and, at a step, if
        the state or the loss is no real floating-point tensor.
    ValueError
        If lr is not positive and finite or momentum lies outside [0, 1); and, at a step, if the
        state has no dimension, the loss is not one number per member, autograd sees no dependence
        on θ, lr or momentum does not fit the state, or a doubled state has odd dimension.
    """
    can_be_called("loss", loss)
    learning_rate(lr)
    _each("momentum", momentum, lambda value: (value >= 0) & (value < 1), "in [0, 1)")
    if isinstance(momentum, Real) and momentum == 0:
        return lambda x: x - _scaled("lr", lr, gradient(loss, x))

    def heavy_ball(x: Tensor) -> Tensor:
        if _parameters(x).shape[-1] % 2:
            raise ValueError(
                "with momentum the state is (θ, v), as many velocities as parameters, got shape "
                f"{tuple(x.shape)}: start from torch.cat([theta, torch.zeros_like(theta)], -1)"
            )
        theta, v = x.chunk(2, -1)
        v = _scaled("momentum", momentum, v) - _scaled("lr", lr, gradient(loss, theta))
        return torch.cat([theta + v, v], -1)

    return heavy_ball


def gradient(
    loss: Callable[[Tensor], Tensor], theta: Float[Tensor, "*b p"]
) -> Float[Tensor, "*b p"]:
    """∇L of every member; also under ``no_grad`` and within the transforms of ``torch.func``.

    It can be differentiated again if θ requires a gradient.

    Parameters and errors are those of :func:`gradient_descent`.
    """
    again = _parameters(theta).requires_grad and torch.is_grad_enabled()
    with torch.enable_grad():
        try:
            leaf = (theta if again else theta.detach()).requires_grad_()
        except RuntimeError:  # within vmap, jvp, …, which take no other gradient than their own
            return torch.func.grad(lambda theta: _losses(loss, theta).sum())(theta)
        value = _losses(loss, leaf).sum()
        (slope,) = torch.autograd.grad(value, leaf, create_graph=again, allow_unused=True)
    return _no_dependence() if slope is None else slope


def _losses(loss: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    """The members' losses, if gradient descent can do something with them."""
    value = loss(theta.clone())
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"loss must return a real tensor, made by torch, got {_described(value)}")
    if value.shape != theta.shape[:-1]:
        raise ValueError(
            f"loss must return one number per member, shape {tuple(theta.shape[:-1])} for "
            f"parameters {tuple(theta.shape)}, got {tuple(value.shape)}; torch.vmap(loss) does so "
            "if loss serves a single θ"
        )
    return value if value.requires_grad else _no_dependence()


def _parameters(theta: Tensor) -> Tensor:
    """θ itself, if it can have a gradient; NaN, as of members that diverged, are let through."""
    if not isinstance(theta, Tensor) or not theta.is_floating_point():
        raise TypeError(f"θ must be a real floating-point tensor, got {_described(theta)}")
    if theta.ndim == 0:
        raise ValueError("θ must have shape (..., p), got one number; give theta[None]")
    return theta


def _no_dependence() -> Tensor:
    raise ValueError(
        "loss must be differentiable, but autograd sees no dependence on θ: is there no_grad, "
        "inference_mode, detach, .data, rounding or NumPy in it, or is it constant?"
    )


def _each(name: str, value: float | Tensor, test: Callable[[Tensor], Tensor], range_: str) -> None:
    """Refuses a number, or a tensor with an entry, that is out of its range."""
    if not isinstance(value, (Real, Tensor)):
        raise TypeError(f"{name} must be a number or a tensor, got {kind(value)}")
    entries = torch.as_tensor(value).flatten()
    if entries.is_complex():
        raise ValueError(f"{name} must be real and {range_}, got {entries[0].item()}")
    if not (good := test(entries)).all():
        raise ValueError(f"{name} must be {range_}, got {entries[~good][0].item():g}")


def learning_rate(lr: float | Tensor) -> float | Tensor:
    """lr itself, if it is positive and finite."""
    _each("lr", lr, lambda value: (value > 0) & (value < math.inf), "positive and finite")
    return lr


def _scaled(name: str, factor: float | Tensor, x: Tensor) -> Tensor:
    """factor · x."""
    return fitting(name, factor, x) * x


def fitting(name: str, factor: float | Tensor, x: Tensor) -> float | Tensor:
    """The factor itself, if its product with x has the shape of x."""
    shape = getattr(factor, "shape", ())
    sides = zip(reversed(shape), reversed(x.shape), strict=False)
    if len(shape) > x.ndim or any(a not in (1, b) for a, b in sides):
        raise ValueError(
            f"{name} must fit parameters of shape {tuple(x.shape)}, got shape {tuple(shape)}; "
            f"one number for each member is a column, shape {(*x.shape[:-1], 1)}"
        )
    return factor


def _time_step(dt: float | Tensor) -> float | Tensor:
    if not isinstance(dt, (Real, Tensor)):
        raise TypeError(f"dt must be a number or a tensor, got {kind(dt)}")
    value = torch.as_tensor(dt)
    if value.is_complex() or not (value.isfinite() & (value != 0)).all():
        raise ValueError(f"dt must be finite and not zero, got {dt!r:.60}")
    return dt


def _rate(name: str, f: Map) -> Map:
    """f, refused where its result would be broadcast instead of added."""
    can_be_called(name, f)

    def rate(x: Tensor) -> Tensor:
        y = f(x)
        if getattr(y, "shape", None) != x.shape:
            raise ValueError(
                f"{name} must return a tensor of the shape it is given, {tuple(x.shape)}, got "
                f"{_described(y)}; torch.vmap({name}) serves ensembles if {name} serves one state"
            )
        return y

    return rate


@torch.no_grad()
def iterate(
    step: Map, x0: Float[Tensor, "*b D"], n: int, *, every: int = 1
) -> Float[Tensor, "T *b D"]:
    """The orbit x0, f(x0), f(f(x0)), … of n steps, of which every so many-th state is kept.

    No gradient is recorded.

    Parameters
    ----------
    step : Map
        f; it may not change shape or dtype.
    x0 : Tensor (..., D)
        Start, or starts along leading dimensions, float32 or float64.
    n, every : int
        Number of steps, and steps from one kept state to the next.

    Returns
    -------
    Tensor (1 + n // every, …, D)
        States 0, every, 2·every, … .

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or size, or the step changes shape or dtype.
    OrbitError
        If the orbit leaves the finite numbers.
    """
    n, every = whole("n", n, least=0), whole("every", every)
    x, step = states("x0", x0).clone(), can_be_called("step", step)
    orbit = x.new_empty(1 + n // every, *x.shape)
    orbit[0] = x
    for count in range(1, n + 1):
        x = advance(step, x, count)
        if not all_finite(x):
            raise OrbitError(
                f"the orbit left the finite numbers at step {count}, {first_bad(x)}; it diverges "
                "from this x0, or the step is too large"
            )
        if count % every == 0:
            orbit[count // every] = x
    return orbit


@torch.no_grad()
def orbit_diagram(
    make_step: Callable[[Tensor], Map],
    x0: Float[Tensor, " D"],
    values: Float[Tensor, " V"],
    *,
    n: int,
    transient: int = 0,
    observe: Callable[[Tensor], Tensor] = lambda x: x[..., 0],
) -> Float[Tensor, "V n"]:
    """What an orbit visits, for every value of a parameter: all orbits advance together.

    Parameters
    ----------
    make_step : callable
        Takes the values as a column (V, 1) and returns one map on (V, D).
    x0 : Tensor (D,)
        The start of every orbit.
    values : Tensor (V,)
        The parameter.
    n, transient : int
        Steps recorded, and steps before them that are not.
    observe : callable
        From states (V, D) to what is recorded of them, (V,); the first coordinate if not given.

    Returns
    -------
    Tensor (V, n)
        Row v: the observable after steps transient + 1, …, transient + n at values[v].

    Raises
    ------
    TypeError, ValueError
        As for :func:`iterate`; or if shapes do not fit.
    OrbitError
        If an orbit leaves the finite numbers; it names the step and the value.
    """
    n, transient = whole("n", n), whole("transient", transient, least=0)
    states("x0", x0), states("values", values), can_be_called("observe", observe)
    if x0.ndim != 1 or values.ndim != 1:
        raise ValueError(
            "x0 must have shape (D,) and values (V,), got "
            f"{tuple(x0.shape)} and {tuple(values.shape)}"
        )
    step = can_be_called("make_step", make_step)(values[:, None])
    can_be_called("what make_step returns", step)
    x = x0.expand(len(values), -1).clone()
    record = x.new_empty(len(values), n)
    for count in range(1, transient + n + 1):
        x = advance(step, x, count)
        lost = ~x.isfinite().all(-1)
        if lost.any():
            raise OrbitError(
                f"the orbit at the value {values[lost][0]:g} left the finite numbers at step "
                f"{count}; leave such values out, or start closer to the attractor"
            )
        if count > transient:
            seen = observe(x)
            if getattr(seen, "shape", None) != values.shape or seen.is_complex():
                raise ValueError(
                    f"observe must turn states {tuple(x.shape)} into real numbers of shape "
                    f"{tuple(values.shape)}, got {_described(seen)}"
                )
            record[:, count - transient - 1] = seen
    return record


def can_be_called(name: str, f: object) -> Callable:
    """f itself, if it is a function."""
    if not callable(f):
        raise TypeError(f"{name} must be a function that can be called, got {kind(f)}")
    return f


def states(name: str, x: object) -> Tensor:
    """x itself, if it can be states (..., D): finite, float32 or float64."""
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{name} must be a float32 or float64 tensor, got {kind(x)}; float64 is the one to "
            "choose where there is no reason against it"
        )
    if x.layout != torch.strided:
        raise TypeError(f"{name} must be dense, got {x.layout}; use {name}.to_dense()")
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(
            f"{name} must have at least one entry and one dimension, got {tuple(x.shape)}"
        )
    if not x.isfinite().all():
        raise ValueError(f"{name} must be finite, got {first_bad(x)}")
    return x.detach().clone() if x.is_inference() else x.detach()


def advance(step: Map, x: Tensor, count: int) -> Tensor:
    """The state after step number count, if that step keeps shape, dtype and device."""
    try:
        after = step(x)
    except RuntimeError as error:
        raise ValueError(f"step {count} must take {_described(x)}, but stops: {error}") from error
    if not isinstance(after, Tensor):
        raise TypeError(f"step {count} must return a tensor, got {kind(after)}")
    if after.shape != x.shape:
        raise ValueError(
            f"step {count} must keep the shape of its state, but takes {tuple(x.shape)} to "
            f"{tuple(after.shape)}; where layers change width, dynbook.ftle has their exponents"
        )
    if after.dtype != x.dtype or after.device != x.device:
        raise TypeError(
            f"step {count} must keep dtype and device of its state, but takes {x.dtype} on "
            f"{x.device} to {after.dtype} on {after.device}; give x0 those of the map"
        )
    return after


def _described(x: object) -> str:
    """What came and its shape, for an error's text."""
    return kind(x) + (f" of shape {tuple(x.shape)}" if isinstance(x, Tensor) else "")
