"""Leading exponents of products of 1,000 Gaussian matrices, many products at once, float64."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from compare import Case, have_jax

from dynbook.lyapunov import matrix_product_spectrum
from dynbook.random_matrices import gaussian_matrices

PLAIN, JAX = "torch, bmm and linalg.qr each step", "JAX, jit of scan with jnp.linalg.qr"


def case(
    n: int = 16,
    k: int | None = None,
    batch: int = 256,
    length: int = 1000,
    few: int = 4,
    device: str = "cpu",
    targets: tuple[float, float] = (1.4, 1.4),
) -> Case:
    """`few` systems for the loop over systems, all for the rest; targets for torch and JAX."""
    k = k or n
    draws = gaussian_matrices(n, length, batch, generator=torch.Generator().manual_seed(0))
    matrices = torch.stack(list(draws)).to(device)
    arrays = matrices.cpu().numpy()

    start = torch.eye(n, k, dtype=matrices.dtype, device=device).expand(batch, n, k)

    def dynbook(qr_every):
        run = partial(matrix_product_spectrum, matrices, frame=start, qr_every=qr_every)
        return lambda: run().exponents

    def numpy_loop():
        exponents = np.zeros((few, k))
        for system in range(few):
            frame = np.eye(n, k)
            for step in range(length):
                frame, r = np.linalg.qr(arrays[step, system] @ frame)
                exponents[system] += np.log(np.abs(np.diag(r)))
        return exponents / length

    def torch_steps():
        frame = start
        exponents = matrices.new_zeros(batch, k)
        for matrix in matrices:
            frame, r = torch.linalg.qr(torch.bmm(matrix, frame))
            exponents += r.diagonal(dim1=-2, dim2=-1).abs().log()
        return exponents / length

    versions = {
        "dynbook": dynbook("auto"),
        "dynbook, qr_every=1": dynbook(1),
        "NumPy, system by system": numpy_loop,
        PLAIN: torch_steps,
    }
    if have_jax():
        versions[JAX] = _jax(arrays, k)
    return Case(
        name=f"Spectrum, N = {n}" + f", k = {k}" * (k < n),
        task=f"{batch:,} products of {length:,} Gaussian {n} × {n} matrices, float64",
        versions=versions,
        share={"NumPy, system by system": few / batch},
        reference=_long_double(arrays[:, :few], k),
        measure="λ",
        targets=dict(zip((PLAIN, JAX), targets, strict=True)),
        limit="Small batched products run far below the rate of large ones, and they are all that "
        "is left.",
        flops=2 * length * batch * n * k * (n + k),
        traffic=8 * length * batch * n * n,
    )


def _jax(arrays, k):
    import jax
    import jax.numpy as jnp

    batch, n = arrays.shape[1:3]

    def step(carry, matrix):
        frame, exponents = carry
        frame, r = jnp.linalg.qr(matrix @ frame)
        return (frame, exponents + jnp.log(jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1)))), None

    @jax.jit
    def exponents(matrices):
        start = jnp.broadcast_to(jnp.eye(n, k), (batch, n, k)), jnp.zeros((batch, k))
        return jax.lax.scan(step, start, matrices)[0][1] / len(matrices)

    matrices = jnp.asarray(arrays)
    return lambda: np.asarray(exponents(matrices))


def _long_double(arrays, k):
    """Gram–Schmidt in extended precision (double, where the platform has no other)."""
    length, systems, n, _ = arrays.shape
    frame = np.broadcast_to(np.eye(n, k, dtype=np.longdouble), (systems, n, k)).copy()
    exponents = np.zeros((systems, k), np.longdouble)
    for matrix in arrays.astype(np.longdouble):
        frame = np.matmul(matrix, frame)
        for j in range(k):
            norm = np.sqrt((frame[:, :, j] ** 2).sum(1))
            exponents[:, j] += np.log(norm)
            frame[:, :, j] /= norm[:, None]
            overlap = np.einsum("si,sij->sj", frame[:, :, j], frame[:, :, j + 1 :])
            frame[:, :, j + 1 :] -= frame[:, :, j, None] * overlap[:, None]
    return (exponents / length).astype(float)
