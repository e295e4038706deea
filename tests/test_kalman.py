"""Oracles: normal equations, Sherman–Morrison, a rank, a fixed point, and what rounding does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dynbook.kalman import KalmanError, ensemble_kalman, extended_kalman

F64 = torch.float64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def line(theta, x):
    """Linear in θ, for any features x."""
    return (theta @ x)[None]


def regression(T=60, p=5, seed=0):
    g = seeded(seed)
    x = torch.randn(T, p, generator=g, dtype=F64)
    return x, x @ torch.arange(p, dtype=F64)[:, None] + torch.randn(T, 1, generator=g, dtype=F64)


def test_on_a_linear_model_it_is_ridge_regression(device):
    """θ = m + (XᵀX + (R/P₀) I)⁻¹ Xᵀ(y − Xm) and P = R (XᵀX + (R/P₀) I)⁻¹."""
    x, y = (v.to(device) for v in regression())
    m, R, P0 = torch.linspace(-1, 1, 5, dtype=F64, device=device), 0.3, 2.5
    identity = torch.eye(5, dtype=F64, device=device)
    found = extended_kalman(line, m, P0 * identity, x, y, R)
    X, t = x.cpu().numpy(), (y[:, 0] - x @ m).cpu().numpy()
    A = X.T @ X + R / P0 * np.eye(5)
    ridge = m.cpu().numpy() + np.linalg.solve(A, X.T @ t)
    np.testing.assert_allclose(found.mean.cpu(), ridge, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.cov.cpu(), R * np.linalg.inv(A), rtol=1e-11, atol=1e-14)


def test_on_the_way_it_is_recursive_least_squares():
    """One rank-one update of an inverse per sample, by Sherman and Morrison."""
    x, y = regression()
    inverse, theta, innovations = 0.7 * np.eye(5), np.zeros(5), []
    for row, target in zip(x.numpy(), y[:, 0].numpy(), strict=True):
        innovations.append(target - row @ theta)
        gain = inverse @ row / (1 + row @ inverse @ row)
        theta, inverse = theta + gain * innovations[-1], inverse - np.outer(gain, row @ inverse)
    start = torch.zeros(5, dtype=F64)
    found = extended_kalman(line, start, 0.7 * 0.2 * torch.eye(5, dtype=F64), x, y, 0.2)
    np.testing.assert_allclose(found.innovation[:, 0], innovations, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(found.mean, theta, rtol=1e-12, atol=1e-12)


def test_several_outputs_with_correlated_noise_are_weighted_least_squares():
    g, p, m = seeded(3), 4, 2
    x = torch.randn(30, m * p, generator=g, dtype=F64)
    y = torch.randn(30, m, generator=g, dtype=F64)
    R = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=F64)
    prior = torch.eye(p, dtype=F64) + 0.5
    found = extended_kalman(
        lambda theta, x: x.view(m, p) @ theta,
        torch.zeros(p, dtype=F64),
        prior,
        x,
        y,
        R,
    )
    H, W = x.view(30, m, p).numpy(), np.linalg.inv(R.numpy())
    A = np.linalg.inv(prior.numpy()) + sum(h.T @ W @ h for h in H)
    b = sum(h.T @ W @ t for h, t in zip(H, y.numpy(), strict=True))
    np.testing.assert_allclose(found.mean, np.linalg.solve(A, b), rtol=1e-11)


def bent(theta, x):
    return (theta[:3] @ torch.tanh(theta[3:] * x))[None]


@pytest.mark.parametrize("own", [False, True])
def test_a_batch_is_its_members(own):
    g = seeded(4)
    start = torch.randn(3, 6, generator=g, dtype=F64)
    shape = (20, 3, 1) if own else (20, 1)
    x, y = (torch.randn(shape, generator=g, dtype=F64) for _ in range(2))
    together = extended_kalman(bent, start, torch.eye(6, dtype=F64), x, y, 0.1)
    for i in range(3):
        data = (x[:, i], y[:, i]) if own else (x, y)
        alone = extended_kalman(bent, start[i], torch.eye(6, dtype=F64), *data, 0.1)
        torch.testing.assert_close(together.mean[i], alone.mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(together.cov[i], alone.cov, rtol=1e-9, atol=1e-9)


def test_with_drift_the_variance_settles_where_the_riccati_equation_says():
    """One number seen directly: P' = (P + q)R/(P + q + R) has a fixed point in closed form."""
    x = torch.ones(400, 1, dtype=F64)
    q, R = 0.02, 0.5
    found = extended_kalman(
        line, torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64), x, 0 * x, R, drift=q
    )
    assert found.cov.item() == pytest.approx((math.sqrt(q * q + 4 * q * R) - q) / 2, rel=1e-12)


def test_the_root_keeps_a_covariance_that_rounding_makes_negative():
    """float32, accurate samples of what is hardly known: P − K H P becomes indefinite."""
    x = torch.randn(60, 8, generator=seeded(5))
    P = 1e4 * torch.eye(8)
    found = extended_kalman(line, torch.zeros(8), P, x, torch.zeros(60, 1), 1e-4)
    lowest = 0.0
    for row in x:
        K = P @ row / (row @ P @ row + 1e-4)
        P = P - torch.outer(K, row @ P)
        lowest = min(lowest, torch.linalg.eigvalsh((P + P.mT) / 2)[0].item())
    exact = 1e-4 * torch.linalg.inv(x.double().mT @ x.double() + 1e-8 * torch.eye(8, dtype=F64))
    assert lowest < 0
    torch.testing.assert_close(found.cov.double(), exact, rtol=0, atol=0.01 * exact.max().item())


def posterior(N, seed):
    """Mean and covariance by an ensemble, and by ridge regression."""
    x, y = regression(T=15, p=3)
    g = seeded(seed)
    members = torch.randn(40, N, 3, generator=g, dtype=F64)
    found = ensemble_kalman(line, members, x, y, 1.0, generator=g)
    A = torch.eye(3, dtype=F64) + x.mT @ x
    return found, torch.linalg.solve(A, x.mT @ y)[:, 0], torch.linalg.inv(A)


def test_a_large_ensemble_has_the_exact_mean_and_covariance_with_an_error_of_root_n():
    """Quadrupling N halves the error of both, 40 ensembles each."""
    errors = []
    for N in (200, 800):
        found, mean, cov = posterior(N, seed=6)
        errors.append(((found.mean - mean).norm(dim=-1), (found.cov - cov).norm(dim=(-2, -1))))
    ratios = [(a.mean() / b.mean()).item() for a, b in zip(*errors, strict=True)]
    assert ratios == pytest.approx([2, 2], abs=0.5)


def test_a_step_of_an_ensemble_is_the_formula_with_covariances_by_numpy():
    """Two ensembles of four, each its own sample, the noise of the two outputs correlated."""
    members = torch.randn(2, 4, 3, generator=seeded(10), dtype=F64)
    x, y = (torch.randn(1, 2, 2, generator=seeded(s), dtype=F64) for s in (11, 12))
    R = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=F64)

    def h(theta, x):
        return torch.tanh(theta[:2] * x) + theta[2]

    how = {"inflation": 1.2, "drift": 0.3, "generator": seeded(13)}
    found = ensemble_kalman(h, members, x, y, R, **how)
    g = seeded(13)
    moved, noise = (torch.randn(2, 4, k, generator=g, dtype=F64).numpy() for k in (3, 2))
    for i in range(2):
        old = members[i].numpy()
        theta = old.mean(0) + 1.2 * (old - old.mean(0)) + 0.3**0.5 * moved[i]
        out = np.tanh(theta[:, :2] * x[0, i].numpy()) + theta[:, 2:]
        both = np.cov(theta.T, out.T)
        S = both[3:, 3:] + R.numpy()
        heard = y[0, i].numpy() + noise[i] @ np.linalg.cholesky(R.numpy()).T
        new = theta + (heard - out) @ (both[:3, 3:] @ np.linalg.inv(S)).T
        np.testing.assert_allclose(found.members[i], new, rtol=1e-12)
        np.testing.assert_allclose(found.mean[i], new.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.cov[i], np.cov(new.T), rtol=1e-12)
        np.testing.assert_allclose(
            found.innovation[0, i], y[0, i].numpy() - out.mean(0), rtol=1e-12
        )
        np.testing.assert_allclose(found.spread[0, i], S, rtol=1e-12)


def test_an_ensemble_never_leaves_its_span():
    g = seeded(7)
    members = torch.randn(4, 6, generator=g, dtype=F64)
    x, y = torch.randn(50, 6, generator=g, dtype=F64), torch.ones(50, 1, dtype=F64)
    found = ensemble_kalman(line, members, x, y, 0.1, generator=g)
    before, after = (m - members.mean(0) for m in (members, found.members))
    assert torch.linalg.matrix_rank(before) == 3
    assert torch.linalg.matrix_rank(torch.cat([before, after]), rtol=1e-9) == 3


def test_inflation_has_a_fixed_point():
    """P' = ρ²PR/(ρ²P + R) settles at R(1 − ρ⁻²); relative scatter of a variance is √(2/N)."""
    x, N, rho = torch.ones(120, 1, dtype=F64), 20_000, 1.1
    g = seeded(8)
    members = torch.randn(N, 1, generator=g, dtype=F64)
    found = ensemble_kalman(line, members, x, 0 * x, 2.0, inflation=rho, generator=g)
    assert found.cov.item() == pytest.approx(2 * (1 - rho**-2), rel=0.1)


ONE, EYE = torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64)
X, Y = torch.ones(3, 2, dtype=F64), torch.ones(3, 1, dtype=F64)
MEMBERS = torch.randn(5, 2, generator=seeded(9), dtype=F64)


def faint(theta, x):
    return 1e-3 * theta[:1]


def ekf(mean=ONE, cov=EYE, x=X, y=Y, noise=1.0, predict=line, **more):
    return lambda: extended_kalman(predict, mean, cov, x, y, noise, **more)


def enkf(members=MEMBERS, predict=line, y=Y, noise=1.0, **more):
    return lambda: ensemble_kalman(
        predict, members, X, y, noise, **({"generator": seeded(1)} | more)
    )


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (ekf(cov=-EYE), ValueError, "cov must be positive definite, got the eigenvalue -1"),
        (ekf(cov=EYE.new_ones(2, 2).triu()), ValueError, "cov must be symmetric.* by 1"),
        (ekf(cov=EYE[:1]), ValueError, r"cov must have shape \(\.\.\., 2, 2\), got \(1, 2\)"),
        (ekf(cov=EYE.expand(3, 2, 2)), ValueError, r"cov must have shape \(2, 2\), or one"),
        (ekf(noise=0.0), ValueError, "noise must be positive definite, got the eigenvalue 0"),
        (ekf(noise=math.nan), ValueError, "noise must be finite"),
        (
            ekf(noise=EYE[:1, :1, None]),
            ValueError,
            r"noise must have shape \(1, 1\), got \(1, 1, 1",
        ),
        (ekf(y=Y[:, :0]), ValueError, r"y an entry in each, got shapes \(3, 2\) and \(3, 0\)"),
        (ekf(cov=EYE.to("meta")), TypeError, "cov must be .* on cpu, .* tensor on meta"),
        (ekf(predict=lambda t, x: [t]), TypeError, r"what predict returns must be .* got \["),
        (ekf(predict=lambda t, x: t[:1].float()), TypeError, "what predict returns must be .*64"),
        (ekf(predict=lambda t, x: x[:1], drift=1e308), KalmanError, "covariance left"),
        (ekf(predict=faint, y=1e307 * Y, noise=1e-8), KalmanError, "parameters .* at sample 0"),
        (enkf(predict=faint, y=1e307 * Y, noise=1e-8), KalmanError, "parameters .* at sample 0"),
        (ekf(predict=lambda t, x: t[:1].abs().sqrt()), KalmanError, "sample 0: rounding"),
        (ekf(noise="1"), TypeError, "noise must be a torch.float64 tensor"),
        (ekf(drift=-1), ValueError, "drift must be a number ≥ 0 and finite, got -1"),
        (ekf(x=X[:2]), ValueError, r"as many samples, .* \(2, 2\) and \(3, 1\)"),
        (ekf(y=Y[:, 0]), ValueError, r"y must have shape \(T, d\), got \(3,\)"),
        (ekf(x=X / 0), ValueError, "x must be finite, got inf"),
        (ekf(y=Y.float()), TypeError, "y must be .*64 tensor .* as θ is, got .*32"),
        (ekf(mean=ONE[:0]), ValueError, "mean must have at least one entry"),
        (ekf(predict=3), TypeError, "predict must be a function"),
        (ekf(predict=lambda t, x: t), ValueError, "as many outputs as y has, 1, .* sample 0"),
        (
            ekf(predict=lambda t, x: t[:1] / 0),
            KalmanError,
            "predict must be finite, .* at sample 0",
        ),
        (enkf(members=MEMBERS[:1]), ValueError, r"N ≥ 2, got \(1, 2\)"),
        (enkf(members=MEMBERS * 1e200, predict=lambda t, x: x[:1]), KalmanError, "covariance left"),
        (enkf(members=MEMBERS[0]), ValueError, r"N ≥ 2, got \(2,\)"),
        (enkf(inflation=0.9), ValueError, "inflation must be at least 1, got 0.9"),
        (enkf(generator=None), TypeError, "generator must be a torch.Generator on the CPU"),
    ],
)
def test_refusals_name_the_argument_and_the_remedy(call, error, words):
    with pytest.raises(error, match=words):
        call()
