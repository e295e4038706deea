"""Jacobians of a network at many inputs, on a logarithmic scale that no depth exhausts."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap

from dynbook.dense import dense, push, rescale
from dynbook.domains import finite, first_bad, kind
from dynbook.maps import Map
from dynbook.tangent import LyapunovError


def parameters(maps: list[Map]) -> dict[str, Tensor]:
    """Parameters and buffers of floating point, by layer and name."""
    return {
        f"layer {i}'s {name}": value.detach()
        for i, layer in enumerate(maps)
        if isinstance(layer, nn.Module)
        for name, value in (*layer.named_parameters(), *layer.named_buffers())
        if value.is_floating_point()
    }


class Jacobians:
    """Jacobians of one network at many points: what these have in common is done once."""

    def __init__(self, maps: list[Map], probe: Tensor, forward: bool = False):
        for name, value in parameters(maps).items():
            finite(name, value)
            if value.dtype != probe.dtype or value.device != probe.device:
                raise TypeError(
                    f"{name} must share dtype and device with the inputs, got {value.dtype} on "
                    f"{value.device}, and {probe.dtype} on {probe.device}: move one with .to(...)"
                )
        # Clones, for layers that work in place.
        self.maps = [lambda x, layer=layer: layer(x.clone()) for layer in maps]
        self.widths = widths = _widths(self.maps, probe)
        self.forward = forward or widths[0] <= widths[-1]
        count = widths[0] if self.forward else widths[-1]
        self.dense = dense(maps)
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
        most = 4096 if cached or not self.dense else 2**22  # a layer may be wide inside
        fits = max(64, 2**20 // numbers) if cached else 1 + 2**22 // numbers
        self.chunk = min(most, fits)
        # Freed at once: glibc's malloc then keeps blocks of up to this size for the next layer,
        # instead of getting new pages from the system, which costs as much as the arithmetic.
        torch.empty(2**24 if cached else 0, dtype=torch.uint8)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows or columns of J at x (B, D), as (count, B, width), and a log-scale (B,)."""
        if self.dense:
            tangents, scale = push(self.dense, x if self.turn is None else x @ self.turn)
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
        if not isinstance(together, Tensor) or together.ndim != 2 or len(together) != 3:
            got = tuple(together.shape) if isinstance(together, Tensor) else kind(together)
            raise ValueError(
                f"layer {i} must map (..., {widths[-1]}) to (..., width), but takes "
                f"{tuple(probe.shape)} to {got}"
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
        tangents = tangents.contiguous()  # what a layer expands cannot be rescaled in place
        x = _state(layer, x, i)
        scale = _rescaled(tangents, scale, i)
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
        cotangents = vmap(lambda v, pull=pull: pull(v)[0])(cotangents).contiguous()
        scale = _rescaled(cotangents, scale, i)
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


def _rescaled(tangents: Tensor, scale: Tensor, layer: int) -> Tensor:
    scale = rescale(tangents, scale)
    if not scale.isfinite().all():
        raise LyapunovError(
            f"the Jacobian of layer {layer} overflows {tangents.dtype}: scale its weights down"
        )
    return scale
