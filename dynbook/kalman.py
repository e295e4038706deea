"""Training by filtering: Kalman filters whose state is a network's parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import cpu_generator, finite, first_bad, kind
from dynbook.maps import can_be_called, states

Predict = Callable[[Tensor, Tensor], Tensor]
"""h(θ, x): the m outputs (m,) of one network θ (p,) at one input x; members are vmapped over."""


class KalmanError(ArithmeticError):
    """A filter broke down; the message names the sample and the remedy."""


@dataclass(frozen=True)
class Filtered:
    """What is known of the parameters after T samples, and what was foretold of each sample.

    Attributes
    ----------
    mean : Tensor (…, p)
        Of the parameters.
    cov : Tensor (…, p, p)
        Their covariance.
    innovation : Tensor (T, …, m)
        y_t − h(θ, x_t) *before* sample t was used.
    spread : Tensor (T, …, m, m)
        The covariance foretold for it, noise included: if the filter is right, nineteen in twenty
        of the innovations lie within ±1.96 roots of its diagonal.
    members : Tensor (…, N, p), optional
        Of an ensemble filter.
    """

    mean: Tensor
    cov: Tensor
    innovation: Tensor
    spread: Tensor
    members: Tensor | None = None


@torch.no_grad()
def extended_kalman(
    predict: Predict,
    mean: Float[Tensor, "*b p"],
    cov: Float[Tensor, "*b p p"],
    x: Float[Tensor, "T ..."],
    y: Float[Tensor, "T ... m"],
    noise: float | Float[Tensor, "m m"],
    *,
    drift: float = 0.0,
) -> Filtered:
    """Extended Kalman filter: one sample after the other, each linearised where θ is then.

    With H = ∂h/∂θ, S = H P Hᵀ + R and K = P Hᵀ S⁻¹ a sample changes θ and P to

        θ' = θ + K (y − h(θ, x)),  P' = (I − K H) P (I − K H)ᵀ + K R Kᵀ,

    for networks as in :cite:t:`singhal1989`. If h is linear in θ, this is recursive least squares,
    and θ after the last sample the ridge regression with penalty R/P₀, exactly. The second formula
    is Joseph's, a sum of squares; it is their root that is kept, P = U Uᵀ, by a QR factorisation,
    so that rounding cannot make P negative. It can if P itself is kept, in either form.

    Parameters
    ----------
    predict : callable
        h from θ (p,) and one input to (m,), differentiable by ``torch.func``.
    mean, cov : Tensor (…, p) and (…, p, p)
        What is believed before the first sample, members along leading dimensions; covariances
        symmetric and positive definite, cov broadcast against mean.
    x, y : Tensor (T, …) and (T, m)
        Samples in their order, the same for all members; or, with the members' dimensions after
        T, (T, …, d) and (T, …, m), for each its own.
    noise : float or Tensor (m, m)
        R: variance, or covariance, of the noise in y.
    drift : float
        Variance added to each parameter before each sample: old samples fade.

    Raises
    ------
    TypeError, ValueError
        If an argument, or what h returns, is of the wrong kind or size, a covariance is not
        positive definite or drift is negative.
    KalmanError
        If h, mean or covariance leave the finite numbers, or S is not positive definite.
    """
    mean = states("mean", mean)
    p, batch = mean.shape[-1], mean.shape[:-1]
    P = _covariance("cov", cov, p, mean)
    if P.shape[:-2] not in ((), batch):
        raise ValueError(
            f"cov must have shape ({p}, {p}), or one for each mean of shape {tuple(mean.shape)}, "
            f"got {tuple(P.shape)}"
        )
    U = torch.linalg.cholesky(P).expand(*batch, p, p)
    x, y, R = _samples(predict, x, y, noise, mean)
    drift = _not_negative("drift", drift)
    tangent = torch.func.jacrev(lambda theta, x: (predict(theta, x),) * 2, has_aux=True)
    one, innovations, spreads = _over(tangent, batch), [], []
    identity = torch.eye(p, dtype=mean.dtype, device=mean.device)
    root = torch.linalg.cholesky(R)
    for t, (x_t, y_t) in enumerate(zip(x, y, strict=True)):
        H, output = one(mean, x_t)
        innovations.append(y_t - _outputs(output, (*batch, y.shape[-1]), mean, t))
        if drift:
            U = _root(U, math.sqrt(drift) * identity.expand_as(U))
        HU = H @ U
        spreads.append(HU @ HU.mT + R)
        K = _solved(spreads[-1], HU @ U.mT, t).mT
        mean = mean + (K @ innovations[-1][..., None])[..., 0]
        U = _root((identity - K @ H) @ U, K @ root)
        _still_finite(mean, t)
    _still_finite(cov := U @ U.mT, t)
    return Filtered(mean, cov, torch.stack(innovations), torch.stack(spreads))


@torch.no_grad()
def ensemble_kalman(
    predict: Predict,
    members: Float[Tensor, "*b N p"],
    x: Float[Tensor, "T ..."],
    y: Float[Tensor, "T ... m"],
    noise: float | Float[Tensor, "m m"],
    *,
    inflation: float = 1.0,
    drift: float = 0.0,
    generator: torch.Generator,
) -> Filtered:
    """Ensemble Kalman filter: no derivative, and no covariance but that of N networks.

    P Hᵀ and H P Hᵀ are replaced by the covariances of members and of their outputs, and each
    member is moved by K (y + ε − h(θ, x)), with noise ε ~ N(0, R) of its own: without it the
    ensemble becomes too narrow :cite:p:`evensen1994,burgers1998`. θ moves only in the span of the
    ensemble: N − 1 directions.

    Parameters
    ----------
    predict, x, y, noise, drift
        As for :func:`extended_kalman`, but h need not have a derivative. Samples of their own have
        the dimensions before N after T.
    members : Tensor (…, N, p)
        N ≥ 2 networks drawn from what is believed before the first sample.
    inflation : float
        Factor ≥ 1 on deviations from the mean, before each sample, against collapse.
    generator : torch.Generator
        On the CPU, of the ε and of the drift.

    Raises
    ------
    TypeError, ValueError, KalmanError
        As for :func:`extended_kalman`; or if there are fewer than two members, or inflation is
        below 1.
    """
    members = states("members", members)
    if members.ndim < 2 or members.shape[-2] < 2:
        raise ValueError(
            f"members must have shape (..., N, p) with N ≥ 2, got {tuple(members.shape)}: a "
            "covariance needs two networks or more"
        )
    batch, N = members.shape[:-2], members.shape[-2]
    x, y, R = _samples(predict, x, y, noise, members[..., 0, :])
    root, drift = torch.linalg.cholesky(R), _not_negative("drift", drift)
    if _not_negative("inflation", inflation) < 1:
        raise ValueError(f"inflation must be at least 1, got {inflation:g}: less is deflation")
    cpu_generator(generator)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=members.dtype, generator=generator).to(members.device)

    one, innovations, spreads = _over(predict, (*batch, N)), [], []
    for t, (x_t, y_t) in enumerate(zip(x, y, strict=True)):
        if inflation > 1:
            mean = members.mean(-2, keepdim=True)
            members = mean + inflation * (members - mean)
        if drift:
            members = members + math.sqrt(drift) * drawn(*members.shape)
        shape = (*batch, N, y.shape[-1])
        output = _outputs(one(members, x_t[..., None, :]), shape, members, t)
        middle = output.mean(-2)
        A, B = members - members.mean(-2, keepdim=True), output - middle[..., None, :]
        S = B.mT @ B / (N - 1) + R
        heard = y_t[..., None, :] + drawn(*output.shape) @ root.mT
        members = members + (heard - output) @ _solved(S, B.mT @ A / (N - 1), t)
        innovations.append(y_t - middle)
        spreads.append(S)
        _still_finite(members, t)
    A = members - (mean := members.mean(-2))[..., None, :]
    _still_finite(cov := A.mT @ A / (N - 1), t)
    return Filtered(mean, cov, torch.stack(innovations), torch.stack(spreads), members)


def _over(f: Callable, batch: tuple[int, ...]) -> Callable:
    """f of one network, for members along these dimensions; x is expanded to them."""
    for _ in batch:
        f = torch.vmap(f)
    return lambda theta, x: f(theta, x.expand(*batch, x.shape[-1]))


def _samples(
    predict: Predict, x: Tensor, y: Tensor, noise: float | Tensor, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    can_be_called("predict", predict)
    shapes = [()] if like.ndim == 1 else [(), like.shape[:-1]]
    for name, value in (("x", x), ("y", y)):
        _alike(name, value, like)
        if value.ndim < 2 or value.shape[1:-1] not in shapes:
            own = f", or (T, {', '.join(map(str, shapes[-1]))}, d)" if shapes[-1] else ""
            raise ValueError(f"{name} must have shape (T, d){own}, got {tuple(value.shape)}")
        finite(name, value)
    if len(x) != len(y) or y.numel() == 0:
        raise ValueError(
            f"x and y must have as many samples, one or more, and y an entry in each, got shapes "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    m = y.shape[-1]
    if isinstance(noise, Real):
        noise = float(noise) * torch.eye(m, dtype=like.dtype, device=like.device)
    noise = _covariance("noise", noise, m, like)
    if noise.ndim > 2:
        raise ValueError(f"noise must have shape ({m}, {m}), got {tuple(noise.shape)}")
    return x, y, noise


def _covariance(name: str, value: Tensor, size: int, like: Tensor) -> Tensor:
    """A covariance, refused where it is none."""
    _alike(name, value, like)
    if value.shape[-2:] != (size, size):
        raise ValueError(f"{name} must have shape (..., {size}, {size}), got {tuple(value.shape)}")
    finite(name, value)
    skew, scale = (value - value.mT).abs().max().item(), value.abs().max().item()
    if skew > 100 * torch.finfo(value.dtype).eps * scale:
        raise ValueError(f"{name} must be symmetric, but differs from its transpose by {skew:.2g}")
    if (torch.linalg.cholesky_ex(value).info != 0).any():
        low = torch.linalg.eigvalsh(value)[..., 0].min().item()
        raise ValueError(
            f"{name} must be positive definite, got the eigenvalue {low:.3g}: no Gaussian has such "
            "a covariance"
        )
    return value


def _alike(name: str, value: object, like: Tensor) -> None:
    if not isinstance(value, Tensor) or (value.dtype, value.device) != (like.dtype, like.device):
        at = f" on {value.device}" if isinstance(value, Tensor) else ""
        raise TypeError(
            f"{name} must be a {like.dtype} tensor on {like.device}, as θ is, got {kind(value)}{at}"
        )


def _not_negative(name: str, value: float) -> float:
    if not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number ≥ 0 and finite, got {value!r:.40}")
    return float(value)


def _outputs(output: Tensor, shape: tuple[int, ...], like: Tensor, t: int) -> Tensor:
    _alike("what predict returns", output, like)
    if output.shape != shape:
        raise ValueError(
            f"predict must return as many outputs as y has, {shape[-1]}, in one vector: shape "
            f"{shape} for all members, got {tuple(output.shape)} at sample {t}"
        )
    if not output.isfinite().all():
        raise KalmanError(f"predict must be finite, got {first_bad(output)} at sample {t}")
    return output


def _solved(S: Tensor, B: Tensor, t: int) -> Tensor:
    """S⁻¹ B."""
    root, info = torch.linalg.cholesky_ex(S)
    if (info != 0).any() or not root.isfinite().all():
        raise KalmanError(
            f"the covariance of the innovation is not positive definite at sample {t}: rounding "
            "has eaten it, or θ ran away; take a larger noise, a smaller cov, or float64"
        )
    return torch.cholesky_solve(B, root)


def _root(A: Tensor, B: Tensor) -> Tensor:
    """U with U Uᵀ = A Aᵀ + B Bᵀ."""
    return torch.linalg.qr(torch.cat([A, B], -1).mT, mode="r").R.mT


def _still_finite(theta: Tensor, t: int) -> None:
    if not theta.isfinite().all():
        raise KalmanError(
            f"the parameters or their covariance left the finite numbers at sample {t}: a smaller "
            "cov takes smaller steps"
        )
