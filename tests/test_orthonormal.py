"""Thin QR with a positive diagonal, by two methods."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import F64, normal

from dynbook.orthonormal import orthonormalize, triangular

METHODS = ["householder", "gram-schmidt"]


def off(Q):
    """Largest entry of QᵀQ − 1."""
    return (Q.mT @ Q - torch.eye(Q.shape[-1]).to(Q)).abs().max().item()


@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_it_is_the_qr_decomposition(method, dtype, device):
    Y = normal(3, 4, 7, 5, dtype=dtype).to(device)
    Q, R = orthonormalize(Y, method)
    eps = torch.finfo(dtype).eps
    assert Q.dtype == R.dtype == dtype and Q.device == R.device == Y.device
    assert Q.shape == Y.shape and R.shape == (3, 4, 5, 5)
    assert off(Q) < 20 * eps and (Q @ R - Y).abs().max() < 50 * eps
    assert (R.tril(-1) == 0).all() and (R.diagonal(dim1=-2, dim2=-1) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_pivots_are_those_of_the_normal_equations(method):
    """R is the Cholesky factor of YᵀY: no QR in the oracle."""
    Y = normal(6, 5, 3)
    _, R = orthonormalize(Y, method)
    torch.testing.assert_close(R, torch.linalg.cholesky(Y.mT @ Y).mT)


@pytest.mark.parametrize("method", METHODS)
def test_one_frame_and_one_column(method):
    Q, R = orthonormalize(torch.tensor([[3.0], [-4.0]], dtype=F64), method)
    torch.testing.assert_close(Q, torch.tensor([[0.6], [-0.8]], dtype=F64))
    torch.testing.assert_close(R, torch.tensor([[5.0]], dtype=F64))


@pytest.mark.parametrize("method", METHODS)
def test_frames_of_condition_1e12_come_out_orthonormal(method):
    U, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 12, 8)))
    V, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((40, 8, 8)))
    Y = torch.from_numpy((U * np.logspace(0, -12, 8)) @ V)
    Q, R = orthonormalize(Y, method)
    assert off(Q) < 1e-14
    assert (Q @ R - Y).abs().max() < 1e-14
    _, other = orthonormalize(Y, METHODS[METHODS.index(method) - 1])
    first, second = (r.diagonal(dim1=-2, dim2=-1) for r in (R, other))
    torch.testing.assert_close(first, second, rtol=1e-2, atol=0)  # 1e12 ε, and some room


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1e200])
def test_the_unit_of_length_does_not_matter(method, scale):
    Y = normal(4, 6, 3)
    Q, R = orthonormalize(Y, method)
    scaled_Q, scaled_R = orthonormalize(Y * scale, method)
    torch.testing.assert_close(scaled_Q, Q)
    torch.testing.assert_close(scaled_R / scale, R)


@pytest.mark.parametrize("method", METHODS)
def test_columns_of_very_different_length_are_not_singular(method):
    Y = normal(4, 3, 3) * torch.tensor([1e-180, 1.0, 1e150], dtype=F64)
    Q, R = orthonormalize(Y, method)
    assert off(Q) < 1e-14 and (R.diagonal(dim1=-2, dim2=-1) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_dependent_column_has_pivot_zero_and_still_a_direction(method):
    Y = normal(5, 6, 4)
    Y[1, :, 2] = Y[1, :, 0] - 3 * Y[1, :, 1]
    Y[2] = 0
    Y[3, :, 0] = 0
    Y[4, :, 3] = Y[4, :, 0] * (1 + 1e-16)
    Q, R = orthonormalize(Y, method)
    pivots = R.diagonal(dim1=-2, dim2=-1)
    expected = torch.ones(5, 4, dtype=torch.bool)
    expected[1, 2] = expected[2] = expected[3, 0] = expected[4, 3] = False
    assert torch.equal(pivots > 0, expected) and (pivots >= 0).all()
    assert off(Q) < 1e-14 and (Q @ R - Y).abs().max() < 1e-13


@given(
    batch=st.integers(1, 5),
    k=st.integers(1, 5),
    extra=st.integers(0, 3),
    seed=st.integers(0, 10**6),
    method=st.sampled_from(METHODS),
)
@settings(max_examples=40, deadline=None)
def test_batching_is_looping_and_a_rotation_turns_only_q(batch, k, extra, seed, method):
    Y = normal(batch, k + extra, k, seed=seed)
    Q, R = orthonormalize(Y, method)
    alone = [orthonormalize(y, method) for y in Y]
    torch.testing.assert_close(Q, torch.stack([q for q, _ in alone]), rtol=1e-9, atol=1e-9)
    turn = torch.from_numpy(np.linalg.qr(normal(k + extra, k + extra, seed=seed + 1).numpy())[0])
    turned_Q, turned_R = orthonormalize(turn @ Y, method)
    torch.testing.assert_close(turned_R, R, rtol=1e-7, atol=1e-9)
    assert (turned_Q @ turned_R - turn @ Y).abs().max() < 1e-12


Y = normal(4, 3)


@pytest.mark.parametrize(
    "error, call, words",
    [
        (TypeError, lambda: orthonormalize(Y.int()), "Y must be a float32 or float64.*int32"),
        (TypeError, lambda: orthonormalize(Y.to(torch.complex64)), "Y must be.*complex64"),
        (TypeError, lambda: orthonormalize([[1.0]]), r"Y must be.*\[\[1.0\]\]"),
        (ValueError, lambda: orthonormalize(Y.mT), r"1 ≤ k ≤ D, got \(3, 4\)"),
        (ValueError, lambda: orthonormalize(Y[:, :0]), r"1 ≤ k ≤ D, got \(4, 0\)"),
        (ValueError, lambda: orthonormalize(Y[0]), r"shape \(..., D, k\)"),
        (ValueError, lambda: orthonormalize(Y / 0), "Y must be finite, got .*inf at index"),
        (ValueError, lambda: orthonormalize(Y * torch.nan), "Y must be finite, got nan"),
        (ValueError, lambda: orthonormalize(Y, "svd"), "householder or gram-schmidt; got 'svd'"),
    ],
)
def test_what_is_not_a_frame_is_refused_in_words(error, call, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("method", METHODS)
def test_only_what_overflows_is_refused(method):
    """A sum may overflow where no norm does."""
    Y = torch.cat([torch.eye(3, dtype=F64)] * 400, 1).mT.reshape(400, 3, 3) * 1e306
    Q, _ = orthonormalize(Y, method)
    torch.testing.assert_close(Q, torch.eye(3, dtype=F64).expand(400, 3, 3))
    with pytest.raises(OverflowError, match=r"entries up to 1.7e\+308 its norms overflow"):
        orthonormalize(torch.full((3, 1), 1.7e308, dtype=F64), method)


@pytest.mark.parametrize("method", METHODS)
def test_no_frames_have_no_factors(method):
    Q, R = orthonormalize(normal(0, 3, 2), method)
    assert Q.shape == (0, 3, 2) and R.shape == (0, 2, 2)


def test_sparse_frames_are_refused():
    with pytest.raises(TypeError, match=r"Y must be dense.*Y.to_dense\(\)"):
        orthonormalize(torch.eye(3).to_sparse())


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("D, k", [(1, 1), (2, 2), (8, 8), (8, 3)])
def test_growth_of_many_small_frames_is_that_of_the_reflections(D, k, dtype):
    Y = normal(60, 10, D, k, dtype=dtype)
    Q, R = triangular(Y)
    eps, cond = torch.finfo(dtype).eps, torch.linalg.cond(Y.double())
    assert Q.shape == Y.shape and R.shape == (60, 10, k, k) and Q.is_contiguous()
    assert (Q @ R - Y).abs().max() < 30 * eps
    assert ((Q.mT @ Q - torch.eye(k, dtype=dtype)).abs().amax((-2, -1)) < 30 * eps * cond).all()
    pivots = R.diagonal(dim1=-2, dim2=-1).abs()
    expected = torch.linalg.qr(Y.double())[1].diagonal(dim1=-2, dim2=-1).abs()
    assert ((pivots / expected - 1).abs().amax(-1) < 30 * eps * cond).all()


@pytest.mark.parametrize("scale", [1e-200, 1e-158, 1e200])
def test_many_small_frames_keep_their_digits_where_squares_leave_the_range(scale):
    Y = normal(600, 4, 4)
    Y[7] *= scale
    pivots = triangular(Y)[1][7].diagonal().abs() / scale
    expected = orthonormalize(Y[7] / scale)[1].diagonal()
    torch.testing.assert_close(pivots, expected, rtol=1e-12, atol=0)
