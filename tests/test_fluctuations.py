"""Oracles: moments by Gauss–Hermite quadrature, closed forms in one dimension, an ensemble."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from dynbook.fluctuations import (
    flatness,
    stability_limit,
    stationary_covariance,
    variance_flatness,
)

F64 = torch.float64


def two_dimensional():
    return torch.tensor([[1.3, 0.4], [0.4, 0.5]], dtype=F64)


def second_moment_map(H, lr, batch):
    """E (I − ηA)⊗(I − ηA), by a quadrature that is exact to degree five in every coordinate."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights, root = weights / weights.sum(), np.linalg.cholesky(H.numpy())
    total = 0
    for index in itertools.product(range(3), repeat=2 * batch):
        X = nodes[list(index)].reshape(batch, 2) @ root.T
        step = np.eye(2) - lr * X.T @ X / batch
        total = total + weights[list(index)].prod() * np.kron(step, step)
    return total


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("lr", [0.02, 0.3])
def test_the_covariance_solves_the_moment_equation_found_by_quadrature(batch, lr):
    """vec Σ = E[(I − ηA)⊗(I − ηA)] vec Σ + (η²σ²/B) vec H."""
    H, sigma = two_dimensional(), 0.7
    drive = lr**2 * sigma**2 / batch * H.numpy().ravel()
    by_hand = np.linalg.solve(np.eye(4) - second_moment_map(H, lr, batch), drive).reshape(2, 2)
    exact = stationary_covariance(H, lr, batch, sigma)
    np.testing.assert_allclose(exact, by_hand, rtol=1e-11)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_at_the_limit_the_second_moment_neither_grows_nor_decays(batch):
    H = two_dimensional()
    limit = stability_limit(H, batch)
    radius = np.abs(np.linalg.eigvals(second_moment_map(H, limit, batch))).max()
    assert radius == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("batch", [1, 7])
def test_one_weight_by_hand(batch):
    """E(1 − ηA)² = 1 − 2ηh + η²h²(1 + 2/B), from the kurtosis of a Gaussian."""
    h, lr, sigma = 0.8, 0.3, 1.7
    square = 1 - 2 * lr * h + lr**2 * h**2 * (1 + 2 / batch)
    H = torch.tensor([[h]], dtype=F64)
    variance = stationary_covariance(H, lr, batch, sigma).item()
    assert variance == pytest.approx(lr**2 * sigma**2 * h / batch / (1 - square), rel=1e-13)
    assert stability_limit(H, batch) == pytest.approx(2 / (h * (1 + 2 / batch)), rel=1e-13)


def test_equal_curvatures_have_a_limit_in_closed_form():
    """η = 2B/((B + d + 1)h)."""
    assert stability_limit(2 * torch.eye(9, dtype=F64), 4) == pytest.approx(4 / 14, rel=1e-13)


def test_small_steps_forget_the_hessian():
    H, lr, batch, sigma = two_dimensional(), 1e-7, 5, 0.3
    isotropic = lr * sigma**2 / (2 * batch) * torch.eye(2, dtype=F64)
    torch.testing.assert_close(
        stationary_covariance(H, lr, batch, sigma), isotropic, rtol=1e-6, atol=1e-15
    )


def test_thousands_of_runs_have_this_covariance(device):
    """χ²: the relative error of a variance from M independent runs is √(2/M)."""
    H, lr, batch, sigma, members = two_dimensional(), 0.5, 4, 0.5, 20_000
    generator, root = torch.Generator().manual_seed(1), torch.linalg.cholesky(H)
    delta = torch.zeros(members, 2, dtype=F64)
    for _ in range(60):  # the slowest direction forgets as (1 − 0.5·0.33)ᵗ
        X = torch.randn(members, batch, 2, generator=generator, dtype=F64) @ root.T
        noise = sigma * torch.randn(members, batch, generator=generator, dtype=F64)
        residual = (X @ delta[:, :, None])[..., 0] - noise
        delta = delta - lr / batch * (residual[:, None] @ X)[:, 0]
    exact = stationary_covariance(H.to(device), lr, batch, sigma).cpu()
    spread = math.sqrt(2 / members) * exact.diagonal().max()
    assert (delta.T.cov() - exact).abs().max() < 5 * spread


def quartic(theta):
    return 1 + theta[..., 0] ** 4 + 3 * theta[..., 1] ** 2 + (theta[..., 2] > 0.5) * 9


def test_flatness_is_the_width_found_by_hand():
    """1 + r⁴ = e and 1 + 3r² = e; a wall on one side and nothing on the other is never wide."""
    widths = flatness(quartic, torch.zeros(3, dtype=F64), 5 * torch.eye(3, dtype=F64))
    expected = [2 * (math.e - 1) ** 0.25, 2 * ((math.e - 1) / 3) ** 0.5, math.inf]
    assert widths.tolist() == pytest.approx(expected, rel=1e-12)


def test_off_the_minimum_both_sides_count():
    """½(x − 1)² = e/2 at 1 ± √e, seen from x = 0."""
    half = flatness(
        lambda t: (t[..., 0] - 1) ** 2 / 2, torch.zeros(1, dtype=F64), torch.ones(1, 1, dtype=F64)
    )
    assert half.item() == pytest.approx(2 * math.e**0.5, rel=1e-12)


def test_a_valley_narrower_than_the_first_distance():
    """L₀ + h θ²/2 is e L₀ at √(2(e − 1)L₀/h) on each side; two valleys, one far wider."""
    h = torch.tensor([1.0, 1e30], dtype=F64)
    widths = flatness(
        lambda t: 1e-26 + (h * t**2).sum(-1) / 2, torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64)
    )
    expected = [math.sqrt(8 * (math.e - 1) * 1e-26 / c) for c in (1, 1e30)]
    assert widths.tolist() == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 1e-16), (F64, 1e-34)])
def test_a_valley_that_rounding_hides_is_refused(dtype, floor):
    one = torch.ones(1, dtype=dtype)
    with pytest.raises(ValueError, match=r"direction 0 its rim is only .*rounds theta by as much"):
        flatness(lambda t: floor + (t - 1).square().sum(-1) / 2, one, one[None])
    moved = flatness(lambda t: floor + t.square().sum(-1) / 2, 0 * one, one[None])
    assert moved.item() == pytest.approx(math.sqrt(8 * (math.e - 1) * floor), rel=1e-5, abs=0)


def test_a_large_offset_of_the_orbit_changes_no_variance():
    """A circle about 10⁶: uncentred second moments would lose twelve digits of sixteen."""
    t = 2 * math.pi * torch.arange(400, dtype=F64) / 400
    orbit = torch.stack([3 * t.cos(), t.sin()], 1) + 1e6
    found = variance_flatness(orbit, lambda w: 1 + (w - 1e6).square().sum(-1) / 2)
    assert found.variances.tolist() == pytest.approx([4.5, 0.5], rel=1e-9)
    assert found.flatness.tolist() == pytest.approx(2 * [math.sqrt(8 * (math.e - 1))], rel=1e-8)


def test_single_precision_near_the_limit_is_right_to_its_rounding():
    H = two_dimensional().float()
    lr = stability_limit(H.double(), 3) * (1 - 1e-6)
    single, double = (stationary_covariance(A, lr, 3) for A in (H, H.double()))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, double.float(), rtol=1e-6, atol=0)


def test_components_of_an_orbit_with_known_axes():
    """An ellipse with half axes 3 and 1, turned: variances 9/2 and 1/2, along those axes."""
    t = 2 * math.pi * torch.arange(400, dtype=F64) / 400
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=F64)
    orbit = torch.stack([3 * t.cos(), t.sin()], 1) @ turn.T + 5
    curvature = turn @ torch.diag(torch.tensor([8.0, 2.0], dtype=F64)) @ turn.T

    def loss(theta):
        away = theta - 5
        return 1 + (away @ curvature * away).sum(-1) / 2

    found = variance_flatness(orbit, loss)
    assert found.variances.tolist() == pytest.approx([4.5, 0.5])
    expected = [math.sqrt(8 * (math.e - 1) / h) for h in (8, 2)]
    assert found.flatness.tolist() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close((found.directions @ turn).abs(), torch.eye(2, dtype=F64))
    one = variance_flatness(orbit, loss, k=1)
    torch.testing.assert_close(one.flatness, found.flatness[:1])


H, POINT, LINES = two_dimensional(), torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: stationary_covariance(H, 1.0, 1), ValueError, r"lr .* below 0\.\d+,.*got 1\.0"),
        (lambda: stationary_covariance(H, 0, 1), ValueError, "lr must be positive"),
        (lambda: stationary_covariance(H, math.nan, 1), ValueError, "lr must be positive"),
        (lambda: stationary_covariance(H, "1", 1), ValueError, "lr must be positive"),
        (lambda: stationary_covariance(H, 0.1, 0), ValueError, "batch must be an integer ≥ 1"),
        (lambda: stationary_covariance(H, 0.1, 1, -1), ValueError, "label_noise must be ≥ 0"),
        (lambda: stability_limit(H, 1.5), ValueError, "batch must be an integer"),
        (lambda: stability_limit(H.triu(), 1), ValueError, r"symmetric.*0\.4; \(H \+ H.mT\)"),
        (lambda: stability_limit(-H, 1), ValueError, "positive definite, got the eigenvalue -"),
        (lambda: stability_limit(0 * H, 1), ValueError, "positive definite.*leave such"),
        (lambda: stability_limit(H[0], 1), ValueError, r"shape \(d, d\), got \(2,\)"),
        (lambda: stability_limit([[1.0]], 1), TypeError, "hessian must be a float32 or float64"),
        (lambda: flatness(quartic, POINT, 0 * LINES), ValueError, "zero, row 0"),
        (lambda: flatness(quartic, POINT, LINES[:, :2]), ValueError, r"directions \(k, p\)"),
        (lambda: flatness(lambda t: 0 * t.sum(-1), POINT, LINES), ValueError, "positive finite"),
        (lambda: flatness(lambda t: 1 + t**2, POINT, LINES), ValueError, "one positive finite"),
        (lambda: flatness(lambda t: (t**2).sum() + 1, POINT, LINES), ValueError, r"\(2, k\)"),
        (lambda: flatness(3, POINT, LINES), TypeError, "loss must be a function"),
        (lambda: variance_flatness(POINT, quartic), ValueError, r"orbit must have shape \(T, p\)"),
        (lambda: variance_flatness(LINES, quartic), ValueError, "more states than components"),
        (lambda: variance_flatness(LINES, quartic, k=4), ValueError, "k must be an integer"),
    ],
)
def test_refusals_name_the_argument_and_the_remedy(call, error, words):
    with pytest.raises(error, match=words):
        call()
