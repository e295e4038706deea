import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dynbook.linear_tail import Tail, linear_tail, saddle_point_tail
from dynbook.oscillations import wave
from dynbook.rashomon import kappa, moment_nodes, rashomon_bound

F64 = torch.float64
ONE = torch.ones(1, dtype=F64)
WAVE = wave(math.pi)
NODES, KAPPA = moment_nodes(WAVE), kappa(WAVE)


def irwin_hall(n, x):
    """log₁₀ P(U_1 + … + U_n ≥ n x) for U_j uniform in (−1, 1), by 60 digits."""
    with mpmath.workdps(60):
        y = mpmath.mpf(n) * (1 - mpmath.mpf(x)) / 2
        terms = [
            (-1) ** k * mpmath.binomial(n, k) * (y - k) ** n
            for k in range(int(mpmath.floor(y)) + 1)
        ]
        return float(mpmath.log10(sum(terms) / mpmath.factorial(n)))


def test_one_variable_is_judged_by_every_third_node():
    """X = aκ(b): with 64 nodes the tail is off by less than the error that it names."""
    few, many = (
        linear_tail(*moment_nodes(WAVE, biases=m), 1, 0.6, 1.0, 30.0) for m in (64, 1 << 16)
    )
    assert abs(few.log10 - many.log10) < few.error < 0.1 and many.error < 1e-4


def test_the_saddle_point_at_the_middle_and_at_the_end():
    assert saddle_point_tail(ONE, ONE, 8, 1 - 1e-9, 1.0, 1.0) == pytest.approx(math.log10(0.5))
    with pytest.raises(ValueError, match="too near to the end"):
        saddle_point_tail(ONE, ONE, 8, 1e-13, 1.0, 1.0)


def test_a_node_without_weight_is_none():
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    values = torch.tensor([1.0, 1e9], dtype=torch.float64)
    tail = linear_tail(values, weights, 3, 0.5, 1.0, 1.0)
    assert tail.log10 == pytest.approx(irwin_hall(3, 0.5), abs=1e-8)


def test_a_lattice_too_long_is_refused():
    for eps, amplitude in ((1 - 1e-12, 1.0), (0.5, 1e200)):
        with pytest.raises(ValueError, match="too long; take saddle_point_tail"):
            linear_tail(ONE, ONE, 3, eps, 1.0, amplitude)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 30])
@pytest.mark.parametrize("eps", [0.9, 0.5, 0.25, 0.05])
def test_a_mean_of_uniform_variables_has_the_tail_of_irwin_and_hall(n, eps):
    """Down to 1e-36, to eight digits and within the error that the result names."""
    tail, expected = linear_tail(ONE, ONE, n, eps, 1.0, 1.0), irwin_hall(n, 1 - eps)
    assert abs(tail.log10 - expected) <= min(tail.error + 1e-12, 1e-8)
    assert tail.error < 1e-4


def test_one_neuron_is_an_integral():
    """P(aY ≥ x) = ½ E(1 − x/(A|Y|))₊ with Y = g(b), b uniform, by mpmath and its root finder."""
    A, x = 30.0, 0.4
    kap = KAPPA

    def size(b):
        return abs((1 - b * b) ** 3 * mpmath.cos(mpmath.pi * b)) * kap * A

    edges = [0]
    signs = [size(b) > x for b in np.linspace(0, 1, 400)]
    for i in np.flatnonzero(np.diff(signs)):
        edges.append(mpmath.findroot(lambda b: size(b) - x, (i / 399, (i + 1) / 399), "anderson"))
    edges.append(1)
    expected = mpmath.quad(lambda b: max(1 - x / size(b), 0) if b < 1 else 0, edges) / 2
    tail = linear_tail(*moment_nodes(WAVE, biases=20_000), 1, 1 - x, 1.0, A)
    assert tail.estimate == pytest.approx(float(expected), rel=1e-7)


def bromwich(n, x, A):
    """The tail of the wave's functional as a contour integral through θ > 0, by NumPy."""
    b, w = np.polynomial.legendre.leggauss(400)
    b, w = b[b > 0], 2 * w[b > 0]
    size = A * np.abs((1 - b**2) ** 3 * np.cos(math.pi * b)) * KAPPA

    def K(z):
        zs = np.multiply.outer(z, size)
        return np.log((np.sinh(zs) / zs) @ (w / 2))

    thetas = np.linspace(0.05, 60, 1000)
    theta = thetas[np.argmin(K(thetas) - thetas * x)]
    u = 0.05 * np.arange(6000)
    z = theta + 1j * u
    values = (np.exp(n * (K(z) - z * x - K(theta) + theta * x)) / z).real
    area = (values.sum() - values[0] / 2) * 0.05 / math.pi
    return (n * (K(theta) - theta * x) + math.log(area)) / math.log(10)


def test_the_tail_is_its_contour_integral():
    """At 1e-5, 1e-8 and 1e-14, eight neurons of amplitude 11; no lattice and no convolution."""
    for eps, size in ((0.5532, -5), (0.3888, -8), (0.1610, -14)):
        tail = linear_tail(*NODES, 8, eps, 1.0, 11.0)
        assert tail.log10 == pytest.approx(size, abs=0.01)
        assert tail.log10 == pytest.approx(bromwich(8, 1 - eps, 11.0), abs=2e-5)


@pytest.mark.parametrize("eps", [0.5532, 0.3888, 0.1610])
def test_lugannani_and_rice_agree(eps):
    for n, within in ((8, 0.02), (32, 0.005)):
        exact = linear_tail(*NODES, n, eps, 1.0, 11.0).log10
        assert saddle_point_tail(*NODES, n, eps, 1.0, 11.0) == pytest.approx(exact, abs=within)


def test_the_tail_agrees_with_counting_at_1e_3():
    """Networks drawn by NumPy, ⟨h, f⟩ = mean of a g(b)."""
    rng = np.random.default_rng(0)
    n, A, eps, samples = 8, 15.0, 0.6, 500_000
    a, b = rng.uniform(-A, A, (n, samples)), rng.uniform(-1, 1, (n, samples))
    g = (1 - b**2) ** 3 * np.cos(math.pi * b) * KAPPA
    hits = ((a * g).mean(0) >= 1 - eps).sum()
    expected = linear_tail(*NODES, n, eps, 1.0, A).estimate * samples
    assert 700 < expected < 900 and abs(hits - expected) < 4 * math.sqrt(expected)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 20), eps=st.floats(0.05, 0.95), A=st.floats(3, 40))
def test_the_tail_is_below_hoeffdings_bound(n, eps, A):
    assume(1 - eps < 0.9 * A * KAPPA or 1 - eps > A * KAPPA)
    tail = linear_tail(*NODES, n, eps, 1.0, A, points=1 << 13)
    bound = rashomon_bound(n, eps, 1.0, A, KAPPA, log10=True)
    assert tail.log10 <= bound


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.01, 100), n=st.integers(1, 12))
def test_the_tail_is_scale_free(scale, n):
    values, weights = NODES
    one = linear_tail(values, weights, n, 0.4, 1.0, 15.0, points=1 << 12)
    other = linear_tail(-scale * values, weights, n, 0.4, scale, 15.0 * scale, points=1 << 12)
    assert other.log10 == pytest.approx(one.log10, rel=1e-6)


def test_where_no_network_reaches_the_tail_is_empty():
    for find in (lambda *a: linear_tail(*a).log10, saddle_point_tail):
        assert find(*NODES, 8, 0.4, 1.0, 0.59 / KAPPA) == -math.inf
        assert -200 < find(*NODES, 8, 0.4, 1.0, 0.61 / KAPPA) < -10


def test_a_tail_far_below_underflow_has_a_logarithm():
    log10 = saddle_point_tail(ONE, ONE, 300, 0.05, 1.0, 1.0)
    assert log10 == pytest.approx(irwin_hall(300, 0.95), abs=1e-4)
    assert log10 < -330 and Tail(log10, 0.0).estimate == 0


V, W = NODES


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: linear_tail(V, W, 8, 1.0, 1, 30), r"eps must lie in \(0, 1\), got 1"),
        (lambda: saddle_point_tail(V, W, 8, -0.1, 1, 30), r"eps must lie in \(0, 1\), got -0.1"),
        (lambda: linear_tail(V, W, 8, 0.5, 0, 30), "f_norm must be positive.*f = 0"),
        (lambda: linear_tail(V, W, 8, 0.5, 1, 0), "amplitude must be positive"),
        (lambda: linear_tail(V, W, 0, 0.5, 1, 30), "n must be an integer ≥ 1, got 0"),
        (lambda: linear_tail(V, W, 8, 0.5, 1, 30, points=5), "points must be an integer ≥ 64"),
        (lambda: linear_tail(V, 2 * W, 8, 0.5, 1, 30), "weights must be ≥ 0 and sum to 1, got.*2"),
        (lambda: linear_tail(V, -W, 8, 0.5, 1, 30), "weights must be ≥ 0"),
        (lambda: linear_tail(V, W[1:], 8, 0.5, 1, 30), "must have one shape"),
        (lambda: linear_tail(V, W, 99, 0.01, 1, 11.5, points=64), "points = 64 are too few"),
        (lambda: linear_tail(0 * V, W, 8, 0.5, 1, 30), "largest of values.*orthogonal to every"),
        (lambda: linear_tail(V / 0, W, 8, 0.5, 1, 30), "values must be finite"),
    ],
)
def test_what_has_no_tail_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("values", [V.float(), V.tolist(), V[None]], ids=["float32", "list", "2-D"])
def test_a_law_is_of_float64_tensors(values):
    with pytest.raises(TypeError, match=r"values must be a float64 tensor \(m,\)"):
        linear_tail(values, W, 8, 0.5, 1.0, 30.0)
