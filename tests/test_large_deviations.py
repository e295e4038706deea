import math

import pytest
import torch
from scipy.optimize import brentq

from dynbook.large_deviations import least_error, sharp_rate
from dynbook.linear_tail import linear_tail
from dynbook.oscillations import wave
from dynbook.rare_events import probability_mc
from dynbook.rashomon import kappa, rashomon_bound
from dynbook.results import recorded
from dynbook.two_layer import rashomon_event

F64 = torch.float64
PI = math.pi
WAVE = wave(PI)
SHARP = sharp_rate(WAVE, 0.6, 30.0)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def best_tail(sharp, n, amplitude=30.0):
    return linear_tail(sharp.values, sharp.weights, n, 0.5, 1.0, amplitude).log10


def test_a_small_deviation_costs_what_a_gaussian_field_asks():
    """A = 3000: I → min ½⟨h, C⁻¹h⟩ over the ball, C the covariance of aσ, by its eigenvalues."""
    amplitude, eps = 3000.0, 0.5
    x, dx = WAVE.domain.quadrature(600)
    root = dx.sqrt()
    kinks = torch.linspace(-1, 1, 2001, dtype=F64)[1::2]
    psi = torch.cat([torch.relu(x - kinks), torch.relu(-x - kinks)], 1) * root[:, None]
    values, vectors = torch.linalg.eigh(amplitude**2 / 3 * psi @ psi.mT / psi.shape[1])
    values, f = values.clamp(min=0), vectors.mT @ (WAVE.f(x) * root)
    miss = lambda mu: (f / (1 + mu * values)).norm().item() - eps  # noqa: E731
    mu = brentq(miss, 0, 1e6)
    cost = 0.5 * (mu**2 * values * (f / (1 + mu * values)) ** 2).sum().item()
    assert sharp_rate(WAVE, eps, amplitude).rate == pytest.approx(cost, rel=2e-3)


@pytest.mark.parametrize("eps", [0.4, 0.5, 0.6])
def test_the_best_functional_has_the_rate(eps):
    """Its exact tail is below e^{−nI}, and falls by I for each further neuron in the end."""
    sharp = sharp_rate(WAVE, eps, 30.0)
    for n in (1, 2, 4, 16):
        assert best_tail(sharp, n) < -n * sharp.rate / math.log(10)
    fall = (best_tail(sharp, 60) - best_tail(sharp, 80)) * math.log(10)
    assert fall == pytest.approx(20 * sharp.rate + math.log(80 / 60) / 2, abs=0.02)


def test_no_other_functional_has_a_higher_rate():
    """Nor f itself, at any scale: ln E e^{s⟨f, aσ⟩} from its moments."""
    from dynbook.rashomon import moment_nodes

    values, weights = moment_nodes(WAVE)
    of_f = []
    for s in torch.linspace(0.05, 6, 60).tolist():
        z = (30 * s * values).abs().clamp(min=1e-9)
        of_f.append(0.4 * s - ((z.sinh() / z) @ weights).log().item())
    hoeffding = -math.log(rashomon_bound(1, 0.6, 1.0, 30.0, kappa(WAVE)))
    assert hoeffding < max(of_f) < SHARP.rate


@pytest.mark.parametrize("n, eps", [(4, 0.85), (8, 0.8), (16, 0.85)])
def test_probabilities_counted_are_within_the_bound_and_near_the_asymptotics(n, eps):
    sharp = sharp_rate(WAVE, eps, 30.0)
    counted = probability_mc(rashomon_event(WAVE, n, 30.0), eps, samples=200_000, generator=rng(n))
    assert counted.log10_high < -n * sharp.rate / math.log(10)
    assert counted.log10_high < best_tail(sharp, n)
    assert 0 < sharp.log10(n) - counted.log10.item() < 1.3


def test_the_asymptotics_come_nearer_with_the_number_of_neurons():
    rare = recorded("4-rare")
    gaps = {n: SHARP.log10(n) - p for n, (p, *_) in zip(rare["n"], rare["of_n"], strict=True)}
    assert abs(gaps[24]) < 0.3 < gaps[8] < gaps[4]


def test_modes_are_orthonormal_and_orthogonal_to_the_functional():
    _, dx = WAVE.domain.quadrature(400)
    gram = (SHARP.modes[:20] * dx) @ SHARP.modes[:20].mT
    torch.testing.assert_close(gram, torch.eye(20, dtype=F64), rtol=0, atol=1e-9)
    assert ((SHARP.modes[:20] * dx) @ SHARP.v).abs().max() < 1e-5 * SHARP.v.norm()


def test_the_grid_does_not_matter():
    fine = sharp_rate(WAVE, 0.6, 30.0, points=800)
    assert fine.rate == pytest.approx(SHARP.rate, rel=3e-4)
    assert fine.log10(8) == pytest.approx(SHARP.log10(8), abs=5e-3)


def test_small_amplitudes_take_the_best_neuron():
    """‖f − Aσ‖ = 1 − A κ + O(A²)."""
    for amplitude in (0.01, 0.02):
        expected = 1 - amplitude * kappa(WAVE)
        assert least_error(WAVE, amplitude) == pytest.approx(expected, abs=amplitude**2)


def test_the_least_error_falls_with_the_amplitude_and_no_network_is_below():
    errors = [least_error(WAVE, amplitude) for amplitude in (5.0, 10.0, 20.0)]
    assert 1 > errors[0] > errors[1] > errors[2] > least_error(WAVE, 30.0) > 0.15
    event = rashomon_event(WAVE, 4, 5.0)
    assert event.score(event.draw(50_000, rng())).min() > errors[0]


def test_other_activations():
    sharp = sharp_rate(WAVE, 0.6, 30.0, lambda t: torch.tanh(4 * t))
    assert 0 < sharp.rate < SHARP.rate
    counted = probability_mc(
        rashomon_event(WAVE, 8, 30.0, lambda t: torch.tanh(4 * t)),
        0.6,
        samples=400_000,
        generator=rng(),
    )
    assert counted.log10 < best_tail(sharp, 8)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: sharp_rate(WAVE, 0.1, 30.0), r"eps = 0.1: the set is empty.*than 0.15"),
        (lambda: sharp_rate(WAVE, 1.5, 30.0), r"eps must lie in \(0, 1\), got 1.5"),
        (lambda: sharp_rate(WAVE, 0.5, 0.0), "amplitude must be positive"),
        (lambda: least_error(wave(PI, 2), 30.0), "must be one-dimensional, got d = 2"),
    ],
)
def test_what_has_no_rate_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
