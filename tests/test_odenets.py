import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn

from dynbook.ftle import ftle
from dynbook.lyapunov import lyapunov_spectrum
from dynbook.maps import iterate, rk4
from dynbook.odenets import (
    antisymmetric,
    hamiltonian,
    hamiltonian_field,
    leapfrog_layers,
    residual_field,
    residual_layers,
)


def normal(*shape, seed=0, device="cpu"):
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(device)


def through(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def two_weights(*leading, m=5, n=3, seed=0, device="cpu"):
    shapes = [(m, n), (m,), (m + 1, n), (m + 1,)]
    return [
        normal(*leading, *shape, seed=seed + i, device=device) for i, shape in enumerate(shapes)
    ]


def test_a_residual_network_is_what_torch_makes_of_linear_layers(device):
    torch.manual_seed(0)
    linear = [nn.Linear(4, 4).double().to(device) for _ in range(3)]
    x = normal(7, 4, device=device)
    by_torch = x
    for layer in linear:
        by_torch = by_torch + 0.3 * layer(by_torch).relu()
    K = torch.stack([layer.weight for layer in linear])
    b = torch.stack([layer.bias for layer in linear])
    torch.testing.assert_close(through(residual_layers(K, b, 0.3, torch.relu), x), by_torch)


def test_many_short_layers_follow_the_differential_equation():
    K, b, x = normal(3, 3).numpy(), normal(3, seed=1).numpy(), normal(3, seed=2)
    right = solve_ivp(lambda t, y: np.tanh(K @ y + b), (0, 2), x.numpy(), rtol=1e-11, atol=1e-12)
    errors = []
    for depth in (100, 200):
        layers = [torch.from_numpy(w).expand(depth, *w.shape) for w in (K, b)]
        out = through(residual_layers(*layers, 2 / depth), x)
        errors.append(np.abs(out.numpy() - right.y[:, -1]).max())
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


def test_at_rest_euler_multiplies_each_mode_by_its_modulus(device):
    """The singular values of L layers are |1 + h(iω − γ)|^L, ω from NumPy."""
    M, h, gamma, depth = normal(7, 7, device=device), 0.2, 0.1, 12
    K = antisymmetric(M, gamma).expand(depth, 7, 7)
    omega = np.linalg.eigvals((M - M.mT).cpu().numpy() / 2).imag
    by_hand = np.sort(np.log(np.abs(1 + h * (1j * omega - gamma))))[::-1]
    layers = residual_layers(K, K.new_zeros(depth, 7), h)
    measured = ftle(layers, K.new_zeros(7), k=7)
    np.testing.assert_allclose(measured.cpu(), by_hand, atol=1e-12)


def test_the_least_damping_holds_the_fastest_mode_and_no_less_does():
    A = torch.tensor([[0.0, 3.0], [-3.0, 0.0]], dtype=torch.float64)
    for gamma, sign in ((1.0, 0), (0.99, 1), (1.01, -1)):  # (1 − √(1 − 0.6²))/0.2 = 1
        layers = residual_layers(
            antisymmetric(A, gamma).expand(9, 2, 2), torch.zeros(9, 2).to(A), 0.2
        )
        grown = ftle(layers, torch.zeros(2).to(A)).item()
        assert grown == pytest.approx(0, abs=1e-14) if sign == 0 else sign * grown > 1e-4


def test_antisymmetric_weights_with_tanh_conserve_an_energy():
    A, b = antisymmetric(normal(6, 6)), normal(6, seed=1)
    orbit = iterate(rk4(residual_field(A, b), 0.01), normal(6, seed=2), 2000, every=500)
    energy = np.log(np.cosh(orbit.numpy() @ A.numpy().T + b.numpy())).sum(-1)
    np.testing.assert_allclose(energy, energy[0], rtol=1e-8)
    assert np.ptp(orbit.numpy(), axis=0).min() > 0.5  # and moves


def test_the_hamiltonian_field_is_the_turned_gradient_of_the_energy(device):
    weights = two_weights(device=device)
    x = normal(4, 6, seed=9, device=device).requires_grad_()
    (slope,) = torch.autograd.grad(hamiltonian(x, *weights).sum(), x)
    turned = torch.cat([slope[:, 3:], -slope[:, :3]], -1)
    torch.testing.assert_close(hamiltonian_field(*weights)(x), turned)


def test_a_hamiltonian_field_has_the_activation_it_is_given():
    """For φ(a) = a it is linear in the two positive matrices KᵀK."""
    K1, b1, K2, b2 = two_weights()
    field = hamiltonian_field(K1, 0 * b1, K2, 0 * b2, lambda a: a)
    x = normal(4, 6, seed=9)
    by_hand = torch.cat([x[:, 3:] @ K1.mT @ K1, -x[:, :3] @ K2.mT @ K2], -1)
    torch.testing.assert_close(field(x), by_hand)


def test_the_energy_does_not_overflow():
    weights = [1e3 * w for w in two_weights()]
    x = normal(6, seed=9)
    inner = torch.cat([weights[0] @ x[3:] + weights[1], weights[2] @ x[:3] + weights[3]])
    by_hand = (inner.abs() - math.log(2)).sum()  # ln cosh a = |a| − ln 2, nearly
    torch.testing.assert_close(hamiltonian(x, *weights), by_hand, rtol=1e-6, atol=0)


def test_small_swings_about_rest_have_the_frequencies_of_theory():
    """At rest the energy is ½‖K1 z‖² + ½‖K2 y‖², to second order."""
    K1, b1, K2, b2 = two_weights()
    H = torch.func.hessian(lambda x: hamiltonian(x, K1, 0 * b1, K2, 0 * b2))(K1.new_zeros(6))
    torch.testing.assert_close(H, torch.block_diag(K2.mT @ K2, K1.mT @ K1))


def test_damping_has_the_dtype_of_the_weights_and_a_gradient():
    gamma = torch.tensor([[[0.1]], [[0.2]]], dtype=torch.float64, requires_grad=True)
    K = antisymmetric(normal(2, 3, 3).float(), gamma)
    assert K.dtype == torch.float32
    (slope,) = torch.autograd.grad(K.sum(), gamma)
    torch.testing.assert_close(slope, torch.full_like(gamma, -3))  # of the trace, −nγ
    real = torch.linalg.eigvals(K).real
    torch.testing.assert_close(real, torch.tensor([[-0.1] * 3, [-0.2] * 3]))


def test_leapfrog_turns_an_oscillator_by_the_angle_of_theory():
    """For φ(a) = a and frequency ω a layer is similar to a rotation by θ, cos θ = 1 − h²ω²/2."""
    one, nothing = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    (layer,) = leapfrog_layers(
        *(w[None] for w in (one, nothing, 3 * one, nothing)), 0.2, lambda a: a
    )
    J = torch.func.jacrev(layer)(normal(2)).numpy()
    cosine = 1 - (0.2 * 3) ** 2 / 2
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(J)).real, cosine, atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(J), 1, atol=1e-14)


def test_leapfrog_layers_are_symplectic():
    weights = two_weights(4)
    J = torch.func.jacrev(lambda x: through(leapfrog_layers(*weights, 0.4), x))(normal(6)).numpy()
    turn = np.kron([[0, 1], [-1, 0]], np.eye(3))
    np.testing.assert_allclose(J.T @ turn @ J, turn, atol=1e-12)


def test_the_way_back_undoes_a_hundred_layers(device):
    weights = [0.5 * w for w in two_weights(100, device=device)]
    x = normal(5, 6, seed=9, device=device)
    there = through(leapfrog_layers(*weights, 0.1), x)
    back = through(leapfrog_layers(*(w.flip(0) for w in weights), -0.1), there)
    assert (there - x).abs().max() > 0.5
    torch.testing.assert_close(back, x, rtol=0, atol=1e-11)


def test_an_ensemble_is_its_members():
    K, b, x = normal(3, 4, 5, 5), normal(3, 4, 5, seed=1), normal(4, 5, seed=2)
    weights, z = two_weights(3, 4), normal(4, 6, seed=3)
    together = through(residual_layers(K, b, 0.2), x), through(leapfrog_layers(*weights, 0.2), z)
    for i in range(4):
        alone = through(residual_layers(K[:, i], b[:, i], 0.2), x[i])
        torch.testing.assert_close(together[0][i], alone)
        alone = through(leapfrog_layers(*(w[:, i] for w in weights), 0.2), z[i])
        torch.testing.assert_close(together[1][i], alone)
    spectrum = lyapunov_spectrum(residual_layers(K, b, 0.2), x)
    assert spectrum.exponents.shape == (4, 5)


def test_gradients_reach_the_weights_under_vmap():
    x = normal(7, 3)

    def loss(theta):
        K, b = theta.split([18, 6])
        return through(residual_layers(antisymmetric(K.view(2, 3, 3)), b.view(2, 3), 0.5), x).sum()

    theta, along = normal(4, 24, seed=1), normal(4, 24, seed=2)
    slope = torch.func.vmap(torch.func.grad(loss))(theta)
    value = torch.func.vmap(loss)
    by_difference = (value(theta + 1e-6 * along) - value(theta - 1e-6 * along)) / 2e-6
    torch.testing.assert_close((slope * along).sum(-1), by_difference, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: residual_field(normal(3, 4), normal(3)), ValueError, "K must be square"),
        (lambda: residual_field(normal(3, 3), normal(4)), ValueError, r"a number for each row"),
        (lambda: residual_field(normal(3, 3).int(), normal(3)), TypeError, "K must be a real"),
        (lambda: residual_field(normal(3, 3), normal(3).float()), TypeError, "one dtype"),
        (lambda: residual_field(normal(3, 3), normal(3), "tanh"), TypeError, "phi must be a func"),
        (
            lambda: residual_layers(normal(3, 3), normal(3), 0.1),
            ValueError,
            r"K must be \(L, .*m, n",
        ),
        (lambda: residual_layers(normal(2, 3, 3), normal(3, 3), 0.1), ValueError, "as many layers"),
        (
            lambda: residual_layers(normal(2, 3, 3), normal(2, 3), 0),
            ValueError,
            "dt must be finite",
        ),
        (lambda: antisymmetric(normal(2, 3)), ValueError, "M must hold square matrices"),
        (lambda: antisymmetric([[0.0]]), TypeError, "M must be a real"),
        (
            lambda: antisymmetric(normal(3, 3), -0.1),
            ValueError,
            "damping .* not negative, got -0.1",
        ),
        (lambda: antisymmetric(normal(3, 3), math.inf), ValueError, "not negative, got inf"),
        (lambda: antisymmetric(normal(3, 3), "much"), TypeError, "damping must be a real number"),
        (lambda: antisymmetric(normal(3, 3), normal(1) + 0j), TypeError, "damping must be a real"),
        (
            lambda: hamiltonian_field(normal(5, 3), normal(5), normal(5, 4), normal(5)),
            ValueError,
            "z moves y and y moves z",
        ),
        (lambda: hamiltonian(normal(5), *two_weights()), ValueError, r"x must be \(y, z\), 6 numb"),
        (lambda: hamiltonian(normal(8), *two_weights()), ValueError, r"6 numbers .*shape \(8,\)"),
        (
            lambda: hamiltonian(normal(6), *two_weights()[2:], *two_weights(n=4)[2:]),
            ValueError,
            "as many coordinates",
        ),
        (lambda: hamiltonian_field(*two_weights(), "tanh"), TypeError, "phi must be a function"),
        (
            lambda: hamiltonian_field(*two_weights()[:2], *(w.float() for w in two_weights()[2:])),
            ValueError,
            "in one dtype",
        ),
        (lambda: residual_field(normal(2, 3, 3), normal(3)), ValueError, "a number for each row"),
        (lambda: residual_layers(normal(0, 3, 3), normal(0, 3), 0.1), ValueError, "at least one"),
        (
            lambda: residual_layers(normal(2, 3, 3), normal(2, 3), 0.1)[0](normal(4)),
            ValueError,
            r"y must have 3 numbers .*shape \(4,\)",
        ),
        (
            lambda: residual_field(normal(3, 3), normal(3))(normal(1)[0]),
            ValueError,
            r"y must have 3 numbers .*shape \(\)",
        ),
        (lambda: leapfrog_layers(*two_weights(2), math.nan), ValueError, "dt must be finite"),
        (
            lambda: leapfrog_layers(*two_weights(), 0.1),
            ValueError,
            r"K1 must be \(L, \.\.\., m, n\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()
