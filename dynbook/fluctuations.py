"""What minibatch noise makes of a minimum: how far weights fluctuate, and along what."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import finite, kind, whole
from dynbook.maps import can_be_called, states

Loss = Callable[[Tensor], Tensor]
"""A loss of flat parameters, (..., p) → (...)."""


def stability_limit(hessian: Float[Tensor, "d d"], batch: int) -> float:
    """Learning rate beyond which minibatch noise makes the variance of the weights infinite.

    For linear regression on Gaussian inputs, every minibatch fresh, it solves

        (η/B) Σ_i h_i / (2 − η(1 + 1/B) h_i) = 1,

    which is less than 2/h_max, the limit of the mean, and tends to it as B → ∞ if no other h_i is
    as large. The typical run may converge at a larger η: its limit is that of the Lyapunov
    exponent of I − ηA, A = XᵀX/B.

    Parameters
    ----------
    hessian : Tensor (d, d)
        E xxᵀ, symmetric and positive definite, float32 or float64.
    batch : int
        Rows B of a minibatch.

    Raises
    ------
    TypeError, ValueError
        If hessian is not as said, or batch is no integer ≥ 1.
    """
    h, batch = _curvatures(hessian)[0], whole("batch", batch)
    low, high = 0.0, 2 / ((1 + 1 / batch) * h.max().item())
    while low < (middle := (low + high) / 2) < high:  # until two neighbouring floats
        low, high = (middle, high) if _gain(h, middle, batch) < 1 else (low, middle)
    return low


def stationary_covariance(
    hessian: Float[Tensor, "d d"], lr: float, batch: int, label_noise: float = 1.0
) -> Float[Tensor, "d d"]:
    """Covariance of the weights of a linear regression that SGD never lets rest, exactly.

    y = w·x + ε with x ~ N(0, H), ε ~ N(0, σ²); a step uses B fresh rows (:cite:t:`ziyin2022`).
    In the eigenvectors of H the covariance is diagonal, with

        s_i = (ησ²/B) / [(1 − g)(2 − η(1 + 1/B) h_i)],  g = (η/B) Σ_j h_j / (2 − η(1 + 1/B) h_j),

    at every η below :func:`stability_limit`. For small η it is (ησ²/2B) I, whatever H.

    Parameters
    ----------
    hessian : Tensor (d, d)
        H, symmetric and positive definite, float32 or float64.
    lr : float
        Learning rate η.
    batch : int
        Rows B of a minibatch.
    label_noise : float
        Standard deviation σ ≥ 0 of the labels.

    Returns
    -------
    Tensor (d, d)
        Dtype and device of hessian.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said, or lr is not below the limit, which the message names.
    """
    limit = stability_limit(hessian, batch)
    if not isinstance(lr, Real) or not 0 < lr < limit:
        raise ValueError(
            f"lr must be positive and below {limit:.6g}, where the variance becomes infinite at "
            f"batch {batch}; got {lr!r:.40}: take a smaller step or a larger batch"
        )
    if not isinstance(label_noise, Real) or not 0 <= label_noise < math.inf:
        raise ValueError(f"label_noise must be ≥ 0 and finite, got {label_noise!r:.40}")
    h, directions = _curvatures(hessian)
    scale = lr * label_noise**2 / batch / (1 - _gain(h, lr, batch))
    variances = scale / (2 - lr * (1 + 1 / batch) * h)
    return (directions * variances @ directions.mT).to(hessian.dtype)


def _gain(h: Tensor, lr: float, batch: int) -> float:
    """g: the share of the noise that the fluctuations themselves cause."""
    return (lr / batch * h / (2 - lr * (1 + 1 / batch) * h)).sum().item()


def _curvatures(hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors, float64, of what can be the Hessian of a regression."""
    H = states("hessian", hessian)
    if H.ndim != 2 or H.shape[0] != H.shape[1]:
        raise ValueError(f"hessian must have shape (d, d), got {tuple(H.shape)}")
    skew = (H - H.mT).abs().max().item()
    if skew > 100 * torch.finfo(H.dtype).eps * H.abs().max().item():
        raise ValueError(
            f"hessian must be symmetric, but differs from its transpose by {skew:.2g}; "
            "(H + H.mT) / 2 is"
        )
    h, directions = torch.linalg.eigh(H.double())  # 1 − g is a small difference near the limit
    if not h[0] > h.numel() * torch.finfo(H.dtype).eps * h[-1]:
        raise ValueError(
            f"hessian must be positive definite, got the eigenvalue {h[0].item():.3g}: where the "
            "data do not vary, weights keep their start; leave such directions out"
        )
    return h, directions


@torch.no_grad()
def flatness(
    loss: Loss, theta: Float[Tensor, " p"], directions: Float[Tensor, "k p"]
) -> Float[Tensor, " k"]:
    """Width of a valley: how far apart are the two points where the loss is e times that at θ.

    They are sought on both sides of θ, outwards by factors of two and then by bisection to the
    last digit (:cite:t:`feng2021`). With no slope at θ and constant curvature h it is
    √(8(e − 1)L(θ)/h).

    Parameters
    ----------
    loss : callable
        L > 0 of flat parameters, (..., p) to (...).
    theta : Tensor (p,)
        The point, float32 or float64.
    directions : Tensor (k, p)
        Lines through it; lengths do not matter.

    Returns
    -------
    Tensor (k,)
        F, in units of θ; infinite where the loss stays below e·L(θ) up to a distance of 2⁴⁰
        lengths of θ (or of 1, if θ is shorter).

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or shape, a direction is zero, or the loss at θ is
        not one positive finite number, or NaN on a line; or if the valley is so narrow that θ and
        a point of its rim differ by rounding.
    """
    theta, directions = states("theta", theta), states("directions", directions)
    if theta.ndim != 1 or directions.ndim != 2 or directions.shape[1] != len(theta):
        raise ValueError(
            "theta must have shape (p,) and directions (k, p), got "
            f"{tuple(theta.shape)} and {tuple(directions.shape)}"
        )
    lengths = directions.norm(dim=1, keepdim=True)
    if not (lengths > 0).all():
        raise ValueError(f"directions must not be zero, row {int(lengths.argmin())} is")
    here = can_be_called("loss", loss)(theta)
    if not isinstance(here, Tensor) or here.ndim or not 0 < here < math.inf:
        raise ValueError(f"loss must be one positive finite number at theta, got {kind(here)}")
    both = torch.stack([directions, -directions]) / lengths

    def above(distance: Tensor) -> Tensor:
        values = loss(theta + distance[..., None] * both)
        if getattr(values, "shape", None) != distance.shape or values.isnan().any():
            raise ValueError(
                f"loss must take (2, k, p) to (2, k) = {tuple(distance.shape)} numbers, got "
                f"{kind(values)}; torch.vmap serves a loss of one θ, here twice"
            )
        return values >= math.e * here

    scale = max(1.0, theta.norm().item())
    far = theta.new_full(both.shape[:2], scale * 2.0**-40)
    narrow = above(far)
    for _ in range(80):
        far = torch.where(above(far), far, 2 * far)
    found = above(far)
    near = torch.where(narrow, 0, far / 2)
    while ((near < (middle := (near + far) / 2)) & (middle < far)).any():
        beyond = above(middle)
        near, far = torch.where(beyond, near, middle), torch.where(beyond, middle, far)
    step = far[..., None] * both
    lost = ((theta + step - theta - step).norm(dim=-1) > far / 100).any(0)
    if lost.any():
        line = int(lost.int().argmax())
        raise ValueError(
            f"theta must resolve the valley, but along direction {line} its rim is only "
            f"{far[:, line].min().item():.2g} away, and {theta.dtype} rounds theta by as much: "
            "use float64, or a loss of the deviation from theta"
        )
    return torch.where(found, far, math.inf).sum(0)


@dataclass(frozen=True)
class VarianceFlatness:
    """Principal components of a stretch of training, and the valley along each.

    Attributes
    ----------
    variances : Tensor (k,)
        σ_i² of the weights along component i, largest first.
    flatness : Tensor (k,)
        F_i, the width of the loss along it through the mean of the orbit.
    directions : Tensor (k, p)
        The components, orthonormal rows.
    """

    variances: Tensor
    flatness: Tensor
    directions: Tensor


@torch.no_grad()
def variance_flatness(
    orbit: Float[Tensor, "T p"], loss: Loss, k: int | None = None
) -> VarianceFlatness:
    """Variance of the weights along their principal components, and flatness of the loss there.

    Parameters
    ----------
    orbit : Tensor (T, p)
        Weights after T > k steps of training, all of them or those of one layer.
    loss : callable
        Loss of these weights, (..., p) to (...); other layers stay where the caller puts them.
    k : int
        Number of components, the widest first. Default: p.

    Raises
    ------
    TypeError, ValueError
        As for :func:`flatness`; or if k is no integer from 1 to p, or T ≤ k.
    """
    orbit = states("orbit", orbit)
    if orbit.ndim != 2:
        raise ValueError(f"orbit must have shape (T, p), got {tuple(orbit.shape)}")
    T, p = orbit.shape
    k = p if k is None else whole("k", k, most=p)
    if T <= k:
        raise ValueError(f"orbit must have more states than components, got {T} for {k}")
    mean = orbit.mean(0)
    variances, directions = torch.linalg.eigh((orbit - mean).T.cov(correction=0).reshape(p, p))
    variances, directions = variances.flip(0)[:k].clamp(min=0), directions.flip(1).T[:k]
    return VarianceFlatness(
        variances, flatness(loss, finite("orbit", mean), directions), directions
    )
