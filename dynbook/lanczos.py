"""Eigenvalues of a symmetric matrix that is known by its products alone, by Lanczos' method."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import cpu_generator, kind, whole
from dynbook.maps import can_be_called, states
from dynbook.orthonormal import all_finite

Matvec = Callable[[Tensor], Tensor]
"""V (..., dim, k) to A V of the same shape: a symmetric matrix, or one for each member."""


class ConvergenceWarning(RuntimeWarning):
    """An iteration stopped before its residual fell below the tolerance; the message has both."""


@dataclass(frozen=True)
class EigenPairs:
    """Eigenvalues and eigenvectors, each with the residual that bounds its error.

    Some eigenvalue lies within the residual of each value, whatever the iteration did.

    Attributes
    ----------
    values : Tensor (..., k)
        The most extreme first.
    vectors : Tensor (..., dim, k)
        Columns of length 1.
    residuals : Tensor (..., k)
        ‖A v − λ v‖.
    products : int
        Calls of the matrix.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int


@torch.no_grad()
def top_eigenpairs(
    matvec: Matvec,
    dim: int,
    k: int = 1,
    *,
    which: str = "largest",
    start: Float[Tensor, "*b dim j"] | None = None,
    batch: tuple[int, ...] = (),
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    tol: float | None = None,
    max_steps: int = 100,
    generator: torch.Generator | None = None,
) -> EigenPairs:
    """The k largest or smallest eigenvalues of a symmetric matrix, by block Lanczos.

    The space spanned by X, A X, A² X, … for a block X of k columns is kept orthonormal in full,
    and A is diagonalised within it. A block finds an eigenvalue as often as it is repeated, up to
    k times; where the space closes under A it goes on with random directions. Many matrices are
    treated at once, each in a space of its own; all take as many steps as the slowest.

    Parameters
    ----------
    matvec : callable
        V (…, dim, k) to A V, as ``lambda V: A @ V``.
    dim : int
        Size of A.
    k : int
        How many.
    which : "largest", "smallest" or "both"
        Which end of the spectrum, with signs. "both" returns 2 k: the k largest, then the k
        smallest. Eigenvalues inside a dense part of the spectrum converge slowly.
    start : Tensor (…, dim, j), optional
        Approximate eigenvectors, such as those of a matrix near by; the leading dimensions are
        the ensemble. They are stirred by a thousandth of noise, so that a direction which they
        lack is found all the same.
    batch, dtype, device
        Leading dimensions and kind of the vectors where there is no start.
    tol : float, optional
        Largest residual, in units of the largest |λ|; if not given √ε, 1.5e-8 in float64 and
        3.5e-4 in float32. A value is then right to tol² of it if no other is near.
    max_steps : int
        Most calls of the matrix. 2 · max_steps · k vectors may have to be kept.
    generator : torch.Generator, optional
        CPU generator of the noise, the same for all members; seeded with 0 if not given.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or size, or if the matrix changes shape, dtype or
        device, returns what is not finite (the product and the member are named) or is not
        symmetric.

    Warns
    -----
    ConvergenceWarning
        If a residual is above the tolerance after max_steps.
    """
    can_be_called("matvec", matvec)
    dim, max_steps = whole("dim", dim), whole("max_steps", max_steps)
    if which not in ("largest", "smallest", "both"):
        raise ValueError(f'which must be "largest", "smallest" or "both", got {which!r:.40}')
    block = k = whole("k", k, most=max(dim // 2, 1) if which == "both" else dim)
    if start is not None:
        if states("start", start).ndim < 2 or start.shape[-2] != dim or start.shape[-1] > dim:
            raise ValueError(
                f"start must have shape (…, {dim}, j), j ≤ {dim}, got {tuple(start.shape)}"
            )
        batch, dtype, device = start.shape[:-2], start.dtype, start.device
        block = max(k, start.shape[-1])
    if not isinstance(batch, (tuple, list)):
        raise TypeError(f"batch must be a tuple of sizes, as (3,), got {kind(batch)}")
    batch = [whole("batch", size) for size in batch]
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype!r:.40}")
    tol = _tolerance(tol, dtype)
    noise = normal(block, dim, generator).to(device, dtype).expand(*batch, block, dim)
    first = noise if start is None else _stirred(start.mT, noise)
    check = 3
    for step, (basis, images, T, unit) in enumerate(krylov(matvec, first, noise), 1):
        last = step == max_steps or basis.shape[-2] == dim
        if step < check and not last:
            continue
        check = math.ceil(1.3 * step)
        finite_products(T, block)
        pairs, relative = _ritz(basis, images, T, unit, k, which, step)
        if last or (relative <= tol).all():
            break
    _symmetric(basis, images, unit)
    if (relative > tol).any():
        worst = relative.argmax()
        warnings.warn(
            f"top_eigenpairs stopped after {step} products with residual "
            f"{relative.flatten()[worst]:.1e} of the largest |λ|{member(relative, worst)}, above "
            f"the tolerance {tol:.1e}; raise max_steps or tol, or ask for fewer pairs",
            ConvergenceWarning,
            stacklevel=3,
        )
    return pairs


def krylov(
    matvec: Matvec, first: Float[Tensor, "*b k dim"], noise: Float[Tensor, "*b k dim"]
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """An orthonormal basis Q of the block's powers, A Q, QᵀA Q and their unit, after each product.

    Vectors are rows: Q and A Q have shape (…, m, dim), with m growing by a block a step until it
    is dim. Every new row is made orthogonal to all others twice; one of which nothing is left is
    replaced by noise. A Q and QᵀA Q come in a unit (…,), the power of two just below the largest
    entry of the first product: lengths neither underflow nor overflow. Nothing here waits for the
    device.
    """
    dim, eps = first.shape[-1], torch.finfo(first.dtype).eps
    rows, _ = _orthonormal(first)
    basis = images = first[..., :0, :]
    T = first.new_zeros(*first.shape[:-2], 0, 0)
    size = first.new_zeros(first.shape[:-2])
    for step in count(1):
        image = _product(matvec, rows.mT, step).mT
        if step == 1:
            exponent = torch.frexp(image.abs().amax((-2, -1))).exponent
            unit = torch.exp2(exponent.to(image.dtype) - 1)
        image = image / unit[..., None, None]
        b = rows.shape[-2]
        basis, images = torch.cat([basis, rows], -2), torch.cat([images, image], -2)
        overlap = basis @ image.mT
        T = torch.nn.functional.pad(T, (0, b, 0, b))
        T[..., -b:, :] = overlap.mT
        T[..., :, -b:] = overlap
        T[..., -b:, -b:] = (overlap[..., -b:, :] + overlap[..., -b:, :].mT) / 2
        yield basis, images, T, unit
        left = dim - basis.shape[-2]
        if left == 0:
            return
        size = torch.maximum(size, torch.linalg.vector_norm(image, dim=-1).amax(-1))
        rows, lengths = _orthonormal((image - overlap.mT @ basis)[..., :left, :])
        flat = lengths <= 8 * math.sqrt(dim) * eps * size[..., None]
        rows = torch.where(flat[..., None], noise.roll(step, -1)[..., : rows.shape[-2], :], rows)
        rows, _ = _orthonormal(rows - rows @ basis.mT @ basis)


def normal(k: int, dim: int, generator: torch.Generator | None) -> Float[Tensor, "k dim"]:
    """Gaussian rows drawn on the CPU in double precision, the same for every dtype and device."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    return torch.randn(k, dim, generator=cpu_generator(generator), dtype=torch.float64)


def finite_products(T: Tensor, block: int) -> None:
    """Refuses a matrix whose products left the finite numbers: T has a row for each."""
    if all_finite(T):
        return
    bad = (~T.isfinite()).tril().any(-1).reshape(-1, T.shape[-1])
    lost = int(bad.any(-1).int().argmax())
    product = int(bad[lost].int().argmax()) // block + 1
    raise ValueError(
        f"matvec must return finite numbers, but product {product} is not finite"
        f"{member(T[..., 0, 0], lost)}"
    )


def member(x: Tensor, flat: int | Tensor) -> str:
    """Where in an ensemble an entry stands, for a message; nothing for a single system."""
    index = [int(i) for i in torch.unravel_index(torch.as_tensor(flat), x.shape)] if x.ndim else []
    return f" at member {index[0] if len(index) == 1 else tuple(index)}" if index else ""


def _stirred(start: Tensor, noise: Tensor) -> Tensor:
    """Approximate eigenvectors with a thousandth of noise, and noise where there are none."""
    length = torch.linalg.vector_norm(start, dim=-1, keepdim=True)
    stirred = noise * (1e-3 / math.sqrt(start.shape[-1]))
    stirred[..., : start.shape[-2], :] += start / torch.where(length > 0, length, 1)
    return stirred


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal rows of the same span, and the length of each beyond those before it."""
    if rows.shape[-2] == 1:
        lengths = torch.linalg.vector_norm(rows, dim=-1)
        return rows / lengths[..., None], lengths
    Q, R = torch.linalg.qr(rows.mT)
    return Q.mT, R.diagonal(dim1=-2, dim2=-1).abs()


def _product(matvec: Matvec, V: Tensor, step: int) -> Tensor:
    image = matvec(V.clone())  # which it may overwrite
    if not isinstance(image, Tensor):
        raise TypeError(f"matvec must return a tensor, got {kind(image)} in product {step}")
    for what in ("shape", "dtype", "device"):
        came, went = getattr(V, what), getattr(image, what)
        if came != went:
            raise ValueError(
                f"matvec must keep the {what} of its columns, but takes {came} to {went} in "
                f"product {step}"
            )
    return image


def _ritz(basis, images, T, unit, k, which, step) -> tuple[EigenPairs, Tensor]:
    """The best approximations within a space, and the largest residual over the largest modulus."""
    values, S = torch.linalg.eigh(T)
    m = values.shape[-1]
    ends = {"largest": range(m - 1, m - 1 - k, -1), "smallest": range(k)}
    chosen = [i for end in ends if which in (end, "both") for i in ends[end]]
    size = values.abs().amax(-1).clamp(min=torch.finfo(T.dtype).tiny)
    values, S = values[..., chosen], S[..., chosen].mT
    vectors = S @ basis
    off = torch.linalg.vector_norm(S @ images - values[..., None] * vectors, dim=-1)
    unit = unit[..., None]
    return EigenPairs(values * unit, vectors.mT, off * unit, step), off.amax(-1) / size


def _symmetric(basis: Tensor, images: Tensor, unit: Tensor) -> None:
    """Refuses a matrix that is not its own transpose in the space that has been seen."""
    T = basis @ images.mT
    off, size = (X.abs().amax((-2, -1)) for X in (T - T.mT, T))
    wrong = off > math.sqrt(torch.finfo(T.dtype).eps) * size
    if wrong.any():
        worst = wrong.int().argmax()
        off, size = off * unit, size * unit
        raise ValueError(
            f"matvec must be symmetric, but ⟨u, A v⟩ and ⟨A u, v⟩ differ by "
            f"{off.flatten()[worst]:.2g}{member(off, worst)}, where A is about "
            f"{size.flatten()[worst]:.2g}"
        )


def _tolerance(tol: object, dtype: torch.dtype) -> float:
    eps = torch.finfo(dtype).eps
    if tol is None:
        return math.sqrt(eps)
    if not (isinstance(tol, Real) and eps <= tol < 1):
        raise ValueError(
            f"tol must lie in [{eps:.1e}, 1), above what {dtype} can tell, got {tol!r:.40}"
        )
    return float(tol)
