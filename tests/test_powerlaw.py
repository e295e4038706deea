import numpy as np
import pytest
import torch
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
    assert str(PowerLaw(-17.3, 1.0, 12.4)) == "−17 ± 12"
    assert str(PowerLaw(2.0, 1.0, 1e-16)) == "2.000000 ± 0.000000"


@pytest.mark.parametrize(
    ("law", "text"),
    [
        (PowerLaw(2.0, 1.0, 0.0), "2.00 ± 0.00"),
        (PowerLaw(0.0, 1.0, 0.0), "0.00 ± 0.00"),
        (PowerLaw(-0.004, 1.0, 0.02), "0.00 ± 0.02"),
        (PowerLaw(-0.006, 1.0, 0.02), "−0.01 ± 0.02"),
        (PowerLaw(-4.0, 1.0, np.inf), "−4.00 ± ∞"),
    ],
)
def test_zero_has_no_sign_and_an_endless_interval_is_infinite(law, text):
    assert str(law) == text


def test_a_constant_has_exponent_zero():
    law = power_law([1, 2, 4, 8], [3, 3, 3, 3])
    assert law.exponent == pytest.approx(0, abs=1e-15) and law.half_width < 1e-15
    np.testing.assert_allclose(law([5, 50]), 3)


@pytest.mark.parametrize("unit", [1e-90, 1e90])
def test_units_change_the_prefactor_only(unit):
    x = np.array([1, 1.5, 4, 7])
    y = np.array([3, 5, 60, 130.0])
    here, there = power_law(x, y), power_law(unit * x, y / unit)
    assert there.exponent == pytest.approx(here.exponent, rel=1e-11)
    assert there.half_width == pytest.approx(here.half_width, rel=1e-10)
    np.testing.assert_allclose(there(unit * x), here(x) / unit)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int64])
def test_tensors_of_any_type_will_do(dtype, device):
    x = torch.tensor([1, 2, 4, 8], dtype=dtype, device=device)
    x.requires_grad_(x.is_floating_point())
    assert power_law(x, x**2).exponent == pytest.approx(2)


@pytest.mark.parametrize(
    "x, y, words",
    [
        ([1, 2], [1, 2], "same length ≥ 3"),
        ([1, 2, 3], [1, 2], "same length ≥ 3"),
        ([1, 2, 3], [1, 0, 2], "y must be positive.*got 0"),
        ([1, float("inf"), 3], [1, 1, 2], "x must be positive and finite.*got inf"),
        ([1, 2, 3], [1, -2, float("nan")], "y must be positive.*got -2"),
        ([7, 7, 7], [1, 2, 3], "x must take two values or more.*got 7 throughout"),
        (np.ones((3, 3)), [1, 2, 3], r"x must be a vector.*\(3, 3\)"),
        ([1, 2, 3], 5, r"y must be a vector.*got shape \(\)"),
        ([1e300, 2e300, 4e300], [1, 8, 64], r"prefactor would be e\^-20.*scale x or y"),
        ([1, float("nan"), 3], [1, 1, 2], "x must be positive and finite"),
    ],
)
def test_bad_data_are_refused(x, y, words):
    with pytest.raises(ValueError, match=words):
        power_law(x, y)
