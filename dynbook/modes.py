"""Modes of training: which part of the error goes first, and when is half of it gone?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Modes:
    """Eigenfunctions of a network's tangent operator, fastest first.

    Attributes
    ----------
    rates : Tensor (k,)
        Eigenvalues λ_m: under gradient flow the error in mode m decays as exp(−λ_m t).
    functions : Tensor (k, N)
        Values φ_m(x_j), orthonormal in the inner product (2/N) Σ_j.
    """

    rates: Tensor
    functions: Tensor

    def coefficients(self, g: Float[Tensor, "*b N"]) -> Float[Tensor, "*b k"]:
        """Coefficients ⟨g, φ_m⟩ = (2/N) Σ_j g(x_j) φ_m(x_j)."""
        return 2 / g.shape[-1] * g @ self.functions.mT


def training_modes(kernel: Float[Tensor, "N N"], k: int) -> Modes:
    """Leading eigenpairs of g ↦ (2/N) Σ_j K(·, x_j) g(x_j): the modes that training sees.

    Parameters
    ----------
    kernel : Tensor (N, N)
        Symmetric positive semidefinite kernel on the points, for example from
        :func:`~dynbook.networks.tangent_kernel`.
    k : int
        How many modes, 1 ≤ k ≤ N.

    Raises
    ------
    TypeError
        If the kernel is neither float32 nor float64.
    ValueError
        If the kernel is not square, finite, symmetric and, up to rounding, positive semidefinite,
        or k lies outside 1 … N.
    """
    if kernel.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"kernel must be float32 or float64, got {kernel.dtype}; use kernel.double()"
        )
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"kernel must be a square matrix, got shape {tuple(kernel.shape)}")
    N = kernel.shape[0]
    if not 1 <= k <= N:
        raise ValueError(f"k must lie in 1 … {N}, the number of points; got {k}")
    if not kernel.isfinite().all():
        raise ValueError("kernel must be finite, got NaN or infinity")
    gap, size = (kernel - kernel.mT).abs().max(), kernel.abs().max()
    if gap > 1e-5 * size:
        raise ValueError(
            f"kernel must be symmetric, but entries up to {size:.3g} differ from their mirror "
            f"images by up to {gap:.3g}; symmetrise it with (K + K.mT) / 2"
        )
    rates, vectors = torch.linalg.eigh(kernel * (2 / N))
    rates = _nonnegative(rates, "the eigenvalues of kernel")
    functions = vectors.flip(-1)[:, :k].mT * math.sqrt(N / 2)
    sign = torch.where(functions[:, -1:] < 0, -1, 1).to(functions)
    return Modes(rates.flip(-1)[:k], functions * sign)


def error_decay(
    rates: Float[Tensor, " k"], lr: float, steps: Int[Tensor, " T"]
) -> Float[Tensor, "T k"]:
    """Fraction (1 − η λ_m)^t of the error in mode m left after t steps of gradient descent.

    Exact with fixed biases, where the loss is quadratic; with trained biases it is the first
    order in the size of the error. Computed in float64 and returned in the dtype of the rates:
    a small η λ_m would be lost beside 1.

    Parameters
    ----------
    rates : Tensor (k,)
        Eigenvalues λ_m ≥ 0; those negative by rounding count as 0.
    lr : float
        Learning rate η in (0, 2/λ_1).
    steps : Tensor (T,)
        Numbers of steps t, whole and not negative.

    Raises
    ------
    TypeError
        If the rates are not floating point.
    ValueError
        If rates is empty, not finite, negative or zero throughout, if steps are not whole numbers
        from 0 on, or if lr lies outside (0, 2/λ_1), where gradient descent does not converge.
    """
    if not rates.is_floating_point():
        raise TypeError(f"rates must be floating point, got {rates.dtype}; use rates.double()")
    if rates.ndim != 1 or rates.numel() == 0 or not rates.isfinite().all():
        raise ValueError(f"rates must be one or more finite numbers (k,), got {rates}")
    if steps.ndim != 1 or not ((steps >= 0) & (steps % 1 == 0)).all():
        raise ValueError(f"steps must be a vector of whole numbers from 0 on, got {steps}")
    exact = _nonnegative(rates, "rates").double()
    top = float(exact.max())
    if top == 0:
        raise ValueError("rates must not all be zero: nothing would be learned at any lr")
    if not 0 < lr * top < 2:
        raise ValueError(
            f"lr must lie in (0, 2/λ₁) = (0, {2 / top:.4g}) for gradient descent to converge; "
            f"got {lr:.4g}"
        )
    return ((1 - lr * exact) ** steps.to(rates.device)[:, None]).to(rates.dtype)


def halving_steps(
    coefficients: Float[Tensor, "T ..."], steps: Tensor | None = None
) -> Float[Tensor, "..."]:
    """First step at which a coefficient has fallen to half its first value.

    Linear interpolation between records; inf where the record ends before. The result is float64
    whatever the record is: step numbers outgrow the digits of the smaller types.

    Parameters
    ----------
    coefficients : Tensor (T, ...)
        Record over training, time first; absolute values are taken.
    steps : Tensor (T,), optional
        Increasing step numbers of the record; 0, 1, 2, … if not given.

    Raises
    ------
    TypeError
        If coefficients or steps are complex.
    ValueError
        If the record is empty or not finite, a coefficient starts at zero, or steps does not match
        the record, is not finite or does not increase.
    """
    T = coefficients.shape[0] if coefficients.ndim else 0
    if T == 0:
        raise ValueError("coefficients must hold at least one record along its first dimension")
    steps = torch.arange(T) if steps is None else steps
    if coefficients.is_complex() or steps.is_complex():
        raise TypeError(
            f"coefficients and steps must be real, got {coefficients.dtype} and {steps.dtype}; "
            "of complex coefficients give .abs()"
        )
    if not coefficients.isfinite().all():
        raise ValueError("coefficients must be finite; a run that diverged has no halving time")
    if not (coefficients[0] != 0).all():
        raise ValueError("coefficients must not start at zero: there is nothing to halve")
    if steps.shape != (T,):
        raise ValueError(
            f"steps must have shape ({T},), one per record of coefficients; "
            f"got {tuple(steps.shape)}"
        )
    steps = steps.to(coefficients.device, torch.float64)
    if not (steps.isfinite().all() and (steps.diff() > 0).all()):
        raise ValueError(f"steps must be finite and increase, got {steps}")
    size = coefficients.double().abs()
    half = size[0] / 2
    reached = size <= half
    after = reached.int().argmax(0)
    before = (after - 1).clamp(min=0)
    high, low = size.gather(0, before[None])[0], size.gather(0, after[None])[0]
    found = steps[before] + (high - half) / (high - low) * (steps[after] - steps[before])
    return torch.where(reached.any(0), found, torch.inf)


def _nonnegative(rates: Tensor, name: str) -> Tensor:
    """Rates with what rounding has put below zero at zero; refuses what is truly negative."""
    low, high = rates.min(), rates.abs().max()
    if low < -1000 * torch.finfo(rates.dtype).eps * high:
        raise ValueError(
            f"{name} must not be negative, got {low:.4g} beside {high:.4g}: the error in that mode "
            "would grow. A tangent kernel is positive semidefinite: is this one?"
        )
    return rates.clamp(min=0)
