"""The 20 leading eigenpairs of a Gram matrix of 2,000 neurons on (−1, 1), float64."""

from __future__ import annotations

import numpy as np
import torch
from compare import Case, have_jax

from dynbook.gram import relu_gram
from dynbook.splines import leading_eigenpairs

FULL, JAX = "torch, linalg.eigh of all", "JAX, jnp.linalg.eigh of all"


def case(n: int = 2000, k: int = 20, device: str = "cpu") -> Case:
    b = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    b = b.sort().values
    gram = relu_gram(1.0, b)
    there, matrix = b.to(device), gram.to(device)

    def full():
        values, _ = torch.linalg.eigh(matrix)
        return values.flip(0)[:k]

    def subset():
        from scipy.linalg import eigh

        return eigh(gram.numpy(), subset_by_index=(n - k, n - 1))[0][::-1].copy()

    def lanczos():
        from scipy.sparse.linalg import eigsh

        start = np.ones(n)
        return eigsh(gram.numpy(), k, v0=start)[0][::-1].copy()

    versions = {
        "dynbook, products in O(n)": lambda: leading_eigenpairs(there, k).values,
        FULL: full,
        "SciPy, eigh of these": subset,
        "SciPy, eigsh with the matrix": lanczos,
    }
    if have_jax():
        import jax.numpy as jnp

        array = jnp.asarray(gram.numpy())
        versions[JAX] = lambda: np.asarray(jnp.linalg.eigh(array)[0])[::-1][:k]
    vectors = torch.linalg.eigh(gram)[1].flip(1)[:, :k].numpy()
    return Case(
        name="Leading eigenpairs on an interval",
        task=f"{k} of {n:,} neurons, float64",
        versions=versions,
        reference=_rayleigh(vectors, b.numpy()),
        measure="λ",
        targets={FULL: 100},
        limit="Lanczos' method needs its products one after the other, each of some fifteen short "
        "calls.",
        traffic=8 * n * k,
    )


def _rayleigh(vectors, b):
    """With the matrix in extended precision: the error is the square of that of the vectors."""
    b, v = b.astype(np.longdouble), vectors.astype(np.longdouble)
    most, apart = np.maximum(b[:, None], b), np.abs(b[:, None] - b)
    gram = (1 - most) ** 3 / 3 + apart * (1 - most) ** 2 / 2
    return ((v * (gram @ v)).sum(0) / (v * v).sum(0)).astype(float)
