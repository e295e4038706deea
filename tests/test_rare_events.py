import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats

from dynbook.checkpoints import CheckpointError
from dynbook.linear_tail import linear_tail
from dynbook.oscillations import wave
from dynbook.rare_events import (
    Event,
    RareEventError,
    clopper_pearson,
    probability_mc,
    subset_simulation,
)
from dynbook.rashomon import kappa, moment_nodes, rashomon_bound
from dynbook.two_layer import rashomon_event

F64 = torch.float64
PI = math.pi


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(score, dim=2, device="cpu"):
    """Standard normal states; the step x√(1 − s²) + sξ is reversible for them."""

    def move(x, g):
        s = 0.02 ** torch.rand(len(x), 1, generator=g, dtype=F64).to(x)
        noise = torch.randn(x.shape, generator=g, dtype=F64).to(x)
        return (1 - s**2).sqrt() * x + s * noise

    draw = lambda n, g: torch.randn(n, dim, generator=g, dtype=F64).to(device)  # noqa: E731
    return Event(draw, score, move)


HALF_SPACE = gaussian(lambda x: -x[:, 0])


# --- counting -------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_intervals_of_counts_are_scipys(confidence):
    hits = torch.tensor([0, 1, 7, 49, 50])
    low, high = clopper_pearson(hits, 50, confidence)
    for k, a, b in zip(hits.tolist(), low, high, strict=True):
        exact = stats.binomtest(k, 50).proportion_ci(confidence, method="exact")
        assert (a.item(), b.item()) == pytest.approx((exact.low, exact.high), rel=1e-9)


def test_counting_finds_a_gaussian_tail(device):
    """Several levels at once, in their shape; each within its interval of 99.9 %."""
    levels = torch.tensor([[0.0, -1.0], [-2.0, -3.0]], dtype=F64)
    event = gaussian(lambda x: -x[:, 0], device=device)
    p = probability_mc(event, levels, samples=40_000, generator=rng(), confidence=0.999)
    exact = torch.from_numpy(stats.norm.sf(-levels.numpy()))
    assert p.log10.shape == (2, 2) and p.calls == 40_000
    assert ((p.low < exact) & (exact < p.high)).all() and (p.high / p.low)[0, 0] < 1.1
    one = probability_mc(event, -2.0, samples=40_000, generator=rng())
    assert one.estimate == p.estimate[1, 0] and one.low > p.low[1, 0]


def test_what_was_never_seen_has_an_upper_limit():
    p = probability_mc(HALF_SPACE, -30.0, samples=1000, generator=rng())
    assert p.estimate == p.low == 0 and p.log10 == -math.inf
    assert p.high.item() == pytest.approx(1 - 0.025 ** (1 / 1000), rel=1e-9)


# --- subset simulation ----------------------------------------------------------------------


def test_subset_simulation_finds_gaussian_tails_down_to_1e_12(device):
    levels = torch.from_numpy(stats.norm.ppf([1e-3, 1e-6, 1e-9, 1e-12]))
    event = gaussian(lambda x: -x[:, 0], device=device)
    p = subset_simulation(
        event, levels, generator=rng(1), population=400, moves=12, confidence=0.999
    )
    exact = torch.tensor([-3.0, -6, -9, -12], dtype=F64)
    assert ((p.log10_low < exact) & (exact < p.log10_high)).all()
    assert (p.log10_high - p.log10_low).max() < 0.8 and p.runs.shape == (16, 4)
    assert (p.samples[:, 0] >= -levels.min().item()).all()
    assert p.samples.device.type == device and len(p.samples) > 16 * 40
    # beyond the level the law is known: the excess is nearly exponential, mean 1/7.16
    assert (p.samples[:, 0] + levels.min().item()).mean().item() == pytest.approx(0.137, abs=0.02)


def test_intervals_cover_as_often_as_they_say():
    """Thirty estimates of 1e-5 with intervals of 80 %: between 17 and 29 hold it (p = 0.005)."""
    level, hold = stats.norm.ppf(1e-5), 0
    for seed in range(30):
        p = subset_simulation(
            HALF_SPACE,
            level,
            generator=rng(seed),
            population=150,
            runs=10,
            moves=10,
            confidence=0.8,
        )
        hold += bool(p.log10_low < -5 < p.log10_high)
    assert 17 <= hold <= 29


def test_the_interval_covers_with_small_populations_that_are_well_mixed():
    """Of forty intervals of 95 % at least 33 hold 1e-6 (p = 0.003); strict levels have no bias."""
    level = stats.norm.ppf(1e-6)
    found = [
        subset_simulation(HALF_SPACE, level, generator=rng(s), population=100, moves=40)
        for s in range(40)
    ]
    assert sum(bool(p.log10_low < -6 < p.log10_high) for p in found) >= 33
    runs = 1e6 * 10 ** torch.cat([p.runs for p in found])
    assert runs.mean().item() == pytest.approx(1, abs=4 * runs.std().item() / len(runs) ** 0.5)


def test_the_mean_of_a_lognormal_law_is_above_that_of_its_logarithm():
    """Cox: E 10^Z for Z normal with deviation s is 10^(m + ln 10 s²/2)."""
    p = subset_simulation(
        HALF_SPACE, -4.0, generator=rng(), population=100, moves=10, agreement=9, runs=64
    )
    assert p.log10.item() == pytest.approx(
        (p.runs.mean() + math.log(10) * p.runs.var() / 2).item(), abs=1e-12
    )


def test_every_score_is_counted_as_a_call():
    seen = []

    def score(x):
        seen.append(len(x))
        return HALF_SPACE.score(x)

    event = dataclasses.replace(HALF_SPACE, score=score)
    p = subset_simulation(event, -3.0, generator=rng(), population=100, moves=7, runs=4)
    assert p.calls == sum(seen) > 7 * 400
    seen.clear()
    assert probability_mc(event, -1.0, samples=70, chunk=20, generator=rng()).calls == sum(seen)


def test_a_score_at_the_level_is_in_the_event():
    still = dataclasses.replace(HALF_SPACE, score=lambda x: 0 * x[:, 0] + 0.9)
    for estimate in (
        probability_mc(still, 0.9, samples=30, generator=rng()),
        subset_simulation(still, 0.9, generator=rng(), population=100, runs=4),
    ):
        assert estimate.log10 == 0


def test_a_run_builds_no_graph():
    """A network with trained parameters as a score: nothing is kept for a gradient."""
    size = torch.ones((), dtype=F64, requires_grad=True)
    event = dataclasses.replace(HALF_SPACE, score=lambda x: size * x[:, 0])
    p = subset_simulation(event, -3.0, generator=rng(), population=100, runs=4, moves=5)
    assert not p.samples.requires_grad and not p.log10.requires_grad


def test_an_intersection_of_half_spaces():
    """P(x ≥ 3, y ≥ 4) of independent normals."""
    corner = gaussian(lambda x: (torch.tensor([3.0, 4.0], dtype=F64) - x).amax(1))
    p = subset_simulation(corner, 0.0, generator=rng(), population=500, moves=15, confidence=0.999)
    exact = stats.norm.logsf([3, 4]).sum() / math.log(10)
    assert p.log10_low < exact < p.log10_high < p.log10_low + 0.6


def test_scores_that_tie():
    """No heads among 20 fair coins: 2^−20, through scores that are whole numbers."""

    def flip(x, g):
        at = torch.randint(x.shape[1], (len(x), 1), generator=g)
        return x.scatter(1, at, 1 - x.gather(1, at))

    coins = Event(
        lambda n, g: torch.randint(2, (n, 20), generator=g).double(), lambda x: x.sum(1), flip
    )
    p = subset_simulation(coins, 0.0, generator=rng(), population=400, moves=40, confidence=0.999)
    assert p.log10_low < -20 * math.log10(2) < p.log10_high


def test_probabilities_below_underflow():
    """P(x ≥ 40) = 10^−349.4 for a normal x."""
    p = subset_simulation(
        gaussian(lambda x: -x[:, 0], 1),
        -40.0,
        generator=rng(),
        population=100,
        runs=6,
        moves=20,
        agreement=9,
        lowest=-1000,
    )
    exact = stats.norm.logsf(40) / math.log(10)
    assert p.runs.mean().item() == pytest.approx(exact, rel=0.03) and p.runs.max() < -308
    assert p.estimate >= 0


def test_several_levels_are_read_off_one_ladder():
    levels = torch.tensor([-4.0, 0.0, -2.0], dtype=F64)
    many = subset_simulation(HALF_SPACE, levels, generator=rng(), population=300, moves=5)
    one = subset_simulation(HALF_SPACE, -4.0, generator=rng(), population=300, moves=5)
    assert torch.equal(many.runs[:, 0], one.runs) and many.calls == one.calls
    assert many.estimate[1].item() == pytest.approx(0.5, abs=0.02)
    assert many.estimate[2].item() == pytest.approx(stats.norm.sf(2), rel=0.15)


# --- a run that is stopped ------------------------------------------------------------------


class Stop(Exception):
    """The user's hand."""


def stopping(event, calls):
    """The event, whose score stops the run at that call."""
    left = [calls]

    def score(x):
        left[0] -= 1
        if left[0] < 0:
            raise Stop
        return event.score(x)

    return dataclasses.replace(event, score=score)


@pytest.mark.parametrize("calls", [0, 1, 3, 5])
def test_a_stopped_count_goes_on_to_the_bit(tmp_path, calls):
    kwargs = {"samples": 5500, "chunk": 1000}
    whole = probability_mc(HALF_SPACE, -1.0, generator=rng(3), **kwargs)
    file = tmp_path / "count.pt"
    with pytest.raises(Stop):
        probability_mc(
            stopping(HALF_SPACE, calls), -1.0, generator=rng(3), checkpoint=file, **kwargs
        )
    left = 6 - max(calls - 1, 0)  # the first call only compares the event: and not a call more
    count = stopping(HALF_SPACE, 1 + left)
    resumed = probability_mc(count, -1.0, generator=rng(3), checkpoint=file, **kwargs)
    assert resumed.estimate == whole.estimate and resumed.low == whole.low
    again = probability_mc(
        stopping(HALF_SPACE, 1), -1.0, generator=rng(3), checkpoint=file, **kwargs
    )
    assert again.estimate == whole.estimate  # a finished run is read


@pytest.mark.parametrize("calls", [0, 1, 14, 33])
def test_a_stopped_subset_simulation_goes_on_to_the_bit(tmp_path, calls):
    event = rashomon_event(wave(PI), 3, 30.0)
    kwargs = {"population": 100, "runs": 4, "moves": 15, "agreement": 9}
    whole = subset_simulation(event, 0.9, generator=rng(3), **kwargs)
    file = tmp_path / "ladder.pt"
    with pytest.raises(Stop):
        subset_simulation(stopping(event, calls), 0.9, generator=rng(3), checkpoint=file, **kwargs)
    assert file.exists() == (calls > 16)
    resumed = subset_simulation(event, 0.9, generator=rng(3), checkpoint=file, **kwargs)
    for name in ("log10", "log10_low", "log10_high", "calls", "runs", "samples"):
        assert np.array_equal(getattr(resumed, name), getattr(whole, name)), name


def test_another_runs_checkpoint_is_refused(tmp_path):
    count, ladder = tmp_path / "count.pt", tmp_path / "ladder.pt"
    few = {"samples": 100}
    probability_mc(HALF_SPACE, -1.0, checkpoint=count, generator=rng(), **few)
    for change in ({"samples": 200}, {"generator": rng(1)}, {"chunk": 7}):
        with pytest.raises(ValueError, match=r"another run, with another (samples|seed|chunk) "):
            probability_mc(
                HALF_SPACE,
                -1.0,
                checkpoint=count,
                **(few | {"generator": rng()} | change),
            )
    other = dataclasses.replace(HALF_SPACE, score=lambda x: x[:, 1])
    with pytest.raises(CheckpointError, match=r"another run, with another event \(other values"):
        probability_mc(other, -1.0, checkpoint=count, generator=rng(), **few)
    with pytest.raises(FileNotFoundError, match="checkpoint must lie in a folder that exists"):
        probability_mc(
            HALF_SPACE, -1.0, checkpoint=tmp_path / "no" / "x.pt", generator=rng(), **few
        )
    small = {"population": 100, "runs": 4, "moves": 5, "checkpoint": ladder, "agreement": 9}
    subset_simulation(HALF_SPACE, -3.0, generator=rng(), **small)
    with pytest.raises(CheckpointError, match="another run, with another event"):
        subset_simulation(other, -3.0, generator=rng(), **small)
    lazy = dataclasses.replace(HALF_SPACE, move=lambda x, g: x.clone())
    with pytest.raises(CheckpointError, match="another run, with another event"):
        subset_simulation(lazy, -3.0, generator=rng(), **small)
    beyond = dataclasses.replace(  # differs where none of sixteen states lies
        HALF_SPACE, score=lambda x: torch.where(x[:, 0] > 3, -9.0, -x[:, 0])
    )
    with pytest.raises(CheckpointError, match="whose states had other scores"):
        subset_simulation(beyond, -3.0, generator=rng(), **small)
    for change in ({"moves": 6}, {"p0": 0.2}):
        with pytest.raises(CheckpointError, match=r"another run, with another (moves|p0) "):
            subset_simulation(HALF_SPACE, -3.0, generator=rng(), **(small | change))
    with pytest.raises(ValueError, match="another run, with another level"):
        subset_simulation(HALF_SPACE, -2.0, generator=rng(), **small)
    ladder.write_text("no checkpoint")
    with pytest.raises(ValueError, match=r"none that can be read.*if it is not needed, delete it"):
        subset_simulation(HALF_SPACE, -3.0, generator=rng(), **small)


def test_a_bar_shows_progress_and_changes_nothing(capsys):
    p = [
        probability_mc(HALF_SPACE, -1.0, samples=100, generator=rng(), progress=show)
        for show in (False, True)
    ]
    shown = capsys.readouterr().err
    subset_simulation(
        HALF_SPACE, -3.0, generator=rng(), population=100, runs=4, moves=5, progress=True
    )
    assert p[0].estimate == p[1].estimate
    assert "100/100" in shown and "levels" in capsys.readouterr().err


# --- Rashomon sets --------------------------------------------------------------------------

SETTINGS = {  # (ν, n, ε, activation): log₁₀ P from 10⁷ networks where it was counted
    "4 neurons": (PI, 4, 0.85, None, -3.758),
    "8 neurons": (PI, 8, 0.75, None, -4.893),
    "twice the frequency": (2 * PI, 4, 0.93, None, None),
    "bumps": (PI, 4, 0.93, lambda t: torch.exp(-2 * t**2), None),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_counting_and_subset_simulation_agree_and_keep_their_order(name):
    """P ≤ P(⟨h, f⟩ ≥ (1 − ε)‖f‖²) ≤ Hoeffding's bound; the intervals overlap."""
    nu, n, eps, activation, known = SETTINGS[name]
    f = wave(nu)
    event = rashomon_event(f, n, 30.0, activation)
    counted = probability_mc(event, eps, samples=250_000, generator=rng(1))
    split = subset_simulation(event, eps, generator=rng(2), population=600, moves=25)
    assert split.log10_low < counted.log10_high and counted.log10_low < split.log10_high
    assert split.log10_high - split.log10_low < 0.4
    linear = linear_tail(*moment_nodes(f, activation), n, eps, 1.0, 30.0)
    bound = rashomon_bound(n, eps, 1.0, 30.0, kappa(f, activation, points=400), log10=True)
    assert split.log10_high < linear.log10 < bound < 0
    assert event.score(split.samples).max() <= eps
    if known is not None:
        assert split.log10_low - 0.05 < known < split.log10_high + 0.05


def test_subset_simulation_matches_the_exact_tail_of_the_linear_functional():
    """At 1e-5, 1e-8 and 1e-14: eight neurons, A = 11, scored by 1 − ⟨h, f⟩."""
    f, levels = wave(PI), torch.tensor([0.5532, 0.3888, 0.1610], dtype=F64)

    def score(x):
        kinks = (x[..., 1] * x[..., 2]).reshape(-1, 1)
        return 1 - (x[..., 0] * f.g(kinks).view(x.shape[:-1])).mean(-1)

    event = dataclasses.replace(rashomon_event(f, 8, 11.0), score=score)
    p = subset_simulation(
        event, levels, generator=rng(), population=500, moves=20, confidence=0.999
    )
    for eps, low, high, size in zip(levels, p.log10_low, p.log10_high, (-5, -8, -14), strict=True):
        exact = linear_tail(*moment_nodes(f), 8, eps.item(), 1.0, 11.0).log10
        assert exact == pytest.approx(size, abs=0.01) and low < exact < high < low + 1


# --- refusals -------------------------------------------------------------------------------


def split(event=HALF_SPACE, level=-3.0, **kwargs):
    return subset_simulation(
        event, level, **({"generator": rng(), "population": 100, "runs": 4, "moves": 5} | kwargs)
    )


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: split(population=50), "population too small: of 50 states.*leaves 5.*take 100"),
        (lambda: split(population=100, p0=0.05), "population too small.*take 200 or more"),
        (lambda: split(p0=1.0), r"p0 must lie in \(0, 1\), got 1"),
        (lambda: split(runs=3), "runs must be an integer ≥ 4, got 3"),
        (lambda: split(moves=0), "moves must be an integer ≥ 1, got 0"),
        (lambda: split(confidence=95), r"confidence must lie in \(0, 1\), got 95"),
        (lambda: split(level=math.nan), "level must be one finite number or more, got nan"),
        (lambda: split(level=[]), "level must be one finite number"),
        (lambda: split(dataclasses.replace(HALF_SPACE, move=None)), "event must have a move"),
        (lambda: split(gaussian(lambda x: x[:, 0] * math.nan)), "score is NaN for state 0 of 400"),
        (lambda: split(gaussian(lambda x: x)), r"must map states \(400, 2\) to \(400,\)"),
        (
            lambda: probability_mc(HALF_SPACE, 0.0, samples=0, generator=rng()),
            "samples must be an integer ≥ 1, got 0",
        ),
        (
            lambda: probability_mc(HALF_SPACE, 0.0, samples=9, generator=rng(), confidence=1),
            "confidence must lie in",
        ),
    ],
)
def test_what_cannot_be_estimated_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: split(generator=1), "generator must be a torch.Generator on the CPU"),
        (lambda: split(gaussian(lambda x: x[:, 0] > 0)), "floating-point tensor, got.*bool"),
        (lambda: split(gaussian(lambda x: 1.0)), "floating-point tensor, got 1.0"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused_in_words(call, words):
    with pytest.raises(TypeError, match=words):
        call()


def test_runs_that_disagree_are_refused():
    """A population of 100 on the ladder to 1e-9, with few moves."""
    event = rashomon_event(wave(PI), 8, 30.0)
    with pytest.raises(RareEventError, match=r"runs disagree: log10 P has standard deviation .*-"):
        split(event, 0.5, moves=25, runs=8)


def test_a_population_that_does_not_move_is_refused():
    stuck = dataclasses.replace(HALF_SPACE, move=lambda x, g: x + 100 * torch.ones_like(x))
    still = dataclasses.replace(stuck, score=lambda x: x[:, 0])
    with pytest.raises(
        RareEventError, match=r"degenerate.*only 0% of its members moved in 5 moves"
    ):
        split(still)


def test_draws_and_moves_that_are_none_are_refused_in_words():
    short = dataclasses.replace(HALF_SPACE, draw=lambda n, g: torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"draw must return a tensor \(100, …\).*got.*\(3, 2\)"):
        probability_mc(short, 0.9, samples=100, generator=rng())
    for move, words in (
        (lambda x, g: x[:5], r"event.move must return torch.float64 \(400, 2\), as it got"),
        (lambda x, g: x.add_(1), "must return new states and leave those it got"),
    ):
        with pytest.raises(ValueError, match=words):
            split(dataclasses.replace(HALF_SPACE, move=move))
    with pytest.raises(TypeError, match="event must be an Event, got"):
        probability_mc(wave(PI), 0.9, samples=100, generator=rng())
    for bad in ({"lowest": math.nan}, {"agreement": math.nan}):
        with pytest.raises(ValueError, match="lowest < 0 < agreement must hold"):
            split(**bad)


@pytest.mark.parametrize("hits", [[-1], [11], [1.5]])
def test_counts_that_are_none_are_refused_in_words(hits):
    with pytest.raises(ValueError, match="hits must be whole numbers from 0 to samples = 10"):
        clopper_pearson(torch.tensor(hits), 10)


def test_a_rashomon_set_wants_an_error_between_0_and_1():
    for eps in (0.0, 1.5, -1.0):
        with pytest.raises(ValueError, match=r"eps must lie in \(0, 1\)"):
            probability_mc(rashomon_event(wave(PI), 3, 30.0), eps, samples=9, generator=rng())


def test_scores_that_cannot_decrease_are_refused():
    flat = gaussian(lambda x: x[:, 0].clamp(min=-1))
    with pytest.raises(
        RareEventError, match=r"levels no longer decrease: all 100 scores below inf are equal"
    ):
        split(flat)


def test_an_empty_event_is_given_up():
    """e^x > 0 never reaches −1: its levels decrease for ever."""
    with pytest.raises(RareEventError, match=r"level -1 was not reached at probability 10\^-8"):
        split(gaussian(lambda x: x[:, 0].exp(), 1), -1.0, moves=20, lowest=-8)
