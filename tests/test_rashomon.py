import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from dynbook.oscillations import bessel, wave
from dynbook.rashomon import (
    directions,
    kappa,
    moment,
    moment_nodes,
    rashomon_bound,
    ridge_integral,
    target,
)

F64 = torch.float64
PI = math.pi


def bump(x):
    """(1 − |x|²)³ cos(5 x_1 + 0.3)"""
    return (1 - (x**2).sum(-1)) ** 3 * torch.cos(5 * x[:, 0] + 0.3)


# --- the bound ------------------------------------------------------------------------------


def test_the_bound_is_hoeffdings():
    """Twice the mean's range: n t²·2/(2Aκ)², with t = (1 − ε)‖f‖²."""
    n, eps, norm, A, k = 8, 0.4, 1.7, 30.0, 0.09
    expected = -2 * n * ((1 - eps) * norm**2) ** 2 / (2 * A * k) ** 2
    assert rashomon_bound(n, eps, norm, A, k) == pytest.approx(math.exp(expected), rel=1e-12)
    log10 = rashomon_bound(10**6, eps, norm, A, k, log10=True)
    assert log10 == pytest.approx(expected * 10**6 / n / math.log(10), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(0.01, 100), eps=st.floats(0.01, 0.99), A=st.floats(1, 100))
def test_the_bound_is_scale_free(scale, eps, A):
    """f and with it κ, and A, multiplied by one number: h/f is the same."""
    one = rashomon_bound(5, eps, 1.0, A, 0.09, log10=True)
    other = rashomon_bound(5, eps, scale, A * scale, 0.09 * scale, log10=True)
    assert other == pytest.approx(one, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 50), eps=st.floats(0.01, 0.99), A=st.floats(0.1, 100))
def test_where_the_set_is_not_empty_the_bound_is_above_exp_minus_n_half(n, eps, A):
    if A * 0.09 >= 1 - eps:
        assert rashomon_bound(n, eps, 1.0, A, 0.09) >= math.exp(-n / 2) * (1 - 1e-12)


# --- functions that oscillate ---------------------------------------------------------------


@pytest.mark.parametrize(
    "nu, expected", [(PI, 0.089392), (2 * PI, 0.034082), (4 * PI, 0.010113)], ids=str
)
def test_kappa_in_one_dimension(nu, expected):
    """1/N with N = ‖((1 − x²)³ cos νx)''‖ by mpmath, to the digits known before."""
    with mpmath.workdps(20):

        def g(t):
            return (1 - t * t) ** 3 * mpmath.cos(nu * t)

        norm = mpmath.sqrt(mpmath.quad(lambda t: mpmath.diff(g, t, 2) ** 2, [-1, 0, 1]))
    assert kappa(wave(nu)) == pytest.approx(float(1 / norm), rel=1e-9)
    assert kappa(wave(nu)) == pytest.approx(expected, abs=6e-7)


@pytest.mark.parametrize("radial", [False, True], ids=["plane", "radial"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_f_is_the_laplacian_of_g_and_has_norm_one(dim, radial):
    """Central differences; the norm by another rule than the one that scales f."""
    f = wave(6.0, dim, radial=radial)
    rng = np.random.default_rng(dim)
    x = torch.from_numpy(rng.uniform(-0.55, 0.55, (20, dim)))
    h = 1e-3 * torch.eye(dim, dtype=F64)
    second = sum(f.g(x + e) - 2 * f.g(x) + f.g(x - e) for e in h) / 1e-6
    torch.testing.assert_close(f.f(x), second, rtol=0, atol=2e-4)
    points, weights = f.domain.quadrature(60_000)
    assert float(weights @ f.f(points) ** 2) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(  # found automatically
        target(f.g, dim).f(x), f.f(x), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("radial", [False, True], ids=["plane", "radial"])
@pytest.mark.parametrize("dim", [2, 3])
def test_ridge_integrals_are_moments_of_relu(dim, radial):
    """⟨σ(w·x − b), f⟩ = ∫_{w·x=b} g, the left side by a fine rule in the ball."""
    f = wave(5.0, dim, radial=radial)
    w, _ = directions(dim, 8 if dim == 2 else 32)
    b = torch.linspace(-0.7, 0.6, len(w), dtype=F64)
    by_quadrature = moment(f, torch.relu, points=200_000)(w, b)
    torch.testing.assert_close(f.ridge(w, b), by_quadrature, rtol=0, atol=2e-5)
    torch.testing.assert_close(  # chords and disks, by their own quadrature
        f.ridge(w, b), ridge_integral(f.g, w, b, points=1000), rtol=0, atol=1e-10
    )


def test_ridge_integrals_in_one_dimension_are_moments_of_relu():
    """By scipy's adaptive rule, cut at the kink."""
    f = wave(2 * PI)
    for w, b in ((1.0, 0.3), (-1.0, 0.3), (-1.0, -0.8), (1.0, -0.2)):

        def integrand(x, w=w, b=b):
            return max(w * x - b, 0) * f.f(torch.tensor([[x]], dtype=F64)).item()

        expected = integrate.quad(integrand, -1, 1, points=[w * b], epsabs=1e-11)[0]
        ours = f.ridge(torch.tensor([[w]], dtype=F64), torch.tensor([b], dtype=F64)).item()
        assert ours == pytest.approx(expected, abs=1e-10)
        assert ours == pytest.approx(f.g(torch.tensor([[w * b]], dtype=F64)).item(), abs=1e-15)


@pytest.mark.parametrize("dim, radial", [(1, True), (2, False), (2, True), (3, False), (3, True)])
def test_kappa_falls_as_a_power_of_the_frequency(dim, radial):
    """ν⁻² for plane waves, ν^{−(d+3)/2} for radial ones."""
    low, high = (kappa(wave(nu, dim, radial=radial), points=900) for nu in (60.0, 120.0))
    expected = -(dim + 3) / 2 if radial else -2
    assert math.log2(high / low) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("dim", [2, 3])
def test_kappa_of_a_plane_wave_is_where_the_neuron_looks_along_it(dim):
    f = wave(7.0, dim)
    w = torch.eye(dim, dtype=F64)[:1]
    at_crest = ridge_integral(f.g, w, torch.zeros(1, dtype=F64), points=400)
    assert kappa(f) == pytest.approx(at_crest.item(), rel=1e-9)


def test_kappa_takes_the_absolute_value():
    """g ≤ 0: without it κ would be 0, and the bound say that the set is empty."""
    f = target(lambda x: -((1 - x[:, 0] ** 2) ** 3))
    assert f.ridge(torch.ones(9, 1, dtype=F64), torch.linspace(-1, 1, 9, dtype=F64)).max() <= 0
    assert kappa(f) == pytest.approx(1, rel=1e-12)


def test_kappa_of_another_activation():
    """sup over b of |∫ tanh(x − b) f|, by scipy."""
    f = wave(PI)

    def size(b):
        return abs(
            integrate.quad(
                lambda x: math.tanh(x - b) * f.f(torch.tensor([[x]], dtype=F64)).item(), -1, 1
            )[0]
        )

    expected = max(size(b) for b in np.linspace(-1, 1, 41))
    assert kappa(f, torch.tanh, points=100) == pytest.approx(expected, rel=2e-3)


def test_the_numbers_of_a_users_g_are_those_of_the_closed_form():
    for dim, radial in ((1, True), (2, False)):
        exact = wave(6.0, dim, radial=radial)
        ours = target(exact.g, dim)
        assert ours.norm == pytest.approx(1, abs=1e-8)
        assert kappa(ours, points=400) == pytest.approx(kappa(exact), rel=1e-6)


def test_nodes_are_the_law_of_the_moments():
    """Their mean of |Y| and of Y² against random neurons, within four standard errors."""
    rng = torch.Generator().manual_seed(0)
    for f in (wave(4.0, 2), wave(4.0, 3), wave(4.0, 3, radial=True)):
        values, weights = moment_nodes(f)
        assert weights.sum().item() == pytest.approx(1, abs=1e-12)
        w = torch.randn(20_000, f.dim, generator=rng, dtype=F64)
        b = 2 * torch.rand(20_000, generator=rng, dtype=F64) - 1
        drawn = f.ridge(w / w.norm(dim=-1, keepdim=True), b)
        for power in (1, 2):
            sample = drawn.abs() ** power
            error = (sample.mean() - weights @ values.abs() ** power).abs()
            assert error < 4 * sample.std() / math.sqrt(len(sample))


@pytest.mark.parametrize("order", [-0.5, 0.0, 0.5, 3.5])
def test_bessel_functions_and_their_derivatives(order):
    """Λ_μ(z) = ₀F₁(; μ + 1; −z²/4), by mpmath, and its second derivative in z²."""
    for s in (0.0, 1e-8, 1e-3, 2.0, 300.0):
        square = torch.tensor(s, dtype=F64, requires_grad=True)
        value = bessel(order, square)
        first = torch.autograd.grad(value, square, create_graph=True)[0]
        second = torch.autograd.grad(first, square)[0]
        hyper = [
            mpmath.hyp0f1(order + 1 + k, -mpmath.mpf(s) / 4)
            / mpmath.rf(order + 1, k)
            * mpmath.mpf(-0.25) ** k
            for k in range(3)
        ]
        for ours, expected in zip((value, first, second), hyper, strict=True):
            assert ours.item() == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_kappa_finds_a_wave_off_the_axes(sign):
    """Turned by 22°, with the crest's sign reversed: κ of the wave along the axis."""
    known, turn = wave(20.0, 2), torch.tensor([1.0, 0.4], dtype=F64) / math.hypot(1, 0.4)
    frame = torch.stack([turn, turn.flip(0) * torch.tensor([-1.0, 1.0])])
    turned = target(lambda x: sign * known.g(x @ frame.mT), 2)
    assert kappa(turned, points=1024) == pytest.approx(kappa(known, points=1024), rel=1e-6)


def test_a_neuron_that_misses_the_ball_sees_nothing():
    w, b = torch.ones(3, 1, dtype=F64), torch.tensor([-2.0, 0.0, 1.5], dtype=F64)
    assert ridge_integral(lambda x: 1 + 0 * x[:, 0], w, b).tolist() == [0, 1, 0]


def test_a_wave_of_ten_thousand_is_made_at_once():
    """There f = −ν² g + …, and ‖(1 − x²)³ cos νx‖² is half of ∫(1 − x²)⁶ = 2¹³ 6!²/13!."""
    size = (2**12 * math.factorial(6) ** 2 / math.factorial(13)) ** 0.5
    assert kappa(wave(1e4), points=200_000) == pytest.approx(1e-8 / size, rel=1e-4)


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: rashomon_bound(8, 0.0, 1, 30, 0.1), r"eps must lie in \(0, 1\), got 0"),
        (lambda: rashomon_bound(8, 1.0, 1, 30, 0.1), r"eps must lie in \(0, 1\), got 1.*h = 0"),
        (lambda: rashomon_bound(8, math.nan, 1, 30, 0.1), r"eps must lie in \(0, 1\)"),
        (lambda: rashomon_bound(8, 0.5, 0.0, 30, 0.1), "f_norm must be positive.*got 0.*f = 0"),
        (lambda: rashomon_bound(8, 0.5, 1, 0.0, 0.1), "amplitude must be positive and finite"),
        (lambda: rashomon_bound(8, 0.5, 1, -3, 0.1), "amplitude must be positive.*got -3"),
        (lambda: rashomon_bound(8, 0.5, 1, 30, math.nan), "kappa must be positive.*got nan"),
        (lambda: rashomon_bound(8, 0.5, 1, 1e-300, 1e-300), "too large: the set is empty"),
        (lambda: kappa(wave(3.0), lambda t: t), "κ must be positive, got .*e-1.: f is orthogonal"),
        (lambda: kappa(wave(3.0), points=-3), "points must be an integer ≥ 16, got -3"),
        (lambda: target(bump, f=lambda x: 0 * x[:, 0] + 3), "f must be Δg"),
        (lambda: target(lambda x: bump(x) * x[:, 0].abs()), "has g a kink"),
        (lambda: rashomon_bound(0, 0.5, 1, 30, 0.1), "n must be an integer ≥ 1, got 0"),
        (lambda: wave(0.0), "nu must be positive and finite, got 0"),
        (lambda: wave(1.0, 4), "dim must be an integer ≥ 1 and ≤ 3, got 4"),
        (lambda: target(lambda x: x[:, 0].cos()), "vanish.*g reaches.*multiply g by"),
        (lambda: target(lambda x: 1 - (x**2).sum(-1), 2), "vanish.*its gradient reaches"),
        (lambda: target(lambda x: 0 * x[:, 0] ** 3), "Δg.* must be positive.*f = 0 has no"),
        (lambda: target(lambda x: x[:, 0] ** 2 * math.nan), "g must be finite, got nan"),
        (lambda: kappa(wave(3.0), lambda t: t * math.nan), "finite"),
        (
            lambda: kappa(wave(3.0), lambda t: 0 * t, points=16),
            "κ must be positive.*orthogonal to every",
        ),
        (lambda: ridge_integral(bump, torch.ones(1, 2).double(), torch.zeros(1).double()), "unit"),
        (
            lambda: ridge_integral(bump, torch.ones(1, 4), torch.zeros(1)),
            r"must fit, got torch.float32 \(1, 4\)",
        ),
        (
            lambda: ridge_integral(
                lambda x: x[:, 0] / 0, torch.ones(1, 1).double(), torch.zeros(1).double()
            ),
            "g must be finite, got nan",
        ),
    ],
)
def test_what_has_no_bound_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: target(bump, f=lambda x: x), r"f must map points \(\d+, 1\).*of shape"),
        (lambda: target(bump, f=lambda x: 3.0), "f must map points.*got 3.0"),
        (lambda: target(lambda x: bump(x).detach()), "g must be made of torch's operations"),
    ],
)
def test_what_is_no_function_of_points_is_refused_in_words(call, words):
    with pytest.raises(TypeError, match=words):
        call()
