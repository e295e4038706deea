"""What this machine can do at most: the rate of a large matrix product, and of a large copy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from compare import clock

from dynbook.dense import _linear


def ceiling(size: int = 1024, megabytes: int = 64, device: str = "cpu") -> dict[str, float]:
    """Operations a second in float32 and float64, by the fastest library at hand (PyTorch's MKL and
    oneDNN, NumPy's BLAS), and bytes a second read and written."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        a = torch.ones(size, size, dtype=dtype, device=device)
        array = a.cpu().numpy()
        ways = [lambda a=a: a @ a, lambda a=a: _linear(a, a)]
        if device == "cpu":
            ways.append(lambda array=array: np.matmul(array, array))
        found[str(dtype).removeprefix("torch.")] = 2 * size**3 / min(map(shortest, ways))
    there = torch.ones(megabytes * 2**18, device=device)
    out = torch.empty_like(there)
    return found | {"bandwidth": 2 * there.nbytes / shortest(lambda: out.copy_(there))}


def shortest(work: Callable[[], object]) -> float:
    """The least time of ten."""
    times = []
    for _ in range(10):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)
