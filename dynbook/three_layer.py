"""Networks with one hidden layer, their gradient and Hessian written out: training and its tangent
for hundreds of them at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import kind, whole
from dynbook.maps import Map, can_be_called, fitting, learning_rate, states

CACHED = 2**17  # neurons times inputs at a time: what belongs to them stays in the cache


@dataclass(frozen=True)
class HessianParts:
    """∇L and ∇²L = GGᵀ/n + (blocks on and beside the diagonal) of a :class:`ThreeLayer`.

    Attributes
    ----------
    gradient : Tensor (..., p)
        ∇L.
    jacobian : Tensor (..., p, n)
        G, ∇f at all inputs.
    own : Tensor (..., H, d + 1, d + 1)
        (1/n) Σ r w_h φ''_h x̃x̃ᵀ, between (A_h, b_h) and itself.
    mixed : Tensor (..., H, d + 1)
        (1/n) Σ r φ'_h x̃, between (A_h, b_h) and w_h.
    """

    gradient: Tensor
    jacobian: Tensor
    own: Tensor
    mixed: Tensor

    def __matmul__(self, V: Float[Tensor, "*b p k"]) -> Float[Tensor, "*b p k"]:
        """∇²L V, in 4 n p k operations."""
        H, d = self.mixed.shape[-2], self.mixed.shape[-1] - 1
        out = self.jacobian @ (self.jacobian.mT @ V).mul_(1 / self.jacobian.shape[-1])
        (A, b, w), (out_A, out_b, out_w) = (x.split([H * d, H, H, 1], -2)[:3] for x in (V, out))
        inner = torch.cat([A.unflatten(-2, (H, d)), b[..., None, :]], -2)  # (..., H, d + 1, k)
        more = self.own @ inner + self.mixed[..., None] * w[..., None, :]
        out_A += more[..., :-1, :].flatten(-3, -2)
        out_b += more[..., -1, :]
        out_w += (self.mixed[..., None] * inner).sum(-2)
        return out

    @property
    def bound(self) -> Float[Tensor, "*b"]:
        """No entry of ∇²L is larger; NaN where one is."""
        one, two, three = (
            torch.maximum(x.flatten(start).amax(-1), -x.flatten(start).amin(-1))
            for x, start in ((self.jacobian, -2), (self.own, -3), (self.mixed, -2))
        )
        return one.square() + torch.maximum(two, three)

    def __getitem__(self, members: Tensor) -> HessianParts:
        """Those of some members."""
        parts = (self.gradient, self.jacobian, self.own, self.mixed)
        return HessianParts(*(part[members] for part in parts))


@dataclass(frozen=True)
class ThreeLayer:
    """The loss L(θ) = (1/2n) Σ_i (f(x_i; θ) − y_i)² of networks f(x) = w·φ(Ax + b) + c.

    The parameters are flat, θ = (A, b, w, c) with A row by row, p = H (d + 2) + 1 of them: the
    order of ``Sequential(Linear(d, H), φ, Linear(H, 1))``. Leading dimensions of θ are members.
    Calling it gives L by operations that autograd differentiates as often as it likes; gradient
    and Hessian in closed form are methods.

    Attributes
    ----------
    x : Tensor (n, d)
        Inputs, float32 or float64.
    y : Tensor (n,)
        Targets, dtype and device of x.
    width : int
        Number H of hidden neurons.
    activation : callable
        φ, elementwise; it may work in place. Autograd finds φ' and φ''; where φ'' vanishes almost
        everywhere, as for ReLU, it is zero.

    Raises
    ------
    TypeError, ValueError
        If the data are of the wrong kind or shape or not finite, or φ does not act elementwise.
    """

    x: Tensor
    y: Tensor
    width: int
    activation: Map = field(default_factory=lambda: torch.tanh)

    def __post_init__(self):
        states("x", self.x), states("y", self.y), whole("width", self.width)
        if self.x.ndim != 2 or self.y.shape != self.x.shape[:1]:
            raise ValueError(
                f"x must have shape (n, d) and y (n,), got {tuple(self.x.shape)} and "
                f"{tuple(self.y.shape)}; inputs of one dimension are x[:, None]"
            )
        if self.y.dtype != self.x.dtype or self.y.device != self.x.device:
            raise TypeError(f"y must be {self.x.dtype} on {self.x.device} as x is; use y.to(x)")
        can_be_called("activation", self.activation)
        z = torch.linspace(-3, 3, 64).view(4, 4, 4).to(self.x)
        values = self.activation(z.clone())
        alone = torch.stack([self.activation(one.clone()) for one in z.view(64, 1, 1, 1)])
        if values.shape != z.shape or not torch.allclose(
            values, alone.reshape(-1)[:64].view_as(z), equal_nan=True
        ):
            raise ValueError(
                "activation must act on each number by itself, as torch.tanh does; it turns "
                f"shape (4, 4, 4) into {tuple(values.shape)}, mixes its inputs or is random "
                "(Dropout: use eval())"
            )

    @property
    def size(self) -> int:
        """Number p of parameters."""
        return self.width * (self.x.shape[1] + 2) + 1

    def pack(
        self,
        A: Float[Tensor, "*b H d"],
        b: Float[Tensor, "*b H"],
        w: Float[Tensor, "*b H"],
        c: Float[Tensor, "*b"],
    ) -> Float[Tensor, "*b p"]:
        """θ of these weights and biases."""
        theta = torch.cat([A.flatten(-2), b, w, c[..., None]], -1)
        self.unpack(theta)
        return theta

    def unpack(
        self, theta: Float[Tensor, "*b p"]
    ) -> tuple[
        Float[Tensor, "*b H d"], Float[Tensor, "*b H"], Float[Tensor, "*b H"], Float[Tensor, "*b"]
    ]:
        """A, b, w and c, as views of θ.

        Raises
        ------
        TypeError, ValueError
            If θ has another dtype than the data, or not p entries.
        """
        if not isinstance(theta, Tensor) or theta.dtype != self.x.dtype:
            raise TypeError(f"theta must be a {self.x.dtype} tensor as x is, got {kind(theta)}")
        H, d = self.width, self.x.shape[1]
        if theta.ndim == 0 or theta.shape[-1] != self.size:
            raise ValueError(
                f"theta must have shape (..., {self.size}) for {H} neurons and {d} inputs, got "
                f"{tuple(theta.shape)}"
            )
        A, b, w, c = theta.split([H * d, H, H, 1], -1)
        return A.unflatten(-1, (H, d)), b, w, c[..., 0]

    def predict(
        self, theta: Float[Tensor, "*b p"], x: Float[Tensor, "m d"] | None = None
    ) -> Float[Tensor, "*b m"]:
        """f(x; θ) at other inputs, or at those of the data."""
        A, b, w, c = self.unpack(theta)
        x = self.x if x is None else x
        hidden = self.activation(A @ x.mT + b[..., None])
        return (w[..., None, :] @ hidden)[..., 0, :] + c[..., None]

    def __call__(self, theta: Float[Tensor, "*b p"]) -> Float[Tensor, "*b"]:
        """L(θ)."""
        return (self.predict(theta) - self.y).square().mean(-1) / 2

    @torch.no_grad()
    def gradient(self, theta: Float[Tensor, "*b p"]) -> Float[Tensor, "*b p"]:
        """∇L = (1/n) Σ r g, with the residual r = f − y and g = ∇f."""
        if self.activation is torch.tanh:
            return self._tanh_gradient(theta)
        w, r, value, slope, _ = self._forward(theta, order=1)
        inner = (r * w[..., None] * slope) @ self._augmented  # by A and by b, (..., H, d + 1)
        outer = (value * r).sum(-1)
        return torch.cat([inner[..., :-1].flatten(-2), inner[..., -1], outer, r.sum(-1)], -1)

    @torch.no_grad()
    def hessian(self, theta: Float[Tensor, "*b p"]) -> Float[Tensor, "*b p p"]:
        """∇²L = (1/n) Σ [g gᵀ + r ∇²f] :cite:p:`sharafi2024`.

        With x̃ = (x, 1): ∂f/∂(A_h, b_h) = w_h φ'_h x̃, ∂f/∂w_h = φ_h and ∂f/∂c = 1. So ∇²f is zero
        but for w_h φ''_h x̃x̃ᵀ between (A_h, b_h) and itself, and φ'_h x̃ between (A_h, b_h) and w_h.
        """
        return self.derivatives(theta)[1]

    @torch.no_grad()
    def derivatives(
        self, theta: Float[Tensor, "*b p"]
    ) -> tuple[Float[Tensor, "*b p"], Float[Tensor, "*b p p"]]:
        """Gradient and Hessian, what they have in common computed once."""
        parts = self.hessian_parts(theta)
        G, own, mixed = parts.jacobian, parts.own.flatten(-3), parts.mixed.flatten(-2)
        H = (G @ G.mT).mul_(1 / len(self.y)).flatten(-2)
        H.index_add_(-1, self._places, torch.cat([own, mixed, mixed], -1))
        return parts.gradient, H.unflatten(-1, (self.size, self.size))

    @torch.no_grad()
    def hessian_parts(self, theta: Float[Tensor, "*b p"]) -> HessianParts:
        """∇L, and ∇²L as what its products with a few vectors need, without its p² entries."""
        w, r, value, slope, curvature = self._forward(theta, order=2)
        back = w[..., None] * slope  # ∂f/∂b_h at all inputs, (..., H, n)
        inner = (back[..., None, :] * self.x.mT).flatten(-3, -2)
        G = torch.cat([inner, back, value, torch.ones_like(r)], -2)  # ∇f, (..., p, n)
        d = self.x.shape[1]
        own = (r * w[..., None] * curvature) @ self._products  # (..., H, (d + 1)²)
        mixed = (r * slope) @ self._augmented  # (..., H, d + 1)
        return HessianParts((G @ r.mT)[..., 0], G, own.unflatten(-1, (d + 1, d + 1)), mixed)

    def descent(self, lr: float | Tensor) -> Map:
        """The step θ ↦ θ − η∇L, whose tangent I − η∇²L is not searched for but told.

        It is the map of ``gradient_descent(self, lr)`` at a fraction of the cost for all that needs
        tangents: spectra, covariant vectors. It can be differentiated once, by a reverse sweep, and
        not by jvp, jacrev or inside vmap.

        Parameters
        ----------
        lr : float or Tensor
            Learning rate η > 0, one for all or one for each member, as a column (M, 1). One for
            each parameter, which ``gradient_descent`` takes too, is refused.

        Raises
        ------
        TypeError, ValueError
            If lr is no positive, finite number or column; at a step, if it does not fit θ.
        """
        lr = members_rate(lr)
        return lambda theta: theta - fitting("lr", lr, theta) * _Gradient.apply(theta, self)

    def _forward(self, theta: Tensor, order: int) -> tuple[Tensor, ...]:
        """w, r/n (..., 1, n), and φ, φ', φ'' at all neurons and inputs (..., H, n)."""
        A, b, w, c = self.unpack(theta)
        jet = _jet(self.activation, A.contiguous() @ self.x.mT + b[..., None], order)
        f = (w[..., None] * jet[0]).sum(-2, keepdim=True) + c[..., None, None]
        return w, (f - self.y).mul_(1 / len(self.y)), *jet

    def _tanh_gradient(self, theta: Float[Tensor, "*b p"]) -> Float[Tensor, "*b p"]:
        """The gradient for φ = tanh, in place and for as many members at a time as fit the cache.

        tanh z = E/(E + 2), E = e^{2z} − 1, has all digits of torch.tanh in a third of its time.
        """
        A, b, w, c = self.unpack(theta.reshape(-1, theta.shape[-1]))
        H, n, one = self.width, len(self.y), torch.ones_like(self.y[0])
        out = theta.new_empty(len(w), self.size)
        inputs = self._augmented.mT.contiguous()
        doubled = torch.cat([2 * A, 2 * b[..., None]], -1)
        size = len(w) if theta.is_cuda else max(1, CACHED // (H * n))
        buffers = theta.new_empty(2, min(size, len(w)), H, n)
        for first in range(0, len(w), size):
            at = slice(first, first + size)
            value, slope = buffers[:, : len(w[at])]
            torch.mm(doubled[at].flatten(0, 1), inputs, out=value.flatten(0, 1))
            value.clamp_(max=40).expm1_()  # tanh 20 is 1 to rounding
            value.div_(torch.add(value, 2, out=slope))
            r = torch.baddbmm((c[at, None] - self.y)[:, None], w[at, None], value).mul_(1 / n)
            outer = (value @ r.mT)[..., 0]
            torch.addcmul(one, value, value, value=-1, out=slope).mul_(r)
            inner = (inputs @ slope.flatten(0, 1).mT).mT.unflatten(0, (-1, H)) * w[at, :, None]
            out[at] = torch.cat([inner[..., :-1].flatten(-2), inner[..., -1], outer, r.sum(-1)], -1)
        return out.view(theta.shape)

    @cached_property
    def _augmented(self) -> Tensor:
        """x̃ = (x, 1), (n, d + 1)."""
        return torch.cat([self.x, torch.ones_like(self.x[:, :1])], 1)

    @cached_property
    def _products(self) -> Tensor:
        """x̃x̃ᵀ, (n, (d + 1)²)."""
        return (self._augmented[:, :, None] * self._augmented[:, None, :]).flatten(1)

    @cached_property
    def _places(self) -> Tensor:
        """Where ∇²f is not zero in the flat Hessian: (A_h, b_h) with itself, with w_h, and back."""
        H, d, p = self.width, self.x.shape[1], self.size
        A, b, w = torch.arange(p - 1, device=self.x.device).split([H * d, H, H])
        inner = torch.cat([A.view(H, d), b[:, None]], 1)
        own = inner[:, :, None] * p + inner[:, None, :]
        mixed, mirrored = inner * p + w[:, None], inner + w[:, None] * p
        return torch.cat([own.flatten(), mixed.flatten(), mirrored.flatten()])


class _Gradient(torch.autograd.Function):
    """∇L as a function of θ, with its derivative ∇²L."""

    @staticmethod
    def forward(ctx, theta, loss):
        if not ctx.needs_input_grad[0]:
            return loss.gradient(theta)
        gradient, hessian = loss.derivatives(theta)
        ctx.save_for_backward(theta, hessian)
        return gradient

    @staticmethod
    def backward(ctx, u):
        theta, hessian = ctx.saved_tensors
        if torch.is_grad_enabled():  # who goes on differentiates by u, as a tangent does
            hessian = _Once.apply(hessian, theta)
        return (hessian @ u[..., None])[..., 0], None


class _Once(torch.autograd.Function):
    """∇²L as a function of θ that has no derivative."""

    @staticmethod
    def forward(ctx, hessian, theta):
        return hessian.view_as(hessian)

    @staticmethod
    def backward(ctx, u):
        raise NotImplementedError(
            "the step of ThreeLayer.descent can be differentiated once; gradient_descent of the "
            "same loss makes one for more"
        )


def _jet(phi: Map, z: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
    """φ, φ' and, if order is 2, φ'' at z."""
    if phi is torch.tanh:
        growth = (2 * z).clamp_(max=40).expm1_()  # as in _tanh_gradient
        value = growth / (growth + 2)
        slope = torch.addcmul(torch.ones_like(z[:1]), value, value, value=-1)
        return value, slope, (value * slope).mul_(-2) if order > 1 else slope
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value, one = phi(z.clone()), torch.ones_like(z)
        (slope,) = torch.autograd.grad(value, z, one, create_graph=order > 1)
        curvature = None
        if slope.requires_grad:
            (curvature,) = torch.autograd.grad(slope, z, one, allow_unused=True)
    return value.detach(), slope.detach(), torch.zeros_like(z) if curvature is None else curvature


def members_rate(lr: float | Tensor) -> float | Tensor:
    """lr itself, if it is positive and finite, one for all or one for each member."""
    shape = getattr(learning_rate(lr), "shape", ())
    if shape and shape[-1] != 1:
        raise ValueError(
            f"lr must be one number or a column (M, 1), got shape {tuple(shape)}; use lr[:, None]"
        )
    return lr
