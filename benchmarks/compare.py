"""Time versions of one computation against each other, in one run.

Ratios of times taken minutes apart, or on a machine that does something else meanwhile, tell
little. So one core and one thread, the clock of the process's own work, and the versions in turn,
A B C A B C: each round gives one ratio, and their median is reported.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

PACKAGES = Path(__file__).resolve().parents[1] / ".venv-bench"  # where `make bench` puts JAX


@dataclass(frozen=True)
class Case:
    """One computation, and how it can be done.

    Attributes
    ----------
    name, task : str
        What it is, and its size, in words.
    versions : dict
        Name → function of no arguments returning the result; the first is ours. If it returns a
        function instead, that makes the result of what was timed, and is not timed itself.
    reference : array (r, ...)
        The first entries of the result, to more digits.
    measure : str
        What the result is, in the error's column.
    share : dict
        Name → share of the work that this version does (1 if not named); its time is extrapolated.
    targets : dict
        Name → the least ratio of its time to ours that we want.
    limit : str
        What limits us, in a sentence: shown where a target is missed.
    flops, traffic : float
        Operations that ours needs, in matrix products as fast as this machine makes them, and
        bytes that it must read and write: the time of the larger is the ceiling.
    dtype : str
        Of the operations.
    """

    name: str
    task: str
    versions: dict[str, Callable[[], Tensor | np.ndarray]]
    reference: Tensor | np.ndarray
    measure: str
    share: dict[str, float] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    limit: str = ""
    flops: float = 0
    traffic: float = 0
    dtype: str = "float64"

    def least(self, machine: dict[str, float]) -> float:
        """Seconds that the work takes at the machine's ceiling (:mod:`ceiling`)."""
        return max(self.flops / machine[self.dtype], self.traffic / machine["bandwidth"])

    def errors(self) -> dict[str, float]:
        """Largest deviation from the reference, for each version, on the entries it computed."""
        found = {}
        for name, version in self.versions.items():
            result = version()
            result = result() if callable(result) else result
            result = result.cpu().numpy() if isinstance(result, Tensor) else result
            expected = np.asarray(self.reference)
            found[name] = float(np.abs(result[: len(expected)] - expected[: len(result)]).max())
        return found

    def seconds(self, rounds: int) -> dict[str, list[float]]:
        """Time of each version in each round, extrapolated to the whole work."""
        times = {name: [] for name in self.versions}
        for _ in range(rounds):
            for name, version in self.versions.items():
                start = clock()
                version()
                times[name].append((clock() - start) / self.share.get(name, 1))
        return times

    def compare(self, rounds: int) -> list[dict]:
        """A row for each version: its median time, its ratio to ours, its error."""
        errors = self.errors()  # a first run of all, which compiles what is compiled
        times = self.seconds(rounds)
        ours = times[next(iter(self.versions))]
        return [
            {
                "version": name,
                "seconds": median(taken),
                "ratio": median(t / o for t, o in zip(taken, ours, strict=True)),
                "low": min(t / o for t, o in zip(taken, ours, strict=True)),
                "high": max(t / o for t, o in zip(taken, ours, strict=True)),
                "error": errors[name],
                "share": self.share.get(name, 1),
                "target": self.targets.get(name),
            }
            for name, taken in times.items()
        ]


def clock() -> float:
    """Seconds of CPU of this process; with a GPU those on the wall, after it has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def one_thread() -> None:
    """One core and one thread, for everything; before JAX is imported."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def have_jax() -> bool:
    """Whether JAX can be imported, and if so, with double precision."""
    if PACKAGES.is_dir() and str(PACKAGES) not in sys.path:
        sys.path.append(str(PACKAGES))  # last: NumPy and SciPy are the book's own
    if importlib.util.find_spec("jax") is None:
        return False
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")
    return True
