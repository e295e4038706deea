import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynbook.beam import beam_modes, beam_spectrum
from dynbook.domains import Ball, Interval
from dynbook.splines import (
    condition_number,
    gram_product,
    gram_solve,
    leading_eigenpairs,
    nodal_values,
    tridiagonal_solve,
)

KAPPA_1 = 1.8751040687119611  # cos κ cosh κ = −1


def equispaced(n):
    return -1 + 2 * torch.arange(n, dtype=torch.float64) / n


def midpoints(n):
    return equispaced(n) + 1 / n


def scattered(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(n, generator=g, dtype=torch.float64) - 1).sort().values


def kernel(x, y, right=1.0):
    """∫ max(t − x, 0) max(t − y, 0) dt up to the right end, by hand."""
    length = right - max(x, y)
    return length**3 / 3 + abs(x - y) * length**2 / 2


def dense(b, right=1.0):
    rows = [[kernel(x, y, right) for y in b.tolist()] for x in b.tolist()]
    return torch.tensor(rows, dtype=torch.float64)


def exact_gram(b):
    """The Gram matrix of these very floating-point biases, to the working digits of mpmath."""
    b = [mpmath.mpf(x) for x in b.tolist()]
    return mpmath.matrix([[kernel(x, y, mpmath.mpf(1)) for y in b] for x in b])


@pytest.mark.parametrize(
    "b", [equispaced(24), scattered(30), scattered(36, seed=7)], ids=["e", "r", "s"]
)
def test_condition_number_and_solution_against_high_precision(b):
    """cond up to 1e12: the O(n) solution keeps every digit, the dense one loses up to ten."""
    f = torch.cos(torch.arange(len(b), dtype=torch.float64))
    with mpmath.workdps(60):
        gram = exact_gram(b)
        values = mpmath.eigsy(gram, eigvals_only=True)
        condition = float(max(values) / min(values))
        a = [float(x) for x in mpmath.lu_solve(gram, mpmath.matrix(f.tolist()))]
    assert condition_number(b) == pytest.approx(condition, rel=2e-12)
    expected = torch.tensor(a, dtype=torch.float64)
    torch.testing.assert_close(gram_solve(f, b), expected, rtol=1e-13, atol=0)


def test_equispaced_condition_numbers_grow_like_n_to_the_fourth():
    """λ_1 → (n/2)(2/κ_1)⁴ and λ_n → 1/(6n³), the symbol at the highest wave: 48/κ_1⁴ = 3.8828."""
    limit = 48 / KAPPA_1**4
    assert limit == pytest.approx(3.8828, abs=1e-4)
    excess = [condition_number(equispaced(n)) / n**4 / limit - 1 for n in (1_000, 10_000, 100_000)]
    assert excess == pytest.approx([2e-3, 2e-4, 2e-5], rel=0.02)  # the 2/n of λ_1


def test_random_condition_numbers_grow_like_n_to_the_sixth():
    """Median over seeds against n in log-log; the slope's 95 % interval by bootstrap holds 6."""
    sizes = np.array([25, 50, 100, 200, 400])
    logs = np.log([[condition_number(scattered(n, seed)) for seed in range(80)] for n in sizes])

    def slope(table):
        return np.polyfit(np.log(sizes), np.median(table, axis=1), 1)[0]

    rng = np.random.default_rng(0)
    low, high = np.quantile(
        [slope(rng.choice(logs, logs.shape[1], axis=1)) for _ in range(400)], [0.025, 0.975]
    )
    assert low < 6 < high and high - low < 1.2, (low, slope(logs), high)


@settings(max_examples=30, deadline=None)
@given(
    kinks=st.lists(st.floats(-3, 1.9), min_size=2, max_size=12, unique=True),
    seed=st.integers(0, 1000),
)
def test_the_product_is_that_of_the_matrix(kinks, seed):
    b = torch.tensor(sorted(kinks), dtype=torch.float64)
    a = torch.randn(3, len(b), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = a @ dense(b, right=2.0)
    scale = a.abs() @ dense(b, right=2.0)
    assert ((gram_product(a, b, Interval(-3, 2)) - expected).abs() <= 1e-13 * scale).all()


def test_nodal_values_are_values_at_the_nodes():
    b, a = scattered(9), torch.randn(2, 9, generator=torch.Generator().manual_seed(0)).double()
    nodes = [*b.tolist()[1:], 1.0]
    plain = [
        [sum(c * max(x - k, 0) for c, k in zip(row, b.tolist(), strict=True)) for x in nodes]
        for row in a.tolist()
    ]
    torch.testing.assert_close(nodal_values(a, b), torch.tensor(plain, dtype=torch.float64))


def test_five_thousand_neurons_are_solved_where_float64_matrices_give_up():
    """G e_j, a column written by hand at condition 2·10¹⁵, is solved back to e_j."""
    b, j = equispaced(5000), 2000
    column = torch.tensor([kernel(x, b[j].item()) for x in b.tolist()], dtype=torch.float64)
    unit = torch.zeros(5000, dtype=torch.float64)
    unit[j] = 1
    torch.testing.assert_close(gram_solve(column, b), unit, rtol=0, atol=1e-3)


@pytest.mark.parametrize("function", [gram_product, gram_solve, nodal_values])
def test_a_batch_is_its_members(function, device):
    b = scattered(33).to(device)
    f = torch.randn(2, 3, 33, generator=torch.Generator().manual_seed(0)).double().to(device)
    alone = torch.stack([torch.stack([function(x, b) for x in row]) for row in f])
    torch.testing.assert_close(function(f, b), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", [gram_product, nodal_values])
def test_single_precision_is_single_precision(function, device):
    b, a = scattered(200).float().to(device), torch.ones(200, device=device)
    ours = function(a, b)
    assert ours.dtype == torch.float32 and ours.device.type == device
    torch.testing.assert_close(ours.double(), function(a.double(), b.double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 13])
def test_cyclic_reduction_solves_tridiagonal_systems(n):
    g = torch.Generator().manual_seed(n)
    off = torch.randn(max(n - 1, 0), generator=g, dtype=torch.float64)
    matrix = torch.diag(off, 1) + torch.diag(off, -1) if n > 1 else torch.zeros(1, 1).double()
    diagonal = matrix.abs().sum(1) + 0.01 + torch.rand(n, generator=g, dtype=torch.float64)
    f = torch.randn(4, n, generator=g, dtype=torch.float64)
    expected = np.linalg.solve((matrix + torch.diag(diagonal)).numpy(), f.mT.numpy()).T
    ours = tridiagonal_solve(diagonal, off, f)
    torch.testing.assert_close(ours, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


def test_leading_eigenpairs_are_those_of_the_matrix():
    b = scattered(60)
    values, vectors = np.linalg.eigh(dense(b).numpy())
    ours = leading_eigenpairs(b, 5)
    np.testing.assert_allclose(ours.values, values[::-1][:5], rtol=0, atol=1e-13 * values[-1])
    overlap = np.abs(np.sum(ours.vectors.numpy() * vectors[:, ::-1][:, :5], axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-9)


def test_twenty_thousand_neurons_vibrate_like_the_beam():
    n, k = 20_000, 8
    b = midpoints(n)
    ours = leading_eigenpairs(b, k)
    torch.testing.assert_close(2 / n * ours.values, beam_spectrum(k), rtol=1e-6, atol=0)
    phi = beam_modes(k, b, side="bias") * math.sqrt(2 / n)
    torch.testing.assert_close((ours.vectors * phi).sum(0).abs(), torch.ones(k).double())


def test_leading_eigenpairs_follow_the_dtype(device):
    ours = leading_eigenpairs(equispaced(300).float().to(device), 4)
    assert ours.values.dtype == ours.vectors.dtype == torch.float32
    assert ours.values.device.type == device
    reference = leading_eigenpairs(equispaced(300), 4).values
    torch.testing.assert_close(ours.values.double().cpu(), reference, rtol=1e-4, atol=0)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_handful_of_neurons_has_a_condition_number(n):
    assert condition_number(scattered(n)) == pytest.approx(
        np.linalg.cond(dense(scattered(n))), rel=1e-9
    )


def test_trained_biases_have_a_condition_number_and_modes():
    b = scattered(9)
    assert condition_number(b.clone().requires_grad_()) == condition_number(b)
    assert torch.equal(
        leading_eigenpairs(b.clone().requires_grad_(), 2).values, leading_eigenpairs(b, 2).values
    )


def test_weak_dominance_of_either_sign_is_enough():
    """Second differences: d = ±2 beside off = ∓1 dominates weakly, and −½ k (n + 1 − k) solves."""
    n = 20
    k, one = torch.arange(1, n + 1, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    expected = -k * (n + 1 - k) / 2
    torch.testing.assert_close(tridiagonal_solve(-2 * one, one[1:], one), expected)
    torch.testing.assert_close(tridiagonal_solve(2 * one, -one[1:], one), -expected)


EDGE = torch.tensor([1.0, -1.0], dtype=torch.float64)
CLOSE = torch.tensor([0, 1e-200, 0.5], dtype=torch.float64)
B = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("function", [gram_product, gram_solve, nodal_values])
@pytest.mark.parametrize(
    "vector, b, error, words",
    [
        (B, B.flip(0), ValueError, r"b must increase strictly, got b\[0\] = 0.5.*sort"),
        (B, B[[0, 0, 1]], ValueError, r"b must increase strictly.*drop duplicates.*singular"),
        (B, B + 0.5, ValueError, "b must put every kink inside the domain"),
        (B[:1], B[:1], ValueError, "b must have shape.*n ≥ 2"),
        (B[:1], B, ValueError, r"must have shape \(..., 3\), as b has, got \(1,\)"),
        (B[0], B, ValueError, r"must have shape \(..., 3\)"),
        (torch.cat([B, B]), B, ValueError, r"must have shape \(..., 3\), as b has, got \(6,\)"),
        (1e308 * B.sign() + 1e308, B, ValueError, "must be finite, got"),
        (B.tolist(), B, TypeError, r"must be a tensor, got \[-0.5"),
        (B, B.tolist(), TypeError, r"b must be a float32 or float64 tensor, got \[-0.5"),
        (B * math.nan, B, ValueError, "must be finite, got nan at index"),
        (B.float(), B, TypeError, "must share dtype and device with b.*float32"),
        (B.to("meta"), B, TypeError, "must share dtype and device with b.*meta"),
        (B, B.int(), TypeError, "b must be a float32 or float64"),
    ],
)
def test_bad_biases_and_vectors_are_refused_in_words(function, vector, b, error, words):
    with pytest.raises(error, match=words):
        function(vector, b)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: gram_product(B, B, Ball()), TypeError, "domain must be an Interval.*Ball"),
        (lambda: leading_eigenpairs(B, 0), ValueError, "k must be an integer ≥ 1 and ≤ 2, got 0"),
        (lambda: leading_eigenpairs(B, 1.5), ValueError, "k must be an integer.*got 1.5"),
        (lambda: leading_eigenpairs(B.tolist(), 1), TypeError, "b must be a float32 or float64"),
        (
            lambda: leading_eigenpairs((B + 1) * 5e109, 1, Interval(0, 1e110)),
            ValueError,
            "G a must be finite.*overflows.*the domain",
        ),
        (lambda: leading_eigenpairs(B, 3), ValueError, "got 3"),
        (lambda: condition_number(B.float()), TypeError, "b must be float64.*float32"),
        (lambda: condition_number(B[[0, 1, 1]]), ValueError, "drop duplicates"),
        (lambda: condition_number(B.tolist()), TypeError, r"b must be float64.*\[-0.5"),
        (lambda: condition_number(CLOSE), ValueError, "b has kinks 1.0e-200 apart, too close"),
        (lambda: tridiagonal_solve(B, B, B), ValueError, "must fit"),
        (lambda: tridiagonal_solve(B, B[1:] * 0, B[:2]), ValueError, "must fit"),
        (lambda: tridiagonal_solve(B, [0, 0], B), TypeError, r"off must be a tensor, got \[0, 0\]"),
        (lambda: tridiagonal_solve(0 * B, 0 * B[1:], B), ValueError, "solution.*singular"),
        (lambda: tridiagonal_solve(EDGE.abs(), EDGE[1:], EDGE), ValueError, "solution.*singular"),
        (lambda: tridiagonal_solve(B[1:] + 1, -B[2:] * 4, B[1:]), ValueError, "must dominate"),
        (lambda: tridiagonal_solve(B, B[1:] + 1, B), ValueError, "diagonal must dominate.*pivots"),
    ],
)
def test_what_cannot_be_solved_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()
