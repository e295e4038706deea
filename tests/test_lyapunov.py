"""Exponents of maps whose exponents are known."""

import gc
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma, polygamma
from systems import F64, henon, lorenz, normal
from torch import nn

from dynbook.lyapunov import (
    LyapunovError,
    Spectrum,
    lyapunov_spectrum,
    matrix_product_spectrum,
    tangent_product,
)
from dynbook.maps import iterate, layers, leapfrog, rk4
from dynbook.tangent import push_forward


def logistic(x):
    return 4 * x * (1 - x)


def linear(A):
    return lambda x: (A @ x[..., None])[..., 0]


def attractor(n, dim, seed=0):
    """Starts near the origin of the Hénon map, or near the Lorenz attractor."""
    start = 0.1 * normal(n, dim, seed=seed)
    return start if dim == 2 else start * 100 + torch.tensor([0, 0, 25.0], dtype=F64)


# --- known exponents ------------------------------------------------------------------------


def test_henon(device):
    """0.4192 and ln 0.3 − 0.4192; the sum is exact at every step, for det J = −0.3."""
    s = lyapunov_spectrum(henon, attractor(500, 2).to(device), n=300, transient=100)
    assert s.exponents.shape == (500, 2) and s.growth.shape == (300, 500, 2)
    assert s.exponents.device.type == device
    mean, error = s.exponents.mean(0), s.exponents.std(0) / math.sqrt(500)
    assert abs(mean[0] - 0.4192) < 4 * error[0] and error[0] < 2e-3
    assert (s.growth.sum(-1) - math.log(0.3)).abs().max() < 1e-12


def test_lorenz():
    """0.906, 0 and −14.57 per unit of time; their sum is the trace, −(10 + 1 + 8/3)."""
    step, dt = rk4(lorenz, 0.01), 0.01
    x0 = iterate(step, attractor(400, 3), 2000)[-1]
    s = lyapunov_spectrum(step, x0, n=600, dt=dt, transient=200, qr_every=2)
    mean, error = s.exponents.mean(0), s.exponents.std(0) / math.sqrt(400)
    known = torch.tensor([0.906, 0.0, -14.57], dtype=F64)
    assert ((mean - known).abs() < 4 * error + 0.005).all() and error.max() < 0.02
    torch.testing.assert_close(
        s.exponents.sum(-1), torch.full((400,), -41 / 3, dtype=F64), atol=1e-3, rtol=0
    )


def test_the_logistic_map_stretches_by_two():
    """ln 2 at r = 4."""
    x0 = torch.linspace(0.1, 0.9, 64, dtype=F64)[:, None]
    s = lyapunov_spectrum(logistic, x0, n=2000, transient=10)
    assert (s.exponents - math.log(2)).abs().median() < 2e-3
    torch.testing.assert_close(s.running[-1], s.exponents)
    torch.testing.assert_close(s.running[6], s.growth[:7].mean(0))


def test_a_constant_matrix_has_the_logarithms_of_its_eigenvalues():
    A = torch.tensor([[2.0, 100.0, 7.0], [0, 1.0, 50.0], [0, 0, 0.25]], dtype=F64)
    s = lyapunov_spectrum(linear(A), torch.zeros(3, dtype=F64), n=100, transient=100)
    torch.testing.assert_close(s.exponents, torch.tensor([2.0, 1.0, 0.25], dtype=F64).log())
    product = matrix_product_spectrum([A] * 200, transient=100)
    torch.testing.assert_close(product.exponents, s.exponents)


def test_gradient_descent_on_a_quadratic():
    """ln|1 − ηh_i|, whatever the orbit."""
    h, eta = torch.tensor([0.5, 2.0, 9.0], dtype=F64), 0.3
    turn = torch.from_numpy(np.linalg.qr(normal(3, 3).numpy())[0])
    H = turn @ torch.diag(h) @ turn.mT

    def step(x):
        return x - eta * torch.func.grad(lambda y: (y @ H @ y) / 2)(x)

    s = lyapunov_spectrum(step, normal(3), n=50, transient=100)
    torch.testing.assert_close(s.exponents, (1 - eta * h).abs().log().sort(descending=True)[0])


def test_gaussian_products_have_the_spectrum_of_newman():
    """λ_i = ½[ln 2σ² + ψ((N−i+1)/2)], L Var λ_i = ψ'((N−i+1)/2)/4 :cite:`newman1986`."""
    N, L, B = 5, 60, 200
    s = matrix_product_spectrum(normal(L, B, N, N))
    half = (N - np.arange(N)) / 2
    exact = (np.log(2) + digamma(half)) / 2
    error = np.sqrt(polygamma(1, half) / 4 / L / B)
    assert (np.abs(s.exponents.mean(0).numpy() - exact) < 4 * error).all()
    spread = s.exponents.std(0).numpy() / np.sqrt(polygamma(1, half) / 4 / L)
    assert (np.abs(spread - 1) < 4 / math.sqrt(2 * B)).all()
    claimed = s.standard_errors.square().mean(0).sqrt().numpy()
    assert (np.abs(claimed / np.sqrt(polygamma(1, half) / 4 / L) - 1) < 0.15).all()


def test_symplectic_exponents_come_in_pairs():
    """Coupled pendulums; the pairs are exact for the time-reversed product only in the mean."""

    def force(q):
        return -q.sin() - (q - q.roll(1, -1)).sin() - (q - q.roll(-1, -1)).sin()

    x0 = normal(64, 6) * 1.5
    s = lyapunov_spectrum(leapfrog(force, 0.2), x0, n=400, dt=0.2, transient=200)
    assert s.exponents[:, 0].mean() > 0.02
    pairs = (s.exponents + s.exponents.flip(-1)).mean(0)
    assert pairs.abs().max() < 0.02
    torch.testing.assert_close(s.exponents.sum(-1), torch.zeros(64, dtype=F64), atol=1e-12, rtol=0)


def test_layers_of_a_network_are_the_product_of_their_jacobians():
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(3, 3), nn.Tanh())]).double()
    x = normal(5, 3)
    h = tangent_product(layers(net), x, 2)
    assert h.x.shape == (5, 5, 3) and h.Q.shape == (5, 5, 3, 2) and h.R.shape == (4, 5, 2, 2)
    torch.testing.assert_close(h.x[-1], net(x).detach(), rtol=0, atol=0)
    J = torch.stack([torch.func.jacfwd(net)(y) for y in x]).detach()
    product = h.R[3] @ h.R[2] @ h.R[1] @ h.R[0]
    torch.testing.assert_close(J @ h.Q[0], h.Q[-1] @ product)
    assert not any(v.requires_grad for v in (h.x, h.Q, h.R))


# --- the tangent ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape, k", [((3,), 3), ((4, 3), 2), ((2, 4, 3), 1)])
@pytest.mark.parametrize("grad", [True, False])
def test_the_tangent_is_that_of_forward_mode(shape, k, grad):
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3), nn.GELU()).double()
    x, Y = normal(*shape), normal(*shape, k)
    with torch.set_grad_enabled(grad):
        after, pushed = push_forward(net, x, Y)
    assert not after.requires_grad and not pushed.requires_grad
    torch.testing.assert_close(after, net(x).detach())
    for j in range(k):
        expected = torch.func.jvp(net, (x,), (Y[..., j],))[1].detach()
        torch.testing.assert_close(pushed[..., j], expected)


def test_steps_may_work_in_place_draw_at_random_or_be_flat():
    def in_place(x):
        x *= 2
        x[..., 0] += x[..., 1]
        return x

    x, Y = torch.ones(2, dtype=F64), torch.eye(2, dtype=F64)
    h = tangent_product(in_place, x, n=2, frame=Y)
    assert h.x.tolist() == [[1, 1], [4, 2], [12, 4]] and x.tolist() == [1, 1]
    torch.testing.assert_close(push_forward(in_place, x, Y)[1], Y.new_tensor([[2.0, 2], [0, 2]]))
    generator = torch.Generator().manual_seed(0)
    s = lyapunov_spectrum(lambda x: x * torch.rand((), generator=generator, dtype=F64), x, n=50)
    draws = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=F64)
    torch.testing.assert_close(s.exponents, draws.log().mean().expand(2))
    assert (push_forward(torch.sign, x, Y)[1] == 0).all()


# --- resuming, spacing, batching ------------------------------------------------------------


@pytest.mark.parametrize("qr_every", [1, 3])
def test_two_halves_are_one_run_to_the_bit(qr_every):
    x0 = attractor(3, 2)
    whole = tangent_product(henon, x0, n=30, transient=5, qr_every=qr_every)
    first = tangent_product(henon, x0, n=12, transient=5, qr_every=qr_every)
    second = tangent_product(henon, first.x[-1], n=18, frame=first.Q[-1], qr_every=qr_every)
    for name in ("x", "Q", "R"):
        a, b, c = (getattr(h, name) for h in (whole, first, second))
        assert torch.equal(a, torch.cat([b, c if name == "R" else c[1:]]))


def test_a_spectrum_goes_on_from_where_it_ended_to_the_bit():
    x0 = attractor(3, 2)
    whole = lyapunov_spectrum(henon, x0, n=30, qr_every=3)
    first = lyapunov_spectrum(henon, x0, n=12, qr_every=3)
    second = lyapunov_spectrum(henon, first.x, n=18, qr_every=3, frame=first.frame)
    assert torch.equal(whole.growth, torch.cat([first.growth, second.growth]))
    assert torch.equal(whole.x, second.x) and torch.equal(whole.frame, second.frame)


def test_a_resumed_run_of_random_steps_sees_the_same_draws():
    def run(*lengths):
        generator, x, Q = torch.Generator().manual_seed(1), attractor(3, 2), None

        def step(x):
            return henon(x) * (1 - 0.1 * torch.rand((), generator=generator, dtype=F64))

        for n in lengths:
            h = tangent_product(step, x, n=n, frame=Q)
            x, Q = h.x[-1], h.Q[-1]
        return x, Q

    assert all(map(torch.equal, run(30), run(10, 20)))


def test_orthonormalising_less_often_leaves_the_spectrum():
    x0 = attractor(4, 2)
    often = lyapunov_spectrum(henon, x0, n=60, transient=7)
    seldom = lyapunov_spectrum(henon, x0, n=60, transient=7, qr_every=4)
    assert seldom.growth.shape == (15, 4, 2) and seldom.qr_every == 4
    torch.testing.assert_close(seldom.exponents, often.exponents, rtol=0, atol=1e-9)


@given(seed=st.integers(0, 10**6), k=st.integers(1, 4), c=st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_rotation_leaves_the_spectrum_scaling_shifts_it_and_a_batch_is_its_members(seed, k, c):
    A, B = normal(12, 3, 4, 4, seed=seed), normal(4, 4, seed=seed + 1).numpy()
    turn = torch.from_numpy(np.linalg.qr(B)[0])
    frame = torch.eye(4, dtype=F64)[:, :k]
    s = matrix_product_spectrum(A, frame=frame.expand(3, 4, k)).exponents
    turned = matrix_product_spectrum(turn @ A @ turn.mT, frame=(turn @ frame).expand(3, 4, k))
    torch.testing.assert_close(turned.exponents, s, rtol=1e-7, atol=1e-7)
    scaled = matrix_product_spectrum(c * A, frame=frame.expand(3, 4, k))
    torch.testing.assert_close(scaled.exponents, s + math.log(c), rtol=1e-7, atol=1e-7)
    alone = torch.stack([matrix_product_spectrum(A[:, b], k).exponents for b in range(3)])
    torch.testing.assert_close(matrix_product_spectrum(A, k).exponents, alone)


def test_an_ensemble_is_its_members_each_with_its_own_parameter(device):
    a = torch.tensor([[1.2], [1.4]], dtype=F64, device=device)

    def make(a):
        return lambda x: torch.cat([1 - a * x[..., :1] ** 2 + x[..., 1:], 0.3 * x[..., :1]], -1)

    x0 = attractor(2, 2).to(device)
    together = lyapunov_spectrum(make(a), x0, n=40)
    alone = [lyapunov_spectrum(make(a[i]), x0[i], n=40).exponents for i in range(2)]
    torch.testing.assert_close(together.exponents, torch.stack(alone))
    one_state = lyapunov_spectrum(torch.vmap(henon), x0, n=40).exponents
    torch.testing.assert_close(one_state, lyapunov_spectrum(henon, x0, n=40).exponents)


def test_neither_the_factors_nor_their_triangles_are_kept():
    """At the last of 60 factors few 16 × 16 matrices are alive."""
    alive = 0

    def drawn():
        nonlocal alive
        for count in range(60):
            if count == 59:
                tensors = [t for t in gc.get_objects() if isinstance(t, torch.Tensor)]
                storages = {t.data_ptr(): t.untyped_storage().nbytes() for t in tensors}
                alive = sum(size == 16 * 16 * 8 for size in storages.values())
            yield 2 * torch.eye(16, dtype=F64)

    s = matrix_product_spectrum(drawn())
    torch.testing.assert_close(s.exponents, torch.full((16,), math.log(2), dtype=F64))
    assert alive < 10


def test_a_long_run_keeps_numbers_and_few_tensors():
    """Growth ln 1, …, ln 2500: two thousand of them are in two tensors when the last comes."""
    alive = []

    def drawn():
        for count in range(1, 2501):
            if count in (1, 2500):
                alive.append(sum(isinstance(t, torch.Tensor) for t in gc.get_objects()))
            yield torch.full((1, 1), count, dtype=F64)

    growth = matrix_product_spectrum(drawn()).growth[:, 0]
    torch.testing.assert_close(growth, torch.arange(1, 2501, dtype=F64).log())
    assert alive[1] - alive[0] < 600


def test_single_precision_is_a_choice_and_the_leading_exponent_survives_it():
    x0 = attractor(20, 2)
    s = lyapunov_spectrum(henon, x0.float(), n=20)
    assert s.exponents.dtype == s.growth.dtype == torch.float32
    double = lyapunov_spectrum(henon, x0.float().double(), n=20)
    torch.testing.assert_close(s.exponents.double(), double.exponents, rtol=0, atol=0.02)


# --- singular, overflowing, refused ---------------------------------------------------------


@pytest.mark.parametrize("method", ["householder", "gram-schmidt"])
def test_a_singular_product_has_exponent_minus_infinity_and_no_nan(method):
    A = normal(30, 2, 4, 4)
    A[7, 1, :, 0] = A[7, 1, :, 1] + A[7, 1, :, 2]
    s = matrix_product_spectrum(A, method=method)
    assert s.exponents[0].isfinite().all() and s.exponents[1, :3].isfinite().all()
    assert s.exponents[1, 3] == -math.inf and s.growth[7, 1, 3] == -math.inf
    assert s.running[:7].isfinite().all() and (s.running[7:, 1, 3] == -math.inf).all()
    assert s.standard_errors[1, 3] == 0 and s.standard_errors.isfinite().all()
    dead = lyapunov_spectrum(torch.relu, -torch.ones(3, dtype=F64), n=4)
    assert (dead.exponents == -math.inf).all()


def test_standard_errors_need_four_rows():
    s = lyapunov_spectrum(henon, attractor(1, 2)[0], n=3)
    with pytest.raises(ValueError, match="at least 4 rows of growth, got 3: run longer"):
        _ = s.standard_errors
    growth = torch.tensor([9.0, 0, 2, 4, 6, 1, 1, 3, 3], dtype=F64)[:, None]
    by_hand = torch.tensor([1.0, 5, 1, 3]).double().std() / 2
    torch.testing.assert_close(Spectrum(growth.mean(0), growth).standard_errors[0], by_hand)


def test_an_orbit_that_diverges_is_told_from_a_tangent_that_overflows():
    x = torch.ones(2, dtype=F64)
    with pytest.raises(LyapunovError, match="the orbit left the finite numbers at step 2, inf"):
        lyapunov_spectrum(lambda x: 1e200 * x, x, n=5)
    with pytest.raises(
        LyapunovError, match=r"tangent.* at step 2.*orbit did not.*qr_every.*than 3"
    ):
        lyapunov_spectrum(lambda x: 1e200 * x, 0 * x, n=6, qr_every=3)
    s = lyapunov_spectrum(lambda x: 1e200 * x, 0 * x, n=6)
    torch.testing.assert_close(s.exponents, torch.full((2,), math.log(1e200), dtype=F64))
    with pytest.raises(LyapunovError, match=r"at step 1.*no derivative there"):
        lyapunov_spectrum(lambda x: x.abs().sqrt(), 0 * x, n=2)
    with pytest.raises(LyapunovError, match="tangent left the finite numbers at step 2"):
        matrix_product_spectrum([torch.eye(2), torch.full((2, 2), math.nan)])
    with pytest.raises(LyapunovError, match="tangent overflows at step 1"):
        long = torch.full((2, 2), 1.7e308, dtype=F64)
        matrix_product_spectrum([long], frame=torch.eye(2, dtype=F64))
    with pytest.raises(
        LyapunovError, match=r"collapsed within the 9 steps before step 9.*qr_every=1"
    ):
        A = torch.tensor([[1.0, 0], [0, 1e-3]], dtype=F64)
        lyapunov_spectrum(linear(A), 0 * x, n=9, qr_every=9)


X, X2 = normal(3), normal(4, 2)


def spectrum(step=torch.tanh, x0=X, k=None, n=4, **kw):
    return lyapunov_spectrum(step, x0, k, n=n, **kw)


A = normal(6, 3, 3)


@pytest.mark.parametrize(
    "error, call, words",
    [
        (ValueError, lambda: spectrum(k=4), "k must be an integer ≥ 1 and ≤ 3, got 4"),
        (ValueError, lambda: spectrum(k=0), "k must be an integer ≥ 1"),
        (ValueError, lambda: spectrum(n=None), r"n must be given.*steps=layers\(network\)"),
        (ValueError, lambda: spectrum(n=0), "n must be an integer ≥ 1, got 0"),
        (ValueError, lambda: spectrum(n=5, qr_every=2), r"multiple of qr_every \(2\); got 5 steps"),
        (ValueError, lambda: spectrum(qr_every=0), "qr_every must be an integer ≥ 1"),
        (ValueError, lambda: spectrum(transient=-1), "transient must be an integer ≥ 0"),
        (ValueError, lambda: spectrum(dt=0.0), "dt must be a positive number, got 0.0"),
        (ValueError, lambda: spectrum(method="qr"), "method must be auto, householder or gram"),
        (TypeError, lambda: spectrum(x0=X.int()), "x0 must be a float32 or float64.*int32"),
        (ValueError, lambda: spectrum(x0=X / 0), "x0 must be finite"),
        (TypeError, lambda: spectrum(3), "steps must be a map or an iterable of maps, got 3"),
        (TypeError, lambda: spectrum([torch.tanh, 2]), "step 2 must be a function.*got 2"),
        (ValueError, lambda: spectrum([torch.tanh] * 3), r"transient \+ n = 4 maps, got 3"),
        (ValueError, lambda: spectrum([]), r"transient \+ n = 4 maps, got 0"),
        (ValueError, lambda: spectrum([], n=None), "more steps than the transient.*got 0 steps"),
        (ValueError, lambda: spectrum([torch.tanh] * 3, n=None, transient=3), r"transient \(3\)"),
        (ValueError, lambda: spectrum(lambda x: x[:2]), r"step 1 must keep the shape.*\(3,\) to"),
        (ValueError, lambda: spectrum([torch.tanh, lambda x: x[:2]], n=2), "step 2 must keep the"),
        (ValueError, lambda: spectrum(lambda x: x[None]), r"\(3,\) to \(1, 3\)"),
        (TypeError, lambda: spectrum(lambda x: x.float()), "step 1 must keep dtype.*float32"),
        (TypeError, lambda: spectrum(lambda x: x.tolist()), "step 1 must return a tensor, got"),
        (
            ValueError,
            lambda: spectrum(lambda x: x.detach()),
            "step 1 must be differentiable.*detach",
        ),
        (ValueError, lambda: spectrum(torch.no_grad()(torch.tanh)), "no_grad"),
        (
            ValueError,
            lambda: spectrum(lambda x: x - x.mean(0), X2),
            "steps must not mix the members",
        ),
        (ValueError, lambda: spectrum(lambda x: x.cumsum(0), X2), r"x0 of shape \(4, 2\)"),
        (ValueError, lambda: spectrum(lambda x: x.flip(0), X2.expand(4, 2)), "torch.vmap a step"),
        (ValueError, lambda: spectrum(frame=X), r"frame must have shape \(3, 1\)|frame must have"),
        (ValueError, lambda: spectrum(frame=A[0]), "frame must have orthonormal.*orthonormalize"),
        (ValueError, lambda: spectrum(frame=torch.eye(3).double() / 2), "differs from 1 by 0.75"),
        (ValueError, lambda: spectrum(frame=torch.eye(3).double()[:2]), r"shape \(3, 3\), got \(2"),
        (TypeError, lambda: spectrum(frame=torch.eye(3)), r"frame must be torch.float64.*frame.to"),
        (TypeError, lambda: spectrum(generator=3), "generator must be a torch.Generator.*got 3"),
        (ValueError, lambda: push_forward(torch.tanh, X, A[0, :2]), r"\(3, 'k'\), got \(2, 3\)"),
        (TypeError, lambda: matrix_product_spectrum(3), "tensor or an iterable of them, got 3"),
        (ValueError, lambda: matrix_product_spectrum([]), "at least one factor"),
        (ValueError, lambda: matrix_product_spectrum(A[:, :2]), r"must be square.*\(2, 3\)"),
        (ValueError, lambda: matrix_product_spectrum([A[0], A[1, :2, :2]]), r"alike.*\(2, 2\)"),
        (ValueError, lambda: matrix_product_spectrum([A[0], 3]), "alike.*got 3"),
        (TypeError, lambda: matrix_product_spectrum(A.int()), r"matrices\[0\] must be a float32"),
        (ValueError, lambda: matrix_product_spectrum(A, 4), "k must be an integer ≥ 1 and ≤ 3"),
    ],
)
def test_what_has_no_exponents_is_refused_in_words(error, call, words):
    with pytest.raises(error, match=words):
        call()
