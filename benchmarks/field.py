"""FTLE fields of tanh networks, float32.

JAX is optional: without it its column is left out.
"""

from __future__ import annotations

import numpy as np
import torch
from compare import Case, have_jax
from torch import nn
from torch.func import jacfwd, vmap

from dynbook.ftle import ftle_field


def network(width: int, depth: int, dtype: torch.dtype) -> nn.Sequential:
    """σ_w = 1.5, σ_b = 0.3: on the chaotic side, so that the field has something to show."""
    generator = torch.Generator().manual_seed(0)
    modules: list[nn.Module] = []
    for fan_in in [2] + [width] * (depth - 1):
        linear = nn.Linear(fan_in, width, dtype=dtype)
        with torch.no_grad():
            linear.weight.normal_(0, 1.5 * fan_in**-0.5, generator=generator)
            linear.bias.normal_(0, 0.3, generator=generator)
        modules += [linear, nn.Tanh()]
    return nn.Sequential(*modules)


LOOP, PLAIN = "NumPy, point by point", "torch, vmap(jacfwd) and svdvals"
JAX = "JAX, jit of vmap(jacfwd), blocks"


def case(
    n: int = 320,
    width: int = 50,
    depth: int = 10,
    few: int = 1000,
    some: int = 5000,
    device: str = "cpu",
) -> Case:
    """`few` points for the loop, `some` for vmap(jacfwd), all n² for the rest."""
    net = network(width, depth, torch.float32)
    weights = [m.weight.detach().numpy() for m in net if isinstance(m, nn.Linear)]
    biases = [m.bias.detach().numpy() for m in net if isinstance(m, nn.Linear)]
    side = torch.linspace(-1, 1, n)
    points = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)
    few, some = min(few, n * n), min(some, n * n)
    net, there = net.to(device), points[:some].to(device)

    def numpy_loop():
        return numpy_exponents(points[:few].numpy(), weights, biases)

    def dynbook():
        return ftle_field(net, (-1, 1), (-1, 1), n).ftle.reshape(-1)

    def torch_vmap():
        with torch.no_grad():
            jacobian = vmap(jacfwd(net), chunk_size=1024)(there)
            return torch.linalg.svdvals(jacobian)[:, 0].log() / depth

    versions = {"dynbook": dynbook, LOOP: numpy_loop, PLAIN: torch_vmap}
    if have_jax():
        versions[JAX] = _jax(weights, biases, points.numpy())
    double = [[v.astype(np.float64) for v in values] for values in (weights, biases)]
    return Case(
        name=f"FTLE field, {width} wide, {depth} deep",
        task=f"tanh, {n} × {n} inputs, float32",
        versions=versions,
        share={LOOP: few / n**2, PLAIN: some / n**2},
        reference=numpy_exponents(points[:few].double().numpy(), *double),
        measure="λ",
        targets={PLAIN: 10, JAX: 1 / 1.15},
        limit="Matrix products, somewhat below the rate of large ones, take most of the time; the "
        "rest are passes of tanh and its derivative, which XLA fuses.",
        flops=6 * n * n * width * (2 + (depth - 1) * width),
        traffic=12 * n * n,
        dtype="float32",
    )


def numpy_exponents(points, weights, biases):
    """Point by point, in the dtype of the points."""
    found = np.empty(len(points), points.dtype)
    for i, state in enumerate(points):
        jacobian = np.eye(2, dtype=points.dtype)
        for w, b in zip(weights, biases, strict=True):
            state = np.tanh(w @ state + b)
            jacobian = (1 - state**2)[:, None] * (w @ jacobian)
        found[i] = np.linalg.svd(jacobian, compute_uv=False)[0]
    return np.log(found) / len(weights)


def _jax(weights, biases, points, block=512):
    import jax
    import jax.numpy as jnp

    def network(x):
        for w, b in zip(weights, biases, strict=True):
            x = jnp.tanh(w @ x + b)
        return x

    def largest(x):
        s, t = jax.jacfwd(network)(x).T
        a, b, c = s @ s, s @ t, t @ t
        angle = jnp.arctan2(2 * b, a - c) / 2
        exponent = jnp.log((a + c + jnp.hypot(a - c, 2 * b)) / 2) / (2 * len(weights))
        return exponent, jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    field = jax.jit(lambda points: jax.lax.map(largest, points, batch_size=block))

    def run():
        exponents, _ = map(np.asarray, field(points))
        return exponents

    return run
