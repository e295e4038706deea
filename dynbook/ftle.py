"""Finite-time Lyapunov exponents: how far a network pulls neighbouring inputs apart, and where.

They are singular values of the Jacobian of the composed map, not rates of QR steps: at a depth of
ten layers the two differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap

from dynbook.domains import finite, first_bad, kind, whole
from dynbook.lyapunov import LyapunovError
from dynbook.maps import Map, layers

Network = nn.Module | Callable[[Tensor], Tensor] | Sequence[Map]


@dataclass(frozen=True)
class Field:
    """Finite-time exponents of a network with two inputs, on a square lattice of them.

    Attributes
    ----------
    x, y : Tensor (n,)
        The lattice, ascending.
    ftle : Tensor (n, n)
        Largest exponent per layer at (x[j], y[i]) in entry [i, j]; −inf where the Jacobian is zero.
    direction : Tensor (n, n, 2)
        Unit vector of the inputs, (x, y), that is stretched most; its sign means nothing, and the
        first component is ≥ 0. Zero where the Jacobian is.
    """

    x: Tensor
    y: Tensor
    ftle: Tensor
    direction: Tensor


def ftle(network: Network, x: Float[Tensor, "*b D"], k: int = 1) -> Float[Tensor, "*b k"]:
    """Leading finite-time Lyapunov exponents λ_i = (1/L) ln σ_i(J_L) of a network at given inputs.

    J_L is the Jacobian of the L composed layers, σ_i its singular values. For those of the hidden
    layers pass ``layers(network)[:-1]``. The Jacobian is pushed forward, one tangent for each
    input, or pulled back, one for each output, whichever are fewer, and rescaled at each layer, so
    that neither depth nor growth exhausts the dtype.

    Parameters
    ----------
    network : nn.Module or sequence of maps
        What :func:`~dynbook.maps.layers` takes; L is the number of layers it finds (1 for a module
        it cannot take apart). Each acts on (..., D), may change D, and members do not see
        each other.
    x : Tensor (..., D)
        Inputs, device and dtype of the network.
    k : int
        How many.

    Returns
    -------
    Tensor (..., k)
        Descending, natural logarithm per layer. −inf where σ_i is zero, as behind dead ReLUs, or
        unknown because it is below rounding of σ_1, max(D, D_L) ε σ_1; no gradient flows back.

    Raises
    ------
    TypeError
        If x is no float32 or float64 tensor, or the network's parameters have another dtype.
    ValueError
        If k exceeds the number of inputs or outputs; if x, a parameter or a state is not finite;
        if the network does not take x, has layers in training mode (dropout, batch normalisation)
        or mixes the members of a batch.
    LyapunovError
        If a state or the Jacobian of one layer overflows; the message names the layer.
    """
    k = whole("k", k)
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64) or x.ndim < 1:
        got = kind(x) + (" without dimensions" if isinstance(x, Tensor) and x.ndim < 1 else "")
        raise TypeError(f"x must be a float32 or float64 tensor (..., D), got {got}")
    members = finite("x", x.detach()).reshape(-1, x.shape[-1])
    maps = _checked(network, members)
    push = _Tangents(maps, members[[0, len(members) // 2, -1]])
    if k > (most := min(push.inputs, push.outputs)):
        raise ValueError(
            f"k must be at most {most}, the Jacobian is {push.outputs} × {push.inputs}; got {k}"
        )
    with torch.no_grad():
        logs = [_log_singular_values(*push(part), k) for part in members.split(push.chunk)]
    return torch.cat(logs).reshape(*x.shape[:-1], k) / len(maps)


def ftle_field(
    network: Network,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    n: int,
    *,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Field:
    """Largest finite-time exponent, and the direction stretched most, on a lattice of n × n inputs.

    Two tangents go forward with each point; the 2 × 2 matrix of their products gives
    σ² = ½ [a + c + √((a − c)² + 4b²)] and the angle ½ atan2(2b, a − c) (:cite:t:`storm2024`
    draw such fields). Memory beyond the result is that of one chunk.

    Parameters
    ----------
    network
        As for :func:`ftle`, with two inputs. Linear layers with elementwise activations take a path
        of their own: one matrix product a layer for points and tangents together.
    xlim, ylim : pair of float
        Ends of the lattice, ascending.
    n : int
        Points on a side, at least 2.
    chunk : int
        Points pushed at a time. Default: what fits in a cache, or 4096.
    dtype, device
        Default: the parameters'; for functions without, torch's default and the CPU.

    Raises
    ------
    ValueError, TypeError, LyapunovError
        As :func:`ftle`; if limits are not finite and ascending, n < 2 or chunk < 1.
    """
    n = whole("n", n, least=2)
    own = next(iter(_parameters(network).values()), torch.empty(0))
    like = {"dtype": dtype or own.dtype, "device": device or own.device}
    x, y = _axis("xlim", xlim, n, **like), _axis("ylim", ylim, n, **like)
    probe = torch.stack([x[[0, n // 2, -1]], y[[0, n // 2, -1]]], -1)
    maps = _checked(network, probe)
    push = _Tangents(maps, probe)
    push.forward = True
    step = push.chunk if chunk is None else whole("chunk", chunk)
    values, direction = x.new_empty(n * n), x.new_empty(n * n, 2)
    with torch.no_grad():
        for start in range(0, n * n, step):
            i = torch.arange(start, min(start + step, n * n), device=x.device)
            jacobian, scale = push(torch.stack([x[i % n], y[i // n]], -1))
            s, t = jacobian.unbind(1)
            a, b, c = (s * s).sum(0), (s * t).sum(0), (t * t).sum(0)
            values[i] = scale + (a / 2 + c / 2 + torch.hypot(a / 2 - c / 2, b)).log() / 2
            angle = torch.atan2(2 * b, a - c) / 2
            unit = torch.stack([angle.cos(), angle.sin()], -1)
            direction[i] = torch.where((a + c > 0)[:, None], unit, 0)
    values /= len(maps)
    return Field(x, y, values.reshape(n, n), direction.reshape(n, n, 2))


def _axis(name: str, limits: tuple[float, float], n: int, **like) -> Tensor:
    low, high = limits
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{name} must be finite and ascending, got ({low}, {high})")
    return torch.linspace(low, high, n, **like)


def _parameters(network: Network) -> dict[str, Tensor]:
    """Floating-point parameters and buffers of the modules in a network, by name."""
    parts = [network] if isinstance(network, nn.Module) else network
    found = {}
    for i, part in enumerate(parts if isinstance(parts, Sequence) else []):
        if isinstance(part, nn.Module):
            prefix = "" if part is network else f"{i}."
            values = [*part.named_parameters(), *part.named_buffers()]
            found |= {prefix + name: v for name, v in values if v.is_floating_point()}
    return found


def _checked(network: Network, x: Tensor) -> list[Map]:
    """The layers of a network that is fit to be differentiated at x."""
    for name, value in _parameters(network).items():
        finite(f"the network's {name}", value.detach())
        if value.dtype != x.dtype or value.device != x.device:
            raise TypeError(
                f"x and the network must share dtype and device, got {x.dtype} on {x.device} and "
                f"{name} {value.dtype} on {value.device}; move one with .to(...)"
            )
    for part in [network] if isinstance(network, nn.Module) else network:
        for module in part.modules() if isinstance(part, nn.Module) else ():
            drops = getattr(module, "p", 0) and "Dropout" in type(module).__name__
            if module.training and (drops or isinstance(module, nn.modules.batchnorm._BatchNorm)):
                raise ValueError(
                    f"the network has {type(module).__name__} in training mode, which is not a map "
                    "of one input; call network.eval() first"
                )
    return layers(network)


def _widths(maps: list[Map], probe: Tensor) -> list[int]:
    """Widths D, …, D_L; refused are maps that lose or mix the members of the probe (3, D)."""
    widths = [probe.shape[-1]]
    with torch.no_grad():
        for i, layer in enumerate(maps):
            try:
                together, alone = layer(probe), layer(probe[:2])
            except RuntimeError as error:
                raise ValueError(
                    f"layer {i} of the network must take inputs (..., {widths[-1]}): {error}"
                ) from error
            if together.ndim != 2 or len(together) != 3:
                raise ValueError(
                    f"layer {i} of the network must map (..., {widths[-1]}) to (..., width), but "
                    f"from {tuple(probe.shape)} came {tuple(together.shape)}"
                )
            close = math.sqrt(torch.finfo(probe.dtype).eps) * together.abs().max()
            if ((together[:2] - alone).abs() > close).any():
                raise ValueError(
                    f"layer {i} of the network must treat the members of a batch one by one, but "
                    "two of them came out otherwise when a third was there (batch statistics, or "
                    "randomness?)"
                )
            probe = together
            widths.append(probe.shape[-1])
    return widths


def _log_singular_values(jacobian: Tensor, scale: Tensor, k: int) -> Tensor:
    """ln σ_i (B, k) of matrices (D_out, D_in, B) that still lack a factor e^scale."""
    jacobian = jacobian.movedim(-1, 0)
    if k > 1:
        sigma = torch.linalg.svdvals(jacobian)
        rounding = max(jacobian.shape[1:]) * torch.finfo(sigma.dtype).eps
        sigma = torch.where(sigma > rounding * sigma[:, :1], sigma, 0)[:, :k]
        return scale[:, None] + sigma.log()
    wide = jacobian.shape[1] < jacobian.shape[2]
    gram = jacobian @ jacobian.mT if wide else jacobian.mT @ jacobian
    return scale[:, None] + torch.linalg.eigvalsh(gram)[:, -1:].clamp(min=0).log() / 2


class _Tangents:
    """Jacobians of one network at many points: what its chunks have in common is done once."""

    def __init__(self, maps: list[Map], probe: Tensor):
        self.maps = maps
        self.widths = _widths(maps, probe)
        self.inputs, self.outputs = self.widths[0], self.widths[-1]
        self.forward = self.inputs <= self.outputs
        self.dense = _dense(maps)
        self.turn = None
        tangents = min(self.inputs, self.outputs)
        if self.dense and self.widths[1] < self.inputs:
            # W = R Qᵀ: in coordinates Qᵀx, as many as the first layer is wide, σ is the same.
            tangents = self.widths[1]
            self.turn, r = torch.linalg.qr(self.dense[0].weight.mT)
            self.dense[0] = replace(self.dense[0], weight=r.mT.contiguous())
        if tangents > self.outputs:
            self.dense = None
        budget = 2**17 if self.dense else 2**22
        self.chunk = max(1, min(4096, budget // (max(self.widths[1:]) * (tangents + 1))))

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """J e^{−scale} (D_L, D, B) and scale (B,) at x (B, D), J up to a rotation of the inputs."""
        if self.dense:
            jacobian, scale = _push_dense(self.dense, x if self.turn is None else x @ self.turn)
            if scale.isfinite().all():
                return jacobian, scale
        return (_push if self.forward else _pull)(self.maps, x)


def _push(maps: list[Map], x: Tensor) -> tuple[Tensor, Tensor]:
    """Forward: one tangent for each input, (D, B, width), rescaled after every layer."""
    tangents = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)[:, None].expand(-1, *x.shape)
    scale = x.new_zeros(len(x))
    for i, layer in enumerate(maps):
        tangents = vmap(lambda t, layer=layer, x=x: jvp(layer, (x,), (t,))[1])(tangents)
        x = _state(layer, x, i)
        tangents, scale = _rescaled(tangents, scale, (0, 2), i)
    return tangents.permute(2, 0, 1), scale


def _pull(maps: list[Map], x: Tensor) -> tuple[Tensor, Tensor]:
    """Backward: one cotangent for each output, (D_L, B, width), rescaled after every layer."""
    states = [x]
    for i, layer in enumerate(maps):
        states.append(_state(layer, states[-1], i))
    y, scale = states[-1], x.new_zeros(len(x))
    cotangents = torch.eye(y.shape[-1], dtype=x.dtype, device=x.device)
    cotangents = cotangents[:, None].expand(-1, *y.shape)
    for i in reversed(range(len(maps))):
        pull = vjp(maps[i], states[i])[1]
        cotangents = vmap(lambda v, pull=pull: pull(v)[0])(cotangents)
        cotangents, scale = _rescaled(cotangents, scale, (0, 2), i)
    return cotangents.permute(0, 2, 1), scale


def _state(layer: Map, x: Tensor, i: int) -> Tensor:
    y = layer(x)
    if not y.isfinite().all():
        raise LyapunovError(
            f"the state after layer {i} is not finite ({first_bad(y)}) although layer {i} got "
            "finite values: scale its weights or the inputs down"
        )
    return y


def _rescaled(
    tangents: Tensor, scale: Tensor, over: tuple[int, int], layer: int | None = None
) -> tuple[Tensor, Tensor]:
    """Each member's tangents divided by their largest entry, whose logarithm goes to the scale."""
    size = tangents.abs().amax(over, keepdim=True)
    if layer is not None and not size.isfinite().all():
        raise LyapunovError(
            f"the Jacobian of layer {layer} overflows {tangents.dtype}: scale its weights down"
        )
    size = torch.where(size == 0, 1, size)
    return tangents / size, scale + size.log().squeeze(over)


# --- linear layers with elementwise activations -------------------------------------------------


@dataclass(frozen=True)
class _Dense:
    """One layer x → φ(W x + b), φ elementwise modules one after the other."""

    weight: Tensor
    bias: Tensor | None
    activations: tuple[nn.Module, ...]


_ELEMENTWISE = (
    *(nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU),
    *(nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.Hardtanh, nn.ReLU6, nn.LogSigmoid, nn.Mish),
)
_NEUTRAL = (nn.Identity, nn.Flatten, nn.Dropout)


def _dense(maps: list[Map]) -> list[_Dense] | None:
    """The layers as such, or None if one of them is anything else."""
    found = []
    for layer in maps:
        modules = [m for m in _leaves(layer) if type(m) not in _NEUTRAL]
        first, rest = (modules[0], tuple(modules[1:])) if modules else (None, ())
        plain = type(first) is nn.Linear and all(type(m) in _ELEMENTWISE for m in rest)
        if not plain or any(m._forward_hooks or m._forward_pre_hooks for m in modules):
            return None
        bias = None if first.bias is None else first.bias.detach()
        found.append(_Dense(first.weight.detach(), bias, rest))
    return found


def _leaves(layer: Map) -> list[Map]:
    if type(layer) is nn.Sequential:
        return [leaf for part in layer for leaf in _leaves(part)]
    return [layer]


def _push_dense(dense: list[_Dense], x: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`_push`, states and tangents side by side in the columns of one (width, (1 + D) B).

    The scale is not finite where something overflowed.
    """
    m, d = x.shape
    columns = torch.cat(
        [x.mT, torch.eye(d, dtype=x.dtype, device=x.device).repeat_interleave(m, 1)], 1
    )
    scale = x.new_zeros(m)
    for i, layer in enumerate(dense):
        columns = layer.weight @ columns
        state, tangents = columns[:, :m], columns[:, m:].view(-1, d, m)
        if layer.bias is not None:
            state += layer.bias[:, None]
        for activation in layer.activations:
            slope = _activate(activation, state)
            tangents *= slope[:, None]
        if i % 4 == 3 or i == len(dense) - 1:
            rescaled, scale = _rescaled(tangents, scale, (0, 1))
            tangents.copy_(rescaled)
    return tangents, torch.where(state.isfinite().all(0), scale, math.nan)


def _activate(activation: nn.Module, h: Tensor) -> Tensor:
    """Put φ(h) in the place of h and return φ'(h)."""
    if type(activation) is nn.Tanh:
        # expm1(2h)/(expm1(2h) + 2) keeps every digit of small h and is half the price of tanh.
        h.mul_(2).clamp_(max=40).expm1_().div_(h + 2)
        return torch.addcmul(h.new_ones(()), h, h, value=-1)
    value, slope = jvp(activation, (h,), (torch.ones_like(h),))
    h.copy_(value)
    return slope
