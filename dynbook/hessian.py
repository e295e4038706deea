"""The Hessian of any loss by its products with vectors: sharpness, dense matrix, spectral density.

A loss takes parameters (..., p) to one number for each of the leading dimensions, an ensemble whose
members do not see each other; ``torch.vmap(loss)`` makes such a loss of one for a single (p,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import kind, whole
from dynbook.lanczos import Matvec, finite_products, krylov, member, normal, top_eigenpairs
from dynbook.maps import can_be_called, states
from dynbook.orthonormal import all_finite

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue of a Hessian.

    Attributes
    ----------
    value : Tensor (...)
        h_max.
    vector : Tensor (..., p)
        Its eigenvector, of length 1 and either sign: the ``start`` for a Hessian near by.
    residual : Tensor (...)
        ‖H v − h_max v‖; some eigenvalue lies that close to the value.
    """

    value: Tensor
    vector: Tensor
    residual: Tensor


@dataclass(frozen=True)
class SpectralDensity:
    """Eigenvalues of a p × p matrix as seen by n random vectors, by m ≤ p nodes each.

    Attributes
    ----------
    nodes, weights : Tensor (..., n, m)
        The quadrature of each vector; its weights add up to 1.
    dim : int
        p.
    """

    nodes: Tensor
    weights: Tensor
    dim: int

    def __call__(self, x: Float[Tensor, " N"], width: float) -> Float[Tensor, "*b N"]:
        """Density at the points x, each node drawn as a Gaussian of that standard deviation.

        It integrates to 1; times p it counts eigenvalues.

        Raises
        ------
        ValueError
            If the width is not positive and finite.
        """
        if not (isinstance(width, Real) and 0 < width < math.inf):
            raise ValueError(f"width must be positive and finite, got {width!r:.40}")
        z = (x[:, None, None] - self.nodes[..., None, :, :]) / width
        bell = (-z.square() / 2).exp() / (width * math.sqrt(2 * math.pi))
        return (bell * self.weights[..., None, :, :]).sum(-1).mean(-1)

    def moment(self, order: int) -> tuple[Tensor, Tensor]:
        """Estimate of tr Hʳ / p, r = order < 2 m, and its standard error, each of shape (...).

        For one vector v the quadrature is exact, vᵀHʳv; only the mean over vectors is random. Of
        a single vector the error is not known, and infinite.
        """
        order = whole("order", order, most=2 * self.nodes.shape[-1] - 1, least=0)
        each = (self.weights * self.nodes**order).sum(-1)
        n = each.shape[-1]
        error = each.std(-1) / math.sqrt(n) if n > 1 else torch.full_like(each[..., 0], math.inf)
        return each.mean(-1), error


def hvp(
    loss: Loss, theta: Float[Tensor, "*b p"], v: Float[Tensor, "*b p"] | Float[Tensor, "*b p k"]
) -> Float[Tensor, "*b p"] | Float[Tensor, "*b p k"]:
    """Hessian–vector product H(θ) v, or H(θ) V for k columns at once, without the Hessian.

    H v is the gradient of v·∇L(θ), two reverse sweeps: the work of some five evaluations of the
    loss, whatever p.

    Parameters
    ----------
    loss : callable
        L from (…, p) to (…), twice differentiable by autograd almost everywhere.
    theta : Tensor (…, p)
        Parameters, float32 or float64.
    v : Tensor (…, p) or (…, p, k)
        Vectors; dtype and device of theta.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or shape, if the loss mixes members or is not
        differentiable, or if its gradient or H v is not finite (the member is named).
    """
    product = hessian_operator(loss, theta)
    if not isinstance(v, Tensor) or v.dtype != theta.dtype or v.device != theta.device:
        raise TypeError(f"v must be {theta.dtype} on {theta.device} as theta is, got {kind(v)}")
    v = states("v", v)
    if v.shape == theta.shape:
        return _finite(product(v[..., None]))[..., 0]
    if v.shape[:-1] != theta.shape:
        shape = ", ".join(map(str, theta.shape))
        raise ValueError(f"v must have shape ({shape}) or ({shape}, k), got {tuple(v.shape)}")
    return _finite(product(v))


def hessian_operator(loss: Loss, theta: Float[Tensor, "*b p"]) -> Matvec:
    """V (…, p, k) ↦ H(θ) V as a function: the gradient is computed once, each product is one sweep.

    It keeps the graph of the gradient alive as long as it lives itself. Arguments and errors are
    those of :func:`hvp`.
    """
    with torch.enable_grad():
        x = states("theta", theta).clone().requires_grad_()
        value = can_be_called("loss", loss)(x)
        if not isinstance(value, Tensor) or value.shape != x.shape[:-1]:
            came = tuple(value.shape) if isinstance(value, Tensor) else kind(value)
            raise ValueError(
                f"loss must take theta {tuple(x.shape)} to one number for each member, shape "
                f"{tuple(x.shape[:-1])}, got {came}; torch.vmap(loss) serves ensembles if loss "
                "serves one theta (p,)"
            )
        _refuse_mixing(loss, x, value)
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError(
            "loss must be differentiable, but autograd sees no dependence on theta: is there "
            "no_grad, detach or NumPy in it?"
        )
    bad = ~gradient.isfinite().all(-1)
    if bad.any():
        where = member(bad, bad.int().argmax())
        raise ValueError(f"loss must have a finite gradient, but it has not{where}")

    def product(V: Tensor) -> Tensor:
        if not gradient.requires_grad:  # a linear loss
            return torch.zeros_like(V)
        one = V.shape[-1] == 1
        along = V[..., 0] if one else V.movedim(-1, 0)
        (image,) = torch.autograd.grad(
            gradient, x, along, retain_graph=True, is_grads_batched=not one, allow_unused=True
        )
        if image is None:
            return torch.zeros_like(V)
        return image[..., None] if one else image.movedim(0, -1)

    return product


def _refuse_mixing(loss: Loss, x: Tensor, value: Tensor) -> None:
    """Halves all members but the first, whose loss should not notice."""
    if value.numel() < 2:
        return
    first = (0,) * value.ndim
    halved = x.detach() / 2
    halved[first] = x.detach()[first]
    before, after = value[first].detach(), loss(halved.requires_grad_())[first].detach()
    eps = torch.finfo(x.dtype).eps
    if not torch.isclose(after, before, rtol=math.sqrt(eps), atol=eps, equal_nan=True):
        raise ValueError(
            "loss must not mix members, but where the others are halved that of the first goes "
            f"from {before.item():.6g} to {after.item():.6g}; torch.vmap(loss) keeps them apart"
        )


def _finite(product: Tensor) -> Tensor:
    """H V itself; a ValueError that names the member where it is not finite."""
    if not all_finite(product):
        bad = ~product.isfinite().all(-1).all(-1)
        where = member(bad, bad.int().argmax())
        raise ValueError(f"loss must have a finite Hessian, but a product with it is not{where}")
    return product


def hessian(
    loss: Loss, theta: Float[Tensor, "*b p"], chunk: int | None = None
) -> Float[Tensor, "*b p p"]:
    """The dense Hessian, symmetric to the bit, by products with the columns of the identity.

    Parameters
    ----------
    loss, theta
        As for :func:`hvp`.
    chunk : int, optional
        Columns at once: beyond the result, memory for so many gradients is needed. About 64 over
        the number of members if not given.

    Raises
    ------
    TypeError, ValueError
        As for :func:`hvp`.
    """
    product, p = hessian_operator(loss, theta), theta.shape[-1]
    chunk = max(64 * p // theta.numel(), 1) if chunk is None else whole("chunk", chunk)
    H = theta.new_empty(*theta.shape, p)
    for first in range(0, p, chunk):
        columns = range(first, min(first + chunk, p))
        V = theta.new_zeros(p, len(columns))
        V[columns, range(len(columns))] = 1
        H[..., first : first + chunk] = product(V.expand(*theta.shape, -1))
    _finite(H)
    return (H + H.mT) / 2


def sharpness(
    loss: Loss,
    theta: Float[Tensor, "*b p"],
    *,
    start: Float[Tensor, "*b p"] | None = None,
    tol: float | None = None,
    max_steps: int = 100,
    generator: torch.Generator | None = None,
) -> Sharpness:
    """The largest eigenvalue of the Hessian, for every member of an ensemble at once.

    Along a training, ``top = sharpness(loss, theta, start=top.vector)`` begins where the last one
    ended. With a tolerance of 1e-3, which is 1e-6 in the value, that saves a third of the products.

    Parameters
    ----------
    loss, theta
        As for :func:`hvp`.
    start : Tensor (…, p), optional
        An approximate eigenvector.
    tol, max_steps, generator
        As for :func:`~dynbook.lanczos.top_eigenpairs`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`hvp` and :func:`~dynbook.lanczos.top_eigenpairs`.

    Warns
    -----
    ConvergenceWarning
        If the residual is above the tolerance after max_steps products.
    """
    product = hessian_operator(loss, theta)
    if start is not None and states("start", start).shape != theta.shape:
        raise ValueError(
            f"start must have the shape of theta, {tuple(theta.shape)}, got {tuple(start.shape)}"
        )
    pairs = top_eigenpairs(
        product,
        theta.shape[-1],
        start=None if start is None else start.to(theta)[..., None],
        batch=theta.shape[:-1],
        dtype=theta.dtype,
        device=theta.device,
        tol=tol,
        max_steps=max_steps,
        generator=generator,
    )
    return Sharpness(pairs.values[..., 0], pairs.vectors[..., 0], pairs.residuals[..., 0])


@torch.no_grad()
def spectral_density(
    loss: Loss,
    theta: Float[Tensor, "*b p"],
    *,
    probes: int = 8,
    steps: int = 40,
    generator: torch.Generator | None = None,
) -> SpectralDensity:
    """The distribution of all eigenvalues, by stochastic Lanczos quadrature :cite:p:`ghorbani2019`.

    For a random unit vector v the mean of Σ_i (v·u_i)² f(h_i) is tr f(H)/p; m steps of Lanczos
    from v give its Gauss quadrature with m nodes. Outliers are found to many digits, the bulk as
    seen through a window of the range over m.

    Parameters
    ----------
    loss, theta
        As for :func:`hvp`.
    probes, steps : int
        Number of vectors n and of products with each, which give m = min(steps, p) nodes; all n
        advance together.
    generator : torch.Generator, optional
        CPU generator of the vectors, the same for all members; seeded with 0 if not given.

    Raises
    ------
    TypeError, ValueError
        As for :func:`hvp`; or if a product is not finite.
    """
    product, p = hessian_operator(loss, theta), theta.shape[-1]
    probes, steps = whole("probes", probes), whole("steps", steps)
    noise = normal(2 * probes, p, generator).to(theta)
    first, noise = noise.expand(*theta.shape[:-1], 2 * probes, p)[..., None, :].chunk(2, -3)

    def each(V: Tensor) -> Tensor:  # one column for each vector, (…, n, p, 1)
        return product(V[..., 0].mT).mT[..., None]

    *_, (_, _, T, unit) = islice(krylov(each, first, noise), steps)
    finite_products(T, 1)
    nodes, S = torch.linalg.eigh(T)
    return SpectralDensity(nodes * unit[..., None], S[..., 0, :].square(), p)
