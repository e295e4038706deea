"""Covariant vectors are covariant, and are the eigenvectors where there are any."""

import gc
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import F64, henon, lorenz, normal

from dynbook.covariant import (
    CovariantVectors,
    covariance_residual,
    covariant_segments,
    covariant_vectors,
)
from dynbook.lyapunov import LyapunovError, TangentHistory, lyapunov_spectrum, tangent_product
from dynbook.maps import iterate, rk4

STEP = rk4(lorenz, 0.02)
POINT = torch.tensor([0.1, 0.1], dtype=F64)


def whole(pieces):
    """Segments, which come backwards in time, as one."""
    pieces = list(pieces)[::-1]
    vectors = torch.cat([p.vectors[:-1] for p in pieces[:-1]] + [pieces[-1].vectors])
    return vectors, torch.cat([p.growth for p in pieces]), pieces


# --- what they are --------------------------------------------------------------------------


def test_of_a_constant_matrix_they_are_the_eigenvectors_and_the_frames_are_not():
    A = torch.tensor([[2.0, 3.0, -4.0], [0, 1.0, 5.0], [0, 0, 0.25]], dtype=F64)
    _, eigenvectors = np.linalg.eig(A.numpy())
    history = tangent_product(lambda x: x @ A.mT, torch.zeros(3, dtype=F64), n=250, transient=60)
    c = covariant_vectors(history, discard=100)
    assert c.vectors.shape == (51, 3, 3) and c.growth.shape == (50, 3) and c.start == 100
    inner = (torch.from_numpy(eigenvectors) * c.vectors).sum(-2).abs()
    torch.testing.assert_close(inner, torch.ones_like(inner))
    torch.testing.assert_close(c.growth, c.growth.new_tensor([2.0, 1.0, 0.25]).log().expand(50, 3))
    frames = (torch.from_numpy(eigenvectors) * history.Q[100]).sum(-2).abs()
    assert frames[0] == pytest.approx(1) and (frames[1:] < 0.9).all()


@pytest.mark.parametrize("k", [2, 3])
def test_on_the_lorenz_attractor(k, device):
    x0 = iterate(STEP, 10 * normal(2, 3) + torch.tensor([0, 0, 25.0], dtype=F64), 500)[-1]
    history = tangent_product(STEP, x0.to(device), k, n=900, transient=300, qr_every=2)
    c = covariant_vectors(history, discard=180)
    assert c.vectors.shape == (91, 2, 3, k) and c.growth.shape == (90, 2, k)
    assert covariance_residual(STEP, c).max() < 1e-6
    torch.testing.assert_close(c.vectors.norm(dim=-2), torch.ones(91, 2, k).to(c.vectors))
    flow = lorenz(c.x)  # is covariant itself, with exponent zero
    cosine = (flow / flow.norm(dim=-1, keepdim=True) * c.vectors[..., 1]).sum(-1).abs()
    assert cosine.min() > 1 - 1e-3


def test_on_the_henon_attractor_and_what_an_index_off_by_one_would_give():
    x0 = 0.1 * normal(5, 2)
    history = tangent_product(henon, x0, n=300, transient=60)
    c = covariant_vectors(history, discard=60)
    assert covariance_residual(henon, c).max() < 1e-6
    shifted = TangentHistory(history.x[:-1], history.Q[:-1], history.R[1:])
    sines = covariance_residual(henon, covariant_vectors(shifted, discard=60))
    assert sines[..., 0].max() < 1e-6 and sines[..., 1].median() > 0.5
    frames = CovariantVectors(history.x, history.Q, c.growth, 0)
    assert covariance_residual(henon, frames)[..., 0].max() < 1e-6  # the first of both is one
    assert covariance_residual(henon, frames)[..., 1].median() > 0.1


def test_their_growth_has_the_exponents_as_mean():
    """Over any stretch both growths differ only by what happens at its ends."""
    history = tangent_product(henon, POINT, n=1500, transient=50, qr_every=2)
    c = covariant_vectors(history, discard=40)
    spectrum = lyapunov_spectrum(henon, POINT, n=1500, transient=50)
    torch.testing.assert_close(c.growth.mean(0), spectrum.exponents, atol=0.05, rtol=0)
    volume = c.growth.sum(-1).mean()
    assert volume == pytest.approx(math.log(0.3), abs=0.01)


@given(seed=st.integers(0, 10**6), k=st.integers(1, 3), qr_every=st.integers(1, 2))
@settings(max_examples=15, deadline=None)
def test_random_products_have_them_too_and_a_batch_is_its_members(seed, k, qr_every):
    """Matrices with a gap: random turns of diag(4, 1, 1/4)."""
    turns, _ = np.linalg.qr(normal(60, 3, 3, seed=seed).numpy())
    stretch = torch.tensor([4.0, 1.0, 0.25], dtype=F64)
    shear = torch.eye(3, dtype=F64) + 0.1 * normal(60, 3, 3, seed=seed + 1)
    maps = [lambda x, A=A: x @ A.mT for A in torch.from_numpy(turns * 0.2) + shear * stretch]
    x0 = normal(2, 3, seed=seed)
    history = tangent_product(maps, x0, k, qr_every=qr_every)
    c = covariant_vectors(history, discard=5)
    assert covariance_residual(maps, c).max() < 1e-6
    alone = covariant_vectors(tangent_product(maps, x0[1], k, qr_every=qr_every), discard=5)
    torch.testing.assert_close(c.vectors[:, 1], alone.vectors, rtol=1e-7, atol=1e-7)


# --- long runs ------------------------------------------------------------------------------


@pytest.mark.parametrize("segment", [None, 1, 7, 45, 400])
def test_segments_are_the_whole_to_the_bit(segment):
    x0, run = 0.1 * normal(2, 2), {"n": 90, "transient": 9, "qr_every": 2}
    c = covariant_vectors(tangent_product(henon, x0, **run), discard=6)
    pieces = covariant_segments(henon, x0, discard=6, segment=segment, **run)
    vectors, growth, pieces = whole(pieces)
    assert torch.equal(vectors, c.vectors) and torch.equal(growth, c.growth)
    assert pieces[0].start == 6 and pieces[-1].start + len(pieces[-1].growth) == 39
    for piece in pieces:
        assert len(piece.growth) >= 1
        assert torch.equal(piece.x, c.x[piece.start - 6 :][: len(piece.x)])


def test_segments_of_a_sequence_of_maps():
    maps = [lambda x, a=a: henon(x) * a for a in torch.linspace(0.9, 1, 70, dtype=F64)]
    run = {"n": 60, "transient": 4}
    c = covariant_vectors(tangent_product(maps, POINT, 1, **run), discard=10)
    vectors, growth, pieces = whole(covariant_segments(maps, POINT, 1, discard=10, **run))
    assert torch.equal(vectors, c.vectors) and torch.equal(growth, c.growth)
    assert covariance_residual(maps[4:], pieces[1]).max() < 1e-6


def test_a_given_frame_goes_on_where_a_run_stopped():
    h = tangent_product(henon, POINT, n=40)
    rest = covariant_segments(henon, h.x[-1], n=40, frame=h.Q[-1], discard=10)
    both = covariant_vectors(tangent_product(henon, POINT, n=80), discard=10)
    assert torch.equal(whole(rest)[0][5], both.vectors[45])


def peak(run, n):
    """Most bytes that tensors made in run held at once, seen at every twentieth step."""
    most = calls = 0

    def watched(x):
        nonlocal most, calls
        calls += 1
        if calls % 20 == 0:
            made = [t for t in gc.get_objects() if isinstance(t, torch.Tensor)]
            storages = {t.data_ptr(): t.untyped_storage().nbytes() for t in made}
            most = max(most, sum(storages.values()))
        return henon(x)

    gc.collect()
    gc.freeze()  # what was there before does not count
    try:
        run(watched, n)
    finally:
        gc.unfreeze()
    return most


def test_memory_grows_as_the_square_root_of_the_length():
    x0 = 0.1 * normal(50, 2)

    def by_segments(step, n):
        for piece in covariant_segments(step, x0, n=n, discard=10):
            assert len(piece.x) <= 1 + math.isqrt(n)

    def at_once(step, n):
        covariant_vectors(tangent_product(step, x0, n=n), discard=10)

    short, long = peak(by_segments, 225), peak(by_segments, 900)
    assert long < 2.6 * short
    assert long < peak(at_once, 900) / 4


# --- refusals -------------------------------------------------------------------------------


def test_what_is_annihilated_cannot_be_followed_back():
    A = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 0]], dtype=F64)
    x0 = torch.zeros(3, dtype=F64)
    history = tangent_product([lambda x: x @ A] + [torch.sinh] * 9, x0)
    with pytest.raises(LyapunovError, match=r"time 0 on is singular: direction 3.*take k ≤ 2"):
        covariant_vectors(history, discard=0)
    leading = TangentHistory(history.x, history.Q[..., :2], history.R[..., :2, :2])
    assert covariant_vectors(leading, discard=0).vectors.isfinite().all()
    with pytest.raises(LyapunovError, match="time 3 on is zero: there are no covariant vectors"):
        covariant_vectors(tangent_product([torch.sin] * 3 + [torch.relu], x0), discard=0)


def test_a_step_that_is_another_the_second_time_is_noticed():
    generator = torch.Generator().manual_seed(0)

    def step(x):
        return henon(x) + 1e-6 * torch.randn(2, generator=generator, dtype=F64)

    with pytest.raises(LyapunovError, match=r"the same the second time.*time 16 on ends elsewhere"):
        list(covariant_segments(step, POINT, n=20, discard=2))
    history = tangent_product(step, POINT, n=200)
    assert covariant_vectors(history, discard=50).vectors.isfinite().all()


def test_vectors_without_an_image_have_no_residual():
    x, V = torch.zeros(2, 1, dtype=F64), torch.ones(2, 1, 1, dtype=F64)
    with pytest.raises(LyapunovError, match="annihilates"):
        covariance_residual(torch.relu, CovariantVectors(x, V, V[:1, 0], 0))


HISTORY = tangent_product(henon, POINT, n=12)


@pytest.mark.parametrize(
    "error, call, words",
    [
        (
            TypeError,
            lambda: covariant_vectors(POINT, discard=1),
            "history must be a Tangent.*got a",
        ),
        (ValueError, lambda: covariant_vectors(HISTORY, discard=6), "discard must.* ≤ 5, got 6"),
        (ValueError, lambda: covariant_vectors(HISTORY, discard=-1), "discard must.* ≥ 0"),
        (ValueError, lambda: covariant_segments(henon, POINT, n=9, discard=5), "≤ 4, got 5"),
        (
            ValueError,
            lambda: covariant_segments(henon, POINT, n=9, discard=1, segment=0),
            "segment",
        ),
        (
            ValueError,
            lambda: covariant_segments(henon, POINT, n=9, discard=1, qr_every=2),
            "n must be a multiple of qr_every = 2, got 9",
        ),
        (
            TypeError,
            lambda: covariant_segments(iter([henon] * 9), POINT, n=9, discard=1),
            r"steps must be a map or a sequence of transient \+ n = 9 maps.*list\(steps\)",
        ),
        (
            TypeError,
            lambda: covariant_segments([henon] * 9, POINT, n=9, discard=1, transient=1),
            "= 10 maps at least",
        ),
        (
            TypeError,
            lambda: covariance_residual([henon] * 9, covariant_vectors(HISTORY, discard=2)),
            "sequence of 10 maps at least",
        ),
        (TypeError, lambda: covariance_residual(henon, HISTORY), "must be CovariantVectors, got"),
    ],
)
def test_what_has_no_covariant_vectors_is_refused_in_words(error, call, words):
    with pytest.raises(error, match=words):
        call()
