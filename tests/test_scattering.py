import math

import numpy as np
import pytest
import torch

from dynbook.scattering import (
    frame_defect,
    gabor_frame,
    random_frame,
    remaining_energy,
    sampled_energy,
    scatter,
    scattering_layer,
    wavelet_frame,
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def noise(n, seed, dtype=torch.float64):
    return torch.randn(n, generator=seeded(seed), dtype=torch.float64).to(dtype)


FRAMES = {
    "wavelets": wavelet_frame(64, 4),
    "Gabor": gabor_frame(64, 6),
    "random": random_frame(64, 5, seeded(0)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_frames_are_tight_on_real_signals(name):
    assert frame_defect(FRAMES[name]).abs().max() < 1e-14


def test_a_layer_is_a_circular_convolution_summed_by_hand():
    filters, u = FRAMES["random"], noise(64, 1)
    impulse = np.fft.ifft(filters.numpy())
    low, on = scattering_layer(filters, u)
    for k, response in enumerate(impulse):
        by_hand = [sum(response[(t - s) % 64] * u[s].item() for s in range(64)) for t in range(64)]
        expected = np.real(by_hand) if k == 0 else np.abs(by_hand)
        np.testing.assert_allclose(low if k == 0 else on[k - 1], expected, atol=1e-13)


@pytest.mark.parametrize("name", FRAMES)
def test_what_left_and_what_goes_on_have_the_energy_of_the_signal(name):
    x, left = noise(64, 2), 0.0
    for out, on in scatter(FRAMES[name], x, 3):
        left += out.square().sum()
        torch.testing.assert_close(left + on.square().sum(), x.square().sum(), rtol=1e-14, atol=0)


def test_a_pure_tone_goes_on_whole_and_leaves_in_the_next_layer():
    """|e^{iωt}| = 1 is constant: all its energy is in the low pass."""
    t = torch.arange(64).double()
    for name in ("wavelets", "Gabor", "random"):
        tone = (2 * math.pi * 16 * t / 64).cos()
        share = remaining_energy(FRAMES[name], tone, 2)
        assert share[1] == pytest.approx(1, abs=1e-14) and share[2] < 1e-28


def test_random_filters_keep_one_minus_a_quarter_of_pi():
    """|z| of a circular Gaussian z has mean √(π/4) for E|z|² = 1; only its mean leaves."""
    shares = [
        sampled_energy(random_frame(4096, 3, seeded(s)), noise(4096, s), 4, 12, seeded(s))
        for s in range(2)
    ]
    rate = torch.cat([s[:, 4] / s[:, 3] for s in shares]).median()
    assert rate == pytest.approx(1 - math.pi / 4, rel=0.03)


@pytest.mark.parametrize("name", FRAMES)
def test_walkers_have_the_mean_of_the_whole_tree(name):
    x = noise(64, 3)
    exact = remaining_energy(FRAMES[name], x, 3)
    walks = sampled_energy(FRAMES[name], x, 3, 4000, seeded(4))
    error = walks.std(0) / math.sqrt(4000)
    assert ((walks.mean(0) - exact).abs() <= 4.5 * error + 1e-14).all()
    assert (walks[:, 0] == 1).all() and (walks.diff(dim=1) <= 0).all()


def test_the_network_is_homogeneous_and_does_not_expand():
    filters, x, y = FRAMES["wavelets"], noise(64, 5), noise(64, 6)

    def features(x):
        layers = list(scatter(filters, x, 3))
        return torch.cat([out.flatten() for out, _ in layers] + [layers[-1][1].flatten()])

    torch.testing.assert_close(features(3 * x), 3 * features(x))
    assert (features(x) - features(y)).norm() < (x - y).norm()
    along = torch.func.jvp(features, (x,), (x,))[1]
    torch.testing.assert_close(along, features(x), rtol=1e-10, atol=1e-12)


def test_a_signal_of_zeros_keeps_no_energy_and_no_nan():
    walks = sampled_energy(FRAMES["Gabor"], torch.zeros(64, dtype=torch.float64), 3, 5, seeded(1))
    assert (walks[:, 1:] == 0).all()


def test_float32_and_devices_agree_with_float64(device):
    x = noise(64, 7)
    exact = remaining_energy(wavelet_frame(64, 4), x, 3)
    single = wavelet_frame(64, 4, dtype=torch.float32).to(device)
    share = remaining_energy(single, x.float().to(device), 3)
    assert share.dtype == torch.float32 and share.device.type == device
    torch.testing.assert_close(share.double().cpu(), exact, rtol=1e-4, atol=1e-7)
    walks = sampled_energy(single, x.float().to(device), 3, 50, seeded(1))
    assert walks.device.type == device


def test_what_would_lose_energy_unseen_is_refused_in_words():
    x, filters = noise(64, 8), FRAMES["wavelets"]
    louder = filters.clone()
    louder[0, 0] *= 1.1
    with pytest.raises(ValueError, match=r"tight frame.*differs from 1 by 2.1e-01 at frequency 0"):
        remaining_energy(louder, x, 2)
    with pytest.raises(ValueError, match=r"shapes \(5, 64\) and \(63,\)"):
        remaining_energy(filters, x[1:], 2)
    with pytest.raises(ValueError, match=r"one signal \(n,\).*\(2, 64\)"):
        sampled_energy(filters, torch.stack([x, x]), 2, 3, seeded(0))
    with pytest.raises(ValueError, match=r"x must be finite.*nan"):
        remaining_energy(filters, x * torch.nan, 2)
    with pytest.raises(ValueError, match=r"4\^12 paths.*sampled_energy"):
        remaining_energy(filters, x, 12)
    with pytest.raises(TypeError, match="signal must be a real floating-point tensor"):
        remaining_energy(filters, x + 0j, 2)
    with pytest.raises(TypeError, match="filters must be a complex tensor"):
        remaining_energy(filters.real, x, 2)
    with pytest.raises(ValueError, match="n must be even, got 63"):
        gabor_frame(63, 4)
    with pytest.raises(ValueError, match="octaves must be an integer ≥ 1 and ≤ 5"):
        wavelet_frame(64, 6)
