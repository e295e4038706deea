import math

import mpmath
import pytest
import torch

from dynbook.modes import error_decay, halving_steps, training_modes
from dynbook.networks import midpoints, tangent_kernel


def paired_network(n, *, outer=1.0):
    """n neurons in pairs ±outer on n/2 equispaced kinks: zero as a function, not as features."""
    sign = torch.tensor([outer, -outer], dtype=torch.float64).repeat(n // 2)
    return sign, midpoints(n // 2).repeat_interleave(2)


def beam_rates(k):
    """μ_m/2 = ½ (2/κ_m)⁴ with cos κ cosh κ = −1: the cantilever beam, by mpmath."""
    kappa = [
        mpmath.findroot(lambda q: mpmath.cos(q) + 1 / mpmath.cosh(q), (m - 0.5) * mpmath.pi + shift)
        for m, shift in zip(range(1, k + 1), [0.3] + [0] * (k - 1), strict=True)
    ]
    return [0.5 * (2 / q) ** 4 for q in kappa]


def loaded_beam_determinant(rate, outer):
    """Zero at the rates of 2λφ'''' + s²φ'' = φ with the ends free to slide as training demands."""
    s2, root = outer**2, mpmath.sqrt(outer**4 + 8 * rate)
    p, q = mpmath.sqrt((root - s2) / (4 * rate)), mpmath.sqrt((root + s2) / (4 * rate))

    def d(k, y):
        return mpmath.matrix(
            [
                [
                    p**k * mpmath.exp(p * (y - 2)),
                    (-p) ** k * mpmath.exp(-p * y),
                    q**k * mpmath.cos(q * y + k * mpmath.pi / 2),
                    q**k * mpmath.sin(q * y + k * mpmath.pi / 2),
                ]
            ]
        )

    rows = [
        d(0, 0),
        2 * rate * d(1, 0) + s2 * (2 * rate * d(3, 0) + s2 * d(1, 0)),
        2 * rate * d(2, 2) + s2 * d(0, 2),
        2 * rate * d(3, 2) + s2 * d(1, 2),
    ]
    return mpmath.det(mpmath.matrix([list(row) for row in rows]))


def test_with_fixed_biases_the_rates_are_those_of_a_cantilever_beam():
    b = midpoints(500)
    modes = training_modes(tangent_kernel(b, b, midpoints(500), train_biases=False), 8)
    beam = torch.tensor([float(r) for r in beam_rates(8)], dtype=torch.float64)
    torch.testing.assert_close(modes.rates, beam, rtol=4e-4, atol=0)
    gram = modes.coefficients(modes.functions)
    torch.testing.assert_close(gram, torch.eye(8, dtype=torch.float64))


@pytest.mark.parametrize("outer", [1.0, 0.2])
def test_with_trained_biases_the_beam_carries_an_axial_load(outer):
    modes = training_modes(tangent_kernel(*paired_network(500, outer=outer), midpoints(500)), 6)
    for rate in modes.rates.tolist():
        left, right = (loaded_beam_determinant(rate * (1 + e), outer) for e in (-1e-3, 1e-3))
        assert left * right < 0, f"no exact rate within 0.1 % of {rate}"


def test_step_functions_alone_have_rates_two_over_frequency_squared():
    """Large outer weights: s² min(x, y)/2 has eigenvalues 2 s²/((m − ½)π)²."""
    outer = 1e3
    modes = training_modes(tangent_kernel(*paired_network(500, outer=outer), midpoints(500)), 6)
    m = torch.arange(1, 7, dtype=torch.float64)
    exact = 2 * (outer / ((m - 0.5) * math.pi)) ** 2
    torch.testing.assert_close(modes.rates, exact, rtol=1e-3, atol=0)


def test_fixed_biases_take_the_beam_s_number_of_steps_to_halve():
    """ln 2/−ln(1 − μ_m/2μ_1) for m = 2 … 6, rounded up: 55, 427, 1639, 4479, 9996."""
    b, x = midpoints(1000), midpoints(1000)
    modes = training_modes(tangent_kernel(b, b, x, train_biases=False), 6)
    left = error_decay(modes.rates, 1 / (2 * modes.rates[0].item()), torch.arange(10_001))
    mu = [2 * r for r in beam_rates(6)]
    exact = [mpmath.log(2) / -mpmath.log1p(-m / (2 * mu[0])) for m in mu]
    assert [int(mpmath.ceil(t - 1e-12)) for t in exact] == [1, 55, 427, 1639, 4479, 9996]
    assert halving_steps(left).tolist() == pytest.approx([float(t) for t in exact], rel=1e-4)


def test_halving_is_interpolated_and_may_not_be_seen():
    record = torch.tensor([[4.0, -1.0, 1.0], [3.0, -0.25, 0.9], [1.0, 0.0, 0.8]])
    assert halving_steps(record).tolist() == [1.5, pytest.approx(2 / 3), math.inf]
    late = halving_steps(record, torch.tensor([0, 10, 20])).tolist()
    assert late == [15, pytest.approx(20 / 3), math.inf]
    assert halving_steps(torch.ones(1, 2)).tolist() == [math.inf, math.inf]
    assert halving_steps(torch.tensor([4.0, 2.0])).item() == 1  # half is enough


def test_a_small_kernel_is_as_symmetric_as_a_large_one():
    """Modes do not depend on the unit of the kernel, and neither does what is refused."""
    kernel = tangent_kernel(midpoints(9), midpoints(9), midpoints(12))
    for unit in (1e-200, 1e-9, 1e200):
        modes = training_modes(unit * kernel, 3)
        torch.testing.assert_close(modes.rates / unit, training_modes(kernel, 3).rates)
        with pytest.raises(ValueError, match=r"kernel must be symmetric.*symmetrise it"):
            training_modes(unit * kernel.tril(), 3)


def test_where_nothing_is_learned_all_rates_are_zero():
    assert training_modes(torch.zeros(4, 4), 2).rates.tolist() == [0, 0]


def test_a_singular_kernel_has_no_negative_rates_and_single_precision_will_do():
    b, x = midpoints(40), midpoints(300)
    kernel = tangent_kernel(b, b, x, train_biases=False)  # of rank 40
    double, single = training_modes(kernel, 300), training_modes(kernel.float(), 300)
    assert double.rates.min() == single.rates.min() == 0 and single.rates.dtype == torch.float32
    torch.testing.assert_close(single.rates[:4].double(), double.rates[:4], rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_slow_mode_decays_though_its_factor_is_one_in_single_precision(dtype):
    """(1 − 1e-9)^(10⁹) = 1/e to nine digits, and 1 if 1 − 1e-9 is rounded to float32."""
    left = error_decay(torch.tensor([1.0, 1e-9], dtype=dtype), 1.0, torch.tensor([0, 10**9]))
    assert left.dtype == dtype
    assert left[0].tolist() == [1, 1] and left[1].tolist() == pytest.approx([0, math.exp(-1)])


def test_rates_below_zero_by_rounding_leave_the_error_as_it_is():
    rates = torch.tensor([1.0, 0.0, -1e-17], dtype=torch.float64)
    assert error_decay(rates, 0.5, torch.tensor([10**12]))[0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_step_numbers_keep_their_digits_whatever_the_record_is_kept_in(dtype):
    steps = 2**24 + torch.tensor([0, 1, 3])
    record = torch.tensor([1, 0.75, 0.25], dtype=dtype)  # half way between the last two
    assert halving_steps(record, steps).item() == 2**24 + 2


@pytest.mark.parametrize("unit", [1e-300, 1e300])
def test_halving_has_no_unit(unit):
    record = unit * torch.tensor([4.0, 3.0, 1.0], dtype=torch.float64)
    assert halving_steps(record).item() == pytest.approx(1.5)


def test_halving_survives_a_spike_of_six_hundred_decades():
    spike = torch.tensor([1e-300, 1e300, 0.0], dtype=torch.float64)
    assert halving_steps(spike).item() == pytest.approx(2)


LAMBDA, T, END = torch.tensor([1.0, 0.1]), torch.arange(3), torch.tensor([0, math.inf])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: training_modes(torch.ones(2, 3), 1), ValueError, "square"),
        (lambda: training_modes(torch.ones(3, 3).tril(), 1), ValueError, "symmetric"),
        (lambda: training_modes(torch.ones(3), 1), ValueError, "square"),
        (lambda: training_modes(torch.eye(3), 4), ValueError, "k must lie in 1 … 3"),
        (lambda: training_modes(torch.eye(3), 0), ValueError, "k must lie in 1 … 3"),
        (lambda: training_modes(torch.eye(3) / 0, 1), ValueError, "kernel must be finite"),
        (lambda: training_modes(torch.eye(3).int(), 1), TypeError, r"float32 or float64.*double"),
        (lambda: training_modes(torch.diag(torch.tensor([1, -1e-3])), 1), ValueError, "negative"),
        (lambda: error_decay(LAMBDA, 2.0, T), ValueError, r"lr must lie in \(0, 2/λ₁\)"),
        (lambda: error_decay(LAMBDA, 0.0, T), ValueError, r"lr must lie in \(0, 2/λ₁\)"),
        (lambda: error_decay(LAMBDA, math.nan, T), ValueError, r"lr must lie in \(0, 2/λ₁\)"),
        (lambda: error_decay(-5 * LAMBDA, 0.1, T), ValueError, "rates must not be negative"),
        (lambda: error_decay(0 * LAMBDA, 0.1, T), ValueError, "rates must not all be zero"),
        (lambda: error_decay(LAMBDA[:0], 0.1, T), ValueError, "rates must be one or more finite"),
        (lambda: error_decay(LAMBDA[None], 0.1, T), ValueError, "rates must be one or more finite"),
        (lambda: error_decay(LAMBDA / 0, 0.1, T), ValueError, "rates must be one or more finite"),
        (lambda: error_decay(LAMBDA.int(), 0.1, T), TypeError, "rates must be floating point"),
        (lambda: error_decay(LAMBDA, 0.1, T + 0.5), ValueError, "steps must be .* whole numbers"),
        (lambda: error_decay(LAMBDA, 0.1, T - 1), ValueError, "steps must be .* whole numbers"),
        (lambda: error_decay(LAMBDA, 0.1, T[0]), ValueError, "steps must be a vector"),
        (lambda: halving_steps(torch.zeros(0)), ValueError, "at least one record"),
        (lambda: halving_steps(torch.zeros(2)), ValueError, "start at zero"),
        (lambda: halving_steps(torch.ones(2) / 0), ValueError, "must be finite"),
        (lambda: halving_steps(torch.tensor(1.0)), ValueError, "at least one record"),
        (lambda: halving_steps(torch.ones(2) * 1j), TypeError, r"must be real.*give \.abs\(\)"),
        (lambda: halving_steps(torch.ones(2), torch.ones(3)), ValueError, "steps must have"),
        (lambda: halving_steps(torch.ones(2), torch.ones(2)), ValueError, "finite and increase"),
        (lambda: halving_steps(torch.ones(2), -T[:2]), ValueError, "finite and increase"),
        (lambda: halving_steps(torch.ones(2), T[:2] / 0), ValueError, "finite and increase"),
        (lambda: halving_steps(torch.ones(2), END), ValueError, "finite and increase"),
        (lambda: halving_steps(torch.ones(2), T[:2] * 1j), TypeError, "must be real"),
    ],
)
def test_refusals_name_the_argument_and_the_remedy(call, error, words):
    with pytest.raises(error, match=words):
        call()
