import math

import mpmath
import pytest
import torch
from scipy import integrate, stats

from dynbook.gaussian import activation_means, gaussian_mean, pair_means

VARIANCES = torch.tensor([1e-6, 0.3, 1.0, 40.0], dtype=torch.float64)


def by_mpmath(f, q, breaks=(0,)):
    """⟨f(√q z)⟩ with tanh-sinh quadrature in forty digits."""
    root = mpmath.sqrt(q)
    cuts = sorted({-30, 30, -1 / root, 1 / root, *(mpmath.mpf(b) / root for b in breaks)})
    cuts = [c for c in cuts if -30 <= c <= 30]
    with mpmath.workdps(30):
        return float(mpmath.quad(lambda z: f(root * z) * mpmath.npdf(z), cuts))


def test_powers_have_the_moments_of_a_gaussian(device):
    q = VARIANCES.to(device)
    for n in (2, 4, 8):
        exact = math.prod(range(1, n, 2)) * q ** (n / 2)
        mean = gaussian_mean(lambda x, n=n: x**n, q)
        assert mean.device.type == device
        torch.testing.assert_close(mean, exact, rtol=1e-12, atol=0)


def test_half_moments_are_exact_across_the_kink():
    """⟨max(x, 0)^n⟩ is half of ⟨x^n⟩ for even n, and √(q/2π) for n = 1."""
    relu = torch.relu
    exact = (VARIANCES / (2 * math.pi)).sqrt()
    torch.testing.assert_close(gaussian_mean(relu, VARIANCES), exact, rtol=1e-13, atol=0)
    square = gaussian_mean(lambda x: relu(x) ** 2, VARIANCES)
    torch.testing.assert_close(square, VARIANCES / 2, rtol=1e-13, atol=0)


def test_a_smooth_function_needs_no_small_variance():
    """⟨tanh²⟩ for slow and for steep arguments, and ⟨cos x⟩ = exp(−q/2)."""
    ours = gaussian_mean(lambda x: x.tanh() ** 2, VARIANCES)
    theirs = [by_mpmath(lambda x: mpmath.tanh(x) ** 2, q) for q in VARIANCES.tolist()]
    torch.testing.assert_close(ours, ours.new_tensor(theirs), rtol=1e-12, atol=0)
    q = VARIANCES[:3]
    torch.testing.assert_close(gaussian_mean(torch.cos, q), (-q / 2).exp(), rtol=1e-12, atol=0)


def test_a_named_kink_costs_no_digit_and_an_unnamed_one_is_refused():
    def clipped(x):
        return x.clamp(-1, 1) ** 2

    q = torch.tensor([0.2, 3.0], dtype=torch.float64)
    exact = [by_mpmath(lambda x: min(x * x, 1), s, (-1, 1)) for s in q.tolist()]
    ours = gaussian_mean(clipped, q, kinks=(-1, 1))
    torch.testing.assert_close(ours, q.new_tensor(exact), rtol=1e-13, atol=0)
    with pytest.raises(ValueError, match=r"q = 0.2 is not resolved.*kinks=\(…\)"):
        gaussian_mean(clipped, q)


def test_what_grows_too_fast_is_refused_and_what_is_not_finite():
    q = torch.tensor(9.0, dtype=torch.float64)
    assert gaussian_mean(torch.exp, q / 9).item() == pytest.approx(math.exp(0.5), rel=1e-12)
    with pytest.raises(ValueError, match="grows or wiggles too fast"):
        gaussian_mean(torch.exp, q)
    with pytest.raises(ValueError, match=r"finite for every x"):
        gaussian_mean(torch.log, q)


def test_the_derivative_is_that_of_autograd():
    """tanh' = 1 − tanh², and d⟨φ²⟩/dq by a central difference in mpmath."""
    square, tangent, rate = activation_means(torch.tanh, VARIANCES)
    for i, q in enumerate(VARIANCES.tolist()):
        exact = by_mpmath(lambda x: (1 - mpmath.tanh(x) ** 2) ** 2, q)
        assert tangent[i].item() == pytest.approx(exact, rel=1e-12)
        with mpmath.workdps(30):
            slope = mpmath.diff(lambda s: mpmath.mpf(by_mpmath_tanh(s)), q, h=q * 1e-4)
        assert rate[i].item() == pytest.approx(float(slope), rel=1e-6)
    torch.testing.assert_close(square, gaussian_mean(lambda x: x.tanh() ** 2, VARIANCES))


def by_mpmath_tanh(q):
    return by_mpmath(lambda x: mpmath.tanh(x) ** 2, q)


class Straight(torch.autograd.Function):
    """The identity, with a derivative that claims to be 2."""

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


@pytest.mark.parametrize(
    "phi",
    [torch.sign, lambda x: (x > 0).to(x), lambda x: x + 1e-3 * (x > 0).to(x), Straight.apply],
    ids=["sign", "step", "small step", "wrong derivative"],
)
@pytest.mark.parametrize("q", [1e-30, 1.0, 1e6])
def test_a_jump_is_refused(phi, q):
    with pytest.raises(ValueError, match="phi must be continuous"):
        activation_means(phi, torch.tensor(q, dtype=torch.float64))


def test_zero_and_infinite_variance_are_limits():
    q = torch.tensor([0.0, math.inf], dtype=torch.float64)
    torch.testing.assert_close(activation_means(torch.relu, q)[1], q.new_tensor([0.5, 0.5]))
    torch.testing.assert_close(activation_means(torch.tanh, q[:1])[1], q.new_tensor([1.0]))


@pytest.mark.parametrize("delta", [2.0, 1.3, 1.0, 0.1, 1e-6, 1e-12, 0.0])
def test_pairs_of_relu_are_the_arc_cosine_kernel(delta, device):
    """⟨(φ₁ − φ₂)²⟩/2 = q[1 − (sin θ + (π − θ) cos θ)/π]/2, ⟨φ'φ'⟩ = (π − θ)/2π, cos θ = 1 − δ."""
    q = VARIANCES.to(device)
    distance, slope = pair_means(torch.relu, q, torch.full_like(q, delta))
    with mpmath.workdps(40):
        theta = mpmath.acos(1 - mpmath.mpf(delta))
        kernel = (mpmath.sin(theta) + (mpmath.pi - theta) * mpmath.cos(theta)) / mpmath.pi
        half, tangent = float((1 - kernel) / 2), float((1 - theta / mpmath.pi) / 2)
    torch.testing.assert_close(distance, q * half, rtol=1e-10, atol=0)
    torch.testing.assert_close(slope, torch.full_like(q, tangent), rtol=1e-12, atol=1e-15)


def clipped_pair(q, delta):
    """Both means for φ = x clipped to (−1, 2): over u₂ given u₁ by hand, over u₁ by QUADPACK."""
    root, c, s = math.sqrt(q), 1 - delta, math.sqrt(delta * (2 - delta) * q)
    far, corners = 9 * root, [-1, 2, -1 / c, 2 / c]

    def density(u):
        return stats.norm.pdf(u / root) / root

    def given(u):
        """P(−1 < u₂ < 2) and ⟨φ(u₂)⟩, where u₂ ~ N(cu, s²)."""
        a, b = (-1 - c * u) / s, (2 - c * u) / s
        inside = stats.norm.cdf(b) - stats.norm.cdf(a)
        middle = c * u * inside + s * (stats.norm.pdf(a) - stats.norm.pdf(b))
        return inside, 2 * stats.norm.cdf(-b) - stats.norm.cdf(a) + middle

    def over(f, low, high):
        at = [p for p in corners if low < p < high]
        return integrate.quad(f, low, high, points=at or None, epsabs=1e-14, limit=400)[0]

    def clip(u):
        return min(max(u, -1), 2)

    gap = over(lambda u: density(u) * clip(u) * (clip(u) - given(u)[1]), -far, far)
    return gap, over(lambda u: density(u) * given(u)[0], max(-far, -1), min(far, 2))


@pytest.mark.parametrize("delta", [1.7, 0.5, 1e-3])
@pytest.mark.parametrize("q", [0.05, 2.0, 30.0])
def test_pairs_of_a_clipped_line_keep_their_digits(q, delta):
    """Two kinks each, not symmetric; where those of one meet those of the other moves with δ."""
    means = pair_means(
        lambda x: x.clamp(-1, 2),
        torch.tensor([q], dtype=torch.float64),
        torch.tensor([delta], dtype=torch.float64),
        kinks=(-1, 2),
    )
    assert [mean.item() for mean in means] == pytest.approx(clipped_pair(q, delta), rel=1e-11)


def test_a_batch_of_pairs_is_its_members():
    q = torch.linspace(0.1, 3, 70, dtype=torch.float64)
    delta = torch.linspace(0, 2, 70, dtype=torch.float64)
    together = torch.stack(pair_means(torch.tanh, q, delta))
    alone = [torch.stack(pair_means(torch.tanh, q[i], delta[i])) for i in (0, 33, 69)]
    torch.testing.assert_close(together[:, [0, 33, 69]], torch.stack(alone, -1), rtol=1e-12, atol=0)
