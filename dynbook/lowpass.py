"""What a Gram matrix lets through: spectrum, truncated solution, gradient flow, cut-off frequency."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.gram import first_bad


@dataclass(frozen=True)
class GramSpectrum:
    """Eigenpairs of a Gram matrix, largest first.

    Attributes
    ----------
    values : Tensor (n,)
        Eigenvalues λ_1 ≥ … ≥ λ_n; the last may be rounding noise of either sign.
    vectors : Tensor (n, n)
        Orthonormal eigenvectors, one per column.
    """

    values: Tensor
    vectors: Tensor

    @property
    def floor(self) -> float:
        """n ε λ_1: below it an eigenvalue of the stored matrix is rounding noise."""
        n = self.values.shape[-1]
        return n * torch.finfo(self.values.dtype).eps * self.values[0].item()

    def modes(self, rtol: float) -> int:
        """How many eigenvalues exceed rtol·λ_1."""
        return int((self.values > rtol * self.values[0]).sum())

    @property
    def condition(self) -> float:
        """λ_1/λ_n; a ValueError if λ_n is not above rounding."""
        top, last = self.values[0].item(), self.values[-1].item()
        if last <= self.floor:
            raise ValueError(
                f"the Gram matrix is singular to working precision (smallest eigenvalue {last:.1e}, "
                f"rounding {self.floor:.1e}); use more digits, fewer or distinct neurons, or in one "
                "dimension dynbook.splines.condition_number, which needs no G"
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
    ValueError
        If the matrix is not square, finite and symmetric, or has an eigenvalue below −10 n ε λ_1: no
        Gram matrix is indefinite, so something is wrong with how it was made.
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or len(gram) < 1:
        raise ValueError(f"gram must have shape (n, n) with n ≥ 1, got {tuple(gram.shape)}")
    if not gram.isfinite().all():
        raise ValueError(f"gram must be finite, got {first_bad(gram)}")
    tolerance = 10 * len(gram) * torch.finfo(gram.dtype).eps
    skew = (gram - gram.mT).abs().max()
    if skew > tolerance * gram.abs().max():
        raise ValueError(f"gram must be symmetric, but |G − Gᵀ| reaches {skew:.1e}")
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
        Pass the spectrum to try many thresholds or right-hand sides for the price of one.
    f : Tensor (..., n)
        Right-hand sides ⟨σ_i, f⟩, dtype and device of G.
    rtol : float or Tensor (...)
        Relative threshold, dimensionless, broadcast against f; default: machine epsilon of the dtype.

    Raises
    ------
    ValueError, TypeError
        As :func:`gram_spectrum`; f of wrong shape, dtype, device or not finite; rtol outside (0, 1).
    """
    spectrum = gram if isinstance(gram, GramSpectrum) else gram_spectrum(gram)
    f = _right_hand_side(f, spectrum, "f")
    if rtol is None:
        rtol = torch.finfo(f.dtype).eps
    rtol = torch.as_tensor(rtol, dtype=f.dtype, device=f.device)
    if not ((rtol > 0) & (rtol < 1)).all():
        raise ValueError(f"rtol must lie in (0, 1), got {rtol.flatten()[0]:g}")
    keep = spectrum.values > rtol[..., None] * spectrum.values[0]
    hat = f @ spectrum.vectors
    inverse = torch.where(keep, 1 / torch.where(keep, spectrum.values, 1.0), 0.0)
    return Truncated(
        coef=(hat * inverse) @ spectrum.vectors.mT,
        rank=keep.sum(-1),
        residual=(hat * ~keep).norm(dim=-1),
    )


def gradient_flow(
    gram: Tensor | GramSpectrum,
    f: Float[Tensor, " n"],
    t: Float[Tensor, " T"],
    a0: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "T n"]:
    """Coefficients a(t) of gradient flow da/dt = f − G a from a0 (default 0), in closed form.

    Mode k relaxes alone: â_k(t) = e^{−λ_k t} â_k(0) + f̂_k (1 − e^{−λ_k t})/λ_k, written so that λ_k → 0
    gives f̂_k t and nothing is divided by a small number (:cite:t:`zhang2023`).

    Parameters
    ----------
    gram : Tensor (n, n) or GramSpectrum
    f, a0 : Tensor (n,)
    t : Tensor (T,)
        Times ≥ 0 in units of 1/λ.

    Raises
    ------
    ValueError, TypeError
        As :func:`truncated_solve`; or a negative or non-finite time.
    """
    spectrum = gram if isinstance(gram, GramSpectrum) else gram_spectrum(gram)
    f = _right_hand_side(f, spectrum, "f")
    t = torch.as_tensor(t, dtype=f.dtype, device=f.device)
    if not (t.isfinite() & (t >= 0)).all():
        raise ValueError("t must be finite and ≥ 0")
    decay = spectrum.values.clamp(min=0) * t[..., None]
    gained = torch.where(
        decay > 0, -torch.expm1(-decay) / torch.where(decay > 0, decay, 1.0), 1.0
    ) * t[..., None]
    hat = gained * (f @ spectrum.vectors)
    if a0 is not None:
        hat = hat + torch.exp(-decay) * (_right_hand_side(a0, spectrum, "a0") @ spectrum.vectors)
    return hat @ spectrum.vectors.mT


def cutoff_frequency(eps: float, dim: int, constant: float = 1.0) -> float:
    """Highest frequency a ReLU layer just wide enough to resolve it keeps at precision eps.

    With λ_k ~ C λ_1 k^{−(d+3)} per frequency k, a width n ~ k^d, and rounding n·eps·λ_1, the condition
    λ_k > n eps λ_1 gives k = (C/eps)^{1/(2d+3)} (:cite:t:`zhang2023`, with C = 1).

    Parameters
    ----------
    eps : float
        Machine epsilon or relative noise level, in (0, 1).
    dim : int
        Dimension d ≥ 1 of x.
    constant : float
        C > 0; on (−1, 1) the true one is (κ_1/π)⁴ = 0.1269.
    """
    if not 0 < eps < 1:
        raise ValueError(f"eps must lie in (0, 1), got {eps}")
    if dim < 1 or constant <= 0:
        raise ValueError(f"dim must be ≥ 1 and constant > 0, got {dim} and {constant}")
    return (constant / eps) ** (1 / (2 * dim + 3))


def _right_hand_side(f: Tensor, spectrum: GramSpectrum, name: str) -> Tensor:
    like = spectrum.values
    if f.shape[-1:] != like.shape:
        raise ValueError(f"{name} must have {len(like)} entries, as G, got {tuple(f.shape)}")
    if f.dtype != like.dtype or f.device != like.device:
        raise TypeError(
            f"{name} must share dtype and device with G, got {f.dtype} on {f.device} and "
            f"{like.dtype} on {like.device}"
        )
    if not f.isfinite().all():
        raise ValueError(f"{name} must be finite, got {first_bad(f)}")
    return f
