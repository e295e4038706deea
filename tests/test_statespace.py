"""Linear state-space layers beside closed forms, quadrature and other people's transforms."""

import math

import numpy as np
import pytest
import torch
from scipy import signal
from scipy.integrate import quad, solve_ivp
from scipy.special import eval_legendre, gamma, roots_legendre

from dynbook.lyapunov import lyapunov_spectrum
from dynbook.statespace import (
    bilinear,
    convolve,
    delay_memory,
    krylov,
    legendre_sum,
    legs,
    recurrence,
)

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def p(i, z):
    """Legendre polynomials, orthonormal on (0, 1)."""
    return math.sqrt(2 * i + 1) * eval_legendre(i, 2 * np.asarray(z) - 1)


def layer(n=8, dt=0.05, dtype=F64, device="cpu"):
    A, B = legs(n)
    return bilinear(A.to(device, dtype), B.to(device, dtype), dt)


# --- the matrices of Legendre -----------------------------------------------------------------


@pytest.mark.parametrize("m", [0, 1, 2.5, 7])
def test_the_state_of_a_power_is_its_legendre_coefficients(m):
    """∫₀¹ z^m p_i dz = √(2i+1) Γ(m+1)²/(Γ(m−i+1) Γ(m+i+2)), zero for integers m < i."""
    A, B = legs(12)
    x = torch.linalg.solve(m * torch.eye(12, dtype=F64) - A, B)
    exact = [
        0.0
        if float(m).is_integer() and i > m
        else math.sqrt(2 * i + 1) * gamma(m + 1) ** 2 / (gamma(m - i + 1) * gamma(m + i + 2))
        for i in range(12)
    ]
    torch.testing.assert_close(x, torch.tensor(exact, dtype=F64), rtol=1e-10, atol=1e-13)
    for i in (0, 3, 11):
        assert x[i].item() == pytest.approx(quad(lambda z, i=i: z**m * p(i, z), 0, 1)[0], abs=1e-9)


def test_the_state_of_a_wave_is_an_integral_over_its_past():
    """dx/dt = Ax + Bu with u = cos 3t, settled: x_i = ∫ cos 3(t−s) p_i(e^−s) e^−s ds at t = 2."""
    A, B = legs(5)
    wave = np.linalg.solve(3j * np.eye(5) - A.numpy(), B.numpy().astype(complex))
    for i in range(5):

        def weighed(s, i=i):
            return math.cos(6 - 3 * s) * p(i, math.exp(-s)) * math.exp(-s)

        assert (wave[i] * np.exp(6j)).real == pytest.approx(quad(weighed, 0, 50)[0], abs=1e-7)


def test_a_state_stands_for_its_legendre_series(device):
    x, z = normal(3, 20).to(device), torch.linspace(0, 1, 33, dtype=F64, device=device)
    series = sum(x[:, i, None].cpu() * torch.from_numpy(p(i, z.cpu())) for i in range(20))
    torch.testing.assert_close(legendre_sum(x, z).cpu(), series, rtol=1e-11, atol=1e-11)


# --- three ways ---------------------------------------------------------------------------------


def test_the_step_is_scipys():
    A, B = normal(6, 6), normal(6, seed=1)
    ours = bilinear(A, B, 0.3)
    theirs = signal.cont2discrete((A.numpy(), B.numpy()[:, None], np.eye(6), 0), 0.3, "bilinear")
    assert np.allclose(ours[0], theirs[0], rtol=1e-12, atol=1e-13)
    assert np.allclose(ours[1], theirs[1][:, 0], rtol=1e-12, atol=1e-13)


def test_recurrence_convolution_and_scipys_simulation_agree(device):
    A, B = layer(16, 0.02, device=device)
    u, C = normal(500, seed=2).to(device), normal(16, seed=3).to(device)
    stepwise = recurrence(A, B, u) @ C
    at_once = convolve(C @ krylov(A, B, 500), u)
    torch.testing.assert_close(at_once, stepwise, rtol=0, atol=1e-13 * stepwise.abs().max().item())
    matrices = A, B[:, None], (C @ A)[None], (C @ B)[None, None]
    theirs = signal.dlsim((*(m.cpu().numpy() for m in matrices), 1), u.cpu().numpy())[1][:, 0]
    assert np.allclose(theirs, stepwise.cpu(), rtol=0, atol=1e-13 * abs(theirs).max())


def test_the_convolution_is_causal_to_the_last_sample():
    k, u = normal(37), normal(37, seed=1)
    assert np.allclose(convolve(k, u), np.convolve(k, u)[:37], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("mean, order", [(False, 1), (True, 2)])
def test_the_order_in_the_step_depends_on_how_the_input_is_sampled(mean, order):
    A, B = legs(6)

    def field(t, x):
        return A.numpy() @ x + B.numpy() * math.sin(2 * t + 1)

    exact = solve_ivp(field, (0, 2), np.zeros(6), rtol=1e-11, atol=1e-13).y[:, -1]
    errors = []
    for n in (200, 400):
        u = torch.sin(2 * torch.linspace(0, 2, n + 1, dtype=F64) + 1)
        u = (u[1:] + u[:-1]) / 2 if mean else u[1:]
        x = recurrence(*bilinear(A, B, 2 / n), u)[-1].numpy()
        errors.append(np.linalg.norm(x - exact))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.05)


def test_exponents_are_the_logarithms_of_the_eigenvalues():
    n, dt = 8, 0.3
    A, _ = layer(n, dt)
    found = lyapunov_spectrum(
        lambda x: x @ A.T, torch.zeros(n, dtype=F64), n=300, transient=100
    ).exponents
    exact = sorted(math.log(abs((1 - i * dt / 2) / (1 + i * dt / 2))) for i in range(1, n + 1))
    assert np.allclose(found.sort().values, exact, atol=1e-9)


def test_a_batch_is_its_members():
    A, B = normal(4, 5, 5) / 4 - 2 * torch.eye(5, dtype=F64), normal(4, 5, seed=1)
    step, push = bilinear(A, B, 0.1)
    K = krylov(step, push, 300)
    C = delay_memory(K, 20, noise=0.1)
    for i in range(4):
        alone = bilinear(A[i], B[i], 0.1)
        torch.testing.assert_close((step[i], push[i]), alone, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(K[i], krylov(step[i], push[i], 300), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(C[i], delay_memory(K[i], 20, noise=0.1))


def test_the_dtype_stays():
    A, B = layer(4, dtype=torch.float32)
    assert krylov(A, B, 9).dtype == recurrence(A, B, torch.ones(3)).dtype == torch.float32


# --- memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dt", [0.5, 0.02])
def test_white_noise_is_remembered_by_gauss_nodes_whatever_the_step(dt):
    """P is Δ times multiplication by z on polynomials, whose eigenvalues are the nodes of Gauss."""
    n, noise = 12, 0.05
    K = krylov(*layer(n, dt), int(60 * n / dt))
    nodes = (roots_legendre(n)[0] + 1) / 2
    assert np.allclose(np.linalg.eigvalsh(K @ K.T / dt), nodes, rtol=1e-9)
    total = delay_memory(K, K.shape[1], noise=noise).sum().item()
    assert total == pytest.approx((nodes / (nodes + noise**2 / 2)).sum(), rel=1e-9)


def test_a_delay_line_remembers_its_length_and_nothing_more():
    K = torch.cat([torch.eye(7, dtype=F64), torch.zeros(7, 100, dtype=F64)], 1)
    share = delay_memory(K, 20, noise=0.1)
    assert np.allclose(share, [1 / 1.01] * 7 + [0.0] * 13, atol=1e-14)


def test_memory_is_what_a_long_run_shows():
    """Linear regression on 200 000 steps under a moving average, noise on the states."""
    A, B = layer(6, 0.2)
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=F64)
    white, g = normal(200_000, seed=4), torch.Generator().manual_seed(5)
    u = torch.from_numpy(np.convolve(white, taps, "valid"))
    K = krylov(A, B, 400)
    padded = torch.cat([K, torch.zeros(6, len(u) - 400, dtype=F64)], 1)
    x = convolve(padded, u).T[1000:]
    x = x + 0.1 * x.std(0) * torch.randn(x.shape, generator=g, dtype=F64)
    r = torch.zeros(400, dtype=F64)
    r[:3] = torch.tensor([6.0, 4.0, 1.0])
    share = delay_memory(K, 15, noise=0.1, autocovariance=r)
    for k in (0, 3, 8, 14):
        past = u[1000 - k : len(u) - k]
        fit = torch.linalg.lstsq(x, past[:, None])
        seen = 1 - (x @ fit.solution - past[:, None]).var() / past.var()
        assert share[k].item() == pytest.approx(seen.item(), abs=0.01)


def test_memory_has_no_unit():
    K = krylov(*layer(), 2000)
    r = 0.9 ** torch.arange(2000, dtype=F64)
    share = delay_memory(K, 5, noise=0.1, autocovariance=r)
    for size in (1e-200, 1e200):
        again = delay_memory(size * K, 5, noise=0.1, autocovariance=size * r)
        torch.testing.assert_close(again, share, rtol=1e-9, atol=0)


# --- refusals ---------------------------------------------------------------------------------

HIDDEN = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=F64) / 3  # of eigenvalue one
LINE = torch.cat([torch.eye(2, dtype=F64), torch.zeros(2, 30, dtype=F64)], 1)  # a delay line


def remembered(*autocovariance):
    r = torch.tensor(autocovariance + (0.0,) * (32 - len(autocovariance)), dtype=F64)
    return delay_memory(LINE, 5, noise=0.1, autocovariance=r)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: legs(0), "n must be an integer"),
        (lambda: bilinear(*legs(3), 0.0), "dt must be positive"),
        (lambda: bilinear(2 * torch.eye(2, dtype=F64), normal(2), 1.0), "is an eigenvalue of A"),
        (lambda: bilinear(HIDDEN, normal(2), 2.0), "is an eigenvalue of A"),
        (lambda: bilinear(*legs(3), "1"), "dt must be positive"),
        (lambda: bilinear(*legs(3), 1e308), "Δ/2 A must be finite"),
        (lambda: legendre_sum(normal(3), normal(2, 2)), r"z must have shape \(m,\), got"),
        (lambda: recurrence(1e200 * legs(2)[0], legs(2)[1], normal(9)), "layer is unstable"),
        (lambda: convolve(1e200 * normal(5), 1e200 * normal(5)), "kernel or u is too large"),
        (lambda: bilinear(normal(3, 3), normal(4), 1.0), r"A must have shape .* got \(3, 3\)"),
        (lambda: krylov(normal(2, 3), normal(2), 4), "A must have shape"),
        (lambda: krylov(1e200 * torch.eye(1, dtype=F64), normal(1), 9), "layer is unstable"),
        (lambda: krylov(normal(1, 1) / 0, normal(1), 9), "A must be finite"),
        (lambda: recurrence(*legs(2), normal(3, 2)), r"u \(T,\)"),
        (lambda: convolve(normal(5), normal(6)), "kernel must be as long as u, 6, got 5"),
        (lambda: delay_memory(normal(2, 30), 5, noise=0.1), "K must have died out"),
        (lambda: delay_memory(torch.eye(2, dtype=F64), 5, noise=0.1), "delays must be an integer"),
        (lambda: delay_memory(krylov(*layer(), 2000), 5, noise=0.0), "noise must be positive"),
        (lambda: delay_memory(LINE.flip(1), 5, noise=0.1), "the last tenth of a row holds 1 of"),
        (
            lambda: delay_memory(LINE.roll(29, 1), 5, noise=0.1),
            "the last tenth of a row holds 1 of",
        ),
        (lambda: delay_memory(torch.zeros(2, 30, dtype=F64), 5, noise=0.1), "a row of zeros"),
        (lambda: delay_memory(LINE[[0, 0]], 5, noise=1e-12), "noise = 1e-12 is lost in rounding"),
        (lambda: remembered(0.5, 1.0), "autocovariance must be positive and largest at delay 0"),
        (lambda: remembered(0.0), "autocovariance must be positive"),
        (lambda: remembered(1.0, 1.0), "no input has this autocovariance"),
        (lambda: remembered(1.0, 0.9, -0.9), "no input has this autocovariance"),
        (
            lambda: delay_memory(krylov(*layer(), 2000), 5, noise=0.1, autocovariance=normal(9)),
            r"autocovariance must have shape \(2000,\).*got \(9,\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_mixed_dtypes_are_refused():
    A, B = legs(3)
    calls = {
        "B": lambda v: krylov(A, v, 5),
        "u": lambda v: recurrence(A, B, v),
        "kernel": lambda v: convolve(v, B),
        "z": lambda v: legendre_sum(B, v),
    }
    for name, call in calls.items():
        for value in (B.float(), B.to("meta")):
            with pytest.raises(TypeError, match=rf"^{name} must be torch\.float64 on cpu"):
                call(value)


def test_stiff_equations_are_not_taken_for_singular_ones():
    A = -torch.logspace(-20, 20, 5, dtype=F64).diag()
    step, push = bilinear(A, torch.ones(5, dtype=F64), 1.0)
    half = A.diag() / 2
    torch.testing.assert_close(step, ((1 + half) / (1 - half)).diag(), rtol=1e-14, atol=0)
    torch.testing.assert_close(push, 1 / (1 - half), rtol=1e-14, atol=0)
