"""Exponents of a training while it lasts: many networks at once, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import kind, whole
from dynbook.maps import fitting
from dynbook.products import Factor, spectrum_of
from dynbook.tangent import first_frame
from dynbook.three_layer import HessianParts, ThreeLayer, members_rate

WIDE = 64  # parameters, from which on few tangents do without the Hessian itself


@dataclass(frozen=True)
class Transient:
    """Trainings and their finite-time exponents, window by window.

    Attributes
    ----------
    steps : Tensor (W + 1,)
        Steps made when each window begins, and the last one ends.
    theta : Tensor (W + 1, M, p)
        Parameters then; NaN after a member has diverged.
    loss : Tensor (W + 1, M)
        Their losses.
    exponents : Tensor (W, M, k)
        Growth of the k directions of the frame in each window, per step, in their order; NaN from
        the window on in which a member diverges.
    diverged : Tensor (M,)
        The step at which a member's parameters or tangent passed all bounds, 10¹²³ in float64 and
        10¹⁵ in float32; −1 if none.
    frame : Tensor (M, p, k)
        Frame at the end: a run that starts from theta[-1] and it goes on to the bit.
    """

    steps: Tensor
    theta: Tensor
    loss: Tensor
    exponents: Tensor
    diverged: Tensor
    frame: Tensor


@torch.no_grad()
def training_exponents(
    loss: ThreeLayer,
    theta0: Float[Tensor, "M p"],
    lr: float | Tensor,
    *,
    n: int,
    window: int,
    k: int | None = None,
    qr_every: int = 10,
    generator: torch.Generator | None = None,
    frame: Float[Tensor, "M p k"] | None = None,
) -> Transient:
    """Train M networks by θ' = θ − η∇L and push k tangents along by Q ← (I − η∇²L) Q.

    Digits are watched as in :func:`~dynbook.products.matrix_product_spectrum`. A member that
    diverges is named and masked with NaN, and the others go on.

    Parameters
    ----------
    loss : ThreeLayer
        Or anything with its `derivatives`, and L when called.
    theta0 : Tensor (M, p)
        Starts, float32 or float64.
    lr : float or Tensor
        Learning rate η > 0, one for all or a column (M, 1).
    n, window : int
        Steps in all, a multiple of window; steps in a window, a multiple of qr_every.
    k, qr_every, generator, frame
        As for :func:`~dynbook.lyapunov.lyapunov_spectrum`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or size, or is not finite.
    """
    n, window, q = whole("n", n), whole("window", window), whole("qr_every", qr_every)
    if n % window or window % q:
        raise ValueError(
            f"n must be a multiple of window, and window of qr_every, got {n}, {window} and {q}"
        )
    theta, Q = first_frame(theta0, k, frame, generator)
    if theta.ndim != 2:
        raise ValueError(f"theta0 must have shape (M, p), got {tuple(theta.shape)}")
    if not callable(getattr(loss, "derivatives", None)):
        raise TypeError(f"loss must have derivatives(theta), as ThreeLayer does, got {kind(loss)}")
    run = _Run(loss, theta, fitting("lr", members_rate(lr), theta))
    seen, rows = [run.masked(theta)], []
    for _ in range(n // window):
        spectrum = spectrum_of(run.tangents(window, Q.shape[-1]), Q, q)
        Q = spectrum.frame
        seen.append(run.masked(run.theta))
        rows.append(run.masked(spectrum.exponents))
    seen = torch.stack(seen)
    steps = torch.arange(0, n + 1, window)
    return Transient(steps, seen, loss(seen), torch.stack(rows), run.diverged, Q)


class _Run:
    """Trainings under way. Who diverges stays where it was, with the tangent of a state at rest."""

    def __init__(self, loss: ThreeLayer, theta: Tensor, lr: float | Tensor):
        self.loss, self.theta, self.lr = loss, theta, lr
        self.count, self.diverged = 0, torch.full(theta.shape[:1], -1, device=theta.device)

    def tangents(self, n: int, k: int) -> Iterator[Factor]:
        """I − η∇²L of the next n steps, which are made on the way, for frames of k columns."""
        p = self.theta.shape[-1]
        few = max(2 * k, WIDE) < p and isinstance(self.loss, ThreeLayer)
        eye = torch.eye(p).to(self.theta)
        rate = torch.zeros_like(self.theta[:, :1]) + self.lr
        largest = torch.finfo(eye.dtype).max ** 0.4  # its square does not overflow
        for _ in range(n):
            if few:
                hessian = self.loss.hessian_parts(self.theta)
                gradient, tangent = hessian.gradient, _Step(hessian, rate)
                size = rate[:, 0] * hessian.bound
            else:
                gradient, hessian = self.loss.derivatives(self.theta)
                tangent = eye - rate[..., None] * hessian
                size = torch.maximum(tangent.amax((-2, -1)), -tangent.amin((-2, -1)))
            after = self.theta - self.lr * gradient
            self.count += 1
            lost = ~((size < largest) & (after.abs().amax(-1) < largest))  # NaN is lost, too
            if lost.any():
                self.diverged[lost & (self.diverged < 0)] = self.count
                lost = self.diverged >= 0
                after = torch.where(lost[:, None], self.theta, after)
                rest = lost[:, None, None]
                tangent = replace(tangent, rest=rest) if few else torch.where(rest, eye, tangent)
            self.theta = after
            yield tangent

    def masked(self, values: Tensor) -> Tensor:
        """Of who has not diverged, and NaN of the others."""
        lost = self.diverged >= 0
        return values.masked_fill(lost.view(-1, *[1] * (values.ndim - 1)), torch.nan)


@dataclass(frozen=True)
class _Step:
    """I − η∇²L by its products, for frames of few columns; the identity for who is at rest."""

    hessian: HessianParts
    rate: Tensor  # (M, 1)
    rest: Tensor | None = None  # (M, 1, 1)

    def __matmul__(self, Y: Tensor) -> Tensor:
        after = Y - self.rate[..., None] * (self.hessian @ Y)
        return after if self.rest is None else torch.where(self.rest, Y, after)

    def __getitem__(self, members: Tensor) -> _Step:
        rest = None if self.rest is None else self.rest[members]
        return _Step(self.hessian[members], self.rate[members], rest)
