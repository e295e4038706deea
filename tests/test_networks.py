import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynbook.modes import error_decay, halving_steps, training_modes
from dynbook.networks import (
    DivergenceError,
    midpoints,
    relu_network,
    relu_network_gradients,
    tangent_kernel,
    train,
)

DTYPES = {torch.float32: 2e-5, torch.float64: 1e-13}


def plain_network(a, b, x):
    """The defining sum, every neuron at every point."""
    ridge = (x[:, None] - b[..., None, :]).relu()
    return (ridge * a[..., None, :]).sum(-1) / math.sqrt(a.shape[-1])


def random_network(n, N, batch=(), *, seed=0, dtype=torch.float64, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(*batch, n, generator=g, dtype=dtype)
    b = 1.2 * (2 * torch.rand(*batch, n, generator=g, dtype=dtype) - 1)
    x = (2 * torch.rand(N, generator=g, dtype=dtype) - 1).sort().values
    f = torch.randn(*batch, N, generator=g, dtype=dtype)
    return tuple(t.to(device) for t in (a, b, x, f))


def paired_network(n, *, outer=1.0):
    """n neurons in pairs ±outer on n/2 equispaced kinks: zero as a function, not as features."""
    sign = torch.tensor([outer, -outer], dtype=torch.float64).repeat(n // 2)
    return sign, midpoints(n // 2).repeat_interleave(2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_running_sums_give_the_defining_sum_and_its_derivatives(dtype, device):
    a, b, x, r = random_network(37, 61, (2, 3), dtype=dtype, device=device)
    a.requires_grad_()
    b.requires_grad_()
    h = plain_network(a, b, x)
    (h * r).sum().backward()
    tolerance = {"rtol": DTYPES[dtype], "atol": 10 * DTYPES[dtype]}
    torch.testing.assert_close(relu_network(a, b, x), h, **tolerance)
    for ours, theirs in zip(
        relu_network_gradients(a.detach(), b.detach(), x, r), (a.grad, b.grad), strict=True
    ):
        assert ours.dtype == dtype and ours.device.type == device
        torch.testing.assert_close(ours, theirs, **tolerance)


def test_autograd_goes_through_the_running_sums():
    a, b, x, r = random_network(5, 9)
    a.requires_grad_()
    b.requires_grad_()
    (relu_network(a, b, x) * r).sum().backward()
    for ours, theirs in zip(
        relu_network_gradients(a.detach(), b.detach(), x, r), (a.grad, b.grad), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 10**6))
def test_neurons_have_no_order_and_a_batch_is_its_members(n, N, seed):
    a, b, x, _ = random_network(n, N, (3,), seed=seed)
    h = relu_network(a, b, x)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(relu_network(a[:, order], b[:, order], x), h)
    alone = torch.stack([relu_network(*member, x) for member in zip(a, b, strict=True)])
    torch.testing.assert_close(alone, h, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("place", [0, 1e6, -1e6])
def test_far_from_the_origin_no_digits_are_lost(place, dtype):
    """A shift that the numbers carry exactly changes nothing."""
    g = torch.Generator().manual_seed(1)
    b = torch.randint(-2, 18, (30,), generator=g) / 16
    x = torch.arange(17) / 16
    a, r = torch.randn(30, generator=g), torch.randn(17, generator=g)
    a, b, x, r = (t.to(dtype) for t in (a, b, x, r))
    there = (a, b + place, x + place)
    assert torch.equal(there[1] - place, b) and torch.equal(there[2] - place, x)
    h = (x.double()[:, None] - b.double()).relu() @ a.double() / math.sqrt(30)
    error = (relu_network(*there) - h).abs().max() / h.abs().max()
    assert error < DTYPES[dtype]
    for moved, exact in zip(
        relu_network_gradients(*there, r),
        relu_network_gradients(a.double(), b.double(), x.double(), r.double()),
        strict=True,
    ):
        torch.testing.assert_close(moved.double(), exact, rtol=0, atol=10 * DTYPES[dtype])


def test_a_kink_on_a_sample_does_not_act_on_it():
    """max(0, 0) = 0, with derivative 0 as in torch.relu."""
    x = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    assert relu_network(one, x[1:2], x).tolist() == [0, 0, 0.5]
    _, gradient_b = relu_network_gradients(one, x[1:2], x, torch.ones_like(x))
    assert gradient_b.item() == -1


def test_the_tangent_kernel_is_the_gram_matrix_of_the_gradients():
    a, b, x, _ = random_network(6, 8)
    gradients = torch.cat(relu_network_gradients(a, b, x, torch.eye(8, dtype=x.dtype)), -1)
    torch.testing.assert_close(tangent_kernel(a, b, x), gradients @ gradients.mT)


def test_with_fixed_biases_training_follows_the_closed_form():
    b, x = midpoints(120), midpoints(150)
    modes = training_modes(tangent_kernel(b, b, x, train_biases=False), 4)
    lr = 1 / (2 * modes.rates[0].item())
    run = train(torch.zeros_like(b), b, x, modes.functions, lr=lr, steps=300, train_biases=False)
    seen = torch.stack([-modes.coefficients(s.error).diagonal() for s in run])
    exact = error_decay(modes.rates, lr, torch.arange(301))
    torch.testing.assert_close(seen, exact, rtol=1e-9, atol=1e-11)


def test_small_targets_keep_trained_biases_on_the_linear_law():
    (a, b), x = paired_network(400), midpoints(400)
    modes = training_modes(tangent_kernel(a, b, x), 5)
    lr = 1 / (2 * modes.rates[0].item())
    run = train(a.expand(5, -1), b, x, 0.01 * modes.functions, lr=lr, steps=220)
    steps = halving_steps(torch.stack([modes.coefficients(s.error).diagonal() for s in run]))
    exact = math.log(2) / -torch.log1p(-lr * modes.rates)
    torch.testing.assert_close(steps, exact, rtol=2e-3, atol=0)


@pytest.mark.parametrize("train_biases", [True, False])
@pytest.mark.parametrize(
    ("method", "optimiser"), [("gd", torch.optim.SGD), ("adam", torch.optim.Adam)]
)
def test_updates_are_those_of_torch_optim_on_the_plain_network(method, optimiser, train_biases):
    a, b, x, f = random_network(11, 30, (2,))
    lr = 0.01
    run = list(train(a, b, x, f, lr=lr, steps=25, method=method, train_biases=train_biases))
    parameters = [a.clone().requires_grad_(), b.clone().requires_grad_(train_biases)]
    descent = optimiser([p for p in parameters if p.requires_grad], lr=lr)
    for _ in range(25):
        descent.zero_grad()
        ((plain_network(*parameters, x) - f) ** 2).mean(-1).sum().backward()
        descent.step()
    torch.testing.assert_close(run[-1].a, parameters[0].detach(), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(run[-1].b, parameters[1].detach(), rtol=1e-8, atol=1e-10)
    assert run[0].a is not run[-1].a and torch.equal(run[0].b, b)


def test_training_keeps_no_graph_of_its_steps():
    start = random_network(5, 9)
    for value in start:
        value.requires_grad_()
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    *_, state = train(*start, lr=lr, steps=3)
    assert not any(t.requires_grad for t in (state.a, state.b, state.error))
    assert start[0].requires_grad


def test_each_network_has_its_own_learning_rate():
    a, b, x, f = random_network(7, 20, (2,))
    rates = torch.tensor([0.1, 0.02], dtype=torch.float64)
    *_, together = train(a, b, x, f, lr=rates, steps=10)
    for i in range(2):
        *_, alone = train(a[i], b[i], x, f[i], lr=rates[i], steps=10)
        torch.testing.assert_close(together.b[i], alone.b)


def test_adam_s_first_step_pays_the_one_norm_of_the_gradient():
    """All parameters move by lr, so ⟨h, φ⟩ changes by lr ‖Jᵀφ‖₁ to first order."""
    (a, b), x = paired_network(400), midpoints(400)
    modes = training_modes(tangent_kernel(a, b, x), 4)
    _, first = train(a.expand(4, -1), b, x, modes.functions, lr=1e-7, steps=1, method="adam")
    change = modes.coefficients(first.error).diagonal() + 1
    ga, gb = relu_network_gradients(a, b, x, 2 / 400 * modes.functions)
    torch.testing.assert_close(change, 1e-7 * (ga.abs() + gb.abs()).sum(-1), rtol=2e-3, atol=0)


def test_divergence_names_the_step_and_the_rate_that_would_do():
    b, x = midpoints(50), midpoints(60)
    top = training_modes(tangent_kernel(b, b, x, train_biases=False), 1).rates.item()
    run = train(
        torch.zeros_like(b), b, x, torch.ones_like(x), lr=3 / top, steps=99, train_biases=False
    )
    with pytest.raises(DivergenceError, match=rf"at step \d+.*below 2/λ₁ = {2 / top:.4g}"):
        list(run)
    run = train(b / 50, b, x, 1e-3 * x, lr=1e200, steps=9, method="adam")
    with pytest.raises(DivergenceError, match=r"at step \d+.*take a smaller lr"):
        list(run)


A, B, X = torch.zeros(3), torch.zeros(3), torch.linspace(-1, 1, 5)
F, A1, TWO = torch.zeros(5), torch.ones(3), torch.ones(2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: relu_network(A[:0], B[:0], X), ValueError, "n ≥ 1 neurons"),
        (lambda: relu_network(A[:2], B, X), ValueError, "a, b and x must broadcast"),
        (lambda: relu_network(A.double(), B, X), TypeError, r"a must be.*a\.to\(x\)"),
        (lambda: relu_network(A.tolist(), B, X), TypeError, "a must be a tensor"),
        (lambda: relu_network(A.int(), B.int(), X.int()), TypeError, "floating point"),
        (lambda: relu_network(A, B, X.flip(0)), ValueError, r"ascending.*x\.sort\(\)"),
        (lambda: relu_network(A, B, X[:0]), ValueError, "non-empty"),
        (lambda: relu_network(A, B / 0, X), ValueError, "b must be finite"),
        (lambda: relu_network_gradients(A, B, X, F[:4]), ValueError, "residual must hold one"),
        (lambda: train(A, B, X, F / 0, lr=1, steps=1), ValueError, "target must be finite"),
        (lambda: train(A, B, X, F, lr=0, steps=1), ValueError, "lr must be positive"),
        (lambda: train(A, B, X, F, lr=torch.ones(2), steps=1), ValueError, "lr must be one"),
        (lambda: train(A, B, X, F, lr=1, steps=-1), ValueError, "steps must not"),
        (lambda: train(A, B, X, F, lr=1, steps=1, method="sgd"), ValueError, "gd, adam"),
        (lambda: train(A, B, X, F, lr=torch.tensor(0.0), steps=1), ValueError, "lr must be pos"),
        (lambda: train(A, B, X, F, lr=math.nan, steps=1), ValueError, "lr must be positive"),
        (lambda: train(A, B, X, F.expand(3, 5), lr=TWO, steps=1), ValueError, r"batch \(3,\)"),
        (lambda: train(A, B, X, F.expand(2, 5), lr=TWO[None], steps=1), ValueError, "lr must be"),
        (lambda: next(train(1e30 * A1, B, X, F, lr=1, steps=1)), ValueError, "overflows; scale"),
        (lambda: relu_network(A, B[:0], X), ValueError, "n ≥ 1 neurons"),
        (lambda: relu_network(A[0], B, X), ValueError, r"n ≥ 1 neurons; got \(\)"),
        (lambda: relu_network(A, B, X[None]), ValueError, "non-empty vector"),
        (lambda: relu_network(A, B, X.tolist()), TypeError, "x must be a tensor"),
        (lambda: relu_network(A, B.to("meta"), X), TypeError, r"b must be.*meta.*b\.to\(x\)"),
        (lambda: relu_network(A1 * 3e38, B, X * 2), ValueError, "overflows; scale them down"),
        (lambda: relu_network_gradients(A1, B, X, (F + 1) * 3e38), ValueError, "overflows"),
        (lambda: tangent_kernel(A1, B, X * 1e30), ValueError, "overflows"),
        (lambda: midpoints(0), ValueError, "n must be at least 1"),
    ],
)
def test_refusals_name_the_argument_and_the_remedy(call, error, words):
    with pytest.raises(error, match=words):
        call()
