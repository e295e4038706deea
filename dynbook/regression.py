"""Least squares by Adam or gradient descent on minibatches, for many networks side by side."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.adam import adam

from dynbook.chains import Chain, by_autograd
from dynbook.checkpoints import Keeper, alike, digest, writable
from dynbook.descent import flatten, module_loss
from dynbook.domains import cpu_generator, finite, first_bad, kind, whole
from dynbook.ensembles import Rows, bar_of, tell


@dataclass(frozen=True)
class Fit:
    """Networks after a number of steps, all that is needed to go on.

    Attributes
    ----------
    step : int
        Steps made.
    theta : Tensor (..., p)
        Trained numbers of each member, as :func:`~dynbook.descent.flatten` orders them; those of a
        diverged one are its last good ones.
    loss : Tensor (...)
        Mean square error of theta on all data.
    diverged : Tensor (...), int64
        The step at which a member's loss, parameters or ``square`` were found to have left the
        finite numbers, −1 if they did not.
    losses : Tensor (K, ...)
        ``loss`` of all states yielded so far, this one included; the states that a run yields may
        share its rows.
    mean, square : Tensor (..., p)
        Adam's averages of the gradient and of its square; gradient descent leaves them as they
        were at its start, 0 if nothing else is given.
    optimizer : {"adam", "gd"}
        What makes the steps.
    """

    step: int
    theta: Float[Tensor, "*b p"]
    loss: Float[Tensor, "*b"]
    diverged: Int[Tensor, "*b"]
    losses: Float[Tensor, "K ..."]
    mean: Float[Tensor, "*b p"]
    square: Float[Tensor, "*b p"]
    optimizer: str = "adam"


def fit(
    network: nn.Module,
    x: Float[Tensor, "P d"],
    y: Float[Tensor, "P out"],
    *,
    steps: int,
    batch: int | None = None,
    lr: float = 1e-3,
    decay: tuple[float, int] | None = None,
    optimizer: str = "adam",
    generator: torch.Generator | None = None,
    every: int = 1,
    start: Fit | Float[Tensor, "*b p"] | None = None,
    checkpoint: str | Path | None = None,
    seconds: float = 60.0,
    progress: bool = False,
) -> Iterator[Fit]:
    """Fit networks to data by least squares, and yield every so many-th state.

    The loss of a step is the mean square error over the points of its minibatch and the outputs.
    Every pass through the data takes them in a new random order, the same for all members; what is
    left of a pass when batch does not divide P is left out of it. A member whose loss, parameters
    or squares of gradients leave the finite numbers is named by a
    :class:`~dynbook.ensembles.DivergenceWarning`, goes back to its last good parameters and stays
    there; the others do not notice. A run that goes on from a state that was yielded, or from a
    checkpoint, is the run that was never stopped, to the bit where a step always rounds alike: on
    one CPU, with as many threads and members, and the same PyTorch. A member alone, or among
    others, is the same but for rounding, which training enlarges.

    Adam (:cite:t:`kingma2015`) has β = (0.9, 0.999) and ε = 1e-8, on all members in one step.
    Whether TF32 is used is left as it is set: PyTorch has it off, unless it is switched on. On
    CUDA the step is recorded once and replayed as a CUDA graph, if the network has
    ``loss_and_gradients``; that path has not been measured.

    Parameters
    ----------
    network : torch.nn.Module
        :class:`~dynbook.mmnn.MMNN` and :class:`~dynbook.mmnn.FullyConnected`, with members or
        without, have ``loss_and_gradients`` that is used here; of any other, and of those with
        forward hooks or a ``forward`` that is not their own, autograd and
        :func:`~dynbook.descent.module_loss` make it. The network itself is not changed: its values
        for a state are ``network(x, state.theta)``, or those after
        ``load_flat(network, state.theta)``.
    x, y : Tensor (P, d), (P, out)
        Data, on the network's device and in its dtype. They are not copied, and must not change
        before the run has ended.
    steps : int
        Steps in all, counted from step 0.
    batch : int, optional
        Points in a minibatch, 1 … P; default: all points, in their order, and no generator.
    lr : float
        Learning rate of the first step.
    decay : (float, int), optional
        (q, k): the learning rate is multiplied by q after every k steps.
    optimizer : {"adam", "gd"}
        Adam or plain gradient descent.
    generator : torch.Generator, optional
        On the CPU; asked once, for the seed of all orders.
    every : int
        States at steps 0, every, 2·every, …, steps are yielded, from the start on; steps is a
        multiple. The loss on all data that comes with each costs about a third of a pass.
    start : Fit or Tensor (..., p), optional
        Where a run was left, or other parameters than the network's.
    checkpoint : path, optional
        A file. If it is not there, the run begins at start and writes it, the state yielded last,
        at least every so many seconds where states are yielded, on an interruption, and at the end;
        if it is, the run goes on from it. It is never half written, and an older state never takes
        the place of a newer one.
    seconds : float
        Time between writes.
    progress : bool
        Whether to show a bar, by tqdm.

    Yields
    ------
    Fit

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or size, x, y or the loss of the start is not
        finite, start is a Fit of another network or to other data, or Adam is to go on from a Fit
        by gradient descent.
    CheckpointError
        If the file is damaged or belongs to another run: to other settings, data or fixed numbers,
        another network or start, or one whose loss is another.
    OSError
        If the file cannot be written. Another exception that ends the run, such as
        KeyboardInterrupt, comes first, with a note that names the state that is not on the disk.
    """
    steps, every = whole("steps", steps, least=0), whole("every", every)
    if steps % every:
        raise ValueError(
            f"steps must be a multiple of every, so that the end is yielded: {steps}, {every}"
        )
    given = start
    (loss, slope), start = _objective(network), _start(network, start, optimizer)
    if steps < start.step or (steps - start.step) % every:
        raise ValueError(
            f"steps counts from step 0 and must be {start.step}, where the start is, or a multiple "
            f"of every = {every} more, got {steps}"
        )
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor) or value.ndim < 1 or len(value) == 0:
            raise TypeError(f"{name} must be a tensor (P, …) with P ≥ 1 rows, got {kind(value)}")
        if value.device != start.theta.device:
            raise ValueError(
                f"{name} must be on the network's device {start.theta.device}, got {value.device}"
            )
        finite(name, value)
    if len(x) != len(y):
        raise ValueError(f"x and y must have as many rows, got {len(x)} and {len(y)}")
    if not (_number(lr) and 0 < lr < math.inf):
        raise ValueError(f"lr must be positive and finite, got {lr!r:.40}")
    if optimizer not in ("adam", "gd"):
        raise ValueError(f"optimizer must be 'adam' or 'gd', got {optimizer!r:.40}")
    if not (_number(seconds) and seconds >= 0):
        raise ValueError(f"seconds must be a number ≥ 0, got {seconds!r:.40}")
    factor, period = _decay(decay)
    seed = None
    if batch is not None:
        batch = whole("batch", batch, most=len(x))
        seed = torch.randint(2**62, (), generator=cpu_generator(generator)).item()
    try:
        with torch.no_grad():  # refuses data that do not fit, and tells this run from others
            tried = loss(x[: 1 << 14], y[: 1 << 14], start.theta)
    except RuntimeError as error:
        raise ValueError(
            f"x must be points that the network takes, in its dtype, got {kind(x)}, shape "
            f"{tuple(x.shape)}: {error}"
        ) from error
    if (~tried.isfinite() & (start.diverged < 0)).any():
        raise ValueError(
            f"start must have a finite loss, got {first_bad(tried)}: its numbers, or those of x or "
            "y, are too large, or the network makes no number of them"
        )
    if isinstance(given, Fit) and len(given.losses):
        whole_loss = _whole_loss(loss, x, y, start.theta)
        near = _rounded(whole_loss, y)
        if not alike(torch.stack([start.loss, start.loss]), near):
            raise ValueError(
                "start must be a Fit of this network to these data, but its loss is "
                f"{start.loss.tolist()!s:.40}, not {whole_loss.tolist()!s:.40}: give start.theta, "
                "to begin anew"
            )
    file = None if checkpoint is None else writable("checkpoint", checkpoint)
    run = file and {
        "shape": tuple(start.theta.shape),
        "dtype": str(start.theta.dtype),
        **_described(network),
        "steps": steps,
        "every": every,
        "batch": batch,
        "lr": float(lr),
        "decay": (factor, period),
        "optimizer": optimizer,
        "order of the data": seed,
        "start": digest(start.theta, start.step, start.mean, start.square),
        "x or y": digest(x, y),
        "fixed part": digest(
            dict(network.named_buffers()),
            {name: p for name, p in network.named_parameters() if not p.requires_grad},
        ),
        "loss of the start": _rounded(tried, y).cpu(),
    }
    rate, adamic = lambda t: lr * factor ** (t // period), optimizer == "adam"
    path = _Path(loss, slope, x, y, batch, seed, rate, adamic)
    return _run(path, start, steps, every, Keeper(file, seconds), run, progress)


def pass_order(seed: int, epoch: int, points: int) -> Int[Tensor, " P"]:
    """The order in which pass 0, 1, … takes the data; seed is what fit draws from its generator."""
    mixed = hashlib.sha256(f"{seed} {epoch}".encode()).digest()  # seed + epoch is also another's
    stream = torch.Generator().manual_seed(int.from_bytes(mixed[:8], "little") >> 2)
    return torch.randperm(points, generator=stream)


def _run(path, now, steps, every, keeper, run, progress) -> Iterator[Fit]:
    """The states that are yielded, on file from time to time."""
    now = Fit(**keeper.begin(run, vars(now)))
    told, going_on = now.diverged, len(now.losses) > 0
    path.begin(now)
    with bar_of(steps, now.step, progress) as bar:
        try:
            while True:
                now = now if going_on else path.state()
                going_on = False
                keeper.offer(now)
                told = tell(now.diverged, told, _FATE)
                if bar is not None:
                    bar.set_postfix_str(f"mean square error {now.loss.nanmedian():.2g}")
                yield path.shown(now)
                if now.step >= steps:
                    break
                for _ in range(every):
                    path.step()
                    if bar is not None:
                        bar.update()
        except BaseException as error:
            if len(now.losses):
                keeper.close(now, error)
            raise
        keeper.close(now)


_FATE = "their last good parameters are kept, the others go on. A smaller lr may help"


class _Path:
    """A training in its own memory, advanced in place."""

    def __init__(self, value, slope, x, y, batch, seed, lr, adamic):
        self.value, self.slope, self.x, self.y, self.lr = value, slope, x, y, lr
        self.batch, self.seed, self.adamic = batch, seed, adamic
        self.orders, self.graph = (-1, None, None), None

    def begin(self, now: Fit) -> None:
        self.count, self.losses = now.step, Rows(now.losses)
        dense = torch.contiguous_format  # Adam's kernel pairs numbers by their place in memory
        self.theta, self.mean, self.square, self.good = (
            t.clone(memory_format=dense) for t in (now.theta, now.mean, now.square, now.theta)
        )
        self.diverged = now.diverged.clone()
        self.steps = torch.tensor(float(now.step), device=self.theta.device)
        kind = torch.float32 if self.theta.is_cuda else torch.float64  # as the fused kernels ask
        self.rate = torch.zeros((), dtype=kind, device=self.theta.device)
        self.calm = not self.theta.is_cuda and not (self.diverged >= 0).any()
        self.replayed = self.theta.is_cuda and self.slope.func is _slope_by_hand
        self.gradient = self.slope(self.theta)

    def state(self) -> Fit:
        """Where the training is; those who have left the finite numbers are put back."""
        loss = self._loss()
        gone = self._gone(loss)
        if gone.any():
            self.calm = False
            self._put_back(gone)
            loss = torch.where(gone, self._loss(), loss)
        self.losses.add(loss)
        theta, diverged = self.theta.clone(), self.diverged.clone()
        mean, square = self.mean.clone(), self.square.clone()
        name = "adam" if self.adamic else "gd"
        return Fit(self.count, theta, loss, diverged, self.losses.own, mean, square, name)

    def shown(self, now: Fit) -> Fit:
        """A copy that can be changed without harm to the run."""
        names = "theta", "loss", "diverged", "mean", "square"
        copies = {name: getattr(now, name).clone() for name in names}
        return replace(now, losses=self.losses.shown, **copies)

    def step(self) -> None:
        """One step of all members."""
        x, y = self._minibatch()
        self.rate.fill_(self.lr(self.count))
        if self.replayed:
            self.graph = self.graph or _recorded(self, x, y)
            self.graph(x, y)
        else:
            self.advance(x, y)
        self.count += 1

    @torch.no_grad()
    def advance(self, x: Tensor, y: Tensor) -> None:
        """One step on these data, for which nothing is asked of the device."""
        loss, gradient = self.gradient(x, y)
        all_of_it = loss.sum() + self.theta.sum() + self.square.sum() if self.calm else loss
        calm = self.calm and math.isfinite(all_of_it.item())
        if not calm:
            self.calm = False
            self._put_back(self._gone(loss))
            gradient = gradient.masked_fill((self.diverged >= 0)[..., None], 0)
        self.good.copy_(self.theta)
        if self.adamic:
            state = [[self.theta], [gradient], [self.mean], [self.square], [], [self.steps]]
            adam(
                *state, fused=True, lr=self.rate, beta1=0.9, beta2=0.999, eps=1e-8,
                weight_decay=0.0, amsgrad=False, maximize=False,
            )  # fmt: skip
        else:
            self.theta.sub_(self.rate * gradient)
            self.steps += 1
        if not calm:
            self.theta.copy_(torch.where((self.diverged >= 0)[..., None], self.good, self.theta))

    def _gone(self, loss: Tensor) -> Tensor:
        """The members with a loss, parameters or squares of gradients that are not finite."""
        good = (loss + 0 * self.theta.sum(-1)).isfinite() & self.square.isfinite().all(-1)
        return ~good & (self.diverged < 0)

    def _put_back(self, gone: Tensor) -> None:
        self.diverged.copy_(torch.where(gone, self.steps.long(), self.diverged))
        self.theta.copy_(torch.where(gone[..., None], self.good, self.theta))

    def _minibatch(self) -> tuple[Tensor, Tensor]:
        if self.batch is None:
            return self.x, self.y
        epoch, i = divmod(self.count, len(self.x) // self.batch)
        if self.orders[0] != epoch:
            order = pass_order(self.seed, epoch, len(self.x)).to(self.x.device)
            self.orders = epoch, self.x[order], self.y[order]
        chosen = slice(i * self.batch, (i + 1) * self.batch)
        return self.orders[1][chosen], self.orders[2][chosen]

    def _loss(self) -> Tensor:
        return _whole_loss(self.value, self.x, self.y, self.theta)


@torch.no_grad()
def _whole_loss(value: Callable, x: Tensor, y: Tensor, theta: Tensor) -> Tensor:
    """Mean square error on all data."""
    total = 0
    for some, theirs in zip(x.split(2**14), y.split(2**14), strict=True):
        total = total + value(some, theirs, theta) * (len(some) / len(x))
    return total


def _rounded(loss: Tensor, y: Tensor) -> Tensor:
    """Losses, and by how much they may differ on another machine: f − y is rounded as y is."""
    size = loss.abs() + loss.abs().sqrt() * y.abs().max()
    return torch.stack([loss, 1e3 * torch.finfo(loss.dtype).eps * size])


def _mean_square(out: Tensor, y: Tensor) -> Tensor:
    if out.shape != y.shape or out.dtype != y.dtype:
        raise ValueError(
            f"y must be {out.dtype}, shape {tuple(out.shape)}, as the network's outputs, got "
            f"{y.dtype}, {tuple(y.shape)}"
        )
    return mse_loss(out, y)


def _objective(network: nn.Module) -> tuple[Callable, Callable]:
    """The loss (x, y, θ) ↦ L; and for a θ that changes in place, (x, y) ↦ L and its gradient."""
    if _by_hand(network):
        return network.loss, partial(_slope_by_hand, network)
    of = module_loss(network, _mean_square)
    return lambda x, y, theta: of(theta, x, y), partial(_slope_by_autograd, of)


def _by_hand(network: nn.Module) -> bool:
    """Whether the network has ``loss_and_gradients``, and they are those of its values."""
    if not isinstance(network, nn.Module) or not hasattr(network, "loss_and_gradients"):
        return False
    of = type(network)
    own = of.forward is Chain.forward and "forward" not in vars(network)
    hooks = network._forward_hooks or network._forward_pre_hooks
    return (own or of.loss_and_gradients is not Chain.loss_and_gradients) and not hooks


def _described(network: nn.Module) -> dict[str, object]:
    """What tells a network from others, its numbers apart."""

    def words(part: object) -> str:
        return getattr(part, "__name__", None) or re.sub(r" at 0x[0-9a-fA-F]+", "", repr(part))

    if not isinstance(network, Chain):
        return {"network": type(network).__name__, "structure": digest(words(network))}
    return {
        "network": type(network).__name__,
        "shapes": [tuple(shape) for shape in network.shapes],
        "skips": sorted(network.skips),
        "activation": words(network.activation),
    }


def _slope_by_hand(network: nn.Module, theta: Tensor) -> Callable:
    held = network.hold(theta) if isinstance(network, Chain) else theta
    return lambda x, y: network.loss_and_gradients(x, y, held)


def _slope_by_autograd(of: Callable, theta: Tensor) -> Callable:
    return lambda x, y: by_autograd(lambda theta: of(theta, x, y), theta)


def _start(network: nn.Module, start: Fit | Tensor | None, optimizer: str) -> Fit:
    members = network.members if isinstance(network, Chain) and _by_hand(network) else None
    own = flatten(network).view(*([members] if members else []), -1)
    theta = own if start is None else start.theta if isinstance(start, Fit) else start
    if not isinstance(theta, Tensor) or theta.dtype != own.dtype or theta.device != own.device:
        raise TypeError(
            f"start must be a Fit or a tensor (..., p) of {own.dtype} on {own.device}, as the "
            f"network is, got {kind(theta)}"
        )
    fits = theta.shape[-own.ndim :] == own.shape and theta.numel() > 0
    if not fits:
        raise ValueError(
            f"start must have shape (..., {', '.join(map(str, own.shape))}), the network's, got "
            f"{tuple(theta.shape)}"
        )
    theta = finite("start", theta.detach()).clone()
    if isinstance(start, Fit):
        step, one = whole("start.step", start.step, least=0), theta[..., 0]
        like = {"mean": theta, "square": theta, "loss": one, "diverged": one.long(), "losses": one}
        for name, other in like.items():
            t, rows = getattr(start, name), int(name == "losses")
            if not isinstance(t, Tensor) or t.ndim < rows:
                raise TypeError(f"start.{name} must be a tensor that fits theta, got {kind(t)}")
            shape = t.shape[rows:]
            if (shape, t.dtype, t.device) != (other.shape, other.dtype, other.device):
                raise ValueError(
                    f"start.{name} must fit start.theta, {other.dtype}, shape "
                    f"{tuple(other.shape)}, got {t.dtype}, {tuple(shape)}"
                )
        if optimizer == "adam" and step and start.optimizer != "adam":
            raise ValueError(
                "start must be a Fit by Adam, where Adam is to go on, but is one by "
                f"{start.optimizer!r:.40}: give start.theta, to begin at step 0"
            )
        kept = {name: getattr(start, name).detach().clone() for name in like}
        return replace(start, step=step, theta=theta, optimizer=optimizer, **kept)
    zero, lead = torch.zeros_like(theta), theta.shape[:-1]
    nowhere = torch.full(lead, -1, device=theta.device)
    loss = theta.new_full(lead, math.nan)
    rows = theta.new_empty(0, *lead)
    return Fit(0, theta, loss, nowhere, rows, zero, zero, optimizer)


def _number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _decay(decay: tuple[float, int] | None) -> tuple[float, int]:
    match decay:
        case None:
            return 1.0, 1
        case (q, k) if _number(q) and _number(k) and 0 < q <= 1 <= k < math.inf and k % 1 == 0:
            return float(q), int(k)
    raise ValueError(f"decay must be (q, k) with 0 < q ≤ 1 and k ≥ 1 whole, got {decay!r:.40}")


def _recorded(path: _Path, x: Tensor, y: Tensor) -> Callable[[Tensor, Tensor], None]:
    """The step as a CUDA graph, to be called with minibatches of this size."""
    names = "theta", "mean", "square", "good", "diverged", "steps"
    kept = {name: getattr(path, name).clone() for name in names}
    x, y = x.clone(), y.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # what is allocated or chosen in a first call
            path.advance(x, y)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        path.advance(x, y)
    for name, value in kept.items():
        getattr(path, name).copy_(value)

    def replay(now: Tensor, then: Tensor) -> None:
        x.copy_(now)
        y.copy_(then)
        graph.replay()

    return replay
