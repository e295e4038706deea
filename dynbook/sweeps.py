"""One experiment at many parameters and seeds, over cores or a cluster; it stops and resumes."""

from __future__ import annotations

import copy
import hashlib
import inspect
import itertools
import json
import math
import os
import platform
import random
import signal
import time
import traceback
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from dynbook.domains import kind, whole
from dynbook.records import Record, begin, decoded, encoded, read, write
from dynbook.workers import Dask, Here, cores, packed, process, undisturbed, unpacked

#: Seconds after which a worker hands over what it has finished and takes new cells.
CHUNK = 0.5

#: How many workers a cell may kill alone, after the first, before it counts as failed.
LIVES = 2


class SweepWarning(RuntimeWarning):
    """Cells of a sweep failed, or were computed by another text of the experiment."""


@dataclass(frozen=True)
class Failure:
    """A cell that raised an exception or killed its workers; with these it can be run by hand.

    Attributes
    ----------
    parameters : dict
    seed : int
    error : str
        The exception in one line.
    traceback : str
    """

    parameters: dict[str, Any]
    seed: int
    error: str
    traceback: str


@dataclass(frozen=True)
class Table:
    """What a sweep found; ``table["loss"]`` is a column, ``len(table)`` its length.

    Attributes
    ----------
    rows : list of dict
        For each finished cell, in the order asked for (seeds fastest): its parameters, its
        ``seed``, and what the experiment returned, as ``value`` if that was no dictionary.
    failures : list of Failure
        The cells that are missing in ``rows``.
    seconds : array (len(rows),)
        Time that each cell took in its worker.
    """

    rows: list[dict[str, Any]]
    failures: list[Failure]
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> Tensor | np.ndarray | list[Any]:
        """One entry of each row: tensors of one shape stacked, else an array, else a list."""
        if missing := [row for row in self.rows if column not in row]:
            raise KeyError(f"no column {column!r} in a row with {', '.join(missing[0])}")
        values = [row[column] for row in self.rows]
        if len({getattr(v, "shape", ()) for v in values}) == 1:
            if all(isinstance(v, Tensor) for v in values):
                return torch.stack(values)
            if all(isinstance(v, (int, float, complex, str, np.ndarray)) for v in values):
                return np.array(values)
        return values


@dataclass(frozen=True)
class _Cell:
    key: str
    parameters: dict[str, Any]
    seed: int


@dataclass(frozen=True)
class _Job:
    experiment: Callable[..., Any] | bytes
    folder: Path | None
    text: str
    dtype: torch.dtype


def sweep(
    experiment: Callable[..., Any],
    cells: Mapping[str, Iterable[Any]] | Iterable[Mapping[str, Any]],
    *,
    seeds: int | Iterable[int] = 1,
    seed: int = 0,
    folder: str | Path | None = None,
    version: str = "",
    workers: int | None = None,
    executor: Executor | None = None,
    retry: bool = False,
    progress: bool = False,
) -> Table:
    """Run ``experiment(**parameters, seed=…)`` for all parameters and seeds, many at once.

    With a folder, each cell is written there as soon as it is finished, whole or not at all, and
    a cell that is written never runs again: a sweep that was stopped or killed, called again, does
    the rest. What a killed worker loses is the cell that it was running; on a cluster a worker
    outlives a killed client by a chunk, half a second or one cell, which a sweep that is called
    again meanwhile may repeat. Two sweeps may share a folder, and agree; each looks into it when it
    begins, so two at the same time may both run a cell.

    A cell computes on one thread, with PyTorch's default dtype as it is here, and PyTorch's,
    NumPy's and Python's own random numbers are seeded for it. So on machines of one kind its
    result depends on nothing but its parameters and seed: not on the number of workers, nor on
    the order. (Where cells run in threads of one process they share the global states; draw from
    ``torch.Generator().manual_seed(seed)``.)

    Parameters
    ----------
    experiment : function
        Returns a number, a string, a tensor or array, or lists and dictionaries of these. What
        it refers to in a notebook or script travels with it at every chunk (cloudpickle): load
        large data inside. A script must call ``sweep`` below ``if __name__ == "__main__":``.
    cells : dict of iterables, or iterable of dict
        A grid, {"n": [10, 20], "rate": [0.1, 0.2]}, all combinations with the last name fastest;
        or a list of parameters, [{"n": 10, "rate": 0.1}, …].
    seeds : int, or iterable of int
        How many seeds each cell gets; they differ from cell to cell, and come by SHA-256 from its
        parameters and ``seed``. Or the seeds themselves, the same for all.
    seed : int
        What the seeds are derived from.
    folder : path, optional
        Made if it is not there; on a cluster it must be one that all machines share.
    version : str
        Cells of another version are not used again: change it when the experiment changes. The
        warning below is a help, no proof: it compares the source of the function, and of the
        functions, classes and values of its module that this names; not default arguments, what a
        decorator wraps or a container holds, nor other modules.
    workers : int, optional
        Number of processes, one a core by default; with 0 all runs here. With an executor, the
        number of chunks handed to it at once: by default two for each of its workers.
    executor : concurrent.futures.Executor, optional
        Where to run instead: for Dask, ``Client(address).get_executor()``.
    retry : bool
        Whether cells that failed in an earlier call run again; else they are reported again.
    progress : bool
        Whether to show a bar, by tqdm.

    Returns
    -------
    Table

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, the experiment does not take these parameters, or it
        cannot be sent to another process.
    OSError
        If a worker cannot write to the folder, or does not see it.
    RuntimeError
        If workers do not start.
    concurrent.futures.process.BrokenProcessPool
        If a worker of an ``executor`` that is a process pool dies, for such a pool is then of no
        use; what was written is kept. Our own workers are replaced, as those of Dask are.

    Warns
    -----
    SweepWarning
        If cells failed, or those in the folder were computed by another text of the experiment.
    """
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            "executor must be a concurrent.futures.Executor, for Dask "
            f"Client(address).get_executor(), got {kind(executor)}"
        )
    workers = None if workers is None else whole("workers", workers, least=0 if not executor else 1)
    asked = _asked(experiment, cells, seeds, whole("seed", seed, least=0), version)
    folder = None if folder is None else _folder(folder, experiment)
    here = executor is None and workers == 0
    sent = experiment if here else packed(experiment)
    job = _Job(sent, folder, _text(experiment) if folder else "", torch.get_default_dtype())
    known = _known(job, {cell.key for cell in asked})
    due = [c for c in asked if c.key not in known or (retry and "error" in known[c.key])]
    if due:
        with undisturbed(), _bar(len(asked), len(asked) - len(due), progress) as bar:

            def keep(record: Record) -> None:
                known[record["key"]] = record
                if bar is not None:
                    bar.update()

            _run(job, deque(due), executor, workers, keep)
    return _table(asked, known)


def _run(job, due, executor, workers, keep) -> None:
    """Hand out cells in chunks, until all are kept; a worker that dies takes one with it."""
    own = executor is None and workers != 0
    executor = Dask(executor) if hasattr(executor, "_client") else executor
    room = workers or (cores() if executor is None else 1)  # of an executor: looked up below
    flying: dict[Future, tuple[Executor, str, list[_Cell]]] = {}
    free, pids, lives, started = [], {}, {}, set()
    slots, unborn, size, look = 0, 0, 1, 0.0

    def send(pool: Executor, cells: list[_Cell]) -> None:
        what = job, uuid.uuid4().hex, cells
        try:
            future = pool.submit(_work, *what)
        except BrokenProcessPool:
            if not own:
                raise
            pool = process()  # the other died while it had nothing to do
            future = pool.submit(_work, *what)
        flying[future] = pool, *what[1:]
        started.add(pool)

    try:
        while due or any(cells for *_, cells in flying.values()):
            if executor is not None and workers is None and time.monotonic() > look:
                room, look = 2 * cores(executor), time.monotonic() + 1  # clusters grow
            for _ in range(slots, min(room, len(due))):
                send(process() if own else executor or Here(), [])  # no cells: can it start?
                slots += 1
            while free and due:
                if not own and flying and lives.keys() & {due[0].key, *_keys(flying)}:
                    break  # on a cluster they may share a worker; who is suspected is left alone
                share = math.ceil(len(due) / slots)
                send(free.pop(), _chunk(due, min(size, share), lives))
            for future in wait(flying, 1.0, FIRST_COMPLETED).done:
                pool, token, cells = flying.pop(future)
                try:
                    pids[pool], records, spent = future.result()
                except Exception as death:
                    if not (own and isinstance(death, BrokenProcessPool)) and (
                        type(death).__name__ != "KilledWorker"  # Dask's, after three others
                    ):
                        raise
                    records = _lost(job, token, cells, lives, death)
                    unborn = 0 if cells else unborn + 1
                    if unborn > 1:
                        raise RuntimeError(
                            "sweep: workers do not start; they say why on their standard error. In "
                            'a script, call sweep below `if __name__ == "__main__":`. With '
                            "workers=0 all runs in this process"
                        ) from death
                    pool = process() if own else pool
                    send(pool, [])
                else:
                    unborn = 0
                    free.append(pool)
                    if records:
                        size = math.ceil(1.5 * CHUNK * len(records) / max(spent, 1e-9))
                for record in records:
                    keep(record)
                done = {r["key"] for r in records}
                due.extendleft(c for c in reversed(cells) if c.key not in done)
    finally:
        for future, (pool, *_) in flying.items():
            future.cancel()
            if own and pool in pids:  # only where something stopped us
                with suppress(ProcessLookupError):  # which may have stopped the worker, too
                    os.kill(pids[pool], signal.SIGTERM)
        for pool in started if own else ():
            pool.shutdown(wait=False, cancel_futures=True)


def _chunk(due: deque[_Cell], size: int, lives: Mapping[str, int]) -> list[_Cell]:
    """The next cells; one that was in a lost chunk runs alone, to see whether it is to blame."""
    chunk = [due.popleft()]
    while due and len(chunk) < size and not {chunk[0].key, due[0].key} & lives.keys():
        chunk.append(due.popleft())
    return chunk


def _keys(flying: dict[Future, tuple[Executor, str, list[_Cell]]]) -> set[str]:
    return {cell.key for *_, cells in flying.values() for cell in cells}


def _lost(job: _Job, token: str, cells: list[_Cell], lives: dict[str, int], death: Exception):
    """What a dead worker had written; what it had not now runs alone, and is blamed in the end."""
    records = read(job.folder, token)
    for cell in cells:
        if cell.key not in records:
            known, tried = cell.key in lives, isinstance(death, BrokenProcessPool)  # one, by us
            lives[cell.key] = lives.get(cell.key, LIVES) - known if tried or not known else 0
            if lives[cell.key] == 0:  # Dask has tried several workers before it tells
                records[cell.key] = _killed(job, cell, death)
    return list(records.values())


def _work(job: _Job, token: str, cells: list[_Cell]) -> tuple[int, list[Record], float]:
    """In a worker: cells one by one, each written when it is finished, until the time is up."""
    call = unpacked(job.experiment) if isinstance(job.experiment, bytes) else job.experiment
    if job.folder and not job.folder.is_dir():
        raise FileNotFoundError(
            f"folder {job.folder} is not there for a worker on {platform.node()}: it must lie "
            "where all machines of the cluster see it"
        )
    start, records = time.perf_counter(), []
    threadpool_limits(1)  # of NumPy's products, where the worker is another's
    earlier, log = begin(job.folder, token) if job.folder and cells else ({}, nullcontext())
    with log as stream:
        for cell in cells:
            record = earlier.get(cell.key)
            if record is None:
                record = _record(job, cell, *_outcome(call, cell, job.dtype))
                if stream is not None:
                    write(stream, record)
            records.append(record)
            if time.perf_counter() - start > CHUNK:
                break
    return os.getpid(), records, time.perf_counter() - start


def _outcome(call: Callable[..., Any], cell: _Cell, dtype: torch.dtype) -> tuple[float, Record]:
    """The seconds that a cell took, and what came of it; whatever an earlier one left behind."""
    torch.set_num_threads(1)
    torch.set_default_dtype(dtype)
    random.seed(cell.seed)
    np.random.seed(cell.seed % 2**32)  # noqa: NPY002  (for experiments that use the global state)
    torch.default_generator.manual_seed(cell.seed)  # torch.manual_seed takes eighty times longer
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(cell.seed)
    start = time.perf_counter()
    try:
        value = call(**copy.deepcopy(cell.parameters), seed=cell.seed)
        if isinstance(value, Mapping) and (taken := {"seed", *cell.parameters} & set(value)):
            raise ValueError(
                f"the experiment returned {', '.join(sorted(taken))}, which the table has already: "
                "as a parameter, or the seed; choose another name"
            )
        result = {"value": encoded("what the experiment returned", value)}
    except (Exception, SystemExit) as error:
        told = "".join(traceback.format_exception_only(error)).strip()
        result = {"error": told, "traceback": traceback.format_exc()}
    return time.perf_counter() - start, result


def _record(job: _Job, cell: _Cell, seconds: float, result: Record) -> Record:
    given = {name: encoded(name, value) for name, value in cell.parameters.items()}
    what = {"key": cell.key, "parameters": given, "seed": cell.seed, "text": job.text}
    return what | {"seconds": seconds} | result


def _asked(experiment, cells, seeds, seed: int, version: str) -> list[_Cell]:
    """The cells in order, each with its key."""
    if not inspect.isfunction(experiment):
        raise TypeError(
            f"experiment must be a function, got {kind(experiment)}: its name and its parameters "
            "tell its results from others; write a def that calls it"
        )
    name = experiment.__qualname__
    if isinstance(cells, Mapping):
        axes = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in cells.items()}
        for axis, values in axes.items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise TypeError(
                    f"cells must have several values for each name, as a list, got {kind(values)} "
                    f"for {axis}; for one write [{values!r:.20}]"
                )
        cells = [dict(zip(axes, at, strict=True)) for at in itertools.product(*axes.values())]
    if isinstance(seeds, Iterable):
        seeds = [whole("each of seeds", s, least=0) for s in seeds]
        if large := [s for s in seeds if s >= 2**63]:
            raise ValueError(f"each of seeds must be less than 2**63, got {large[0]}")
    else:
        seeds = whole("seeds", seeds)
    asked: dict[str, _Cell] = {}
    precision = str(torch.get_default_dtype())
    for parameters in cells:
        if not isinstance(parameters, Mapping) or not all(isinstance(k, str) for k in parameters):
            raise TypeError(
                'cells must be a grid, {"n": [10, 20]}, or dictionaries, [{"n": 10}, {"n": 20}], '
                f"got {kind(parameters)} among them"
            )
        if "seed" in parameters:
            raise ValueError("cells must not name seed, which comes from seeds")
        try:
            inspect.signature(experiment).bind(**parameters, seed=0)
        except TypeError as error:
            raise TypeError(
                f"experiment {name} must take seed and the parameters {', '.join(parameters)}: "
                f"{error}"
            ) from None
        given = encoded("parameters", parameters)
        for s in range(seeds) if isinstance(seeds, int) else seeds:
            if isinstance(seeds, int):
                s = int(_hash(given, seed, s)[:16], 16) >> 1
            key = _hash(experiment.__module__, name, given, s, version, precision)
            if key in asked:
                raise ValueError(f"cells or seeds name one cell twice: {parameters}, seed {s}")
            asked[key] = _Cell(key, dict(parameters), s)
    if not asked:
        raise ValueError("cells and seeds must not be empty")
    return list(asked.values())


def _hash(*what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _folder(folder: str | Path, experiment: Callable[..., Any]) -> Path:
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"folder must be a path, got {kind(folder)}")
    if "<lambda>" in experiment.__qualname__:
        raise ValueError("with a folder, experiment must have a name; write a def, not a lambda")
    path = Path(folder).expanduser().resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _text(experiment: Callable[..., Any]) -> str:
    """Tells whether the experiment was changed: a hash of its source, of the functions and classes
    of its own module that it uses, and of the numbers, strings, tensors and arrays."""
    found, todo = {}, [experiment]
    while todo:
        part = todo.pop()
        if part.__qualname__ in found:
            continue
        found[part.__qualname__] = ""
        if inspect.isfunction(part):
            with suppress(OSError):  # typed at a prompt, or compiled
                found[part.__qualname__] = inspect.getsource(part)
        for name, value in _used(part).items():
            if inspect.isfunction(value) or inspect.isclass(value):
                todo += [value] if value.__module__ == experiment.__module__ else []
            elif name[:2] != "__":
                with suppress(TypeError, ValueError):  # modules, networks, …
                    found[f"{part.__qualname__}: {name}"] = encoded(name, value)
    return _hash(found)


def _used(part: Callable[..., Any] | type) -> dict[str, Any]:
    """What a class has, or what a function refers to outside itself, by name."""
    if inspect.isclass(part):
        return dict(inspect.getmembers(part))
    names, codes = set(), [part.__code__]
    for code in codes:
        names.update(code.co_names)
        codes += filter(inspect.iscode, code.co_consts)  # of functions and comprehensions within
    there = part.__globals__
    return inspect.getclosurevars(part).nonlocals | {n: there[n] for n in names & there.keys()}


def _killed(job: _Job, cell: _Cell, death: BaseException) -> Record:
    """The record of a cell that no worker survives, written here in their place."""
    told = f"it ran alone, and its worker died each time: {death}"
    record = _record(job, cell, math.nan, {"error": told, "traceback": told})
    if job.folder:
        with begin(job.folder, uuid.uuid4().hex)[1] as stream:
            write(stream, record)
    return record


def _known(job: _Job, keys: set[str]) -> dict[str, Record]:
    """What the folder has of these cells."""
    known = {key: record for key, record in read(job.folder).items() if key in keys}
    if other := sum(job.text != record["text"] for record in known.values()):
        warnings.warn(
            f"{other} cells in {job.folder} were computed by another text of the experiment; if it "
            "computes something else now, give another version, or another folder",
            SweepWarning,
            stacklevel=3,
        )
    return known


def _table(asked: list[_Cell], known: dict[str, Record]) -> Table:
    rows, failures, seconds = [], [], []
    for cell in asked:
        record = known[cell.key]
        if "error" in record:
            why = record["error"], record["traceback"]
            failures.append(Failure(cell.parameters, cell.seed, *why))
            continue
        value = decoded(record["value"])
        value = value if isinstance(value, dict) else {"value": value}
        rows.append({**cell.parameters, "seed": cell.seed, **value})
        seconds.append(record["seconds"])
    if failures:
        first = failures[0]
        warnings.warn(
            f"{len(failures)} of {len(asked)} cells failed, the first at {first.parameters}, seed "
            f"{first.seed}: {first.error}; the table's failures name all, with tracebacks, and "
            "retry=True runs them again",
            SweepWarning,
            stacklevel=3,
        )
    return Table(rows, failures, np.array(seconds))


def _bar(n: int, first: int, show: bool) -> AbstractContextManager[Any]:
    if not show:
        return nullcontext()
    from tqdm.auto import tqdm  # of the notebooks, not needed otherwise

    return tqdm(total=n, initial=first, unit="cell")
