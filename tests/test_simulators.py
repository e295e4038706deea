import math

import pytest
import torch

from dynbook.simulators import learned_simulator, p_values


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def system(n=7, r=3, points=60, *, seed=1, dtype=torch.float64, device="cpu"):
    """A map A, data within a subspace that A keeps, their covariance, and a basis of the rest."""
    g = generator(seed)
    frame = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64)).Q
    seen, unseen = frame[:, :r], frame[:, r:]
    truth = seen @ torch.randn(r, r, generator=g, dtype=torch.float64) @ seen.T / 2
    x = torch.randn(points, r, generator=g, dtype=torch.float64) @ seen.T
    made = truth, x, x.T @ x / points, unseen
    return tuple(a.to(device, dtype) for a in made)


def weights(*shape, seed=2):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64) / 2


EYE = torch.eye(7, dtype=torch.float64)


def ascending(values):
    return torch.tensor(sorted(values.tolist(), key=lambda z: (round(z.real, 6), z.imag)))


def test_autograd_and_torch_optim_arrive_where_the_formula_says(device):
    truth, x, covariance, _ = system(device=device)
    start = weights(7, 7).to(device)
    layer = torch.nn.Linear(7, 7, bias=False, dtype=torch.float64, device=device)
    layer.weight.data.copy_(start)
    descent = torch.optim.SGD(layer.parameters(), lr=0.3)
    for _ in range(37):
        descent.zero_grad()
        loss = (layer(x) - x @ truth.T).square().sum(1).mean() / 2
        loss.backward()
        descent.step()
    W = learned_simulator(start, truth, covariance, lr=0.3, steps=37)
    torch.testing.assert_close(W, layer.weight.detach(), rtol=1e-11, atol=1e-13)
    assert W.device.type == device


def test_descent_on_the_mean_over_noise_is_the_recursion_of_the_formula():
    truth, _, C, _ = system()
    W = start = weights(7, 7)
    for _ in range(25):
        W = W - 0.2 * (W @ (C + 0.3**2 * EYE) - truth @ C)
    ours = learned_simulator(start, truth, C, noise=0.3, lr=0.2, steps=25)
    torch.testing.assert_close(ours, W, rtol=1e-12, atol=1e-13)


def test_the_noise_that_is_drawn_has_that_mean():
    """Fresh noise in every step of a long training, averaged: within four standard errors."""
    truth, x, C, _ = system()
    g, W, ends = generator(5), weights(7, 7), []
    for step in range(6000):
        noisy = x + 0.4 * torch.randn(x.shape, generator=g, dtype=x.dtype)
        W = W - 0.05 * (noisy @ W.T - x @ truth.T).T @ noisy / len(x)
        if step >= 1000:
            ends.append(W)
    blocks = torch.stack(ends).view(20, 250, 7, 7).mean(1)
    limit = learned_simulator(weights(7, 7), truth, C, noise=0.4)
    z = (blocks.mean(0) - limit) / (blocks.std(0) / math.sqrt(20))
    assert z.abs().max() < 4.5
    assert (blocks.mean(0) - limit).norm() < 0.02 * limit.norm()


def test_with_noise_every_start_ends_in_ridge_regression():
    truth, x, C, _ = system()
    ends = learned_simulator(weights(4, 7, 7), truth, C, noise=0.5)
    rows = torch.cat([x / math.sqrt(len(x)), 0.5 * EYE])  # ridge as a longer least squares
    aims = torch.cat([x @ truth.T / math.sqrt(len(x)), 0 * EYE])
    ridge = torch.linalg.lstsq(rows, aims).solution.T
    torch.testing.assert_close(ends, ridge.expand(4, 7, 7), rtol=1e-10, atol=1e-12)


def test_its_eigenvalues_are_those_of_the_truth_and_of_the_compressed_start():
    truth, x, C, unseen = system()
    start = weights(7, 7)
    seen = torch.linalg.svd(x, full_matrices=False).Vh[:3].T
    learned = torch.linalg.eigvals(learned_simulator(start, truth, C))
    blocks = seen.T @ truth @ seen, unseen.T @ start @ unseen
    expected = torch.cat([torch.linalg.eigvals(block) for block in blocks])
    torch.testing.assert_close(ascending(learned), ascending(expected), rtol=1e-9, atol=1e-9)


def test_where_there_are_no_data_the_start_remains_and_noise_forgets_it():
    truth, x, C, unseen = system()
    start = weights(7, 7)
    for steps in (0, 1, 1000, math.inf):
        W = learned_simulator(start, truth, C, lr=0.3, steps=steps)
        torch.testing.assert_close(W @ unseen, start @ unseen, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        learned_simulator(start, truth, C) @ x.T, truth @ x.T, rtol=1e-12, atol=1e-12
    )
    W = learned_simulator(start, truth, C, noise=0.2, lr=0.3, steps=50)
    torch.testing.assert_close(W @ unseen, (1 - 0.3 * 0.04) ** 50 * start @ unseen)
    assert (learned_simulator(start, truth, C, noise=1e-6) @ unseen).abs().max() < 1e-12


def test_what_the_truth_does_without_data_does_not_matter():
    truth, _, C, unseen = system()
    other = truth + weights(7, 4) @ unseen.T
    for more in ({}, {"noise": 0.3}, {"noise": 0.1, "lr": 0.2, "steps": 9}):
        a, b = (learned_simulator(weights(7, 7), t, C, **more) for t in (truth, other))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_one_mode_by_hand():
    """n = 1, s_k = 4, s = 1, η = 0.1: f = (1 − 0.5)³ and W = f·2 + (1 − f)·0.8·0.9."""
    W0, A, C = (torch.tensor([[v]], dtype=torch.float64) for v in (2.0, 0.9, 4.0))
    W = learned_simulator(W0, A, C, noise=1, lr=0.1, steps=3)
    assert W.item() == pytest.approx(0.125 * 2 + 0.875 * 0.72, rel=1e-14)


def test_an_ensemble_is_its_members_and_many_steps_are_the_end():
    truth, _, C, _ = system()
    starts = weights(2, 3, 7, 7)
    together = learned_simulator(starts, truth, C, noise=0.1, lr=0.3, steps=11)
    alone = learned_simulator(starts[1, 2], truth, C, noise=0.1, lr=0.3, steps=11)
    torch.testing.assert_close(together[1, 2], alone)
    late = learned_simulator(starts, truth, C, noise=0.1, lr=0.3, steps=10**6)
    torch.testing.assert_close(late, learned_simulator(starts, truth, C, noise=0.1))


def test_single_precision_knows_its_empty_directions_too():
    truth, _, C, unseen = system(dtype=torch.float32)
    start = weights(7, 7).float()
    W = learned_simulator(start, truth, C, lr=0.3, steps=10**5)
    assert W.dtype == torch.float32
    torch.testing.assert_close(W @ unseen, start @ unseen, rtol=1e-4, atol=1e-4)
    still = learned_simulator(start, truth, torch.zeros(7, 7))
    torch.testing.assert_close(still, start)


def test_a_small_energy_is_learned_and_rounding_is_not():
    """Energies 1, 10⁻¹² and, below 2ε of the largest, 10⁻¹⁶."""
    for energy, expected in ((1e-12, 3.0), (1e-16, 7.0)):
        C = torch.diag(torch.tensor([1.0, energy], dtype=torch.float64))
        W = learned_simulator(7 * EYE[:2, :2], 3 * EYE[:2, :2], C)
        torch.testing.assert_close(W.diagonal(), torch.tensor([3.0, expected]).double())


def test_the_stated_limit_of_the_rate_is_where_training_turns():
    truth, _, C, _ = system()
    start = weights(7, 7)
    limit = 2 / (torch.linalg.eigvalsh(C)[-1].item() + 0.3**2)
    ends = []
    for lr in (0.999 * limit, 1.001 * limit):
        W = start
        for _ in range(4000):
            W = W - lr * (W @ (C + 0.09 * EYE) - truth @ C)
        ends.append((W - learned_simulator(start, truth, C, noise=0.3)).norm())
    assert ends[0] < 1e-2 < 100 < ends[1]
    learned_simulator(start, truth, C, noise=0.3, lr=0.999 * limit, steps=5)
    with pytest.raises(ValueError, match=f"= {limit:.4g}, from where on training diverges"):
        learned_simulator(start, truth, C, noise=0.3, lr=1.001 * limit, steps=5)


# The significance test.


def test_p_values_by_hand():
    null = torch.tensor([[1.0, 2.0], [2.0, 5.0]])
    d = torch.tensor([0.0, 1.0, 2.0, 3.0, 5.0, 6.0])
    expected = torch.tensor([5, 5, 4, 2, 2, 1], dtype=torch.float64) / 5
    torch.testing.assert_close(p_values(d, null), expected)
    assert p_values(d.view(2, 3), null).shape == (2, 3)
    assert p_values(torch.tensor(3.0), null) == 0.4


def test_a_value_drawn_like_the_null_has_a_uniform_p():
    """K + 1 values in random order: each rank is equally likely, whatever they are drawn from."""
    draws = torch.randn(20000, 20, generator=generator(3), dtype=torch.float64).exp()
    p = torch.stack([p_values(row[:1], row[1:])[0] for row in draws])
    counts = torch.bincount((20 * p).round().long(), minlength=21)[1:]
    assert ((counts - 1000).square() / 1000).sum() < 43.8  # χ² with 19 degrees of freedom, 0.1 %
    assert (p <= 0.05).double().mean() == pytest.approx(0.05, abs=0.006)


def test_ties_make_the_test_reject_less_and_never_more():
    same = torch.zeros(50)
    assert (p_values(same, same) == 1).all()


TRUTH, X, C, _ = system()
START = weights(7, 7)


def go(start=START, truth=TRUTH, covariance=C, **more):
    return learned_simulator(start, truth, covariance, **more)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: go(start=START.tolist()), TypeError, "start must be a float32 or float64"),
        (lambda: go(start=START[:3]), ValueError, r"start must be square.*got \(3, 7\)"),
        (lambda: go(start=START[0]), ValueError, r"start must be square.*got \(7,\)"),
        (lambda: go(start=START / 0), ValueError, "start must be finite"),
        (lambda: go(truth=TRUTH[:2]), ValueError, r"truth must have shape \(7, 7\).*\(2, 7\)"),
        (lambda: go(truth=TRUTH.float()), TypeError, r"truth must have dtype.*truth\.to\(start\)"),
        (lambda: go(covariance=C[:6, :6]), ValueError, r"covariance must have shape \(7, 7\)"),
        (lambda: go(covariance=C + C.triu(1)), ValueError, r"symmetric, but its entries \(\d"),
        (lambda: go(covariance=-C), ValueError, "covariance must have no negative eigenvalue"),
        (lambda: go(covariance=C * math.nan), ValueError, "covariance must be finite"),
        (lambda: go(noise=-0.1), ValueError, "noise must be ≥ 0 and finite, got -0.1"),
        (lambda: go(noise=math.inf), ValueError, "noise must be ≥ 0 and finite"),
        (lambda: go(noise="0.1"), ValueError, "noise must be ≥ 0 and finite"),
        (lambda: go(noise=1e-170), ValueError, "noise must be 0 or have a square .*got 1e-170"),
        (lambda: go(noise=1e200), ValueError, "noise must be 0 or have a square .*got 1e\\+200"),
        (
            lambda: go(START.float(), TRUTH.float(), C.float(), noise=1e-25),
            ValueError,
            "square that torch.float32 can hold, 1.2e-38 …",
        ),
        (lambda: go(steps=10**20, lr=0.1), ValueError, "steps must be an integer ≥ 0 and ≤ 90071"),
        (lambda: go(steps=5), TypeError, "lr must be a number for a finite number of steps"),
        (lambda: go(steps=5, lr=0), ValueError, "lr must lie between 0 and"),
        (lambda: go(steps=5, lr=math.nan), ValueError, "lr must lie between 0 and"),
        (lambda: go(lr=1e9), ValueError, r"from where on training diverges, got 1e\+09"),
        (lambda: go(steps=2.5, lr=0.1), ValueError, "steps must be an integer ≥ 0"),
        (lambda: go(steps=-1, lr=0.1), ValueError, "steps must be an integer ≥ 0"),
        (lambda: p_values([1.0], X), TypeError, "statistic must be a tensor of real numbers"),
        (lambda: p_values(X, X.long()), TypeError, "null must be a tensor of real numbers"),
        (lambda: p_values(X, X[:0]), ValueError, "null must hold at least one value"),
        (lambda: p_values(X / 0, X), ValueError, "statistic must be finite.*that diverged"),
        (lambda: p_values(X, X * math.nan), ValueError, "null must be finite"),
    ],
)
def test_refusals_name_the_argument_and_the_remedy(call, error, words):
    with pytest.raises(error, match=words):
        call()
