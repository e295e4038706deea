"""Finite-time Lyapunov exponents: how far a network pulls neighbouring inputs apart, and where.

They are singular values of the Jacobian of the composed map, not rates of QR steps: at a depth of
ten layers the two differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap
from torch.nn.functional import linear

from dynbook.domains import finite, first_bad, whole
from dynbook.maps import Map, layers, states
from dynbook.tangent import LyapunovError

Network = nn.Module | Iterable[Map]


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
        Unit vector of the inputs, (x, y), that is stretched most. Its sign means nothing; the first
        component is ≥ 0. Zero where the Jacobian is.
    """

    x: Tensor
    y: Tensor
    ftle: Tensor
    direction: Tensor


@torch.no_grad()
def ftle(network: Network, x: Float[Tensor, "*b D"], k: int = 1) -> Float[Tensor, "*b k"]:
    """Leading finite-time Lyapunov exponents λ_i = (1/L) ln σ_i(J_L) of a network at given inputs.

    J_L is the Jacobian of the L composed layers, σ_i its singular values. For those of the hidden
    layers pass ``layers(network)[:-1]``. The Jacobian is pushed forward, one tangent for each
    input, or pulled back, one for each output, whichever are fewer, and rescaled on the way, so
    that depth does not exhaust the dtype.

    Parameters
    ----------
    network : torch.nn.Sequential or iterable of maps
        What :func:`~dynbook.maps.layers` takes; L is the number of layers it finds. They may
        change D. A module that it cannot take apart is one layer: ``[network]``.
    x : Tensor (…, D)
        Inputs, dtype and device of the network.
    k : int
        How many.

    Returns
    -------
    Tensor (…, k)
        Descending, natural logarithm per layer. −inf where σ_i is zero, as behind dead ReLUs, or
        unknown because it is below rounding, max(D, D_L) ε σ_1. No gradient flows back.

    Raises
    ------
    TypeError
        If x is no float32 or float64 tensor, or a parameter has another dtype or device.
    ValueError
        If k exceeds the number of inputs or outputs; if x or a parameter is not finite; if a layer
        does not take what comes, is in training mode or mixes the members of a batch.
    LyapunovError
        If a state or the Jacobian of one layer overflows; the message names the layer.
    """
    k = whole("k", k)
    maps = layers(network)
    members = states("x", x).reshape(-1, x.shape[-1])
    tangents = _Tangents(maps, members[[0, len(members) // 2, -1]])
    if k > (most := min(tangents.widths[0], tangents.widths[-1])):
        raise ValueError(
            f"k must be at most {most}, for a network of {tangents.widths[0]} inputs and "
            f"{tangents.widths[-1]} outputs; got {k}"
        )
    logs = [_log_singular_values(*tangents(part), k) for part in members.split(tangents.chunk)]
    return torch.cat(logs).reshape(*x.shape[:-1], k) / len(maps)


@torch.no_grad()
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

    Two tangents s, t go forward with each point. With a = s·s, b = s·t, c = t·t the stretching is
    σ² = ½ [a + c + √((a − c)² + 4b²)], in the direction of angle ½ atan2(2b, a − c);
    :cite:t:`storm2024` look at networks through such fields. Memory beyond the result is that of
    one chunk.

    Parameters
    ----------
    network
        As for :func:`ftle`, with two inputs. Linear layers with elementwise activations take a
        faster path: one matrix product a layer for many points and their tangents.
    xlim, ylim : pair of float
        Ends of the lattice, ascending.
    n : int
        Points on a side, at least 2.
    chunk : int
        Points pushed at a time. Default: what fits into a cache, or about 100 MB.
    dtype, device
        Default: the parameters'; without any, torch's default and the CPU.

    Raises
    ------
    TypeError, ValueError, LyapunovError
        As :func:`ftle`; if limits are not finite and ascending, n < 2 or chunk < 1.
    """
    n = whole("n", n, least=2)
    maps = layers(network)
    own = next(iter(_parameters(maps).values()), torch.empty(0))
    like = {"dtype": dtype or own.dtype, "device": device or own.device}
    x, y = _axis("xlim", xlim, n, **like), _axis("ylim", ylim, n, **like)
    some = [0, n // 2, -1]
    tangents = _Tangents(maps, torch.stack([x[some], y[some]], -1), forward=True)
    chunk = tangents.chunk if chunk is None else whole("chunk", chunk)
    values, direction = x.new_empty(n * n), x.new_empty(n * n, 2)
    for start in range(0, n * n, chunk):
        here = slice(start, min(start + chunk, n * n))
        i = torch.arange(here.start, here.stop, device=x.device)
        (s, t), scale = tangents(torch.stack([x[i % n], y[i // n]], -1))
        a, b, c = (s * s).sum(-1), (s * t).sum(-1), (t * t).sum(-1)
        values[here] = scale + (a / 2 + c / 2 + torch.hypot(a / 2 - c / 2, b)).log() / 2
        angle = torch.atan2(2 * b, a - c) / 2
        unit = torch.stack([angle.cos(), angle.sin()], -1)
        direction[here] = torch.where((a + c > 0)[:, None], unit, 0)
    values /= len(maps)
    return Field(x, y, values.reshape(n, n), direction.reshape(n, n, 2))


def _log_singular_values(tangents: Tensor, scale: Tensor, k: int) -> Tensor:
    """ln σ_i (B, k) of the matrices with rows tangents (D, B, N), times e^scale."""
    matrix = tangents.movedim(0, 1)
    if k > 1:
        sigma = torch.linalg.svdvals(matrix)
        rounding = max(matrix.shape[1:]) * torch.finfo(sigma.dtype).eps
        sigma = torch.where(sigma > rounding * sigma[:, :1], sigma, 0)[:, :k]
        return (scale[:, None] + sigma.log()).to(sigma.dtype)
    squared = torch.linalg.eigvalsh(matrix @ matrix.mT)[:, -1:]  # loses digits of the others only
    return (scale[:, None] + squared.clamp(min=0).log() / 2).to(squared.dtype)


def _axis(name: str, limits: tuple[float, float], n: int, **like) -> Tensor:
    low, high = limits
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{name} must be finite and ascending, got ({low}, {high})")
    return torch.linspace(low, high, n, **like)


def _parameters(maps: list[Map]) -> dict[str, Tensor]:
    """Parameters and buffers of floating point, by layer and name."""
    return {
        f"layer {i}'s {name}": value.detach()
        for i, layer in enumerate(maps)
        if isinstance(layer, nn.Module)
        for name, value in (*layer.named_parameters(), *layer.named_buffers())
        if value.is_floating_point()
    }


class _Tangents:
    """Jacobians of one network at many points: what these have in common is done once."""

    def __init__(self, maps: list[Map], probe: Tensor, forward: bool = False):
        for name, value in _parameters(maps).items():
            finite(name, value)
            if value.dtype != probe.dtype or value.device != probe.device:
                raise TypeError(
                    f"{name} must share dtype and device with the inputs, got {value.dtype} on "
                    f"{value.device}, and {probe.dtype} on {probe.device}: move one with .to(...)"
                )
        self.maps = maps
        self.widths = widths = _widths(maps, probe)
        self.forward = forward or widths[0] <= widths[-1]
        count = widths[0] if self.forward else widths[-1]
        self.dense = _dense(maps)
        self.turn = None
        if self.dense and widths[1] < widths[0]:
            # W = R Qᵀ: in coordinates Qᵀx, as many as the first layer is wide, σ is the same.
            self.turn, r = torch.linalg.qr(self.dense[0].weight.mT)
            self.dense[0] = replace(self.dense[0], weight=r.mT.contiguous())
            count = widths[1]
        if self.dense and not forward and count > widths[-1]:
            self.dense = None
        numbers = (count + 1) * max(widths)
        cached = self.dense and probe.device.type == "cpu"
        self.chunk = max(64, min(4096, 2**18 // numbers)) if cached else 1 + 2**22 // numbers

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows or columns of J at x (B, D), as (count, B, width), and a log-scale (B,)."""
        if self.dense:
            tangents, scale = _push_dense(self.dense, x if self.turn is None else x @ self.turn)
            if scale.isfinite().all():
                return tangents, scale
        return (_push if self.forward else _pull)(self.maps, x)  # with an eye on every layer


def _widths(maps: list[Map], probe: Tensor) -> list[int]:
    """Widths D, …, D_L; refused are maps that lose or mix the members of the probe (3, D)."""
    widths = [probe.shape[-1]]
    for i, layer in enumerate(maps):
        try:
            together, alone = layer(probe), layer(probe[:2])
        except RuntimeError as error:
            raise ValueError(f"layer {i} must take inputs (..., {widths[-1]}): {error}") from error
        if together.ndim != 2 or len(together) != 3:
            raise ValueError(
                f"layer {i} must map (..., {widths[-1]}) to (..., width), but takes "
                f"{tuple(probe.shape)} to {tuple(together.shape)}"
            )
        noise = math.sqrt(torch.finfo(probe.dtype).eps) * together.abs().max()
        if ((together[:2] - alone).abs() > noise).any():
            raise ValueError(
                f"layer {i} must treat the members of a batch one by one, but two of them came "
                "out differently when a third was there: does it use statistics of the batch, or "
                "draw random numbers?"
            )
        probe = together
        widths.append(probe.shape[-1])
    return widths


def _push(maps: list[Map], x: Tensor) -> tuple[Tensor, Tensor]:
    """Forward, one tangent for each input, rescaled after every layer."""
    tangents, scale = _basis(x), x.new_zeros(len(x), dtype=torch.float64)
    for i, layer in enumerate(maps):
        tangents = vmap(lambda t, layer=layer, x=x: jvp(layer, (x,), (t,))[1])(tangents)
        x = _state(layer, x, i)
        tangents, scale = _rescaled(tangents, scale, i)
    return tangents, scale


def _pull(maps: list[Map], x: Tensor) -> tuple[Tensor, Tensor]:
    """Backward, one cotangent for each output, rescaled after every layer."""
    before = []
    for i, layer in enumerate(maps):
        before.append(x)
        x = _state(layer, x, i)
    cotangents, scale = _basis(x), x.new_zeros(len(x), dtype=torch.float64)
    for i, layer in reversed(list(enumerate(maps))):
        pull = vjp(layer, before[i])[1]
        cotangents = vmap(lambda v, pull=pull: pull(v)[0])(cotangents)
        cotangents, scale = _rescaled(cotangents, scale, i)
    return cotangents, scale


def _basis(x: Tensor) -> Tensor:
    """The unit vectors (D, B, D) at states (B, D)."""
    return torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)[:, None].repeat(1, len(x), 1)


def _state(layer: Map, x: Tensor, i: int) -> Tensor:
    y = layer(x)
    if not y.isfinite().all():
        raise LyapunovError(
            f"the state after layer {i} is not finite, {first_bad(y)}, although layer {i} got "
            "finite numbers: scale its weights, or what comes before it, down"
        )
    return y


def _rescaled(tangents: Tensor, scale: Tensor, layer: int | None = None) -> tuple[Tensor, Tensor]:
    """Tangents (count, B, width) over the largest norm of each member, its log in the scale."""
    size = torch.linalg.vector_norm(tangents, dim=-1).amax(0)
    if not ((size > 0) & size.isfinite()).all():  # of entries whose squares leave the range, too
        size = tangents.abs().amax((0, 2))
    if layer is not None and not size.isfinite().all():
        raise LyapunovError(
            f"the Jacobian of layer {layer} overflows {tangents.dtype}: scale its weights down"
        )
    size = torch.where(size == 0, 1, size)
    return tangents / size[:, None], scale + size.double().log()


# --- linear layers with elementwise activations -------------------------------------------------

_ELEMENTWISE = (
    *(nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU),
    *(nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.Hardtanh, nn.ReLU6, nn.LogSigmoid),
)
_NEUTRAL = (nn.Identity, nn.Dropout)


@dataclass(frozen=True)
class _Dense:
    """x → φ(W x + b), φ a chain of elementwise modules."""

    weight: Tensor
    bias: Tensor
    activations: tuple[nn.Module, ...]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """φ(W x + b), and φ' there: None for 1."""
        if [type(a) for a in self.activations] == [nn.Tanh]:
            x = _linear_tanh(x, self.weight, self.bias)
            return x, torch.addcmul(x.new_ones(()), x, x, value=-1)
        x, slope = _linear(x, self.weight, self.bias), None
        for activation in self.activations:
            x, factor = jvp(activation, (x,), (torch.ones_like(x),))
            slope = factor if slope is None else slope * factor
        return x, slope


def _onednn(x: Tensor) -> bool:
    """Whether oneDNN can multiply: in float32 it is up to twice as fast as the BLAS of torch."""
    return (
        (x.dtype, x.device.type) == (torch.float32, "cpu")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if _onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return linear(x, weight, bias)


def _linear_tanh(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if _onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "tanh", [], "")
    # (e − 1)/(e + 1), e = exp 2h: on a CPU half the price of tanh, and all digits of small h.
    less = linear(x, weight, bias).mul_(2).clamp_(max=40).expm1_()
    return less.div_(less + 2)


def _dense(maps: list[Map]) -> list[_Dense] | None:
    """The layers as such, or None if one of them is anything else."""
    found = []
    for layer in maps:
        modules = [m for m in _leaves(layer) if type(m) not in _NEUTRAL]
        first, rest = (modules[0], tuple(modules[1:])) if modules else (None, ())
        plain = type(first) is nn.Linear and all(type(m) in _ELEMENTWISE for m in rest)
        if not plain or any(m._forward_hooks or m._forward_pre_hooks for m in modules):
            return None
        weight, bias = first.weight.detach(), first.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        found.append(_Dense(weight, bias, rest))
    return found


def _leaves(layer: Map) -> list[Map]:
    if type(layer) is nn.Sequential:
        return [leaf for part in layer for leaf in _leaves(part)]
    return [layer]


def _push_dense(dense: list[_Dense], x: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`_push`, but without an eye on every layer: NaN in the scale tells of overflow."""
    tangents, scale = _basis(x), x.new_zeros(len(x), dtype=torch.float64)
    count, members = tangents.shape[:2]
    for i, layer in enumerate(dense):
        x, slope = layer(x)
        tangents = _linear(tangents.view(count * members, -1), layer.weight)
        tangents = tangents.view(count, members, -1)
        if slope is not None:
            tangents *= slope
        if i % 8 == 7 or i == len(dense) - 1:
            tangents, scale = _rescaled(tangents, scale)
    return tangents, scale + 0 * x.sum(-1)
