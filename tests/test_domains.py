import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from dynbook.domains import Ball, Box, Interval, gauss

DOMAINS = [
    Interval(-1, 2.5),
    Box((0.0, -1.0), (0.5, 3.0)),
    Box((-1.0,) * 3, (1.0, 2.0, 0.0)),
    Ball(2),
    Ball(3),
]


def monomial_integral(domain, powers):
    """∫ Π x_i^{a_i}: primitives side by side, and Gamma functions on the ball."""
    if isinstance(domain, Ball):
        if any(a % 2 for a in powers):
            return 0.0
        gammas = math.prod(math.gamma((a + 1) / 2) for a in powers)
        degree = sum(powers) + domain.dim
        return 2 * gammas / math.gamma(degree / 2) / degree
    lower, upper = (
        ((domain.left,), (domain.right,))
        if isinstance(domain, Interval)
        else (domain.lower, domain.upper)
    )
    return math.prod(
        (u ** (a + 1) - v ** (a + 1)) / (a + 1)
        for u, v, a in zip(upper, lower, powers, strict=True)
    )


def test_gauss_is_exact_to_degree_2n_minus_1():
    for points in (1, 4, 9):
        x, w = gauss(points)
        for degree in range(2 * points):
            assert (w * x**degree).sum().item() == pytest.approx(1 / (degree + 1), rel=1e-14)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_rule_integrates_polynomials_exactly(domain, data):
    powers = data.draw(st.lists(st.integers(0, 6), min_size=domain.dim, max_size=domain.dim))
    x, w = domain.quadrature(3000)
    ours = (w * (x ** torch.tensor(powers)).prod(-1)).sum().item()
    expected = monomial_integral(domain, powers)
    assert ours == pytest.approx(expected, rel=1e-12, abs=1e-12 * w.sum().item())


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_the_volume_is_the_integral_of_one(domain):
    assert domain.volume == pytest.approx(monomial_integral(domain, [0] * domain.dim), rel=1e-14)
    assert (domain.quadrature(600)[1] > 0).all()


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_the_extent_is_the_range_of_the_ridge_over_the_domain(domain):
    """Attained at corners of a box and, on a ball, at ±w/|w|; exceeded at no point inside."""
    w = torch.randn(20, domain.dim, generator=torch.Generator().manual_seed(0)).double()
    low, high = domain.extent(w)
    if isinstance(domain, Ball):
        corners = torch.cat([w, -w]) / torch.cat([w, w]).norm(dim=1, keepdim=True)
    elif isinstance(domain, Interval):
        corners = torch.tensor([[domain.left], [domain.right]], dtype=torch.float64)
    else:
        corners = torch.tensor(
            list(product(*zip(domain.lower, domain.upper, strict=True))), dtype=torch.float64
        )
    ridge = corners @ w.mT
    torch.testing.assert_close(high, ridge.amax(0))
    torch.testing.assert_close(low, ridge.amin(0))
    inside = domain.quadrature(1000)[0] @ w.mT
    assert (inside <= high).all() and (inside >= low).all()


def test_an_interval_cut_at_the_kinks_integrates_splines_exactly():
    breaks = torch.tensor([0.3, -0.77, 0.3, 5.0])  # unsorted, twice, outside: all harmless
    x, w = Interval().quadrature(64, breaks)
    for c in (float(breaks[0]), float(breaks[1])):
        ours = (w * (x[:, 0] - c).clamp(min=0) ** 7).sum().item()
        assert ours == pytest.approx((1 - c) ** 8 / 8, rel=1e-13)
    assert w.sum().item() == pytest.approx(2, rel=1e-15)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_kink_in_a_ball_costs_one_over_points(dim):
    """∫ max(u·x − s, 0) over slices of the ball, by adaptive quadrature in one dimension."""
    slices = {2: lambda t: 2 * math.sqrt(1 - t * t), 3: lambda t: math.pi * (1 - t * t)}[dim]

    def cap(s):
        return quad(lambda t: (t - s) * slices(t), s, 1, epsabs=1e-13)[0]

    exact = {s: cap(s) for s in (-0.4, 0.1, 0.6)}
    u = torch.tensor([0.48, 0.6, 0.64], dtype=torch.float64)[-dim:]
    u = u / u.norm()

    def error(points):
        x, w = Ball(dim).quadrature(points)
        return max(abs((w * (x @ u - s).clamp(min=0)).sum().item() - exact[s]) for s in exact)

    assert error(20_000) < 2e-4
    assert error(400_000) < error(2_000) / 50


def test_the_number_of_points_is_about_what_was_asked_for():
    for domain in DOMAINS:
        count = len(domain.quadrature(30_000)[0])
        assert 12_000 < count < 36_000, domain


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Interval(1, 1), r"left < right, got \[1, 1\]"),
        (lambda: Interval(math.nan, 1), r"left < right, got \[nan, 1\].*finite"),
        (lambda: Interval(0, math.inf), r"left < right, got \[0, inf\].*finite"),
        (lambda: Interval(-math.inf, 0), r"left < right, got \[-inf, 0\].*finite"),
        (lambda: Interval(-1e308, 1e308), "its length must be finite"),
        (lambda: Interval().quadrature(80, torch.tensor([0.1, math.nan])), "breaks.*nan at index"),
        *(
            (lambda d=d, p=p: d.quadrature(p), f"points must be an integer ≥ 1, got {p!r}")
            for d in (Interval(), Box((0, 0), (1, 1)), Ball())
            for p in (-5, math.nan, 8.5, 0, "9", True)
        ),
        (lambda: Box((0, 0), (1, 0)), r"left < right, got \[0, 0\]"),
        (lambda: Box((0,), (1, 1)), r"as many lower as upper.*1 and 2"),
        (lambda: Box((), ()), r"at least one, got 0"),
        (lambda: Ball(4), r"dim 2 and 3, got 4"),
        (
            lambda: Box((0,) * 8, (1,) * 8).quadrature(20_000),
            r"points must be at least 8\^d.*d = 8",
        ),
    ],
)
def test_what_is_no_domain_is_refused_in_words(make, words):
    with pytest.raises(ValueError, match=words):
        make()
