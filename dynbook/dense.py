"""Networks of linear layers and elementwise activations, pushed forward with their tangents.

Points and tangents of a chunk lie one upon the other, so that a layer is one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.functional import linear

from dynbook.maps import Map, opened

_ELEMENTWISE = (
    *(nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU),
    *(nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.Hardtanh, nn.ReLU6, nn.LogSigmoid),
)
_NEUTRAL = (nn.Identity, nn.Dropout)


@dataclass(frozen=True)
class Dense:
    """s → φ(W s + b), φ a chain of elementwise modules.

    For a lone tanh, tanh z = 2 σ(2z) − 1, with the sigmoid σ, which takes a quarter of the time:
    factors and shifts are in the weights of this layer and the next. States near 0 lose digits by
    that; where the next layer would show it, tanh remains. ``scale`` is what tangents of s lack.
    """

    weight: Tensor
    bias: Tensor
    activations: tuple[nn.Module, ...]
    scale: int = 1


def dense(maps: list[Map]) -> list[Dense] | None:
    """The layers as such, or None if one of them is anything else."""
    found, scale, shift = [], 1, 0  # the input of a layer is scale · s + shift
    parts = [[m for m in opened(layer) if type(m) not in _NEUTRAL] for layer in maps]
    for modules, following in zip_longest(parts, parts[1:], fillvalue=()):
        first, rest = (modules[0], tuple(modules[1:])) if modules else (None, ())
        plain = type(first) is nn.Linear and all(type(m) in _ELEMENTWISE for m in rest)
        if not plain or any(m._forward_hooks or m._forward_pre_hooks for m in modules):
            return None
        weight = first.weight.detach().double()
        bias = shift * weight.sum(1)
        bias = bias if first.bias is None else bias + first.bias.detach()
        if tanh := [type(m) for m in rest] == [nn.Tanh] and not _steep(following):
            weight, bias, rest = 2 * weight, 2 * bias, (nn.Sigmoid(),)
        weight = (scale * weight).to(first.weight)
        scale, shift = (2, -1) if tanh else (1, 0)
        found.append(Dense(weight, bias.to(weight), rest, scale))
    return found


def push(network: list[Dense], x: Tensor) -> tuple[Tensor, Tensor]:
    """Tangents at x (B, D), one for each input, as (D, B, width), and the logarithms (B,) of
    factors that they lack; NaN where states or tangents have left the finite numbers."""
    scale = x.new_full((len(x),), 1, dtype=torch.float64).mul_(network[-1].scale).log_()
    first = network[0].weight
    stack = x.new_empty(1 + x.shape[1], len(x), len(first))
    stack[0] = _linear(x, first)
    stack[1:] = first.mT.contiguous()[:, None]
    for i, layer in enumerate(network):
        if i > 0:
            stack = _linear(stack.flatten(0, 1), layer.weight).unflatten(0, stack.shape[:2])
        _activate(layer, stack[0], stack[1:])
        if i % 8 == 7 or i == len(network) - 1:
            scale = rescale(stack[1:], scale)
    return stack[1:], scale + 0 * stack[0].sum()


def _activate(layer: Dense, state: Tensor, tangents: Tensor) -> None:
    """Bias and activations, in place."""
    state += layer.bias
    for activation in layer.activations:
        if type(activation) is nn.Sigmoid:
            # σ' = σ (1 − σ) from σ(−|s|), if some 1 − σ has lost its digits.
            less = state.abs().neg_().sigmoid_() if state.amax() > 8 else None
            state.sigmoid_()
            less = state if less is None else less
            slope = torch.addcmul(less, less, less, value=-1)
        else:
            after, slope = jvp(activation, (state,), (torch.ones_like(state),))
            state.copy_(after)
        tangents *= slope


def rescale(tangents: Tensor, scale: Tensor) -> Tensor:
    """Divide tangents (count, B, width), in place, by the largest norm of each member, unless all
    these are of moderate size; the scale plus the logarithm of that."""
    size = torch.linalg.vector_norm(tangents, dim=-1).amax(0)
    least, most = size.aminmax()
    if least > 1e-3 and most < 1e3:
        return scale
    if not ((size > 0) & size.isfinite()).all():  # of entries whose squares leave the range, too
        size = tangents.abs().amax((0, 2))
    size = torch.where(size == 0, 1, size)
    tangents /= size[:, None]
    return scale + size.double().log()


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """x Wᵀ: in float32 on a CPU by oneDNN, with which a field took 0.6 of the time."""
    if (
        (x.dtype, x.device.type) == (torch.float32, "cpu")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return linear(x, weight)


def _steep(modules: Sequence[Map]) -> bool:
    """Whether some row of the weights is so long that ε times it is no longer small."""
    weight = getattr(modules[0], "weight", None) if modules else None
    return weight is not None and bool(torch.linalg.vector_norm(weight, dim=-1).amax() > 100)
