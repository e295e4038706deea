import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from dynbook.random_matrices import (
    gaussian_matrices,
    gaussian_product_exponents,
    gaussian_product_variances,
    sample_growth,
    triangular_cdf,
    triangular_density,
    triangular_quantile,
    wide_limit,
)


def numpy_growth(n, length, systems, seed=0):
    """ln R_ii (length, systems, n) of products multiplied out, with NumPy's QR, σ² = 1/n."""
    rng = np.random.default_rng(seed)
    frame, growth = np.broadcast_to(np.eye(n), (systems, n, n)), []
    for _ in range(length):
        frame, r = np.linalg.qr(rng.normal(0, n**-0.5, (systems, n, n)) @ frame)
        growth.append(np.log(np.abs(np.diagonal(r, axis1=1, axis2=2))))
    return np.array(growth)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n", [1, 2, 7, 200])
@pytest.mark.parametrize("sigma", [None, 0.3])
def test_the_exact_formulas_to_many_digits(n, sigma):
    square = mpmath.mpf(1) / n if sigma is None else mpmath.mpf(sigma) ** 2
    mean, variance = gaussian_product_exponents(n, sigma), gaussian_product_variances(n)
    assert mean.dtype == variance.dtype == torch.float64 and mean.shape == variance.shape == (n,)
    for i in {0, n // 2, n - 1}:
        half = mpmath.mpf(n - i) / 2
        newman = (mpmath.log(2 * square) + mpmath.digamma(half)) / 2
        assert mean[i].item() == pytest.approx(float(newman), abs=1e-14)
        exact = float(mpmath.polygamma(1, half) / 4)
        assert variance[i].item() == pytest.approx(exact, rel=1e-13)


def test_one_by_one_matrices_by_quadrature():
    """⟨ln |x|⟩ and its variance for a normal x."""
    density = mpmath.npdf
    mean = 2 * mpmath.quad(lambda x: mpmath.log(x) * density(x), [0, 1, 10])
    square = 2 * mpmath.quad(lambda x: mpmath.log(x) ** 2 * density(x), [0, 1, 10])
    assert gaussian_product_exponents(1).item() == pytest.approx(float(mean), abs=1e-10)
    variance = gaussian_product_variances(1).item()
    assert variance == pytest.approx(float(square - mean**2), abs=1e-10)


def test_the_largest_exponent_has_the_expansion_of_the_docstring():
    n = 100
    expansion = -1 / (2 * n) - 1 / (6 * n**2)
    assert gaussian_product_exponents(n)[0].item() == pytest.approx(expansion, abs=0.1 / n**4)


def test_the_exact_spectrum_is_that_of_multiplied_matrices():
    """Within 4 standard errors, at every number of factors: none are left out at the start."""
    n, length, systems = 5, 40, 250
    growth = numpy_growth(n, length, systems)
    errors = (gaussian_product_variances(n) / systems / length).sqrt()
    for part in (growth[:1], growth):
        z = (part.mean((0, 1)) - gaussian_product_exponents(n).numpy()) / errors.numpy()
        assert np.abs(z).max() < 4 * math.sqrt(length / len(part))
    ratio = growth.reshape(-1, n).var(0) / gaussian_product_variances(n).numpy()
    assert np.abs(ratio - 1).max() < 0.15


def test_growth_that_is_drawn_has_the_law_of_growth_that_is_multiplied():
    """Kolmogorov–Smirnov for each i; neighbours in time and in i are uncorrelated."""
    n = 4
    drawn = sample_growth(n, 50, (8, 25), generator=seeded(3)).reshape(50, 200, n)
    multiplied = numpy_growth(n, 50, 200, seed=4)
    for i in range(n):
        test = stats.ks_2samp(drawn[..., i].flatten().numpy(), multiplied[..., i].flatten())
        assert test.pvalue > 1e-3
    flat = drawn.reshape(-1, n)
    assert np.abs(np.corrcoef(flat.T.numpy()) - np.eye(n)).max() < 0.05
    assert abs(np.corrcoef(drawn[1:].flatten(), drawn[:-1].flatten())[0, 1] - _between(n)) < 0.02


def _between(n):
    """Correlation in time that comes only of the i having different means."""
    means = gaussian_product_exponents(n)
    return (
        means.var(correction=0) / (means.var(correction=0) + gaussian_product_variances(n).mean())
    ).item()


def test_leading_growth_is_the_first_of_all():
    sigma = 2.0
    growth = sample_growth(30, 400, 50, k=2, sigma=sigma, generator=seeded(1))
    assert growth.shape == (400, 50, 2)
    expected = gaussian_product_exponents(30, sigma)[:2]
    errors = (gaussian_product_variances(30)[:2] / growth[..., 0].numel()).sqrt()
    assert ((growth.mean((0, 1)) - expected) / errors).abs().max() < 4


def test_a_seed_means_the_same_numbers():
    first, again, other = (sample_growth(3, 5, 2, generator=seeded(s)) for s in (7, 7, 8))
    assert first.equal(again) and not first.equal(other)
    some = {sample_growth(1, 1, generator=seeded(s)).item() for s in range(60)}
    assert len(some) == 60
    torch.manual_seed(7)
    assert sample_growth(3, 5, 2).equal(first)
    one, same = (list(gaussian_matrices(3, 4, 2, generator=seeded(9))) for _ in range(2))
    assert torch.stack(one).equal(torch.stack(same))


def test_matrices_have_the_entries_that_were_asked_for(device):
    matrices = torch.stack(
        list(gaussian_matrices(20, 30, (2, 3), sigma=0.7, generator=seeded(), device=device))
    )
    assert matrices.shape == (30, 2, 3, 20, 20) and matrices.device.type == device
    assert stats.kstest(matrices.flatten().cpu().numpy() / 0.7, "norm").pvalue > 1e-3
    single = next(gaussian_matrices(20, 1, generator=seeded(), dtype=torch.float32))
    assert single.dtype == torch.float32 and single.shape == (20, 20)
    assert single.std().item() == pytest.approx(20**-0.5, rel=0.2)


def test_whole_numbers_of_any_kind_are_sizes():
    assert sample_growth(3.0, 2.0, 4.0, k=2.0).shape == (2, 4, 2)
    assert next(gaussian_matrices(np.float64(3), 1)).shape == (3, 3)


def test_the_triangular_law_is_the_limit_of_the_exact_spectrum():
    """The distance from the law shrinks like 1/N; N = 300 is as close as it should be."""
    for n in (30, 300):
        u = gaussian_product_exponents(n).exp()
        assert (
            stats.kstest(u.numpy(), lambda v: triangular_cdf(torch.from_numpy(v)).numpy())[0]
            < 2 / n
        )


def test_density_quantile_and_cdf_of_the_triangular_law_are_one_law():
    p = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(triangular_cdf(triangular_quantile(p)), p)
    u = torch.linspace(-0.5, 1.5, 20_001, dtype=torch.float64)
    integral = torch.cumulative_trapezoid(triangular_density(u), u)
    torch.testing.assert_close(integral, triangular_cdf(u[1:]), rtol=0, atol=2e-4)
    assert triangular_density(torch.tensor([-0.1, 0.25, 1.1])).tolist() == [0, 0.5, 0]


def test_the_wide_limit_is_that_of_wide_matrices():
    """NumPy's singular values at N = 400, L = 1 … 10; the edge fluctuates by N^{−2/3}."""
    rng = np.random.default_rng(2)
    n, product = 400, np.eye(400)
    for length in range(1, 11):
        product = rng.normal(0, n**-0.5, (n, n)) @ product
        largest = math.log(np.linalg.norm(product, 2)) / length
        assert largest == pytest.approx(wide_limit(length), abs=4 * n ** (-2 / 3) / length)
    assert wide_limit(10) == pytest.approx(0.16755, abs=1e-5)
    assert wide_limit(1) == pytest.approx(math.log(2))  # the quarter circle ends at 2
    assert wide_limit(10**9) == pytest.approx(math.log(math.e * 1e9) / 2e9)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_sizes_must_be_positive_and_whole(bad):
    for name, call in {
        "n": lambda: gaussian_product_exponents(bad),
        "n ": lambda: gaussian_product_variances(bad),
        "length": lambda: wide_limit(bad),
        "batch": lambda: sample_growth(2, 2, bad),
        "length ": lambda: next(gaussian_matrices(2, bad)),
    }.items():
        with pytest.raises(ValueError, match=f"{name.strip()} must be an integer ≥ 1, got {bad}"):
            call()


def test_what_else_is_refused():
    with pytest.raises(ValueError, match="k must be an integer ≥ 1 and ≤ 3, got 4"):
        sample_growth(3, 2, k=4)
    for sigma in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"sigma must be positive and finite, got {sigma}"):
            gaussian_product_exponents(3, sigma)
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator on the CPU,.* got 3"):
        sample_growth(3, 2, generator=3)
    with pytest.raises(ValueError, match="sigma must be positive and finite, got a"):
        gaussian_product_exponents(3, "a")
    for dtype in (torch.int32, torch.complex64):
        with pytest.raises(TypeError, match=f"dtype must be of real floating point, got {dtype}"):
            gaussian_matrices(3, 2, dtype=dtype)
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\], got 1.5"):
        triangular_quantile(torch.tensor([0.5, 1.5]))
