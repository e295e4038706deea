"""Thin QR decompositions of 8,192 small matrices, float64, on the GPU if there is one."""

from __future__ import annotations

import torch
from compare import Case

from dynbook.orthonormal import orthonormalize


def case(n: int = 16, batch: int = 8192, device: str = "cpu") -> Case:
    """The factors R, sign conventions settled; compared are a few with 40 digits."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(batch, n, n, generator=generator, dtype=torch.float64).to(device)

    def ours(method):
        return lambda: orthonormalize(frames, method)[1]

    def linalg():
        r = torch.linalg.qr(frames)[1]
        return r * r.diagonal(dim1=-2, dim2=-1).sign()[..., None]

    return Case(
        name=f"Batched QR, {n} × {n}",
        task=f"{batch} Gaussian {n} × {n} matrices, float64",
        versions={
            "dynbook": ours("auto"),
            "dynbook, Gram–Schmidt": ours("gram-schmidt"),
            "dynbook, Householder": ours("householder"),
            "torch.linalg.qr": linalg,
        },
        reference=_exact(frames[:2].cpu()),
        measure="R",
        flops=batch * 8 / 3 * n**3,
        traffic=8 * batch * 3 * n * n,
    )


def _exact(frames):
    import mpmath

    with mpmath.workdps(40):
        factors = []
        for frame in frames.tolist():
            gram = mpmath.matrix(frame).T * mpmath.matrix(frame)
            factors.append([[float(v) for v in row] for row in mpmath.cholesky(gram).T.tolist()])
    return torch.tensor(factors, dtype=torch.float64)
