"""Networks as chains of affine maps, many of them side by side, with gradients by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dynbook.domains import cpu_generator, kind, whole
from dynbook.maps import at_rest, can_be_called

Activation = Callable[[Tensor], Tensor]
_back = torch.ops.aten
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_SLOPES = {  # σ, in place where σ' is a function of σ; and what g becomes before σ, in place
    torch.relu: (
        torch.relu_,
        lambda g, z, s: _back.threshold_backward.grad_input(g, s, 0, grad_input=g),
    ),
    torch.tanh: (torch.tanh_, lambda g, z, s: _back.tanh_backward.grad_input(g, s, grad_input=g)),
    torch.sin: (torch.sin, lambda g, z, s: z.cos_().mul_(g)),
}
_KNOWN = {  # under other names
    torch.relu: (torch.relu_, Tensor.relu, nn.functional.relu, nn.ReLU),
    torch.tanh: (torch.tanh_, Tensor.tanh, nn.functional.tanh, nn.Tanh),
    torch.sin: (torch.sin_, Tensor.sin),
}


@dataclass(frozen=True, eq=False)
class Held:
    """The maps of a network at parameters that may change in place, and memory for their gradient.

    :meth:`Chain.hold` makes it, for trainings that call :meth:`Chain.loss_and_gradients` often.
    Trained maps are views of ``theta``, the others the network's buffers as they were then;
    ``slopes`` are views of ``gradient``, which such a call fills.
    """

    network: Chain
    theta: Tensor
    maps: list[tuple[Tensor, Tensor]]
    gradient: Tensor
    slopes: list[tuple[Tensor, Tensor]]


class Chain(nn.Module):
    """Affine maps one after the other, some of them activated, some of them trained.

    All trained numbers stand in one vector ``theta``, all M members of an ensemble in one matrix
    (M, p): for each trained map its weights row by row, and then its biases. The maps that are not
    trained are buffers. :class:`~dynbook.mmnn.MMNN` and :class:`~dynbook.mmnn.FullyConnected` are
    chains.
    """

    theta: Tensor

    def __init__(
        self,
        draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]],
        trained: list[bool],
        active: list[bool],
        skips: set[int],
        activation: Activation,
        members: int | None,
        generator: torch.Generator,
        dtype: torch.dtype,
        device: torch.device | str | None,
    ):
        super().__init__()
        activation = _activation(activation)
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype!r:.40}")
        self.members = None if members is None else whole("members", members)
        self.activation, self.active, self.trained, self.skips = activation, active, trained, skips
        seeds = [
            torch.randint(2**62, (), generator=cpu_generator(generator)).item()
            for _ in range(self.members or 1)
        ]
        streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        like = {"dtype": dtype, "device": device}
        self.shapes, theta = [], []
        for i, moves in enumerate(trained):
            pairs = [draw(i, stream) for stream in streams]
            w, b = (torch.stack(parts).to(**like) for parts in zip(*pairs, strict=True))
            self.shapes.append(tuple(w.shape[1:]))
            if moves:
                theta += [w.flatten(1), b]
            else:
                self.register_buffer(f"weight_{i}", w if self.members else w[0])
                self.register_buffer(f"bias_{i}", b if self.members else b[0])
        theta = torch.cat(theta, -1)
        self.theta = nn.Parameter(theta if self.members else theta[0])
        _entry_by_entry(activation, theta.detach())

    def maps(self, theta: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Weights (..., m, n) and biases (..., m) of all maps; those trained are views of theta.

        Raises
        ------
        TypeError, ValueError
            If theta is no tensor (..., p) of the network's dtype; or, where maps are not trained
            and each of M members has its own, not (..., M, p).
        """
        theta = self.theta if theta is None else theta
        if not isinstance(theta, Tensor) or theta.dtype != self.theta.dtype:
            raise TypeError(f"theta must be a {self.theta.dtype} tensor, got {kind(theta)}")
        needed = self.theta.shape[-1:] if all(self.trained) else self.theta.shape
        if theta.shape[-len(needed) :] != needed:
            raise ValueError(
                f"theta must have shape (..., {', '.join(map(str, needed))}), the trained numbers "
                f"of this {type(self).__name__}, got {tuple(theta.shape)}"
            )
        sizes = [k for (m, n), t in zip(self.shapes, self.trained, strict=True) if t
                 for k in (m * n, m)]  # fmt: skip
        parts, found = iter(theta.split(sizes, -1)), []
        for i, (shape, moves) in enumerate(zip(self.shapes, self.trained, strict=True)):
            if moves:
                found.append((next(parts).unflatten(-1, shape), next(parts)))
            else:
                found.append((getattr(self, f"weight_{i}"), getattr(self, f"bias_{i}")))
        return found

    def forward(
        self, x: Float[Tensor, "*b d"], theta: Float[Tensor, "*m p"] | None = None
    ) -> Float[Tensor, "*m *b out"]:
        """Outputs at the points x, for parameters theta other than its own if they are given.

        First come the leading dimensions of theta (states of a training, members), then those of x,
        which are the same points for all of them.

        Raises
        ------
        TypeError, ValueError
            If x is no tensor (..., d) of the network's dtype, or theta as for :meth:`maps`.
        """
        return self._through(x, theta, len(self.shapes))

    def _through(self, x: Tensor, theta: Tensor | None, count: int) -> Tensor:
        """The outputs of the first maps, in pieces that fit into the memory."""
        x = self._points(x)
        theta = self.theta if theta is None else theta
        maps, pieces = self.maps(theta)[:count], self._pieces(x.reshape(-1, x.shape[-1]), theta)
        done = torch.cat([self._tape(piece, maps)[-1] for piece in pieces], -2)
        return done.view(*done.shape[:-2], *x.shape[:-1], done.shape[-1])

    def _tape(self, x: Tensor, maps: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """x and the outputs of all maps, (..., N, m)."""
        states = [x]
        for i, (w, b) in enumerate(maps):
            x = product(states[-1], w.mT) + b[..., None, :]
            x = x + states[i - 1] if i in self.skips else x
            states.append(self.activation(x) if self.active[i] else x)
        return states

    def hold(self, theta: Float[Tensor, "*m p"]) -> Held:
        """The maps at theta, and memory for a gradient, that many steps can use again.

        Raises
        ------
        TypeError, ValueError
            As :meth:`maps`.
        """
        maps = self.maps(theta)  # refuses what is no theta
        gradient = torch.empty_like(theta, memory_format=torch.contiguous_format)
        pairs = maps, self.maps(gradient)
        if theta.shape[:-1].numel() == 1:  # products of matrices are faster than batches of one
            pairs = ([(w.view(w.shape[-2:]), b.view(-1)) for w, b in some] for some in pairs)
        maps, slopes = pairs
        return Held(self, theta, maps, gradient, slopes)

    def loss_and_gradients(
        self,
        x: Float[Tensor, "N d"],
        y: Float[Tensor, "N out"],
        theta: Float[Tensor, "*m p"] | Held | None = None,
    ) -> tuple[Float[Tensor, "*m"], Float[Tensor, "*m p"]]:
        """Mean square error over points and outputs, and its derivatives by theta.

        By hand for ReLU, tanh and sine (as functions of torch, or its modules): nothing is
        recorded, and the products of matrices are taken in the order that is fastest; for one
        member on the CPU, those of float32 by oneDNN where they are large. Other activations are
        left to autograd. So many points are taken at a time, 64 at least, as leave their hidden
        values in the cache. Of a theta that is held (:meth:`hold`) the gradient stands in its
        memory until the next call.

        Raises
        ------
        TypeError, ValueError
            If x is no tensor (N, d), N ≥ 1, or y no tensor (N, out), of the network's dtype; theta
            as for :meth:`maps`, or if another network holds it.
        """
        return self._summed(x, y, theta, slopes=True)

    def loss(
        self,
        x: Float[Tensor, "N d"],
        y: Float[Tensor, "N out"],
        theta: Float[Tensor, "*m p"] | None = None,
    ) -> Float[Tensor, "*m"]:
        """Mean square error over points and outputs, as :meth:`loss_and_gradients` finds it.

        Autograd sees nothing of it.

        Raises
        ------
        TypeError, ValueError
            As :meth:`loss_and_gradients`; or if theta requires a gradient, which would be cut.
        """
        if isinstance(theta, Tensor) and theta.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                "theta must not require a gradient, which loss does not record: give "
                "theta.detach(), or take the mean square of network(x, theta) − y"
            )
        return self._summed(x, y, theta, slopes=False)[0]

    @torch.no_grad()
    def _summed(self, x, y, theta, slopes: bool) -> tuple[Tensor, Tensor]:
        """The loss and, if wanted, its gradient, piece by piece of the points."""
        self._fitting(x, y)
        if not isinstance(theta, Held):
            theta = self.hold(self.theta.detach() if theta is None else theta)
        elif theta.network is not self:
            raise ValueError("theta must be held by this network, but another's hold made it")
        known = any(self.activation is name for name in _SLOPES)  # others may have no hash
        one = self._by_hand if known else self._by_autograd
        pieces = zip(self._pieces(x, theta.theta), self._pieces(y, theta.theta), strict=True)
        loss, gradient = one(*next(pieces), theta, y.numel(), slopes)
        for i, piece in enumerate(pieces):
            gradient = gradient if i or not slopes else gradient.clone()
            more, slope = one(*piece, theta, y.numel(), slopes)
            loss, gradient = loss + more, gradient.add_(slope) if slopes else gradient
        return loss, theta.gradient.copy_(gradient) if slopes else gradient

    def _by_hand(
        self, x: Tensor, y: Tensor, theta: Held, scale: int, slopes: bool
    ) -> tuple[Tensor, Tensor]:
        """Σ (f − y)² / scale and, if wanted, its gradient."""
        lead, maps = theta.theta.shape[:-1], theta.maps
        if lead.numel() != 1:
            x = x.expand(*lead, *x.shape)
        states, before = [x], []
        sigma, slope = _SLOPES[self.activation]
        for i, (w, b) in enumerate(maps):
            z = _affine(states[-1], w, b)
            z = z.add_(states[i - 1]) if i in self.skips else z
            before.append(z)
            states.append(sigma(z) if self.active[i] else z)
        r = states.pop().sub_(y)
        loss = (r.square().sum((-2, -1)) / scale).view(lead)
        if not slopes:
            return loss, loss
        g, skipped = r.mul_(2 / scale), None
        for i in reversed(range(len(maps))):
            if self.active[i]:
                g = slope(g, before[i], states[i + 1])
            arrived, s = g, states[i]
            if self.trained[i]:
                theta.slopes[i][0].copy_(_fast(g.mT, s))
                torch.sum(g, -2, out=theta.slopes[i][1])
            if not any(self.trained[:i]):
                break
            g = _fast(g, maps[i][0])
            g = g + skipped if i + 1 in self.skips else g
            skipped = arrived
        return loss, theta.gradient

    def _by_autograd(
        self, x: Tensor, y: Tensor, theta: Held, scale: int, slopes: bool
    ) -> tuple[Tensor, Tensor]:
        def loss(theta: Tensor) -> Tensor:
            return (self(x, theta) - y).square().sum((-2, -1)) / scale

        return by_autograd(loss, theta.theta) if slopes else (loss(theta.theta),) * 2

    def _pieces(self, x: Tensor, theta: Tensor) -> tuple[Tensor, ...]:
        """The rows of x, as many at a time as leave their hidden values in the cache."""
        room = 2**26 if x.is_cuda else 2**19
        rows = room // (max(theta[..., 0].numel(), 1) * max(m for m, _ in self.shapes))
        return x.split(max(rows, 64))

    def _points(self, x: Tensor) -> Tensor:
        """x, checked."""
        if not isinstance(x, Tensor) or x.dtype != self.theta.dtype:
            raise TypeError(f"x must be a {self.theta.dtype} tensor, got {kind(x)}; use x.to(…)")
        if x.ndim == 0 or x.shape[-1] != self.shapes[0][1]:
            raise ValueError(
                f"x must have shape (..., {self.shapes[0][1]}), points of R^{self.shapes[0][1]}, "
                f"got {tuple(x.shape)}"
            )
        return x

    def _fitting(self, x: Tensor, y: Tensor) -> None:
        """Refuses data that do not fit the network."""
        self._points(x)
        if x.ndim != 2 or len(x) == 0:
            raise ValueError(f"x must have shape (N, d), N ≥ 1, got {tuple(x.shape)}")
        if not isinstance(y, Tensor) or y.dtype != x.dtype:
            raise TypeError(f"y must be a {x.dtype} tensor as x is, got {kind(y)}")
        if y.shape != (len(x), self.shapes[-1][0]):
            raise ValueError(
                f"y must have shape ({len(x)}, {self.shapes[-1][0]}), a row for each point and a "
                f"column for each output, got {tuple(y.shape)}"
            )

    def count(self) -> int:
        """p: the trained numbers of one member."""
        return self.theta.shape[-1]

    @property
    def flops(self) -> int:
        """Floating-point operations of the products in a training step, for a point and a member.

        2 m n for the value of a map (m, n), for its gradient by the weights, if they are trained,
        and for that by its inputs, if anything before it is trained.
        """
        work = 0
        for i, (m, n) in enumerate(self.shapes):
            work += 2 * m * n * (1 + self.trained[i] + any(self.trained[:i]))
        return work


def by_autograd(
    loss: Callable[[Tensor], Tensor], theta: Float[Tensor, "*m p"]
) -> tuple[Float[Tensor, "*m"], Float[Tensor, "*m p"]]:
    """The losses at theta, and their gradients."""
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        value = loss(theta)
        (gradient,) = torch.autograd.grad(value.sum(), theta)
    return value.detach(), gradient


def _activation(activation: Activation) -> Activation:
    """The activation, under its first name if it is known, or refused."""
    if isinstance(activation, type):
        raise TypeError(
            f"activation must be a function, got the class {activation.__name__}: give "
            f"{activation.__name__}(), or torch.relu, torch.tanh, torch.sin"
        )
    for name, others in _KNOWN.items():
        if any(activation is other or type(activation) is other for other in others):
            return name
    can_be_called("activation", activation)
    if isinstance(activation, nn.Module):
        at_rest(activation)
        if next(activation.parameters(), None) is not None:
            raise ValueError(
                "activation must have no parameters, which would not be trained, got "
                f"{type(activation).__name__}"
            )
    return activation


def _entry_by_entry(activation: Activation, like: Tensor) -> None:
    """Refuses an activation that keeps no shape or dtype, draws numbers or mixes entries."""
    tried = activation(like.new_zeros(2, 3))
    if getattr(tried, "shape", None) != (2, 3) or tried.dtype != like.dtype:
        raise ValueError(
            "activation must act entry by entry and keep the dtype, but takes a (2, 3) "
            f"{like.dtype} tensor to {kind(tried)}, {tuple(getattr(tried, 'shape', ()))}"
        )
    z = torch.linspace(-2, 2, 40).to(like).view(2, 20)
    alone = [activation(one.clone().view(1, 1)).sum() for one in z.flatten()]
    if not torch.allclose(activation(z.clone()).flatten(), torch.stack(alone), 1e-3, 1e-4, True):
        raise ValueError(
            "activation must act entry by entry, and alike each time, but takes entries elsewhere "
            "when they are alone: does it draw random numbers, or take a mean?"
        )


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, transposed meanwhile if the result is narrow, which takes BLAS half the time."""
    if b.shape[-1] < min(a.shape[-2:]):
        return (b.mT @ a.mT).mT
    return a @ b


def _affine(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """x wᵀ + b, a new tensor."""
    if _large(x, w.mT):
        return torch.ops.mkldnn._linear_pointwise(x, w, b, "none", [], "")
    if w.shape[-2] >= min(x.shape[-2:]) and x.ndim == w.ndim < 4:
        if x.ndim == 2:
            return torch.addmm(b, x, w.mT)
        return torch.baddbmm(b[:, None], x, w.mT)
    return product(x, w.mT).add_(b[..., None, :])


def _fast(a: Tensor, b: Tensor) -> Tensor:
    if _large(a, b):
        return torch.ops.mkldnn._linear_pointwise(a, b.mT, None, "none", [], "")
    return product(a, b)


def _large(a: Tensor, b: Tensor) -> bool:
    """Whether oneDNN takes less time for a @ b than BLAS: large, float32, on a CPU."""
    return (
        a.ndim == b.ndim == 2
        and a.shape[0] * a.shape[1] * b.shape[1] > 400_000
        and (a.dtype, a.device.type) == (torch.float32, "cpu")
        and _ONEDNN
    )
