"""How the time of the main kernels grows with size: each alone, the least of three, on one thread.

A power is fitted by least squares of logarithms. The sizes are those at which arithmetic, and not
the calls of torch, takes the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from compare import clock
from field import network
from torch import Tensor

from dynbook.descent import descend
from dynbook.domains import Ball
from dynbook.ftle import ftle_field
from dynbook.gram import relu_gram
from dynbook.lowpass import gram_spectrum
from dynbook.lyapunov import matrix_product_spectrum
from dynbook.mmnn import MMNN
from dynbook.oscillations import wave
from dynbook.regression import fit
from dynbook.splines import leading_eigenpairs
from dynbook.three_layer import ThreeLayer
from dynbook.transients import training_exponents
from dynbook.two_layer import draw_networks, relu_loss

Work = Callable[[], object]


def curves(scale: float = 1) -> Iterator[tuple[str, str, list[int], Callable[[int], Work]]]:
    """Kernel, what grows, its sizes, and size → the work; scale shrinks the sizes (for tests)."""

    def sizes(*values: int) -> list[int]:
        return [max(4 << i, round(value * scale)) for i, value in enumerate(values)]

    yield "Gram, interval", "n", sizes(500, 1000, 2000, 4000), _interval
    yield "Gram, disk", "n", sizes(1000, 2000, 4000, 6000), _disk
    yield "all eigenpairs", "n", sizes(250, 500, 1000, 1500), _spectrum_of_gram
    yield "20 eigenpairs", "n", sizes(10_000, 20_000, 40_000, 80_000), _leading
    yield "losses", "n", sizes(8, 16, 32, 64), lambda n: _losses(n, 8000)
    yield "matrix products", "N", sizes(16, 32, 64, 128), lambda n: _products(n, 100, 64)
    yield "training exponents", "N", sizes(181, 301, 541, 961), lambda p: _tangent(1, p // 3)
    yield "FTLE field", "N", sizes(64, 128, 256, 512), lambda n: _field(64, n, 8)
    yield "matrix products", "L", sizes(125, 250, 500, 1000), lambda n: _products(16, n, 64)
    yield "FTLE field", "L", sizes(4, 8, 16, 32), lambda n: _field(100, 50, n)
    yield "MMNN step", "L", sizes(4, 8, 16, 32), lambda n: _mmnn(100, 10, n, 256, 1)
    yield "matrix products", "batch", sizes(64, 128, 256, 512), lambda n: _products(16, 200, n)
    yield "losses", "batch", sizes(10_000, 20_000, 40_000, 80_000), lambda n: _losses(10, n)
    yield "MMNN step", "batch", sizes(1024, 2048, 4096, 8192), lambda n: _mmnn(100, 10, 5, n, 1)
    yield "trainings", "members", sizes(64, 128, 256, 512), _trainings
    yield "training exponents", "members", sizes(512, 1024, 2048, 4096), lambda n: _tangent(n, 3)
    yield "MMNN step", "members", sizes(4, 8, 16, 32), lambda n: _mmnn(100, 10, 5, 100, n)


def measure(scale: float = 1, rounds: int = 3) -> list[dict]:
    """For each curve its sizes and seconds, the fitted exponent and its standard error."""
    found = []
    for kernel, what, sizes, make in curves(scale):
        seconds = [_least(make(size), rounds) for size in sizes]
        slope, error = power(sizes, seconds)
        row = {"kernel": kernel, "grows": what, "sizes": sizes, "seconds": seconds}
        found.append(row | {"exponent": slope, "error": error})
    return found


def power(sizes: list[int], seconds: list[float]) -> tuple[float, float]:
    """Slope of log seconds against log size, and its standard error from the residuals."""
    x, y = np.log(sizes), np.log(seconds)
    x, y = x - x.mean(), y - y.mean()
    slope = x @ y / (x @ x)
    rest = y - slope * x
    return float(slope), float(np.sqrt(rest @ rest / (len(x) - 2) / (x @ x)))


def _least(work: Work, rounds: int) -> float:
    """The least time of some rounds, after one that is not counted."""
    work()
    times = []
    for _ in range(rounds):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def _biases(n: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return (torch.rand(n, generator=rng, dtype=torch.float64) * 1.8 - 0.9).sort().values


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _interval(n: int) -> Work:
    b = _biases(n)
    return lambda: relu_gram(1.0, b)


def _disk(n: int) -> Work:
    w, b = _normal(n, 2), _biases(n)
    w /= w.norm(dim=1, keepdim=True)
    return lambda: relu_gram(w, b, Ball(2))


def _spectrum_of_gram(n: int) -> Work:
    gram = relu_gram(1.0, _biases(n))
    return lambda: gram_spectrum(gram)


def _leading(n: int) -> Work:
    b = _biases(n)
    return lambda: leading_eigenpairs(b, min(20, n - 1))


def _losses(n: int, count: int) -> Work:
    generator = torch.Generator().manual_seed(0)
    networks, loss = draw_networks(count, n, 30.0, generator=generator), relu_loss(wave(np.pi))
    return lambda: loss(networks)


def _products(n: int, length: int, batch: int) -> Work:
    matrices = _normal(length, batch, n, n) / n**0.5
    return lambda: matrix_product_spectrum(matrices, qr_every=1)


def _bump(width: int, points: int) -> ThreeLayer:
    x = torch.linspace(-1, 1, points, dtype=torch.float64)[:, None]
    return ThreeLayer(x, torch.exp(-8 * x[:, 0] ** 2), width)


def _tangent(members: int, width: int) -> Work:
    loss = _bump(width, 20)
    theta = 0.1 * _normal(members, loss.size)
    return lambda: training_exponents(loss, theta, 0.01, n=20, window=20)


def _trainings(members: int) -> Work:
    loss = _bump(20, 64)
    theta = 0.5 * _normal(members, loss.size)
    return lambda: list(descend(loss.descent(0.1), theta, 30, every=30))


def _field(n: int, width: int, depth: int) -> Work:
    net = network(width, depth, torch.float32)
    return lambda: ftle_field(net, (-1, 1), (-1, 1), n)


def _mmnn(width: int, rank: int, depth: int, batch: int, members: int) -> Work:
    generator = torch.Generator().manual_seed(0)
    net = MMNN(width, rank, depth, members=members, generator=generator)
    x = torch.linspace(-1, 1, batch)[:, None]
    y = torch.sin(9 * x)
    run = {"steps": 10, "every": 10, "batch": batch, "generator": generator}
    return lambda: list(fit(net, x, y, **run))
