"""Simulators learned from data: what gradient descent leaves of its start, and when to trust them.

A simulator here is a network that is to do one step of a system, x ↦ x', and is then left to run
by itself.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import finite, kind, whole
from dynbook.maps import states


def learned_simulator(
    start: Float[Tensor, "*b n n"],
    truth: Float[Tensor, "n n"],
    covariance: Float[Tensor, "n n"],
    *,
    noise: float = 0.0,
    lr: float | None = None,
    steps: float = math.inf,
) -> Float[Tensor, "*b n n"]:
    """The matrix that gradient descent makes of x' = Ax, exactly, after any number of steps.

    The loss is ½⟨‖W(x + ξ) − Ax‖²⟩ over data x of covariance C = ⟨xxᵀ⟩ and noise ξ ~ N(0, s²I)
    that is drawn anew in every step; its mean is descended, W' = W − η[W(C + s²I) − AC]. On an
    eigenvector u_k of C, of energy s_k, that is W u_k after t steps:

        f W₀u_k + (1 − f) s_k/(s_k + s²) A u_k,    f = (1 − η(s_k + s²))^t .

    So a direction without energy keeps W₀ if there is no noise, and forgets it for 0 if there is
    some; at t = ∞ with noise what remains is AC(C + s²I)⁻¹ :cite:p:`floryan2024`, the ridge
    regression of penalty s² :cite:p:`bishop1995`. The same holds for a generator, dx/dt = Ax.

    Parameters
    ----------
    start : Tensor (..., n, n)
        Initial weights W₀, or an ensemble of them, float32 or float64.
    truth : Tensor (n, n)
        A; what it does where there are no data does not matter.
    covariance : Tensor (n, n)
        C, the mean of xxᵀ (not centred). A direction of less energy than rounding, n ε max s_k,
        counts as one without.
    noise : float
        Standard deviation s ≥ 0 of each coordinate of the noise, with a square within the range
        of the dtype.
    lr : float, optional
        Learning rate η; needed for a finite number of steps only, the end does not depend on it.
    steps : int or inf
        Number of steps t, at most 2⁵³ if finite.

    Returns
    -------
    Tensor (..., n, n)

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or dtype, or the covariance is not symmetric or
        has a negative eigenvalue; or if lr is missing, or not between 0 and 2/(max s_k + s²), from
        where on training diverges.
    """
    start, truth = states("start", start), states("truth", truth)
    covariance = states("covariance", covariance)
    _check_square(start, truth, covariance)
    if not (isinstance(noise, Real) and 0 <= noise < math.inf):
        raise ValueError(f"noise must be ≥ 0 and finite, got {noise!r:.40}")
    square, limits = noise * noise, torch.finfo(start.dtype)
    if noise and not limits.tiny <= square <= limits.max:
        raise ValueError(
            f"noise must be 0 or have a square that {start.dtype} can hold, "
            f"{limits.tiny:.2g} … {limits.max:.2g}, got {noise!r:.40}"
        )
    energy, modes = _energies(covariance)
    total = energy + square
    if steps != math.inf:
        steps = whole("steps", steps, most=2**53, least=0)
        kept = (1 - _stable(lr, total.max().item()) * total) ** steps
    else:
        if lr is not None:
            _stable(lr, total.max().item())
        kept = (total == 0).to(energy.dtype)
    learned = (1 - kept) * torch.where(total > 0, energy / total, 0.0)
    return (start @ modes * kept + truth @ modes * learned) @ modes.mT


def p_values(statistic: Float[Tensor, "..."], null: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Share of the null distribution that is at least as large, the new value counted with it.

    p = (1 + #{k : d_k ≥ d})/(1 + K). If the d_k and d are drawn alike (are exchangeable), then
    P(p ≤ α) ≤ α for every α and every distribution. For the significance test of an ensemble of
    networks :cite:p:`vasiliauskaite2024` the statistic is their disagreement, the variance of
    ``outputs`` (M, …) over the members, ``outputs.var(0)``, and its null distribution that over
    inputs like those of the training; their targets need not be known. A small p says that the
    input is unlike those, and not how wrong the ensemble is.

    Parameters
    ----------
    statistic : Tensor (...)
        d, large where the null hypothesis is in doubt.
    null : Tensor, any shape
        The K values d_k.

    Returns
    -------
    Tensor (...)
        p ≥ 1/(1 + K), float64.

    Raises
    ------
    TypeError, ValueError
        If one of them is no tensor of real numbers, has a NaN or an infinity, or null is empty.
    """
    for name, value in (("statistic", statistic), ("null", null)):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise TypeError(f"{name} must be a tensor of real numbers, got {kind(value)}")
        finite(name, value, "a member that diverged has no say; leave it out")
    if null.numel() == 0:
        raise ValueError("null must hold at least one value, got none")
    ordered = null.detach().flatten().double().sort().values
    below = torch.searchsorted(ordered, statistic.detach().double().contiguous())
    return (1 + len(ordered) - below).double() / (1 + len(ordered))


def _check_square(start: Tensor, truth: Tensor, covariance: Tensor) -> None:
    n = start.shape[-1]
    if start.ndim < 2 or start.shape[-2] != n:
        raise ValueError(f"start must be square, (..., n, n), got {tuple(start.shape)}")
    for name, matrix in (("truth", truth), ("covariance", covariance)):
        if matrix.shape != (n, n):
            raise ValueError(
                f"{name} must have shape {(n, n)}, that of start, got {tuple(matrix.shape)}"
            )
        if matrix.dtype != start.dtype or matrix.device != start.device:
            raise TypeError(
                f"{name} must have dtype and device of start ({start.dtype} on {start.device}), "
                f"got {matrix.dtype} on {matrix.device}; move it with {name}.to(start)"
            )


def _energies(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of C, zero below rounding, and eigenvectors in columns."""
    eps = torch.finfo(covariance.dtype).eps
    size, skew = covariance.abs().max(), (covariance - covariance.mT).abs()
    if skew.max() > math.sqrt(eps) * size:
        i, j = divmod(int(skew.argmax()), len(skew))
        raise ValueError(
            f"covariance must be symmetric, but its entries ({i}, {j}) and ({j}, {i}) are "
            f"{covariance[i, j]:g} and {covariance[j, i]:g}; for data x (m, n) it is x.T @ x / m"
        )
    energy, modes = torch.linalg.eigh((covariance + covariance.mT) / 2)
    floor = len(energy) * eps * energy.abs().max()
    if energy[0] < -math.sqrt(eps) * energy.abs().max():
        raise ValueError(
            f"covariance must have no negative eigenvalue, got {energy[0]:g}: no data have it"
        )
    return torch.where(energy > floor, energy, 0.0), modes


def _stable(lr: float | None, largest: float) -> float:
    """lr itself, if descent with it converges on energies up to the largest."""
    if not isinstance(lr, Real):
        raise TypeError(f"lr must be a number for a finite number of steps, got {kind(lr)}")
    limit = 2 / largest if largest else math.inf
    if not 0 < lr < limit:
        raise ValueError(
            f"lr must lie between 0 and 2/(max s_k + noise²) = {limit:.4g}, from where on training "
            f"diverges, got {lr:.4g}"
        )
    return lr
