"""Finite-time Lyapunov exponents: how far a network pulls neighbouring inputs apart, and where.

They are singular values of the Jacobian of the composed map, not rates of QR steps: at a depth of
ten layers the two differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dynbook.domains import whole
from dynbook.jacobians import Jacobians, parameters
from dynbook.maps import Map, layers, states

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
    jacobians = Jacobians(maps, members[[0, len(members) // 2, -1]])
    if k > (most := min(jacobians.widths[0], jacobians.widths[-1])):
        raise ValueError(
            f"k must be at most {most}, for a network of {jacobians.widths[0]} inputs and "
            f"{jacobians.widths[-1]} outputs; got {k}"
        )
    logs = [_log_singular_values(*jacobians(part), k) for part in members.split(jacobians.chunk)]
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
        Points pushed at a time. Default: what fits into a cache, or about 100 MB, and at most
        4,096 where it is not known what a layer holds inside: set it for large images.
    dtype, device
        Default: the parameters'; without any, torch's default and the CPU.

    Raises
    ------
    TypeError, ValueError, LyapunovError
        As :func:`ftle`; if limits are not finite and ascending, n < 2 or chunk < 1.
    """
    n = whole("n", n, least=2)
    maps = layers(network)
    own = next(iter(parameters(maps).values()), torch.empty(0))
    like = {"dtype": dtype or own.dtype, "device": device or own.device}
    if like["dtype"] not in (torch.float32, torch.float64):
        raise TypeError(
            f"dtype must be torch.float32 or torch.float64, got {like['dtype']}; convert the "
            "network with network.double()"
        )
    x, y = _axis("xlim", xlim, n, **like), _axis("ylim", ylim, n, **like)
    some = [0, n // 2, -1]
    jacobians = Jacobians(maps, torch.stack([x[some], y[some]], -1), forward=True)
    chunk = jacobians.chunk if chunk is None else whole("chunk", chunk)
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).view(-1, 2)
    norms, b = x.new_empty(2, n * n), x.new_empty(n * n)
    scale = x.new_empty(n * n, dtype=torch.float64)
    for start, part in zip(range(0, n * n, chunk), points.split(chunk), strict=True):
        here = slice(start, start + len(part))
        tangents, scale[here] = jacobians(part)
        norms[:, here] = torch.linalg.vector_norm(tangents, dim=-1)
        b[here] = torch.linalg.vecdot(*tangents)
    a, c = norms.square()
    values = (scale + (a / 2 + c / 2 + torch.hypot(a / 2 - c / 2, b)).log() / 2) / len(maps)
    angle = torch.atan2(2 * b, a - c) / 2
    unit = torch.stack([angle.cos(), angle.sin()], -1)
    direction = torch.where((a + c > 0)[:, None], unit, 0)
    return Field(x, y, values.to(x).view(n, n), direction.view(n, n, 2))


def _log_singular_values(tangents: Tensor, scale: Tensor, k: int) -> Tensor:
    """ln σ_i (B, k) of the matrices with rows tangents (D, B, N), times e^scale.

    From the eigenvalues of J Jᵀ in half the time, where these lose no more than a digit or so: of
    the largest, and of others that are not much smaller.
    """
    matrix = tangents.movedim(0, 1)
    sigma = matrix.new_zeros(len(matrix), k)
    if k == 1 or _level(torch.linalg.svdvals(matrix[:1])[:, :k]).all():
        short = matrix if matrix.shape[1] <= matrix.shape[2] else matrix.mT
        squared = torch.linalg.eigvalsh(short @ short.mT)[:, -k:].flip(-1)
        sigma = squared.clamp(min=0).sqrt()
    if not (k == 1 or (level := _level(sigma)).all()):
        exact = torch.linalg.svdvals(matrix[~level])
        rounding = max(matrix.shape[1:]) * torch.finfo(sigma.dtype).eps
        sigma[~level] = torch.where(exact > rounding * exact[:, :1], exact, 0)[:, :k]
    return (scale[:, None] + sigma.log()).to(sigma.dtype)


def _level(sigma: Tensor) -> Tensor:
    """Whether the last of singular values (B, k) is within a factor 4 of the first."""
    return 4 * sigma[:, -1] > sigma[:, 0]


def _axis(name: str, limits: tuple[float, float], n: int, **like) -> Tensor:
    pair = isinstance(limits, Sequence) and len(limits) == 2
    if not pair or not all(isinstance(end, Real) for end in limits):
        raise TypeError(f"{name} must be two numbers, (low, high), got {limits!r:.40}")
    low, high = limits
    most = torch.finfo(like["dtype"]).max / 2  # their difference is one of its numbers, too
    if not -most < low < high < most:
        raise ValueError(f"{name} must be finite and ascending, got ({low}, {high})")
    return torch.linspace(low, high, n, **like)
