"""Leading finite-time exponents of a network at inputs of 784 dimensions, float32."""

from __future__ import annotations

import copy

import numpy as np
import torch
from compare import Case, have_jax
from torch import nn
from torch.func import jacrev, vmap

from dynbook.ftle import ftle

PLAIN, JAX = "torch, vmap(jacrev) and svdvals", "JAX, jit of vmap(jacrev) and svd"


def case(
    inputs: int = 784,
    width: int = 128,
    depth: int = 6,
    k: int = 5,
    points: int = 32,
    device: str = "cpu",
) -> Case:
    generator = torch.Generator().manual_seed(0)
    modules: list[nn.Module] = []
    for fan_in in [inputs] + [width] * (depth - 1):
        linear = nn.Linear(fan_in, width)
        with torch.no_grad():
            linear.weight.normal_(0, 1.5 * fan_in**-0.5, generator=generator)
            linear.bias.normal_(0, 0.3, generator=generator)
        modules += [linear, nn.Tanh()]
    net = nn.Sequential(*modules)
    x = torch.rand(points, inputs, generator=generator)
    weights = [
        [v.detach().numpy() for v in (m.weight, m.bias)] for m in net if isinstance(m, nn.Linear)
    ]
    there, net = x.to(device), copy.deepcopy(net).to(device)

    def plain():
        with torch.no_grad():
            return torch.linalg.svdvals(vmap(jacrev(net))(there))[:, :k].log() / depth

    versions = {"dynbook": lambda: ftle(net, there, k), PLAIN: plain}
    if have_jax():
        versions[JAX] = _jax(weights, x.numpy(), k)
    return Case(
        name=f"FTLE at {inputs} inputs, k = {k}",
        task=f"{depth} tanh layers of width {width}, {points} points, float32",
        versions=versions,
        reference=_double(weights, x[:4].double().numpy(), k),
        measure="λ",
        targets={PLAIN: 6, JAX: 4.5},
        limit="Much of the time are the eigenvalues of J Jᵀ, by LAPACK, one matrix after another.",
        flops=2 * points * (depth - 1) * width**3,
        traffic=4 * points * width**2,
        dtype="float32",
    )


def _double(weights, points, k):
    found = np.empty((len(points), k))
    for i, state in enumerate(points):
        jacobian = np.eye(len(state))
        for w, b in weights:
            state = np.tanh(w.astype(float) @ state + b)
            jacobian = (1 - state**2)[:, None] * (w @ jacobian)
        found[i] = np.linalg.svd(jacobian, compute_uv=False)[:k]
    return np.log(found) / len(weights)


def _jax(weights, points, k):
    import jax
    import jax.numpy as jnp

    def network(x):
        for w, b in weights:
            x = jnp.tanh(w @ x + b)
        return x

    @jax.jit
    def exponents(points):
        jacobian = jax.vmap(jax.jacrev(network))(points)
        sigma = jnp.linalg.svd(jacobian, compute_uv=False)
        return jnp.log(sigma[:, :k]) / len(weights)

    points = jnp.asarray(points)
    return lambda: np.asarray(exponents(points))
