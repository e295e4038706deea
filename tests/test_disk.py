import math
import subprocess
import sys

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from scipy.integrate import quad

from dynbook.disk import disk_gram


def ridges(angle, half_angle, length=1.0):
    """Neurons |w| relu(u·x − cos α) from directions and half-angles of their caps."""
    angle, half_angle = (torch.as_tensor(x, dtype=torch.float64) for x in (angle, half_angle))
    w = length * torch.stack([angle.cos(), angle.sin()], -1)
    return w, length * half_angle.cos()


def random_ridges(n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    angle, half_angle = torch.rand(2, n, generator=rng, dtype=torch.float64)
    return ridges(2 * math.pi * angle, math.pi * half_angle)


def integral(w, b, v, c):
    """∫ relu(w·x − b) relu(v·x − c) over the disk to 20 digits, from the very numbers given.

    Slices across w: on each the second factor is piecewise linear and its integral is written down;
    the integral over the slices is taken numerically between the angles where the integrand kinks.
    """
    with mpmath.workdps(32):
        (w1, w2, b), (v1, v2, c) = (
            [mpf(x) for x in (*z.tolist(), s.item())] for z, s in ((w, b), (v, c))
        )
        norm = mpmath.hypot(w1, w2)
        along, across = (v1 * w1 + v2 * w2) / norm, (v2 * w1 - v1 * w2) / norm
        edge = b / norm
        if edge >= 1:
            return mpf(0)

        def slice_at(beta):
            x, half = mpmath.cos(beta), mpmath.sin(beta)
            low, high, value = -half, half, along * x - c
            if across and abs(value / across) < half:
                low, high = (low, -value / across) if across < 0 else (-value / across, high)
            return max(value + across * (low + high) / 2, 0) * (high - low)

        end = mpmath.acos(edge) if edge > -1 else mpmath.pi
        kinks = [mpf(0), end]
        if abs(c) < mpmath.hypot(v1, v2):
            cap = mpmath.acos(c / mpmath.hypot(v1, v2))
            for kink in (mpmath.atan2(across, along) + cap, mpmath.atan2(across, along) - cap):
                kink = abs(kink) if abs(kink) <= mpmath.pi else 2 * mpmath.pi - abs(kink)
                kinks += [kink] if 0 < kink < end else []
        return mpmath.quad(
            lambda beta: norm * (mpmath.cos(beta) - edge) * slice_at(beta) * mpmath.sin(beta),
            sorted(set(kinks)),
            method="gauss-legendre",
            maxdegree=4,
        )


def worst_error(w, b, pairs):
    """Largest error over the pairs, relative to √(G_ii G_jj)."""
    gram = disk_gram(w, b)
    errors = [0.0]
    for i, j in pairs:
        exact, scale = integral(w[i], b[i], w[j], b[j]), gram[i, i] * gram[j, j]
        error = abs(float(mpf(gram[i, j].item()) - exact))
        errors.append(error / math.sqrt(scale) if scale > 0 else error)
    return max(errors)


def every(n, step):
    return [divmod(k, n) for k in range(0, n * n, step)]


def test_generic_pairs_against_integration_in_32_digits():
    w, b = random_ridges(24)
    lengths = torch.linspace(0.1, 9, 24, dtype=torch.float64)
    assert worst_error(lengths[:, None] * w, lengths * b, every(24, 5)) < 1e-12


@pytest.mark.parametrize("offset", [0.0, 0.3, -0.8, 0.93])
@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
def test_nearly_parallel_and_nearly_antiparallel_pairs_keep_their_digits(gap, offset):
    rng = torch.Generator().manual_seed(1)
    turn, shift = gap * torch.rand(2, 8, generator=rng, dtype=torch.float64)
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4)
    w, _ = ridges(0.3 + turn, turn)
    assert worst_error(sign[:, None] * w, sign * offset + shift, every(8, 5)) < 1e-12


@pytest.mark.parametrize("size", [0.6, 0.1, 1e-2, 1e-3])
def test_thin_caps_and_thin_complements_keep_their_digits(size):
    rng = torch.Generator().manual_seed(2)
    turn, cap = size * torch.rand(2, 12, generator=rng, dtype=torch.float64)
    flip = torch.arange(12) % 3 == 0
    w, b = ridges(0.7 + turn + math.pi * flip, torch.where(flip, math.pi - cap, cap))
    assert worst_error(w, b, every(12, 5)) < 1e-12
    wide_w, wide_b = random_ridges(12, seed=3)
    mixed = torch.cat([w, wide_w]), torch.cat([b, wide_b])
    assert (
        worst_error(*mixed, [(i, 12 + (5 * i + k) % 12) for i in range(12) for k in (0, 1)]) < 1e-12
    )


def test_thinner_caps_are_as_exact_as_their_direction_is_known():
    """Of a cap of half-angle α, rounding w turns the direction by ε/α of the cap."""
    alpha = 1e-5
    w, b = ridges([0.7, 0.7 + alpha / 2], [alpha, 1.2 * alpha])
    assert worst_error(w, b, [(0, 0), (0, 1), (1, 1)]) < 20 * 2.2e-16 / alpha


@pytest.mark.parametrize(("s", "t"), [(0.2, 0.2), (-0.4, 0.7), (0.95, 0.9), (-1.3, 0.1), (-2, -1)])
def test_equal_directions_are_an_integral_over_the_interval(s, t):
    """∫ 2 √(1 − x²) (x − s)(x − t) dx from the larger of s and t; x = cos β makes it smooth."""
    expected, _ = quad(
        lambda beta: 2 * math.sin(beta) ** 2 * (math.cos(beta) - s) * (math.cos(beta) - t),
        0,
        math.acos(max(s, t, -1)),
        epsabs=1e-14,
    )
    w = torch.tensor([[0.6, 0.8], [0.6, 0.8]], dtype=torch.float64)
    gram = disk_gram(w, torch.tensor([s, t], dtype=torch.float64))
    assert gram[0, 1].item() == pytest.approx(expected, abs=1e-12)


def test_opposite_directions_overlap_in_a_strip_or_not_at_all():
    """relu(x − s) relu(−x − t) on s < x < −t, weight 2√(1 − x²)."""
    w = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    gram = disk_gram(w, torch.tensor([-0.5, 0.4, -0.3], dtype=torch.float64))
    expected, _ = quad(lambda x: 2 * math.sqrt(1 - x * x) * (x + 0.5) * (0.3 - x), -0.5, 0.3)
    assert gram[0, 2].item() == pytest.approx(expected, abs=1e-13)
    assert gram[1, 2] == 0


def test_coincident_ridges_have_the_norm_of_one():
    """∫ relu(ℓ)² = α (1/4 + s²) − (13/12) s r − s³ r/6 with s = cos α, r = sin α."""
    alpha = torch.linspace(0.5, 3.1, 9, dtype=torch.float64)
    s, root = alpha.cos(), alpha.sin()
    expected = alpha * (0.25 + s**2) - 13 / 12 * s * root - s**3 * root / 6
    w, b = ridges(torch.full((9,), 2.1), alpha)
    gram = disk_gram(w.repeat(2, 1), b.repeat(2))
    for block in (gram[:9, :9], gram[:9, 9:], gram[9:, 9:]):
        torch.testing.assert_close(block.diagonal(), expected, rtol=1e-11, atol=1e-15)


def test_neurons_active_everywhere_have_moments_and_those_active_nowhere_have_none():
    """∫ (w·x − b)(v·x − c) = π (w·v/4 + b c)."""
    w = torch.tensor([[3.0, 4.0], [-1.0, 2.0], [0.1, 0.0], [0.6, 0.8]], dtype=torch.float64)
    b = torch.tensor([-5.0, -7.0, -1e3, 1.1], dtype=torch.float64)
    gram = disk_gram(w, b)
    expected = math.pi * (w @ w.T / 4 + torch.outer(b, b))
    torch.testing.assert_close(gram[:3, :3], expected[:3, :3], rtol=1e-14, atol=0)
    assert not gram[3].any() and not gram[:, 3].any()


@given(angle=st.floats(-7, 7), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_turning_the_disk_changes_nothing_and_scaling_a_neuron_scales_its_row(angle, scale, seed):
    w, b = random_ridges(7, seed)
    gram = disk_gram(w, b)
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=w.dtype
    )
    torch.testing.assert_close(disk_gram(w @ turn, b), gram, rtol=0, atol=1e-13)
    factor = torch.ones_like(b)
    factor[0] = scale
    expected = factor[:, None] * gram * factor
    torch.testing.assert_close(
        disk_gram(factor[:, None] * w, factor * b), expected, rtol=1e-12, atol=1e-14 * scale
    )


def test_a_permutation_of_the_neurons_permutes_the_matrix_across_all_tiles(device):
    w, b = (x.to(device) for x in random_ridges(700))
    order = torch.randperm(700, generator=torch.Generator().manual_seed(4)).to(device)
    gram = disk_gram(w, b)
    assert torch.equal(gram, gram.T)
    torch.testing.assert_close(
        disk_gram(w[order], b[order]), gram[order][:, order], rtol=0, atol=2e-14
    )
    torch.testing.assert_close(disk_gram(w.cpu(), b.cpu()).to(device), gram, rtol=0, atol=2e-14)


def test_the_matrix_is_positive_semidefinite_also_with_duplicates():
    w, b = random_ridges(200)
    gram = disk_gram(torch.cat([w, w[:20], -w[:20]]), torch.cat([b, b[:20], -b[:20]]))
    values = torch.linalg.eigvalsh(gram)
    assert values[0] > -1e-14 * values[-1]


def test_float32_is_the_float64_matrix_rounded_once(device):
    w, b = (x.float().to(device) for x in random_ridges(300))
    single = disk_gram(w, b)
    assert single.dtype == torch.float32
    double = disk_gram(w.double(), b.double())
    torch.testing.assert_close(single, double.float(), rtol=2.4e-7, atol=1e-38)


@pytest.mark.parametrize("scale", [1e-130, 1e130])
def test_the_size_of_a_neuron_costs_no_digit(scale):
    w, b = random_ridges(40)
    gram = disk_gram(scale * w, b)  # of length 1e±130, so dead or almost constant
    live = b < scale * w.norm(dim=1)
    expected = math.pi * torch.outer(b, b) if scale < 1 else disk_gram(w, 0 * b) * scale**2
    expected = torch.where(live & live[:, None], expected, 0)
    torch.testing.assert_close(gram, expected, rtol=1e-11, atol=1e-13 * gram.max().item())


@pytest.mark.parametrize("gap", [0.0, 1e-3, -1e-3, 1e-9, -1e-9])
def test_thin_caps_that_touch(gap):
    """Side by side, from inside, and from outside a wide one: the chords meet on the circle."""
    cap = torch.tensor([0.05, 0.03, 0.02, 0.05, 2.5], dtype=torch.float64)
    turn = torch.tensor([0, 0.08, 0.03, -0.10, 2.55 - 2 * gap], dtype=torch.float64) + gap
    assert worst_error(*ridges(0.4 + turn, cap), every(5, 1)) < 1e-12


def test_the_dead_are_dead_however_large_their_bias():
    w, b = random_ridges(6)
    gram = disk_gram(w, b)
    for huge in (1e100, 1e160, 1e308):
        dead = b.new_full((2,), huge)
        found = disk_gram(torch.cat([w, w[:1], w[:1] * 1e-9]), torch.cat([b, dead]))
        assert torch.equal(found[:6, :6], gram) and not found[6:].any()


def test_gradients_are_refused_unless_switched_off():
    w, b = random_ridges(3)
    with pytest.raises(ValueError, match=r"require gradients.*pass w.detach\(\)"):
        disk_gram(w, b.clone().requires_grad_())
    with torch.no_grad():
        assert torch.equal(disk_gram(w, b.clone().requires_grad_()), disk_gram(w, b))


def test_the_result_can_be_written_into_a_given_tensor():
    w, b = random_ridges(5)
    place = torch.full((5, 5), math.nan, dtype=torch.float64)
    assert disk_gram(w, b, out=place) is place
    assert torch.equal(place, disk_gram(w, b))


@pytest.mark.skipif(sys.platform != "linux", reason="reads its size from /proc")
def test_working_memory_is_small_beside_the_matrix():
    program = """
import torch
from dynbook.disk import disk_gram
torch.set_num_threads(1)
rng = torch.Generator().manual_seed(0)
def gram(n):
    w = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    return disk_gram(w, torch.rand(n, generator=rng, dtype=torch.float64) * w.norm(dim=1))
gram(300)
def size(name):
    return int(open("/proc/self/status").read().split(name)[1].split()[0]) * 1024
before = size("VmRSS:")
gram(4000)
print(size("VmHWM:") - before)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 0 < int(run.stdout) - 4000**2 * 8 < 70e6


B = torch.zeros(3, dtype=torch.float64)


def good():
    return [torch.ones(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)]


@pytest.mark.parametrize(
    ("w", "b", "out", "error", "words"),
    [
        (torch.ones(3, 3).double(), None, None, ValueError, r"w must have shape \(3, 2\).*3, 3"),
        (torch.ones(3).double(), None, None, ValueError, r"w must have shape \(3, 2\).*got \(3,\)"),
        (torch.ones(0, 2), torch.ones(0), None, ValueError, r"n ≥ 2 neurons, got \(0,\)"),
        (None, torch.zeros(4).double(), None, ValueError, r"w must have shape \(4, 2\), one row"),
        (torch.ones(3, 2).long(), torch.zeros(3).long(), None, TypeError, "b must be a float32 or"),
        ([[1.0, 0.0]] * 3, None, None, TypeError, "w must be a tensor or a number, got"),
        (None, torch.zeros(3), None, TypeError, "w and b must share.*float64.*float32"),
        (None, torch.zeros(3, device="meta").double(), None, TypeError, "must share.*on meta"),
        (None, None, torch.zeros(3, 3), ValueError, "out must.*be torch.float64.*got.*float32"),
        (None, None, torch.zeros(2, 3).double(), ValueError, r"out must have shape \(3, 3\)"),
        (None, -1e160 + B, None, ValueError, "G must be finite.*overflows torch.float64"),
        (1e-154 + B.repeat(2, 1).T, B - 1, None, ValueError, r"G must.*or b against \|w\|"),
        (torch.ones(3, 2), torch.full((3,), -1e20), None, ValueError, "G must.*overflows.*float32"),
        (1e200 + B.repeat(2, 1).T, None, None, ValueError, "G must.*scale w and b down"),
        (torch.full((3, 2), math.nan).double(), None, None, ValueError, "w must be finite"),
        (None, torch.full((3,), math.inf).double(), None, ValueError, "b must be finite"),
        (torch.eye(3, 2).double(), None, None, ValueError, "w must be non-zero, neuron 2"),
    ],
)
def test_what_is_no_set_of_ridges_is_refused_in_words(w, b, out, error, words):
    given_w, given_b = good()
    with pytest.raises(error, match=words):
        disk_gram(given_w if w is None else w, given_b if b is None else b, out=out)
