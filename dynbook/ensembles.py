"""Many trainings side by side, stopped and resumed with nothing lost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice, repeat
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dynbook.checkpoints import CheckpointError as CheckpointError
from dynbook.checkpoints import Keeper, alike, digest, writable
from dynbook.domains import cpu_generator, kind, whole
from dynbook.maps import Map, advance, can_be_called, states


class DivergenceWarning(RuntimeWarning):
    """Members of an ensemble left the finite numbers; the message names them and the step."""


@dataclass(frozen=True)
class Training:
    """An ensemble of trainings after a number of steps, all that is needed to go on.

    Attributes
    ----------
    step : int
        Steps made.
    theta : Tensor (..., p)
        State of the map, with momentum (θ, v); NaN from the step on at which a member diverges.
    diverged : Tensor (...), int64
        The step at which a member left the finite numbers, −1 if it did not.
    seen : Tensor (K, …), optional
        What ``observe`` said of the K states yielded so far, this one included; the states that a
        run yields may share its rows.
    random : Tensor, optional
        State of the generator.
    """

    step: int
    theta: Float[Tensor, "*b p"]
    diverged: Int[Tensor, "*b"]
    seen: Tensor | None = None
    random: Tensor | None = None

    @property
    def alive(self) -> Bool[Tensor, "*b"]:
        """The members that are still finite, as a mask: ``theta[alive]``."""
        return self.diverged < 0


def descend(
    steps: Map | Iterable[Map],
    start: Float[Tensor, "*b p"] | Training,
    n: int,
    *,
    every: int = 1,
    observe: Callable[[Tensor], Tensor] | None = None,
    checkpoint: str | Path | None = None,
    seconds: float = 60.0,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Iterator[Training]:
    """Advance all members of an ensemble together, and yield every so many-th state.

    A member that leaves the finite numbers, because its gradient does or its step is too large, is
    named by a :class:`DivergenceWarning` and is NaN from then on; the others do not notice, to the
    bit. A run that goes on from a state that was yielded, or from a checkpoint, is the run that
    was never stopped, to the bit where a step always rounds alike, as on one CPU.

    Parameters
    ----------
    steps : Map, or iterable of Maps
        One map for all steps; or one for each, numbered from 0, as a list or
        :func:`~dynbook.descent.minibatch_descent`: what begins anew each time it is iterated.
    start : Tensor (..., p), or Training
        Initial states, their members along leading dimensions; or where a run was left.
    n : int
        Steps in all, counted from step 0.
    every : int
        States at steps 0, every, 2·every, …, n are yielded, from start on; n is a multiple.
    observe : callable, optional
        From states (..., p) to a tensor that is kept, such as the losses (...): ``seen`` holds it
        for all states yielded, those before an interruption included. That of a diverged member
        is what the function makes of NaN. It gets a copy, and may work in place.
    checkpoint : path, optional
        A file. If it is not there, the run begins at start and writes it, at least every so many
        seconds, on an interruption, and at the end; if it is, the run goes on from it. It is
        never half written. To know its run again the first step is made twice beforehand, which
        leaves PyTorch's random state and the generator as they were.
    seconds : float
        Time between writes.
    generator : torch.Generator, optional
        What the steps draw from, if they draw when they are called (noise); its state is kept, and
        set on resuming. Minibatches need none here.
    progress : bool
        Whether to show a bar, by tqdm.

    Yields
    ------
    Training

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or size, a step changes shape, dtype or device, what
        ``observe`` returns changes shape or dtype, there are fewer than n maps, or what is to be
        resumed cannot be: an iterable that cannot begin anew, or steps that draw from elsewhere
        than generator.
    CheckpointError
        If the file is damaged, or belongs to another run: to other shapes, dtype, n or every, to
        another start or observe, or to a first step that goes elsewhere (another loss, learning
        rate or minibatch).
    OSError
        If the file cannot be written. Another exception that ends the run, such as
        KeyboardInterrupt, comes first, with a note that names the state that is not on the disk.
    """
    n, every = whole("n", n, least=0), whole("every", every)
    if n % every:
        raise ValueError(f"n must be a multiple of every, so that the end is yielded: {n}, {every}")
    if generator is not None:
        cpu_generator(generator)
    if observe is not None:
        can_be_called("observe", observe)
    if not callable(steps) and not isinstance(steps, Iterable):
        raise TypeError(f"steps must be a map or an iterable of maps, got {kind(steps)}")
    if not isinstance(start, Training):
        x = states("start", start)
        nowhere = torch.full(x.shape[:-1], -1, device=x.device)
        start = Training(0, x.clone(), nowhere)
    if n < start.step:
        raise ValueError(f"n counts from step 0 and must be ≥ {start.step}, the start's; got {n}")
    if isinstance(steps, Iterator) and (start.step or checkpoint is not None):
        raise ValueError(
            "steps must begin anew each time they are iterated, where a run is resumed or may be; "
            "got an iterator, which is gone when it has run: give a list, or minibatch_descent(…)"
        )
    if not (isinstance(seconds, Real) and seconds >= 0):
        raise ValueError(f"seconds must be a number ≥ 0, got {seconds!r:.40}")
    file = None if checkpoint is None else writable("checkpoint", checkpoint)
    keeper = Keeper(file, seconds)
    return _run(steps, start, n, _Log(observe, every), keeper, generator, progress)


def _run(steps, now, n, log, keeper, generator, progress):
    run = keeper.file and _fingerprint(steps, now, n, log, generator)
    now = Training(**keeper.begin(run, vars(now)))
    if generator is not None:
        if now.random is not None:
            generator.set_state(now.random)
        now = replace(now, random=generator.get_state())
    now = log(now) if now.seen is None else log.going_on(now)
    maps, told = _maps(steps, now.step, n), now.diverged
    with bar_of(n, now.step, progress) as bar:
        try:
            while True:
                keeper.offer(now)  # at once, to hear early of a disk that is full
                if now.step % log.every == 0:
                    told = tell(now.diverged, told, _FATE)
                    if bar is not None:
                        bar.set_postfix_str(f"{(told >= 0).sum()} diverged")
                    yield log.shown(now)
                if now.step == n:
                    break
                now = log(_advanced(now, next(maps), generator))  # a whole state, or none
                if bar is not None:
                    bar.update()
        except BaseException as error:
            keeper.close(now, error)
            raise
        keeper.close(now)


@torch.no_grad()
def _advanced(now: Training, step: Map, generator: torch.Generator | None) -> Training:
    """The ensemble one step later; members that are not finite become NaN."""
    count, diverged = now.step + 1, now.diverged
    x = advance(step, now.theta.clone(), count)  # a clone, for steps that work in place
    gone = (0 * x).sum(-1) != 0  # 0 · x is 0, or NaN where x is not finite
    if gone.any():
        x = x.masked_fill(gone[..., None], torch.nan)
        diverged = torch.where(gone & (diverged < 0), count, diverged)
    random = None if generator is None else generator.get_state()
    return Training(count, x, diverged, now.seen, random)


def _maps(steps: Map | Iterable[Map], first: int, n: int) -> Iterator[Map]:
    """The maps of the steps first + 1, …, n."""
    count = 0
    for count, step in enumerate(repeat(steps, n) if callable(steps) else islice(steps, n), 1):
        if count > first:
            yield can_be_called(f"step {count}", step)
    raise ValueError(f"steps must hold n = {n} maps, got {count}")


class Rows:
    """A tensor that grows row by row, in memory that is doubled when it is full.

    It is held twice, for the run and for those who look on: a copy for each state yielded would
    cost the square of their number.
    """

    def __init__(self, known: Tensor):
        self.count = len(known)
        self.all = known.new_empty(2, max(2 * self.count, 16), *known.shape[1:])
        self.all[:, : self.count] = known

    def add(self, row: Tensor) -> None:
        if (row.shape, row.dtype) != (self.all.shape[2:], self.all.dtype):
            raise ValueError(
                f"observe must return {self.all.dtype}, shape {tuple(self.all.shape[2:])}, as at "
                f"the states before, got {row.dtype}, {tuple(row.shape)}"
            )
        if self.count == self.all.shape[1]:  # full: twice the room
            self.all = torch.cat([self.all, torch.empty_like(self.all)], 1)
        self.all[:, self.count] = row
        self.count += 1

    @property
    def own(self) -> Tensor:
        """All rows so far, for the run."""
        return self.all[0, : self.count]

    @property
    def shown(self) -> Tensor:
        """All rows so far, which can be changed without harm to the run."""
        return self.all[1, : self.count]


class _Log:
    """What ``observe`` says of the states at multiples of every, in one tensor."""

    def __init__(self, observe: Callable[[Tensor], Tensor] | None, every: int):
        self.observe, self.every = observe, every
        self.rows: Rows | None = None

    def __call__(self, now: Training) -> Training:
        if self.observe is None or now.step % self.every:
            return now
        row = self.of(now.theta)
        self.rows = self.rows or Rows(row.new_empty(0, *row.shape))
        self.rows.add(row)
        return replace(now, seen=self.rows.own)

    @torch.no_grad()
    def of(self, theta: Tensor) -> Tensor:
        """What is observed of a state."""
        row = self.observe(theta.clone())
        if not isinstance(row, Tensor):
            raise TypeError(f"observe must return a tensor, got {kind(row)}")
        return row

    def going_on(self, now: Training) -> Training:
        """The state, with a copy of what was seen."""
        self.rows = Rows(now.seen)
        return replace(now, seen=self.rows.own)

    def shown(self, now: Training) -> Training:
        """A copy that can be changed without harm to the run."""
        seen = None if now.seen is None else self.rows.shown
        return replace(now, theta=now.theta.clone(), diverged=now.diverged.clone(), seen=seen)


def _fingerprint(
    steps: Map | Iterable[Map], start: Training, n: int, log: _Log, generator
) -> dict[str, Any]:
    """What tells a run from others: its size, and where its first step goes from the start."""
    x = start.theta
    with torch.random.fork_rng([x.device] if x.is_cuda else []):
        first, again = (_first(steps, start, n, log, generator) for _ in range(2))
    for name, value in first.items():
        if not alike(value, again[name]):
            raise ValueError(
                f"the {name} must be the same each time it is computed where a run may be resumed, "
                "but differs; if it draws random numbers, draw them from a generator handed over "
                "as generator="
            )
    return {
        "shape": tuple(x.shape),
        "dtype": str(x.dtype),
        "n": n,
        "every": log.every,
        "observe": log.observe is not None,
        "number of the first step": start.step,
        "generator": generator is not None,
        "start": digest(x),
        **first,
    }


@torch.no_grad()
def _first(steps, start: Training, n: int, log: _Log, generator) -> dict[str, Tensor | None]:
    """What is observed of the start, and the first step, with the rounding that is allowed."""
    x, eps = start.theta, torch.finfo(start.theta.dtype).eps
    drawn = generator and generator.get_state()
    after, said = x, None if log.observe is None else log.of(x)
    if start.step < n:
        after = advance(next(_maps(steps, start.step, n)), x.clone(), start.step + 1)
    if generator is not None:
        generator.set_state(drawn)
    if said is not None and said.is_floating_point():
        said = torch.stack([said, 1e3 * torch.finfo(said.dtype).eps * said.abs()])
    x, moved = x.double(), after.double() - x.double()
    along = torch.linspace(1, 2, x.shape[-1]).sin().to(x)
    rounding = eps * (x.abs().sum(-1) + 1e3 * moved.abs().sum(-1))
    return {
        "value of observe": said if said is None else said.cpu(),
        "first step": torch.stack([moved @ along, rounding]).cpu(),
    }


_FATE = (
    "their gradient was not finite, or their step too large. They are NaN from there on, the "
    "others go on"
)


def tell(diverged: Int[Tensor, "*b"], told: Int[Tensor, "*b"], fate: str) -> Int[Tensor, "*b"]:
    """Warns of those who diverged since it was told last, and says what becomes of them."""
    fresh = (diverged != told).nonzero().tolist()
    if fresh:
        named = [f"{i or 'the only one'} at step {diverged[tuple(i)]}" for i in fresh[:5]]
        more = f" and {len(fresh) - 5} more (see the state's diverged)" if len(fresh) > 5 else ""
        warnings.warn(
            f"members left the finite numbers: {', '.join(named)}{more}; {fate}",
            DivergenceWarning,
            stacklevel=3,
        )
    return diverged


def bar_of(n: int, first: int, show: bool) -> AbstractContextManager[Any]:
    """A bar from step first to n, or None if it is not to be shown."""
    if not show:
        return nullcontext()
    from tqdm import tqdm  # of the notebooks, not needed otherwise

    return tqdm(total=n, initial=first, unit="step")
