"""How many factors are multiplied between two QR decompositions must not show."""

import math

import pytest
import torch
from systems import F64, normal

from dynbook.products import TOLERANCE, Spectrum, matrix_product_spectrum
from dynbook.tangent import LyapunovError


def by_numpy(A):
    """One QR decomposition of LAPACK after each factor."""
    Q, logs = torch.eye(A.shape[-1], dtype=A.dtype).expand(A.shape[1:]), 0
    for factor in A:
        Q, R = torch.linalg.qr(factor @ Q)
        logs = logs + R.diagonal(dim1=-2, dim2=-1).abs().log()
    return logs / len(A)


@pytest.mark.parametrize("qr_every", ["auto", 1, 2, 5, 16])
@pytest.mark.parametrize("method", ["auto", "householder", "gram-schmidt"])
def test_no_exponent_loses_more_than_the_tolerance(qr_every, method, device):
    """Gaussian factors have heavy tails: of 16 of them the worst lose all digits of λ_8."""
    A = normal(160, 40, 8, 8)
    frame = torch.eye(8, dtype=F64, device=device).expand(40, 8, 8)
    s = matrix_product_spectrum(A.to(device), frame=frame, qr_every=qr_every, method=method)
    assert (s.exponents.cpu() - by_numpy(A)).abs().max() < TOLERANCE[F64]
    assert s.qr_every > 1 if qr_every == "auto" else s.qr_every == qr_every
    assert s.growth.shape == (160 // s.qr_every, 40, 8)
    torch.testing.assert_close(s.growth.mean(0), s.exponents)
    if qr_every == 16:
        Y = A.unflatten(0, (10, 16))
        product, frame = 0, torch.eye(8, dtype=F64)
        for row in Y:
            for factor in row:
                frame = factor @ frame
            frame, R = torch.linalg.qr(frame)
            product = product + R.diagonal(dim1=-2, dim2=-1).abs().log()
        assert (product / 160 - by_numpy(A)).abs().max() > 1e3 * TOLERANCE[F64]


def test_rows_are_sums_of_the_single_steps():
    A = normal(48, 5, 4, 4)
    often, seldom = (matrix_product_spectrum(A, qr_every=q, transient=6) for q in (1, 3))
    torch.testing.assert_close(
        seldom.growth, often.growth.unflatten(0, (14, 3)).mean(1), rtol=0, atol=1e-7
    )
    shifted = matrix_product_spectrum(A, qr_every=4, transient=8)
    torch.testing.assert_close(shifted.exponents, often.growth[2:].mean(0), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "matrices, k, expected",
    [
        (normal(320, 6, 8, 8), 1, 20),  # nothing is lost with one column: the largest up to 320/16
        (normal(320, 6, 8, 8), 8, 5),
        (normal(317, 6, 8, 8), 8, 1),  # a prime number
        (list(normal(320, 6, 8, 8)), 8, 5),
        (iter(normal(320, 6, 8, 8)), 2, 1),  # of unknown length
        (normal(20, 6, 8, 8), 2, 1),
        (torch.diag_embed(torch.tensor([1.0, 1e-6], dtype=F64)).expand(320, 2, 2), 2, 1),
        (torch.diag_embed(torch.tensor([1.0, 1e-2], dtype=F64)).expand(320, 2, 2), 2, 2),
        (torch.zeros(64, 2, 2), 2, 1),
    ],
)
def test_the_spread_decides_how_often(matrices, k, expected):
    assert matrix_product_spectrum(matrices, k).qr_every == expected


def test_factors_that_turn_worse_than_the_first_are_seen():
    """64 isometries, then diag(1, 10⁻⁵): the first say q = 8."""
    turn = torch.linalg.qr(normal(64, 3, 2, 2))[0]
    steep = torch.diag(torch.tensor([1, 1e-5], dtype=F64)).expand(64, 3, 2, 2)
    start = torch.eye(2, dtype=F64).expand(3, 2, 2)
    s = matrix_product_spectrum(torch.cat([turn, turn.flip(0).mT, steep]), frame=start)
    assert s.qr_every > 4
    expected = torch.tensor([0, math.log(1e-5) / 3], dtype=F64).expand(3, 2)
    torch.testing.assert_close(s.exponents, expected, rtol=0, atol=1e-9)


def test_a_run_goes_on_from_where_it_ended_to_the_bit():
    A = normal(40, 30, 6, 6)
    whole = matrix_product_spectrum(A, qr_every=4)
    first = matrix_product_spectrum(A[:16], qr_every=4)
    second = matrix_product_spectrum(A[16:], qr_every=4, frame=first.frame)
    assert torch.equal(whole.growth, torch.cat([first.growth, second.growth]))
    assert torch.equal(whole.frame, second.frame)


@pytest.mark.parametrize("qr_every", [1, 5])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_a_singular_factor_spares_the_other_members(qr_every, shape):
    A = normal(30, *shape, 4, 4)
    last = (7, *[n - 1 for n in shape])
    A[last] = A[last] * torch.tensor([1.0, 1, 1, 0])
    s = matrix_product_spectrum(A, qr_every=qr_every)
    dead = s.exponents == -math.inf
    assert dead.sum() == 1 and dead[(*last[1:], 3)]
    assert (s.frame.mT @ s.frame - torch.eye(4)).abs().max() < 1e-7


def test_a_row_that_overflows_is_done_one_by_one():
    s = matrix_product_spectrum(torch.eye(3, dtype=F64).expand(8, 2, 3, 3) * 1e200, qr_every=4)
    torch.testing.assert_close(s.exponents, torch.full((2, 3), math.log(1e200), dtype=F64))


def test_what_is_no_number_is_named_by_its_step_and_place():
    A = normal(12, 4, 3, 3)
    A[6, 2, 1] = math.nan
    with pytest.raises(LyapunovError, match=r"finite numbers at step 7, nan at index \[2, 1, 0\]"):
        matrix_product_spectrum(A, qr_every=4)
    with pytest.raises(ValueError, match="qr_every must be an integer ≥ 1, got 'often'"):
        matrix_product_spectrum(A, qr_every="often")
    with pytest.raises(ValueError, match="method must be auto, householder or gram-schmidt"):
        matrix_product_spectrum(A, method="qr")
    with pytest.raises(ValueError, match=r"by a multiple of qr_every \(5\); got 6 steps"):
        matrix_product_spectrum(A[:6], qr_every=5)


def test_single_precision_has_a_tolerance_of_its_own():
    A = normal(96, 20, 6, 6, dtype=torch.float32)
    start = torch.eye(6).expand(20, 6, 6)
    s = matrix_product_spectrum(A, frame=start)
    assert isinstance(s, Spectrum) and s.exponents.dtype == torch.float32
    assert (s.exponents - by_numpy(A.double())).abs().max() < TOLERANCE[torch.float32]
