r"""The spectrum of a continuum of ridge functions on the ball, exact in every dimension.

Gram matrices of σ^p(θ_i·x − b_i) are samples of RR*, where, for θ ∈ S^{d−1} and b ∈ (−1, 1),

.. math:: (Rf)(\theta, b) = \int_{|x| \le 1} (\theta\cdot x - b)_+^p \, f(x) \, dx .

R is a Radon transform 𝓡 followed by p + 1 integrations in b. Both are simple on Gegenbauer
polynomials; let C_n^μ be orthonormal on (−1, 1) for the weight w_μ(t) = (1 − t²)^{μ−1/2}.

- A polynomial of degree n on the ball, orthogonal to those of lower degree, normalised and of
  angular degree m ∈ {n, n − 2, …}, goes to s_n w_μ(t) C_n^μ(t) Y_m(θ) with μ = d/2 and
  s_n² = |B^{d−1}| |S^{d−1}| / binom(n + d − 1, n), whatever m is (:cite:t:`louis1984`).
- ∫_b^1 w_μ C_n^μ dt = (n (n + 2μ))^{−1/2} w_{μ+1}(b) C_{n−1}^{μ+1}(b) for n ≥ 1.

So one family of functions, ψ_n(b) = s_n ∫_b^1 (t − b)^p w_μ(t) C_n^μ(t) dt, holds the whole
spectrum: on angular degree m, the singular values of R are those of (ψ_m, ψ_{m+2}, ψ_{m+4}, …) in
L²(−1, 1), each as often as there are spherical harmonics of degree m.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import ball_volume, gauss, whole


def disk_spectrum(k: int, power: int = 1) -> Float[Tensor, " k"]:
    """The k largest eigenvalues for σ^p on the unit disk: :func:`ball_spectrum` with d = 2."""
    return ball_spectrum(k, 2, power)


def ball_spectrum(k: int, dim: int, power: int = 1) -> Float[Tensor, " k"]:
    """The k largest eigenvalues, with multiplicity, of RR* on the unit ball of R^d, decreasing.

    RR* has the kernel ∫ (θ·x − b)_+^p (θ'·x − b')_+^p dx for the measure dθ db. If n neurons are
    drawn uniformly from S^{d−1} × (−1, 1), the eigenvalues of their Gram matrix approach
    n λ_k / (2 |S^{d−1}|). Float64, with an error of about ε √(λ_1 λ_k) in λ_k. For d = 1 both
    directions ±1 count; :func:`dynbook.beam.beam_spectrum` is for one of them.

    Parameters
    ----------
    k : int
        How many, ≥ 1.
    dim, power : int
        Dimension d and power p, 1 … 20.

    Raises
    ------
    ValueError
        If k, dim or power is no integer in its range.
    """
    k, dim, power = whole("k", k), whole("dim", dim, 20), whole("power", power, 20)
    radius = 2 * math.pi * (k / ball_volume(dim) ** 2) ** (1 / dim)  # Weyl: |ξ| of λ_k
    size = int(1.3 * radius) + 60
    layer = _layer(dim, power, size)
    found = torch.zeros(k, dtype=torch.float64)
    for parity in (0, 1):
        for m in range(parity, size, 2):
            values = torch.linalg.svdvals(layer[:, m::2]).square()
            if values[0] < found[-1]:
                break  # interlacing: a larger m of this parity has smaller values only
            found = torch.cat([found, values.repeat(_harmonics(dim, m))])
            found = found.sort(descending=True).values[:k]
    return found


def weyl_constant(dim: int, power: int = 1) -> float:
    r"""C of Weyl's law λ_k ~ C k^{−(d+2p+1)/d} for :func:`ball_spectrum`.

    On functions that oscillate fast, 𝓡*𝓡 divides by |ξ|^{d−1}, with factor 2 (2π)^{d−1}, and p + 1
    integrations and their adjoint multiply by (p!)² |ξ|^{−2p−2}. Each state fills (2π)^d of phase
    space, and |B| times the volume |B| |ξ|^d of the frequencies below |ξ| is there to be filled:
    k = |B|² |ξ|^d / (2π)^d, |B| being the volume of the unit ball, and so

    .. math:: \lambda_k \simeq 2 (2\pi)^{d-1} (p!)^2
              \Bigl[ \frac{(2\pi)^d \, k}{|B|^2} \Bigr]^{-(d+2p+1)/d} .

    The relative correction is of order k^{−1/d} (:cite:t:`birman1970`): slow.

    Raises
    ------
    ValueError
        If dim or power is no integer from 1 to 20.
    """
    dim, power = whole("dim", dim, 20), whole("power", power, 20)
    rate = (dim + 2 * power + 1) / dim
    factor = 2 * (2 * math.pi) ** (dim - 1) * math.factorial(power) ** 2
    return factor * ((2 * math.pi) ** dim / ball_volume(dim) ** 2) ** -rate


def _harmonics(dim: int, m: int) -> int:
    """Number of independent spherical harmonics of degree m on S^{d−1}."""
    return math.comb(m + dim - 1, dim - 1) - (math.comb(m + dim - 3, dim - 1) if m > 1 else 0)


def _gegenbauer(mu: float, count: int, x: Tensor) -> Tensor:
    """C_0^μ, …, C_{count−1}^μ at x, orthonormal for the weight (1 − x²)^{μ−1/2}."""
    first = math.exp(math.lgamma(mu + 1) - math.lgamma(mu + 0.5)) / math.sqrt(math.pi)
    c = [torch.full_like(x, math.sqrt(first)), math.sqrt(first * (2 * mu + 2)) * x]
    a = [0.5 * math.sqrt(i * (i + 2 * mu - 1) / ((i + mu) * (i + mu - 1))) for i in range(1, count)]
    for now, ahead in pairwise(a):
        c.append((x * c[-1] - now * c[-2]) / ahead)
    return torch.stack(c[:count])


def _layer(dim: int, power: int, size: int) -> Tensor:
    """Matrix (size, size) whose columns have the inner products of ψ_0, …, ψ_{size−1} in L²(−1, 1).

    With b = cos β everything is entire in β, and Gauss' rule in β converges at once.
    """

    nodes, weights = gauss(2 * (size + dim + 2 * power) + 40)
    beta = math.pi * nodes
    b = torch.cos(beta)
    inner, inner_weights = gauss(2 * (dim + power) + 30)
    t = beta * inner[:, None]
    low = (inner_weights[:, None] * beta) * (torch.cos(t) - b) ** power * torch.sin(t) ** dim
    low = (low * _gegenbauer(dim / 2, power + 1, torch.cos(t))).sum(1)

    mu = dim / 2 + power + 1
    n = torch.arange(size, dtype=torch.float64)
    steps = torch.stack([(n - i) * (n + dim + i) for i in range(power + 1)]).prod(0)[power + 1 :]
    high = torch.sin(beta) ** (2 * mu - 1) * _gegenbauer(mu, size - power - 1, b)
    psi = torch.cat([low, math.factorial(power) * steps.rsqrt()[:, None] * high])

    radon = ball_volume(dim - 1) * dim * ball_volume(dim) * math.gamma(dim)
    radon = radon * torch.exp(torch.lgamma(n + 1) - torch.lgamma(n + dim))
    measure = math.pi * weights * torch.sin(beta)
    return torch.linalg.qr((radon.sqrt()[:, None] * psi * measure.sqrt()).T, mode="r").R
