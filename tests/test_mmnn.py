"""Networks of balanced layers: against torch's modules, autograd and counting by hand."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss, softplus

from dynbook.chains import product
from dynbook.descent import flatten, module_loss
from dynbook.domains import Interval
from dynbook.maps import gradient
from dynbook.mmnn import MMNN, FullyConnected, equal_width

F64 = torch.float64
SIZES = {"width": 7, "rank": 3, "depth": 4, "inputs": 2, "outputs": 2}
MODULES = {torch.relu: nn.ReLU, torch.tanh: nn.Tanh, torch.sin: None, softplus: nn.Softplus}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mmnn(**changes):
    return MMNN(**{**SIZES, "dtype": F64, "generator": seeded(), **changes})


def data(count=50, dtype=F64, device="cpu"):
    x = 2 * torch.rand(count, 2, generator=seeded(1), dtype=F64) - 1
    y = torch.stack([x.prod(-1), x.sum(-1).sin()], -1)
    return x.to(device, dtype), y.to(device, dtype)


def chain(network, member=None, activation=nn.ReLU):
    """The network as torch's modules, in their order."""
    modules = []
    for (w, b), active in zip(network.maps(), network.active, strict=True):
        w, b = (w, b) if member is None else (w[member], b[member])
        linear = nn.Linear(w.shape[1], w.shape[0]).to(w)
        linear.load_state_dict({"weight": w.detach(), "bias": b.detach()})
        modules += [linear, activation()] if active else [linear]
    return nn.Sequential(*modules)


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [mmnn, lambda **kw: FullyConnected(
    7, 4, inputs=2, outputs=2, dtype=F64, generator=seeded(), **kw)])  # fmt: skip
def test_a_network_is_the_chain_of_linear_modules_that_it_says(make):
    x, _ = data()
    torch.testing.assert_close(make()(x), chain(make())(x))
    three = make(members=3)
    assert three(x).shape == (3, 50, 2)
    for i in range(3):
        torch.testing.assert_close(three(x)[i], chain(three, i)(x))
    grid = x.view(5, 10, 2)
    torch.testing.assert_close(three(grid), three(x).view(3, 5, 10, 2))
    torch.testing.assert_close(three(x[0]), three(x)[:, 0])


def test_components_and_hidden_values_lead_from_layer_to_layer():
    x, _ = data()
    network = mmnn(members=2)
    h = x.expand(2, -1, -1)
    for layer in range(1, 5):
        (w, b), (a, c) = network.maps()[2 * layer - 2 : 2 * layer]
        s = torch.relu(torch.einsum("mij,mnj->mni", w, h) + b[:, None])
        h = torch.einsum("mij,mnj->mni", a, s) + c[:, None]
        torch.testing.assert_close(network.hidden(x, layer), s)
        torch.testing.assert_close(network.components(x, layer), h)
    torch.testing.assert_close(network(x), h)


def test_residual_layers_add_what_came_in_where_ranks_agree():
    x, _ = data()
    network = mmnn(residual=True)
    h, maps = x, iter(network.maps())
    for layer, ((w, b), (a, c)) in enumerate(zip(maps, maps, strict=True)):
        new = torch.relu(h @ w.T + b) @ a.T + c
        h = new + h if layer in (1, 2) else new
    torch.testing.assert_close(network(x), h)


def test_many_points_are_taken_in_pieces_without_a_seam():
    x = torch.linspace(-1, 1, 30_000, dtype=F64)[:, None]
    network = MMNN(40, 3, 2, generator=seeded(), dtype=F64)
    assert len(network._pieces(x, network.theta)) > 1
    torch.testing.assert_close(network(x), chain(network)(x))


# --- gradients ------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [None, 1, 3])
@pytest.mark.parametrize("activation", MODULES)
@pytest.mark.parametrize("options", [{}, {"residual": True}, {"train_inner": True},
                                     {"residual": True, "train_inner": True}, "full"])  # fmt: skip
def test_gradients_by_hand_are_those_of_autograd(options, activation, members, device):
    x, y = data(device=device)
    plain = {"activation": activation, "members": members, "device": device}
    if options == "full":
        network = FullyConnected(7, 3, inputs=2, outputs=2, dtype=F64, generator=seeded(), **plain)
    else:
        network = mmnn(**plain, **options)
    each = (network(x) - y).square().mean((-2, -1))
    each.sum().backward()
    loss, gradients = network.loss_and_gradients(x, y)
    torch.testing.assert_close(loss, each.detach(), rtol=1e-13, atol=0)
    torch.testing.assert_close(network.loss(x, y), loss)
    torch.testing.assert_close(gradients, network.theta.grad, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("activation", [torch.relu, softplus])
def test_losses_and_gradients_of_many_points_are_sums_over_the_pieces(activation):
    x = torch.linspace(-1, 1, 30_000, dtype=F64)[:, None]
    y = 1 + torch.sin(9 * x)
    network = MMNN(40, 3, 2, generator=seeded(), dtype=F64, activation=activation)
    assert len(network._pieces(x, network.theta)) == 3
    modules = chain(network, activation=MODULES[activation])
    expected = mse_loss(modules(x), y)
    expected.backward()
    slope = torch.cat([p.grad.flatten() for a in modules[2::3] for p in a.parameters()])  # A and c
    for theta in (None, network.hold(network.theta.detach())):
        loss, gradient = network.loss_and_gradients(x, y, theta)
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(gradient, slope)
    assert theta.gradient is gradient
    torch.testing.assert_close(network.loss(x, y), expected.detach())


class Unhashable:
    """As a dataclass is, whose objects can be compared."""

    def __eq__(self, other):
        return False

    def __call__(self, z):
        return torch.relu(z)


@pytest.mark.parametrize(
    "other, name",
    [(nn.ReLU(), torch.relu), (nn.functional.relu, torch.relu), (torch.relu_, torch.relu),
     (nn.Tanh(), torch.tanh), (torch.Tensor.sin, torch.sin), (Unhashable(), torch.relu)],
)  # fmt: skip
def test_an_activation_under_another_name_is_the_same(other, name):
    network = mmnn(activation=other, members=2)
    found = network.loss_and_gradients(*data()), network(data()[0])
    expected = mmnn(activation=name, members=2)
    torch.testing.assert_close(
        found, (expected.loss_and_gradients(*data()), expected(data()[0])), rtol=1e-11, atol=1e-14
    )
    assert (network.activation is name) != isinstance(other, Unhashable)
    assert len(list(network.parameters())) == 1


def test_memory_that_is_used_again_holds_the_gradient_of_the_last_call():
    x, y = data()
    for network in (mmnn(), mmnn(members=2), mmnn(activation=softplus)):
        theta = network.theta.detach().clone()
        held, first = network.hold(theta), network.loss_and_gradients(x, y, theta)
        for factor in (1, 0.5):
            theta.mul_(factor)  # in place: its views see it
            now, fresh = (network.loss_and_gradients(x, y, t) for t in (held, theta))
            assert torch.equal(now[0], fresh[0]) and torch.equal(now[1], fresh[1])
        assert not torch.equal(now[1], first[1])


def test_no_points_and_no_states_have_no_values():
    network = mmnn(members=2)
    assert network(data()[0][:0]).shape == (2, 0, 2)
    assert network(data()[0], network.theta[None][:0]).shape == (0, 2, 50, 2)


def test_members_and_states_of_a_training_are_batches_of_what_one_has():
    x, y = data()
    network = mmnn(members=3)
    states = network.theta.detach() * torch.tensor([1.0, 0.5], dtype=F64)[:, None, None]
    assert network(x, states).shape == (2, 3, 50, 2)
    loss, gradients = network.loss_and_gradients(x, y, states)
    for i in range(2):
        one, slope = network.loss_and_gradients(x, y, states[i])
        torch.testing.assert_close(loss[i], one)
        torch.testing.assert_close(gradients[i], slope)
        torch.testing.assert_close(network(x, states)[i], network(x, states[i]))


def test_large_products_in_float32_agree_with_double_precision():
    x = torch.linspace(-1, 1, 3000, dtype=F64)[:, None]
    y = torch.sin(9 * x)
    for members in (None, 2):
        found = []
        for dtype in (torch.float32, F64):
            network = MMNN(300, 20, 3, generator=seeded(), dtype=dtype, members=members)
            found.append(network.loss_and_gradients(x.to(dtype), y.to(dtype)))
        (loss, slope), (exact, true) = found
        torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
        assert (slope - true).norm() < 3e-4 * true.norm()


def test_flat_parameters_suit_the_tools_for_any_network():
    x, y = data()
    network = mmnn()
    loss = module_loss(network, mse_loss, x, y)
    thetas = torch.stack([flatten(network), flatten(network) / 2])
    values, slopes = network.loss_and_gradients(x, y, thetas)
    torch.testing.assert_close(loss(thetas), values)
    torch.testing.assert_close(gradient(loss, thetas), slopes)


@pytest.mark.parametrize("a, b", [((5, 9), (9, 2)), ((9, 2), (2, 5)), ((3, 7, 8), (3, 8, 1))])
def test_a_product_is_a_product_in_either_order(a, b):
    a, b = torch.randn(*a, generator=seeded()), torch.randn(*b, generator=seeded())
    torch.testing.assert_close(product(a, b), a @ b)


# --- what is drawn --------------------------------------------------------------------------


def test_an_ensemble_begins_with_the_networks_of_a_smaller_one():
    one, two, five = (mmnn(members=m) for m in (None, 2, 5))
    for (w, b), (v, c), (u, d) in zip(one.maps(), two.maps(), five.maps(), strict=True):
        assert torch.equal(u[:2], v) and torch.equal(d[:2], c)
        assert torch.equal(v[0], w) and torch.equal(c[0], b)
    assert five.theta.std(0).min() > 0
    single = mmnn(dtype=torch.float32)
    assert torch.equal(single.theta, one.theta.float())


def test_every_kink_meets_the_cube_or_the_ball_if_they_are_to_cover_it():
    """A neuron whose kink meets the cube takes both signs at its corners."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=F64)] * 3)
    for init, share in (("covering", 1.0), ("linear", 0.97)):
        network = MMNN(500, 3, 2, inputs=3, init=init, generator=seeded(), dtype=F64)
        w, b = network.maps()[0]
        values = corners @ w.T + b
        met = ((values.amin(0) < 0) & (values.amax(0) > 0)).double().mean()
        assert met == 1 if share == 1 else met < share
    first = MMNN(500, 3, 2, init="first", generator=seeded(), dtype=F64).maps()
    torch.testing.assert_close(first[0][0].abs(), torch.ones(500, 1, dtype=F64))
    assert first[2][0].norm(dim=-1).std() > 0.1
    w, b = MMNN(500, 3, 2, generator=seeded(), dtype=F64).maps()[2]
    torch.testing.assert_close(w.norm(dim=-1), torch.ones(500, dtype=F64))
    assert b.abs().max() < 1 and abs(b.square().mean() - 1 / 3) < 0.03
    w, b = MMNN(500, 3, 2, generator=seeded(), dtype=F64).maps()[0]
    kinks = (-b / w[:, 0]).sort().values
    assert kinks.diff().max() < 0.05 * Interval().volume and kinks.abs().max() < 1
    torch.testing.assert_close(w.abs(), torch.ones_like(w))


def test_linear_default_is_that_of_torch():
    """Uniform in ±1/√fan-in: the bound is kept, nearly reached, and the variance a third of it."""
    network = MMNN(400, 25, 3, init="linear", generator=seeded(), dtype=F64)
    for w, b in network.maps():
        bound = w.shape[1] ** -0.5
        for part in (w, b):
            assert part.abs().max() <= bound
            if part.numel() > 300:
                assert part.abs().max() > 0.98 * bound
                assert abs(part.var() / bound**2 - 1 / 3) < 0.04


# --- sizes ----------------------------------------------------------------------------------


def test_trained_numbers_and_operations_are_counted():
    """(7, 3, 4) from 2 to 2: A is 3×7 thrice and 2×7, c 3 thrice and 2."""
    assert mmnn().count() == 3 * (21 + 3) + 14 + 2
    inner = 2 * 7 + 3 * 3 * 7 + 4 * 7
    assert mmnn(train_inner=True).count() == mmnn().count() + inner
    w, a = [14, 21, 21, 21], [21, 21, 21, 14]  # W forth and back, A too and once for itself
    assert mmnn().flops == 2 * (2 * sum(w) - w[0] + 3 * sum(a) - a[0])
    assert sum(p.numel() for p in chain(mmnn()).parameters()) == mmnn().count() + inner


@pytest.mark.parametrize("count", [20, 500, 4_431, 121_000])
@pytest.mark.parametrize("depth", [1, 2, 6])
def test_the_rival_has_nearly_as_many_trained_numbers(count, depth):
    width = equal_width(count, depth, inputs=2)

    def off(w):
        return abs(FullyConnected(w, depth, inputs=2, generator=seeded()).count() - count)

    assert off(width) <= min(off(width + 1), off(max(width - 1, 1)))


# --- refusals -------------------------------------------------------------------------------

X, Y = data()


@pytest.mark.parametrize(
    "error, call, words",
    [
        (ValueError, lambda: mmnn(rank=0), "rank must be an integer ≥ 1, got 0"),
        (ValueError, lambda: mmnn(width=0), "width must be an integer ≥ 1"),
        (ValueError, lambda: mmnn(depth=1.5), "depth must be an integer ≥ 1, got 1.5"),
        (ValueError, lambda: mmnn(inputs=0), "inputs must be"),
        (ValueError, lambda: mmnn(outputs=0), "outputs must be"),
        (ValueError, lambda: mmnn(members=0), "members must be"),
        (ValueError, lambda: mmnn(init="he"), "'covering', 'first' or 'linear', got 'he'"),
        (TypeError, lambda: mmnn(activation="relu"), "activation must be a function"),
        (TypeError, lambda: mmnn(generator=0), "generator must be a torch.Generator on the CPU"),
        (TypeError, lambda: mmnn(dtype=torch.float16), "dtype must be torch.float32 or"),
        (TypeError, lambda: mmnn()(X.float()), "x must be a torch.float64 tensor, got a torch.f"),
        (ValueError, lambda: mmnn()(X[:, :1]), r"x must have shape \(..., 2\).*got \(50, 1\)"),
        (ValueError, lambda: mmnn()(X, X[:3, 0]), r"theta must have shape \(..., 88\).*got \(3,\)"),
        (TypeError, lambda: mmnn()(X, torch.ones(88)), "theta must be a torch.float64 tensor"),
        (TypeError, lambda: mmnn()(X, [1.0]), r"theta must be a torch.float64 tensor, got \[1.0\]"),
        (
            ValueError,
            lambda: mmnn(members=3)(X, mmnn().theta),
            r"theta must have shape \(..., 3, 88\), the trained numbers of this MMNN, got \(88,\)",
        ),
        (
            ValueError,
            lambda: mmnn(members=3).loss_and_gradients(X, Y, mmnn(members=2).theta),
            r"theta must have shape \(..., 3, 88\).*got \(2, 88\)",
        ),
        (TypeError, lambda: mmnn(activation=nn.ReLU), r"got the class ReLU: give ReLU\(\)"),
        (ValueError, lambda: mmnn(activation=nn.PReLU()), "activation must have no parameters"),
        (ValueError, lambda: mmnn(activation=nn.Dropout(0.5)), "Dropout behaves as in training"),
        (ValueError, lambda: mmnn(activation=torch.sum), r"act entry by entry.*float64 tensor, \("),
        (ValueError, lambda: mmnn(activation=nn.GLU(0)), r"entry by entry.*, \(1, 3\)"),
        (
            ValueError,
            lambda: mmnn(activation=partial(nn.functional.dropout, p=0.5)),
            "entry by entry, and alike each time",
        ),
        (ValueError, lambda: mmnn(activation=lambda z: z - z.mean(0)), "alone: does it draw"),
        (ValueError, lambda: mmnn(activation=nn.Softmax(-1)), "alone: does it draw"),
        (
            ValueError,
            lambda: mmnn().loss_and_gradients(X, Y, mmnn().hold(mmnn().theta.detach())),
            "theta must be held by this network",
        ),
        (TypeError, lambda: mmnn().hold([1.0]), "theta must be a torch.float64 tensor"),
        (
            ValueError,
            lambda: mmnn().loss(X, Y, mmnn().theta),
            "theta must not require a gradient, which loss does not record",
        ),
        (ValueError, lambda: mmnn(activation=lambda z: z > 0), "keep the dtype.* torch.bool"),
        (ValueError, lambda: mmnn().hidden(X, 5), "layer must be an integer ≥ 1 and ≤ 4, got 5"),
        (ValueError, lambda: mmnn().components(X, 0), "layer must be"),
        (ValueError, lambda: mmnn().loss_and_gradients(X[:0], Y[:0]), "N ≥ 1"),
        (
            ValueError,
            lambda: mmnn().loss_and_gradients(X, Y[:, :1]),
            r"y must have shape \(50, 2\).*got \(50, 1\)",
        ),
        (TypeError, lambda: mmnn().loss_and_gradients(X, Y.float()), "y must be a torch.float64"),
        (ValueError, lambda: equal_width(3, 2), "count must be ≥ 6, what width 1 has"),
        (ValueError, lambda: equal_width(100, 0), "depth must be"),
        (ValueError, lambda: FullyConnected(0, 2, generator=seeded()), "width must be"),
    ],
)
def test_what_is_not_meant_is_refused_in_words(error, call, words):
    with pytest.raises(error, match=words):
        call()
