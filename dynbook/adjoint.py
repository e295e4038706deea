"""Gradients backwards in time: from states that were kept, reversed, or solved for again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import finite, kind
from dynbook.maps import Map, OrbitError, can_be_called
from dynbook.orthonormal import all_finite

Layer = Callable[[Tensor, Tensor], Tensor]
"""A step with parameters, (x, θ) ↦ x'; x is (..., D), and θ of any shape the layer understands."""


def reversed_states(
    inverse: Layer, theta: Float[Tensor, " L *p"], x: Float[Tensor, "*b D"]
) -> Iterator[Float[Tensor, "*b D"]]:
    """What entered each layer, the last one first, found from what left the last.

    One state is held at a time, so that memory does not grow with depth.

    Parameters
    ----------
    inverse : Layer
        (x', θ) ↦ x: undoes a layer. A step of a differential equation is undone, but for its
        own error, by the step −Δt.
    theta : Tensor (L, …)
        Parameters, a row for each layer.
    x : Tensor (…, D)
        The last state.

    Raises
    ------
    TypeError, ValueError
        At the first state, if inverse cannot be called or x is not finite.
    OrbitError
        If the orbit leaves the finite numbers on its way back; it names the layer.
    """
    can_be_called("inverse", inverse)
    finite("x", x)
    for number in reversed(range(len(theta))):
        with torch.no_grad():
            x = inverse(x, theta[number])
        if not all_finite(x):
            raise OrbitError(
                f"the orbit left the finite numbers on its way back, at layer {number}: backwards "
                "its contracting directions expand; keep the states of the way forward instead"
            )
        yield x


def pull_back(
    layer: Layer,
    theta: Float[Tensor, " L *p"],
    states: Iterable[Float[Tensor, "*b D"]],
    slope: Float[Tensor, "*b D"],
) -> tuple[Float[Tensor, "*b D"], Float[Tensor, " L *p"]]:
    """Backpropagation, one layer at a time: only this layer's intermediate values are held.

    With the slope g_L = ∂ℓ/∂x_L of a loss, g_{k−1} = (∂x_k/∂x_{k−1})ᵀ g_k, and layer k has the
    gradient (∂x_k/∂θ_k)ᵀ g_k. It is exact if the states are.

    Parameters
    ----------
    layer : Layer
        (x, θ) ↦ x'.
    theta : Tensor (L, …)
        Parameters, a row for each layer. Of layers that share θ, ``theta.expand(L, -1)``, the
        gradient is the sum of the rows.
    states : iterable of Tensors (…, D)
        What entered each layer, the last one first: ``orbit[:-1].flip(0)`` if the orbit was kept,
        :func:`reversed_states` if not.
    slope : Tensor (…, D)
        g_L.

    Returns
    -------
    Tensor (…, D), Tensor (L, …)
        Gradients with respect to x_0 and to θ; that of θ is summed over what shares it.

    Raises
    ------
    TypeError, ValueError
        If layer cannot be called, states and parameters differ in number, or the slope is not
        shaped as the states.
    OrbitError
        If the gradient leaves the finite numbers; it names the layer.
    """
    can_be_called("layer", layer)
    gradient, number = torch.empty_like(theta), len(theta)
    for x in states:
        if x.shape != slope.shape:
            raise ValueError(
                f"slope must have the shape of the states, {tuple(x.shape)}, got "
                f"{tuple(slope.shape)}"
            )
        number -= 1
        if number < 0:
            break
        with torch.enable_grad():
            x, own = x.detach().requires_grad_(), theta[number].detach().requires_grad_()
            slope, gradient[number] = torch.autograd.grad(layer(x, own), (x, own), slope)
        if not (all_finite(slope) and all_finite(gradient[number])):
            raise OrbitError(
                f"the gradient left the finite numbers on its way back, at layer {number}: it "
                "explodes, or the state or θ there is not finite"
            )
    if number:
        came = "more" if number < 0 else len(theta) - number
        raise ValueError(
            f"states must be {len(theta)}, what entered each layer and not what left the last, "
            f"got {came}"
        )
    return slope, gradient


def adjoint_field(field: Layer, theta: Float[Tensor, "*b p"]) -> Map:
    """The field whose solution, followed backwards, is the gradient of a neural ODE.

    For x' = f(x, θ) and a loss ℓ(x(T)) it acts on s = (x, a, g),

        x' = f,   a' = −(∂f/∂x)ᵀ a,   g' = −(∂f/∂θ)ᵀ a ,

    from s(T) = (x(T), ∂ℓ/∂x(T), 0) back to s(0) = (x(0), ∂ℓ/∂x(0), ∂ℓ/∂θ)
    :cite:p:`chen2018`. Any solver will do: ``iterate(rk4(adjoint_field(f, theta), -dt), s, n)``.

    Parameters
    ----------
    field : callable
        f(x, θ) for one state (D,) and θ (p,), made of what autograd can differentiate. Time, if f
        needs it, is one more coordinate of x.
    theta : Tensor (…, p)
        Parameters, one vector for all or one for each member of an ensemble.

    Returns
    -------
    Map
        On (..., 2D + p): members are solved together and have a gradient each.

    Raises
    ------
    TypeError, ValueError
        If field cannot be called, θ holds no vectors and, at a step, if the state has not 2D + p
        entries, or leading dimensions against which those of θ cannot be broadcast.
    """
    can_be_called("field", field)
    if not isinstance(theta, Tensor) or theta.ndim == 0 or not theta.is_floating_point():
        raise TypeError(f"theta must be a real tensor of shape (..., p), got {kind(theta)}")
    theta, p = theta.detach(), theta.shape[-1]

    def single(s: Tensor, theta: Tensor) -> Tensor:
        x, a, _ = s.split([(len(s) - p) // 2] * 2 + [p])
        rate, pull = torch.func.vjp(field, x, theta)
        return torch.cat([rate, *(-part for part in pull(a))])

    def rates(s: Tensor) -> Tensor:
        rest = s.shape[-1] - p
        if rest < 2 or rest % 2:
            raise ValueError(
                f"the state must be (x, a, g) with 2D + p = 2D + {p} entries, got shape "
                f"{tuple(s.shape)}"
            )
        states = s.reshape(-1, s.shape[-1])
        try:
            members = theta.expand(*s.shape[:-1], p).reshape(len(states), p)
        except RuntimeError:
            raise ValueError(
                "theta must be one vector, or one for each member, in the leading dimensions of "
                f"the state: got shapes {tuple(theta.shape)} and {tuple(s.shape)}"
            ) from None
        return torch.vmap(single)(states, members).reshape(s.shape)

    return rates
