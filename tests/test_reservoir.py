import math
from dataclasses import replace

import pytest
import torch

from dynbook.lyapunov import lyapunov_spectrum
from dynbook.maps import iterate
from dynbook.meanfield import lyapunov_exponent
from dynbook.reservoir import Reservoir, make_reservoir, memory, ridge, spectral_radius

F64 = torch.float64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def delay_line(n, scale=1.0):
    """Each neuron hears the one before it, the first one the input."""
    W = torch.diag(torch.ones(n - 1, dtype=F64), -1)
    return Reservoir(W, torch.eye(n, 1, dtype=F64), torch.zeros(n, dtype=F64), scale=scale)


def jordan(n, seed=1):
    """A nilpotent matrix in a basis in which one does not see it."""
    Q = torch.linalg.qr(normal(n, n, seed=seed))[0]
    return Q @ torch.diag(torch.ones(n - 1, dtype=F64), -1) @ Q.T


def test_a_step_is_the_formula_entry_by_entry(device):
    res = make_reservoir(4, 2, radius=0.8, scale=0.3, leak=0.4, bias=0.1, generator=seeded(2))
    res = replace(res, **{k: getattr(res, k).to(device) for k in ("W", "W_in", "b")})
    u, r = normal(1, 2).to(device), normal(4, seed=3).to(device)
    after = res.drive(u, r)[0]
    for i in range(4):
        h = 0.8 * sum(res.W[i, j] * r[j] for j in range(4)) + res.b[i]
        h = h + 0.3 * sum(res.W_in[i, j] * u[0, j] for j in range(2))
        torch.testing.assert_close(after[i], 0.6 * r[i] + 0.4 * h.tanh())


def test_a_small_reservoir_forgets_at_the_rates_of_its_eigenvalues():
    """tanh is linear at 0; with leak the eigenvalue z of W becomes 1 − α + αgz."""
    basis, z = normal(3, 3, seed=1) + 3 * torch.eye(3, dtype=F64), torch.tensor([0.9, -0.5, 0.2])
    W = basis @ torch.diag(z.double()) @ torch.linalg.inv(basis)
    res = Reservoir(W, torch.zeros(3, 1, dtype=F64), torch.zeros(3, dtype=F64), 0.7, leak=0.6)
    silence = torch.zeros(400, 1, dtype=F64)
    found = lyapunov_spectrum(res.steps(silence), torch.zeros(3, dtype=F64), transient=100)
    by_hand = (0.4 + 0.6 * 0.7 * z.double()).abs().log().sort(descending=True).values
    torch.testing.assert_close(found.exponents, by_hand, rtol=0, atol=1e-9)


def test_the_conditional_exponent_is_that_of_a_random_network_with_the_input_as_bias():
    """Coin tosses have one square, so that the mean field of chapter 2 is stationary."""
    n, sigma, scale = 500, 1.6, 0.7
    W = sigma * normal(n, n, seed=4) / n**0.5
    res = Reservoir(W, normal(n, 1, seed=5), torch.zeros(n, dtype=F64), scale=scale)
    coins = normal(200, 1, seed=6).sign()
    found = lyapunov_spectrum(res.steps(coins), torch.zeros(n, dtype=F64), 1, transient=50)
    theory = lyapunov_exponent(torch.tanh, sigma, scale)
    assert abs(found.exponents[0] - theory) < 0.03


def test_columns_of_gains_and_scales_are_reservoirs_one_by_one():
    gain, scale = torch.tensor([[0.5], [1.5]], dtype=F64), torch.tensor([[0.1], [2.0]], dtype=F64)
    res, u = make_reservoir(20, generator=seeded(7)), normal(30, 1)
    both = replace(res, gain=gain, scale=scale).drive(u, torch.zeros(2, 20, dtype=F64))
    for i in range(2):
        alone = replace(res, gain=gain[i].item(), scale=scale[i].item()).drive(u)
        torch.testing.assert_close(both[:, i], alone, rtol=0, atol=1e-12)


def test_a_delay_line_remembers_as_many_inputs_as_it_has_neurons():
    """Its radius is zero. A coin survives tanh as ±c, so that the memory is exact, then none."""
    coins = normal(4000, 1, seed=8).sign()
    kept = memory(delay_line(12, scale=0.5).drive(coins), coins[:, 0], 20)
    torch.testing.assert_close(kept[:12], torch.ones(12, dtype=F64), rtol=0, atol=1e-9)
    assert kept[12:].max() < 0.01


def test_a_linear_reservoir_forgets_as_worked_out():
    """One neuron, r' = gr + u: correlation² of r_t with u_{t−k} is (1 − g²) g^{2k}."""
    u = normal(8000, 1, seed=9)
    one = torch.ones(1, 1, dtype=F64)
    r = Reservoir(one, one, torch.zeros(1, dtype=F64), 0.6, 1e-4).drive(u)
    by_hand = 0.64 * 0.36 ** torch.arange(5, dtype=F64)
    torch.testing.assert_close(memory(r, u[:, 0], 5, penalty=1e-15), by_hand, rtol=0, atol=0.03)


def test_ridge_is_least_squares_with_the_penalty_as_further_rows():
    X, Y = normal(30, 5), normal(30, 2, seed=1)
    rows = torch.cat([X, 0.3**0.5 * torch.eye(5, dtype=F64)])
    least = torch.linalg.lstsq(rows, torch.cat([Y, torch.zeros(5, 2, dtype=F64)])).solution
    torch.testing.assert_close(ridge(X, Y, 0.3), least)
    assert ridge(X.float(), Y.float(), 0.3).dtype == torch.float32


def test_a_closed_reservoir_goes_on_with_what_it_reads_out():
    res = make_reservoir(10, generator=seeded(3))
    A = normal(10, 1, seed=4)
    path = iterate(res.closed(lambda r: r @ A), normal(10).tanh(), 5)
    fed = res.drive(path[:-1] @ A, path[0])
    torch.testing.assert_close(path[1:], fed)


def test_the_radius_is_that_of_a_matrix_with_known_eigenvalues():
    basis = normal(6, 6) + 4 * torch.eye(6, dtype=F64)
    W = basis @ torch.diag(torch.tensor([1, -3, 2, 0, 0.5, 1], dtype=F64)) @ basis.inverse()
    assert abs(spectral_radius(W) - 3) < 1e-9
    for size in (1e-200, 1e200):  # where LAPACK's own scaling fails
        assert spectral_radius(size * W) == pytest.approx(3 * size, rel=1e-9)
    near = torch.tensor([[1, 1], [1e-10, 1]], dtype=F64)  # nearly defective: 1 ± 1e-5
    assert spectral_radius(near) == pytest.approx(1 + 1e-5, abs=1e-9)
    made = make_reservoir(50, generator=seeded(0))
    assert abs(torch.linalg.eigvals(made.W).abs().max() - 1) < 1e-9 and made.b.eq(0).all()
    b = make_reservoir(200, bias=0.5, generator=seeded(0)).b
    assert b.std().item() == pytest.approx(0.5, rel=0.2)


@pytest.mark.parametrize("n", [2, 10, 100])
def test_the_radius_of_a_nilpotent_matrix_is_refused(n):
    """Its computed eigenvalues are not zero: of 100 neurons they reach beyond one half."""
    hidden = jordan(n)
    assert torch.linalg.matrix_power(hidden, n).abs().max() < 1e-12
    for W in (delay_line(n).W, hidden, 1e-3 * hidden):
        with pytest.raises(ValueError, match=r"W is nilpotent, or .* it cannot be scaled"):
            spectral_radius(W)
    if n == 100:
        assert torch.linalg.eigvals(hidden).abs().max() > 0.5


GOOD = {"W": normal(3, 3), "W_in": normal(3, 1), "b": torch.zeros(3, dtype=F64)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"W": normal(3, 2)}, r"W must have shape \(N, N\), got \(3, 2\)"),
        ({"W_in": normal(1, 3)}, r"W_in must have shape \(N, d\) with N = 3 .* got \(1, 3\)"),
        ({"W_in": normal(3)}, r"W_in must have shape .* got \(3,\)"),
        ({"b": normal(4)}, r"b must have shape \(N,\) with N = 3 as W has, got \(4,\)"),
        ({"b": normal(3) / 0}, "b must be finite"),
        ({"leak": 0}, r"leak must lie in \(0, 1\], got 0"),
        ({"leak": 1.5}, r"leak must lie in \(0, 1\], got 1.5"),
        ({"leak": "1"}, r"leak must lie in \(0, 1\], got '1'"),
        ({"gain": math.nan}, r"gain must be a number, or a column \(M, 1\), got nan"),
        ({"gain": None}, r"gain must be a number, or a column \(M, 1\), got None"),
        ({"gain": normal(2)}, r"gain must be a number, or a column .* got shape \(2,\)"),
        ({"scale": normal(2, 1) / 0}, "scale must be finite, got inf"),
    ],
)
def test_a_reservoir_that_does_not_fit_is_refused_in_words(change, words):
    with pytest.raises(ValueError, match=words):
        Reservoir(**GOOD | change)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Reservoir(**GOOD).drive(normal(5)), r"u must have shape \(T, 1\).* \(5,\)"),
        (lambda: Reservoir(**GOOD).drive(normal(5, 2)), r"u must have shape \(T, 1\)"),
        (lambda: Reservoir(**GOOD).drive(normal(5, 1), normal(2)), r"r0 .* \(…, 3\).* \(2,\)"),
        (lambda: Reservoir(**GOOD).drive(normal(5, 4, 1), normal(2, 3)), r"r0 .* got \(2, 3\)"),
        (lambda: ridge(normal(5, 2), normal(4, 1), 1.0), r"X must have shape \(T, F\)"),
        (lambda: ridge(normal(5, 2), normal(5, 1), 0.0), "penalty must be positive"),
        (lambda: ridge(normal(5, 2), normal(5, 1), "1"), "penalty must be positive"),
        (lambda: ridge(1e200 * normal(5, 2), normal(5, 1), 1.0), "X is too large to be squared"),
        (lambda: ridge(1e100 * normal(5, 2), 1e250 * normal(5, 1), 1.0), "Y is too large"),
        (lambda: ridge(torch.ones(9, 4).double(), normal(9, 1), 1e-30), "lost in rounding"),
        (lambda: memory(normal(99, 5), normal(98), 9), r"r must have shape \(T, N\)"),
        (lambda: memory(normal(30, 5), normal(30), 9), "at least 4 N and 4 K steps, 36, got 30"),
        (
            lambda: memory(normal(99, 5), torch.full((99,), 0.1, dtype=F64), 3),
            "u must vary, got 0.1",
        ),
        (lambda: memory(normal(30, 9), normal(30), 2), "at least 4 N and 4 K steps, 36, got 30"),
        (lambda: memory(normal(99, 5), normal(99), 0), "delays must be an integer"),
        (lambda: spectral_radius(normal(2, 3)), r"W must have shape \(N, N\)"),
        (
            lambda: make_reservoir(3, radius=-1.0, generator=seeded(1)),
            r"radius must be at least 0.* got -1\.0",
        ),
    ],
)
def test_bad_input_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_other_dtypes_are_refused_in_words():
    with pytest.raises(TypeError, match=r"W_in must be torch\.float64 on cpu as W is"):
        Reservoir(**GOOD | {"W_in": torch.ones(3, 1)})
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator"):
        make_reservoir(3, generator=0)
    for elsewhere in (normal(9, 1).float(), normal(9, 1).to("meta")):
        for call in (Reservoir(**GOOD).drive, lambda Y: ridge(normal(9, 3), Y, 1.0)):
            with pytest.raises(TypeError, match=r"must be torch\.float64 on cpu as [WX] is, got"):
                call(elsewhere)


def test_memory_has_no_unit_and_single_precision_will_do():
    r, u = normal(400, 4), normal(400, seed=1)
    u = u + r @ torch.ones(4, dtype=F64)
    kept = memory(r, u, 3, penalty=1e-12)
    assert kept[0] > 0.6
    torch.testing.assert_close(memory(r, 1e-100 * u, 3, penalty=1e-12), kept)
    torch.testing.assert_close(memory(r + 7, u, 3, penalty=1e-12), kept)
    noise = memory(normal(400, 100, seed=2), u, 50)  # in the half they are fitted on, one half
    assert noise.mean() < 0.02
    single = memory(r.float(), u.float(), 3)
    torch.testing.assert_close(single.double(), kept, rtol=0, atol=1e-5)
    assert memory(torch.zeros(99, 2), u[:99].float(), 2).max() < 1e-6
