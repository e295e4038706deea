"""Networks trained side by side by gradient descent, without their tangents."""

from __future__ import annotations

import numpy as np
import torch
from compare import Case, have_jax

from dynbook.descent import descend
from dynbook.three_layer import ThreeLayer

LR = 0.1
EAGER, JAX = "torch, autograd and SGD, network by network", "JAX, jit of scan of vmap(grad)"


def case(
    members: int = 64,
    width: int = 20,
    points: int = 64,
    steps: int = 200,
    whole: int = 10_000,
    few: int = 1,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> Case:
    """All take `steps` of `whole` steps; `few` networks for the loop over networks."""
    x = torch.linspace(-1, 1, points, dtype=dtype)
    y = torch.exp(-8 * x**2)
    loss = ThreeLayer(x[:, None].to(device), y.to(device), width)
    generator = torch.Generator().manual_seed(0)
    starts = (torch.randn(members, loss.size, generator=generator, dtype=torch.float64) / 2).to(
        dtype
    )
    there = starts.to(device)

    def ours():
        *_, end = descend(loss.descent(LR), there, steps, every=steps)
        return end.theta

    def eager():
        ends = []
        for start in there[:few]:
            a, b, w, c = (v.clone().requires_grad_() for v in loss.unpack(start))
            sgd = torch.optim.SGD([a, b, w, c], LR)
            for _ in range(steps):
                sgd.zero_grad()
                out = torch.tanh(loss.x @ a.mT + b) @ w + c
                ((out - loss.y).square().mean() / 2).backward()
                sgd.step()
            ends.append(loss.pack(*(v.detach() for v in (a, b, w, c))))
        return torch.stack(ends)

    def vmapped():
        gradient, theta = torch.func.vmap(torch.func.grad(loss)), there
        for _ in range(steps):
            theta = theta - LR * gradient(theta)
        return theta

    part = steps / whole
    versions = {"dynbook": ours, EAGER: eager, "torch, vmap(grad)": vmapped}
    if have_jax():
        versions[JAX] = _jax(starts.numpy(), x.numpy(), y.numpy(), steps)
    arrays = (v.numpy().astype(np.longdouble) for v in (starts[:1], x, y))
    kind = str(dtype).removeprefix("torch.")
    return Case(
        name=f"Trainings, {members} networks, {kind}",
        task=f"1-{width}-1, {points} points, {whole:,} steps",
        versions=versions,
        share={name: part * (few / members if name == EAGER else 1) for name in versions},
        reference=_long_double(*arrays, steps),
        measure="θ",
        targets={EAGER: 20, JAX: 1 / 1.3},
        limit="Passes over the batch that XLA fuses, tanh among them, by e²ᶻ − 1 so that it keeps "
        "all digits.",
        flops=whole * members * points * width * 15,
        traffic=2 * whole * starts.nbytes,
        dtype=kind,
    )


def _long_double(starts, x, y, steps):
    ends = []
    for theta in starts:
        a, b, w, c = np.split(theta, np.arange(1, 4) * (len(theta) // 3))
        for _ in range(steps):
            value = np.tanh(np.outer(a, x) + b[:, None])
            r = (w @ value + c - y) / len(x)
            back = (1 - value**2) * r * w[:, None]
            a, b, w, c = (
                a - LR * back @ x,
                b - LR * back.sum(1),
                w - LR * value @ r,
                c - LR * r.sum(),
            )
        ends.append(np.concatenate([a, b, w, c]))
    return np.stack(ends).astype(float)


def _jax(starts, x, y, steps):
    import jax
    import jax.numpy as jnp

    def loss(theta):
        a, b, w = theta[:-1].reshape(3, -1)
        out = w @ jnp.tanh(jnp.outer(a, x) + b[:, None]) + theta[-1]
        return ((out - y) ** 2).mean() / 2

    def trained(theta):
        step = lambda theta, _: (theta - LR * jax.grad(loss)(theta), None)  # noqa: E731
        return jax.lax.scan(step, theta, None, steps)[0]

    together, starts = jax.jit(jax.vmap(trained)), jnp.asarray(starts)
    return lambda: np.asarray(together(starts))
