"""Probabilities of rare events: by counting down to 1e-7 or so, by splitting far below.

An event is {score ≤ level}, for a random state that can be drawn and moved. Counting needs 100/P
states for a tenth of P; subset simulation (:cite:t:`au2001`) goes down a ladder of levels, each
reached by a tenth of those that reached the one before, and needs a multiple of log(1/P).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dynbook.checkpoints import CheckpointError, digest, resume, writable, write
from dynbook.domains import cpu_generator, kind, whole


class RareEventError(ArithmeticError):
    """A probability that the runs do not support; the message says why, and what to change."""


@dataclass(frozen=True)
class Event:
    """A random state and its score; small scores are rare.

    Attributes
    ----------
    draw : callable
        (count, generator) to independent states (count, …).
    score : callable
        States (S, …) to scores (S,), floating point; inf for what is never in the event.
    move : callable, optional
        (states, generator) to new states: one step of a Markov chain that is reversible with
        respect to the law of `draw`, as is a symmetric step for a uniform law, or √(1 − s²) x + s ξ
        for a Gaussian one. Steps of many sizes need no tuning. Only subset simulation asks for it.
    check : callable, optional
        Levels to nothing: raises a ValueError for those that make no sense.
    """

    draw: Callable[[int, torch.Generator], Tensor]
    score: Callable[[Tensor], Tensor]
    move: Callable[[Tensor, torch.Generator], Tensor] | None = None
    check: Callable[[Tensor], object] | None = None


@dataclass(frozen=True)
class Probability:
    """Probabilities of {score ≤ level}, for one level or several, as decimal logarithms.

    Attributes
    ----------
    log10 : Tensor (...)
        log₁₀ of the estimates, float64, in the shape of the levels; −inf for an estimate 0.
    log10_low, log10_high : Tensor (...)
        Ends of the confidence interval.
    calls : int
        Number of scores computed.
    confidence : float
        Of each interval.
    runs : Tensor (R, ...)
        log₁₀ of the independent estimates (subset simulation; R = 1 for counting).
    samples : Tensor (m, …) or None
        States at or below the lowest level (subset simulation).
    """

    log10: Tensor
    log10_low: Tensor
    log10_high: Tensor
    calls: int
    confidence: float
    runs: Tensor
    samples: Tensor | None = None

    @property
    def estimate(self) -> Tensor:
        """10**log10, which may underflow."""
        return 10**self.log10

    @property
    def low(self) -> Tensor:
        return 10**self.log10_low

    @property
    def high(self) -> Tensor:
        return 10**self.log10_high


def clopper_pearson(
    hits: Int64[Tensor, "*l"], samples: int, confidence: float = 0.95
) -> tuple[Float[Tensor, "*l"], Float[Tensor, "*l"]]:
    """Exact confidence interval of a probability, from `hits` among `samples` independent trials.

    Both tails are at most (1 − confidence)/2 whatever the probability (:cite:t:`clopper1934`).

    Raises
    ------
    ValueError
        If hits are not whole numbers from 0 to samples, or the confidence is outside (0, 1).
    """
    from scipy.special import betaincinv

    samples, confidence = whole("samples", samples), _share("confidence", confidence)
    if hits.is_floating_point() or (hits < 0).any() or (hits > samples).any():
        raise ValueError(
            f"hits must be whole numbers from 0 to samples = {samples:,}, got {hits.dtype} from "
            f"{hits.min():g} to {hits.max():g}"
        )
    k, tail = hits.double().cpu().numpy(), (1 - confidence) / 2
    low = np.where(k == 0, 0.0, betaincinv(np.maximum(k, 1), samples - k + 1, tail))
    high = np.where(k == samples, 1.0, betaincinv(k + 1, np.maximum(samples - k, 1), 1 - tail))
    return torch.from_numpy(low), torch.from_numpy(high)


@torch.no_grad()
def probability_mc(
    event: Event,
    level: float | Float[Tensor, "*l"],
    *,
    samples: int,
    generator: torch.Generator,
    confidence: float = 0.95,
    chunk: int = 1 << 16,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Probability:
    """P(score ≤ level) by counting, with exact intervals; many levels cost what one does.

    Parameters
    ----------
    event : Event
    level : float or Tensor (...)
        One set of samples serves all levels, so their intervals are not independent.
    samples : int
        Number of states drawn.
    generator : torch.Generator
        On the CPU.
    confidence : float
        Of the interval for each level, :func:`clopper_pearson`.
    chunk : int
        States drawn at a time; another chunk is another sequence of random numbers.
    checkpoint : str or Path, optional
        File written after each chunk. A run that finds it goes on from there, to the same result
        to the bit as one that was never stopped; the generator must start as it did then. The event
        is known again by sixteen states: what differs only where it is rare cannot be seen.
    progress : bool
        Whether to show a bar (tqdm).

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, the scores are no tensor (S,), or the checkpoint is another
        run's.
    """
    samples, chunk, levels = whole("samples", samples), whole("chunk", chunk), _levels(event, level)
    confidence, rng = _share("confidence", confidence), cpu_generator(generator)
    settings = {"level": digest(levels), "samples": samples, "chunk": chunk}
    now = {"hits": torch.zeros(levels.shape, dtype=torch.int64), "done": 0}
    keep, now = _kept(checkpoint, settings, event, now, rng)
    with _bar(progress, samples, now["done"]) as bar:
        while now["done"] < samples:
            size = min(chunk, samples - now["done"])
            found = _scores(event, _drawn(event, size, rng)).double()
            hits = (found <= levels.to(found.device)[..., None]).sum(-1).cpu()
            now = {"hits": now["hits"] + hits, "done": now["done"] + size}
            keep(now)
            bar(size)
    low, high = clopper_pearson(now["hits"], samples, confidence)
    log10 = (now["hits"].double() / samples).log10()
    return Probability(log10, low.log10(), high.log10(), samples, confidence, log10[None])


@torch.no_grad()
def subset_simulation(
    event: Event,
    level: float | Float[Tensor, "*l"],
    *,
    generator: torch.Generator,
    population: int = 1000,
    runs: int = 16,
    moves: int = 50,
    p0: float = 0.1,
    confidence: float = 0.95,
    agreement: float = 0.5,
    lowest: float = -100.0,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Probability:
    """P(score ≤ level) for rare events, as a product of conditional probabilities near p0.

    From each population the p0 with the smallest scores survive; their copies fill it up again and
    make `moves` steps each, which are refused where they would leave the level reached. That level
    is the least score that does *not* survive, and must be undercut: with the largest that does the
    estimate would be too high, in all runs alike, by a factor of about 1 + 1/(p0 population) at
    each level (:cite:t:`brehier2015`). All runs move side by side. Their estimates scatter
    log-normally, and the interval is that of the mean of such a law (Cox's: mean plus half the
    variance, :cite:t:`land1972`), with Student's quantile.

    The interval knows how runs scatter, and nothing of what they have in common: where too few
    moves leave all of them badly mixed it is too narrow. Double `moves` to see.

    Parameters
    ----------
    event : Event
        With a move.
    level : float or Tensor (...)
        The ladder goes down to the least; the others are read off on the way.
    generator : torch.Generator
        On the CPU.
    population, runs : int
        States in each run, and independent runs.
    moves : int
        Steps of every copy at each level: enough to forget the state it was copied from.
    p0 : float
        Share that survives.
    confidence : float
        Of the interval.
    agreement : float
        Largest standard deviation of log₁₀ P between runs that is reported.
    lowest : float
        log₁₀ of the probability at which to give up.
    checkpoint : str or Path, optional
        File written after each level; see :func:`probability_mc`.
    progress : bool
        Whether to show a bar (tqdm), whose total is unknown.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range: the population is too small if fewer than ten survive.
    RareEventError
        If the runs disagree, a population degenerates (fewer than half of its members have moved at
        all), its scores stop decreasing, or the level is not reached above the lowest probability.
    """
    levels, runs = _levels(event, level), whole("runs", runs, least=4)
    moves, population = whole("moves", moves), whole("population", population)
    p0, confidence = _share("p0", p0), _share("confidence", confidence)
    if not (lowest < 0 and agreement > 0):
        raise ValueError(f"lowest < 0 < agreement must hold, got {lowest:g} and {agreement:g}")
    rng = cpu_generator(generator)
    if event.move is None:
        raise ValueError("event must have a move for subset simulation; see Event")
    if round(p0 * population) < 10:
        raise ValueError(
            f"population too small: of {population} states p0 = {p0:g} leaves "
            f"{round(p0 * population)}, and at least 10 must survive; take {math.ceil(10 / p0)} "
            "or more"
        )
    settings = {"level": digest(levels), "population": population, "runs": runs}
    settings |= {"moves": moves, "p0": p0}
    random = rng.get_state()
    states = _drawn(event, runs * population, rng)
    scores = _scores(event, states).double().view(runs, population)
    ladder = {
        "states": states,
        "scores": scores,
        "threshold": scores.new_full((runs,), math.inf),
        "log10": scores.new_zeros(runs),
        "found": scores.new_zeros(runs, levels.numel()),
        "calls": scores.numel(),
    }
    keep, ladder = _kept(checkpoint, settings | {"seed": random}, event, ladder, rng)
    if checkpoint and not torch.allclose(
        _scores(event, ladder["states"]).double().view(runs, population), ladder["scores"], 1e-6
    ):
        raise CheckpointError(
            f"checkpoint {checkpoint} belongs to another run, whose states had other scores; "
            "choose another name, or delete it if it is not needed"
        )
    flat, survivors = levels.flatten().to(ladder["scores"]), round(p0 * population)
    with _bar(progress, None, 0) as bar:
        while (active := _read(ladder, flat, survivors)).any():
            if ladder["log10"].min() < lowest:
                raise RareEventError(
                    f"level {flat.min():g} was not reached at probability 10^{lowest:g}, where the "
                    f"least score is {ladder['scores'].min():g}: the event may be empty, or lower "
                    "`lowest`"
                )
            active = active.nonzero()[:, 0]
            _next_level(event, ladder, active, flat.min(), survivors, moves, rng)
            keep(ladder)
            bar(1)
    found = ladder["found"].view(runs, *levels.shape).cpu()
    centre, half = _lognormal_mean(found, confidence, agreement, population)
    below = (ladder["scores"] <= levels.min()).flatten()
    return Probability(
        centre,
        centre - half,
        (centre + half).clamp(max=0),
        ladder["calls"],
        confidence,
        found,
        ladder["states"][below],
    )


def _read(ladder: dict, levels: Tensor, survivors: int) -> Tensor:
    """Note the probability of all levels below each run's threshold; the runs that go on."""
    scores = ladder["scores"]
    share = (scores[:, :, None] <= levels).double().mean(1)
    reached = levels < ladder["threshold"][:, None]
    found = ladder["log10"][:, None] + share.log10()
    ladder["found"] = torch.where(reached, found, ladder["found"])
    return scores.kthvalue(survivors).values > levels.min()


def _next_level(
    event: Event,
    ladder: dict,
    active: Tensor,
    goal: Tensor,
    survivors: int,
    moves: int,
    rng: torch.Generator,
) -> None:
    """Let the active runs go down one level, in place."""
    scores = ladder["scores"][active]
    population = scores.shape[1]
    threshold = scores.kthvalue(survivors + 1, keepdim=True).values
    few = (scores < threshold).sum(1, keepdim=True) < 10  # as too many scores tie
    above = torch.where(scores > threshold, scores, math.inf).amin(1, keepdim=True)
    threshold = torch.where(few, above, threshold)
    count = (scores < threshold).sum(1, keepdim=True)
    if (count == population).any():
        raise RareEventError(
            f"levels no longer decrease: all {population} scores below {threshold.max():g} are "
            "equal, or infinite; the score must vary, also within the event"
        )
    copies = torch.arange(population, device=scores.device) % count
    parents = scores.argsort(stable=True).gather(1, copies)
    scores = scores.gather(1, parents)
    there = scores.amax(1, keepdim=True) <= goal  # and need not move any more
    moved = there.expand(-1, population).flatten()
    scores = scores.flatten()
    states = ladder["states"][(active[:, None] * population + parents).flatten()]
    bound = threshold.expand(-1, population).flatten()
    for _ in range(moves):
        candidates = event.move(states, rng)
        if candidates.shape != states.shape or candidates.dtype != states.dtype:
            raise ValueError(
                f"event.move must return {states.dtype} {tuple(states.shape)}, as it got, not "
                f"{candidates.dtype} {tuple(candidates.shape)}"
            )
        if candidates.data_ptr() == states.data_ptr():
            raise ValueError("event.move must return new states and leave those it got as they are")
        found = _scores(event, candidates)
        accepted = found < bound
        states = torch.where(accepted.view(-1, *[1] * (states.ndim - 1)), candidates, states)
        scores = torch.where(accepted, found.double(), scores)
        moved = moved | accepted
    least = moved.view(-1, population).double().mean(1).min()
    if least < 0.5:
        raise RareEventError(
            f"population degenerate at score {threshold.min():g}: only {least:.0%} of its members "
            f"moved in {moves} moves, so that it consists of copies; take more or smaller moves"
        )
    ladder["states"] = ladder["states"].clone()
    ladder["states"].view(len(ladder["scores"]), population, *states.shape[1:])[active] = (
        states.view(len(active), population, *states.shape[1:])
    )
    ladder["scores"] = ladder["scores"].index_copy(0, active, scores.view(-1, population))
    ladder["threshold"] = ladder["threshold"].index_copy(0, active, threshold[:, 0])
    passed = ladder["log10"][active] + (count[:, 0] / population).double().log10()
    ladder["log10"] = ladder["log10"].index_copy(0, active, passed)
    ladder["calls"] += moves * scores.numel()


def _lognormal_mean(
    runs: Tensor, confidence: float, agreement: float, population: int
) -> tuple[Tensor, Tensor]:
    """log₁₀ of the mean of a log-normal law, and its half-width, from log₁₀ of samples (R, …)."""
    from scipy.special import stdtrit

    R, spread = len(runs), runs.std(0)
    if not spread.max() <= agreement:
        worst = runs.view(R, -1)[:, spread.argmax()]
        values = ", ".join(f"{v:.1f}" for v in worst.sort().values)
        raise RareEventError(
            f"runs disagree: log10 P has standard deviation {spread.max():.2f} between them, more "
            f"than {agreement:g} ({values}); take a population larger than {population}, or more "
            "moves"
        )
    variance = math.log(10) * spread**2  # of ln P, in units of log10
    quantile = float(stdtrit(R - 1, (1 + confidence) / 2))
    half = quantile * (spread**2 / R + variance**2 / (2 * (R - 1))).sqrt()
    return runs.mean(0) + variance / 2, half


def _kept(
    checkpoint: str | Path | None, settings: dict, event: Event, now: dict, rng: torch.Generator
) -> tuple[Callable[[dict], None], dict]:
    """How to keep the state of a run, and the state to go on from: the one that was kept, or now.

    A run is told from others by its settings, the generator's state (unless they hold it) and the
    scores of sixteen states and of where they move.
    """
    if checkpoint is None:
        return lambda now: None, now
    file = writable("checkpoint", checkpoint)
    own = torch.Generator().manual_seed(0)
    states = _drawn(event, 16, own)
    if event.move is not None:
        states = torch.cat([states, event.move(states, own)])
    some = _scores(event, states)
    rounding = torch.finfo(some.dtype).eps ** 0.5 * some.abs()
    run = {"seed": rng.get_state()} | settings
    run |= {"event": torch.stack([some, rounding]).double().cpu()}
    if file.exists():
        now = resume(file, run, now | {"generator": None})
        rng.set_state(now.pop("generator"))
    return lambda now: write(file, run, now | {"generator": rng.get_state()}), now


def _levels(event: Event, level: float | Tensor) -> Tensor:
    if not isinstance(event, Event):
        raise TypeError(f"event must be an Event, got {kind(event)}")
    levels = torch.as_tensor(level, dtype=torch.float64).cpu()
    if levels.numel() == 0 or not levels.isfinite().all():
        raise ValueError(f"level must be one finite number or more, got {level!r:.60}")
    if event.check is not None:
        event.check(levels)
    return levels


def _share(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value:g}")
    return float(value)


def _drawn(event: Event, count: int, rng: torch.Generator) -> Tensor:
    states = event.draw(count, rng)
    if not isinstance(states, Tensor) or states.ndim == 0 or len(states) != count:
        shape = f" {tuple(states.shape)}" if isinstance(states, Tensor) else ""
        raise ValueError(
            f"event.draw must return a tensor ({count}, …) when asked for {count} states, got "
            f"{kind(states)}{shape}"
        )
    return states


def _scores(event: Event, states: Tensor) -> Tensor:
    scores = event.score(states)
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        raise TypeError(f"event.score must return a floating-point tensor, got {kind(scores)}")
    if scores.shape != states.shape[:1]:
        raise ValueError(
            f"event.score must map states {tuple(states.shape)} to ({len(states)},), got "
            f"{tuple(scores.shape)}"
        )
    if scores.isnan().any():
        raise ValueError(
            f"event.score is NaN for state {int(scores.isnan().nonzero()[0])} of {len(states)}; "
            "give what has no score inf"
        )
    return scores


@contextmanager
def _bar(show: bool, total: int | None, done: int) -> Iterator[Callable[[int], object]]:
    """How to tell of progress: a bar, or nothing."""
    if not show:
        yield lambda step: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, initial=done, unit=" states" if total else " levels") as bar:
        yield bar.update
