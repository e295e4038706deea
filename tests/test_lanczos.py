import warnings

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynbook.lanczos import ConvergenceWarning, krylov, normal, top_eigenpairs


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def symmetric(*shape, seed=1, dtype=torch.float64, device="cpu"):
    A = torch.randn(*shape, shape[-1], generator=generator(seed), dtype=torch.float64)
    return ((A + A.mT) / 2).to(device, dtype)


def with_spectrum(values, seed=2):
    values = torch.as_tensor(values, dtype=torch.float64)
    n = len(values)
    Q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator(seed), dtype=torch.float64))
    return Q * values @ Q.mT


@pytest.mark.parametrize(
    ("which", "chosen"),
    [("largest", [-1, -2, -3]), ("smallest", [0, 1, 2]), ("both", [-1, -2, -3, 0, 1, 2])],
)
def test_each_end_of_the_spectrum_is_the_one_that_eigh_finds(which, chosen, device):
    A = symmetric(2, 3, 60, device=device)
    pairs = top_eigenpairs(lambda V: A @ V, 60, 3, which=which, batch=(2, 3), device=device)
    exact = np.linalg.eigvalsh(A.cpu().numpy())[..., chosen]
    np.testing.assert_allclose(pairs.values.cpu(), exact, rtol=1e-12, atol=1e-12)
    U = pairs.vectors
    assert U.device.type == device and U.shape == (2, 3, 60, len(chosen))
    torch.testing.assert_close(A @ U, U * pairs.values[..., None, :], rtol=0, atol=3e-7)
    gram = U.mT @ U
    torch.testing.assert_close(gram, torch.eye(len(chosen)).to(gram).expand_as(gram))


def test_the_second_difference_matrix_has_its_closed_spectrum():
    """Dirichlet: 4 sin²(πj/2(n+1)); the ends are the hard, dense parts of this spectrum."""
    n = 300

    def product(V):
        padded = torch.nn.functional.pad(V, (0, 0, 1, 1))
        return 2 * V - padded[:-2] - padded[2:]

    j = np.array([n, n - 1, 1, 2])
    exact = 4 * np.sin(np.pi * j / (2 * (n + 1))) ** 2
    pairs = top_eigenpairs(product, n, 2, which="both", max_steps=150)
    np.testing.assert_allclose(pairs.values, exact, rtol=0, atol=1e-11)


def test_scipy_finds_the_same_in_a_large_sparse_matrix():
    n, g = 4000, generator(3)
    rows, columns = torch.randint(n, (2, 6 * n), generator=g)
    entries = torch.randn(6 * n, generator=g, dtype=torch.float64)
    S = scipy.sparse.coo_matrix((entries, (rows, columns)), (n, n)).tocsr()
    S = S + S.T
    ours = top_eigenpairs(
        lambda V: torch.from_numpy(S @ V.numpy()), n, 2, which="both", max_steps=200
    )
    theirs = scipy.sparse.linalg.eigsh(S, 4, which="BE", v0=np.ones(n))[0]
    np.testing.assert_allclose(ours.values.sort().values, np.sort(theirs), rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 3.0]), min_size=1, max_size=9),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_repeated_eigenvalues_come_as_often_as_they_are(values, k, seed):
    A, k = with_spectrum(values, seed), min(k, len(values))
    pairs = top_eigenpairs(lambda V: A @ V, len(values), k)
    np.testing.assert_allclose(pairs.values, sorted(values, reverse=True)[:k], atol=1e-12)
    assert (pairs.residuals < 1e-12).all()
    U = pairs.vectors
    torch.testing.assert_close(U.mT @ U, torch.eye(k, dtype=U.dtype))


def test_an_invariant_start_does_not_hide_the_rest():
    """An exact eigenvector of a smaller eigenvalue, a closed space of one dimension."""
    A = torch.diag(torch.tensor([5.0, 4, 3, 2] + 96 * [1.0], dtype=torch.float64))
    start = torch.eye(100, dtype=torch.float64)[:, 2:3]
    pairs = top_eigenpairs(lambda V: A @ V, 100, start=start)
    assert pairs.values.item() == pytest.approx(5, rel=1e-12)


def test_a_near_start_saves_products():
    A = symmetric(400)
    cold = top_eigenpairs(lambda V: A @ V, 400)
    B = A + 1e-4 * symmetric(400, seed=5)
    cold_again = top_eigenpairs(lambda V: B @ V, 400)
    warm = top_eigenpairs(lambda V: B @ V, 400, start=cold.vectors)
    torch.testing.assert_close(warm.values, cold_again.values, rtol=1e-12, atol=0)
    assert warm.products < 0.8 * cold_again.products


def test_more_starts_than_pairs_make_a_larger_block():
    A = symmetric(50)
    all_three = top_eigenpairs(lambda V: A @ V, 50, 3)
    one = top_eigenpairs(lambda V: A @ V, 50, 1, start=all_three.vectors)
    torch.testing.assert_close(one.values, all_three.values[:1], rtol=1e-12, atol=0)
    five = top_eigenpairs(lambda V: A @ V, 50, 5, start=all_three.vectors)
    torch.testing.assert_close(five.values[:3], all_three.values, rtol=1e-12, atol=0)


def test_a_batch_is_its_members(device):
    A = symmetric(5, 40, device=device)
    start = torch.randn(5, 40, 2, generator=generator(4), dtype=torch.float64).to(device)
    together = top_eigenpairs(lambda V: A @ V, 40, 2, start=start)
    for i in range(5):
        alone = top_eigenpairs(lambda V, i=i: A[i] @ V, 40, 2, start=start[i])
        torch.testing.assert_close(together.values[i], alone.values, rtol=1e-13, atol=1e-13)


def test_the_basis_is_orthonormal_and_the_small_matrix_is_that_of_the_operator():
    A = with_spectrum([1e6, 1e3, *torch.linspace(0, 1, 78).tolist()])
    first = normal(2, 80, generator())
    for m, (Q, AQ, T, unit) in enumerate(krylov(lambda V: A @ V, first, first), 1):
        AQ, T = AQ * unit, T * unit
        torch.testing.assert_close(AQ, Q @ A, rtol=0, atol=1e-8)
        assert Q.shape == AQ.shape == (2 * m, 80)
        torch.testing.assert_close(Q @ Q.mT, torch.eye(2 * m, dtype=Q.dtype), rtol=0, atol=1e-13)
        torch.testing.assert_close(T, Q @ A @ Q.mT, rtol=0, atol=1e-8)
    assert m == 40
    np.testing.assert_allclose(np.linalg.eigvalsh(T), np.linalg.eigvalsh(A), atol=1e-8)


def test_single_precision_is_right_to_its_own_rounding(device):
    A = symmetric(200, device=device)
    exact = torch.linalg.eigvalsh(A)[-1].item()
    pairs = top_eigenpairs(lambda V: A.float() @ V, 200, dtype=torch.float32, device=device)
    assert pairs.values.dtype == torch.float32
    assert pairs.values.item() == pytest.approx(exact, rel=2e-6)
    assert pairs.residuals.item() < 4e-4 * exact


def test_the_residual_bounds_the_error_of_what_has_not_converged():
    A = torch.stack([torch.diag(torch.linspace(0, 1, 500, dtype=torch.float64)), symmetric(500)])
    with pytest.warns(ConvergenceWarning, match=r"after 8 products with residual .* at member 1"):
        pairs = top_eigenpairs(lambda V: A @ V, 500, batch=(2,), max_steps=8)
    assert pairs.products == 8
    for a, value, residual in zip(A, pairs.values, pairs.residuals, strict=True):
        nearest = (torch.linalg.eigvalsh(a) - value).abs().min()
        assert 0 < nearest <= residual
        assert residual > 1e-4


def test_what_converges_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for A in (symmetric(30), torch.zeros(30, 30, dtype=torch.float64), -torch.eye(1)):
            A = A.double()
            pairs = top_eigenpairs(lambda V, A=A: A @ V, len(A))
            exact = torch.linalg.eigvalsh(A)[-1]
            torch.testing.assert_close(pairs.values[0], exact, rtol=1e-12, atol=1e-12)


def test_the_same_generator_gives_the_same_bits():
    A = symmetric(30)
    runs = [top_eigenpairs(lambda V: A @ V, 30, generator=generator(s)).vectors for s in (7, 7, 8)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(
    ("scale", "dtype"), [(1e-22, torch.float32), (1e-170, torch.float64), (1e170, torch.float64)]
)
def test_scales_whose_squares_leave_the_floating_point_range(scale, dtype):
    A = symmetric(2, 60).to(dtype)
    pairs = top_eigenpairs(lambda V: A @ V * scale, 60, 2, batch=(2,), dtype=dtype)
    plain = top_eigenpairs(lambda V: A @ V, 60, 2, batch=(2,), dtype=dtype)
    rtol = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(pairs.values / scale, plain.values, rtol=rtol, atol=0)
    assert (pairs.residuals > 0).all() and (pairs.residuals < 1e-3 * pairs.values).all()


def test_a_matrix_may_overwrite_its_columns():
    pairs = top_eigenpairs(lambda V: V.mul_(2), 6, 2)
    np.testing.assert_allclose(pairs.values, [2, 2], rtol=1e-12)


def test_stirring_finds_a_direction_that_the_start_lacks():
    """Starts from which the powers of A never leave the span of the first axes, without noise."""
    A = torch.diag(torch.tensor([1.0, 2, 3, 4, 9], dtype=torch.float64).repeat_interleave(20))
    start = torch.zeros(100, 3, dtype=torch.float64)
    start[:80] = torch.randn(80, 3, generator=generator(6), dtype=torch.float64)
    pairs = top_eigenpairs(lambda V: A @ V, 100, start=start)
    assert pairs.values.item() == pytest.approx(9, rel=1e-12)
    assert pairs.products < 20


def test_whole_numbers_may_come_as_floats():
    pairs, A = run(k=2.0, dim=6.0, max_steps=6.0), symmetric(6)
    np.testing.assert_allclose(pairs.values, np.linalg.eigvalsh(A)[[-1, -2]], rtol=1e-12)


A = symmetric(6)


def lost(product):
    """A matrix whose columns are lost, for member 1 of three, from one product on."""
    calls = []

    def matvec(V):
        calls.append(V)
        V = A @ V
        if len(calls) >= product:
            V[1] = float("nan")
        return V

    return matvec


def run(matvec=lambda V: A @ V, dim=6, k=1, **more):
    return top_eigenpairs(matvec, dim, k, **more)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: run(A), TypeError, "matvec must be a function"),
        (lambda: run(dim=0), ValueError, "dim must be an integer ≥ 1, got 0"),
        (lambda: run(k=7), ValueError, "k must be an integer ≥ 1 and ≤ 6, got 7"),
        (lambda: run(k=4, which="both"), ValueError, "k must be an integer ≥ 1 and ≤ 3"),
        (lambda: run(which="LM"), ValueError, 'which must be "largest", "smallest" or "both"'),
        (lambda: run(tol=0), ValueError, r"tol must lie in \[2.2e-16, 1\).*got 0"),
        (lambda: run(tol=1e-9, dtype=torch.float32), ValueError, "what torch.float32 can tell"),
        (lambda: run(max_steps=0), ValueError, "max_steps must be an integer"),
        (lambda: run(generator=3), TypeError, "generator must be a torch.Generator"),
        (lambda: run(batch=3), TypeError, r"batch must be a tuple of sizes, as \(3,\), got 3"),
        (lambda: run(batch=(0,)), ValueError, "batch must be an integer ≥ 1, got 0"),
        (lambda: run(dtype=torch.int64), TypeError, "dtype must be .* got torch.int64"),
        (lambda: run(dtype="double"), TypeError, "dtype must be torch.float32 or torch.float64"),
        (lambda: run(start=A[0]), ValueError, r"start must have shape \(…, 6, j\).*got \(6,\)"),
        (lambda: run(start=A[:5]), ValueError, r"start must have shape.*got \(5, 6\)"),
        (lambda: run(start=A / 0), ValueError, "start must be finite"),
        (lambda: run(lambda V: V[:-1]), ValueError, "keep the shape.* in product 1"),
        (lambda: run(lambda V: V.float()), ValueError, "keep the dtype"),
        (lambda: run(lambda V: 1.0), TypeError, "matvec must return a tensor, got 1.0"),
        (lambda: run(lambda V: A.triu() @ V), ValueError, "matvec must be symmetric"),
        (lambda: run(lambda V: V / 0), ValueError, "product 1 is not finite$"),
        (lambda: run(lost(3), batch=(3,)), ValueError, "product 3 is not finite at member 1"),
        (
            lambda: run(lost(2), k=2, batch=(3, 1)),
            ValueError,
            r"product 2 is not finite at member \(1, 0\)",
        ),
    ],
)
def test_refusals_name_the_argument_and_what_came(call, error, words):
    with pytest.raises(error, match=words):
        call()
