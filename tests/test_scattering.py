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


@pytest.mark.parametrize("name", ["random", "Gabor"])
def test_a_layer_is_a_circular_convolution_summed_by_hand(name):
    filters, u = FRAMES[name], noise(64, 1)
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


def test_a_constant_leaves_at_once_and_the_walk_goes_on_without_nan():
    """The low pass of random filters is the mean: nothing at all goes on."""
    constant = torch.ones(64, dtype=torch.float64)
    walks = sampled_energy(FRAMES["random"], constant, 3, 5, seeded(1))
    assert (walks == torch.tensor([1.0, 0, 0, 0])).all()


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_shares_of_energy_do_not_depend_on_the_size_of_the_signal(size):
    filters, x = FRAMES["wavelets"], noise(64, 9)
    shares = [remaining_energy(filters, x, 3), sampled_energy(filters, x, 3, 4, seeded(0))]
    again = [remaining_energy(filters, size * x, 3)]
    again.append(sampled_energy(filters, size * x, 3, 4, seeded(0)))
    torch.testing.assert_close(again, shares)


def test_random_filters_are_circular_and_their_low_pass_is_the_mean():
    filters = random_frame(1024, 8, seeded(1))
    assert (filters[0, 1:] == 0).all() and filters[0, 0].abs() == 1
    band = filters[1:, 1:512]
    for moment in (band.square().mean(), band.real.square().mean() - band.imag.square().mean()):
        assert moment.abs() < 4.5 * (band.abs() ** 2).mean() / band.numel() ** 0.5


def test_frames_that_delay_have_the_same_energies():
    """A delay multiplies χ̂(ω) by e^{−iωt}: complex, and yet real signals remain real."""
    x, turn = noise(64, 3), -2j * math.pi * torch.fft.fftfreq(64).double() * 5
    late = FRAMES["wavelets"] * turn.exp()
    torch.testing.assert_close(*(remaining_energy(f, x, 3) for f in (late, FRAMES["wavelets"])))


def test_wavelets_and_gabor_filters_stand_where_they_say():
    """By hand, with n = 16: two windows meet at a frequency, and share its energy."""
    half = math.cos(math.pi / 4)
    wavelets = wavelet_frame(16, 2).abs().square()  # centred at 4 and 8, low pass below 2
    s = torch.tensor([3.0, 5.0, 6.0, 7.0]).double().log2()  # low pass at s = 1
    above = (math.pi / 2 * (s - torch.tensor([1.0, 2, 2, 2]).double())).sin() ** 2
    torch.testing.assert_close(wavelets[0, :5], torch.tensor([1, 1, 1, 1 - above[0], 0]).double())
    torch.testing.assert_close(wavelets[2, 4:8] / 2, torch.cat([above.new_zeros(1), above[1:]]))
    torch.testing.assert_close(wavelets[1:, 8], torch.tensor([0, 1.0]).double())
    gabor = gabor_frame(16, 4).abs()  # centred at 0, 2, 4, 6, 8
    torch.testing.assert_close(gabor[0, [0, 1, 2, 15, 14]], gabor.new_tensor([1, half, 0, half, 0]))
    torch.testing.assert_close(gabor[1, [1, 2, 3]] / 2**0.5, gabor.new_tensor([half, 1, half]))
    assert (wavelet_frame(16, 2)[1:, 9:] == 0).all() and (gabor[1:, 9:] == 0).all()


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
    analytic = filters.roll(1, 0)  # tight, but .real would halve what leaves
    with pytest.raises(ValueError, match=r"low pass, must make real signals .* differ by 1.4e\+00"):
        remaining_energy(analytic, x, 2)
    with pytest.raises(ValueError, match=r"at least one.*shapes \(63,\) and \(5, 64\)"):
        remaining_energy(filters, x[1:], 2)
    with pytest.raises(ValueError, match=r"at least one.*shapes \(0, 64\)"):
        scattering_layer(filters, x[None][:0])
    for share in (remaining_energy, lambda *a: sampled_energy(*a, 3, seeded(0))):
        with pytest.raises(ValueError, match="x must not be zero"):
            share(filters, 0 * x, 2)
    for few in (filters[0], filters[:1]):
        with pytest.raises(ValueError, match=r"low pass and at least one more, got shape"):
            frame_defect(few)
    with pytest.raises(ValueError, match="differs from 1 by nan at frequency 5"):
        next(scatter(filters.where(torch.arange(64) != 5, torch.nan), x, 1))
    with pytest.raises(ValueError, match=r"one signal \(n,\).*\(2, 64\)"):
        sampled_energy(filters, torch.stack([x, x]), 2, 3, seeded(0))
    with pytest.raises(ValueError, match=r"x must be finite.*nan"):
        remaining_energy(filters, x * torch.nan, 2)
    for depth in (11, 10**12):
        with pytest.raises(ValueError, match=rf"4\^{depth} paths.*sampled_energy"):
            next(scatter(filters, x, depth))
    next(scatter(filters, x, 10))  # 2²⁶ numbers in its last layer, and no more
    with pytest.raises(TypeError, match="signal must be a float32 or float64 tensor"):
        remaining_energy(filters, x + 0j, 2)
    with pytest.raises(TypeError, match=r"float32 or float64 tensor, got a torch.float16 tensor"):
        scattering_layer(filters, x.half())
    with pytest.raises(ValueError, match="channels must be an integer ≥ 1 and ≤ 32, got 33"):
        gabor_frame(64, 33)
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator on the CPU"):
        sampled_energy(filters, x, 2, 3, None)
    with pytest.raises(ValueError, match=r"dtype must be torch.float32 or torch.float64"):
        gabor_frame(64, 4, dtype=torch.float16)
    with pytest.raises(TypeError, match="filters must be a complex tensor"):
        remaining_energy(filters.real, x, 2)
    with pytest.raises(ValueError, match="n must be even, got 63"):
        gabor_frame(63, 4)
    with pytest.raises(ValueError, match="octaves must be an integer ≥ 1 and ≤ 5"):
        wavelet_frame(64, 6)
