import math

import pytest
import torch
from torch import nn

from dynbook.descent import module_loss
from dynbook.lyapunov import lyapunov_spectrum
from dynbook.maps import gradient_descent
from dynbook.three_layer import ThreeLayer
from dynbook.transients import WIDE, training_exponents


def normal(*shape, seed=0, device="cpu"):
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(device)


def problem(device="cpu"):
    return ThreeLayer(normal(9, 2, seed=1, device=device), normal(9, seed=2, device=device), 3)


def oracle(loss):
    """The same loss by torch's own modules."""
    network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).to(loss.x)
    return module_loss(network, lambda f, y: nn.functional.mse_loss(f[:, 0], y) / 2, loss.x, loss.y)


def test_windows_are_stretches_of_the_spectrum_that_autograd_finds(device):
    loss = problem(device)
    starts = normal(4, loss.size, seed=3, device=device)
    run = training_exponents(loss, starts, 0.2, n=60, window=20, qr_every=5)
    by_torch = oracle(loss)
    x, Q = starts, None
    for window in range(3):
        part = lyapunov_spectrum(gradient_descent(by_torch, 0.2), x, n=20, frame=Q)
        x, Q = part.x, part.frame
        torch.testing.assert_close(run.exponents[window], part.exponents, rtol=0, atol=1e-9)
        torch.testing.assert_close(run.theta[window + 1], x)
    assert run.steps.tolist() == [0, 20, 40, 60]
    torch.testing.assert_close(run.loss, torch.stack([by_torch(theta) for theta in run.theta]))
    assert (run.diverged == -1).all()


def test_at_rest_exponents_are_logarithms_of_the_eigenvalues():
    """At A = b = w = 0, c the mean of y, descent stands still; d = 1 gives eigenvalues by hand."""
    loss = ThreeLayer(normal(9, 1, seed=1), normal(9, seed=2), 2)
    rest = torch.cat([torch.zeros(6), loss.y.mean()[None]]).double()[None]
    m = ((loss.y.mean() - loss.y) * loss.x[:, 0]).mean().abs().item()
    run = training_exponents(loss, rest, 0.3, n=4000, window=2000)
    by_hand = [math.log(1 - 0.3 * h) for h in (-m, -m, 0, 0, m, m, 1)]
    torch.testing.assert_close(
        run.exponents[1, 0], torch.tensor(by_hand, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_the_loss_must_know_its_derivatives():
    with pytest.raises(TypeError, match=r"loss must have derivatives\(theta\), as ThreeLayer does"):
        training_exponents(lambda t: t.sum(-1), normal(3, 13), 0.1, n=20, window=20)


def test_a_batch_is_its_members():
    loss = problem()
    starts = normal(3, loss.size, seed=4)
    together = training_exponents(loss, starts, 0.2, n=40, window=20)
    for i in range(3):
        alone = training_exponents(loss, starts[i : i + 1], 0.2, n=40, window=20)
        torch.testing.assert_close(
            together.exponents[:, i], alone.exponents[:, 0], atol=1e-12, rtol=0
        )


def test_a_run_goes_on_to_the_bit():
    loss = problem()
    whole = training_exponents(loss, normal(3, loss.size), 0.2, n=60, window=20)
    first = training_exponents(loss, normal(3, loss.size), 0.2, n=40, window=20)
    rest = training_exponents(loss, first.theta[-1], 0.2, n=20, window=20, frame=first.frame)
    assert torch.equal(whole.exponents[2:], rest.exponents)
    assert torch.equal(whole.theta[-1], rest.theta[-1])


def test_who_diverges_is_named_and_the_others_go_on():
    loss = problem()
    starts, lr = normal(5, loss.size, seed=6), torch.full((5, 1), 0.1, dtype=torch.float64)
    tame = training_exponents(loss, starts, lr, n=200, window=20)
    lr[1], lr[3] = 50, 20
    wild = training_exponents(loss, starts, lr, n=200, window=20)
    others, slope = [0, 2, 4], torch.func.grad(oracle(loss))
    assert torch.equal(wild.theta[:, others], tame.theta[:, others])
    torch.testing.assert_close(
        wild.exponents[:, others], tame.exponents[:, others], rtol=0, atol=1e-9
    )
    assert (wild.diverged[others] == -1).all()
    for i in (1, 3):
        named = wild.diverged[i].item()
        theta = starts[i]
        for _ in range(named - 1):
            theta = theta - lr[i] * slope(theta)
        after = theta - lr[i] * slope(theta)
        size = after.abs().max() + (lr[i] * torch.func.jacrev(slope)(theta)).abs().max()
        assert theta.abs().max() < 1e124 and size > 1e122
        assert wild.theta[named // 20 + 1 :, i].isnan().all() and wild.loss[-1, i].isnan()
        assert wild.exponents[named // 20 + 1 :, i].isnan().all()
        assert wild.theta[: (named - 1) // 20 + 1, i].isfinite().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 50}, "n must be a multiple of window"),
        ({"qr_every": 7}, "window of qr_every, got 60, 20 and 7"),
        ({"window": 0}, "window must be an integer"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"lr": torch.ones(3)}, r"use lr\[:, None\]"),
        ({"lr": torch.ones(4, 1)}, r"lr must fit .* \(3, 13\), got shape \(4, 1\)"),
        ({"theta0": normal(13)}, r"theta0 must have shape \(M, p\)"),
        ({"theta0": normal(3, 12)}, r"theta must have shape \(\.\.\., 13\)"),
        ({"theta0": normal(3, 13) / 0}, "x0 must be finite"),
        ({"k": 14}, "k must be an integer"),
    ],
)
def test_bad_input_is_refused_in_words(change, words):
    arguments = {"theta0": normal(3, 13), "lr": 0.1, "n": 60, "window": 20} | change
    with pytest.raises(ValueError, match=words):
        training_exponents(problem(), **arguments)


class Whole:
    """A loss of which no more is known than its derivatives."""

    def __init__(self, loss):
        self.loss, self.derivatives = loss, loss.derivatives

    def __call__(self, theta):
        return self.loss(theta)


@pytest.mark.parametrize("rate", [0.02, "column"])
def test_few_tangents_of_many_parameters_by_products_are_those_by_hessians(rate, device):
    """Members 1 and 3 diverge; the others do not notice."""
    loss = ThreeLayer(normal(30, 2, seed=1, device=device), normal(30, seed=2, device=device), 20)
    assert loss.size > WIDE
    starts = normal(5, loss.size, seed=3, device=device)
    starts[1, 0], starts[3, -25:] = 1e200, 1e100  # too large at once; its gradient is
    lr = 0.02 if rate == 0.02 else torch.linspace(0.01, 0.03, 5, device=device)[:, None].double()
    by_products, by_hessians = (
        training_exponents(one, starts, lr, n=40, window=20, k=3) for one in (loss, Whole(loss))
    )
    for name, value in vars(by_hessians).items():
        torch.testing.assert_close(
            getattr(by_products, name), value, rtol=1e-10, atol=1e-10, equal_nan=True
        )
    assert by_products.diverged.sign().tolist() == [-1, 1, -1, 1, -1]
