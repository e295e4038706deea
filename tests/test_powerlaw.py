import numpy as np
import pytest
from scipy.stats import linregress, t

from dynbook.powerlaw import PowerLaw, power_law


def test_an_exact_power_is_found_without_width():
    law = power_law([1, 2, 4, 8], [3, 12, 48, 192])
    assert law.exponent == pytest.approx(2) and law.prefactor == pytest.approx(3)
    assert law.half_width < 1e-12
    np.testing.assert_allclose(law([10]), 300)


def test_the_interval_is_the_textbook_regression_interval():
    rng = np.random.default_rng(0)
    x = np.arange(1, 20.0)
    y = x**-4 * np.exp(0.1 * rng.standard_normal(19))
    law, book = power_law(x, y), linregress(np.log(x), np.log(y))
    assert law.exponent == pytest.approx(book.slope)
    assert law.half_width == pytest.approx(t.ppf(0.975, 17) * book.stderr)


def test_the_interval_covers_the_truth_about_nineteen_times_in_twenty():
    rng = np.random.default_rng(1)
    x = np.arange(1, 9.0)
    laws = [power_law(x, x**2 * np.exp(rng.standard_normal(8))) for _ in range(400)]
    covered = np.mean([abs(law.exponent - 2) < law.half_width for law in laws])
    assert 0.92 < covered < 0.98


def test_it_prints_as_many_digits_as_the_interval_leaves():
    assert str(PowerLaw(-3.9876, 1.0, 0.0123)) == "−3.99 ± 0.01"
    assert str(PowerLaw(6.14, 1.0, 0.39)) == "6.1 ± 0.4"
    assert str(PowerLaw(4.00021, 1.0, 0.00070)) == "4.0002 ± 0.0007"


@pytest.mark.parametrize(
    "x, y, words",
    [
        ([1, 2], [1, 2], "same length ≥ 3"),
        ([1, 2, 3], [1, 2], "same length ≥ 3"),
        ([1, 2, 3], [1, 0, 2], "y must be positive.*got 0"),
        ([1, float("nan"), 3], [1, 1, 2], "x must be positive and finite"),
    ],
)
def test_bad_data_are_refused(x, y, words):
    with pytest.raises(ValueError, match=words):
        power_law(x, y)
