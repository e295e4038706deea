"""Two-layer ReLU networks on an interval: values, gradients, tangent kernel and training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class TrainingState:
    """A network in training, before its update number ``step``.

    Attributes
    ----------
    step : int
        Updates made so far.
    a, b : Tensor (..., n)
        Outer weights and biases.
    error : Tensor (..., N)
        h(x_j) − f(x_j).
    """

    step: int
    a: Tensor
    b: Tensor
    error: Tensor


class DivergenceError(ArithmeticError):
    """Training ran away; the message names the step and a learning rate that would do."""


def midpoints(
    n: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Float[Tensor, " n"]:
    """Midpoints of n equal cells of [−1, 1], ascending: −1 + (2i + 1)/n.

    Raises
    ------
    ValueError
        If n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return (torch.arange(n, dtype=dtype, device=device) + 0.5) * (2 / n) - 1


def relu_network(
    a: Float[Tensor, "*b n"], b: Float[Tensor, "*b n"], x: Float[Tensor, " N"]
) -> Float[Tensor, "*b N"]:
    """Values of the two-layer network h(x) = n^{-1/2} Σ_i a_i max(x − b_i, 0).

    To the right of a kink the network gains slope a_i, so that values come from two running sums,
    Σ a_i and Σ a_i b_i over b_i < x: O(N + n log N) for any batch, and autograd goes through. Both
    are taken about the middle of x, so that digits are lost to the length of the interval at most
    and not to its place.

    The convention is σ(x − b_i) with the factor n^{-1/2} customary in training;
    :func:`~dynbook.gram.relu_gram` has σ(w·x − b_i) and no factor.

    Parameters
    ----------
    a, b : Tensor (..., n)
        Outer weights and biases, broadcast together. They and x share device and dtype, and
        the result has them too.
    x : Tensor (N,)
        Points in ascending order.

    Raises
    ------
    ValueError, TypeError
        If there are no neurons or points, shapes do not broadcast, x is not ascending, devices
        or dtypes differ, or something is not finite, be it only the result.
    """
    a, b, _ = _network(a, b, x)
    return _within_range(_values(a, b, x, _first_to_the_right(b, x)))


def relu_network_gradients(
    a: Float[Tensor, "*b n"],
    b: Float[Tensor, "*b n"],
    x: Float[Tensor, " N"],
    residual: Float[Tensor, "*b N"],
) -> tuple[Float[Tensor, "*b n"], Float[Tensor, "*b n"]]:
    """Gradients of Σ_j r_j h(x_j) with respect to outer weights and biases, in O(N + n log N).

    ∂/∂a_i = n^{-1/2} Σ_{x_j > b_i} r_j (x_j − b_i) and ∂/∂b_i = −n^{-1/2} a_i Σ_{x_j > b_i} r_j.

    Parameters
    ----------
    a, b, x
        As in :func:`relu_network`.
    residual : Tensor (..., N)
        The r_j; for a loss L they are ∂L/∂h(x_j).

    Raises
    ------
    ValueError, TypeError
        As :func:`relu_network`, and if residual does not match x.
    """
    a, b, residual = _network(a, b, x, residual=residual)
    gradient_a, gradient_b = _gradients(a, b, x, residual, _first_to_the_right(b, x))
    return _within_range(gradient_a), _within_range(gradient_b)


def tangent_kernel(
    a: Float[Tensor, "*b n"],
    b: Float[Tensor, "*b n"],
    x: Float[Tensor, " N"],
    *,
    train_biases: bool = True,
) -> Float[Tensor, "*b N N"]:
    """Tangent kernel K(x, y) = n^{-1} Σ_i [σ(x − b_i) σ(y − b_i) + a_i² 1{x > b_i} 1{y > b_i}].

    The first term comes from training the outer weights, the second from training the biases.
    Dense, O(n N²): it is the one function here that does not go by running sums.

    Parameters
    ----------
    a, b, x
        As in :func:`relu_network`.
    train_biases : bool
        Whether the second term is there.

    Raises
    ------
    ValueError, TypeError
        As :func:`relu_network`.
    """
    a, b, _ = _network(a, b, x)
    distance = x[:, None] - b[..., None, :]
    features = distance.relu()
    if train_biases:
        features = torch.cat([features, a[..., None, :] * (distance > 0)], -1)
    return _within_range(features @ features.mT / a.shape[-1])


def train(
    a: Float[Tensor, "*b n"],
    b: Float[Tensor, "*b n"],
    x: Float[Tensor, " N"],
    target: Float[Tensor, "*b N"],
    *,
    lr: float | Float[Tensor, "*b"],
    steps: int,
    method: str = "gd",
    train_biases: bool = True,
) -> Iterator[TrainingState]:
    """Full-batch training of two-layer ReLU networks, one state at a time.

    The loss is ½ ‖h − f‖² = N^{-1} Σ_j (h(x_j) − f(x_j))², the midpoint rule for half the squared
    L²(−1, 1) norm. Networks along the leading dimensions are trained side by side and do not
    see each other.

    Parameters
    ----------
    a, b, x
        Start and points, as in :func:`relu_network`; not modified, and no gradient flows back to
        them through the updates.
    target : Tensor (..., N)
        Values f(x_j), broadcast with a and b.
    lr : float or Tensor (...)
        Learning rate, one for all or one for each network.
    steps : int
        Number of updates; steps + 1 states are yielded, the start first.
    method : "gd" or "adam"
        Gradient descent, or Adam :cite:p:`kingma2015` with β = (0.9, 0.999) and ε = 1e-8.
    train_biases : bool
        Whether b moves too.

    Yields
    ------
    TrainingState
        Step number, parameters and error. No state is overwritten later.

    Raises
    ------
    ValueError, TypeError
        As :func:`relu_network`; if target has values that are not finite, lr is not positive,
        or method is unknown.
    DivergenceError
        If the error stops being finite or, under gradient descent, the loss exceeds 1000 times
        its start.
    """
    a, b, target = _network(a, b, x, target=target)
    a, b, x, target = (value.detach() for value in (a, b, x, target))
    lr = torch.as_tensor(lr, dtype=x.dtype, device=x.device).detach()
    if not (torch.isfinite(lr) & (lr > 0)).all():
        raise ValueError(f"lr must be positive and finite, got {lr.min():.4g}")
    if lr.ndim and (lr.ndim > a.ndim - 1 or lr.shape != a.shape[:-1][-lr.ndim :]):
        raise ValueError(
            f"lr must be one number or match the batch {tuple(a.shape[:-1])}; got {tuple(lr.shape)}"
        )
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")
    rules = {"gd": _GradientDescent, "adam": _Adam}
    if method not in rules:
        raise ValueError(f"method must be one of {', '.join(rules)}; got {method!r}")
    return _train(a, b, x, target, rules[method], lr[..., None], steps, train_biases)


def _train(a, b, x, target, rule, lr, steps, train_biases):
    update_a, update_b = rule(lr), rule(lr)
    first = _first_to_the_right(b, x)
    start = _within_range((_values(a, b, x, first) - target).square().mean(-1))
    bound, remedy = torch.finfo(x.dtype).max, lambda: "take a smaller lr"
    if rule is _GradientDescent:
        bound, remedy = 1000 * start, partial(_stable_rate, a, b, x, train_biases)
    for step in range(steps + 1):
        error = _values(a, b, x, first) - target
        loss = error.square().mean(-1)
        if not (loss.isfinite() & (loss <= bound)).all():
            raise DivergenceError(
                f"training diverged at step {step} with lr up to {lr.max():.4g}: the loss is "
                f"{loss.max():.3g}; {remedy()}"
            )
        yield TrainingState(step, a, b, error)
        if step == steps:
            return
        gradient_a, gradient_b = _gradients(a, b, x, error * (2 / x.numel()), first)
        a = a - update_a(gradient_a)
        if train_biases:
            b = b - update_b(gradient_b)
            first = _first_to_the_right(b, x)


def _stable_rate(a, b, x, train_biases):
    kernel = tangent_kernel(a, b, x, train_biases=train_biases)
    top = torch.linalg.eigvalsh(kernel * (2 / x.numel()))[..., -1].max()
    return (
        f"gradient descent needs lr below 2/λ₁ = {2 / top:.4g}, λ₁ the largest eigenvalue of the "
        "tangent kernel at the start"
    )


class _GradientDescent:
    def __init__(self, lr):
        self.lr = lr

    def __call__(self, gradient):
        return self.lr * gradient


class _Adam:
    def __init__(self, lr, beta1=0.9, beta2=0.999, eps=1e-8):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.mean = self.square = 0.0
        self.count = 0

    def __call__(self, gradient):
        self.count += 1
        self.mean = self.beta1 * self.mean + (1 - self.beta1) * gradient
        self.square = self.beta2 * self.square + (1 - self.beta2) * gradient * gradient
        mean = self.mean / (1 - self.beta1**self.count)
        square = self.square / (1 - self.beta2**self.count)
        return self.lr * mean / (square.sqrt() + self.eps)


def _first_to_the_right(b, x):
    """Index of the first point beyond each kink, N if there is none."""
    return torch.searchsorted(x, b.contiguous(), right=True)


def _about_the_middle(b, x):
    middle = x[0] / 2 + x[-1] / 2
    return b - middle, x - middle


def _values(a, b, x, first):
    b, x = _about_the_middle(b, x)
    nothing = a.new_zeros(*a.shape[:-1], x.numel() + 1)
    slope = nothing.scatter_add(-1, first, a)[..., :-1].cumsum(-1)
    offset = nothing.scatter_add(-1, first, a * b)[..., :-1].cumsum(-1)
    return (slope * x - offset) / math.sqrt(a.shape[-1])


def _gradients(a, b, x, residual, first):
    b, x = _about_the_middle(b, x)

    def beyond(r):
        return pad(r, (0, 1)).flip(-1).cumsum(-1).flip(-1).gather(-1, first)

    mass, moment = beyond(residual), beyond(residual * x)
    scale = 1 / math.sqrt(a.shape[-1])
    return scale * (moment - b * mass), -scale * a * mass


def _within_range(result):
    if not result.isfinite().all():
        raise ValueError(
            f"a, b, x and what is given on x are finite, but too large for {result.dtype}: the "
            "result overflows; scale them down"
        )
    return result


def _network(a, b, x, **on_points):
    """Checked and broadcast a, b and, if given, one array of values on the points."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a tensor of floating point, got {got}")
    for name, value in {"a": a, "b": b, **on_points}.items():
        if not isinstance(value, Tensor) or value.dtype != x.dtype or value.device != x.device:
            is_one = isinstance(value, Tensor)
            got = f"{value.dtype} on {value.device}" if is_one else type(value).__name__
            raise TypeError(
                f"{name} must be a tensor of the dtype and device of x ({x.dtype} on {x.device}), "
                f"got {got}; "
                + (f"move it with {name}.to(x)" if is_one else f"x.new_tensor({name}) makes one")
            )
    if x.ndim != 1 or x.numel() == 0 or not (x[1:] >= x[:-1]).all():
        raise ValueError(
            "x must be a non-empty vector of points in ascending order, "
            f"got shape {tuple(x.shape)}; x.sort().values orders them"
        )
    if 0 in (a.shape[-1:] or (0,)) or 0 in (b.shape[-1:] or (0,)):
        raise ValueError(
            f"a and b must have shape (..., n) with n ≥ 1 neurons; "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    for name, value in {"a": a, "b": b, "x": x, **on_points}.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    name, values = next(iter(on_points.items()), ("x", x))
    if values.shape[-1:] != x.shape:
        raise ValueError(
            f"{name} must hold one value per point, shape (..., {x.numel()}); "
            f"got {tuple(values.shape)}"
        )
    try:
        batch = torch.broadcast_shapes(a.shape[:-1], b.shape[:-1], values.shape[:-1])
        n = torch.broadcast_shapes(a.shape[-1:], b.shape[-1:])
    except RuntimeError:
        shapes = {"a": tuple(a.shape), "b": tuple(b.shape), name: tuple(values.shape)}
        raise ValueError(f"a, b and {name} must broadcast together, got {shapes}") from None
    return a.expand(*batch, *n), b.expand(*batch, *n), values.expand(*batch, *x.shape)
