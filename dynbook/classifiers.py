"""Small tanh networks that learn a classification side by side, one batched product per layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dynbook.domains import cpu_generator, finite, kind, whole
from dynbook.networks import DivergenceError


@dataclass(frozen=True)
class TanhNetworks:
    """M networks of one shape, x^(ℓ) = tanh(W^(ℓ) x^(ℓ−1) + b^(ℓ)), with their own weights.

    A threshold θ, where it is subtracted, is −b.

    Attributes
    ----------
    weights : tuple of Tensor (M, N_ℓ, N_{ℓ−1})
        One per layer, the output last.
    biases : tuple of Tensor (M, N_ℓ)
    output : "tanh" or "softmax"
        What the last layer ends with; "softmax" makes the outputs probabilities.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or output is unknown.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    output: str = "tanh"

    def __post_init__(self):
        if self.output not in ("tanh", "softmax"):
            raise ValueError(f'output must be "tanh" or "softmax", got {self.output!r}')
        shapes, ends = ([tuple(p.shape) for p in ps] for ps in (self.weights, self.biases))
        fit = shapes and all(len(s) == 3 for s in shapes) and ends == [s[:2] for s in shapes]
        if not fit or any(low[:2] != (high[0], high[2]) for low, high in pairwise(shapes)):
            raise ValueError(
                "weights must have shapes (M, N_1, n), (M, N_2, N_1), … and biases (M, N_1), …, "
                f"got {shapes} and {ends}"
            )

    def __len__(self) -> int:
        return len(self.weights[0])

    def __call__(self, x: Float[Tensor, "*M P n"]) -> Float[Tensor, "M P K"]:
        """Outputs of every network at the same points x (P, n), or at its own (M, P, n)."""
        return _forward(self, _points(self, x))[-1]

    def hidden(self, x: Float[Tensor, "*M P n"]) -> Float[Tensor, "M P N"]:
        """States of the last hidden layer, at points as above."""
        return _forward(self, _points(self, x))[-2]

    def __getitem__(self, chosen: slice) -> TanhNetworks:
        """Some of the networks, as ``networks[:10]``; one of them is ``networks[i : i + 1]``.

        They share their parameters with these.
        """
        if not isinstance(chosen, slice):  # no IndexError: for … in would take it for the end
            raise TypeError(f"networks take a slice, got {chosen!r}; member(i) is one as a module")
        if not range(len(self))[chosen]:
            raise IndexError(f"some of the networks 0 … {len(self) - 1} are needed, got {chosen!r}")
        weights, biases = (tuple(p[chosen] for p in ps) for ps in (self.weights, self.biases))
        return replace(self, weights=weights, biases=biases)

    def member(self, i: int) -> nn.Sequential:
        """Network i as Linear, Tanh, …, Linear, Tanh or Softmax; a copy.

        ``member(i)[:-2]`` ends with the last hidden layer.

        Raises
        ------
        IndexError
            If there is no network i.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"i must be one of the networks 0 … {len(self) - 1}, got {i}")
        modules = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            rows, columns = weight.shape[1:]
            linear = nn.utils.skip_init(
                nn.Linear, columns, rows, dtype=weight.dtype, device=weight.device
            )
            with torch.no_grad():
                linear.weight.copy_(weight[i])
                linear.bias.copy_(bias[i])
            modules += [linear, nn.Tanh()]
        if self.output == "softmax":
            modules[-1] = nn.Softmax(-1)
        return nn.Sequential(*modules)


@dataclass(frozen=True)
class Epoch:
    """Networks in training after a number of passes through the data.

    Attributes
    ----------
    number : int
        Passes made, 0 at the start.
    networks : TanhNetworks
    loss : Tensor (M,)
        Mean loss over the minibatches of the last pass, each before its update; at the start, over
        all data.
    """

    number: int
    networks: TanhNetworks
    loss: Tensor


def tanh_networks(
    sizes: Sequence[int],
    members: int,
    *,
    weight_std: float = 1.0,
    bias_std: float = 0.0,
    output: str = "tanh",
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> TanhNetworks:
    """Random networks: W ~ N(0, σ_w²/N_{ℓ−1}), b ~ N(0, σ_b²), independent.

    Parameters
    ----------
    sizes : sequence of int
        Widths (n, N_1, …, N_L, K), inputs first; with L ≥ 1 hidden layers.
    members : int
        How many networks M.
    weight_std, bias_std : float
        σ_w > 0 and σ_b ≥ 0; the output's biases are 0.
    output : "tanh" or "softmax"
        How the last layer ends, and so the loss of :func:`train`.
    generator : torch.Generator
        On the CPU, so that the networks are the same on every device.
    dtype : torch.dtype
        float32 by default: minibatch noise is far above its rounding, and it is twice as fast.

    Raises
    ------
    ValueError, TypeError
        If a size or count is no whole number ≥ 1, there is no hidden layer, σ is out of range,
        output is unknown, dtype is not of floating point, or the generator is none on the CPU.
    """
    if len(sizes) < 3:
        raise ValueError(f"sizes must be (inputs, hidden …, outputs), three or more, got {sizes!r}")
    sizes = [whole(f"sizes[{i}]", n) for i, n in enumerate(sizes)]
    members = whole("members", members)
    for name, std, low in (("weight_std", weight_std, "> 0"), ("bias_std", bias_std, "≥ 0")):
        if not (isinstance(std, Real) and 0 <= std < math.inf) or (std == 0 and low == "> 0"):
            raise ValueError(f"{name} must be {low} and finite, got {std}")
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be of floating point, got {dtype}")
    cpu_generator(generator)

    def draw(std, *shape):
        normal = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return (std * normal).to(device, dtype)

    weights, biases = [], []
    for i, (columns, rows) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        weights.append(draw(weight_std / math.sqrt(columns), members, rows, columns))
        biases.append(draw(0.0 if last else bias_std, members, rows))
    return TanhNetworks(tuple(weights), tuple(biases), output)


def train(
    networks: TanhNetworks,
    x: Float[Tensor, "P n"],
    y: Float[Tensor, "P K"],
    *,
    lr: float,
    epochs: int,
    batch: int = 32,
    train_hidden: bool = True,
    generator: torch.Generator,
) -> Iterator[Epoch]:
    """Stochastic gradient descent, θ' = θ − η∇L on minibatches, one state per pass.

    Every network sees the same minibatches, in an order drawn anew for each pass. L is the mean of
    (output − y)² over minibatch and outputs if networks end with tanh, and the mean cross-entropy
    −Σ_k y_k ln p_k if they end with softmax.

    All there is to know between two passes is the networks and the state of the generator: with
    both kept, ``train(epoch.networks, …, generator=generator)`` goes on as if it had not stopped.

    Parameters
    ----------
    networks : TanhNetworks
        Start; not modified, and no state is overwritten later.
    x : Tensor (P, n)
        Inputs, of the networks' dtype and device.
    y : Tensor (P, K)
        Targets: numbers in [−1, 1], or probabilities (one-hot for classes).
    lr : float
        Learning rate η of every network.
    epochs : int
        Number of passes; epochs + 1 states are yielded, the start first.
    batch : int
        Patterns in a minibatch; the last of a pass may have fewer.
    train_hidden : bool
        Whether the hidden layers move. If not, their states are computed once.
    generator : torch.Generator
        On the CPU; draws one order per pass, when the pass begins.

    Yields
    ------
    Epoch

    Raises
    ------
    ValueError, TypeError
        If x or y does not fit the networks or is not finite, or a number is out of its range.
    DivergenceError
        If a loss is not finite; the message names the step.
    """
    for name, value, layer, axis in (("x", x, 0, 2), ("y", y, -1, 1)):
        width = networks.weights[layer].shape[axis]
        _check_like(networks, name, value)
        if value.ndim != 2 or value.shape[1] != width or not len(value):
            raise ValueError(f"{name} must have shape (P, {width}), got {tuple(value.shape)}")
        finite(name, value)
    if len(x) != len(y):
        raise ValueError(f"x and y must have as many rows, got {len(x)} and {len(y)}")
    if networks.output == "softmax" and ((y < 0).any() or (y.sum(1) - 1).abs().max() > 1e-4):
        raise ValueError(
            "y must hold probabilities, rows ≥ 0 that add up to 1, for networks that end with "
            "softmax; for classes torch.nn.functional.one_hot makes them"
        )
    if not (isinstance(lr, Real) and 0 < lr < math.inf):
        raise ValueError(f"lr must be positive and finite, got {lr}")
    whole("epochs", epochs, least=0)
    batch = whole("batch", batch)
    cpu_generator(generator)
    return _train(networks, x, y, lr, epochs, batch, train_hidden, generator)


@torch.no_grad()
def _train(networks, x, y, lr, epochs, batch, train_hidden, generator):
    fixed = 0 if train_hidden else len(networks.weights) - 1
    if fixed:
        x = networks.hidden(x)
    losses = [_losses(networks, _forward(_beyond(networks, fixed), x)[-1], y)]
    step = 0
    for number in range(epochs + 1):
        if number:
            networks = replace(
                networks,
                weights=tuple(w.clone() for w in networks.weights),
                biases=tuple(b.clone() for b in networks.biases),
            )
            moving, losses = _beyond(networks, fixed), []
            order = torch.randperm(len(y), generator=generator).to(y.device)
            for chosen in order.split(batch):
                states = _forward(moving, x[..., chosen, :])
                losses.append(_losses(networks, states[-1], y[chosen]))
                _descend(moving, states, y[chosen], lr)
        whole_steps = [loss.isfinite().all().item() for loss in losses]
        if not all(whole_steps):
            raise DivergenceError(
                "training diverged: the loss is not finite after "
                f"{step + whole_steps.index(False)} steps (pass {number}) with lr {lr:.4g}; take a "
                "smaller lr"
            )
        step += len(losses) if number else 0
        yield Epoch(number, networks, torch.cat(losses, 1).mean(1))


def _beyond(networks, layers):
    """The networks without their first layers; parameters are shared."""
    return replace(networks, weights=networks.weights[layers:], biases=networks.biases[layers:])


def _forward(networks, x):
    """States of all layers, the input first."""
    states = [x.expand(len(networks), *x.shape[-2:])]
    for weight, bias in zip(networks.weights, networks.biases, strict=True):
        states.append(torch.baddbmm(bias[:, None], states[-1], weight.mT))
        if len(states) <= len(networks.weights) or networks.output == "tanh":
            states[-1].tanh_()
    if networks.output == "softmax":
        states[-1] = states[-1].softmax(-1)
    return states


def _losses(networks, out, y):
    if networks.output == "tanh":
        return (out - y).square().mean(-1)
    return -torch.xlogy(y, out).sum(-1)


def _descend(networks, states, y, lr):
    """One step of gradient descent, in place: the backward pass written out."""
    out, count = states[-1], y.shape[0]
    if networks.output == "tanh":
        delta = (out - y) * (1 - out * out) * (2 / (count * y.shape[1]))
    else:
        delta = (out * y.sum(-1, keepdim=True) - y) / count
    for layer in range(len(networks.weights) - 1, -1, -1):
        weight, bias, state = networks.weights[layer], networks.biases[layer], states[layer]
        back = delta @ weight if layer else None
        weight.baddbmm_(delta.mT, state, alpha=-lr)
        bias.sub_(delta.sum(1), alpha=lr)
        if layer:
            delta = back.mul_(1 - state * state)


def _points(networks, x):
    _check_like(networks, "x", x)
    members, width = len(networks), networks.weights[0].shape[2]
    if x.ndim not in (2, 3) or x.shape[-1] != width or (x.ndim == 3 and len(x) != members):
        raise ValueError(
            f"x must have shape (P, {width}) or ({members}, P, {width}), got {tuple(x.shape)}"
        )
    return x


def _check_like(networks, name, value):
    w = networks.weights[0]
    if not isinstance(value, Tensor) or value.dtype != w.dtype or value.device != w.device:
        where = f" on {value.device}" if isinstance(value, Tensor) else ""
        raise TypeError(
            f"{name} must have dtype and device of the networks ({w.dtype} on {w.device}), got "
            f"{kind(value)}{where}; move it with {name}.to(networks.weights[0])"
        )
