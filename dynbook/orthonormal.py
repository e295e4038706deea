"""Orthonormal frames: the thin QR of many small matrices at once, with a positive diagonal."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import first_bad, kind


def orthonormalize(
    Y: Float[Tensor, "*b D k"], method: str = "auto"
) -> tuple[Float[Tensor, "*b D k"], Float[Tensor, "*b k k"]]:
    """Thin QR decomposition Y = Q R with orthonormal columns and diag R ≥ 0.

    Positive pivots make it unique, R_jj being the distance of column j from the span of those
    before it. A pivot below rounding, R_jj ≤ D ε max_i |R_ij|, is set to 0: column j lies in that
    span. Its column of Q is then some unit vector orthogonal to all others.

    Parameters
    ----------
    Y : Tensor (…, D, k)
        Frames of k ≤ D columns, float32 or float64.
    method : "householder", "gram-schmidt" or "auto"
        Reflections by LAPACK, one matrix after the other; or modified Gram–Schmidt, twice
        :cite:p:`giraud2005`, in 2k batched operations, for devices on which ``torch.linalg.qr``
        loops over the batch. "auto" takes the latter for more than 4,096 frames on CUDA. Q is
        orthonormal to rounding with both, and R the same to rounding times the condition number.

    Returns
    -------
    Q : Tensor (…, D, k)
    R : Tensor (…, k, k)
        Upper triangular.

    Raises
    ------
    TypeError
        If Y is not a float32 or float64 tensor.
    ValueError
        If k lies outside 1 … D, Y is not finite, or method is unknown.
    OverflowError
        If Y is so long that its norms overflow.

    Notes
    -----
    It decides by the data, so not inside ``torch.vmap``: leading dimensions do that.
    """
    if not isinstance(Y, Tensor) or Y.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"Y must be a float32 or float64 tensor, got {kind(Y)}")
    if Y.layout != torch.strided:
        raise TypeError(f"Y must be dense, got {Y.layout}; use Y.to_dense()")
    if Y.ndim < 2 or not 1 <= Y.shape[-1] <= Y.shape[-2]:
        raise ValueError(f"Y must have shape (..., D, k) with 1 ≤ k ≤ D, got {tuple(Y.shape)}")
    if not all_finite(Y):
        raise ValueError(f"Y must be finite, got {first_bad(Y)}")
    Q, R = _chosen(method, Y)(Y)
    if not (all_finite(Q) and all_finite(R)):
        raise OverflowError(
            f"Y is finite, but with entries up to {Y.abs().max():.3g} its norms overflow in "
            f"{Y.dtype}; scale it down"
        )
    return Q, R


def triangular(
    Y: Float[Tensor, "*b D k"], method: str = "auto"
) -> tuple[Float[Tensor, "*b D k"], Float[Tensor, "*b k k"]]:
    """Y = Q R for those who want R: pivots of either sign, nothing checked, nothing repaired.

    On a CPU "auto" solves Q R = Y for Q, in three quarters of the time that the reflections take;
    or, for many small frames, orthogonalises their columns one after the other, which takes a half
    to a tenth of that. Such a Q is orthonormal to ε cond(Y) only. Growth does not mind, for what
    one R lacks, the next one has; but where cond(Y) is large, take :func:`orthonormalize`.
    """
    if method != "auto" or Y.is_cuda:
        return _chosen(method, Y)(Y)
    if Y.shape[-2] <= 8 and Y[..., 0, 0].numel() >= 512:
        Q, R = _sweep(_systems_last(Y))
        least, most = R.diagonal().aminmax()
        info = torch.finfo(Y.dtype)
        if least > math.sqrt(info.tiny) / info.eps and most < math.inf:  # squares had their digits
            return _systems_first(Q, Y), _systems_first(R, Y)
    R = torch.geqrf(Y)[0][..., : Y.shape[-1], :].triu()
    return torch.linalg.solve_triangular(R, Y, upper=True, left=False), R


def all_finite(x: Tensor) -> bool:
    """Whether all entries are finite: seen from their sum, thirty times faster than one by one."""
    return bool(x.sum().isfinite() or x.isfinite().all())  # a finite x may have an infinite sum


def _chosen(method: str, Y: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    if method not in ("auto", *METHODS):
        raise ValueError(f"method must be auto, {' or '.join(METHODS)}; got {method!r}")
    if method == "auto":
        many = Y[..., 0, 0].numel() > 4096
        method = "gram-schmidt" if Y.is_cuda and many else "householder"
    return METHODS[method]


def _householder(Y: Tensor) -> tuple[Tensor, Tensor]:
    Q, R = torch.linalg.qr(Y)
    pivots = R.diagonal(dim1=-2, dim2=-1)
    sign = torch.ones_like(pivots).copysign(pivots)
    Q *= sign[..., None, :]
    R *= sign[..., :, None]
    if pivots.numel() and pivots.min() <= _rounding(Y) * torch.linalg.vector_norm(
        R
    ):  # else no column can be flat
        pivots.masked_fill_(pivots <= _rounding(Y) * R.abs().amax(-2), 0)
    return Q, R


def _gram_schmidt(Y: Tensor) -> tuple[Tensor, Tensor]:
    """Modified, twice, with each operation running over all systems."""
    columns = _systems_last(Y)
    size = columns.abs().amax(0)
    size = torch.where(size > 0, size, 1)
    Q, first = _sweep(columns / size)
    flat = first.diagonal().T <= _rounding(Y) * first.abs().amax(0)
    Q, second = _sweep(Q)
    Q, R = _systems_first(Q, Y), _systems_first(second, Y) @ _systems_first(first * size, Y)
    flat = flat.any(0).view(Y.shape[:-2])
    if flat.any():  # a column without a direction of its own: reflections find one
        Q[flat], R[flat] = _householder(Y[flat])
    return Q, R


def _systems_last(Y: Tensor) -> Tensor:
    """A copy of Y (…, D, k) as (D, k, systems): transposed as a matrix, which has a fast way."""
    systems, entries = Y.shape[:-2].numel(), Y.shape[-2:]
    turned = Y.reshape(systems, entries.numel()).mT
    return turned.clone(memory_format=torch.contiguous_format).view(*entries, systems)


def _systems_first(X: Tensor, like: Tensor) -> Tensor:
    """(D, k, systems) as (…, D, k), with the leading dimensions of another."""
    return X.flatten(0, 1).mT.contiguous().view(*like.shape[:-2], *X.shape[:2])


def _sweep(Q: Tensor) -> tuple[Tensor, Tensor]:
    """Modified Gram–Schmidt of columns Q (D, k, systems), in place, and R (k, k, systems)."""
    k = Q.shape[1]
    R = Q.new_zeros(k, k, Q.shape[-1])
    for j in range(k):
        column, rest = Q[:, j], Q[:, j + 1 :]
        R[j, j] = column.square().sum(0).sqrt_()  # vector_norm takes ten times it, over this axis
        column /= torch.where(R[j, j] > 0, R[j, j], 1)
        R[j, j + 1 :] = (column[:, None] * rest).sum(0)
        rest -= R[j, j + 1 :] * column[:, None]
    return Q, R


def _rounding(Y: Tensor) -> float:
    return Y.shape[-2] * torch.finfo(Y.dtype).eps


METHODS = {"householder": _householder, "gram-schmidt": _gram_schmidt}
