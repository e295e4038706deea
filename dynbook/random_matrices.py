"""Products of Gaussian matrices, exactly: exponents, fluctuations, and the limits of wide layers.

A linear network with random weights is such a product, and what a tanh network does is measured
against it. Matrices are square, N × N, with independent entries N(0, σ²); σ² = 1/N by default,
which keeps the mean square of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import cpu_generator, whole


def gaussian_product_exponents(n: int, sigma: float | None = None) -> Float[Tensor, " n"]:
    """Lyapunov exponents of a product of Gaussian matrices (:cite:t:`newman1986`).

    λ_i = ½ [ln 2σ² + ψ((N − i + 1)/2)] per factor, ψ the digamma function. The largest one is
    ½ ln(Nσ²) − 1/(2N) − 1/(6N²) + O(N⁻⁴). They are also the mean of :func:`sample_growth` at every
    number of factors: no burn-in.

    Parameters
    ----------
    n : int
        Size N of the matrices.
    sigma : float
        Standard deviation σ of an entry. Default: 1/√N.

    Returns
    -------
    Tensor (n,)
        Exponents in descending order, float64, natural logarithm per factor.

    Raises
    ------
    ValueError
        If n is no integer ≥ 1, or sigma is not positive and finite.
    """
    log_sigma = math.log(_sigma(sigma, n))
    return log_sigma + (math.log(2) + torch.special.digamma(_degrees(n) / 2)) / 2


def gaussian_product_variances(n: int) -> Float[Tensor, " n"]:
    """Variance of ln R_ii of one factor, ψ'((N − i + 1)/2)/4 (:cite:t:`newman1986`).

    Factors are independent, so that the finite-time exponent over L of them has this divided by L;
    σ does not enter.

    Returns
    -------
    Tensor (n,)
        In the order of :func:`gaussian_product_exponents`, float64.

    Raises
    ------
    ValueError
        If n is no integer ≥ 1.
    """
    from scipy.special import polygamma  # torch's keeps nine digits

    return torch.from_numpy(polygamma(1, _degrees(n).numpy() / 2)) / 4


def sample_growth(
    n: int,
    length: int,
    batch: int | tuple[int, ...] = (),
    *,
    k: int | None = None,
    sigma: float | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "T *b k"]:
    """Draw ln R_ii of Gaussian products without multiplying a matrix.

    A Gaussian matrix looks the same in every orthonormal frame, so that the QR factors along the
    product are independent, and R_ii/σ is a χ variate with N − i + 1 degrees of freedom
    (Bartlett): k gamma variates a factor instead of 4N²k operations, with exactly the law of
    :func:`~dynbook.products.matrix_product_spectrum`.

    Parameters
    ----------
    n : int
        Size N of the matrices.
    length : int
        Number L of factors.
    batch : int or tuple of int
        Number, or shape, of independent products.
    k : int
        How many leading R_ii. Default: N.
    sigma : float
        Standard deviation σ of an entry. Default: 1/√N.
    generator : torch.Generator
        On the CPU; the default one if not given.

    Returns
    -------
    Tensor (length, …, k)
        float64. ``growth.mean(0)`` are the finite-time exponents.

    Raises
    ------
    ValueError
        If a size is no positive integer, k > n, or sigma is not positive and finite.
    TypeError
        If the generator is something else, or not on the CPU.
    """
    n = whole("n", n)
    k = n if k is None else whole("k", k, most=n)
    shape = (whole("length", length), *_batch(batch), k)
    scale = math.log(_sigma(sigma, n))
    generator = torch.default_generator if generator is None else cpu_generator(generator)
    seed = torch.randint(2**63 - 1, (), generator=generator).item()
    gamma = np.random.default_rng(seed).standard_gamma(_degrees(n)[:k].numpy() / 2, shape)
    return torch.from_numpy(gamma).mul_(2).log_().div_(2).add_(scale)


def gaussian_matrices(
    n: int,
    length: int,
    batch: int | tuple[int, ...] = (),
    *,
    sigma: float | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Iterator[Float[Tensor, "*b n n"]]:
    """Draw the factors of Gaussian products one after the other: L tensors (…, N, N).

    Only one is in memory. They are drawn on the CPU, so that a seed means the same on every device.
    Parameters and errors as :func:`sample_growth`; the dtype must be of real floating point.
    """
    n, length = whole("n", n), whole("length", length)
    shape = (*_batch(batch), n, n)
    scale = _sigma(sigma, n)
    generator = torch.default_generator if generator is None else cpu_generator(generator)
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be of real floating point, got {dtype}")
    return (
        torch.randn(shape, generator=generator, dtype=dtype).mul_(scale).to(device)
        for _ in range(length)
    )


def triangular_density(u: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Density of u = e^λ over the exponents of a wide product: 2u on (0, 1), 0 elsewhere.

    L → ∞ first, then N → ∞, at σ² = 1/N (:cite:t:`newman1986,isopi1992`); for another variance it
    is the law of u/(σ√N).
    """
    return torch.where((u > 0) & (u < 1), 2 * u, 0)


def triangular_cdf(u: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Share of the exponents with e^λ ≤ u: u² on (0, 1); see :func:`triangular_density`."""
    return u.clamp(0, 1) ** 2


def triangular_quantile(p: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The u = e^λ below which a share p of the exponents lies, √p; ½ ln p is the exponent.

    Raises
    ------
    ValueError
        If some p is outside [0, 1].
    """
    outside = ~((p >= 0) & (p <= 1))
    if outside.any():
        raise ValueError(f"p must lie in [0, 1], got {p[outside].flatten()[0]:g}")
    return p.sqrt()


def wide_limit(length: int) -> float:
    """(1/L) ln σ_max of L square Gaussian factors in the limit N → ∞ at fixed L and σ² = 1/N.

    It is (1/2L) ln[(L+1)^{L+1}/L^L] (:cite:t:`akemann2014`), and not the exponent 0 of L → ∞ at
    fixed, large N: the two limits do not commute. For large L it falls like ln(eL)/2L.

    Raises
    ------
    ValueError
        If length is no integer ≥ 1.
    """
    length = whole("length", length)
    return (math.log(length + 1) / length + math.log1p(1 / length)) / 2


def _degrees(n: int) -> Tensor:
    """N, N − 1, …, 1."""
    return torch.arange(whole("n", n), 0, -1, dtype=torch.float64)


def _sigma(sigma: float | None, n: int) -> float:
    if sigma is None:
        return whole("n", n) ** -0.5
    if not (isinstance(sigma, Real) and 0 < sigma < math.inf):
        raise ValueError(f"sigma must be positive and finite, got {sigma}")
    return float(sigma)


def _batch(batch: int | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(whole("batch", b) for b in (batch if isinstance(batch, tuple) else (batch,)))
