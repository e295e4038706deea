"""The lecture's functions at points where they are known by hand."""

import math

import pytest
import torch

from dynbook.targets import bump, chirp, crossed_waves, localised_sine, ring, wave

F64 = torch.float64


def at(*points):
    return torch.tensor(points, dtype=F64)


def test_the_functions_of_one_variable_by_hand():
    torch.testing.assert_close(bump(at(0, 0.1, -0.2)), at(1, math.exp(-1), math.exp(-4)))
    torch.testing.assert_close(wave(at(-0.05, 0, 0.025, 0.1), 10), at(-1, 0, -0.5, 0))
    torch.testing.assert_close(localised_sine(at(0.01, -0.01, 0.02, 0.03)), at(1, -1, 0, 0))
    torch.testing.assert_close(chirp(at(0.0625, -0.0625, 0)), at(2**-0.5, 2**-0.5, 0))


def test_the_chirp_counts_sixteen_half_waves_on_each_side():
    """Zeros where 16 |x|^{3/2} is whole: k = 1 … 16 on (0, 1]."""
    x = (torch.arange(1, 17, dtype=F64) / 16) ** (2 / 3)
    assert chirp(x).abs().max() < 1e-13
    between = ((torch.arange(16, dtype=F64) + 0.5) / 16) ** (2 / 3)
    torch.testing.assert_close(chirp(-between), (-1.0) ** torch.arange(16, dtype=F64))


def test_the_ring_is_one_half_on_its_rim_and_falls_by_25_per_length():
    theta = torch.linspace(-math.pi, math.pi, 1001, dtype=F64)[1:, None]
    rho = 0.1 + 0.02 * torch.cos(math.pi * theta**2)
    ray = torch.cat([theta.cos(), theta.sin()], -1)
    for off, value in ((0, 0.5), (0.01, 0.25), (-0.01, 0.75), (0.02, 0), (-0.02, 1), (0.3, 0)):
        expected = torch.full_like(theta, value)
        torch.testing.assert_close(ring((rho + off) * ray), expected, rtol=0, atol=1e-11)
    assert ring(at([0, 0])) == 1


def test_the_ring_is_continuous_across_the_negative_half_axis():
    above, below = ring(at([-0.1, 1e-9], [-0.1, -1e-9]))
    torch.testing.assert_close(above, below)


def test_the_crossed_waves_by_hand():
    """On x_1 = 0 four terms remain of which those with i = 1 vanish; x_2 = 1/4.8 then."""
    y = 1 / 4.8
    # i = 2: sin(πs + c_2j-term) cos(s b_j x_j + s d_2j y²); j = 1: x_j = 0, j = 2: x_j = y
    first = 0.2 * math.sin(math.pi) * math.cos(9.6 * math.pi * y**2)
    second = 0.3 * math.sin(math.pi + 4.8 * math.pi * y**2)
    second *= math.cos(math.pi + 7.2 * math.pi * y**2)
    assert crossed_waves(at([0, y])).item() == pytest.approx(first + second)
    # on x_2 = 0 those with i = 2 vanish
    x = 0.3
    first = 0.3 * math.sin(2.4 * math.pi * (x + x**2)) * math.cos(math.pi * (2.4 * x + 4.8 * x**2))
    second = 0.2 * math.sin(2.4 * math.pi * x) * math.cos(7.2 * math.pi * x**2)
    assert crossed_waves(at([x, 0])).item() == pytest.approx(first + second)


def test_the_scale_multiplies_all_frequencies():
    """At s = 0 all is still; the slope in s there is that of Σ a_ij (b_i x_i + c_ij x_i x_j)."""
    x, s = at([0.3, -0.7]), 1e-6
    assert crossed_waves(x, 0) == 0
    slope = 0.3 * (2.4 * 0.3 + 2.4 * 0.09) + 0.2 * (2.4 * 0.3 - 4.8 * 0.21)
    slope += 0.2 * (-4.8 * 0.7 - 9.6 * 0.21) + 0.3 * (-4.8 * 0.7 + 4.8 * 0.49)
    assert crossed_waves(x, s).item() / s == pytest.approx(math.pi * slope, rel=1e-6)


@pytest.mark.parametrize("f", [ring, crossed_waves])
def test_points_in_the_plane_become_one_column(f, device):
    x = torch.rand(4, 5, 2, dtype=F64, device=device)
    assert f(x).shape == (4, 5, 1) and f(x).device == x.device
    torch.testing.assert_close(f(x)[2, 3], f(x[2, 3]))
    assert f(x.float()).dtype == torch.float32


def test_what_is_no_tensor_or_no_scale_is_named():
    for f in (bump, wave, localised_sine, chirp):
        for x, got in (([1.0], r"\[1.0\]"), (torch.tensor([1]), "a torch.int64 tensor")):
            with pytest.raises(TypeError, match="x must be a floating-point tensor, got " + got):
                f(x)
    for s in (math.nan, math.inf, "3"):
        with pytest.raises(ValueError, match="s must be a finite number, got"):
            crossed_waves(at([0, 0]), s)


def test_what_is_no_point_of_the_plane_is_named():
    for x, got in ((at([1, 2, 3]), "3"), (torch.tensor([1, 2]), "int64"), (0.5, "0.5")):
        with pytest.raises(ValueError, match=r"x must have shape \(..., 2\), .*got .*" + got):
            ring(x)
