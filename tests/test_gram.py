import math
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad, quad
from scipy.special import j1

from dynbook.domains import Ball, Box, Interval, ridges
from dynbook.gram import (
    features,
    fem_gram,
    mass_matrix,
    moments,
    relu_gram,
    ridge_gram,
    symmetric_tiles,
)

POWERS = [1, 2, 3, 5]
ROUNDING = {torch.float32: 1e-6, torch.float64: 2e-15}
DOMAINS = [
    Interval(-1, 2),
    Box((-1.0, 0.0), (1.0, 0.5)),
    Box((-1.0,) * 3, (1.0,) * 3),
    Ball(2),
    Ball(3),
]

slopes = st.one_of(st.floats(-30, -0.02), st.floats(0.02, 30))
places = st.floats(0.0, 0.999)  # of the kink: a fraction of the way along the neuron's range


def neurons(n, domain=None, *, seed=0, dtype=torch.float64, device="cpu"):
    """Random slopes of both signs, kinks anywhere in the domain."""
    domain, g = domain or Interval(), torch.Generator().manual_seed(seed)
    w = torch.randn(n, domain.dim, generator=g, dtype=torch.float64)
    low, high = domain.extent(w)
    b = low + 0.98 * torch.rand(n, generator=g, dtype=torch.float64) * (high - low)
    return w.to(device, dtype), b.to(device, dtype)


def placed(w, place, left=-1.0, right=1.0):
    """Biases that put each neuron's kink a fraction of the way along its range."""
    w, place = (torch.tensor(x, dtype=torch.float64) for x in (w, place))
    low, high = torch.minimum(w * left, w * right), torch.maximum(w * left, w * right)
    return w, low + place * (high - low)


# --- one interval, closed form ---------------------------------------------------------------


def test_unit_slopes_give_the_kernel_integrated_by_hand():
    """∫ (x − b)(x − b') over (M, 1), expanded in powers of M; equal, but it cancels near 1."""
    b = torch.linspace(-1, 0.99, 41, dtype=torch.float64)
    M, m = torch.maximum(b[:, None], b), torch.minimum(b[:, None], b)
    expanded = (1 - M**3) / 3 - (M + m) * (1 - M**2) / 2 + M * m * (1 - M)
    torch.testing.assert_close(relu_gram(1.0, b), expanded, rtol=0, atol=1e-15)


@pytest.mark.parametrize("power", POWERS)
@settings(max_examples=25, deadline=None)
@given(w=st.lists(slopes, min_size=2, max_size=2), place=st.lists(places, min_size=2, max_size=2))
def test_an_entry_is_its_integral(power, w, place):
    w, b = placed(w, place)
    gram = relu_gram(w, b, power=power)
    (w0, w1), (b0, b1) = w.tolist(), b.tolist()
    cuts = sorted({-1.0, 1.0, *(min(max(k, -1.0), 1.0) for k in (b0 / w0, b1 / w1))})
    entry = sum(
        quad(lambda x: (max(w0 * x - b0, 0) * max(w1 * x - b1, 0)) ** power, u, v)[0]
        for u, v in pairwise(cuts)
    )
    size = math.sqrt(gram[0, 0] * gram[1, 1])
    assert gram[0, 1].item() == pytest.approx(entry, rel=1e-12, abs=1e-13 * size)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_the_thinnest_overlap_keeps_its_digits(power):
    """Kinks a few 1e-13 from an end or from each other, against mpmath's exact arithmetic."""
    w = torch.tensor([1.0, 2.0, -1.0, -0.5, 4.0, -8.0], dtype=torch.float64)
    kink = 1 - torch.tensor([3e-13, 1e-12, 2e-13, 2 - 5e-13, 0.7, 0.7 + 4e-13], dtype=w.dtype)
    gram = relu_gram(w, w * kink, power=power)

    def exact(i, j):
        (u, p), (v, q) = ((mpmath.mpf(w[k].item()), mpmath.mpf(kink[k].item())) for k in (i, j))
        lo, hi = (
            max(p if u > 0 else -1, q if v > 0 else -1),
            min(p if u < 0 else 1, q if v < 0 else 1),
        )
        return mpmath.quad(lambda x: (u * (x - p) * v * (x - q)) ** power, [lo, max(lo, hi)])

    with mpmath.workdps(150):  # mpmath.quad stops at an absolute error of 1e-150
        for i in range(6):
            for j in range(6):
                assert abs(gram[i, j].item() - exact(i, j)) <= 1e-15 * power * exact(i, j), (i, j)


def test_left_and_right_looking_neurons_overlap_between_their_kinks_only():
    """(x + ½)₊ and (½ − x)₊: ∫ (¼ − x²) over (−½, ½) = 1/6; back to back they never meet."""
    w = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    b = torch.tensor([-0.5, -0.5, 0.2, 0.2], dtype=torch.float64)  # kinks −½, ½, 0.2, −0.2
    gram = relu_gram(w, b)
    assert gram[0, 1].item() == pytest.approx(1 / 6, rel=1e-15)
    assert gram[2, 3].item() == 0.0


@pytest.mark.parametrize("power", POWERS)
def test_scaling_a_neuron_scales_its_row(power):
    w, b = neurons(9)
    c = torch.linspace(0.1, 7, 9, dtype=torch.float64)
    scaled = relu_gram(c[:, None] * w, c * b, power=power)
    expected = relu_gram(w, b, power=power) * (c[:, None] * c) ** power
    torch.testing.assert_close(scaled, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_permuting_the_neurons_permutes_the_matrix(domain):
    w, b = neurons(30, domain)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    gram = relu_gram(w, b, domain)
    torch.testing.assert_close(
        relu_gram(w[order], b[order], domain), gram[order][:, order], rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("power", POWERS)
@settings(max_examples=20, deadline=None)
@given(left=st.floats(-50, 50), length=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_an_affine_map_of_the_interval_multiplies_by_its_jacobian(power, left, length, seed):
    """x ↦ left + length (x + 1)/2 turns G into (length/2)^{2p+1} G."""
    w, b = neurons(6, seed=seed)
    half = length / 2
    moved = relu_gram(w, half * b + w[:, 0] * (left + half), Interval(left, left + length), power)
    expected = half ** (2 * power + 1) * relu_gram(w, b, power=power)
    size = expected.diagonal().sqrt()
    error = (moved - expected).abs() / (size[:, None] * size)
    assert error.max() < 1e-12 * (1 + abs(left) / length) * 100


def test_looking_at_the_interval_in_a_mirror_changes_nothing():
    w, b = neurons(12)
    torch.testing.assert_close(relu_gram(-w, b), relu_gram(w, b), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("power", [1, 2, 3])
def test_every_device_and_dtype_gives_the_same_matrix(power, dtype, device):
    w, b = neurons(50, dtype=dtype)
    reference = relu_gram(w.double(), b.double(), power=power)
    gram = relu_gram(w.to(device), b.to(device), power=power)
    assert gram.dtype == dtype and gram.device.type == device
    size = reference.diagonal().sqrt()
    error = (gram.double().cpu() - reference).abs() / (size[:, None] * size)
    assert error.max() < ROUNDING[dtype] * power


@pytest.mark.parametrize("n", [2, 191, 192, 193, 500])
@pytest.mark.parametrize("power", [1, 3, 5])
def test_the_matrix_is_symmetric_to_the_last_bit_and_whole(n, power):
    w, b = neurons(n)
    gram = relu_gram(w, b, power=power)
    assert torch.equal(gram, gram.mT)
    pairs = torch.randint(n, (40, 2), generator=torch.Generator().manual_seed(0))
    for i, j in pairs.tolist():  # two neurons alone are the same entry
        alone = relu_gram(w[[i, j]], b[[i, j]], power=power)[0, 1]
        torch.testing.assert_close(gram[i, j], alone, rtol=1e-14, atol=0)


def asked_for_gradients(w, b, **options):
    """The matrix by the clear version, which serves them."""
    return relu_gram(w, b.clone().requires_grad_(), **options).detach()


def stretched(n, slopes):
    """Random neurons with other slopes."""
    w, b = neurons(n)
    return w.sign() * slopes[:, None], b / w[:, 0].abs() * slopes


RAMPS = {
    "random": lambda: neurons(601),
    "two": lambda: neurons(2),
    "grouped by direction": lambda: tuple(v[neurons(99)[0][:, 0].argsort()] for v in neurons(99)),
    "one direction": lambda: (1.0, neurons(99)[1] / neurons(99)[0][:, 0].abs()),
    "the other": lambda: (-3.0, 3 * neurons(99)[1] / neurons(99)[0][:, 0].abs()),
    "equal slopes": lambda: stretched(99, torch.full((99,), 2.5).double()),
    "duplicates": lambda: tuple(v.repeat_interleave(3, 0)[:50] for v in neurons(20)),
    "wide slopes": lambda: stretched(40, torch.logspace(-5, 5, 40).double()),
}


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("name", RAMPS)
def test_ramps_in_few_passes_are_those_of_the_clear_version(name, dtype, device):
    """Entry by entry: facing float32 kinks are rounded in one and not in the other."""
    w, b = (v.to(device, dtype) if isinstance(v, torch.Tensor) else v for v in RAMPS[name]())
    gram, clear = relu_gram(w, b), asked_for_gradients(w, b)
    assert gram.dtype == dtype and torch.equal(gram, gram.mT)
    if dtype == torch.float64:
        torch.testing.assert_close(gram, clear, rtol=1.5e-15, atol=0)
    precise = asked_for_gradients(w.double() if isinstance(w, torch.Tensor) else w, b.double())
    torch.testing.assert_close(gram, precise.to(dtype), rtol=ROUNDING[dtype], atol=0)


def test_ramps_in_few_passes_with_dead_neurons():
    """The kinks of two of them are at infinity, which is no place to measure from."""
    w, b = neurons(40)
    b[::3] = w[::3, 0].abs() * torch.linspace(1, 9, 14, dtype=b.dtype)
    w[3:7:3], b[3:7:3] = 1e-149, 1e200
    gram = relu_gram(w, b, kinks=False)
    assert not gram[::3].any() and gram.diagonal()[1] > 0
    torch.testing.assert_close(gram, asked_for_gradients(w, b, kinks=False), rtol=1.5e-15, atol=0)


@pytest.mark.parametrize("slope, half", [(1e-160, 1e90), (1e160, 1e-90)])
def test_slopes_whose_product_is_no_number(slope, half):
    w, b = neurons(9)
    gram = relu_gram(slope * w, slope * half * b, Interval(-half, half))
    expected = slope * half**3 * relu_gram(w, b) * slope
    torch.testing.assert_close(gram, expected, rtol=1e-12, atol=0)


def test_forward_derivatives_are_those_of_the_reverse_sweep():
    w, b = neurons(5)
    v = torch.linspace(-1, 2, 5, dtype=b.dtype)
    _, forward = torch.func.jvp(lambda b: relu_gram(w, b), (b,), (v,))
    jacobian = torch.func.jacrev(lambda b: relu_gram(w, b))(b)
    torch.testing.assert_close(forward, jacobian @ v, rtol=1e-13, atol=1e-14)


def test_tiles_are_asked_for_once_each():
    asked = []

    def block(r, c):
        asked.append((r.start, c.start))
        return torch.arange(r.start, r.stop)[:, None] * 10.0 + torch.arange(c.start, c.stop)

    out = symmetric_tiles(block, 5, like=torch.zeros(1), tile=2)
    i, j = torch.arange(5)[:, None], torch.arange(5)
    assert torch.equal(out, torch.minimum(i, j) * 10.0 + torch.maximum(i, j))
    assert asked == [(0, 0), (0, 2), (0, 4), (2, 2), (2, 4), (4, 4)]


def test_gradients_flow_to_slopes_and_biases():
    w, b = neurons(4)
    equal = w.sign(), b / w[:, 0].abs()  # |w| = 1 everywhere
    for power in (1, 2):
        for pair in ((w, b), equal, (2 * equal[0], 2 * equal[1])):
            assert torch.autograd.gradcheck(
                lambda w, b, power=power: relu_gram(w, b, power=power),
                [x.detach().requires_grad_() for x in pair],
            )


def test_equal_slopes_that_are_not_one_count():
    w, b = neurons(9)
    w, b = w.sign(), b / w[:, 0].abs()
    torch.testing.assert_close(relu_gram(2 * w, 2 * b), 4 * relu_gram(w, b), rtol=1e-14, atol=0)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_a_kink_near_the_end_keeps_its_digits_where_the_product_rounds(power, dtype):
    """max w·x − b by rational numbers: w = 0.77 on (0, 0.3), 0.9 on (0, 0.9000001) and so on."""
    for right in (0.3, 0.9000001):
        w = torch.tensor([0.77, 1.0, -0.77, -3.1], dtype=dtype)
        b = w * torch.tensor([right, right, 0, 0], dtype=dtype) - w.abs() * 1e-8
        if dtype == torch.float32:
            b = torch.tensor([0.77 * right, right, 0, 0]) * (1 - 2e-7) - 1e-9
        low = [Fraction(right) if s > 0 else Fraction(0) for s in w.tolist()]
        exact = [
            (Fraction(u) * e - Fraction(c)) ** (2 * power + 1) / abs(Fraction(u)) / (2 * power + 1)
            for u, c, e in zip(w.tolist(), b.tolist(), low, strict=True)
        ]
        found = relu_gram(w, b, Interval(0, right), power).diagonal().tolist()
        subnormal = 2 * torch.finfo(dtype).tiny * torch.finfo(dtype).eps
        expected = [float(x) for x in exact]
        assert found == pytest.approx(expected, rel=10 * ROUNDING[dtype], abs=subnormal)


@pytest.mark.parametrize("power", [1, 2, 16])
@pytest.mark.parametrize("affine", [False, True])
def test_dead_and_affine_neurons_on_an_interval(power, affine):
    """Left and right of the kinks of (−1, 1): dead rows vanish, affine ones are polynomials."""
    w, b = placed([1, -2, 3, -1, 0.5, -1.5], [0.2, 0.5, 1, 1.5, -2 if affine else 0.9, 0.3])
    gram = relu_gram(w, b, power=power, kinks=False)
    assert not gram[2:4].any() and torch.equal(gram, gram.mT)
    for i, j in ((0, 1), (0, 4), (1, 4), (4, 4), (5, 4)):
        exact = quad(
            lambda x, i=i, j=j: (
                max(w[i].item() * x - b[i].item(), 0) * max(w[j].item() * x - b[j].item(), 0)
            )
            ** power,
            -1, 1, points=[k for k in (b / w).tolist() if abs(k) < 1], epsabs=1e-13,
        )[0]  # fmt: skip
        assert gram[i, j].item() == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("domain", [Ball(2), Ball(3), Box((-1, -1), (1, 1))], ids=str)
def test_dead_and_affine_neurons_elsewhere(power, domain):
    """G of w·x + 9 with itself by its moments; a dead row is zero."""
    w, b = neurons(5, domain)
    b[0], b[1] = 9, -9
    gram = relu_gram(w, b, domain, power, kinks=False)
    assert not gram[0].any() and (gram.diagonal()[1:] > 0).all()
    inertia = {2: math.pi / 4, 3: 4 * math.pi / 15}[domain.dim]
    variance = (4 / 3 if isinstance(domain, Box) else inertia) * w[1].square().sum()
    if power == 1:
        torch.testing.assert_close(gram[1, 1], 81 * domain.volume + variance, rtol=1e-12, atol=0)


def test_numbers_of_every_kind_are_slopes():
    w, b = torch.tensor(2.0).double(), torch.tensor([-0.5, 0.0, 0.9]).double()
    for number in (w, np.float32(2), np.int64(2), 2, torch.tensor(2)):
        assert torch.equal(relu_gram(number, b, power=np.int64(1)), relu_gram(2.0, b))


def test_five_dimensions_take_as_many_points_as_they_need():
    w, b, domain = FIVE
    gram = relu_gram(w, b, domain, points=8**5)
    assert gram[1, 1].item() == pytest.approx(32 * 5 / 3 / 2, rel=2e-2)  # half of ∫ (Σ x)²


MEMORY = """
import resource, torch
from dynbook.gram import relu_gram
torch.set_num_threads(1)
def neurons(n):
    w = torch.linspace(-2, 2, n, dtype=torch.float64)
    return w, 0.9 * w * torch.sin(torch.arange(n))
relu_gram(*neurons(600))
n, page = 4000, resource.getpagesize()
now = int(open("/proc/self/statm").read().split()[0]) * page
resource.setrlimit(resource.RLIMIT_AS, (now + 8 * n**2 + 2**24,) * 2)
gram = relu_gram(*neurons(n))
try:
    gram[: n // 3].clone()
except RuntimeError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads its size from /proc")
def test_memory_is_the_matrix_and_little_more():
    """A process that may grow by n² + 16 MiB holds the matrix, and not a third of it more."""
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "memory" in run.stdout


# --- any activation, any domain ---------------------------------------------------------------


SMOOTH = {
    "tanh": (torch.tanh, math.tanh),
    "sine": (torch.sin, math.sin),
    "Gaussian": (lambda t: torch.exp(-(t**2)), lambda t: math.exp(-t * t)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_activations_on_an_interval(name):
    """Biases outside the domain are welcome here: only a ReLU has a kink to lose."""
    ours, plain = SMOOTH[name]
    w, b = torch.tensor([3.0, -7.0, 0.2]).double(), torch.tensor([1.0, 9.0, 0.0]).double()
    gram = ridge_gram(ours, w, b, Interval(-1, 2))
    for i in range(3):
        for j in range(3):
            exact = quad(
                lambda x, i=i, j=j: (
                    plain(w[i].item() * x - b[i].item()) * plain(w[j].item() * x - b[j].item())
                ),
                -1,
                2,
                epsabs=1e-13,
                limit=200,
            )[0]
            assert gram[i, j].item() == pytest.approx(exact, rel=1e-11, abs=1e-12)


def wave_integral(domain, k, c):
    """∫ cos(k·x − c): Fourier transforms of box and ball, by hand."""
    if isinstance(domain, Ball):
        q = np.linalg.norm(k)
        if q < 1e-8:
            return math.cos(c) * domain.volume
        if domain.dim == 2:
            return math.cos(c) * 2 * math.pi * j1(q) / q
        return math.cos(c) * 4 * math.pi * (math.sin(q) - q * math.cos(q)) / q**3
    lower, upper = np.array(domain.lower), np.array(domain.upper)
    centre, half = (lower + upper) / 2, (upper - lower) / 2
    return math.cos(k @ centre - c) * np.prod(2 * half * np.sinc(k * half / math.pi))


@pytest.mark.parametrize("domain", DOMAINS[1:], ids=str)
def test_sines_have_the_fourier_transform_of_the_domain(domain):
    """2 sin α sin β = cos(α − β) − cos(α + β)."""
    g = torch.Generator().manual_seed(3)
    w = 2 * torch.randn(6, domain.dim, generator=g, dtype=torch.float64)
    b = 3 * torch.randn(6, generator=g, dtype=torch.float64)
    gram = ridge_gram(torch.sin, w, b, domain)
    for i in range(6):
        for j in range(6):
            (u, s), (v, t) = ((w[k].numpy(), b[k].item()) for k in (i, j))
            exact = (wave_integral(domain, u - v, s - t) - wave_integral(domain, u + v, s + t)) / 2
            assert gram[i, j].item() == pytest.approx(exact, rel=0, abs=1e-10)


@pytest.mark.parametrize("name", ["tanh", "Gaussian"])
def test_smooth_activations_on_the_disk_by_adaptive_quadrature(name):
    ours, plain = SMOOTH[name]
    w, b = torch.tensor([[1.0, 2.0], [-1.5, 0.5]]).double(), torch.tensor([0.3, -1.0]).double()

    def ridge(i, x, y):
        return plain(w[i, 0].item() * x + w[i, 1].item() * y - b[i].item())

    def polar(r, angle):
        x, y = r * math.cos(angle), r * math.sin(angle)
        return r * ridge(0, x, y) * ridge(1, x, y)

    exact = dblquad(polar, 0, 2 * math.pi, 0, 1, epsabs=1e-11)[0]
    assert ridge_gram(ours, w, b, Ball())[0, 1].item() == pytest.approx(exact, abs=1e-11)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("domain", DOMAINS[1:], ids=str)
def test_kinks_in_the_plane_and_in_space_agree_with_random_points(domain, power):
    w, b = neurons(8, domain, seed=5)
    gram = relu_gram(w, b, domain, power)
    g = torch.Generator().manual_seed(0)
    x = torch.rand(400_000, domain.dim, generator=g, dtype=torch.float64)
    if isinstance(domain, Ball):
        x = 2 * x - 1
        x, volume = x[x.norm(dim=1) < 1], domain.volume
    else:
        lower, upper = torch.tensor(domain.lower), torch.tensor(domain.upper)
        x, volume = lower + x * (upper - lower), domain.volume
    psi = (x @ w.mT - b).clamp(min=0) ** power
    mean = volume * psi.mT @ psi / len(x)
    square = volume**2 * (psi**2).mT @ psi**2 / len(x)
    error = ((square - mean**2) / len(x)).sqrt()
    size = gram.diagonal().sqrt()
    assert ((gram - mean).abs() < 4.5 * error + 1e-4 * size[:, None] * size).all()


@pytest.mark.parametrize("domain", [*DOMAINS[1:], Box((-1.0, -1.0), (1.0, 1.0))], ids=str)
def test_kinks_cost_as_much_as_documented(domain):
    """Random directions, kinks in the middle 70 %: against 50 times the points, or the disk's G."""
    g = torch.Generator().manual_seed(0)
    w = torch.randn(30, domain.dim, generator=g, dtype=torch.float64)
    low, high = domain.extent(w)
    b = low + (0.15 + 0.7 * torch.rand(30, generator=g, dtype=torch.float64)) * (high - low)
    gram = ridge_gram(torch.relu, w, b, domain)
    exact = relu_gram(w, b, domain, points=1_000_000)
    size = exact.diagonal().sqrt()
    worst = ((gram - exact).abs() / (size[:, None] * size)).max()
    assert worst < {2: 1e-4, 3: 1e-3}[domain.dim]


@pytest.mark.parametrize(
    "domain, worst",
    [(Box((-1.0, -1.0), (1.0, 1.0)), 1e-4), (Ball(2), 1e-4), (Ball(3), 1e-3)],
    ids=str,
)
def test_kinks_along_an_axis_cost_no_more(domain, worst):
    """Parallel ridges reduce to one dimension: the slices of the domain, by adaptive quadrature."""
    slices = {
        Box: lambda t: 2.0,
        Ball: lambda t: 2 * math.sqrt(1 - t * t) if domain.dim == 2 else math.pi * (1 - t * t),
    }[type(domain)]
    w = torch.zeros(4, domain.dim, dtype=torch.float64)
    w[:, -1] = torch.tensor([1.0, 1.0, -1.0, -1.0])
    b = torch.tensor([0.3, -0.4, -0.7, 0.1], dtype=torch.float64)
    gram = ridge_gram(torch.relu, w, b, domain)

    def ridge(i, t):
        return max(w[i, -1].item() * t - b[i].item(), 0.0)

    for i in range(4):
        for j in range(4):
            exact = quad(
                lambda t, i=i, j=j: slices(t) * ridge(i, t) * ridge(j, t), -1, 1,
                points=[0.3, -0.4, 0.7, -0.1], epsabs=1e-12,
            )[0]  # fmt: skip
            size = math.sqrt(gram[i, i] * gram[j, j])
            assert gram[i, j].item() == pytest.approx(exact, rel=0, abs=worst * size)


@pytest.mark.parametrize("power", [1, 2])
def test_quadrature_and_closed_form_agree_on_an_interval(power):
    w, b = neurons(40)
    quadrature = ridge_gram(lambda t: t.clamp(min=0) ** power, w, b)
    torch.testing.assert_close(quadrature, relu_gram(w, b, power=power), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_quadrature_follows_device_and_dtype(domain, dtype, device):
    w, b = neurons(7, domain, dtype=dtype)
    gram = ridge_gram(torch.tanh, w.to(device), b.to(device), domain)
    assert gram.dtype == dtype and gram.device.type == device
    assert torch.equal(gram, gram.mT)
    reference = ridge_gram(torch.tanh, w.double(), b.double(), domain)
    error = (gram.double().cpu() - reference).abs().max() / reference.abs().max()
    assert error < {torch.float32: 2e-5, torch.float64: 1e-13}[dtype]


def test_moments_are_integrals_against_the_neurons():
    w, b = placed([1.0, -2.0, 5.0], [0.1, 0.6, 0.9])
    ours = moments(lambda x: torch.exp(x[:, 0]), torch.relu, w, b)
    for i in range(3):
        kink = (b[i] / w[i]).item()
        exact = quad(
            lambda x, i=i: math.exp(x) * max(w[i].item() * x - b[i].item(), 0), -1, 1, points=[kink]
        )[0]
        assert ours[i].item() == pytest.approx(exact, rel=1e-12)


def test_moments_on_the_disk_are_a_column_of_the_gram_matrix():
    w, b = neurons(5, Ball())
    column = moments(lambda x: torch.tanh(x @ w[2] - b[2]), torch.tanh, w, b, Ball())
    torch.testing.assert_close(column, ridge_gram(torch.tanh, w, b, Ball())[:, 2])


def test_features_are_the_neurons_at_points():
    w, b = neurons(3, Ball())
    x = Ball().quadrature(50)[0]
    plain = [[max(float(u @ p - s), 0.0) for u, s in zip(w, b, strict=True)] for p in x]
    torch.testing.assert_close(
        features(torch.relu, w, b, x), torch.tensor(plain, dtype=torch.float64)
    )


# --- finite elements ------------------------------------------------------------------------


def test_the_mass_matrix_is_that_of_hat_functions():
    nodes = torch.tensor([-1.0, -0.2, 0.1, 0.9, 1.0], dtype=torch.float64)
    hats = np.eye(5)
    gram = fem_gram(nodes)
    for i in range(5):
        for j in range(5):
            exact = quad(
                lambda x, i=i, j=j: np.interp(x, nodes, hats[i]) * np.interp(x, nodes, hats[j]),
                -1,
                1,
                points=nodes[1:-1].tolist(),
            )[0]
            assert gram[i, j].item() == pytest.approx(exact, abs=1e-14)
    diagonal, off = mass_matrix(nodes)
    assert torch.equal(diagonal, gram.diagonal()) and torch.equal(off, gram.diagonal(1))


def condition_of_hats(nodes):
    values = np.linalg.eigvalsh(fem_gram(nodes).numpy())
    return values[-1] / values[0]


def test_equal_elements_have_condition_four():
    """λ_max → h from the waves, λ_min → h/4 from the mode (−½)^k that sits at an end."""
    gap = [4 - condition_of_hats(torch.linspace(-1, 1, n).double()) for n in (25, 50, 100)]
    assert 0 < gap[2] < 1e-3
    assert gap[0] / gap[1] == pytest.approx(4, rel=0.1) and gap[1] / gap[2] == pytest.approx(
        4, rel=0.1
    )


def test_random_elements_have_condition_in_the_hundreds_and_below_the_bound():
    found = []
    for seed in range(40):
        nodes = (
            (2 * torch.rand(400, generator=torch.Generator().manual_seed(seed)).double() - 1)
            .sort()
            .values
        )
        h = nodes.diff()
        found.append(condition_of_hats(nodes))
        assert found[-1] < 6 * h.max() / h.min()
    assert 100 < np.median(found) < 500


# --- refusals -------------------------------------------------------------------------------


B = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)
W2 = torch.eye(3, 2, dtype=torch.float64) + 0.5
THIN = torch.tensor([[0.48, 0.6, 0.64]] * 3, dtype=torch.float64)
FIVE = torch.ones(3, 5, dtype=torch.float64), B, Box((-1,) * 5, (1,) * 5)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: relu_gram(1.0, B[:0]), r"b must have shape \(n,\) with n ≥ 2.*got \(0,\)"),
        (lambda: relu_gram(1.0, B[:1]), r"b must.*at least two"),
        (lambda: relu_gram(1.0, B[:, None]), r"b must have shape.*got \(3, 1\)"),
        (lambda: relu_gram(1.0, B + 0.5), r"b must put.*neuron 2, got 1: .*zero.*drop it or move"),
        (lambda: relu_gram(1.0, B - 1), r"b must put.*neuron 0, got -1.5: .*affine"),
        (lambda: relu_gram(W2, 4 * B, Ball()), "kink inside the domain.*Ball"),
        (lambda: relu_gram(1.0, B / 0), "b must be finite"),
        (lambda: relu_gram(math.nan, B), "w must be finite, got nan"),
        (lambda: relu_gram(0.0, B), "w must be non-zero, neuron 0"),
        (lambda: relu_gram(B[:2], B), r"w must have shape \(3, 1\).*got \(2, 1\)"),
        (lambda: relu_gram(1.0, B, Ball()), r"w must have shape \(3, 2\)"),
        *(
            (lambda p=p: relu_gram(1.0, B, power=p), "power must be an integer ≥ 1 and ≤ 64, got")
            for p in (0, 1.5, math.nan, "2", None, 1j, 10**9)
        ),
        (lambda: relu_gram(1e200, 1e200 * B), "G must be finite.*overflows torch.float64; scale w"),
        (lambda: relu_gram(1e20, 1e20 * B.float()), "G must be finite.*overflows torch.float32"),
        (lambda: ridge_gram(lambda t: (300 * t).exp(), 1, B - 0.5), "G must be finite.*overflows"),
        (lambda: moments(lambda x: 1e308 * x[:, 0].cos(), torch.exp, 9, B), "∫ f σ must be finite"),
        (lambda: ridge_gram(torch.relu, THIN, -B * 0 + 0.999, Ball(3)), "neuron 0.*more points"),
        (lambda: relu_gram(THIN, -B * 0 + 0.999, Ball(3)), "no quadrature point sees neuron 0"),
        (lambda: relu_gram(THIN, -B * 0 + 0.999, Ball(3), kinks=False), "no quadrature point sees"),
        (lambda: relu_gram(*FIVE), r"points must be at least 8\^d = 32,768"),
        (lambda: relu_gram(W2, B, Box((-1, -1), (1, 1)), points=-5), "points must be an integer"),
        (lambda: features(torch.relu, W2, B, W2[:, :1]), r"x \(m, d\) must fit.*\(3, 1\)"),
        (lambda: features(torch.relu, W2, B, W2[0]), r"x \(m, d\) must fit"),
        (lambda: relu_gram(W2, B.clone().requires_grad_(), Ball()), r"gradients.*w.detach\(\)"),
        (lambda: fem_gram(B[None].expand(2, 3)), r"nodes must have shape \(n,\).*got \(2, 3\)"),
        (lambda: ridges(1.0, B[:1], Interval()), "at least two"),
        (lambda: ridge_gram(torch.sqrt, 1.0, B), "activation must be finite.*got nan at index"),
        (lambda: ridge_gram(lambda t: t.sum(1), 1.0, B), "activation must act elementwise"),
        (lambda: moments(lambda x: x, torch.relu, 1.0, B), r"f must map points.*x\[:, 0\]"),
        (lambda: moments(lambda x: x[:, 0] / 0, torch.relu, 1.0, B), "f must be finite.*inf"),
        (lambda: fem_gram(B[:1]), "nodes must have shape.*n ≥ 2"),
        (lambda: fem_gram(B.flip(0)), r"nodes must increase strictly.*sort them"),
        (lambda: fem_gram(B[[0, 0, 1]]), "drop duplicates"),
        (lambda: fem_gram(B * math.nan), "nodes must be finite"),
    ],
)
def test_what_is_no_network_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: relu_gram(B.float(), B), "w and b must share.*float32.*float64.*move one"),
        (lambda: relu_gram(B.to("meta"), B), "w and b must share.*meta.*cpu"),
        (lambda: relu_gram([1, 1, 1], B), r"w must be a tensor or a number, got \[1, 1, 1\]"),
        (lambda: relu_gram(1.0, B.int()), "b must be a float32 or float64.*int32"),
        (lambda: relu_gram(1.0, B.to(torch.complex128)), "b must be a float32 or float64"),
        (lambda: relu_gram(1.0, B.half()), r"convert with b.double\(\)"),
        (lambda: relu_gram(1.0, [0.1, 0.2]), r"b must be.*got \[0.1, 0.2\]"),
        (lambda: relu_gram(B.to_sparse(), B), r"w must be dense.*use w.to_dense\(\)"),
        (lambda: relu_gram(1.0, B, Interval), "domain must be an Interval.*got <class.*Interval"),
        (lambda: relu_gram(1.0, B, ()), r"domain must be an Interval, Box or Ball, got \(\)"),
        (lambda: relu_gram(1.0, B, 0), "domain must be an Interval, Box or Ball, got 0"),
        (lambda: ridge_gram(lambda t: 1.0, 1.0, B), "activation must map.*got 1.0"),
        (lambda: moments(lambda x: [0], torch.relu, 1.0, B), r"f must return.*got \[0\]"),
        (lambda: fem_gram([0.0, 1.0]), r"nodes must be a floating-point tensor, got \[0.0, 1.0\]"),
        (lambda: relu_gram(1.0, B, "disk"), "domain must be an Interval, Box or Ball, got 'disk'"),
        (lambda: ridge_gram(lambda t: t > 0, 1.0, B), r"activation must.*bool.*\.to\(t\)"),
        (lambda: moments(lambda x: x[:, 0].float(), torch.relu, 1.0, B), "f must.*float64"),
        (lambda: fem_gram(B.int()), "nodes must be a floating-point.*int32"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused_in_words(call, words):
    with pytest.raises(TypeError, match=words):
        call()


def test_a_kink_at_the_left_end_is_the_line_and_a_whole_float_is_a_power():
    """max(x + 1, 0) = x + 1 on (−1, 1): ∫ (x + 1)⁴ = 32/5."""
    b = torch.tensor([-1.0, 0.0], dtype=torch.float64)
    assert relu_gram(1.0, b, power=2.0)[0, 0].item() == pytest.approx(32 / 5, rel=1e-15)
