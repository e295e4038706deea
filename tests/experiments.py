"""Experiments that other processes import, for the tests of sweeps; each notes that it ran."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from dynbook.sweeps import sweep


def note(log: str, n: int) -> None:
    """One line, added in one piece."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{n} {os.getpid()}\n".encode())
    os.close(file)


def noted(log: str | Path) -> list[int]:
    return [int(line.split()[0]) for line in Path(log).read_text().splitlines()]


def counted(n: int, log: str, seconds: float, seed: int) -> int:
    """n², a while later."""
    note(log, n)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return n * n


def draws(n: int, seed: int) -> dict[str, object]:
    """What every kind of random number is here, and a sum whose rounding depends on threads."""
    own = torch.Generator().manual_seed(seed)
    return {
        "own": torch.randn(n, generator=own),
        "torch": torch.randn(2),
        "numpy": np.random.rand(),  # noqa: NPY002
        "python": random.random(),
        "sum": torch.randn(300_000, generator=own).sum(),
        "threads": torch.get_num_threads(),
    }


def divides(n: int, log: str, seed: int) -> float:
    note(log, n)
    return 1 / n


def deadly(n: int, log: str, seed: int) -> int:
    note(log, n)
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def client(folder: str, log: str, cells: str, seconds: str, scheduler: str = "") -> None:
    """A sweep as a script has it, by its own two workers or by those of a scheduler."""
    executor = None
    if scheduler:
        from distributed import Client

        executor = Client(scheduler_file=scheduler).get_executor()
    grid = {"n": range(int(cells)), "log": [log], "seconds": [float(seconds)]}
    workers = None if executor else 2
    print(len(sweep(counted, grid, folder=folder, executor=executor, workers=workers)))


if __name__ == "__main__":
    client(*sys.argv[1:])
