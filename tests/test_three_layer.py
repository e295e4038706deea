import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from dynbook.covariant import covariance_residual, covariant_vectors
from dynbook.lyapunov import lyapunov_spectrum, tangent_product
from dynbook.maps import gradient_descent
from dynbook.three_layer import CACHED, ThreeLayer


def normal(*shape, seed=0, dtype=torch.float64, device="cpu"):
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(device, dtype)


ACTIVATIONS = {
    "tanh": (torch.tanh, nn.Tanh()),
    "sigmoid": (torch.sigmoid, nn.Sigmoid()),
    "softplus": (nn.functional.softplus, nn.Softplus()),
    "relu": (torch.relu, nn.ReLU()),
    "none": (lambda z: z, nn.Identity()),
}


def problem(d=2, width=3, activation=torch.tanh, n=7, **kind):
    return ThreeLayer(normal(n, d, seed=1, **kind), normal(n, seed=2, **kind), width, activation)


def module_loss(loss, activation):
    """The same loss of a flat θ, by torch's own modules: nothing is shared with ThreeLayer."""
    d, H = loss.x.shape[1], loss.width
    network = nn.Sequential(nn.Linear(d, H), activation, nn.Linear(H, 1)).to(loss.x)
    shapes = {name: p.shape for name, p in network.named_parameters()}

    def of_flat(theta):
        pieces = theta.split([s.numel() for s in shapes.values()])
        parameters = {n: v.view(s) for (n, s), v in zip(shapes.items(), pieces, strict=True)}
        out = functional_call(network, parameters, (loss.x,))
        return nn.functional.mse_loss(out[:, 0], loss.y) / 2

    return of_flat


def members_of(one):
    """A loss of one θ as one of an ensemble with any leading dimensions."""
    return lambda theta: torch.vmap(one)(theta.flatten(0, -2)).unflatten(0, theta.shape[:-1])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("d", "width"), [(1, 3), (4, 1), (3, 5)])
def test_gradient_and_hessian_are_those_of_autograd(name, d, width, device):
    plain, module = ACTIVATIONS[name]
    loss = problem(d, width, plain, device=device)
    theta = normal(2, 3, loss.size, seed=3, device=device)
    by_torch = module_loss(loss, module)
    members = theta.view(-1, loss.size)
    for ours, theirs in (
        (loss, by_torch),
        (loss.gradient, torch.func.grad(by_torch)),
        (loss.hessian, torch.func.jacrev(torch.func.grad(by_torch))),
    ):
        expected = torch.stack([theirs(member) for member in members])
        torch.testing.assert_close(ours(theta).flatten(0, 1), expected, rtol=0, atol=1e-12)


def test_one_neuron_by_hand():
    """f = w a x + w b + c at one point x = 2 with a, b, w, c = 1, 3, 2, 1 and y = 4: r = 7."""
    loss = ThreeLayer(torch.tensor([[2.0]]), torch.tensor([4.0]), 1, lambda z: z)
    theta = torch.tensor([1.0, 3.0, 2.0, 1.0])
    g = torch.tensor([4.0, 2.0, 5.0, 1.0])
    by_hand = torch.outer(g, g)
    by_hand[2, :2] += 7 * torch.tensor([2.0, 1.0])
    by_hand[:2, 2] += 7 * torch.tensor([2.0, 1.0])
    assert loss(theta) == 24.5
    torch.testing.assert_close(loss.gradient(theta), 7 * g)
    torch.testing.assert_close(loss.hessian(theta), by_hand)


def test_exits_of_the_plateau_where_all_neurons_rest():
    """At A = b = w = 0 and c the mean of y, only w_h and A_h are coupled, by the mean of r x."""
    loss = problem(d=1, width=3)
    theta = torch.cat([torch.zeros(9), loss.y.mean()[None]]).double()
    m = ((loss.y.mean() - loss.y) * loss.x[:, 0]).mean().abs()
    values = torch.linalg.eigvalsh(loss.hessian(theta))
    expected = torch.tensor([-m, -m, -m, 0, 0, 0, m, m, m, 1]).double()
    torch.testing.assert_close(values, expected.sort().values, rtol=0, atol=1e-12)


def test_packing_and_unpacking_are_inverse():
    loss = problem(d=2, width=3)
    theta = normal(4, loss.size)
    A, b, w, c = loss.unpack(theta)
    assert A.shape == (4, 3, 2) and c.shape == (4,)
    assert torch.equal(loss.pack(A, b, w, c), theta)
    torch.testing.assert_close(
        loss.predict(theta, loss.x[:2]),
        (w[:, None] * torch.tanh(loss.x[:2] @ A.mT + b[:, None])).sum(-1) + c[:, None],
    )


def test_single_precision_stays_single():
    loss = problem(dtype=torch.float32)
    theta = normal(3, loss.size, dtype=torch.float32)
    double = problem()
    assert loss.hessian(theta).dtype == loss.gradient(theta).dtype == torch.float32
    torch.testing.assert_close(
        loss.hessian(theta).double(), double.hessian(theta.double()), rtol=1e-5, atol=1e-5
    )


def test_the_step_and_its_tangent_are_those_of_gradient_descent(device):
    loss = problem(device=device)
    theta = 0.5 * normal(3, loss.size, device=device)
    lr = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64, device=device)
    told = lyapunov_spectrum(loss.descent(lr), theta, n=40)
    by_torch = members_of(module_loss(loss, nn.Tanh()))
    found = lyapunov_spectrum(gradient_descent(by_torch, lr), theta, n=40)
    torch.testing.assert_close(told.exponents, found.exponents, rtol=0, atol=1e-10)
    torch.testing.assert_close(told.x, found.x)


def test_covariant_vectors_of_a_training_are_covariant_for_autograd_too():
    loss = problem()
    history = tangent_product(loss.descent(0.3), normal(2, loss.size, seed=5), n=60)
    residual = covariance_residual(
        gradient_descent(members_of(module_loss(loss, nn.Tanh())), 0.3),
        covariant_vectors(history, discard=5),
    )
    assert residual.max() < 1e-9


@pytest.mark.parametrize(
    ("in_place", "plain"), [(nn.ReLU(inplace=True), torch.relu), (torch.tanh_, torch.tanh)]
)
def test_an_activation_in_place_overwrites_nothing(in_place, plain):
    loss, expected = problem(activation=in_place), problem(activation=plain)
    theta = normal(3, loss.size)
    assert torch.equal(loss.x, expected.x)
    for method in ("gradient", "hessian", "__call__"):
        torch.testing.assert_close(getattr(loss, method)(theta), getattr(expected, method)(theta))


@pytest.mark.parametrize(
    "mixing",
    [
        lambda z: z.cumsum(0),
        lambda z: z.softmax(-1),
        lambda z: z / z.abs().max(),
        nn.Dropout(0.1),
        lambda z: z.sum(),
        lambda z: z.mT,
    ],
)
def test_an_activation_that_mixes_or_draws_is_refused(mixing):
    with pytest.raises(ValueError, match="must act on each number by itself"):
        problem(d=1, activation=mixing)


def test_the_step_of_descent_cannot_be_differentiated_twice():
    step, theta = problem().descent(0.1), normal(13).requires_grad_()
    (slope,) = torch.autograd.grad(step(theta).square().sum(), theta, create_graph=True)
    with pytest.raises(NotImplementedError, match="can be differentiated once"):
        slope.sum().backward()


@pytest.mark.parametrize("lr", [0, -0.1, math.inf, math.nan])
def test_a_rate_that_is_not_positive_is_refused(lr):
    with pytest.raises(ValueError, match="lr must be positive and finite"):
        problem().descent(lr)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: ThreeLayer(normal(5), normal(5), 2), ValueError, r"x\[:, None\]"),
        (lambda: ThreeLayer(normal(5, 1), normal(4), 2), ValueError, r"y \(n,\), got \(5, 1\)"),
        (lambda: ThreeLayer(normal(5, 1), normal(5).float(), 2), TypeError, "use y.to"),
        (lambda: ThreeLayer(normal(5, 1), normal(5), 0), ValueError, "width must be an integer"),
        (lambda: ThreeLayer(normal(5, 1) / 0, normal(5), 2), ValueError, "x must be finite"),
        (
            lambda: ThreeLayer(normal(5, 1), normal(5), 2, lambda z: z.softmax(0)),
            ValueError,
            "each number by itself",
        ),
        (lambda: ThreeLayer(normal(5, 1), normal(5), 2, 3), TypeError, "activation"),
        (lambda: problem()(normal(5)), ValueError, r"theta must have shape \(\.\.\., 13\)"),
        (lambda: problem()(normal(13).float()), TypeError, "theta must be a torch.float64"),
        (
            lambda: problem().descent(torch.ones(3, 1).double())(normal(13)),
            ValueError,
            r"lr must fit parameters of shape \(13,\), got shape \(3, 1\)",
        ),
        (lambda: problem().descent("fast"), TypeError, "lr must be a number"),
        (lambda: problem().descent(torch.ones(3)), ValueError, r"use lr\[:, None\]"),
    ],
)
def test_bad_input_is_refused_in_words(build, error, words):
    with pytest.raises(error, match=words):
        build()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 300.0])
def test_the_gradient_of_tanh_in_groups_of_members_is_that_of_any_activation(scale):
    """Of small networks to all digits: e^{2z} − 1 has those of z."""
    x = normal(64, 1)
    fast, clear = (ThreeLayer(x, x[:, 0].sin(), 20, f) for f in (torch.tanh, lambda z: z.tanh()))
    theta = scale * normal(3, 70, fast.size)
    assert theta[..., 0].numel() * 20 * 64 > 1.3 * CACHED
    expected = clear.gradient(theta)
    rounding = 2e-15 * max(scale, scale**2)
    torch.testing.assert_close(fast.gradient(theta), expected, rtol=1e-13, atol=rounding)
    theta[1, 5, 0] = torch.nan
    assert fast.gradient(theta).isnan().any(-1).nonzero().tolist() == [[1, 5]]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("d", "width"), [(1, 3), (4, 1), (3, 5)])
def test_products_with_the_parts_of_the_hessian_are_those_with_the_hessian(name, d, width, device):
    loss = problem(d, width, ACTIVATIONS[name][0], device=device)
    theta = normal(2, 3, loss.size, seed=3, device=device)
    V = normal(2, 3, loss.size, 4, seed=4, device=device)
    parts, hessian = loss.hessian_parts(theta), loss.hessian(theta)
    torch.testing.assert_close(parts @ V, hessian @ V, rtol=0, atol=1e-12)
    torch.testing.assert_close(parts[1] @ V[1], hessian[1] @ V[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(parts.gradient, loss.gradient(theta), rtol=0, atol=1e-12)
    assert (parts.bound >= hessian.abs().amax((-2, -1)) * (1 - 1e-12)).all()
