import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad

from dynbook.beam import beam_modes, beam_spectrum, integration_matrix
from dynbook.gram import relu_gram
from dynbook.lowpass import gram_spectrum

POWERS = [1, 2, 3]


def clamped_free_determinant(power, kappa):
    """Zero where (−1)^{p+1} φ^{(2p+2)} = κ^{2p+2} φ has a mode on (0, 2).

    The solutions are e^{κωx} with ω^{2p+2} = (−1)^{p+1}; φ and p derivatives vanish at 0, the next
    p + 1 at 2. The ω come in conjugate pairs, so the determinant is real or imaginary.
    """
    m = 2 * power + 2
    roots = [mpmath.expjpi(mpmath.mpf(2 * j + (power + 1) % 2) / m) for j in range(m)]

    def entry(i, w):
        far = 2 * kappa * mpmath.re(w)
        shift = mpmath.exp(-max(0, far))  # each column scaled to order one
        return w**i * shift * (1 if i <= power else mpmath.exp(2 * kappa * w))

    value = mpmath.det(mpmath.matrix([[entry(i, w) for w in roots] for i in range(m)]))
    return value.real + value.imag


def beam_root(power, j):
    """κ_j of the boundary value problem, one root between neighbours of (j − ½)π/2."""
    bracket = [(j - 0.5 + shift) * mpmath.pi / 2 for shift in (-0.35, 0.4)]
    return mpmath.findroot(
        lambda k: clamped_free_determinant(power, k), bracket, solver="anderson", tol=1e-40
    )


def exact_spectrum(power, k):
    with mpmath.workdps(30):
        return [
            math.factorial(power) ** 2 / beam_root(power, j) ** (2 * power + 2)
            for j in range(1, k + 1)
        ]


def test_the_boundary_value_problem_for_one_power_is_cos_cosh():
    for j in (1, 2, 7):
        x = 2 * beam_root(1, j)
        assert abs(mpmath.cos(x) * mpmath.cosh(x) + 1) < 1e-8 * mpmath.cosh(x)


@pytest.mark.parametrize("power", POWERS)
def test_the_spectrum_is_that_of_the_beam(power):
    exact = exact_spectrum(power, 8)
    for ours, theirs in zip(beam_spectrum(8, power).tolist(), exact, strict=True):
        assert abs(ours - theirs) < 1e-14 * mpmath.sqrt(exact[0] * theirs)


def test_thirty_modes_keep_twelve_digits():
    with mpmath.workdps(40):
        x = mpmath.findroot(lambda x: mpmath.cos(x) + mpmath.sech(x), 29.5 * mpmath.pi)
    assert beam_spectrum(30)[-1].item() == pytest.approx(float((2 / x) ** 4), rel=1e-12)


@pytest.mark.parametrize("power", POWERS)
def test_the_eigenvalues_sum_to_the_trace_of_the_kernel(power):
    """∫∫ max(x − b, 0)^{2p} dx db = 2^{2p+2}/((2p + 1)(2p + 2)), so 4/3, 32/15, 32/7."""
    trace = {1: 4 / 3, 2: 32 / 15, 3: 32 / 7}[power]
    k, s = 60, 2 * power + 2
    tail = math.factorial(power) ** 2 * (2 / mpmath.pi) ** s * mpmath.zeta(s, k + 0.5)
    assert beam_spectrum(k, power).sum().item() + float(tail) == pytest.approx(trace, rel=1e-13)


@pytest.mark.parametrize("power", POWERS)
def test_high_modes_follow_the_inverse_power_of_j_minus_a_half(power):
    """The shift is ½ for every p, and the approach exponential: three digits a mode or so."""
    j = torch.arange(1, 13, dtype=torch.float64)
    kappa = (math.factorial(power) ** 2 / beam_spectrum(12, power)) ** (1 / (2 * power + 2))
    shift = (j - 2 / math.pi * kappa - 0.5).abs()
    assert shift[4] < 2e-4 and shift[11] < 1e-8


def test_integration_of_legendre_polynomials_is_integration():
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    n, j = 6, integration_matrix(7)
    legendre = torch.stack(
        [torch.special.legendre_polynomial_p(x, k) * math.sqrt(k + 0.5) for k in range(n + 1)], 1
    )
    for k in range(n):
        for i in range(len(x)):
            exact = quad(lambda t, k=k: mpmath.legendre(k, t) * math.sqrt(k + 0.5), -1, x[i].item())
            assert (legendre[i] @ j[:, k]).item() == pytest.approx(exact[0], abs=1e-13)


def test_the_modes_for_one_power_are_the_cantilever_s():
    """φ = cosh − cos − σ (sinh − sin) of κ(1 + x)/2, σ = (cosh κ + cos κ)/(sinh κ + sin κ)."""
    x = torch.linspace(-1, 1, 41, dtype=torch.float64)
    ours = beam_modes(6, x)
    for j in range(1, 7):
        with mpmath.workdps(30):
            q = 2 * beam_root(1, j)
            s = (mpmath.cosh(q) + mpmath.cos(q)) / (mpmath.sinh(q) + mpmath.sin(q))
            phi = [
                mpmath.cosh(y) - mpmath.cos(y) - s * (mpmath.sinh(y) - mpmath.sin(y))
                for y in (q * (1 + mpmath.mpf(t)) / 2 for t in x.tolist())
            ]
            phi = [float(p * mpmath.sign(phi[-1]) / mpmath.sqrt(2)) for p in phi]
        expected = torch.tensor(phi, dtype=torch.float64)
        torch.testing.assert_close(ours[:, j - 1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("power", POWERS)
def test_the_layer_sends_the_modes_of_biases_to_those_of_functions(power):
    """∫ max(x − b, 0)^p φ_k(b) db = ±√μ_k ψ_k(x), by adaptive quadrature; ψ(x) = φ(−x)."""
    mu = beam_spectrum(4, power)
    for x in (-0.6, 0.3, 1.0):
        made = [
            quad(
                lambda b, k=k, x=x: (
                    (x - b) ** power
                    * beam_modes(4, torch.tensor([b], dtype=torch.float64), power, side="bias")[
                        0, k
                    ].item()
                ),
                -1,
                x,
            )[0]
            for k in range(4)
        ]
        at = torch.tensor([x], dtype=torch.float64)
        function = beam_modes(4, at, power)[0]
        expected = mu.sqrt() * function * torch.tensor([1.0, -1.0, 1.0, -1.0])
        made = torch.tensor(made, dtype=torch.float64)
        torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(beam_modes(4, -at, power, side="bias")[0], function)


@pytest.mark.parametrize("power", POWERS)
def test_modes_are_orthonormal(power):
    x, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(120))
    for side in ("function", "bias"):
        phi = beam_modes(20, x, power, side=side)
        torch.testing.assert_close(phi.mT @ (w[:, None] * phi), torch.eye(20).double())


@pytest.mark.parametrize("power", POWERS)
def test_gram_matrices_of_midpoints_approach_the_beam_quadratically(power):
    """(2/n) λ_k → μ_k and √(n/2) v_k → φ_k, errors falling by four when n doubles."""
    mu, errors = beam_spectrum(4, power), []
    for n in (100, 200, 400):
        b = -1 + (2 * torch.arange(n, dtype=torch.float64) + 1) / n
        spectrum = gram_spectrum(relu_gram(1.0, b, power=power))
        phi = beam_modes(4, b, power, side="bias")
        overlap = (phi * spectrum.vectors[:, :4]).sum(0) * math.sqrt(2 / n)
        vectors = (spectrum.vectors[:, :4] * overlap.sign() * math.sqrt(n / 2) - phi).abs().amax()
        errors.append(torch.stack([(2 / n * spectrum.values[:4] / mu - 1).abs().amax(), vectors]))
    rates = torch.stack(errors[:-1]) / torch.stack(errors[1:])
    assert (rates[:, 0] > 3.8).all() and (rates[:, 0] < 4.2).all(), rates
    assert errors[-1].max() < 2e-3, errors


def test_left_ends_instead_of_midpoints_cost_two_over_n():
    """They are midpoints of an interval longer by 1/n, and (2 + 1/n)⁴ ≈ 2⁴ (1 + 2/n)."""
    n = 800
    b = -1 + 2 * torch.arange(n, dtype=torch.float64) / n
    values = gram_spectrum(relu_gram(1.0, b)).values[:6]
    torch.testing.assert_close(
        (2 / n * values / beam_spectrum(6) - 1) * n,
        torch.full((6,), 2.0).double(),
        rtol=5e-3,
        atol=0,
    )


def test_modes_follow_device_and_dtype(device):
    x = torch.linspace(-1, 1, 7, device=device)
    phi = beam_modes(3, x)
    assert phi.dtype == torch.float32 and phi.device.type == device
    torch.testing.assert_close(
        phi.double().cpu(), beam_modes(3, x.double().cpu()), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("power", [1, 3, 10])
def test_asking_for_more_modes_changes_none(power):
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    many, spectrum = beam_modes(40, x, power), beam_spectrum(40, power)
    for k in (1, 2, 5):
        size = math.sqrt(spectrum[0] / spectrum[k - 1])
        close = {"rtol": 0, "atol": 1e-13 * size * 10 ** max(power - 3, 0)}
        torch.testing.assert_close(beam_modes(k, x, float(power)), many[:, :k], **close)
        ratio = beam_spectrum(k, power)[-1].item() / spectrum[k - 1].item()
        assert ratio == pytest.approx(1, abs=1e-12 * size)
    assert many[:, 0].abs().max() == pytest.approx(many[-1, 0])


def test_single_precision_points_lose_nothing_but_their_rounding():
    x = torch.linspace(-1, 1, 50)
    error = beam_modes(40, x).double() - beam_modes(40, x.double())
    assert error.abs().max() < 2e-7


HALF = torch.tensor([0.5])


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: beam_spectrum(0), ValueError, "k must be an integer ≥ 1, got 0"),
        (lambda: beam_spectrum(3, 0), ValueError, "power must be an integer ≥ 1 and ≤ 10, got 0"),
        (lambda: beam_spectrum(3, 200), ValueError, "power must be.*≤ 10, got 200"),
        (lambda: beam_spectrum(3, 1.5), ValueError, "power must be an integer.*got 1.5"),
        (lambda: beam_modes(0, HALF), ValueError, "k must be an integer ≥ 1, got 0"),
        (lambda: integration_matrix(0), ValueError, "n must be an integer ≥ 1, got 0"),
        (lambda: beam_modes(2, 3 * HALF), ValueError, r"x must lie in \[−1, 1\], got 1.5"),
        (lambda: beam_modes(2, HALF * math.nan), ValueError, "x must lie in"),
        (lambda: beam_modes(2, HALF[None]), ValueError, r"x must have shape \(m,\), got \(1, 1\)"),
        (lambda: beam_modes(2, HALF, side="left"), ValueError, "side must be"),
        (lambda: beam_modes(2, torch.tensor([0, 1])), TypeError, "floating-point.*int64"),
        (lambda: beam_modes(2, [0.5]), TypeError, r"floating-point.*\[0.5\]"),
    ],
)
def test_what_has_no_modes_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()
