"""Finite elements as rivals: what they reproduce, what they minimise, what they refuse."""

import math

import pytest
import torch

from dynbook.domains import Box, Interval
from dynbook.interpolants import (
    Elements,
    interpolate,
    least_squares,
    piecewise_linear,
    uniform_grid,
)
from dynbook.targets import chirp, ring

F64 = torch.float64
SQUARE = Box((-1, -1), (1, 1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scattered(count, d=2, seed=0):
    return torch.rand(count, d, generator=seeded(seed), dtype=F64) * 2 - 1


def uneven(n, seed):
    """Nodes from −1 to 1 whose widths differ by a factor of ten."""
    widths = 0.1 + torch.rand(n - 1, generator=seeded(seed), dtype=F64).cumsum(0)
    return torch.cat([widths.new_tensor([-1]), -1 + 2 * widths / widths[-1]])


def bilinear(x):
    """Two functions that any grid of rectangles holds exactly."""
    return torch.stack([1 + x[..., 0] * x[..., 1], 3 * x[..., 0] - x[..., 1]], -1)


@pytest.mark.parametrize("fit", ["interpolate", "least_squares"])
def test_what_the_elements_hold_is_reproduced(fit, device):
    nodes, x = [uneven(5, 0).to(device), uneven(8, 1).to(device)], scattered(500).to(device)
    if fit == "interpolate":
        u = interpolate(bilinear, nodes)
    else:
        u = least_squares(x, bilinear(x), nodes)
    assert u.count == 5 * 8 * 2 and u.values.device == x.device
    torch.testing.assert_close(u(x), bilinear(x))
    torch.testing.assert_close(u(x.view(4, 125, 2)), bilinear(x).view(4, 125, 2))


def test_one_dimension_is_the_broken_line_of_numpy():
    numpy = pytest.importorskip("numpy")
    nodes, x = uneven(20, 2), scattered(300, 1)
    y = torch.from_numpy(numpy.interp(x[:, 0], nodes, chirp(nodes)))
    torch.testing.assert_close(interpolate(chirp, (nodes,))(x)[:, 0], y)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_least_squares_is_that_of_the_dense_matrix(d):
    """The design matrix column by column: the elements whose values are a row of the identity."""
    nodes, x = [uneven(4, seed) for seed in range(d)], scattered(40 * 2**d, d)
    y = torch.randn(len(x), 2, generator=seeded(3), dtype=F64)
    dense = Elements(tuple(nodes), torch.eye(4**d, dtype=F64).reshape(*[4] * d, -1))(x)
    torch.testing.assert_close(dense.sum(-1), torch.ones_like(x[:, 0]))
    expected = torch.linalg.lstsq(dense, y).solution
    torch.testing.assert_close(least_squares(x, y, nodes).values.flatten(0, -2), expected)


def test_as_many_nodes_as_samples_interpolate_them():
    nodes = uniform_grid(1000)
    x = nodes[0][:, None]
    torch.testing.assert_close(least_squares(x, chirp(x), nodes)(x), chirp(x))


def test_the_best_fit_converges_with_the_square_of_the_width():
    """|u − sin|_max ≤ h²/8 for the interpolant, reached at crests; the fit is better in L²."""
    x = torch.linspace(-1, 1, 3001, dtype=F64)[:, None]
    rms = lambda u, y: (u(x) - y).square().mean().sqrt().item()  # noqa: E731
    y, errors = torch.sin(math.pi * x), []
    for n in (21, 41):
        u = interpolate(lambda x: torch.sin(math.pi * x), uniform_grid(n))
        h = 2 / (n - 1)
        assert (u(x) - y).abs().max().item() == pytest.approx((math.pi * h) ** 2 / 8, rel=0.02)
        errors.append((rms(u, y), rms(least_squares(x, y, uniform_grid(n)), y)))
    (coarse, best), (fine, better) = errors
    assert better < fine and best < coarse
    # h² f'' times ‖s(1 − s)/2‖ = 1/√120 for the interpolant, and 1/√720 for the projection
    assert coarse == pytest.approx(math.pi**2 * 0.01 / math.sqrt(2 * 120), rel=0.02)
    assert better == pytest.approx(math.pi**2 * 0.0025 / math.sqrt(2 * 720), rel=0.02)


def test_a_plane_of_samples_in_single_precision_keeps_its_corners():
    """−0.2 is not the same number in float32 and float64: the corners are still in the domain."""
    axis = torch.linspace(-0.2, 0.2, 60)
    x = torch.cartesian_prod(axis, axis)
    u = least_squares(x, bilinear(x), uniform_grid(900, Box((-0.2, -0.2), (0.2, 0.2))))
    assert u.values.shape == (30, 30, 2) and u.values.dtype == torch.float32
    torch.testing.assert_close(u(x), bilinear(x))


def test_a_grid_spends_at_most_the_count():
    assert [len(axis) for axis in uniform_grid(5151, SQUARE)] == [71, 71]
    assert [len(axis) for axis in uniform_grid(125, Box((0, 0, 0), (1, 1, 1)))] == [5, 5, 5]
    (axis,) = uniform_grid(3, Interval(0, 4))
    assert axis.tolist() == [0, 2, 4]
    with pytest.raises(ValueError, match="count must be an integer ≥ 4, got 3"):
        uniform_grid(3, SQUARE)
    with pytest.raises(TypeError, match="domain must be an Interval or a Box, got 2"):
        uniform_grid(9, 2)


def test_samples_that_do_not_determine_the_fit_are_refused():
    nodes = (torch.tensor([-1, -0.5, 0, 0.5, 1], dtype=F64),)
    left = torch.linspace(-1, -0.1, 50, dtype=F64)[:, None]
    with pytest.raises(ValueError, match=r"the node at \(0.5\) has no sample .* take fewer nodes"):
        least_squares(left, left, nodes)
    few = torch.tensor([[-0.75], [-0.25], [0.25], [0.75]], dtype=F64)
    with pytest.raises(ValueError, match="the samples do not determine all 5 nodal values"):
        least_squares(few, few, nodes)


def test_a_node_may_hang_on_one_sample_that_hardly_feels_it():
    """Beyond 1 lies one sample, with weight 1e-8 for the node at 2: it still determines it."""
    x = torch.cat([torch.linspace(0, 1, 20, dtype=F64), torch.tensor([1 + 1e-8], dtype=F64)])
    y = torch.where(x > 1, 5e-8, 0.0)[:, None]
    u = least_squares(x[:, None], y, (torch.arange(3, dtype=F64),))
    assert u.values[:, 0].tolist() == pytest.approx([0, 0, 5], rel=1e-6)


def test_a_line_is_at_its_points_to_the_bit():
    points, values = uneven(200, 4), scattered(200, 1)[:, 0]
    values[-2:] = torch.tensor([1, 1e-17], dtype=F64)  # 1 + (1e-17 − 1) is 0
    assert torch.equal(piecewise_linear(points, points, values), values)


def test_a_line_takes_what_it_can_and_names_the_rest():
    points, x = torch.tensor([0.0, 1.0, 3.0], dtype=F64), torch.tensor([0.5, 2.0], dtype=F64)
    line = piecewise_linear(x.requires_grad_(), points, [1, 2, 8])
    torch.testing.assert_close(line, torch.tensor([1.5, 5.0], dtype=F64))
    (slope,) = torch.autograd.grad(line.sum(), x)
    torch.testing.assert_close(slope, torch.tensor([1.0, 3.0], dtype=F64))
    for values, error, words in [
        ([1, 2], ValueError, r"values must have shape \(3,\), one a point, got \(2,\)"),
        (5.0, ValueError, r"values must have shape \(3,\), one a point, got \(\)"),
        ([1, 2, math.nan], ValueError, "values must be finite, got nan"),
        ("abc", TypeError, "values must be real numbers, .* got 'abc'"),
    ]:
        with pytest.raises(error, match=words):
            piecewise_linear(x, points, values)
    with pytest.raises(ValueError, match="points must increase strictly, got 1 and then 1"):
        piecewise_linear(x.float(), [0, 1, 1 + 1e-9, 3], [0, 1, 2, 3])


def test_elements_that_cannot_be_are_refused():
    nodes, x = uniform_grid(5), scattered(30, 1)
    with pytest.raises(ValueError, match=r"values must have shape \(5, outputs\), .* \(3, 1\)"):
        Elements(nodes, torch.ones(3, 1))
    with pytest.raises(ValueError, match="values must be finite, got -inf"):
        least_squares(x.float(), x * 1e300, nodes)  # of the samples' dtype
    with pytest.raises(TypeError, match="nodes must share dtype and device, got 2 kinds"):
        interpolate(ring, (nodes[0], nodes[0].float()))
    for none in ((), None):
        with pytest.raises(TypeError, match="nodes must be a sequence of d tensors"):
            interpolate(ring, none)
    with pytest.raises(ValueError, match=r"y must have shape \(30, outputs\), .* got \(30, 0\)"):
        least_squares(x, x[:, :0], nodes)
    close = interpolate(chirp, (torch.tensor([0, 1, 1 + 1e-9, 2], dtype=F64),))
    assert close(x.abs()).isfinite().all()
    with pytest.raises(ValueError, match=r"nodes\[0\] must increase strictly, got 1 and then 1"):
        close(x.abs().float())
    in_place = interpolate(lambda x: x.mul_(2), nodes)
    torch.testing.assert_close(in_place(x), 2 * x)


def test_bad_samples_and_grids_are_refused():
    nodes, x = uniform_grid(16, SQUARE), scattered(100)
    u = interpolate(ring, nodes)
    with pytest.raises(ValueError, match=r"x\[..., 1\] must lie in the domain \[-1, 1\], got 1.5"):
        u(torch.tensor([0.0, 1.5], dtype=F64))
    with pytest.raises(ValueError, match=r"x must have shape \(..., 2\), .* got \(100, 1\)"):
        u(x[:, :1])
    with pytest.raises(ValueError, match="x must be finite, got nan"):
        least_squares(x * math.nan, ring(x), nodes)
    with pytest.raises(ValueError, match="y must be finite, got inf"):
        least_squares(x, ring(x) + math.inf, nodes)
    with pytest.raises(ValueError, match=r"x must have shape \(N, d\), one sample a row"):
        least_squares(x[:, 0], ring(x), nodes)
    with pytest.raises(ValueError, match=r"y must have shape \(100, outputs\), .* got \(100,\)"):
        least_squares(x, ring(x)[:, 0], nodes)
    with pytest.raises(TypeError, match="y must be a floating-point tensor"):
        least_squares(x, [0.0] * 100, nodes)
    with pytest.raises(TypeError, match="nodes must be a sequence of d tensors"):
        least_squares(x, ring(x), nodes[0])
    with pytest.raises(ValueError, match=r"nodes\[1\] must increase strictly"):
        interpolate(ring, (nodes[0], nodes[1].flip(0)))
    with pytest.raises(ValueError, match=r"f\(nodes\) must have shape \(16, outputs\)"):
        interpolate(lambda x: ring(x)[:3], nodes)


def test_nodes_that_change_afterwards_are_not_those_of_the_elements():
    for make in (
        lambda axis: interpolate(lambda x: x, [axis]),
        lambda axis: least_squares(scattered(50, 1), scattered(50, 1), [axis]),
    ):
        axis = torch.linspace(-1, 1, 5, dtype=F64)
        u = make(axis)
        axis.zero_()
        assert u.nodes[0][-1] == 1
