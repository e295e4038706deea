"""Distances of random two-layer networks from a function on (−1, 1), float64."""

from __future__ import annotations

import math

import numpy as np
import torch
from compare import Case, have_jax

from dynbook.oscillations import wave
from dynbook.two_layer import draw_networks, relu_loss

POINTS = 1000  # of the quadrature: what a set of 1e-4 in relative error needs
EXACT, COARSE = "JAX exact, jit of the sum over pairs", "JAX 64 points, jit of Gauss' rule"


def case(n: int = 10, count: int = 40_000, few: int = 2000, device="cpu") -> Case:
    """`few` networks for quadratures, all for closed forms."""
    target = wave(math.pi)
    rng = torch.Generator().manual_seed(0)
    networks = draw_networks(count, n, 30.0, generator=rng, device=device)
    loss = relu_loss(target)
    some = networks[:few].contiguous()
    a, b, w = some.unbind(-1)
    arrays = [v.cpu().numpy() for v in (a, b, w)]
    grid, weights = np.polynomial.legendre.leggauss(POINTS)
    x = torch.from_numpy(grid)
    f = target.f(x[:, None])
    values = f.numpy()
    x, f, parts = (v.to(device) for v in (x, f, torch.from_numpy(weights)))

    def torch_quadrature(chunk=16):
        out = []
        for i in range(0, few, chunk):
            at = w[i : i + chunk, :, None] * x - b[i : i + chunk, :, None]
            h = (a[i : i + chunk, None] @ at.relu_())[:, 0] / n
            out.append((h - f).square() @ parts)
        return torch.cat(out)

    def numpy_quadrature(chunk=16):
        out = []
        for i in range(0, few, chunk):
            c, t, u = (v[i : i + chunk, :, None] for v in arrays)
            h = (c * np.maximum(u * grid - t, 0)).sum(1) / n
            out.append((h - values) ** 2 @ weights)
        return np.concatenate(out)

    versions = {
        "dynbook": lambda: loss(networks),
        f"torch, {POINTS} Gauss points": torch_quadrature,
        f"NumPy, {POINTS} Gauss points": numpy_quadrature,
    }
    share = {name: few / count for name in list(versions)[1:]}
    if have_jax():
        versions[EXACT] = _jax(networks.cpu().numpy(), target)
        versions[COARSE] = _jax_quadrature(networks.cpu().numpy(), target)
    return Case(
        name=f"Rashomon losses, n = {n}",
        task=f"{count:,} networks of {n} ReLU neurons, float64",
        versions=versions,
        share=share,
        reference=_long_double(*(v[:200] for v in arrays), target),
        measure="‖h − f‖²",
        targets={EXACT: 2.5, COARSE: 1},
        limit="Eager torch sums over pairs in several passes, XLA in one. Gauss' rule of 64 points "
        "has an error eleven orders of magnitude larger.",
        flops=count * n * (n - 1) / 2 * 10,
        traffic=24 * count * n,
    )


def _long_double(a, b, w, target):
    """Pair by pair in extended precision, neurons that face each other by their overlap."""
    a, b, w = (v.astype(np.longdouble) for v in (a, b, w))
    n = a.shape[1]
    s = 1 - b
    small, large = (pick(s[:, :, None], s[:, None]) for pick in (np.minimum, np.maximum))
    overlap = np.maximum(s[:, :, None] + s[:, None] - 2, 0)
    gram = np.where(w[:, :, None] == w[:, None], small**2 * (3 * large - small) / 6, overlap**3 / 6)
    g = target.g(torch.from_numpy((w * b).astype(float))[..., None]).numpy()
    square = np.einsum("si,sij,sj->s", a, gram, a) / n**2
    return (square - 2 * (a * g).sum(1) / n + target.norm**2).astype(float)


def _jax(networks, target):
    import jax
    import jax.numpy as jnp

    scale = float(target.g(torch.zeros(1, 1, dtype=torch.float64)))

    @jax.jit
    def loss(networks):
        a, b, w = jnp.moveaxis(networks, -1, 0)
        n = a.shape[1]
        s = 1 - b
        small = jnp.minimum(s[:, :, None], s[:, None])
        large = jnp.maximum(s[:, :, None], s[:, None])
        overlap = jnp.maximum(s[:, :, None] + s[:, None] - 2, 0)
        same = w[:, :, None] == w[:, None]
        gram = jnp.where(same, small**2 * (3 * large - small), overlap**3) / 6
        g = scale * (1 - b**2) ** 3 * jnp.cos(math.pi * b)
        return jnp.einsum("si,sij,sj->s", a, gram, a) / n**2 - 2 * (a * g).mean(1) + 1

    at = jnp.asarray(networks)
    return lambda: np.asarray(loss(at))


def _jax_quadrature(networks, target, points=64, block=512):
    import jax
    import jax.numpy as jnp

    x, weights = (jnp.asarray(v) for v in np.polynomial.legendre.leggauss(points))
    f = jnp.asarray(target.f(torch.from_numpy(np.array(x))[:, None]).numpy())

    def one(network):
        a, b, w = network.T
        h = a @ jax.nn.relu(jnp.outer(w, x) - b[:, None]) / len(a)
        return (h - f) ** 2 @ weights

    loss = jax.jit(lambda networks: jax.lax.map(one, networks, batch_size=block))
    at = jnp.asarray(networks)
    return lambda: np.asarray(loss(at))
