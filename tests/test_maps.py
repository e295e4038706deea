"""Layers, time steps and orbits."""

import math

import pytest
import torch
from torch import nn

from dynbook.lyapunov import lyapunov_spectrum
from dynbook.maps import (
    OrbitError,
    euler,
    gradient,
    gradient_descent,
    iterate,
    layers,
    leapfrog,
    orbit_diagram,
    rk4,
)
from dynbook.tangent import linearize

F64 = torch.float64


def logistic(r):
    return lambda x: r * x * (1 - x)


# --- layers ---------------------------------------------------------------------------------


def test_activations_join_the_layer_before_them():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))
    maps = layers(net)
    assert [[type(m).__name__ for m in part.modules()][-1] for part in maps] == [
        "Tanh",
        "Tanh",
        "Linear",
    ]
    x = y = torch.rand(4, 3)
    for step in maps:
        y = step(y)
    torch.testing.assert_close(y, net(x), rtol=0, atol=0)


def test_nested_networks_are_opened_and_what_comes_first_joins_the_first_layer():
    inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Dropout())
    net = nn.Sequential(nn.Flatten(), inner, nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))
    maps = layers(net.eval())
    assert [len(list(step.children())) for step in maps] == [5, 0]
    assert len(layers(nn.Sequential(nn.Tanh(), nn.ReLU()))) == 1
    assert len(layers(nn.Sequential(nn.Linear(2, 2), nn.PReLU()))) == 2


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def test_a_chain_that_does_more_than_its_parts_is_one_layer():
    """Opened, a residual block would lose its shortcut, and a hook would not be called."""
    hooked = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    hooked.register_forward_hook(lambda module, x, y: 2 * y)
    net = nn.Sequential(nn.Linear(3, 3), Residual(nn.Linear(3, 3), nn.Linear(3, 3)), hooked)
    maps = layers(net)
    assert len(maps) == 3
    x = y = torch.rand(4, 3)
    for step in maps:
        y = step(y)
    torch.testing.assert_close(y, net(x), rtol=0, atol=0)
    for alone in (net[1], hooked):
        with pytest.raises(TypeError, match=r"neither hooks nor a forward of its own.*layers\("):
            layers(alone)
    assert layers([net[1]]) == [net[1]]
    assert len(layers(nn.ModuleList([nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)]))) == 2


def test_a_list_of_maps_is_taken_as_it_is():
    maps = [torch.tanh, nn.Tanh(), logistic(4)]
    assert layers(maps) == maps
    assert layers(iter(maps)) == maps


# --- time steps -----------------------------------------------------------------------------


def circle(x):
    return torch.stack([x[..., 1], -x[..., 0]], -1)


@pytest.mark.parametrize(
    "make, order",
    [
        (lambda dt: euler(circle, dt), 1),
        (lambda dt: leapfrog(torch.neg, dt), 2),
        (lambda dt: rk4(circle, dt), 4),
    ],
)
def test_the_error_after_one_turn_falls_as_a_power_of_the_time_step(make, order):
    x0 = torch.tensor([1.0, 0.0], dtype=F64)
    turns = [64, 128, 256]
    errors = [(iterate(make(2 * math.pi / n), x0, n)[-1] - x0).norm().log2() for n in turns]
    assert errors[1] - errors[2] == pytest.approx(order, abs=0.1)


def test_one_step_of_each_by_hand():
    """x' = x: 1 + h, and the first five terms of e^h; kick, drift, kick of q'' = −q."""
    one, h = torch.ones(1, dtype=F64), 0.5
    assert euler(lambda x: x, h)(one).item() == 1.5
    assert rk4(lambda x: x, h)(one).item() == pytest.approx(1 + h + h**2 / 2 + h**3 / 6 + h**4 / 24)
    q, p = leapfrog(torch.neg, h)(torch.tensor([1.0, 2.0], dtype=F64))
    assert q == 1 + h * (2 - h / 2) and p == pytest.approx(2 - h / 2 - h / 2 * q.item())


def test_leapfrog_goes_back_to_where_it_came_from():
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(0), dtype=F64)
    there = leapfrog(torch.sin, 0.3)(x)
    torch.testing.assert_close(leapfrog(torch.sin, -0.3)(there), x, rtol=0, atol=1e-15)


def test_every_member_may_have_its_own_time_step():
    dt = torch.tensor([[0.1], [0.2]], dtype=F64)
    x = torch.ones(2, 3, dtype=F64)
    torch.testing.assert_close(euler(lambda x: x, dt)(x), x * (1 + dt))


# --- gradient descent -----------------------------------------------------------------------

CURVATURES = torch.tensor([0.5, 1.0, 4.0], dtype=F64)


def bowl(theta):
    return (CURVATURES.to(theta) * theta**2).sum(-1) / 2


def double_well(theta):
    return (theta**4 / 4 - theta**2 / 2).sum(-1)


def coupled(theta):
    """Not separable, so that its Hessian has something off the diagonal."""
    return torch.sin(theta[..., 0] * theta[..., 1]) + (theta**4).sum(-1) / 4


def some_states(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=F64)


def test_on_a_quadratic_every_coordinate_shrinks_by_its_own_factor(device):
    theta = some_states(4, 3).to(device)
    orbit = iterate(gradient_descent(bowl, 0.3), theta, 20)
    exact = theta * (1 - 0.3 * CURVATURES.to(device)) ** 20
    assert orbit.device.type == device
    torch.testing.assert_close(orbit[-1], exact, rtol=1e-12, atol=0)


def test_the_exponents_on_a_quadratic_are_those_of_the_formula():
    step = gradient_descent(bowl, 0.3)
    found = lyapunov_spectrum(step, some_states(3), n=50, transient=150).exponents
    exact = (1 - 0.3 * CURVATURES).abs().log().sort(descending=True).values
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=0)


def test_the_heavy_ball_on_a_quadratic_is_its_matrix():
    """(θ, v) ↦ (θ + βv − ηhθ, βv − ηhθ) for each curvature; determinant β."""
    eta, beta = 0.3, 0.8
    theta, v = some_states(2, 4, 3)
    end = iterate(gradient_descent(bowl, eta, beta), torch.cat([theta, v], -1), 15)[-1]
    for i, h in enumerate(CURVATURES.tolist()):
        matrix = torch.tensor([[1 - eta * h, beta], [-eta * h, beta]], dtype=F64)
        assert torch.linalg.det(matrix).item() == pytest.approx(beta)
        power = torch.linalg.matrix_power(matrix, 15)
        exact = torch.stack([theta[:, i], v[:, i]], -1) @ power.mT
        torch.testing.assert_close(end[:, [i, i + 3]], exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_torch_optim_takes_the_same_steps(momentum):
    """Its buffer is −v/η."""
    theta = some_states(2)
    x = torch.cat([theta, 0 * theta]) if momentum else theta
    ours = iterate(gradient_descent(coupled, 0.1, momentum), x, 30)[:, :2]
    optimised = theta.clone().requires_grad_()
    optimiser = torch.optim.SGD([optimised], lr=0.1, momentum=momentum)
    for state in ours:
        torch.testing.assert_close(state, optimised.detach(), rtol=1e-12, atol=1e-14)
        optimiser.zero_grad()
        coupled(optimised).backward()
        optimiser.step()


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_the_tangent_is_one_minus_the_hessian_whoever_asks(momentum):
    eta, theta = 0.2, some_states(5, 2)
    hessian = torch.stack([torch.autograd.functional.hessian(coupled, t) for t in theta])
    exact, x = torch.eye(2, dtype=F64) - eta * hessian, theta
    if momentum:
        kick = torch.cat([-eta * hessian, momentum * torch.eye(2).to(hessian).expand(5, 2, 2)], -1)
        drift = torch.cat([torch.eye(2), torch.zeros(2, 2)], -1).to(kick)
        exact, x = torch.cat([drift + kick, kick], -2), torch.cat([theta, theta], -1)
    step, one = gradient_descent(coupled, eta, momentum), torch.eye(x.shape[-1], dtype=F64)
    after, tangent = linearize(step, x)
    torch.testing.assert_close(tangent(one.expand(5, -1, -1)), exact, rtol=1e-12, atol=1e-14)
    for jacobian in (torch.func.jacfwd, torch.func.jacrev):
        by_func = torch.vmap(jacobian(step))(x)
        torch.testing.assert_close(by_func, exact, rtol=1e-12, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(step(x), after, rtol=0, atol=0)
    torch.testing.assert_close(torch.vmap(step)(x), after)


def test_members_do_not_see_each_other_and_a_bad_one_harms_no_other():
    theta = some_states(4, 2)
    theta[2] = 1e200
    together = gradient_descent(coupled, 0.1)(theta)
    alone = torch.stack([gradient_descent(coupled, 0.1)(t) for t in theta])
    torch.testing.assert_close(together, alone, rtol=0, atol=0, equal_nan=True)
    assert together.isfinite().all(-1).tolist() == [True, True, False, True]


def test_every_member_may_have_its_own_learning_rate_and_momentum():
    rates, theta = some_states(4, 1) / 3, some_states(4, 2)
    betas, x = some_states(4, 1) / 2, torch.cat([theta, theta], -1)
    together = gradient_descent(coupled, rates, betas)(x)
    for i in range(4):
        alone = gradient_descent(coupled, rates[i].item(), betas[i].item())(x[i])
        torch.testing.assert_close(together[i], alone)


def test_a_column_of_rates_makes_an_orbit_diagram():
    """The double well's right minimum flips at η = 1; (1 + η)x − ηx³ by hand."""
    rates = torch.tensor([0.5, 0.9, 1.1, 1.2], dtype=F64)
    start = torch.tensor([0.4], dtype=F64)
    seen = orbit_diagram(
        lambda lr: gradient_descent(double_well, lr), start, rates, n=2, transient=1000
    )
    torch.testing.assert_close(seen[:2], torch.ones(2, 2, dtype=F64))
    for x, eta in zip(seen[2:, 0], rates[2:], strict=True):
        once = (1 + eta) * x - eta * x**3
        assert abs(once - x) > 0.1
        torch.testing.assert_close((1 + eta) * once - eta * once**3, x)


def test_a_graph_is_kept_where_one_is_asked_for_and_nowhere_else():
    step, theta = gradient_descent(double_well, 0.1), some_states(2)
    assert not step(theta).requires_grad
    theta.requires_grad_()
    step(step(theta)).sum().backward()
    by_hand = theta.detach()
    once = 1.1 * by_hand - 0.1 * by_hand**3
    slope = (1.1 - 0.3 * once**2) * (1.1 - 0.3 * by_hand**2)
    torch.testing.assert_close(theta.grad, slope)


def test_a_loss_may_work_in_place():
    def in_place(theta):
        return theta.square_().sum(-1)

    theta = some_states(2, 3)
    before = theta.clone()
    torch.testing.assert_close(gradient(in_place, theta), 2 * before)
    torch.testing.assert_close(torch.vmap(lambda t: gradient(in_place, t))(theta), 2 * before)
    assert torch.equal(theta, before)


def test_the_gradient_is_that_of_the_formula():
    theta = some_states(2, 3, 4)
    torch.testing.assert_close(gradient(double_well, theta), theta**3 - theta)
    torch.testing.assert_close(gradient(torch.vmap(coupled), theta[0]), gradient(coupled, theta[0]))


# --- orbits ---------------------------------------------------------------------------------


def test_an_orbit_keeps_every_so_many_th_state(device):
    x0 = torch.tensor([[0.1], [0.3]], dtype=F64, device=device)
    all_of_it = iterate(logistic(3.9), x0, 10)
    assert all_of_it.shape == (11, 2, 1) and all_of_it.device.type == device
    torch.testing.assert_close(iterate(logistic(3.9), x0, 10, every=3), all_of_it[::3])
    by_hand = 0.3
    for _ in range(10):
        by_hand = 3.9 * by_hand * (1 - by_hand)
    assert all_of_it[-1, 1].item() == pytest.approx(by_hand, rel=1e-12)
    assert iterate(logistic(3.9), x0, 0).shape == (1, 2, 1)


def test_no_graph_is_kept_and_nothing_is_overwritten():
    net = nn.Linear(2, 2, dtype=F64)
    x0 = torch.ones(2, dtype=F64, requires_grad=True)
    assert not iterate(net, x0, 3).requires_grad
    x0 = torch.ones(2, dtype=F64)
    orbit = iterate(lambda x: x.mul_(2), x0, 3)
    assert orbit[:, 0].tolist() == [1, 2, 4, 8] and x0.tolist() == [1, 1]
    seen = orbit_diagram(lambda r: lambda x: x.mul_(r), x0, x0.new_tensor([2, 3]), n=3)
    assert seen.tolist() == [[2, 4, 8], [3, 9, 27]] and x0.tolist() == [1, 1]


def test_the_orbit_diagram_of_the_logistic_map_has_its_fixed_point_and_its_two_cycle():
    """1 − 1/r for 1 < r < 3; then (r + 1 ± √((r − 3)(r + 1)))/2r up to 1 + √6."""
    r = torch.tensor([1.5, 2.0, 2.8, 3.2, 3.4], dtype=F64)
    x0 = torch.tensor([0.4], dtype=F64)
    seen = orbit_diagram(logistic, x0, r, n=4, transient=2000)
    torch.testing.assert_close(seen[:3], (1 - 1 / r[:3, None]).expand(3, 4))
    middle, half = (r + 1) / (2 * r), ((r - 3) * (r + 1)).clamp(min=0).sqrt() / (2 * r)
    cycle = torch.stack([middle - half, middle + half], 1)[3:]
    torch.testing.assert_close(seen[3:].sort(1).values[:, ::2], cycle)
    torch.testing.assert_close(seen[3:, :2], seen[3:, 2:])


def test_the_orbit_diagram_is_the_orbits_one_by_one():
    values = torch.tensor([0.2, 0.3], dtype=F64)
    x0 = torch.tensor([0.1, 0.1], dtype=F64)

    def make(b):
        return lambda x: torch.cat([1 - 1.4 * x[..., :1] ** 2 + x[..., 1:], b * x[..., :1]], -1)

    seen = orbit_diagram(make, x0, values, n=5, transient=3, observe=lambda x: x[..., 1])
    alone = torch.stack([iterate(make(b), x0, 8)[4:, 1] for b in values])
    torch.testing.assert_close(seen, alone, rtol=0, atol=0)


# --- refusals -------------------------------------------------------------------------------

X = torch.rand(3, generator=torch.Generator().manual_seed(0), dtype=F64)
R = torch.tensor([3.0, 4.0, 5.0], dtype=F64)


def bowl_of(weights):
    """Of other weights than θ."""
    return lambda theta: weights.square().sum()


@pytest.mark.parametrize(
    "error, call, words",
    [
        (TypeError, lambda: layers(nn.Linear(2, 2)), r"torch.nn.Sequential.*got Linear.*layers\("),
        (
            TypeError,
            lambda: layers([nn.Tanh(), 3]),
            "layer 1 must be a function that can be called",
        ),
        (TypeError, lambda: layers(torch.tanh), "Sequential or a list, got <built-in"),
        (TypeError, lambda: euler(3, 0.1), "field must be a function that can be called, got 3"),
        (TypeError, lambda: leapfrog(None, 0.1), "force must be a function"),
        (TypeError, lambda: rk4(circle, None), "dt must be a number or a tensor, got None"),
        (TypeError, lambda: iterate(3, X, 2), "step must be a function"),
        (TypeError, lambda: orbit_diagram(3, X, R, n=2), "make_step must be a function"),
        (TypeError, lambda: orbit_diagram(lambda r: r, X, R, n=2), "what make_step returns must"),
        (TypeError, lambda: gradient_descent(3, 0.1), "loss must be a function that can be called"),
        (
            TypeError,
            lambda: gradient_descent(bowl, "0.1"),
            "lr must be a number or a tensor, got '0",
        ),
        (
            TypeError,
            lambda: gradient_descent(bowl, 0.1, None),
            "momentum must be a number or a ten",
        ),
        (TypeError, lambda: gradient_descent(bowl, 0.1)([1.0]), r"θ must be a real.*got \[1.0\]"),
        (TypeError, lambda: gradient(bowl, torch.ones(3).long()), "θ must be a real.*torch.int64"),
        (TypeError, lambda: gradient(bowl, X + 0j), "θ must be a real floating-point.*complex"),
        (
            ValueError,
            lambda: gradient_descent(bowl, 0.1, 0.9)(torch.tensor(1.0)),
            r"θ must have shape \(..., p\), got one number",
        ),
        (ValueError, lambda: gradient_descent(bowl, 0.0), "lr must be positive and finite, got 0"),
        (ValueError, lambda: gradient_descent(bowl, -0.1), "lr must be positive.*got -0.1"),
        (ValueError, lambda: gradient_descent(bowl, math.nan), "lr must be positive.*got nan"),
        (ValueError, lambda: gradient_descent(bowl, R - 3), "lr must be positive.*got 0"),
        (ValueError, lambda: gradient_descent(bowl, R + 1j), r"lr must be real and pos.*\+1j"),
        (
            ValueError,
            lambda: gradient_descent(bowl, 0.1, 1),
            r"momentum must be in \[0, 1\), got 1",
        ),
        (ValueError, lambda: gradient_descent(bowl, 0.1, -0.5), r"momentum must be in .*got -0.5"),
        (
            ValueError,
            lambda: gradient_descent(bowl, 0.1, 0.9)(X),
            r"state is \(θ, v\).*got shape \(3,\): start from torch.cat\(\[theta, torch.zeros_like",
        ),
        (
            ValueError,
            lambda: gradient_descent(bowl, R[:2])(X.expand(2, 3)),
            r"lr must fit parameters of shape \(2, 3\), got shape \(2,\).* column, shape \(2, 1\)",
        ),
        (
            ValueError,
            lambda: gradient_descent(bowl, 0.1, torch.zeros(2, 1))(torch.cat([X, X])),
            r"momentum must fit parameters of shape \(3,\), got shape \(2, 1\)",
        ),
        (
            ValueError,
            lambda: gradient_descent(lambda t: bowl(t).sum(), 0.1)(X.expand(2, 3)),
            r"one number per member, shape \(2,\) for parameters \(2, 3\), got \(\); torch.vmap",
        ),
        (
            ValueError,
            lambda: gradient_descent(lambda t: t, 0.1)(X),
            r"one number per member, shape \(\) for parameters \(3,\), got \(3,\)",
        ),
        (
            TypeError,
            lambda: gradient_descent(lambda t: bowl(t) + 0j, 0.1)(X),
            "loss must return a real tensor.*got a torch.complex128 tensor of shape",
        ),
        (
            TypeError,
            lambda: gradient_descent(lambda t: bowl(t).detach().numpy(), 0.1)(X),
            "loss must return a real tensor, made by torch, got array",
        ),
        (
            ValueError,
            lambda: iterate(gradient_descent(torch.no_grad()(bowl), 0.1), X, 2),
            "loss must be differentiable, but autograd sees no dependence on θ: is there no_grad",
        ),
        (
            ValueError,
            lambda: gradient_descent(lambda t: bowl(t.detach()), 0.1)(X.clone().requires_grad_()),
            "loss must be differentiable.*detach",
        ),
        (
            ValueError,
            lambda: torch.vmap(gradient_descent(lambda t: bowl(t.detach()), 0.1))(X[None]),
            "loss must be differentiable.*detach",
        ),
        (
            ValueError,  # of something else it sees one
            lambda: gradient_descent(bowl_of(torch.ones(3).requires_grad_()), 0.1)(X),
            "loss must be differentiable.*is it constant",
        ),
        (ValueError, lambda: layers([]), "at least one layer"),
        (ValueError, lambda: layers(nn.Sequential(nn.Dropout())), r"Dropout.*network.eval\(\)"),
        (ValueError, lambda: layers([nn.BatchNorm1d(2)]), r"BatchNorm1d.*network.eval\(\)"),
        (ValueError, lambda: layers([nn.RReLU()]), r"RReLU behaves as in training"),
        (ValueError, lambda: euler(circle, 0.0), "dt must be finite and not zero, got 0.0"),
        (ValueError, lambda: rk4(circle, math.nan), "dt must be finite.*nan"),
        (ValueError, lambda: leapfrog(circle, torch.tensor([1.0, 0])), "dt must be finite"),
        (ValueError, lambda: leapfrog(torch.neg, 0.1)(X), r"as many momenta.*\(3,\).*even"),
        (
            ValueError,
            lambda: iterate(euler(lambda x: x.sum(-1), 0.1), torch.eye(3), 2),
            r"field must return.*it is given, \(3, 3\), got a torch.float32 .*\(3,\); torch.vmap",
        ),
        (ValueError, lambda: rk4(lambda x: 1.0, 0.1)(X), r"field must return.*\(3,\), got 1.0"),
        (ValueError, lambda: leapfrog(lambda q: q[:1], 0.1)(R[[0, 1, 2, 0]]), "force must return"),
        (ValueError, lambda: iterate(torch.tanh, X, -1), "n must be an integer ≥ 0, got -1"),
        (ValueError, lambda: iterate(torch.tanh, X, 2, every=0), "every must be an integer ≥ 1"),
        (TypeError, lambda: iterate(torch.tanh, X.long(), 2), "x0 must be a float32.*int64"),
        (TypeError, lambda: iterate(torch.tanh, [0.1], 2), r"x0 must be a float32.*\[0.1\]"),
        (
            ValueError,
            lambda: iterate(torch.tanh, X[0], 2),
            r"x0 must have at least one entry and one dim",
        ),
        (ValueError, lambda: iterate(torch.tanh, X / 0, 2), "x0 must be finite, got inf"),
        (ValueError, lambda: iterate(lambda x: x[:2], X, 2), r"step 1.*\(3,\) to \(2,\).*ftle"),
        (TypeError, lambda: iterate(lambda x: x.float(), X, 2), "step 1 must keep dtype"),
        (
            ValueError,
            lambda: iterate(nn.Linear(3, 3), X, 2),
            r"step 1 must take a torch.float64 tensor of shape \(3,\), but stops: .* dtype",
        ),
        (TypeError, lambda: iterate(torch.tanh, X.to_sparse(), 2), r"x0 must be dense.*to_dense"),
        (TypeError, lambda: iterate(lambda x: 0.0, X, 2), "step 1 must return a tensor, got 0.0"),
        (
            OrbitError,
            lambda: iterate(lambda x: 1e200 * x, X, 5, every=9),
            r"at step 2, inf at index \[0\]; it diverges",
        ),
        (OrbitError, lambda: orbit_diagram(logistic, X[:1], R, n=99), "value 5 .* at step 13"),
        (
            ValueError,
            lambda: orbit_diagram(logistic, X[None], R, n=9),
            r"x0 must have shape \(D,\)",
        ),
        (ValueError, lambda: orbit_diagram(logistic, X[:1], R, n=0), "n must be an integer ≥ 1"),
        (
            ValueError,
            lambda: orbit_diagram(logistic, X[:1], R[:2], n=9, observe=lambda x: x),
            r"observe must turn states \(2, 1\) into .* \(2,\), got a torch.*of shape \(2, 1\)",
        ),
        (
            ValueError,
            lambda: orbit_diagram(logistic, X[:1], R[:2], n=9, observe=lambda x: x[:, 0] + 1j),
            r"observe must turn .* real numbers .* got a torch.complex128",
        ),
        (
            TypeError,
            lambda: orbit_diagram(logistic, X[:1], R, n=9, observe=0),
            "observe must be a function",
        ),
        (TypeError, lambda: orbit_diagram(logistic, X[:1], R.int(), n=9), "values must be a float"),
    ],
)
def test_what_is_not_an_orbit_is_refused_in_words(error, call, words):
    with pytest.raises(error, match=words):
        call()
