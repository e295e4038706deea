"""Gradient descent on a double well and on two weights in series: everything is known exactly.

L = x⁴/4 − x²/2 gives x' = (1 + η)x − ηx³, which is also the line u = v of ½(1 − uv)².
"""

import math

import pytest
import torch
from systems import F64

from dynbook.lyapunov import lyapunov_spectrum
from dynbook.maps import OrbitError, gradient_descent, iterate, orbit_diagram


def well(x):
    return (x**4 / 4 - x**2 / 2).sum(-1)


def series(w):
    return (1 - w.prod(-1)) ** 2 / 2


def column(values, device="cpu"):
    return torch.tensor(values, dtype=F64, device=device)[:, None]


def visited(*eta, n=240):
    """What the orbits from 0.3 visit in the end, one row for each learning rate."""
    start, values = torch.tensor([0.3], dtype=F64), torch.tensor(eta, dtype=F64)
    return orbit_diagram(
        lambda rate: gradient_descent(well, rate), start, values, n=n, transient=3000
    )


def two_cycle(eta):
    """x + y = √(1 + 3/η) and x − y = √(1 − 1/η)."""
    middle, half = math.sqrt(1 + 3 / eta) / 2, math.sqrt(1 - 1 / eta) / 2
    return middle - half, middle + half


def angles(count, device="cpu"):
    draw = torch.rand(count, 1, generator=torch.Generator().manual_seed(1), dtype=F64)
    return 2 * math.pi * draw.to(device)


# --- one weight -----------------------------------------------------------------------------


def test_a_minimum_has_the_exponent_of_its_second_derivative(device):
    eta = [0.1, 0.45, 0.7, 0.95]
    step = gradient_descent(well, column(eta, device))
    found = lyapunov_spectrum(step, torch.full_like(column(eta, device), -0.4), n=50, transient=300)
    exact = torch.tensor([math.log(abs(1 - 2 * e)) for e in eta], dtype=F64, device=device)
    torch.testing.assert_close(found.exponents[:, 0], exact, rtol=0, atol=1e-9)


def test_at_half_the_learning_rate_the_minimum_is_reached_with_exponent_minus_infinity():
    """η = ½ is Newton's step: f'(1) = 0."""
    found = lyapunov_spectrum(gradient_descent(well, 0.5), torch.ones(1, dtype=F64), n=8)
    assert found.exponents.isneginf().all()


def test_between_1_and_root_5_less_1_training_alternates_between_two_weights():
    rates = [1.02, 1.1, 1.2, 1.23]
    for eta, seen in zip(rates, visited(*rates), strict=True):
        low, high = two_cycle(eta)
        assert seen.min().item() == pytest.approx(low, abs=1e-9)
        assert seen.max().item() == pytest.approx(high, abs=1e-9)
        assert ((seen - low).abs().minimum((seen - high).abs()) < 1e-9).all()


def test_periods_double_where_they_should_and_the_window_has_six():
    """Flips at 1 and √5 − 1; x_c has periods 8 and 16 near 1.2938 and 1.3005."""
    flips = [1, math.sqrt(5) - 1]
    rates = [flips[0] - 0.01, flips[0] + 0.01, flips[1] - 0.01, flips[1] + 0.01]
    rates += [1.2938, 1.3005, 1.7]
    for orbit, period in zip(visited(*rates), (1, 2, 2, 4, 8, 16, 6), strict=True):
        torch.testing.assert_close(orbit[period:], orbit[:-period], rtol=0, atol=1e-7)
        for shorter in (d for d in range(1, period) if period % d == 0):
            assert (orbit[shorter:] - orbit[:-shorter]).abs().max() > 1e-3


def test_the_wells_merge_where_the_image_of_the_critical_point_falls_on_the_hill():
    """At η = 3√3/2 − 1 the attractor touches 0: below, training keeps its well."""
    merge = 1.5 * math.sqrt(3) - 1
    below, above = visited(merge - 1e-3, merge + 1e-2, n=3000)
    assert below.min() > 0 and above.min() < -1


def test_at_2_every_factor_is_that_of_a_tripled_angle(device):
    """x = √2 sin φ gives f'(x) = 3 cos 3φ / cos φ, while the digits last."""
    phi = angles(50, device)
    found = lyapunov_spectrum(gradient_descent(well, 2.0), math.sqrt(2) * phi.sin(), n=10)
    now = phi * 3 ** torch.arange(11, dtype=F64, device=device)[:, None, None]
    exact = math.log(3) + now.cos().abs().log().diff(dim=0)
    assert ((found.growth - exact).abs() * now[1:].cos().abs()).max() < 1e-9


def test_at_2_the_exponent_is_the_logarithm_of_3():
    """The mean differs from ln 3 by (ln|cos φ_n| − ln|cos φ_0|)/n, whose mean square is π²/6n²."""
    count, n = 400, 500
    phi = angles(count)
    found = lyapunov_spectrum(gradient_descent(well, 2.0), math.sqrt(2) * phi.sin(), n=n)
    spread = math.pi / math.sqrt(6) / n
    assert found.exponents.mean().item() == pytest.approx(
        math.log(3), abs=4 * spread / math.sqrt(count)
    )
    assert found.exponents.std().item() == pytest.approx(spread, rel=0.25)


def test_at_2_the_weights_have_the_arcsine_distribution():
    orbit = iterate(gradient_descent(well, 2.0), math.sqrt(2) * angles(400).sin(), 500)[100:]
    levels = torch.linspace(-1.4, 1.4, 15, dtype=F64)
    below = (orbit.flatten() <= levels[:, None]).double().mean(1)
    exact = 0.5 + torch.asin(levels / math.sqrt(2)) / math.pi
    torch.testing.assert_close(below, exact, rtol=0, atol=5e-3)


def test_standard_errors_of_chaos_are_the_scatter_of_an_ensemble():
    found = lyapunov_spectrum(
        gradient_descent(well, 1.9), 0.4 * angles(200).sin(), n=1000, transient=100
    )
    scatter = found.exponents.std().item()
    assert found.standard_errors.square().mean().sqrt().item() == pytest.approx(scatter, rel=0.2)


def test_beyond_2_training_diverges_and_the_value_is_named():
    with pytest.raises(OrbitError, match=r"the value 2\.1 left the finite numbers"):
        visited(2.1)


# --- two weights ----------------------------------------------------------------------------


def test_equal_weights_in_series_are_the_double_well():
    eta = column([0.3, 1.1, 1.25])
    line = iterate(gradient_descent(well, eta), torch.full((3, 1), 0.4, dtype=F64), 40)
    plane = iterate(gradient_descent(series, eta), torch.full((3, 2), 0.4, dtype=F64), 40)
    torch.testing.assert_close(plane, line.expand(-1, -1, 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [1.05, 1.15, 1.22])
def test_the_two_cycle_attracts_in_the_plane_with_both_its_exponents(eta):
    """Multipliers of two steps: 9 − 2(1 + η)² along the line u = v, 3 − 2η across."""
    start = torch.tensor([0.3, 0.5], dtype=F64)
    found = lyapunov_spectrum(gradient_descent(series, eta), start, n=200, transient=800)
    exact = sorted([math.log(abs(9 - 2 * (1 + eta) ** 2)) / 2, math.log(3 - 2 * eta) / 2])
    assert sorted(found.exponents.tolist()) == pytest.approx(exact, abs=1e-6)
    assert found.x.min().item() == pytest.approx(found.x.max().item(), abs=1e-12)
    assert min(abs(found.x[0].item() - x) for x in two_cycle(eta)) < 1e-9


def test_at_a_minimum_one_direction_is_neutral_and_one_has_the_sharpness():
    """uv = 1 has Hessian eigenvalues 0 and u² + v²."""
    u = 1.4
    start = torch.tensor([u, 1 / u], dtype=F64)
    found = lyapunov_spectrum(gradient_descent(series, 0.3), start, n=100, transient=100)
    exact = math.log(abs(1 - 0.3 * (u**2 + u**-2)))
    assert found.exponents.tolist() == pytest.approx([0, exact], abs=1e-9)


def test_at_2_differences_neither_grow_nor_shrink():
    """Across the line a step multiplies by 2 cos 2φ − 1 = cos 3φ / cos φ: products telescope."""
    start = math.sqrt(2) * angles(300).sin().expand(-1, 2)
    found = lyapunov_spectrum(gradient_descent(series, 2.0), start, n=500, transient=40)
    assert found.exponents[:, 1].mean().abs() < 4 * math.pi / math.sqrt(6) / 500 / math.sqrt(300)
    assert found.exponents[:, 0].mean().item() == pytest.approx(math.log(3), abs=1e-3)


@pytest.mark.parametrize("eta", [0.1, 0.9, 1.3, 1.9])
def test_a_step_shrinks_the_imbalance_and_keeps_the_side_of_the_ellipse(eta):
    """(u² − v²)' = (1 − η²r²)(u² − v²), (E − E*)' = (1 − η²r(1 − r))(E − E*)."""
    w = 3 * torch.randn(200, 2, generator=torch.Generator().manual_seed(2), dtype=F64)
    after = gradient_descent(series, eta)(w)
    r = 1 - w.prod(-1)

    def imbalance(w):
        return w[:, 0] ** 2 - w[:, 1] ** 2

    def excess(w):
        return w.square().sum(-1) - eta * w.prod(-1) - (4 / eta - eta)

    torch.testing.assert_close(
        imbalance(after), (1 - (eta * r) ** 2) * imbalance(w), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(
        excess(after), (1 - eta**2 * r * (1 - r)) * excess(w), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("eta", [0.1, 0.9, 1.3, 1.9])
def test_on_the_ellipse_a_step_triples_the_angle(eta):
    def on_ellipse(phi):
        total, difference = (
            math.sqrt(2 / eta + 1) * phi.cos(),
            math.sqrt(2 / eta - 1) * phi.sin(),
        )
        return torch.cat([total + difference, total - difference], -1)

    phi = angles(50)
    torch.testing.assert_close(
        gradient_descent(series, eta)(on_ellipse(phi)),
        on_ellipse(math.pi - 3 * phi),
        rtol=0,
        atol=1e-12,
    )
