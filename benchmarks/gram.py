"""Gram matrices of ReLU neurons on an interval and on the disk, float64."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from compare import Case, have_jax

from dynbook.domains import Ball, gauss
from dynbook.gram import relu_gram

JAX, NUMPY = "JAX, jit of the closed form", "NumPy, the closed form"
QUADRATURE = "torch quadrature"


def interval(n: int = 2000, device: str = "cpu") -> Case:
    """Neurons max(w x − b, 0) on (−1, 1), w = ±1: by the overlap of where they are active."""
    rng = torch.Generator().manual_seed(0)
    w = torch.randint(2, (n,), generator=rng).mul(2.0).sub(1).double()
    b = torch.rand(n, generator=rng, dtype=torch.float64) * 2 - 1
    arrays = w.numpy(), b.numpy()
    there = w.to(device), b.to(device)
    versions = {"dynbook": lambda: relu_gram(*there), NUMPY: lambda: overlaps(np, *arrays)}
    if have_jax():
        import jax

        closed = jax.jit(lambda w, b: overlaps(jax.numpy, w, b))
        versions[JAX] = lambda: np.asarray(closed(*arrays))
    long = (v.astype(np.longdouble) for v in arrays)
    return Case(
        name="Gram matrix on an interval",
        task=f"{n:,} neurons, closed form, float64",
        versions=versions,
        reference=overlaps(np, *long)[:200].astype(float),
        measure="G",
        targets={NUMPY: 3, JAX: 1 / 1.1},
        limit="Eager torch makes eight passes over rows in the cache, XLA one.",
        traffic=8 * n * n,
    )


def overlaps(xp, w, b):
    """∫ (u + v t)₊ … over the common support: half-width h, slopes w, values u at its middle."""
    kink = b / w
    low, high = xp.where(w > 0, kink, -1), xp.where(w > 0, 1, kink)
    left, right = xp.maximum(low[:, None], low), xp.minimum(high[:, None], high)
    half, middle = xp.maximum(right - left, 0) / 2, (left + right) / 2
    row, column = w[:, None] * middle - b[:, None], w * middle - b
    return 2 * half * (row * column + w[:, None] * w * half**2 / 3)


def disk(n: int = 1000, points: int = 20_000, device: str = "cpu") -> Case:
    rng = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(n, generator=rng, dtype=torch.float64)
    w = torch.stack([angle.cos(), angle.sin()], 1)
    b = 1.8 * torch.rand(n, generator=rng, dtype=torch.float64) - 0.9
    there = w.to(device), b.to(device)
    x, weights = (v.to(device) for v in Ball(2).quadrature(points))

    def quadrature():
        gram = torch.zeros(n, n, dtype=torch.float64, device=device)
        for at, mass in zip(x.split(4096), weights.split(4096), strict=True):
            psi = (at @ there[0].mT - there[1]).relu_() * mass.sqrt()[:, None]
            gram.addmm_(psi.mT, psi)
        return gram

    versions = {"dynbook": lambda: relu_gram(*there, Ball(2)), QUADRATURE: quadrature}
    if have_jax():
        versions[JAX] = _jax_disk(w, b)
    return Case(
        name="Gram matrix on the disk",
        task=f"{n:,} neurons, closed form, float64; {len(x):,} points of the quadrature",
        versions=versions,
        reference=_chords(w, b, rows=10),
        measure="G",
        targets={QUADRATURE: 15, JAX: 1 / 1.1},
        limit="Eager torch makes some forty passes over each tile, in the cache; XLA one.",
        traffic=8 * n * n,
    )


def _chords(w, b, rows, cells=4):
    """The first rows: Gauss' rule along w_i, where both neurons are active or cut by the disk's
    edge, and across it in closed form."""
    t, mass = (v.numpy() for v in gauss(24))
    gram = np.empty((rows, len(b)))
    angle, s = np.arctan2(*w.numpy().T[::-1]), b.numpy()
    for i in range(rows):
        for j in range(len(b)):
            c, d = math.cos(angle[j] - angle[i]), math.sin(angle[j] - angle[i])
            chord = d * math.sqrt(1 - s[j] ** 2)  # where ℓ_j = 0 leaves the disk
            ends = np.clip([s[i], 1, s[j] * c - chord, s[j] * c + chord], s[i], 1)
            cuts = np.unique(np.arccos(ends))  # along w_i it is cos φ: no root at the disk's end
            phi = np.concatenate([np.linspace(*e, cells) for e in pairwise(cuts)])
            at = (phi[:-1, None] + np.diff(phi)[:, None] * t).ravel()
            weight = (np.diff(phi)[:, None] * mass).ravel()
            p, half = np.cos(at), np.sin(at)
            gram[i, j] = weight @ (half * (p - s[i]) * _across(c * p - s[j], d, half))
    return gram


def _across(u, v, half):
    """∫ max(u + v q, 0) dq over (−half, half)."""
    low, high = u - abs(v) * half, u + abs(v) * half
    if abs(v) < 1e-12:
        return 2 * half * np.maximum(u, 0)
    return (np.maximum(high, 0) ** 2 - np.maximum(low, 0) ** 2) / (2 * abs(v))


def _jax_disk(w, b):
    """The formula of :mod:`dynbook.disk`, without its care for thin caps."""
    import jax
    import jax.numpy as jnp

    phi, s = jnp.arctan2(w.numpy()[:, 1], w.numpy()[:, 0]), jnp.asarray(b.numpy())
    alpha = np.arccos(b.numpy())
    mass, lean = (jnp.asarray(v) for v in _moments(alpha))

    @jax.jit
    def gram(phi, s, mass, lean):
        sine, cosine = (f(phi[:, None] / 2 - phi / 2) for f in (jnp.sin, jnp.cos))
        sine, cosine = jnp.abs(sine), jnp.abs(cosine)
        delta = 2 * jnp.arctan2(sine, cosine)
        cos, sin = cosine**2 - sine**2, 2 * sine * cosine
        first, second = s[:, None], s
        row = cos * lean - first * mass
        column = cos * lean[:, None] - second * mass[:, None]
        whole = math.pi * (cos / 4 + first * second)
        apart = jnp.maximum(jnp.maximum(0, row), jnp.maximum(column, row + column - whole))
        q = s**2 / 4 - s**4 / 12
        tan = sine / jnp.where(cosine == 0, 1, cosine)
        cot = cosine / jnp.where(sine == 0, 1, sine)
        crossing = (
            (row + column) / 2 - delta / 2 * (cos / 4 + first * second)
            + sin * (1 / 8 + q[:, None] + q)
            + (tan * (first + second) ** 4 + cot * (first - second) ** 4) / 48
        )  # fmt: skip
        meet = first**2 + second**2 - 2 * first * second * cos < sin**2
        return jnp.where(meet, crossing, apart)

    return lambda: np.asarray(gram(phi, s, mass, lean))


def _moments(alpha):
    """∫ ℓ and ∫ (u·x) ℓ over a cap of half-angle α."""
    sin, cos = np.sin(alpha), np.cos(alpha)
    area = alpha - sin * cos
    first, second = 2 * sin**3 / 3, (alpha - sin * cos * (1 - 2 * sin**2)) / 4
    second = alpha / 4 - np.sin(4 * alpha) / 16
    return first - cos * area, second - cos * first
