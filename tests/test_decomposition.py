"""Cut and stretch: the identities, what they cost in steepness, and what they refuse."""

import math

import pytest
import torch

from dynbook.decomposition import divide, halves, steepest, stretch, turning_points
from dynbook.targets import bump, chirp, localised_sine, wave

F64 = torch.float64
X = torch.linspace(-1, 1, 20_001, dtype=F64)
CUT, REACH = (-1, -0.1, 0.1, 1), (-1, -0.9, 0.9, 1)  # the slide's


def zigzag(n, seed=0):
    """Random knots on [−1, 1] and ranges of either direction."""
    g = torch.Generator().manual_seed(seed)
    gaps = 0.1 + torch.rand(n, generator=g, dtype=F64)
    inner = -1 + 2 * gaps.cumsum(0)[:-1] / gaps.sum()
    knots = torch.cat([inner.new_tensor([-1]), inner, inner.new_tensor([1])])
    return knots, torch.randn(n, 2, generator=g, dtype=F64)


# --- divide and conquer ---------------------------------------------------------------------


@pytest.mark.parametrize("f", [torch.exp, bump, wave, chirp, localised_sine])
@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_the_parts_add_up_to_the_function(f, n, device):
    knots, ranges = zigzag(n)
    whole = divide(f, knots.to(device), ranges.to(device))
    x = X.to(device)
    torch.testing.assert_close(whole(x), f(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(divide(f, knots)(x.view(-1, 3)), f(x).view(-1, 3))


def test_no_continuity_is_needed():
    """f jumps at its inner knot, where it belongs to the left, and at no sample beside it."""
    step = lambda x: torch.where(x <= 0.5, x**2, 7 - x)  # noqa: E731
    assert (divide(step, (-1, 0.5, 1))(X) - step(X)).abs().max() <= 1e-12
    assert divide(step, (-1, 0.5, 1)).constant == 0.25


def test_the_inner_maps_are_the_slide_s_two_neurons_each():
    knots, ranges = zigzag(5)
    left, right, (a, b) = knots[:-1, None], knots[1:, None], ranges.T[..., None]
    s = (b - a) / (right - left)
    neurons = s * torch.relu(X - left) - s * torch.relu(X - right) + a
    torch.testing.assert_close(divide(bump, knots, ranges).inner(X), neurons)


def test_the_ends_of_a_cell_and_of_its_range_are_met_to_the_bit():
    knots, ranges = zigzag(200)
    d = divide(lambda x: x, knots, ranges)
    assert torch.equal(d.outer(ranges), torch.stack([knots[:-1], knots[1:]], -1))
    k = torch.arange(201)
    right = k > torch.arange(200)[:, None]  # of cell i, whose right end is knot i + 1
    assert torch.equal(d.inner(knots), torch.where(right, ranges[:, 1:], ranges[:, :1]))


def test_at_an_inner_knot_the_derivative_is_that_of_the_function():
    knots, ranges = zigzag(7)
    x = knots.clone().requires_grad_()
    (slope,) = torch.autograd.grad(divide(torch.exp, knots, ranges)(x).sum(), x)
    torch.testing.assert_close(slope, torch.exp(knots))


def test_steep_functions_are_told_knots_rounded_as_the_samples_are():
    """Rounded to float32, 0.1 moves by 1.5e-9, and sin 10⁶x by 1e-3."""
    knots, _ = zigzag(30)
    x = knots.float()
    steep = lambda x: torch.sin(1e6 * x.double()).to(x)  # noqa: E731
    assert (steep(knots) - steep(x)).abs().sum() > 1e-2
    torch.testing.assert_close(divide(steep, knots)(x), steep(x), rtol=0, atol=1e-5)


def test_part_i_is_f_in_its_cell_and_less_steep_by_the_stretch():
    d = divide(torch.sin, (-1, 0, 0.5), ((3, 5), (2, -2)))
    y = torch.linspace(0, 1, 11, dtype=F64)
    torch.testing.assert_close(d.part(0)(3 + 2 * y), torch.sin(-1 + y))
    torch.testing.assert_close(d.part(1)(2 - 4 * y), torch.sin(y / 2))
    assert d.inner_slopes.tolist() == [2, -8]
    torch.testing.assert_close(d.outer_slopes(), torch.tensor([1 / 2, 1 / 8], dtype=F64))


def test_the_errors_of_the_parts_add_up_to_the_error_of_the_whole():
    """Of three parts the second is replaced by a line, wrong inside; the third is 0.1 too high."""
    d = divide(torch.exp, (-1, 0, 0.5, 1))
    left, right = 1.0, math.exp(0.5)
    line = lambda y: left + (right - left) * (y + 1) / 2  # noqa: E731
    errors = d.errors([d.part(0), line, lambda y: d.part(2)(y) + 0.1], X)
    inside = (X > 0) & (X < 0.5)
    assert (errors[0] == 0).all() and (errors[1][~inside].abs() < 1e-15).all()
    torch.testing.assert_close(errors[2], torch.full_like(X, 0.1))  # felt everywhere
    g = torch.where(inside, left + (right - left) * 2 * X, torch.exp(X)) + 0.1
    torch.testing.assert_close(errors.sum(0), g - torch.exp(X))


def test_what_a_part_is_given_never_leaves_its_cell():
    """√(1 − x²) is NaN one rounding beyond ±1, and so are its parts beyond their ranges."""
    half = lambda x: torch.sqrt(1 - x**2)  # noqa: E731
    knots, ranges = zigzag(30, seed=1)
    for x in (X, X.float()):
        torch.testing.assert_close(divide(half, knots, ranges)(x), half(x), rtol=0, atol=1e-3)


# --- the slides' two examples ---------------------------------------------------------------


def test_example_1_is_exact_and_its_maps_are_the_slide_s():
    two = stretch(bump, CUT, REACH)
    torch.testing.assert_close(two(X), bump(X), rtol=0, atol=1e-12)
    slide = torch.where(X < -0.1, (X - 8) / 9, torch.where(X > 0.1, (X + 8) / 9, 9 * X))
    torch.testing.assert_close(two.inner(X), slide)
    z = torch.where(X < -0.9, 9 * X + 8, torch.where(X > 0.9, 9 * X - 8, X / 9))
    torch.testing.assert_close(two.outer(X), bump(z), rtol=0, atol=1e-12)


def test_the_slide_s_knots_make_example_1_steeper():
    """|f'| = 200|x| exp(−100x²): √(200/e) at 1/√200, and 20/e at 0.1, there times 9."""
    assert steepest(bump, (-1, 1), 100_001).item() == pytest.approx(math.sqrt(200 / math.e))
    slopes = stretch(bump, CUT, REACH).outer_slopes()
    inner = math.sqrt(200 / math.e) / 9
    assert slopes.tolist() == pytest.approx([180 / math.e, inner, 180 / math.e], rel=1e-4)


def test_cut_at_0_226_example_1_is_a_quarter_as_steep_and_no_cut_does_better():
    cuts = [0.01 * k for k in range(8, 60)] + [0.226]
    slopes = {c: stretch(bump, (-1, -c, c, 1), REACH).outer_slopes().max().item() for c in cuts}
    assert min(slopes, key=slopes.get) == 0.226
    assert slopes[0.226] == pytest.approx(2.154, abs=1e-3)


def test_the_images_chosen_are_the_best():
    """Every piece is as steep as the next, Σ M_i h_i/2, and every other choice makes one steeper.

    |f'| = 2|x| has M = 2, 1, 2 on the cells of widths 1/2, 1, 1/2.
    """
    knots = torch.tensor([-1, -0.5, 0.5, 1], dtype=F64)
    two = stretch(torch.square, knots)
    assert two.outer_slopes().tolist() == pytest.approx([1.5, 1.5, 1.5])
    torch.testing.assert_close(two(X), X**2)
    for move in torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=F64):
        images = two.images.clone()
        images[1:3] += 0.05 * move
        assert stretch(torch.square, knots, images).outer_slopes().max() > 1.5


def test_ever_finer_cells_leave_the_variation():
    """|f_2'| → TV(f)/2 = 1 for the bump, which rises by 1 and falls by 1."""
    knots = torch.linspace(-0.4, 0.4, 401, dtype=F64)
    knots = torch.cat([knots.new_tensor([-1]), knots, knots.new_tensor([1])])
    assert stretch(bump, knots).outer_slopes().max().item() == pytest.approx(1, abs=0.02)


def test_example_2_is_exact_and_halves_the_turning_points():
    """cos 20πx on [−1, 1] has 41 extrema, two of them ends."""
    inner, outer = halves(wave)
    torch.testing.assert_close(outer(inner(X)), (torch.cos(20 * torch.pi * X) - 1) / 2)
    assert [turning_points(g(X)) for g in (wave, inner, outer)] == [39, 19, 20]


def test_turning_points_pass_over_what_is_flat():
    assert turning_points(torch.tensor([0.0, 1, 1, 2, 2, 1, 1, 3])) == 2
    assert turning_points(torch.zeros(5)) == 0


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [divide, stretch])
def test_knots_that_do_not_increase_are_refused(make):
    with pytest.raises(ValueError, match=r"knots must increase strictly, got 0.5 and then 0.2 at"):
        make(bump, (-1, 0.5, 0.2, 1))
    with pytest.raises(ValueError, match=r"knots must have shape \(n,\) with n ≥ 2, got \(1,\)"):
        make(bump, (1.0,))
    with pytest.raises(ValueError, match="knots must be finite, got nan at index"):
        make(bump, (-1, math.nan, 1))


@pytest.mark.parametrize("make", [divide, stretch])
def test_functions_that_are_not_finite_or_not_entry_by_entry_are_refused(make):
    with pytest.raises(ValueError, match=r"f\(x\) must be finite, got inf at index \[1\]"):
        make(torch.reciprocal, (-1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"f must act entry by entry, but takes \(3,\) to \(\)"):
        make(torch.sum, (-1, 0, 1))
    with pytest.raises(TypeError, match="f must return a tensor, made by torch, got 3"):
        make(lambda x: 3, (-1, 0, 1))
    with pytest.raises(TypeError, match="f must be a function"):
        make(3, (-1, 0, 1))
    jump = make(lambda x: 1 / (x - 0.25), (-1, 0, 1), *[(-1, 0, 1)] * (make is stretch))
    with pytest.raises(ValueError, match=r"f\(x\) must be finite, got inf"):
        jump(torch.tensor([0.25], dtype=F64))


@pytest.mark.parametrize("make", [divide, stretch])
def test_samples_outside_the_domain_are_refused(make):
    whole = make(torch.exp, (-1, 0, 1))
    with pytest.raises(ValueError, match=r"x must lie in the domain \[-1, 1\], got -1.5"):
        whole(torch.tensor([0.0, -1.5], dtype=F64))
    with pytest.raises(ValueError, match="x must be finite, got nan"):
        whole(torch.tensor([math.nan]))
    with pytest.raises(TypeError, match="x must be a float32 or float64 tensor"):
        whole(0.5)


def test_ranges_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"ranges must have a_i ≠ b_i, got 3 twice at index 1"):
        divide(bump, (-1, 0, 1), ((0, 1), (3, 3)))
    with pytest.raises(ValueError, match=r"ranges must have shape \(2, 2\), a pair for each cell"):
        divide(bump, (-1, 0, 1), ((0, 1),))
    with pytest.raises(ValueError, match=r"ranges must be finite, got inf"):
        divide(bump, (-1, 1), ((0, math.inf),))


def test_parts_are_called_within_their_ranges_and_all_of_them():
    d = divide(bump, (-1, 0, 1), ((0, 1), (2, -2)))
    with pytest.raises(ValueError, match=r"y\[1\] must lie between a = 2 and b = -2"):
        d.outer(torch.tensor([[0.5], [2.5]]))
    with pytest.raises(ValueError, match=r"y must have 2 rows, one a part, got 3"):
        d.outer(torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"i must be an integer ≥ 0 and ≤ 1, got 2"):
        d.part(2)
    with pytest.raises(ValueError, match=r"parts must be 2, one a cell, got 1"):
        d.errors([bump], X)
    with pytest.raises(ValueError, match=r"parts\[1\] must act entry by entry"):
        d.errors([bump, torch.sum], X)


def test_knots_too_close_for_the_samples_dtype_are_refused():
    d = divide(torch.exp, (0, 1, 1 + 1e-9, 2))
    assert d(X.abs()).isfinite().all()
    with pytest.raises(ValueError, match="knots must increase strictly, got 1 and then 1 at"):
        d(X.abs().float())


def test_images_that_do_not_fit_or_cannot_be_chosen_are_refused():
    with pytest.raises(ValueError, match="images must be as many as knots, 3, got 2"):
        stretch(bump, (-1, 0, 1), (-1, 1))
    with pytest.raises(ValueError, match="images must increase strictly"):
        stretch(bump, (-1, 0, 1), (-1, 1, 0))
    with pytest.raises(ValueError, match="f must vary in each cell for images to be chosen"):
        stretch(torch.relu, (-1, 0, 1))
    with pytest.raises(ValueError, match="autograd sees no dependence"):
        stretch(torch.ones_like, (-1, 0, 1))


def test_what_is_no_number_or_has_no_slope_is_named():
    with pytest.raises(TypeError, match="knots must be real numbers, or a tensor of them, got No"):
        divide(bump, None)
    with pytest.raises(TypeError, match=r"ranges must be real numbers, .* got 'ab'"):
        divide(bump, (-1, 1), "ab")
    with pytest.raises(TypeError, match=r"knots must be real numbers, .*complex64"):
        divide(bump, torch.tensor([1j, 2]))
    with pytest.raises(ValueError, match="what is between knots must be finite"):
        divide(torch.sin, (-1e308, 1e308))
    with pytest.raises(ValueError, match="images must increase strictly, got 1 and then 1"):
        stretch(torch.exp, torch.tensor([0, 1, 2.0]), (0, 1, 1 + 1e-9))
    for f in (torch.ones_like, lambda x: x.detach(), lambda x: torch.from_numpy(x.numpy())):
        with pytest.raises(ValueError, match=r"^f must be differentiable, but autograd"):
            steepest(f, (-1, 1))


def test_functions_that_do_not_halve_are_refused():
    with pytest.raises(ValueError, match="f must vanish at 0, where the halves meet, got 1"):
        halves(torch.exp)
    inner, outer = halves(torch.sin)
    assert outer(inner(X)).isfinite().all()
    with pytest.raises(ValueError, match=r"f on the left half must lie in the domain \[-1, 0\]"):
        halves(lambda x: -x)[0](X)
    with pytest.raises(ValueError, match=r"x must lie in the domain \[-1, 1\], got 2"):
        inner(torch.tensor([2.0]))
    with pytest.raises(ValueError, match=r"y must have shape \(n,\)"):
        turning_points(torch.zeros(2, 2))


def test_knots_that_change_afterwards_are_not_those_of_the_decomposition():
    knots, ends = torch.tensor(CUT, dtype=F64), torch.tensor(REACH, dtype=F64)
    pairs = torch.stack([ends[:-1], ends[1:]], -1)
    cut, stretched = divide(bump, knots, pairs), stretch(bump, knots, ends)
    for given in (knots, ends, pairs):
        given.zero_()
    for made in (cut, stretched):
        assert made.knots.tolist() == list(CUT)
    assert cut.ranges[0, 0] == -1 and stretched.images.tolist() == list(REACH)


def test_parts_that_are_no_list_are_named():
    with pytest.raises(TypeError, match="parts must be a list of functions, one a cell, got None"):
        divide(bump, CUT).errors(None, X)
