"""250 trainings of a network with ten parameters side by side, with all their exponents."""

from __future__ import annotations

import numpy as np
import torch
from compare import Case, have_jax

from dynbook.lyapunov import lyapunov_spectrum
from dynbook.maps import gradient_descent
from dynbook.three_layer import ThreeLayer
from dynbook.transients import training_exponents

LR = 0.3


def case(
    members: int = 250, length: int = 100, width: int = 3, few: int = 3, device: str = "cpu"
) -> Case:
    """`few` networks for the loops over networks, all for the rest."""
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)
    y = torch.exp(-8 * x**2)
    loss = ThreeLayer(x[:, None].to(device), y.to(device), width)
    generator = torch.Generator().manual_seed(0)
    starts = 0.1 * torch.randn(members, loss.size, generator=generator, dtype=torch.float64)
    there = starts.to(device)
    frames = torch.eye(loss.size).to(there).expand(members, -1, -1)
    data = starts[:few].numpy(), x.numpy(), y.numpy(), length

    def closed():
        return training_exponents(loss, there, LR, n=length, window=length, frame=frames).exponents[
            0
        ]

    def autograd():
        step = gradient_descent(lambda theta: loss(theta), LR)
        return lyapunov_spectrum(step, there, n=length, frame=frames).exponents

    def torch_loop():
        hessian, gradient = torch.func.hessian(loss), torch.func.grad(loss)
        logs = torch.zeros_like(there[:few])
        for member, theta in enumerate(there[:few]):
            Q = frames[0]
            for _ in range(length):
                Q, R = torch.linalg.qr(Q - LR * hessian(theta) @ Q)
                theta = theta - LR * gradient(theta)
                logs[member] += R.diagonal().abs().log()
        return logs / length

    versions = {
        "dynbook": closed,
        "dynbook, of a loss that autograd differentiates": autograd,
        "NumPy, the same formulas, network by network": lambda: numpy_exponents(*data),
        "torch.func.hessian, network by network": torch_loop,
    }
    share = {name: few / members for name in versions if "network by network" in name}
    if have_jax():
        versions["JAX, jit of scan of vmap(hessian)"] = _jax(starts.numpy(), *data[1:])
    extended = (v.astype(np.longdouble) for v in data[:3])
    return Case(
        name="Trainings with their tangents",
        task=f"{members} networks 1-{width}-1, {length} steps, {loss.size} exponents, float64",
        versions=versions,
        share=share,
        reference=numpy_exponents(*extended, length, gram_schmidt).astype(float),
        measure="λ",
        flops=2 * length * members * loss.size**2 * (loss.size + len(x)),
        traffic=8 * members * loss.size * (loss.size + 1),
    )


def numpy_exponents(starts, x, y, length, qr=np.linalg.qr):
    """Network by network, in the dtype of the data: f = w·tanh(ax + b) + c."""
    exponents = np.zeros_like(starts)
    for member, theta in enumerate(starts):
        frame = np.eye(len(theta), dtype=theta.dtype)
        for _ in range(length):
            gradient, hessian = numpy_derivatives(theta, x, y)
            frame, r = qr(frame - LR * hessian @ frame)
            theta = theta - LR * gradient
            exponents[member] += np.log(np.abs(np.diag(r)))
    return exponents / length


def numpy_derivatives(theta, x, y):
    H = len(theta) // 3
    a, b, w, c = theta[:H], theta[H : 2 * H], theta[2 * H : 3 * H], theta[-1]
    value = np.tanh(np.outer(a, x) + b[:, None])
    slope = 1 - value**2
    r = (w @ value + c - y) / len(x)
    back = w[:, None] * slope
    g = np.concatenate([back * x, back, value, np.ones_like(x)[None]])
    hessian = g @ g.T / len(x)
    bend, mixed = -2 * value * back * r, slope * r
    i = np.arange(H)
    hessian[i, i] += bend @ x**2
    hessian[H + i, H + i] += bend.sum(1)
    for row, column, entry in (
        (i, H + i, bend @ x),
        (i, 2 * H + i, mixed @ x),
        (H + i, 2 * H + i, mixed.sum(1)),
    ):
        hessian[row, column] += entry
        hessian[column, row] += entry
    return g @ r, hessian


def gram_schmidt(Y):
    """QR for extended precision, which LAPACK does not know."""
    Q, R = Y.copy(), np.zeros_like(Y[: Y.shape[1]])
    for j in range(Y.shape[1]):
        R[j, j] = np.sqrt((Q[:, j] ** 2).sum())
        Q[:, j] /= R[j, j]
        R[j, j + 1 :] = Q[:, j] @ Q[:, j + 1 :]
        Q[:, j + 1 :] -= np.outer(Q[:, j], R[j, j + 1 :])
    return Q, R


def _jax(starts, x, y, length):
    import jax
    import jax.numpy as jnp

    def loss(theta):
        a, b, w = theta[:-1].reshape(3, -1)
        out = w @ jnp.tanh(jnp.outer(a, x) + b[:, None]) + theta[-1]
        return ((out - y) ** 2).mean() / 2

    def step(carry, _):
        theta, frame, logs = carry
        tangent = frame - LR * jax.hessian(loss)(theta) @ frame
        frame, r = jnp.linalg.qr(tangent)
        theta = theta - LR * jax.grad(loss)(theta)
        return (theta, frame, logs + jnp.log(jnp.abs(jnp.diagonal(r)))), None

    def exponents(theta):
        start = theta, jnp.eye(len(theta)), jnp.zeros_like(theta)
        return jax.lax.scan(step, start, None, length)[0][2] / length

    together = jax.jit(jax.vmap(exponents))
    starts = jnp.asarray(starts)
    return lambda: np.asarray(together(starts))
