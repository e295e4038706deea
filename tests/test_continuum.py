import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from dynbook.continuum import _layer, ball_spectrum, disk_spectrum, weyl_constant
from dynbook.disk import disk_gram


def fitted_slope(values, first, last):
    k = torch.arange(first, last + 1, dtype=torch.float64).log()
    y = values[first - 1 : last].log()
    return (((k - k.mean()) * y).sum() / (k - k.mean()).square().sum()).item()


def test_the_leading_eigenvalues_on_the_disk():
    """Known to these digits from another discretisation."""
    found = disk_spectrum(4)
    expected = torch.tensor([7.463945, 1.890980, 1.890980, 0.0792148], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=4e-7, atol=0)


def test_the_gram_matrix_of_a_fine_lattice_has_these_eigenvalues():
    """Nyström: equidistant angles × Gauss points in b, eigenvalues of √w G √w."""
    angles = 40
    theta = torch.arange(angles, dtype=torch.float64) * (2 * math.pi / angles)
    b, weight = map(torch.from_numpy, np.polynomial.legendre.leggauss(30))
    w = torch.stack([theta.cos(), theta.sin()], 1).repeat_interleave(len(b), 0)
    root = (weight * 2 * math.pi / angles).sqrt().repeat(angles)
    gram = disk_gram(w, b.repeat(angles))
    found = torch.linalg.eigvalsh(root[:, None] * gram * root).flip(0)[:12]
    torch.testing.assert_close(found, disk_spectrum(12), rtol=1e-4, atol=0)


def test_in_space_each_degree_is_a_problem_on_the_radius():
    """Funk and Hecke: R sends g(r) Y_l to Y_l(θ) ∫ r² g(r) 2π ∫ (r t − b)_+ P_l(t) dt dr."""
    leggauss = np.polynomial.legendre.leggauss
    (b, wb), (r, wr), (t, wt) = leggauss(200), leggauss(200), leggauss(12)
    r, wr, found = (1 + r) / 2, wr / 2, []
    low = np.clip(b[:, None] / r, -1, 1)[..., None]
    at, weight = low + (1 - low) * (1 + t) / 2, (1 - low) / 2 * wt
    ridge = weight * (r[:, None] * at - b[:, None, None])
    for degree in range(6):
        kernel = 2 * math.pi * (ridge * np.polynomial.Legendre.basis(degree)(at)).sum(-1)
        values = np.linalg.svd(np.sqrt(wb)[:, None] * kernel * np.sqrt(wr) * r)[1] ** 2
        found += [v for v in values[:8] for _ in range(2 * degree + 1)]
    expected = torch.tensor(sorted(found)[::-1][:30], dtype=torch.float64)
    torch.testing.assert_close(ball_spectrum(30, 3), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("dim", "power"), [(2, 1), (3, 1), (3, 8), (5, 2)])
def test_asking_for_more_eigenvalues_changes_none(dim, power):
    few, many = ball_spectrum(30, dim, power), ball_spectrum(3000, dim, power)
    torch.testing.assert_close(few, many[:30], rtol=1e-10, atol=0)
    assert torch.equal(ball_spectrum(30, dim), ball_spectrum(30, dim, 1))
    assert torch.equal(disk_spectrum(9, power), ball_spectrum(9, 2, power))
    assert weyl_constant(dim) == weyl_constant(dim, 1)


def test_random_neurons_have_these_eigenvalues_up_to_their_noise():
    n, rng = 3000, torch.Generator().manual_seed(0)
    theta, b = torch.rand(2, n, generator=rng, dtype=torch.float64)
    w = torch.stack([(2 * math.pi * theta).cos(), (2 * math.pi * theta).sin()], 1)
    gram = disk_gram(w, 2 * b - 1)
    first = torch.lobpcg(gram, k=1, X=torch.ones(n, 1, dtype=torch.float64))[0]
    assert (first * 4 * math.pi / n).item() == pytest.approx(disk_spectrum(1).item(), rel=0.05)


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_the_eigenvalues_add_up_to_the_trace(dim, power):
    """∫∫∫ σ^{2p}(θ·x − b) dx dθ db = |S| ∫ (1 + t)^{2p+1}/(2p + 1) |slice at t| dt, t = cos β."""
    ball = {0: 1, 1: 2, 2: math.pi, 3: 4 * math.pi / 3, 4: math.pi**2 / 2}
    trace, _ = quad(
        lambda x: (1 + math.cos(x)) ** (2 * power + 1) * ball[dim - 1] * math.sin(x) ** dim,
        0,
        math.pi,
        epsabs=1e-12,
    )
    trace *= dim * ball[dim] / (2 * power + 1)
    n = {1: 150, 2: 1500, 3: 3000, 4: 3000}[dim]
    values = ball_spectrum(n, dim, power)
    rate = (dim + 2 * power + 1) / dim
    tail = values[-1].item() * n / (rate - 1)
    assert tail < 2e-4 * trace
    rest, rounding = trace - values.sum().item(), 1e-12 * trace
    assert 0.5 * tail - rounding < rest < 1.05 * tail + rounding  # the decay is steeper at first


@pytest.mark.parametrize(("power", "slope"), [(1, -2.72), (2, -3.98), (3, -5.37)])
def test_the_slope_on_the_disk_is_not_yet_the_asymptotic_one(power, slope):
    assert fitted_slope(disk_spectrum(200, power), 20, 200) == pytest.approx(slope, abs=0.006)
    assert -(3 + 2 * power) / 2 > slope


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(("dim", "k"), [(1, 20), (2, 1000), (3, 8000)])
def test_weyls_law_is_the_limit(dim, k, power):
    """λ_k = C k^{−r} (1 + O(k^{−1/d})): that term is eliminated between k and 2^d k."""
    rate = (dim + 2 * power + 1) / dim
    i = torch.arange(1, int(1.2 * 2**dim * k) + 1, dtype=torch.float64)
    ratio = ball_spectrum(len(i), dim, power) * i**rate / weyl_constant(dim, power)
    ratio = ratio ** (1 / rate)  # of the frequencies
    coarse, fine = (ratio[j : int(1.2 * j)].mean().item() for j in (k, 2**dim * k))
    assert coarse > fine > 1
    assert 2 * fine - coarse == pytest.approx(1, abs=0.01)


def test_one_direction_on_the_line_is_the_cantilever_beam():
    """cos κ cosh κ = −1, μ = (2/κ)⁴; the layer counts ±1, hence the half."""
    starts = [1.5, 4.2, 7.5, 10.5, 14.0]
    kappa = [brentq(lambda x: math.cos(x) + 1 / math.cosh(x), a, a + 1) for a in starts]
    found = torch.linalg.svdvals(_layer(1, 1, 60))[:5].square() / 2
    expected = torch.tensor([(2 / x) ** 4 for x in kappa], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: disk_spectrum(0), "k must be an integer ≥ 1, got 0"),
        (lambda: disk_spectrum(True), "k must be an integer ≥ 1, got True"),
        (lambda: ball_spectrum(3, 0), "dim must be an integer ≥ 1 and ≤ 20, got 0"),
        (lambda: ball_spectrum(5, 200), "dim must be.* ≤ 20, got 200"),
        (lambda: ball_spectrum(5, 2, 100), "power must be.* ≤ 20, got 100"),
        (lambda: ball_spectrum(3, 2, 1.5), "power must be an integer ≥ 1 and ≤ 20, got 1.5"),
        (lambda: weyl_constant(2, -1), "power must be an integer ≥ 1 and ≤ 20, got -1"),
    ],
)
def test_what_is_no_positive_integer_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
