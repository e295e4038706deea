"""Networks of balanced layers: many fixed neurons inside each, few trained numbers between them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.chains import Activation, Chain
from dynbook.domains import whole


class MMNN(Chain):
    r"""A multi-component and multi-layer network (:cite:t:`zhang2024`).

    .. math:: h^l = A^l σ(W^l h^{l-1} + b^l) + c^l, \quad l = 1, …, depth

    from h⁰ = x ∈ R^inputs by h^l ∈ R^rank to h^depth ∈ R^outputs. Each component h_i^l is a network
    of one layer and as many neurons as the width; all components of a layer share its neurons.

    Parameters
    ----------
    width, rank, depth : int
        In this order.
    inputs, outputs : int
        Dimensions of x and of the value.
    activation : callable
        σ, elementwise, such as ``torch.relu``.
    init : {"covering", "first", "linear"}
        How W and b are drawn. "linear": as ``torch.nn.Linear`` does, uniform in ±1/√fan-in, so that
        many kinks of the first layer miss the interval. "covering": rows w of W uniform on the
        sphere, and b in ±‖w‖₁ in the first layer, so that every kink meets the cube [−1, 1]^inputs,
        in ±1 in the others: every kink meets the unit ball. "first": so in the first layer alone,
        the others as in "linear". A and c are always drawn as in "linear".
    residual : bool
        Whether h^l has h^{l−1} added to it, where both have as many components.
    train_inner : bool
        Whether W and b are trained, too.
    members : int, optional
        M networks, each with a seed of its own, side by side; the first k of M are those of k.
        Without it there is one, and M is missing in all shapes.
    generator : torch.Generator
        On the CPU, for all that is drawn; it is asked once a member.
    dtype, device
        Of all numbers; they are drawn as float64, on the CPU.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of its range.
    """

    def __init__(
        self,
        width: int,
        rank: int,
        depth: int,
        *,
        inputs: int = 1,
        outputs: int = 1,
        activation: Activation = torch.relu,
        init: str = "covering",
        residual: bool = False,
        train_inner: bool = False,
        members: int | None = None,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        width, rank, depth = whole("width", width), whole("rank", rank), whole("depth", depth)
        if init not in ("covering", "first", "linear"):
            raise ValueError(f"init must be 'covering', 'first' or 'linear', got {init!r:.40}")
        ranks = [whole("inputs", inputs), *[rank] * (depth - 1), whole("outputs", outputs)]

        def draw(i: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
            if i % 2:
                return _linear_default(ranks[i // 2 + 1], width, stream)
            if init == "linear" or (i and init == "first"):
                return _linear_default(width, ranks[i // 2], stream)
            return _covering(width, ranks[i // 2], stream, cube=i == 0)

        inner = [True, False] * depth
        super().__init__(
            draw,
            [train_inner or not i for i in inner],
            inner,
            {2 * i + 1 for i in range(depth) if residual and ranks[i] == ranks[i + 1]},
            activation,
            members,
            generator,
            dtype,
            device,
        )

    def components(
        self, x: Float[Tensor, "*b d"], layer: int, theta: Float[Tensor, "*m p"] | None = None
    ) -> Float[Tensor, "*m *b rank"]:
        """h_i^l(x), the components of layer l = 1, …, depth."""
        return self._through(x, theta, 2 * self._layer(layer))

    def hidden(
        self, x: Float[Tensor, "*b d"], layer: int, theta: Float[Tensor, "*m p"] | None = None
    ) -> Float[Tensor, "*m *b width"]:
        """σ(W^l h^{l−1}(x) + b^l), what A^l of layer l = 1, …, depth combines."""
        return self._through(x, theta, 2 * self._layer(layer) - 1)

    def _layer(self, layer: int) -> int:
        return whole("layer", layer, most=len(self.shapes) // 2)


class FullyConnected(Chain):
    """The plain rival: σ(W^l h^{l−1} + b^l) for l = 1, …, depth, and an affine map, all trained.

    Drawn as ``torch.nn.Linear`` draws. Arguments and conventions are those of :class:`MMNN`.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        *,
        inputs: int = 1,
        outputs: int = 1,
        activation: Activation = torch.relu,
        members: int | None = None,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        width, depth = whole("width", width), whole("depth", depth)
        sizes = [whole("inputs", inputs), *[width] * depth, whole("outputs", outputs)]
        super().__init__(
            lambda i, stream: _linear_default(sizes[i + 1], sizes[i], stream),
            [True] * (depth + 1),
            [True] * depth + [False],
            set(),
            activation,
            members,
            generator,
            dtype,
            device,
        )


def equal_width(count: int, depth: int, inputs: int = 1, outputs: int = 1) -> int:
    """The width at which a :class:`FullyConnected` network has most nearly count trained numbers.

    They are (depth − 1) w² + (inputs + depth + outputs) w + outputs.

    Raises
    ------
    ValueError
        If an argument is not whole and ≥ 1, or width 1 has more already.
    """
    count, depth = whole("count", count), whole("depth", depth)
    a, b = depth - 1, whole("inputs", inputs) + depth + whole("outputs", outputs)
    if a + b + outputs > count:
        raise ValueError(
            f"count must be ≥ {a + b + outputs}, what width 1 has at depth {depth}, got {count}"
        )
    below = 2 * (count - outputs) / (b + math.sqrt(b**2 + 4 * a * (count - outputs)))
    nearest = (max(math.floor(below), 1), math.ceil(below))
    return min(nearest, key=lambda w: abs(a * w**2 + b * w + outputs - count))


def _linear_default(m: int, n: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weights and biases of torch.nn.Linear, float64: uniform in ±1/√n."""
    w, b = (torch.rand(s, generator=stream, dtype=torch.float64) for s in ((m, n), (m,)))
    return (2 * w - 1) / math.sqrt(n), (2 * b - 1) / math.sqrt(n)


def _covering(m: int, n: int, stream: torch.Generator, cube: bool) -> tuple[Tensor, Tensor]:
    """Neurons whose kinks meet the cube [−1, 1]^n, or the unit ball."""
    w = torch.randn(m, n, generator=stream, dtype=torch.float64)
    w = w / w.norm(dim=-1, keepdim=True)
    b = 2 * torch.rand(m, generator=stream, dtype=torch.float64) - 1
    return w, b * w.abs().sum(-1) if cube else b
