"""What a Gram matrix lets through: its spectrum, truncated solution, gradient flow, cut-off."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dynbook.domains import finite, kind, whole


@dataclass(frozen=True)
class GramSpectrum:
    """Eigenpairs of a Gram matrix, largest first: all n of them, or the k leading ones.

    It unpacks as a pair, values and vectors. Refused with a ValueError: shapes that do not fit,
    entries that are not finite, and values that increase, as those of torch.linalg.eigh do.

    Attributes
    ----------
    values : Tensor (k,)
        Eigenvalues λ_1 ≥ … ≥ λ_k; the last may be rounding noise of either sign.
    vectors : Tensor (n, k)
        Orthonormal eigenvectors, one per column.
    """

    values: Tensor
    vectors: Tensor

    def __post_init__(self):
        shape = tuple(self.vectors.shape)
        if self.values.ndim != 1 or shape[1:] != self.values.shape or not 0 < shape[1] <= shape[0]:
            raise ValueError(
                "values (k,) and vectors (n, k), 0 < k ≤ n, must fit, got "
                f"{tuple(self.values.shape)} and {shape}"
            )
        finite("vectors", self.vectors)
        if (finite("values", self.values).diff() > 0).any() or self.values[0] <= 0:
            raise ValueError(
                f"values must decrease from λ_1 > 0, got {self.values[0]:g} … {self.values[-1]:g}; "
                "gram_spectrum(G) sorts them"
            )

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.values, self.vectors))

    @property
    def rounding(self) -> float:
        """n ε: relative to λ_1, an eigenvalue of the stored matrix below it is rounding noise."""
        return len(self.vectors) * torch.finfo(self.values.dtype).eps

    @property
    def floor(self) -> float:
        """n ε λ_1: below it an eigenvalue of the stored matrix is rounding noise."""
        return self.rounding * self.values[0].item()

    @property
    def complete(self) -> bool:
        """Whether all n eigenpairs are here."""
        return len(self.vectors) == len(self.values)

    def above(self, rtol: Float[Tensor, "*b"] | float) -> Bool[Tensor, "*b k"]:
        """Which eigenvalues exceed rtol·λ_1.

        Raises
        ------
        ValueError
            If rtol is outside (0, 1) or below what k leading eigenpairs can tell.
        """
        rtol = torch.as_tensor(rtol, dtype=torch.float64, device=self.values.device)
        outside = ~((rtol > 0) & (rtol < 1))
        if outside.any():
            raise ValueError(f"rtol must lie in (0, 1), got {rtol[outside][0]:g}")
        values = self.values.double()
        above = values > rtol[..., None] * values[0]
        if not self.complete and above[..., -1].any():
            raise ValueError(
                f"rtol = {rtol.min():g} lets all {len(self.values)} leading eigenpairs through, "
                "and perhaps more that are not here: compute more of them or raise rtol"
            )
        return above

    def modes(self, rtol: float) -> int:
        """How many eigenvalues exceed rtol·λ_1, for one rtol; raises as :meth:`above`."""
        above = self.above(rtol)
        if above.ndim > 1:
            raise ValueError("rtol must be one number; for several use above(rtol).sum(-1)")
        return int(above.sum())

    @property
    def condition(self) -> float:
        """λ_1/λ_n.

        Raises
        ------
        ValueError
            If λ_n is not among the eigenpairs or not above rounding.
        """
        if not self.complete:
            raise ValueError(
                f"the condition number needs all {len(self.vectors)} eigenvalues, these are the "
                f"{len(self.values)} leading ones; see dynbook.splines.condition_number"
            )
        top, last = self.values[0].item(), self.values[-1].item()
        if last <= self.floor:
            raise ValueError(
                f"the Gram matrix is singular to working precision (smallest eigenvalue "
                f"{last:.1e}, rounding {self.floor:.1e}); use more digits, fewer or distinct "
                "neurons, or in one dimension dynbook.splines.condition_number, which needs no G"
            )
        return top / last


@dataclass(frozen=True)
class Truncated:
    """A truncated least-squares solution.

    Attributes
    ----------
    coef : Tensor (..., n)
        Coefficients a, the least-norm solution in the kept eigenspace.
    rank : Tensor (...), int64
        Number of eigenpairs kept.
    residual : Tensor (...)
        ‖G a − f‖₂: the norm of the part of f in the dropped eigenspace.
    """

    coef: Tensor
    rank: Tensor
    residual: Tensor


def gram_spectrum(gram: Float[Tensor, "n n"]) -> GramSpectrum:
    """All eigenpairs of a Gram matrix, largest first.

    Raises
    ------
    TypeError
        If the matrix is not a float32 or float64 tensor.
    ValueError
        If it is not square, finite and symmetric, or has an eigenvalue below −10 n ε λ_1: no Gram
        matrix is indefinite, so something is wrong with how it was made.
    """
    if not isinstance(gram, Tensor) or gram.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"gram must be a float32 or float64 tensor, got {kind(gram)}")
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or len(gram) < 1:
        raise ValueError(f"gram must have shape (n, n) with n ≥ 1, got {tuple(gram.shape)}")
    finite("gram", gram)
    tolerance = 10 * len(gram) * torch.finfo(gram.dtype).eps
    skew = (gram - gram.mT).abs().max()
    if skew > tolerance * gram.abs().max():
        raise ValueError(
            f"gram must be symmetric, but |G − Gᵀ| reaches {skew:.1e}: if it is rounding, pass "
            "(G + G.mT) / 2"
        )
    values, vectors = torch.linalg.eigh(gram)
    if values[0] < -tolerance * values[-1].abs() or values[-1] <= 0:
        raise ValueError(
            f"gram must be positive semi-definite, but its eigenvalues run from {values[0]:.1e} to "
            f"{values[-1]:.1e}: check the weights of the quadrature that made it"
        )
    return GramSpectrum(values.flip(0), vectors.flip(1))


def truncated_solve(
    gram: Tensor | GramSpectrum, f: Float[Tensor, "*b n"], rtol: Tensor | float | None = None
) -> Truncated:
    """Solve G a = f on the eigenpairs with λ_k > rtol·λ_1: the network as a low-pass filter.

    a = Σ_{λ_k > rtol λ_1} v_k (v_k·f)/λ_k, the truncated pseudo-inverse (:cite:t:`hansen1987`).

    Parameters
    ----------
    gram : Tensor (n, n) or GramSpectrum
        Pass the spectrum to try many thresholds or right-hand sides for the price of one. Leading
        eigenpairs will do if rtol cuts among them.
    f : Tensor (..., n)
        Right-hand sides ⟨σ_i, f⟩, dtype and device of G.
    rtol : float or Tensor (...)
        Relative threshold, dimensionless, broadcast against the leading dimensions of f. Default:
        n ε with the machine epsilon of the dtype; below it eigenvalues that are rounding noise
        pass, and are divided by.

    Raises
    ------
    ValueError, TypeError
        As :func:`gram_spectrum` and :meth:`GramSpectrum.above`; f of wrong shape, dtype or device,
        or not finite; rtol that does not broadcast; a solution that overflows.
    """
    spectrum = gram if isinstance(gram, GramSpectrum) else gram_spectrum(gram)
    f = _right_hand_side(f, spectrum, "f")
    keep = spectrum.above(spectrum.rounding if rtol is None else rtol)
    try:
        hat = (f @ spectrum.vectors) * keep
    except RuntimeError:
        raise ValueError(
            f"rtol must broadcast with the leading dimensions of f, got {tuple(keep.shape[:-1])} "
            f"and {tuple(f.shape[:-1])}"
        ) from None
    residual = (f - hat @ spectrum.vectors.mT).norm(dim=-1)
    coef = (hat / torch.where(keep, spectrum.values, 1.0)) @ spectrum.vectors.mT
    for name, x in (("coef", coef), ("residual", residual)):
        finite(name, x, f"it overflows {f.dtype}; scale f or G")
    return Truncated(coef, keep.sum(-1).expand_as(residual), residual)


def gradient_flow(
    gram: Tensor | GramSpectrum,
    f: Float[Tensor, " n"],
    t: Float[Tensor, "*T"] | float,
    a0: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "*T n"]:
    """Coefficients a(t) of gradient flow da/dt = f − G a from a0 (default 0), in closed form.

    Mode k relaxes alone: â_k(t) = e^{−λ_k t} â_k(0) + f̂_k (1 − e^{−λ_k t})/λ_k
    (:cite:t:`zhang2023`). Modes with λ_k ≤ n ε λ_1 stay at rest: there λ_k is rounding, and so is
    f̂_k, because |f̂_k| ≤ √λ_k ‖f‖ for every f_i = ⟨σ_i, f⟩; left alone it would grow like f̂_k t.
    So for a0 = 0 and t → ∞ the flow ends at :func:`truncated_solve` with its default rtol.

    Parameters
    ----------
    gram : Tensor (n, n) or GramSpectrum
        All eigenpairs: even the slowest mode moves.
    f, a0 : Tensor (n,)
    t : Tensor (...) or float
        Times ≥ 0 in units of 1/λ.

    Returns
    -------
    Tensor (..., n), the leading dimensions those of t.

    Raises
    ------
    ValueError, TypeError
        As :func:`truncated_solve`; or a negative or non-finite time, or leading eigenpairs only.
    """
    spectrum = gram if isinstance(gram, GramSpectrum) else gram_spectrum(gram)
    if not spectrum.complete:
        raise ValueError(
            f"gram must have all {len(spectrum.vectors)} eigenpairs, got the "
            f"{len(spectrum.values)} leading ones; pass gram_spectrum(G)"
        )
    f = _right_hand_side(f, spectrum, "f", batch=False)
    t = torch.as_tensor(t, dtype=f.dtype, device=f.device)
    if not (t.isfinite() & (t >= 0)).all():
        raise ValueError(f"t must be finite and ≥ 0, got {t.min():g} … {t.max():g}")
    moving = spectrum.values > spectrum.floor
    decay = torch.where(moving, spectrum.values, 0.0) * t[..., None]
    hat = (f @ spectrum.vectors) / torch.where(moving, spectrum.values, 1.0) * -torch.expm1(-decay)
    if a0 is not None:
        a0 = _right_hand_side(a0, spectrum, "a0", batch=False)
        hat = hat + torch.exp(-decay) * (a0 @ spectrum.vectors)
    return finite("a(t)", hat @ spectrum.vectors.mT, f"it overflows {f.dtype}; scale f, a0 or G")


def cutoff_frequency(eps: float, dim: int, constant: float = 1.0) -> float:
    """Highest frequency a ReLU layer just wide enough to resolve it keeps at precision eps.

    With λ_k ~ C λ_1 k^{−(d+3)} per frequency k, a width n ~ k^d, and rounding n·eps·λ_1, the
    condition λ_k > n eps λ_1 gives k = (C/eps)^{1/(2d+3)} (:cite:t:`zhang2023`, with C = 1).

    Parameters
    ----------
    eps : float
        Machine epsilon or relative noise level, in (0, 1).
    dim : int
        Dimension d ≥ 1 of x.
    constant : float
        C > 0; on (−1, 1) the true one is (κ_1/π)⁴ = 0.1269.

    Raises
    ------
    ValueError
        If one of them is out of its range.
    """
    dim = whole("dim", dim)
    if not 0 < eps < 1:
        raise ValueError(f"eps must lie in (0, 1), got {eps}")
    if not 0 < constant < math.inf:
        raise ValueError(f"constant must be positive and finite, got {constant}")
    return (constant / eps) ** (1 / (2 * dim + 3))


def _right_hand_side(f: Tensor, spectrum: GramSpectrum, name: str, batch: bool = True) -> Tensor:
    like, n = spectrum.values, len(spectrum.vectors)
    if not isinstance(f, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(f).__name__}")
    if f.shape[-1:] != (n,) or (f.ndim > 1 and not batch):
        shape = f"(..., {n})" if batch else f"({n},)"
        raise ValueError(f"{name} must have shape {shape}, as G has, got {tuple(f.shape)}")
    if f.dtype != like.dtype or f.device != like.device:
        raise TypeError(
            f"{name} must share dtype and device with G, got {f.dtype} on {f.device} and "
            f"{like.dtype} on {like.device}"
        )
    return finite(name, f)
