"""All 16 exponents of 256 products of 1,000 Gaussian 16 × 16 matrices, float64."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from compare import Case, have_jax

from dynbook.lyapunov import matrix_product_spectrum
from dynbook.random_matrices import gaussian_matrices


def case(n: int = 16, length: int = 1000, batch: int = 256, few: int = 4, device="cpu") -> Case:
    """`few` systems for the loop over systems, all for the rest."""
    draws = gaussian_matrices(n, length, batch, generator=torch.Generator().manual_seed(0))
    matrices = torch.stack(list(draws)).to(device)
    arrays = matrices.cpu().numpy()

    start = torch.eye(n, dtype=matrices.dtype, device=device).expand(batch, n, n)

    def dynbook(qr_every):
        run = partial(matrix_product_spectrum, matrices, frame=start, qr_every=qr_every)
        return lambda: run().exponents

    def numpy_loop():
        exponents = np.zeros((few, n))
        for system in range(few):
            frame = np.eye(n)
            for step in range(length):
                frame, r = np.linalg.qr(arrays[step, system] @ frame)
                exponents[system] += np.log(np.abs(np.diag(r)))
        return exponents / length

    def torch_steps():
        frame = start
        exponents = matrices.new_zeros(batch, n)
        for matrix in matrices:
            frame, r = torch.linalg.qr(torch.bmm(matrix, frame))
            exponents += r.diagonal(dim1=-2, dim2=-1).abs().log()
        return exponents / length

    versions = {
        "dynbook": dynbook("auto"),
        "dynbook, qr_every=1": dynbook(1),
        "NumPy, system by system": numpy_loop,
        "torch, bmm and linalg.qr each step": torch_steps,
    }
    if have_jax():
        versions["JAX, jit of scan with jnp.linalg.qr"] = _jax(arrays)
    return Case(
        name="Spectrum of matrix products",
        task=f"{batch} products of {length} Gaussian {n} × {n} matrices, float64",
        versions=versions,
        share={"NumPy, system by system": few / batch},
        reference=_long_double(arrays[:, :few]),
        measure="λ",
    )


def _jax(arrays):
    import jax
    import jax.numpy as jnp

    n = arrays.shape[-1]

    def step(carry, matrix):
        frame, exponents = carry
        frame, r = jnp.linalg.qr(matrix @ frame)
        return (frame, exponents + jnp.log(jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1)))), None

    @jax.jit
    def exponents(matrices):
        start = jnp.broadcast_to(jnp.eye(n), matrices.shape[1:]), jnp.zeros(matrices.shape[1:3])
        return jax.lax.scan(step, start, matrices)[0][1] / len(matrices)

    matrices = jnp.asarray(arrays)
    return lambda: np.asarray(exponents(matrices))


def _long_double(arrays):
    """Gram–Schmidt in extended precision (double, where the platform has no other)."""
    length, systems, n, _ = arrays.shape
    frame = np.broadcast_to(np.eye(n, dtype=np.longdouble), (systems, n, n)).copy()
    exponents = np.zeros((systems, n), np.longdouble)
    for matrix in arrays.astype(np.longdouble):
        frame = np.matmul(matrix, frame)
        for j in range(n):
            norm = np.sqrt((frame[:, :, j] ** 2).sum(1))
            exponents[:, j] += np.log(norm)
            frame[:, :, j] /= norm[:, None]
            overlap = np.einsum("si,sij->sj", frame[:, :, j], frame[:, :, j + 1 :])
            frame[:, :, j + 1 :] -= frame[:, :, j, None] * overlap[:, None]
    return (exponents / length).astype(float)
