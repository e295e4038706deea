"""The ReLU basis of one dimension as finite elements summed twice: O(n) products, exact inverse.

Let b_1 < … < b_n < r be the kinks and r the right end. Σ a_j max(x − b_j, 0) is piecewise linear,
zero up to b_1, and its values v at the n nodes b_2, …, b_n, r come from a by summing twice: slopes
s = cumsum(a), values v = cumsum(h s) with cell widths h. Write v = V a. Finite elements have v for
coefficients and the tridiagonal mass matrix M for Gram matrix, so

    G = Vᵀ M V,    G⁻¹ = V⁻¹ M⁻¹ V⁻ᵀ,

where V⁻¹ takes second differences. Each factor costs O(n); M has condition number O(h_max/h_min),
so all the ill-conditioning of G is in V: summing twice.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import Interval, finite, kind, ridges, whole
from dynbook.gram import mass_matrix
from dynbook.lowpass import GramSpectrum


def _cells(b: Tensor, domain: Interval | None) -> tuple[Tensor, Tensor, Tensor]:
    """Widths h (n,) and mass matrix, diagonal (n,) and off (n − 1,), of the cells after b_1."""
    domain = Interval() if domain is None else domain
    if not isinstance(domain, Interval):
        raise TypeError(f"domain must be an Interval, got {domain}: splines live in one dimension")
    _, b, _ = ridges(1.0, b, domain)
    if not (b.diff() > 0).all():
        i = int((b.diff() <= 0).nonzero()[0])
        raise ValueError(
            f"b must increase strictly, got b[{i}] = {b[i]:g} and b[{i + 1}] = {b[i + 1]:g}: sort "
            "the neurons by bias, and drop duplicates (they make G singular)"
        )
    nodes = torch.cat([b, b.new_tensor([domain.right])])
    diagonal, off = mass_matrix(nodes)
    return nodes.diff(), diagonal[1:], off[1:]


def nodal_values(
    a: Float[Tensor, "*batch n"], b: Float[Tensor, " n"], domain: Interval | None = None
) -> Float[Tensor, "*batch n"]:
    """V a: values of Σ a_j max(x − b_j, 0) at b_2, …, b_n and the right end, in O(n).

    Raises as :func:`gram_product`.
    """
    h, _, _ = _cells(b, domain)
    _check_vector(a, b, "a")
    return _finite("V a", (a.cumsum(-1) * h).cumsum(-1))


def gram_product(
    a: Float[Tensor, "*batch n"], b: Float[Tensor, " n"], domain: Interval | None = None
) -> Float[Tensor, "*batch n"]:
    """G a for the 1-D ReLU Gram matrix with unit slopes and increasing biases, in O(n).

    Parameters
    ----------
    a : Tensor (..., n)
        Coefficients; dtype and device of b.
    b : Tensor (n,)
        Strictly increasing biases in the domain.

    Raises
    ------
    ValueError, TypeError
        Biases outside the domain, unsorted or repeated; a of another length, dtype or device, or
        not finite; a result that overflows.
    """
    cells = _cells(b, domain)
    _check_vector(a, b, "a")
    return _product(a, *cells)


def _product(a: Tensor, h: Tensor, diagonal: Tensor, off: Tensor) -> Tensor:
    """G a from the cells, which are checked."""
    v = (a.cumsum(-1) * h).cumsum(-1)
    mv = diagonal * v
    mv[..., 1:] += off * v[..., :-1]
    mv[..., :-1] += off * v[..., 1:]
    return _finite("G a", _backward_sum(h * _backward_sum(mv)))


def gram_solve(
    f: Float[Tensor, "*batch n"], b: Float[Tensor, " n"], domain: Interval | None = None
) -> Float[Tensor, "*batch n"]:
    """G⁻¹ f through second differences and one tridiagonal solve, in O(n log n).

    The factors are exact, so this keeps its digits where a stored G has lost them (n > 1000 in
    float64). Raises as :func:`gram_product`.
    """
    h, diagonal, off = _cells(b, domain)
    _check_vector(f, b, "f")
    transposed = _backward_difference(_backward_difference(f) / h)
    v = tridiagonal_solve(diagonal, off, transposed)
    return _finite("G⁻¹ f", _forward_difference(_forward_difference(v) / h))


def tridiagonal_solve(
    diagonal: Float[Tensor, " n"], off: Float[Tensor, " m"], f: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """Solve a symmetric, diagonally dominant tridiagonal system by parallel cyclic reduction.

    Each of the log₂ n sweeps eliminates the neighbours at distance s = 1, 2, 4, … of all rows at
    once, so it runs on any device and batches over f (:cite:t:`hockney1981`).

    Parameters
    ----------
    diagonal, off : Tensor (n,), (n − 1,)
        The matrix.
    f : Tensor (..., n)
        Right-hand sides.

    Raises
    ------
    TypeError
        If one of them is no tensor.
    ValueError
        If the lengths do not fit, some |diagonal| is below the sum of its row's neighbours (the
        elimination takes no pivots), or the matrix is singular, as weak dominance allows.
    """
    for name, x in (("diagonal", diagonal), ("off", off), ("f", f)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a tensor, got {kind(x)}")
    n = len(diagonal)
    if len(off) != n - 1 or f.shape[-1:] != (n,):
        raise ValueError(
            f"diagonal (n,), off (n − 1,) and f (..., n) must fit, got {tuple(diagonal.shape)}, "
            f"{tuple(off.shape)} and {tuple(f.shape)}"
        )
    zero = off.new_zeros(1)
    lower, upper = torch.cat([zero, off]), torch.cat([off, zero])
    if not (diagonal.abs() >= lower.abs() + upper.abs()).all():
        raise ValueError(
            "diagonal must dominate: |d_i| ≥ |off_{i−1}| + |off_i| in each row; for other matrices "
            "use a solver that pivots"
        )
    s = 1
    while s < n:
        alpha, gamma = torch.zeros_like(lower), torch.zeros_like(upper)
        alpha[s:] = -lower[s:] / diagonal[:-s]
        gamma[:-s] = -upper[:-s] / diagonal[s:]
        f = f + alpha * _shift(f, s) + gamma * _shift(f, -s)
        diagonal, lower, upper = (
            diagonal + alpha * _shift(upper, s) + gamma * _shift(lower, -s),
            alpha * _shift(lower, s),
            gamma * _shift(upper, -s),
        )
        s *= 2
    return finite("solution", f / diagonal, "the matrix is singular, or it or f is too large")


def leading_eigenpairs(
    b: Float[Tensor, " n"], k: int, domain: Interval | None = None
) -> GramSpectrum:
    """The k largest eigenpairs of the 1-D ReLU Gram matrix by Lanczos on :func:`gram_product`.

    O(n) a step: n = 10⁵ takes seconds and no matrix. Absolute accuracy about ε λ_1.

    Parameters
    ----------
    b : Tensor (n,)
        As in :func:`gram_product`.
    k : int
        1 … n − 1.

    Raises
    ------
    ValueError, TypeError
        As :func:`gram_product`; or k is no integer from 1 to n − 1.
    """
    cells = [x.detach() for x in _cells(b, domain)]
    return GramSpectrum(*_lanczos(lambda a: _product(a, *cells), b, k))


def condition_number(b: Float[Tensor, " n"], domain: Interval | None = None) -> float:
    """λ_1/λ_n of the 1-D ReLU Gram matrix, far beyond the 1/ε that a stored matrix can show.

    λ_1 comes from Lanczos on G. With K = V⁻ᵀ V⁻¹ (pentadiagonal, squared second differences) the
    eigenvalues of G⁻¹ are those of the vibrating beam K v = θ M v, and σ M − K is positive definite
    exactly when σ > θ_max = 1/λ_n: banded Cholesky decides, bisection finds it to about 1e-12, in
    O(n).

    Parameters
    ----------
    b : Tensor (n,)
        As in :func:`gram_product`, float64.

    Raises
    ------
    ValueError, TypeError
        As :func:`gram_product`; b not float64; two biases so close that θ_max overflows.
    """
    from scipy.linalg import LinAlgError, cholesky_banded
    from scipy.sparse import diags_array

    if not isinstance(b, Tensor) or b.dtype != torch.float64:
        raise TypeError(f"b must be float64 to carry condition numbers beyond 1e7, got {kind(b)}")
    h, diagonal, off = (x.detach().cpu().numpy() for x in _cells(b, domain))
    slope = 1 / h
    bend = diags_array(  # V⁻¹: a_i = (v_i − v_{i−1})/h_i − (v_{i−1} − v_{i−2})/h_{i−1}
        [slope, -slope[1:] - slope[:-1], slope[1:-1]], offsets=[0, -1, -2]
    )
    stiffness = np.stack([np.pad((bend.T @ bend).diagonal(-j), (0, j)) for j in range(3)])
    mass = np.stack([diagonal, np.pad(off, (0, 1)), np.zeros_like(h)])

    def above(sigma: float) -> bool:
        try:
            cholesky_banded(sigma * mass - stiffness, lower=True, check_finite=False)
        except LinAlgError:
            return False
        return True

    with np.errstate(over="ignore"):
        high = 2 * float((stiffness[0] / mass[0]).max())
    if not high < 1e300:
        raise ValueError(f"b has kinks {h.min():.1e} apart, too close: λ_n ~ h³ underflows")
    while not above(high):
        high *= 2
    low = 0.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    top, _ = _lanczos(lambda a: gram_product(a, b.detach(), domain), b, 1)
    return float(top[0]) * high


def _lanczos(product, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
    from scipy.sparse.linalg import LinearOperator, eigsh

    n, b = len(b), b.detach()
    k = whole("k", k, n - 1)
    operator = LinearOperator(
        (n, n),
        matvec=lambda x: product(torch.as_tensor(x.reshape(-1)).to(b)).double().cpu().numpy(),
        dtype=np.float64,
    )
    start = np.random.default_rng(0).standard_normal(n)
    values, vectors = eigsh(operator, k=k, v0=start, which="LA")
    return torch.from_numpy(values[::-1].copy()).to(b), torch.from_numpy(
        vectors[:, ::-1].copy()
    ).to(b)


def _finite(name: str, x: Tensor) -> Tensor:
    return finite(name, x, f"it overflows {x.dtype}; scale the vector, or b and the domain")


def _check_vector(a: Tensor, b: Tensor, name: str) -> None:
    if not isinstance(a, Tensor):
        raise TypeError(f"{name} must be a tensor, got {kind(a)}")
    if a.dtype != b.dtype or a.device != b.device:
        raise TypeError(
            f"{name} must share dtype and device with b, got {a.dtype} on {a.device} and {b.dtype} "
            f"on {b.device}"
        )
    if a.shape[-1:] != b.shape:
        raise ValueError(f"{name} must have shape (..., {len(b)}), as b has, got {tuple(a.shape)}")
    finite(name, a)


def _backward_sum(x: Tensor) -> Tensor:
    return x.flip(-1).cumsum(-1).flip(-1)


def _forward_difference(x: Tensor) -> Tensor:
    return torch.cat([x[..., :1], x.diff(dim=-1)], -1)


def _backward_difference(x: Tensor) -> Tensor:
    return torch.cat([-x.diff(dim=-1), x[..., -1:]], -1)


def _shift(x: Tensor, s: int) -> Tensor:
    """x moved s places along the last axis, zeros coming in."""
    zero = torch.zeros_like(x[..., : abs(s)])
    return torch.cat([zero, x[..., :-s]], -1) if s > 0 else torch.cat([x[..., -s:], zero], -1)
