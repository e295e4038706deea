"""How the loss of a network, on all data or on minibatches, becomes a map of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dynbook.domains import cpu_generator, finite, kind, whole
from dynbook.ensembles import Training as Training
from dynbook.ensembles import descend as descend
from dynbook.maps import Map, at_rest, can_be_called, gradient_descent


def module_loss(
    network: nn.Module,
    objective: Callable[[Tensor, Tensor], Tensor],
    x: Tensor | None = None,
    y: Tensor | None = None,
) -> Callable[..., Tensor]:
    """The loss of a network as a function of its parameters, one flat vector θ for each member.

    L(θ) = objective(network_θ(x), y), with members along the leading dimensions of θ, all of them
    computed together.

    Parameters
    ----------
    network : torch.nn.Module
        Any that ``torch.vmap`` can batch over its parameters, or any for a single θ: LSTM, GRU and
        RNN take no more than that. θ holds the parameters that require a gradient, in the order of
        ``network.parameters()``, and their dtype; the network's own are neither read nor changed.
        The others, and buffers, are read at each call as they then are.
    objective : callable
        From outputs and targets to one number, such as ``torch.nn.functional.mse_loss``.
    x, y : Tensor
        Inputs and targets, as the network and the objective take them. If they are left out here,
        they are given with θ, as by :func:`minibatch_descent`.

    Returns
    -------
    callable
        loss(theta) or loss(theta, x, y): from (..., p) to (...).

    Raises
    ------
    TypeError
        If network is no module, objective cannot be called, or parameters differ in dtype or
        device; and, when it is called, if θ is no tensor of their dtype.
    ValueError
        If no parameter requires a gradient; at once and whenever it is called, if something behaves
        as in training (Dropout, BatchNorm, the dropout of LSTM or MultiheadAttention); and, when it
        is called, if θ has not p entries, there are no data, or the objective does not return one
        number.
    """
    moving = _moving(network)
    names, shapes = zip(*((name, p.shape) for name, p in moving), strict=True)
    _at_rest(network)
    can_be_called("objective", objective)
    sizes = [shape.numel() for shape in shapes]

    def one(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        parts = (part.view(shape) for part, shape in zip(theta.split(sizes), shapes, strict=True))
        parameters = dict(zip(names, parts, strict=True))
        value = objective(torch.func.functional_call(network, parameters, (x,)), y)
        if getattr(value, "shape", None) != ():
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            raise ValueError(
                "objective must return one number, as a mean over all outputs, got "
                f"{kind(value) if not shape else 'a tensor'}{shape}"
            )
        return value

    def loss(theta: Tensor, x: Tensor | None = x, y: Tensor | None = y) -> Tensor:
        _fits(theta, sum(sizes), moving[0][1].dtype, network)
        _at_rest(network)
        if x is None or y is None:
            raise ValueError("x and y must be given, to module_loss or to the loss it returns")
        if theta.ndim == 1:
            return one(theta, x, y)
        members = torch.vmap(one, (0, None, None))(theta.reshape(-1, theta.shape[-1]), x, y)
        return members.view(theta.shape[:-1])

    return loss


def flatten(network: nn.Module) -> Float[Tensor, " p"]:
    """θ: the parameters that require a gradient, one after the other; a copy.

    For M networks ``torch.stack([flatten(make()) for _ in range(M)])``.

    Raises
    ------
    TypeError, ValueError
        As for :func:`module_loss`.
    """
    return torch.cat([p.detach().flatten() for _, p in _moving(network)])


@torch.no_grad()
def load_flat(network: nn.Module, theta: Float[Tensor, " p"]) -> nn.Module:
    """The network itself, with its parameters set to θ.

    Raises
    ------
    TypeError, ValueError
        As for :func:`module_loss`; or if θ is not one vector (p,).
    """
    moving = [p for _, p in _moving(network)]
    _fits(theta, sum(p.numel() for p in moving), moving[0].dtype, network)
    if theta.ndim != 1:
        raise ValueError(
            f"theta must be one vector (p,), got {tuple(theta.shape)}: one member is theta[i]"
        )
    for p, part in zip(moving, theta.split([p.numel() for p in moving]), strict=True):
        p.copy_(part.view_as(p))
    return network


def _moving(network: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters that require a gradient, and their names."""
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a torch.nn.Module, got {kind(network)}")
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError(
            "network must have a parameter that requires a gradient, but has none; "
            "network.requires_grad_() lets all of them move"
        )
    if len(kinds := {(p.dtype, p.device) for _, p in named}) > 1:
        raise TypeError(
            f"network must have parameters of one dtype on one device, got {len(kinds)} kinds; "
            "network.double() or network.to(device) makes them one"
        )
    return named


def _at_rest(network: nn.Module) -> None:
    """Refuses modules that behave as in training, those too whose dropout is a number."""
    at_rest(network)
    for module in network.modules():
        share = getattr(module, "dropout", 0)
        if module.training and isinstance(share, Real) and share > 0:
            raise ValueError(
                f"network must be at rest, but its {type(module).__name__} has dropout {share:g} "
                "and is in training mode; call network.eval() first"
            )


def _fits(theta: Tensor, p: int, dtype: torch.dtype, network: nn.Module) -> None:
    if not isinstance(theta, Tensor) or theta.dtype != dtype:
        raise TypeError(
            f"theta must be a {dtype} tensor, as the parameters of this {type(network).__name__}, "
            f"got {kind(theta)}; convert one of them, with theta.to(…) or network.to(…)"
        )
    if theta.ndim == 0 or theta.shape[-1] != p:
        raise ValueError(
            f"theta must have shape (..., {p}), the parameters of this {type(network).__name__}, "
            f"got {tuple(theta.shape)}; of a doubled state (θ, v) θ is the first half"
        )


def minibatch_descent(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    x: Float[Tensor, "P ..."],
    y: Float[Tensor, "P ..."],
    lr: float | Tensor | Callable[[int], float],
    batch: int,
    *,
    momentum: float | Tensor = 0.0,
    members: int | None = None,
    generator: torch.Generator,
) -> MinibatchDescent:
    """Gradient descent on minibatches: a random map, a new one at each step, without end.

    Every pass through the data takes them in a new random order; if batch does not divide P, the
    last minibatch of a pass is smaller.

    Parameters
    ----------
    loss : callable
        From θ (..., p) and minibatches of x and y to (...), as :func:`module_loss` makes it of a
        network.
    x, y : Tensor (P, …)
        Inputs and targets.
    lr : float, Tensor or callable
        Learning rate η as for :func:`~dynbook.maps.gradient_descent`, or a schedule: η as a
        function of the step's number 0, 1, ….
    batch : int
        Patterns in a minibatch, 1 … P.
    momentum : float or Tensor
        As for :func:`~dynbook.maps.gradient_descent`.
    members : int, optional
        If not given, all members of an ensemble see the same minibatches: one realisation of the
        noise. If given, each of M members has an order of its own: θ is (M, p), any other
        shape a ValueError at the step, and loss is called as ``torch.vmap(loss)``, for one θ at a
        time.
    generator : torch.Generator
        On the CPU. It is asked once, for the seed of all orders.

    Returns
    -------
    MinibatchDescent
        An iterable of maps; each iteration of it begins anew with step 0 and is the same, so that
        training can be resumed.

    Raises
    ------
    TypeError, ValueError
        If x and y have not as many rows or are not finite, batch or members is out of range, the
        generator is none on the CPU, or for a reason of :func:`~dynbook.maps.gradient_descent`.
    """
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor) or value.ndim == 0:
            raise TypeError(f"{name} must be a tensor (P, …), got {kind(value)}")
        finite(name, value)
    if len(x) != len(y):
        raise ValueError(f"x and y must have as many rows, got {len(x)} and {len(y)}")
    batch = whole("batch", batch, most=len(x))
    members = None if members is None else whole("members", members)
    gradient_descent(loss, lr(0) if callable(lr) else lr, momentum)
    cpu_generator(generator)
    seed = torch.randint(2**62, (), generator=generator).item()
    return MinibatchDescent(loss, x, y, lr, batch, momentum, members, seed)


@dataclass(frozen=True)
class MinibatchDescent:
    """What :func:`minibatch_descent` returns: iterate it for the maps."""

    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor
    lr: float | Tensor | Callable[[int], float]
    batch: int
    momentum: float | Tensor
    members: int | None
    seed: int

    def __iter__(self) -> Iterator[Map]:
        step = 0
        on = _on if self.members is None else _each_on_its_own
        for chosen in self.minibatches():
            lr = self.lr(step) if callable(self.lr) else self.lr
            drawn = partial(on, self.loss, self.x[chosen], self.y[chosen])
            yield gradient_descent(drawn, lr, self.momentum)
            step += 1

    def minibatches(self) -> Iterator[Tensor]:
        """Rows of the data for each step, (batch,) or (M, batch), without end."""
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            if self.members is None:
                order = torch.randperm(len(self.x), generator=generator)
            else:
                keys = torch.rand(self.members, len(self.x), generator=generator)
                order = keys.argsort(-1)
            yield from order.to(self.x.device).split(self.batch, -1)


def _on(loss: Callable, x: Tensor, y: Tensor, theta: Tensor) -> Tensor:
    return loss(theta, x, y)


def _each_on_its_own(loss: Callable, x: Tensor, y: Tensor, theta: Tensor) -> Tensor:
    if theta.shape[:-1] != x.shape[:1]:
        raise ValueError(
            f"the state must have shape (members, p) = ({len(x)}, p), as each member has "
            f"minibatches of its own, got {tuple(theta.shape)}"
        )
    return torch.vmap(loss)(theta, x, y)
