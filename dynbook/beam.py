"""The exact spectrum of the ReLU^p layer on (−1, 1): the modes of a cantilever beam.

A continuum of neurons sends a(b) to h(x) = ∫ max(x − b, 0)^p a(b) db, which is p! times integration
from the left end, p + 1 times. In orthonormal Legendre polynomials integration is J = e_0 e_0ᵀ + S
with S tridiagonal and skew, S_{k,k−1} = 1/√(4k² − 1); so the layer's singular values are those of a
banded matrix, and their squares μ_k are the eigenvalues of the Gram kernel. For p = 1 they solve
μ φ⁗ = φ with φ = φ′ = 0 at one end and φ″ = φ‴ = 0 at the other: cos κ cosh κ = −1, μ = (2/κ)⁴
(:cite:t:`zhang2023`).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import kind, whole


def integration_matrix(n: int) -> Float[Tensor, "n n"]:
    """∫_{−1}^x in the orthonormal Legendre polynomials of degree < n, float64; n ≥ 1."""
    n = whole("n", n)
    k = torch.arange(1, n, dtype=torch.float64)
    c = (4 * k**2 - 1).rsqrt()
    j = torch.diag(c, -1) - torch.diag(c, 1)
    j[0, 0] = 1.0
    return j


def _modes(k: int, power: int) -> tuple[Tensor, Tensor, Tensor]:
    k, power = whole("k", k), whole("power", power, 10)
    n = 2 * k + 40  # a mode with k half-waves needs πk/2 degrees and a few more
    j = integration_matrix(n + power + 1)
    layer = math.factorial(power) * torch.linalg.matrix_power(j, power + 1)[:, :n]
    u, s, vh = torch.linalg.svd(layer, full_matrices=False)
    return s[:k] ** 2, u[:, :k], vh[:k].mT


def beam_spectrum(k: int, power: int = 1) -> Float[Tensor, " k"]:
    """The k largest eigenvalues μ_1 > μ_2 > … of the ReLU^p Gram kernel on (−1, 1).

    Float64, with absolute error about ε √(μ_1 μ_j) in μ_j: 12 digits at j = 30 for p = 1.
    Asymptotically μ_j → (p!)² [2/(π(j − ½))]^{2p+2}. The Gram matrix of n equispaced biases has the
    eigenvalues (n/2) μ_j in the limit.

    Parameters
    ----------
    k, power : int
        k ≥ 1 and p = 1, …, 10: matrix powers lose a digit or two with each more.

    Raises
    ------
    ValueError
        If k or power is no integer in its range.
    """
    return _modes(k, power)[0]


def beam_modes(
    k: int, x: Float[Tensor, " m"], power: int = 1, *, side: str = "function"
) -> Float[Tensor, "m k"]:
    """The first k eigenfunctions at x, with unit L² norm on (−1, 1).

    Parameters
    ----------
    k, power : int
        As in :func:`beam_spectrum`.
    x : Tensor (m,)
        Points of [−1, 1]; the result has their dtype and device, the arithmetic is float64.
    side : str
        "function": modes of the functions h(x) the layer makes, clamped at −1 and positive at +1;
        "bias": modes of the coefficients a(b), the same curves mirrored, clamped at +1.

    Raises
    ------
    TypeError
        If x is not a floating-point tensor.
    ValueError
        If k or power is out of range, x is not (m,) or leaves [−1, 1], or side is another word.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor, got {kind(x)}")
    if x.ndim != 1:
        raise ValueError(f"x must have shape (m,), got {tuple(x.shape)}")
    if side not in ("function", "bias"):
        raise ValueError(f'side must be "function" or "bias", got {side!r}')
    if not ((x >= -1) & (x <= 1)).all():
        raise ValueError(f"x must lie in [−1, 1], got {x.min():g} … {x.max():g}")
    _, u, v = _modes(k, power)
    coef, sign = (u, 1.0) if side == "function" else (v, -1.0)
    degrees = torch.arange(len(coef), dtype=torch.float64)
    coef = coef * (degrees + 0.5).sqrt()[:, None]
    end = ((sign**degrees)[:, None] * coef).sum(0)  # P_j(±1) = (±1)^j
    coef = coef * end.sign()
    z = x.detach().double().cpu()[:, None]
    before, now, total = torch.ones_like(z), z, coef[0] + z * coef[1]
    for j in range(2, len(coef)):
        before, now = now, ((2 * j - 1) * z * now - (j - 1) * before) / j
        total = total + now * coef[j]
    return total.to(x)
