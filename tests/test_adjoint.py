"""Gradients backwards in time: kept states, reversed states, and the adjoint equation."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from systems import normal

from dynbook.adjoint import adjoint_field, pull_back, reversed_states
from dynbook.maps import OrbitError, euler, iterate, rk4
from dynbook.odenets import leapfrog_layers

F64 = torch.float64


def decay(x, theta):
    """x' = −θx, θ one number."""
    return -theta * x


def neural(x, theta):
    W, b = theta.split([4, 2])
    return torch.tanh(W.view(2, 2) @ x + b)


def test_the_adjoint_of_exponential_decay_is_solved_by_hand():
    """x(T) = x₀ e^(−θT): ∂x(T)/∂x₀ = e^(−θT) and ∂x(T)/∂θ = −T x₀ e^(−θT)."""
    theta, x0, T = torch.tensor([0.7], dtype=F64), 1.3, 2.0
    end = x0 * math.exp(-0.7 * T)
    s = torch.tensor([end, 1.0, 0.0], dtype=F64)
    s = iterate(rk4(adjoint_field(decay, theta), -T / 200), s, 200)[-1]
    by_hand = torch.tensor([x0, math.exp(-0.7 * T), -T * end], dtype=F64)
    torch.testing.assert_close(s, by_hand, rtol=1e-9, atol=0)


@pytest.mark.parametrize("solver, order", [(euler, 1), (rk4, 4)])
def test_adjoint_and_backpropagation_differ_by_the_order_of_the_solver(solver, order):
    theta, x0, gaps = normal(6, seed=1), normal(2, seed=2), []
    for n in (20, 40, 80):
        leaf = theta.clone().requires_grad_()
        x, step = x0, solver(lambda x, leaf=leaf: neural(x, leaf), 2 / n)
        for _ in range(n):
            x = step(x)
        (exact,) = torch.autograd.grad(x.sum(), leaf)
        end = torch.cat([x.detach(), torch.ones(2, dtype=F64), torch.zeros(6, dtype=F64)])
        s = iterate(solver(adjoint_field(neural, theta), -2 / n), end, n)[-1]
        gaps.append((s[4:] - exact).norm().log2())
    assert gaps[1] - gaps[2] == pytest.approx(order, abs=0.15)


def test_an_adaptive_solver_finds_the_derivative_that_differences_see():
    theta, x0 = normal(6, seed=3), normal(2, seed=4)
    tight = {"rtol": 1e-11, "atol": 1e-12}

    def loss(theta):
        rate = lambda t, x: neural(torch.tensor(x), theta)  # noqa: E731
        return solve_ivp(rate, (0, 1.5), x0, **tight).y[:, -1]

    field = adjoint_field(neural, theta)
    end = torch.cat([torch.tensor(loss(theta)), torch.ones(2, dtype=F64), torch.zeros(6)])
    back = solve_ivp(lambda t, s: field(torch.tensor(s)), (1.5, 0), end, **tight).y[:, -1]
    for i in range(6):
        shift = 1e-5 * torch.eye(6, dtype=F64)[i]
        slope = (loss(theta + shift).sum() - loss(theta - shift).sum()) / 2e-5
        assert back[4 + i] == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_members_have_a_gradient_each(device):
    theta, s = normal(3, 1, 6, seed=5).to(device), normal(3, 4, 10, seed=6).to(device)
    together = adjoint_field(neural, theta)(s)
    for i in range(3):
        alone = adjoint_field(neural, theta[i, 0])(s[i])
        torch.testing.assert_close(together[i], alone, rtol=1e-13, atol=1e-13)


def layer(x, theta):
    return x + 0.1 * torch.tanh(x @ theta)


def test_pulling_back_through_kept_states_is_backpropagation():
    theta, x0 = normal(30, 3, 3, seed=7).requires_grad_(), normal(5, 3, seed=8).requires_grad_()
    orbit = [x0]
    for own in theta:
        orbit.append(layer(orbit[-1], own))
    exact = torch.autograd.grad(orbit[-1].square().sum(), (x0, theta))
    kept = [x.detach() for x in reversed(orbit[:-1])]
    found = pull_back(layer, theta, kept, 2 * orbit[-1].detach())
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-13)
    assert not found[1].requires_grad


def leapfrog(x, theta, h=0.1):
    K1, K2 = theta.unflatten(-1, (2, 2, 2))
    b = torch.zeros(2, dtype=x.dtype)
    return leapfrog_layers(K1[None], b[None], K2[None], b[None], h)[0](x)


def test_a_leapfrog_network_is_trained_from_its_output_alone():
    theta, x0 = normal(200, 8, seed=9), normal(4, seed=10)
    orbit = [x0]
    for own in theta:
        orbit.append(leapfrog(orbit[-1], own))
    back = list(reversed_states(lambda x, own: leapfrog(x, own, -0.1), theta, orbit[-1]))
    torch.testing.assert_close(torch.stack(back), torch.stack(orbit[-2::-1]), rtol=0, atol=1e-9)
    exact = pull_back(leapfrog, theta, orbit[-2::-1], torch.ones(4, dtype=F64))
    found = pull_back(leapfrog, theta, back, torch.ones(4, dtype=F64))
    torch.testing.assert_close(found, exact, rtol=1e-7, atol=1e-7)


def test_a_way_back_that_explodes_is_named_with_its_layer():
    """x' = −x³ loses its start in finite time: 1/x² falls by 2 per unit of time, backwards."""
    undo = lambda x, theta: rk4(lambda x: -(x**3), -0.5)(x)  # noqa: E731
    with pytest.raises(OrbitError, match=r"way back, at layer 9\d.*keep the states"):
        list(reversed_states(undo, torch.zeros(100, 1), torch.ones(1, dtype=F64)))


def test_a_gradient_that_explodes_is_named_with_its_layer():
    """Each layer multiplies it by 10^100: the fourth from the end exceeds 10^308."""
    theta, x = torch.full((9, 1), 1e100, dtype=F64), torch.zeros(1, dtype=F64)
    with pytest.raises(OrbitError, match=r"gradient left the finite numbers .* at layer 5"):
        pull_back(lambda x, theta: theta * x, theta, [x] * 9, torch.ones(1, dtype=F64))


def test_no_graph_grows_with_depth_and_none_is_needed_outside():
    theta, x = normal(3, 3, 3).requires_grad_(), normal(5, 3, seed=1).requires_grad_()
    assert not any(state.requires_grad for state in reversed_states(layer, theta, x))
    assert not adjoint_field(neural, normal(6).requires_grad_())(normal(10)).requires_grad
    kept = [normal(5, 3, seed=i) for i in range(3)]
    with torch.no_grad():
        quiet = pull_back(layer, theta, kept, kept[0])
    torch.testing.assert_close(quiet, pull_back(layer, theta, kept, kept[0]), rtol=0, atol=0)


def test_the_gradient_of_theta_alone_may_explode():
    theta, big = torch.zeros(2, 1, dtype=F64), torch.full((2,), 1e308, dtype=F64)
    with pytest.raises(OrbitError, match="at layer 1"):
        pull_back(lambda x, theta: x + theta * big, theta, [0 * big] * 2, 0 * big + 1)


def test_a_field_without_parameters_has_its_transpose():
    A, s = normal(3, 3), normal(5, 6, seed=1)
    rates = adjoint_field(lambda x, theta: A @ x, normal(0))(s)
    torch.testing.assert_close(rates, torch.cat([s[:, :3] @ A.mT, -s[:, 3:] @ A], -1))
    assert adjoint_field(neural, normal(6))(normal(0, 10)).shape == (0, 10)


def test_bad_input_is_refused_in_words():
    theta, x = normal(3, 2, 2), normal(4, 2)
    with pytest.raises(ValueError, match=r"must be 3, what entered each layer.*got 2"):
        pull_back(layer, theta, [x, x], x)
    with pytest.raises(ValueError, match=r"must be 3.*got more"):
        pull_back(layer, theta, [x] * 4, x)
    with pytest.raises(ValueError, match=r"slope must have the shape.*\(4, 2\), got \(2,\)"):
        pull_back(layer, theta, [x], x[0])
    with pytest.raises(TypeError, match="layer must be a function"):
        pull_back(None, theta, [x], x)
    with pytest.raises(TypeError, match=r"theta must be a real tensor of shape \(..., p\), got 3"):
        adjoint_field(neural, 3)
    for entries in (6, 7, 9):
        with pytest.raises(ValueError, match=rf"2D \+ 6 entries, got shape \({entries},\)"):
            adjoint_field(neural, normal(6))(normal(entries))
    with pytest.raises(ValueError, match=r"one for each member.*\(3, 6\) and \(4, 10\)"):
        adjoint_field(neural, normal(3, 6))(normal(4, 10))
    with pytest.raises(TypeError, match=r"theta must be a real tensor .*int64"):
        adjoint_field(neural, torch.arange(6))
    with pytest.raises(TypeError, match=r"theta must be a real tensor of shape \(..., p\)"):
        adjoint_field(neural, torch.tensor(0.0))
    with pytest.raises(TypeError, match="field must be a function"):
        adjoint_field(None, normal(6))
    with pytest.raises(ValueError, match="x must be finite, got nan"):
        next(reversed_states(layer, theta, x * math.nan))
    with pytest.raises(TypeError, match="inverse must be a function"):
        next(reversed_states(None, theta, x))
