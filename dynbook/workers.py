"""Workers for sweeps: processes of one thread each, a cluster's, or this process itself."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits


class Here(Executor):
    """Runs in this thread, at once."""

    def submit(self, call, /, *args):
        """The result, when it is there; an exception comes from here."""
        future = Future()
        future.set_result(call(*args))
        return future


class Dask(Executor):
    """Dask's executor; its own never tells of a chunk whose results died with their worker."""

    def __init__(self, executor: Executor):
        self.client, self.words = executor._client, executor._kwargs

    def submit(self, call, /, *args):
        """A call on some worker, and the future of its result."""
        remote, future = self.client.submit(call, *args, **self.words), Future()

        def hand_over(remote) -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(remote.result())
                except BaseException as error:
                    future.set_exception(error)

        future.add_done_callback(lambda future: future.cancelled() and remote.cancel())
        remote.add_done_callback(hand_over)
        return future


def process() -> Executor:
    """A worker: a process to itself, so that its death costs no other anything."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare)


def _prepare() -> None:
    """In a new worker: leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def cores(executor: Executor | None = None) -> int:
    """How many cells run at once: here, or by an executor of Dask or the standard library."""
    if isinstance(executor, Dask):
        return max(1, sum(executor.client.nthreads().values()))
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return getattr(executor, "_max_workers", here)


#: What OpenMP and the libraries of NumPy's products read in a new process; theirs goes first.
THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"


@contextmanager
def undisturbed() -> Iterator[None]:
    """One thread, here and in new processes; afterwards the global states are as they were."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    states = random.getstate(), torch.get_rng_state()
    of_numpy = np.random.get_state()  # noqa: NPY002
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ |= dict.fromkeys(THREADS, "1")
    try:
        with threadpool_limits(1):  # of NumPy's products; BLAS adds in another order with more
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        random.setstate(states[0])
        torch.set_rng_state(states[1])
        np.random.set_state(of_numpy)  # noqa: NPY002
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def packed(experiment: Callable[..., Any]) -> bytes:
    """The function as bytes; by cloudpickle also one of a notebook, or within another.

    Raises
    ------
    TypeError
        If it cannot be sent; the message says what to do.
    """
    try:
        import cloudpickle as pickler
    except ImportError:
        pickler = pickle
        if experiment.__module__ == "__main__" or "<" in experiment.__qualname__:
            raise TypeError(
                f"experiment {experiment.__qualname__} lies in a notebook, a script or another "
                "function, from where only cloudpickle can send it to other processes: pip "
                "install cloudpickle; or write it into a module; or run all here with workers=0"
            ) from None
    try:
        return pickler.dumps(experiment)
    except Exception as error:
        raise TypeError(
            f"experiment {experiment.__qualname__} cannot be sent to other processes: {error}; "
            "make inside what it needs, or run all in this process with workers=0"
        ) from error


#: The function again, in a worker.
unpacked = lru_cache(maxsize=4)(pickle.loads)
