import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from dynbook.oscillations import wave
from dynbook.rare_events import probability_mc
from dynbook.rashomon import Target, target
from dynbook.two_layer import (
    draw_networks,
    network_values,
    one_neuron_move,
    quadrature_loss,
    rashomon_event,
    relu_loss,
    smooth_loss,
)

F64 = torch.float64
PI = math.pi


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# --- networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_networks_are_uniform(dim):
    """a, b and, by Archimedes' theorem in three dimensions, each w_i; and they are unrelated."""
    x = draw_networks(4000, 3, 7.0, dim, generator=rng(dim))
    a, b, w = x[..., 0], x[..., 1], x[..., 2:]
    assert x.shape == (4000, 3, 2 + dim)
    torch.testing.assert_close(w.norm(dim=-1), torch.ones(4000, 3, dtype=F64))
    cdf = {
        1: lambda v: (np.sign(v) + 1) / 2,
        2: lambda v: 1 - np.arccos(v) / np.pi,
        3: lambda v: (v + 1) / 2,
    }[dim]
    assert stats.kstest(a.flatten() / 7, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(b.flatten(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    if dim > 1:
        assert stats.kstest(w[..., 0].flatten(), cdf).pvalue > 1e-3
    else:
        assert abs(w.mean()) < 4 / math.sqrt(w.numel())
    related = torch.corrcoef(torch.stack([a.flatten(), b.flatten(), w[..., 0].flatten()])).triu(1)
    assert related.abs().max() < 4 / math.sqrt(a.numel())


def test_draws_do_not_depend_on_the_device(device):
    here = draw_networks(5, 4, 2.0, generator=rng(), device=device)
    assert here.device.type == device
    assert torch.equal(here.cpu(), draw_networks(5, 4, 2.0, generator=rng()))
    single = draw_networks(5, 4, 2.0, generator=rng(), dtype=torch.float32)
    assert single.dtype == torch.float32 and (single[..., 2].abs() == 1).all()


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_moves_keep_the_uniform_law_and_are_reversible(dim):
    """For x uniform and y one step on, E φ(x)ψ(y) = E ψ(x)φ(y); forty steps on, y is uniform."""
    g = rng(dim)
    x = draw_networks(20_000, 1, 1.0, dim, generator=g)
    y = one_neuron_move(x, 1.0, g)
    a, b, c, d = x[:, 0, 0], x[:, 0, 1], y[:, 0, 0], y[:, 0, 1]
    u, v = x[:, 0, 2], y[:, 0, 2]
    for one, other in (
        (a**2 * d, c**2 * b),
        (a.exp() * c**3, c.exp() * a**3),
        (b**2 * d**5, d**2 * b**5),
        (u * d.exp(), v * b.exp()),
    ):
        difference = one - other
        assert difference.mean().abs() < 4 * difference.std() / math.sqrt(len(x))
    for _ in range(40):
        y = one_neuron_move(y, 1.0, g)
    assert y[..., :2].abs().max() <= 1
    torch.testing.assert_close(y[..., 2:].norm(dim=-1), torch.ones(len(y), 1, dtype=F64))
    for uniform in (y[:, 0, 0], y[:, 0, 1]):
        assert stats.kstest(uniform, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_a_move_changes_one_neuron_by_sizes_of_all_orders():
    x = draw_networks(3000, 5, 30.0, generator=rng())
    difference = (one_neuron_move(x, 30.0, rng(1)) - x).abs()
    assert ((difference > 0).any(-1).sum(-1) == 1).all()
    step = difference[..., 0].amax(-1) / 60
    assert (step > 0.3).double().mean() > 0.05 and (step < 0.02).double().mean() > 0.05


# --- losses ---------------------------------------------------------------------------------


def exact_loss(network, nu):
    """‖h − f‖² by 30 digits, between the kinks, f differentiated by hand nowhere."""
    rows = [[mpmath.mpf(v) for v in row] for row in network.tolist()]

    def g(x):
        return (1 - x * x) ** 3 * mpmath.cos(nu * x)

    def g_second(x):
        q, q1, q2 = (1 - x * x) ** 3, -6 * x * (1 - x * x) ** 2, (30 * x * x - 6) * (1 - x * x)
        return (q2 - nu**2 * q) * mpmath.cos(nu * x) - 2 * nu * q1 * mpmath.sin(nu * x)

    norm = mpmath.sqrt(mpmath.quad(lambda x: g_second(x) ** 2, [-1, 0, 1]))
    assert mpmath.almosteq(mpmath.diff(g, 0.3, 2), g_second(mpmath.mpf(0.3)), 1e-8)

    def h(x):
        return sum(a * max(w * x - b, 0) for a, b, w in rows) / len(rows)

    knots = sorted({mpmath.mpf(-1), mpmath.mpf(1), *(w * b for _, b, w in rows)})
    return mpmath.quad(lambda x: (h(x) - g_second(x) / norm) ** 2, knots, maxdegree=4)


@pytest.mark.parametrize("nu, n", [(PI, 1), (PI, 5), (4 * PI, 3)], ids=str)
def test_the_closed_form_is_the_integral(nu, n):
    x = draw_networks(2, n, 30.0, generator=rng(n))
    with mpmath.workdps(20):
        expected = [float(exact_loss(network, nu)) for network in x]
    ours = relu_loss(wave(nu))(x)
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=F64), rtol=1e-12, atol=1e-12)


def test_in_single_precision_it_errs_by_rounding(device):
    x = draw_networks(1000, 10, 30.0, generator=rng(), device=device)
    loss = relu_loss(wave(PI))
    exact, single = loss(x), loss(x.float())
    assert single.dtype == torch.float32 and single.device.type == device
    assert (single - exact).abs().max() < 2e-6 * 900


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 9), seed=st.integers(0, 99))
def test_neurons_have_no_order_and_the_line_no_direction(n, seed):
    """Permuted neurons are one function; reflected ones are as near to an even f."""
    x = draw_networks(4, n, 10.0, generator=rng(seed))
    loss = relu_loss(wave(2 * PI))
    torch.testing.assert_close(loss(x[:, torch.randperm(n)]), loss(x), rtol=1e-10, atol=1e-10)
    mirrored = x * torch.tensor([1.0, 1.0, -1.0], dtype=F64)
    torch.testing.assert_close(loss(mirrored), loss(x), rtol=1e-10, atol=1e-10)


def test_a_target_need_not_be_even():
    """g = (1 − x²)³ sin(3x + 1), against quadrature between kinks by scipy."""
    f = target(lambda x: (1 - x[:, 0] ** 2) ** 3 * (3 * x[:, 0] + 1).sin())
    x = draw_networks(3, 4, 10.0, generator=rng())

    def off(t, network):
        at = torch.tensor([[t]], dtype=F64)
        return (network_values(network, at) - f.f(at)).item() ** 2

    for network, ours in zip(x, relu_loss(f)(x), strict=True):
        kinks = (network[:, 1] * network[:, 2]).tolist()
        expected = integrate.quad(off, -1, 1, (network,), points=kinks, epsabs=1e-9)[0]
        assert ours.item() == pytest.approx(expected, rel=1e-8)


SMOOTH = {"tanh": torch.tanh, "sin": torch.sin, "Gaussian": lambda t: torch.exp(-(t**2))}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_chebyshev_series_is_the_integral(name, device):
    """Gauss's rule of 60 points on all of (−1, 1), from NumPy."""
    f, activation = wave(2 * PI), SMOOTH[name]
    x = draw_networks(50, 6, 10.0, generator=rng())
    at, weights = np.polynomial.legendre.leggauss(60)
    at = torch.from_numpy(at)
    a, b, w = x.unbind(-1)
    h = (a[..., None] * activation(w[..., None] * at - b[..., None])).mean(1)
    expected = ((h - f.f(at[:, None])) ** 2) @ torch.from_numpy(weights)
    ours = smooth_loss(f, activation)(x.to(device))
    torch.testing.assert_close(ours.cpu(), expected, rtol=1e-10, atol=1e-10)


def test_an_affine_activation_takes_two_terms():
    x = draw_networks(9, 3, 5.0, generator=rng())
    a, b, w = x.unbind(-1)
    slope, height = (a * w).mean(1), -(a * b).mean(1)
    expected = 2 * height**2 + 2 / 3 * slope**2 + 1  # f is orthogonal to affine functions
    torch.testing.assert_close(smooth_loss(wave(PI), lambda t: t)(x), expected)


@pytest.mark.parametrize("dim", [1, 2])
def test_quadrature_goes_anywhere(dim):
    """A step on the interval, ReLU on the disk, against a rule of other points."""
    f = wave(3.0, dim)
    activation = torch.relu if dim == 2 else (lambda t: (t > 0).to(t))
    x = draw_networks(5, 3, 5.0, dim, generator=rng())
    one, other = (quadrature_loss(f, activation, points=p)(x) for p in (20_000, 45_000))
    torch.testing.assert_close(one, other, rtol=5e-3, atol=1e-3)


def test_leading_dimensions_are_independent_networks(device):
    """And blocks of networks are no seam."""
    x = draw_networks(10_000, 3, 30.0, generator=rng(), device=device)
    for loss in (relu_loss(wave(PI)), smooth_loss(wave(PI), torch.sin), quadrature_loss(wave(PI))):
        together = loss(x[:10].unflatten(0, (2, 5)))
        assert together.shape == (2, 5)
        torch.testing.assert_close(together.flatten(), loss(x[:10]))
    loss = relu_loss(wave(PI))
    torch.testing.assert_close(loss(x)[-7:], loss(x[-7:]), rtol=1e-12, atol=1e-12)


def test_the_event_is_the_relative_error():
    """Scored by ‖h − f‖/‖f‖, for f of any norm."""
    f = wave(PI)
    tripled = target(lambda x: 3 * f.g(x))
    x = draw_networks(20, 4, 30.0, generator=rng())
    scaled = x * torch.tensor([3.0, 1.0, 1.0], dtype=F64)
    ours = rashomon_event(tripled, 4, 90.0).score(scaled)
    torch.testing.assert_close(ours, relu_loss(f)(x).sqrt(), rtol=1e-9, atol=1e-9)
    for other in (
        rashomon_event(wave(3.0, 2), 4, 30.0),
        rashomon_event(f, 4, 30.0, torch.tanh),
        rashomon_event(f, 4, 30.0, loss=relu_loss(f)),
    ):
        assert (other.score(other.draw(50, rng())) < 50).any()
        assert 0 <= probability_mc(other, 0.99, samples=50, generator=rng()).estimate <= 1


def test_a_loss_of_ones_own_is_left_as_it_is():
    cached = torch.full((9,), 4.0, dtype=F64)
    event = rashomon_event(wave(PI), 3, 30.0, loss=lambda x: cached)
    assert (event.score(event.draw(9, rng())) == 2).all() and (cached == 4).all()


# --- refusals -------------------------------------------------------------------------------

X = draw_networks(2, 3, 1.0, generator=rng())
NULL = Target(torch.sin, torch.sin, torch.sin, 0.0, 1)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: draw_networks(5, 0, 1.0, generator=rng()), "n must be an integer ≥ 1, got 0"),
        (lambda: draw_networks(5, 3, 0.0, generator=rng()), "amplitude must be positive.*got 0"),
        (lambda: rashomon_event(wave(1.0), 3, -1.0), "amplitude must be positive.*got -1"),
        (lambda: rashomon_event(NULL, 3, 1.0), "norm must be positive.*f = 0 has no relative"),
        (lambda: relu_loss(wave(1.0, 2)), "one-dimensional, got d = 2; use quadrature_loss"),
        (lambda: smooth_loss(wave(1.0, 3), torch.sin), "one-dimensional, got d = 3"),
        (lambda: smooth_loss(wave(1.0), torch.relu), "smooth: term 128.*use relu_loss for ReLU"),
        (lambda: smooth_loss(wave(1.0), lambda t: t / 0), "activation must be finite"),
        (lambda: relu_loss(wave(1.0))(X[0]), r"networks must have shape \(S, n, 3\).*got \(3, 3\)"),
        (lambda: relu_loss(wave(1.0))(X[:, :0]), r"networks must have shape.*got \(2, 0, 3\)"),
        (lambda: quadrature_loss(wave(1.0))(X[0]), r"networks must have shape.*got \(3, 3\)"),
        (lambda: quadrature_loss(wave(1.0, 2))(X), r"\(S, n, 4\), rows.*in 2 dimensions"),
        (lambda: relu_loss(wave(1.0))(2 * X), r"\|b\| ≤ 1 and w = ±1.*quadrature_loss"),
        (lambda: smooth_loss(wave(1.0), torch.sin)(X * math.nan), "networks must have finite a"),
        (lambda: smooth_loss(wave(1.0), lambda t: 0 * t), "an activation that is zero"),
        (lambda: one_neuron_move(X, 0.1, rng()), r"networks must have \|a\| ≤ 0.1"),
        (lambda: one_neuron_move(X, math.nan, rng()), "amplitude must be positive"),
        (lambda: one_neuron_move(X[0], 1.0, rng()), r"networks must have shape \(..., n, 2 \+ d\)"),
        (
            lambda: rashomon_event(wave(1.0), 3, 1.0, torch.tanh, loss=relu_loss(wave(1.0))),
            "not both",
        ),
        (lambda: relu_loss(wave(1.0))(X[..., :2]), r"networks must have shape.*got \(2, 3, 2\)"),
    ],
)
def test_what_is_no_network_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: draw_networks(5, 3, 1.0, generator=None), "generator must be a torch.Generator"),
        (lambda: relu_loss(wave(1.0))(X.tolist()), "networks must be a floating-point tensor"),
        (lambda: one_neuron_move(X, 1.0, 7), "generator must be a torch.Generator"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused_in_words(call, words):
    with pytest.raises(TypeError, match=words):
        call()
