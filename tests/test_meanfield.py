import math

import mpmath
import pytest
import torch

from dynbook.meanfield import (
    chi,
    correlation_map,
    critical_line,
    depth_scale,
    fixed_point,
    length_map,
    lyapunov_exponent,
)

erf, relu, tanh = torch.erf, torch.relu, torch.tanh


def double(*x):
    return torch.tensor(x, dtype=torch.float64)


def tanh_mean(f, q):
    """⟨f(tanh √q z)⟩ by mpmath's tanh-sinh rule."""
    root = mpmath.sqrt(q)
    return 2 * mpmath.quad(lambda z: f(mpmath.tanh(root * z)) * mpmath.npdf(z), [0, 1, 3, 12])


# --- lengths --------------------------------------------------------------------------------


def test_the_length_map_of_erf_is_an_arcsine(device):
    """⟨erf(√q z)²⟩ = (2/π) arcsin(2q/(1 + 2q))."""
    q, w = double(1e-3, 0.5, 7, 300).to(device), double(0.8, 2.0)[:, None].to(device)
    exact = w**2 * 2 / math.pi * torch.asin(2 * q / (1 + 2 * q)) + 0.09
    ours = length_map(erf, q, w, 0.3)
    assert ours.device.type == device and ours.shape == (2, 4)
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=0)


def test_relu_halves_the_square():
    """σ_w² q/2 + σ_b², so that q* = σ_b²/(1 − σ_w²/2), or nothing finite."""
    torch.testing.assert_close(length_map(relu, double(0, 3), 1.2, 0.5), double(0.25, 2.41))
    w = double(0.3, 1.0, 1.4, math.sqrt(2) * (1 - 1e-9))
    torch.testing.assert_close(fixed_point(relu, w, 0.5), 0.25 / (1 - w**2 / 2), rtol=1e-6, atol=0)
    assert fixed_point(relu, double(1.42, 3.0), 0.5).isinf().all()
    assert fixed_point(relu, 1.5, 0.0) == math.inf and fixed_point(relu, 1.4, 0.0) == 0


def test_a_variance_of_any_size_is_resolved_or_infinite():
    """⟨tanh²⟩ = 1 − √(2/πq) + O(q^{−3/2}); ReLU has no limit as q → ∞, tanh² has."""
    q = double(1e10, 2e12, 1e16)
    missing = (2 / (math.pi * q)).sqrt()
    torch.testing.assert_close(length_map(tanh, q, 1.0, 0.0), 1 - missing, rtol=0, atol=1e-14)
    assert length_map(relu, math.inf, 1.0, 0.0) == math.inf
    assert length_map(tanh, math.inf, 1.0, 0.0) == 1
    assert chi(torch.square, 1.2, 0.3) == math.inf
    assert fixed_point(lambda x: 0 * x, 1.0, 0.0) == 0


def test_tiny_weights_are_no_nan():
    """Directions of a linear map without biases stay; with them, all inputs become one."""
    for w in (1e-40, 1e-20):
        torch.testing.assert_close(correlation_map(tanh, C, w, 0.0), C)
        torch.testing.assert_close(correlation_map(tanh, C, w, 0.1), torch.ones_like(C))
        assert depth_scale(tanh, w, 0.0).c == 1


def test_critical_relu_keeps_the_length_it_is_given():
    assert fixed_point(relu, math.sqrt(2), 0.0, start=0.7) == 0.7


def test_the_fixed_point_is_one_and_attracts():
    """Plain iteration ends there, from above and from below."""
    w, b = double(0.5, 1.4, 6.0), double(0.0, 0.2, 1.5)[:, None]
    star = fixed_point(tanh, w, b)
    for start in (0.05, 30.0):
        q = torch.full_like(star, start)
        for _ in range(70):
            q = length_map(tanh, q, w, b)
        torch.testing.assert_close(q, star, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_next_to_criticality_the_fixed_point_is_as_exact_as_elsewhere(gap):
    """tanh² = q − 2q² + 17q³/3 − …, so q* = ε/2 + O(ε²) for σ_w² = 1/(1 − ε): no iteration ends."""
    star = fixed_point(tanh, 1 / math.sqrt(1 - gap), 0.0).item()
    assert star == pytest.approx(gap / 2, rel=2 * gap + 1e-6)
    assert fixed_point(tanh, math.sqrt(1 - gap), 0.0) == 0


def test_small_biases_are_not_lost():
    """q* → σ_b²/(1 − σ_w²) for σ_b → 0 in the ordered phase, however small."""
    b = double(1e-4, 1e-8, 1e-12)
    torch.testing.assert_close(fixed_point(tanh, 0.6, b), b**2 / 0.64, rtol=1e-7, atol=0)


def test_the_start_chooses_among_stable_lengths():
    """φ = 4x²/(1 + x²) makes small lengths vanish and keeps large ones."""

    def phi(x):
        return 4 * x**2 / (1 + x**2)

    assert fixed_point(phi, 1.0, 0.0, start=1e-3) == 0
    high = fixed_point(phi, 1.0, 0.0, start=10.0)
    assert high > 1 and length_map(phi, high, 1.0, 0.0).item() == pytest.approx(high.item())


def test_a_falling_length_map_has_its_fixed_point_all_the_same():
    """⟨exp(−2x²)⟩ = 1/√(1 + 4q), so q√(1 + 4q) = σ_w²; the slope there is never below −½."""
    star = fixed_point(lambda x: torch.exp(-(x**2)), double(0.1, 1, 30), 0.0)
    torch.testing.assert_close(star * (1 + 4 * star).sqrt(), double(0.01, 1, 900))


# --- χ and the edge -------------------------------------------------------------------------


def test_chi_of_relu_and_of_erf_in_closed_form():
    """½ σ_w², and (4 σ_w²/π)/√(1 + 4q)."""
    assert chi(relu, 1.3, 0.4).item() == pytest.approx(1.3**2 / 2, rel=1e-13)
    assert chi(relu, 2.0, 0.4).item() == pytest.approx(2.0, rel=1e-13)  # q* = ∞
    assert chi(relu, 1.0, 0.0).item() == pytest.approx(0.5, rel=1e-13)  # q* = 0
    q = double(0, 0.1, 2, 50)
    exact = 4 * 1.7**2 / math.pi / (1 + 4 * q).sqrt()
    torch.testing.assert_close(chi(erf, 1.7, 0.2, q=q), exact, rtol=1e-12, atol=0)


def test_the_exponent_is_half_a_logarithm():
    """ReLU: ½ ln(σ_w²/2); a linear layer, here a steep line: ln(σ_w · slope), exactly."""
    assert lyapunov_exponent(relu, 1.1, 0.2).item() == pytest.approx(math.log(1.21 / 2) / 2)
    line = lyapunov_exponent(lambda x: 3 * x, 0.2, 1.0).item()
    assert line == pytest.approx(math.log(0.6), rel=1e-12)


TANH_EDGE = {0.0: 1.0, 0.1: 1.193401, 0.3: 1.395584, 0.5: 1.549674, 1.0: 1.855589}


@pytest.mark.parametrize("sigma_b", TANH_EDGE)
def test_the_edge_of_tanh(sigma_b):
    """The table to 1e-6; and mpmath, which finds q and σ_w together by Newton's method."""
    ours = critical_line(tanh, sigma_b).item()
    assert ours == pytest.approx(TANH_EDGE[sigma_b], abs=1e-6)
    if sigma_b:

        def off(log_q, w):
            q = mpmath.exp(log_q)
            return (
                w**2 * tanh_mean(lambda t: t**2, q) + sigma_b**2 - q,
                w**2 * tanh_mean(lambda t: (1 - t**2) ** 2, q) - 1,
            )

        guess = {0.1: 0.17, 0.3: 0.44, 0.5: 0.75, 1.0: 1.8}[sigma_b]
        _, w = mpmath.findroot(off, (math.log(guess), TANH_EDGE[sigma_b]), tol=1e-24)
        assert ours == pytest.approx(float(abs(w)), abs=1e-11)


def test_the_edges_that_are_known_exactly():
    """erf: √π/2; ReLU: √2; leaky: √(2/(1 + a²)); hard tanh: 1, at σ_b = 0."""
    assert critical_line(erf, 0.0).item() == pytest.approx(math.sqrt(math.pi) / 2, rel=1e-10)
    torch.testing.assert_close(critical_line(relu, double(0, 0.1, 2)), double(*[math.sqrt(2)] * 3))
    leaky = critical_line(lambda x: torch.where(x > 0, x, 0.2 * x), 0.0)
    assert leaky.item() == pytest.approx(math.sqrt(2 / 1.04), rel=1e-12)
    hard = critical_line(lambda x: x.clamp(-1, 1), 0.0, kinks=(-1, 1))
    assert hard.item() == pytest.approx(1.0, rel=1e-10)
    assert critical_line(lambda x: 0 * x + 1, 0.5) == math.inf
    softplus = critical_line(torch.nn.functional.softplus, 0.3)  # ReLU, seen from far away
    assert softplus.item() == pytest.approx(math.sqrt(2), rel=1e-10)


@pytest.mark.parametrize("phi", [erf, torch.atan, lambda x: tanh(x) + x / 10], ids=str)
def test_on_the_edge_chi_is_one(phi, device):
    """By another way: the fixed point of the σ_w found, from small lengths, and χ there."""
    b = double(0.01, 0.4, 1.5).to(device)
    edge = critical_line(phi, b)
    q = fixed_point(phi, edge, b, start=1e-6)
    torch.testing.assert_close(chi(phi, edge, b, q=q), torch.ones_like(b), rtol=1e-8, atol=0)


def test_an_edge_where_the_length_would_repel_is_refused():
    """GELU, whose lengths run away between σ_w = 1.5 and 1.6, where χ₁ is 0.7."""
    gelu = torch.nn.functional.gelu
    assert fixed_point(gelu, 1.6, 0.2) == math.inf and chi(gelu, 1.5, 0.2) < 0.71
    with pytest.raises(ValueError, match=r"sigma_b = 0.2 that length, q = .* repels"):
        critical_line(gelu, double(0.0, 0.2))


# --- correlations ---------------------------------------------------------------------------


C = torch.linspace(-1, 1, 11, dtype=torch.float64)


def test_the_correlation_map_of_relu_is_the_arc_cosine_kernel():
    """c' = [√(1 − c²) + (π − arccos c) c]/π, at any length and so at all limits of it."""
    exact = ((1 - C**2).sqrt() + (math.pi - C.acos()) * C) / math.pi
    for w, q in ((math.sqrt(2), 0.3), (1.0, None), (3.0, None)):
        ours = correlation_map(relu, C, w, 0.0, q=q)
        torch.testing.assert_close(ours, exact, rtol=0, atol=1e-12)


def test_the_correlation_map_of_erf_is_an_arcsine(device):
    """⟨erf u₁ erf u₂⟩ = (2/π) arcsin(2qc/(1 + 2q)), slope (4/π)/√((1 + 2q)² − 4q²c²)."""
    w, b, c = double(0.7, 1.5)[:, None].to(device), 0.3, C.to(device)
    q = fixed_point(erf, w, b)
    exact = (2 * w**2 / math.pi * torch.asin(2 * q * c / (1 + 2 * q)) + b**2) / q
    torch.testing.assert_close(correlation_map(erf, c, w, b), exact, rtol=0, atol=1e-11)
    slope = 4 * w**2 / math.pi / ((1 + 2 * q) ** 2 - (2 * q * c) ** 2).sqrt()
    torch.testing.assert_close(chi(erf, w, b, c=c), slope, rtol=1e-11, atol=0)


def test_equal_inputs_stay_equal_and_two_close_ones_part_by_chi():
    close = 1 - correlation_map(tanh, double(1, 1 - 2.0**-30), 2.0, 0.3)
    assert close[0] == 0
    assert close[1].item() == pytest.approx(2.0**-30 * chi(tanh, 2.0, 0.3).item(), rel=1e-6)


def test_depth_scales_of_erf_against_mpmath():
    """Order: −1/ln χ₁ with c* = 1. Chaos: c* and slope from the arcsine, solved in mpmath."""
    scales = depth_scale(erf, double(0.6, 2.0), 0.3)

    def length(w, q):
        return w**2 * 2 / mpmath.pi * mpmath.asin(2 * q / (1 + 2 * q)) + 0.09

    for i, w in enumerate((0.6, 2.0)):
        q = mpmath.mpf(1)
        for _ in range(200):
            q = length(w, q)

        def onward(c, w=w, q=q):
            return (2 * w**2 / mpmath.pi * mpmath.asin(2 * q * c / (1 + 2 * q)) + 0.09) / q

        c = 1 if i == 0 else mpmath.findroot(lambda c, f=onward: f(c) - c, (0.05, 0.5))
        slope = 4 * w**2 / mpmath.pi / mpmath.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)
        rate = mpmath.diff(lambda q, w=w: length(w, q), q)
        assert scales.c[i].item() == pytest.approx(float(c), abs=1e-10)
        assert scales.correlation[i].item() == pytest.approx(float(-1 / mpmath.log(slope)))
        assert scales.length[i].item() == pytest.approx(float(-1 / mpmath.log(rate)))


def test_the_depth_scale_diverges_like_one_over_the_distance_on_both_sides():
    edge = critical_line(tanh, 0.3)
    distance = double(1e-3, 1e-5)
    for side in (-1, 1):
        scale = depth_scale(tanh, edge + side * distance, 0.3).correlation
        assert (scale[1] / scale[0]).item() == pytest.approx(100, rel=0.05)


def test_where_directions_only_are_left_nothing_decays_exponentially():
    """ReLU without biases: the slope of the arc-cosine map at 1 is 1. Linear order: c' = c."""
    assert depth_scale(relu, double(1.0, math.sqrt(2), 2.0), 0.0).correlation.isinf().all()
    order = depth_scale(tanh, 0.5, 0.0)
    assert order.correlation == math.inf
    assert order.length.item() == pytest.approx(-1 / math.log(0.25))


def test_a_finite_network_does_what_mean_field_says():
    """Twelve networks of width 200: q*, c* and the mean square growth of a tangent, to 4 %."""
    rng = torch.Generator().manual_seed(4)
    w, b, n = 2.0, 0.4, 200
    h = torch.randn(2, 12, n, generator=rng, dtype=torch.float64)
    v = torch.randn(12, n, generator=rng, dtype=torch.float64)
    growth, length, cosine = [], [], []
    for depth in range(50):
        W = torch.randn(12, n, n, generator=rng, dtype=torch.float64) * w / math.sqrt(n)
        bias = torch.randn(12, n, generator=rng, dtype=torch.float64) * b
        ahead = torch.einsum("kij,kj->ki", W, v / h[0].cosh() ** 2)
        if depth >= 30:
            growth.append((ahead.square().sum(-1) / v.square().sum(-1)).mean())
            length.append(h[0].square().mean())
            cosine.append(torch.cosine_similarity(h[0], h[1], -1).mean())
        h, v = torch.einsum("kij,akj->aki", W, h.tanh()) + bias, ahead
    for measured, theory in (
        (growth, chi(tanh, w, b)),
        (length, fixed_point(tanh, w, b)),
        (cosine, depth_scale(tanh, w, b).c),
    ):
        assert torch.stack(measured).mean().item() == pytest.approx(theory.item(), rel=0.04)


# --- batches, kinds, refusals ---------------------------------------------------------------


def test_a_batch_is_its_members():
    w, b = double(0.6, 2.5), double(0.0, 0.3)[:, None]
    for f in (fixed_point, chi, lambda *a: depth_scale(*a).correlation):
        together = f(tanh, w, b)
        assert together.shape == (2, 2)
        alone = torch.stack([torch.stack([f(tanh, x.item(), y.item()) for x in w]) for y in b])
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_the_answer_is_float64_whatever_came():
    single = torch.tensor(1.5, dtype=torch.float32)
    assert chi(tanh, single, 0).dtype == length_map(tanh, 1, single, 0).dtype == torch.float64


def test_modules_and_in_place_activations_do():
    exact = chi(relu, 1.2, 0.3)
    torch.testing.assert_close(chi(torch.nn.ReLU(), 1.2, 0.3), exact)
    torch.testing.assert_close(chi(torch.nn.ReLU(inplace=True), 1.2, 0.3), exact)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: chi("tanh", 1.0, 0.0), TypeError, r"phi must be a function.*got 'tanh'"),
        (lambda: chi(tanh, 0.0, 0.1), ValueError, r"sigma_w must be in \[1e-40, 100000\], got 0"),
        (lambda: chi(tanh, 1.0, 1e-50), ValueError, r"sigma_b must be 0 or in \[1e-40, 1.*1e-50"),
        (lambda: depth_scale(relu, 1.0, 1e7), ValueError, r"sigma_b must be 0 or in .* got 1e\+07"),
        (lambda: chi(tanh, double(1, -2), 0.1), ValueError, r"sigma_w .*got -2"),
        (lambda: chi(tanh, 1.0, -0.1), ValueError, r"sigma_b must be 0 or in .* got -0.1"),
        (lambda: chi(tanh, 1.0, math.nan), ValueError, r"sigma_b must be 0 or in .* nan"),
        (lambda: chi(tanh, 1.0, [0.1]), TypeError, r"sigma_b must be a number or a tensor"),
        (lambda: chi(tanh, double(1) + 1j, 0.1), TypeError, r"sigma_w must be real"),
        (lambda: chi(tanh, 1.0, 0.1, q=-1.0), ValueError, r"q must be ≥ 0, got -1"),
        (lambda: chi(tanh, 1.0, 0.1, c=1.1), ValueError, r"c must be in \[−1, 1\], got 1.1"),
        (lambda: chi(tanh, double(1, 2), double(1, 2, 3)), ValueError, r"sigma_b \(3,\)"),
        (lambda: fixed_point(tanh, 1.0, 0.1, start=0.0), ValueError, r"start must lie between"),
        (lambda: fixed_point(tanh, 1.0, 0.1, start="1"), ValueError, r"start must lie between"),
        (lambda: chi(tanh, 1.0, 0.1, kinks=()), ValueError, r"kinks must be a tuple of finite"),
        (lambda: chi(tanh, 1.0, 0.1, kinks=0.5), ValueError, r"kinks must be a tuple .* got 0.5"),
        (lambda: chi(torch.nn.PReLU(), 1.0, 0.1), ValueError, r"take a float64 .*\.double\(\)"),
        (lambda: chi(torch.atan2, 1.0, 0.1), ValueError, r"phi must take .* stops: atan2"),
        (lambda: chi(lambda x: x.softmax(-1), 1.0, 0.1), ValueError, r"each element alone"),
        (lambda: chi(lambda x: x.sum(), 1.0, 0.1), ValueError, r"keep the shape"),
        (lambda: chi(torch.nn.Dropout(), 1.0, 0.1), ValueError, r"dropout is no activation"),
        (lambda: chi(torch.sign, 1.0, 0.1), ValueError, r"phi must be continuous"),
        (lambda: critical_line(torch.sign, 0.1), ValueError, r"phi must be continuous"),
        (lambda: depth_scale(torch.sign, 1.0, 0.1), ValueError, r"phi must be continuous"),
        (lambda: correlation_map(lambda x: x.clamp(-1, 1), 0.5, 1.0, 0.1), ValueError, r"kinks=\("),
        (lambda: length_map(torch.log, 1.0, 1.0, 0.1), ValueError, r"phi must be finite"),
        (lambda: length_map(torch.exp, 9.0, 1.0, 0.1), ValueError, r"grows or wiggles too fast"),
    ],
)
def test_what_is_refused_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()
