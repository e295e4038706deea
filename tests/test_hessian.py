import math
import warnings

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from dynbook.hessian import hessian, hessian_operator, hvp, sharpness, spectral_density
from dynbook.lanczos import ConvergenceWarning


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=1, dtype=torch.float64, device="cpu"):
    drawn = torch.randn(*shape, generator=generator(seed), dtype=torch.float64)
    return drawn.to(device, dtype)


X = normal(5, 2, seed=8)


def network_loss(theta):
    """A tanh network 2-4-1 with 17 parameters, written for any ensemble."""
    x = X.to(theta)
    W, b, w, c = theta.split([8, 4, 4, 1], -1)
    h = (x @ W.unflatten(-1, (4, 2)).mT + b[..., None, :]).tanh()
    out = (h @ w[..., None])[..., 0] + c
    return (out - x.prod(-1)).square().mean(-1)


def quadratic(p, seed=2, **kind):
    A = normal(p, p, seed=seed, **kind)
    A = A + A.mT
    return A, lambda theta: (theta * (theta @ A)).sum(-1) / 2


def test_products_of_a_quadratic_are_those_of_its_matrix(device):
    A, loss = quadratic(6, device=device)
    theta, v = normal(3, 6, device=device), normal(3, 6, 2, seed=3, device=device)
    torch.testing.assert_close(hvp(loss, theta, v), A @ v)
    torch.testing.assert_close(hvp(loss, theta, v[..., 0]), v[..., 0] @ A)
    torch.testing.assert_close(hessian(loss, theta[0]), A)


def test_products_of_a_network_are_differences_of_gradients():
    """Central differences err by h² = 1e-10; the gradient is checked by autograd elsewhere."""
    theta, v, h = normal(17), normal(17, seed=3), 1e-5

    def gradient(x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(network_loss(x), x)[0]

    difference = (gradient(theta + h * v) - gradient(theta - h * v)) / (2 * h)
    torch.testing.assert_close(hvp(network_loss, theta, v), difference, rtol=0, atol=1e-8)


def test_the_closed_hessian_of_the_rosenbrock_valley():
    def loss(theta):
        x, y = theta.unbind(-1)
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2

    theta = normal(4, 2)
    x, y = theta.unbind(-1)
    exact = torch.stack(
        [
            torch.stack([2 - 400 * (y - x * x) + 800 * x * x, -400 * x], -1),
            torch.stack([-400 * x, torch.full_like(x, 200)], -1),
        ],
        -2,
    )
    torch.testing.assert_close(hessian(loss, theta), exact)
    top = sharpness(loss, theta)
    np.testing.assert_allclose(top.value, np.linalg.eigvalsh(exact)[:, -1], rtol=1e-12)


@pytest.mark.parametrize("chunk", [None, 1, 5, 17, 100])
def test_the_dense_hessian_is_that_of_torch_func_whatever_the_chunk(chunk):
    theta = normal(2, 3, 17)
    H = hessian(network_loss, theta, chunk)
    assert H.shape == (2, 3, 17, 17) and torch.equal(H, H.mT)
    one_by_one = torch.stack([torch.func.hessian(network_loss)(t) for t in theta.flatten(0, 1)])
    torch.testing.assert_close(H.flatten(0, 1), one_by_one)


def test_a_loss_for_one_network_serves_an_ensemble_by_vmap():
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    net = net.double()
    names = [(name, p.shape, p.numel()) for name, p in net.named_parameters()]

    def loss(theta):
        parts = theta.split([n for *_, n in names])
        given = {name: t.view(shape) for (name, shape, _), t in zip(names, parts, strict=True)}
        return torch.func.functional_call(net, given, (X,)).square().mean()

    theta = normal(4, 13)
    H = hessian(torch.vmap(loss), theta)
    torch.testing.assert_close(H[2], torch.func.hessian(loss)(theta[2]))
    exact = np.linalg.eigvalsh(H)[:, -1]
    np.testing.assert_allclose(sharpness(torch.vmap(loss), theta).value, exact, rtol=1e-12)


def test_sharpness_is_the_top_of_the_dense_spectrum_with_its_vector(device):
    theta = normal(6, 17, device=device)
    top = sharpness(network_loss, theta)
    exact = np.linalg.eigvalsh(hessian(network_loss, theta).cpu())
    np.testing.assert_allclose(top.value.cpu(), exact[:, -1], rtol=1e-12)
    pushed = hvp(network_loss, theta, top.vector)
    torch.testing.assert_close(
        (pushed - top.value[:, None] * top.vector).norm(dim=-1), top.residual, rtol=0, atol=1e-12
    )
    warm = sharpness(network_loss, theta + 1e-6, start=top.vector)
    torch.testing.assert_close(warm.value, top.value, rtol=1e-4, atol=0)


def test_sharpness_is_the_largest_eigenvalue_and_not_the_largest_modulus():
    top = sharpness(lambda t: -5 * t[..., 0] ** 2 + t[..., 1] ** 2 / 2, normal(2))
    assert top.value.item() == pytest.approx(1, rel=1e-12)


def test_nothing_keeps_a_graph_and_no_grad_does_not_disturb():
    theta = normal(17).requires_grad_()
    v = normal(17, seed=3)
    outside = hvp(network_loss, theta, v)
    with torch.no_grad():
        assert torch.equal(hvp(network_loss, theta, v), outside)
    assert not outside.requires_grad and theta.grad is None
    assert not sharpness(network_loss, theta).value.requires_grad


def test_linear_and_partly_linear_losses_have_the_hessian_zero_there():
    flat = normal(4)
    assert torch.equal(hessian(lambda t: t.sum(-1), flat), torch.zeros(4, 4, dtype=flat.dtype))
    assert sharpness(lambda t: t.sum(-1), flat).value == 0
    H = hessian(lambda t: t[..., 0] ** 2 + t[..., 1], flat)
    assert H[0, 0] == 2 and H.abs().sum() == 2


def test_single_precision_is_right_to_its_own_rounding(device):
    theta = normal(3, 17, device=device)
    double, single = sharpness(network_loss, theta), sharpness(network_loss, theta.float())
    assert single.value.dtype == torch.float32 and single.value.device.type == device
    torch.testing.assert_close(single.value.double(), double.value, rtol=1e-5, atol=0)


def test_a_sharpness_that_has_not_converged_warns():
    _, loss = quadratic(200)
    with pytest.warns(ConvergenceWarning, match="after 3 products"):
        sharpness(loss, normal(200), max_steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sharpness(loss, normal(200))


def test_moments_of_the_density_are_quadratic_forms_of_the_probes():
    """Gauss quadrature with m nodes is exact to degree 2m − 1, for each vector by itself."""
    A, loss = quadratic(30)
    few = spectral_density(loss, normal(30), probes=6, steps=3, generator=generator(5))
    v = torch.randn(12, 30, generator=generator(5), dtype=torch.float64)[:6]
    v = v / v.norm(dim=1, keepdim=True)
    for order in range(6):
        forms = (v @ torch.linalg.matrix_power(A, order) * v).sum(-1)
        mean, error = few.moment(order)
        torch.testing.assert_close(mean, forms.mean())
        torch.testing.assert_close(error, forms.std() / math.sqrt(6))
    with pytest.raises(ValueError, match="order must be an integer ≥ 0 and ≤ 5"):
        few.moment(6)


def test_a_single_probe_knows_no_error():
    density = spectral_density(network_loss, THETA, probes=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, error = density.moment(1)
    assert mean.isfinite().all() and error.tolist() == 3 * [math.inf]


def test_a_density_far_below_the_squares_of_single_precision():
    theta = normal(17, dtype=torch.float32)
    plain = spectral_density(network_loss, theta, steps=5)
    tiny = spectral_density(lambda t: 1e-30 * network_loss(t), theta, steps=5)
    torch.testing.assert_close(tiny.nodes * 1e30, plain.nodes, rtol=1e-4, atol=1e-5)


def test_members_may_have_data_of_their_own():
    y = torch.arange(3, dtype=torch.float64)
    H = hessian(lambda t: y * t.square().sum(-1) / 2, THETA)
    torch.testing.assert_close(H, y[:, None, None] * torch.eye(17, dtype=torch.float64))


def test_trace_and_second_moment_lie_within_their_errors():
    theta = normal(3, 17)
    density = spectral_density(network_loss, theta, probes=400)
    h = torch.linalg.eigvalsh(hessian(network_loss, theta))
    for order in (1, 2):
        mean, error = density.moment(order)
        assert ((mean - (h**order).mean(-1)).abs() < 4 * error).all()
        assert (error < 0.2 * (h.abs() ** order).mean(-1)).all()


def test_the_density_is_the_smoothed_spectrum():
    A, loss = quadratic(120)
    x, width = torch.linspace(-80, 80, 400, dtype=torch.float64), 3.0
    density = spectral_density(loss, normal(120), probes=60, steps=40)(x, width)
    assert trapezoid(density, x) == pytest.approx(1, abs=1e-6)
    h = torch.linalg.eigvalsh(A)
    z = (x[:, None] - h) / width
    exact = ((-z.square() / 2).exp() / (width * math.sqrt(2 * math.pi))).mean(-1)
    assert (density - exact).abs().max() < 0.1 * exact.max()


def test_all_nodes_are_eigenvalues_where_the_steps_exhaust_the_space(device):
    theta = normal(2, 17, device=device)
    density = spectral_density(network_loss, theta, probes=3, steps=99)
    h = torch.linalg.eigvalsh(hessian(network_loss, theta))
    assert density.nodes.shape == (2, 3, 17) and density.dim == 17
    torch.testing.assert_close(density.nodes, h[:, None].expand(2, 3, 17), rtol=0, atol=1e-11)
    torch.testing.assert_close(density.weights.sum(-1), torch.ones_like(density.nodes[..., 0]))
    x = torch.linspace(-1, 5, 9).to(theta)
    assert density(x, 0.1).shape == (2, 9)


THETA = normal(3, 17)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: hvp("loss", THETA, THETA), TypeError, "loss must be a function"),
        (lambda: hvp(network_loss, THETA.tolist(), THETA), TypeError, "theta must be a float32"),
        (lambda: hvp(network_loss, THETA / 0, THETA), ValueError, "theta must be finite"),
        (lambda: hvp(network_loss, THETA, THETA[0]), ValueError, r"\(3, 17\) or \(3, 17, k\)"),
        (lambda: hvp(network_loss, THETA, THETA.float()), TypeError, "v must be torch.float64"),
        (
            lambda: hvp(lambda t: network_loss(t).mean(), THETA, THETA),
            ValueError,
            r"one number for each member, shape \(3,\), got \(\); torch.vmap",
        ),
        (
            lambda: hvp(lambda t: (t**2).sum(-1) * t.sum(), THETA, THETA),
            ValueError,
            "loss must not mix members.*goes from .* to .*; torch.vmap",
        ),
        (
            lambda: sharpness(lambda t: ((t - t.mean(0)) ** 2).sum(-1), THETA),
            ValueError,
            "loss must not mix members",
        ),
        (
            lambda: hessian(lambda t: (t - t.mean(1, keepdim=True)).square().sum(-1), THETA[None]),
            ValueError,
            "loss must not mix members",
        ),
        (
            lambda: hessian(lambda t: (t[:, 0] - THETA[1, 0]).abs() ** 1.5, THETA),
            ValueError,
            "finite Hessian, but a product with it is not at member 1",
        ),
        (
            lambda: hvp(lambda t: (t[:, 0] - THETA[2, 0]).abs() ** 1.5, THETA, THETA),
            ValueError,
            "finite Hessian, but a product with it is not at member 2",
        ),
        (lambda: hvp(network_loss, THETA, THETA[..., None][..., :0]), ValueError, "v must have"),
        (lambda: hvp(network_loss, THETA, THETA / 0), ValueError, "v must be finite"),
        (lambda: hvp(lambda t: 1.0, THETA, THETA), ValueError, "got 1.0"),
        (lambda: hvp(lambda t: t[:, 0].detach(), THETA, THETA), ValueError, "differentiable"),
        (
            lambda: sharpness(lambda t: (t[:, 0] - THETA[1, 0]).abs().sqrt(), THETA),
            ValueError,
            "finite gradient, but it has not at member 1",
        ),
        (
            lambda: sharpness(lambda t: (t[:, 0] - THETA[2, 0]).abs() ** 1.5, THETA),
            ValueError,
            "product 1 is not finite at member 2",
        ),
        (
            lambda: spectral_density(lambda t: (t[:, 0] - THETA[2, 0]).abs() ** 1.5, THETA),
            ValueError,
            r"product 1 is not finite at member \(2, 0\)",
        ),
        (lambda: hessian(network_loss, THETA, 0), ValueError, "chunk must be an integer ≥ 1"),
        (lambda: sharpness(network_loss, THETA, start=THETA[0]), ValueError, "shape of theta"),
        (lambda: spectral_density(network_loss, THETA, probes=0), ValueError, "probes must be"),
        (lambda: spectral_density(network_loss, THETA, steps=0), ValueError, "steps must be"),
        (
            lambda: spectral_density(network_loss, THETA)(THETA[0], 0),
            ValueError,
            "width must be positive",
        ),
    ],
)
def test_refusals_name_the_argument_and_what_came(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_an_operator_gives_the_same_product_again_and_again():
    product = hessian_operator(network_loss, THETA)
    v = normal(3, 17, 2, seed=4)
    assert torch.equal(product(v), product(v))
    torch.testing.assert_close(product(v[..., :1]), product(v)[..., :1])
