"""The tangent of one training with 451 parameters, float64: Q ← Q − η∇²L Q, and a QR at the end."""

from __future__ import annotations

import numpy as np
import torch
from compare import Case, have_jax
from training import gram_schmidt, numpy_derivatives

from dynbook.three_layer import ThreeLayer
from dynbook.transients import training_exponents

LR = 0.01  # below 2 / λ_max of the Hessian
HESSIAN, PRODUCTS = "torch.func.hessian", "torch, vmap(jvp(grad))"
JAX = {HESSIAN: "JAX, jit of jax.hessian", PRODUCTS: "JAX, jit of vmap(jvp(grad))"}


def case(
    width: int = 150, points: int = 200, k: int | None = None, steps: int = 10, device: str = "cpu"
) -> Case:
    """k tangents, all of them if not given; the rivals by whole Hessians, or by their products."""
    x = torch.linspace(-1, 1, points, dtype=torch.float64)
    y = torch.exp(-8 * x**2)
    loss = ThreeLayer(x[:, None].to(device), y.to(device), width)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, loss.size, generator=generator, dtype=torch.float64) / 2
    frame, k = torch.eye(loss.size, k or loss.size, dtype=torch.float64), k or loss.size
    there, tangents = start.to(device), frame.to(device)
    times = {"n": steps, "window": steps, "qr_every": steps, "frame": tangents[None]}

    def ours():
        return training_exponents(loss, there, LR, **times).exponents[0, 0]

    gradient, hessian = torch.func.grad(loss), torch.func.hessian(loss)

    def by_hessian(theta, Q):
        return hessian(theta) @ Q

    def by_products(theta, Q):
        def product(v):
            return torch.func.jvp(gradient, (theta,), (v,))[1]

        return torch.vmap(product, -1, -1)(Q)

    def plain(image):
        def run():
            theta, Q = there[0], tangents
            for _ in range(steps):
                theta, Q = theta - LR * gradient(theta), Q - LR * image(theta, Q)
            return torch.linalg.qr(Q)[1].diagonal().abs().log() / steps

        return run

    chosen = HESSIAN if k == loss.size else PRODUCTS
    versions = {"dynbook": ours}
    versions[chosen] = plain({HESSIAN: by_hessian, PRODUCTS: by_products}[chosen])
    if have_jax():
        data = (v.numpy() for v in (start[0], frame, x, y))
        versions[JAX[chosen]] = _jax(*data, steps, chosen == HESSIAN)
    few = min(k, 8)
    extended = (v.numpy().astype(np.longdouble) for v in (start[0], frame[:, :few], x, y))
    return Case(
        name=f"Tangent of training, p = {loss.size}, " + ("all" if k == loss.size else f"k = {k}"),
        task=f"1-{width}-1, {points} points, {steps} steps, float64",
        versions=versions,
        reference=_long_double(*extended, steps),
        measure="λ",
        targets={chosen: 10, JAX[chosen]: 15},
        limit="Most of the time are products with the whole Hessian and the QR, as they are in the "
        "other versions."
        if k == loss.size
        else "Most of the time are small batched products, far below the rate of large ones.",
        flops=steps * 4 * points * loss.size * min(k, loss.size / 2),
        traffic=16 * steps * loss.size * k,
    )


def _long_double(theta, frame, x, y, steps):
    for _ in range(steps):
        gradient, hessian = numpy_derivatives(theta, x, y)
        theta, frame = theta - LR * gradient, frame - LR * hessian @ frame
    return (np.log(np.abs(np.diag(gram_schmidt(frame)[1]))) / steps).astype(float)


def _jax(theta, frame, x, y, steps, whole):
    import jax
    import jax.numpy as jnp

    def loss(theta):
        a, b, w = theta[:-1].reshape(3, -1)
        out = w @ jnp.tanh(jnp.outer(a, x) + b[:, None]) + theta[-1]
        return ((out - y) ** 2).mean() / 2

    gradient = jax.grad(loss)

    def image(theta, Q):
        if whole:
            return jax.hessian(loss)(theta) @ Q
        return jax.vmap(lambda v: jax.jvp(gradient, (theta,), (v,))[1], -1, -1)(Q)

    def step(now, _):
        theta, Q = now
        return (theta - LR * gradient(theta), Q - LR * image(theta, Q)), None

    @jax.jit
    def exponents(theta, Q):
        _, Q = jax.lax.scan(step, (theta, Q), None, steps)[0]
        return jnp.log(jnp.abs(jnp.diagonal(jnp.linalg.qr(Q)[1]))) / steps

    theta, frame = jnp.asarray(theta), jnp.asarray(frame)
    return lambda: np.asarray(exponents(theta, frame))
