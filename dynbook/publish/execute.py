"""Run the notebooks that are out of date, in parallel, into the cache that the site is built from.

A page is out of date when its code cells changed, or its closure did (closure.py). Prose, captions
and tags that only concern the display execute nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_client import AsyncKernelManager
from myst_nb.core.read import is_myst_markdown_notebook, myst_nb_reader_plugin
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from .closure import ROOT, closure_key

ANSI = re.compile(r"\x1b\[[0-9;]*m")
CHANGES_A_RUN = {"raises-exception", "skip-execution"}  # the tags that are not only about display


@dataclass(frozen=True)
class Run:
    """How one page's outputs came about: `seconds` of wall time, on `machine`, at `when` (UTC).

    `memory` is the most that its kernel took, in bytes; None where the system does not tell.
    """

    seconds: float
    memory: int | None
    when: str
    machine: dict[str, str | int]
    key: str


@dataclass
class Page:
    """A page with code cells: its name in the toc, its source, its notebook, its two keys."""

    name: str
    path: Path
    notebook: nbformat.NotebookNode
    root: Path = ROOT
    code: str = field(init=False)
    closure: str = field(init=False)

    def __post_init__(self) -> None:
        cells = [c for c in self.notebook.cells if c.cell_type == "code"]
        tags = [sorted(CHANGES_A_RUN & {*c.metadata.get("tags", [])}) for c in cells]
        text = json.dumps(
            [[c.source for c in cells], tags, self.notebook.metadata.get("kernelspec")]
        )
        self.code = hashlib.sha256(text.encode()).hexdigest()[:16]
        try:
            self.closure = closure_key((c.source for c in cells), self.root)
        except SyntaxError:
            self.closure = "not Python"  # let the kernel say where


class NotebookFailed(Exception):
    """A cell stopped the build; the message says which one, and why."""


def read_pages(names: Iterable[str], root: Path = ROOT) -> list[Page]:
    """Those of the named pages (toc names, no suffix) that are notebooks, and to be executed."""
    pages = []
    for name in names:
        path = root / f"{name}.md"
        if path.is_file() and is_myst_markdown_notebook(path.read_text(encoding="utf8")):
            notebook = myst_nb_reader_plugin(str(path))
            if notebook.metadata.get("mystnb", {}).get("execution_mode") != "off":
                pages.append(Page(name, path, notebook, root))
    return pages


def machine() -> dict[str, str | int]:
    """This machine in the words that a table of timings needs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": cores or 1,
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def kernel_environment(threads: int, root: Path = ROOT) -> dict[str, str]:
    """Environment of a kernel: the user's, less what would leak another set-up into the book."""
    leaks = ("PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONSTARTUP", "MPLBACKEND", "VIRTUAL_ENV")
    env = {k: v for k, v in os.environ.items() if k not in leaks}
    profile = root / "_build" / ".ipython"  # not the user's start-up files
    profile.mkdir(parents=True, exist_ok=True)
    return env | {
        "DYNBOOK_BUILD": "1",
        "IPYTHONDIR": str(profile),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(root),
    }


def place(page: Page, index: int) -> str:
    """`file:line` of the first line of code of cell `index`, in the page's source."""
    lines = page.path.read_text(encoding="utf8").splitlines()
    fence = page.notebook.metadata["source_map"][index]  # counted from 1
    first = page.notebook.cells[index].source.split("\n")[0]
    at = next((i for i in range(fence, len(lines)) if lines[i].strip() == first.strip()), fence)
    return f"{page.path}:{at + 1}"


def explain(page: Page, index: int, problem: str) -> NotebookFailed:
    """The report on a cell that failed: where it stands, the cell, what happened."""
    source = "\n".join("    " + x for x in page.notebook.cells[index].source.splitlines()[:25])
    tail = "\n".join(problem.rstrip().splitlines()[-40:])
    tail = tail if sys.stdout.isatty() else ANSI.sub("", tail)
    return NotebookFailed(f"{place(page, index)}: this cell failed\n{source}\n\n{tail}")


def peak_memory(pid: int) -> int | None:
    """The most resident bytes that a process has had (Linux), or None."""
    with suppress(OSError):
        told = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return 1024 * int(told[1]) if told else None


async def run_page(
    page: Page, *, threads: int, timeout: int
) -> tuple[nbformat.NotebookNode, float, int | None]:
    """Execute one page in a kernel of its own; the executed notebook, seconds, peak memory."""
    notebook = deepcopy(page.notebook)
    kernel = AsyncKernelManager(
        kernel_name=notebook.metadata.get("kernelspec", {}).get("name", "python3")
    )
    client = NotebookClient(notebook, km=kernel, timeout=timeout, record_timing=False)
    start = time.monotonic()
    index = 0
    try:
        await kernel.start_kernel(
            env=kernel_environment(threads, page.root),
            cwd=str(page.path.parent),
            extra_arguments=["--HistoryManager.hist_file=:memory:"],
        )
        await client.async_start_new_kernel_client()
        count = 0
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                count += 1
                await client.async_execute_cell(cell, index, execution_count=count)
                for output in cell.get("outputs", ()):
                    if output.get("name") == "stderr":
                        raise explain(
                            page, index, "It wrote to stderr (a warning?):\n" + output.text
                        )
        return notebook, time.monotonic() - start, peak_memory(kernel.provisioner.pid)
    except CellExecutionError:
        outputs = notebook.cells[index].outputs
        error = next(o for o in reversed(outputs) if o.output_type == "error")
        raise explain(page, index, "\n".join(error.traceback)) from None
    except CellTimeoutError:
        limit = f"It ran longer than {timeout} s (execute.timeout of _config.yml)."
        raise explain(page, index, limit) from None
    except DeadKernelError:
        raise explain(page, index, "The kernel died (out of memory?).") from None
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
        with suppress(RuntimeError):  # it never started
            await kernel.shutdown_kernel(now=True)


class Outputs:
    """The executed notebooks, in the jupyter-cache folder that myst-nb reads."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.cache = get_cache(str(folder))

    def find(self, page: Page) -> Run | None:
        """The run that gave this page's outputs, or None when they are missing or out of date.

        Outputs of the same code under other captions or display tags are taken over.
        """
        with suppress(KeyError):
            record = self.cache.match_cache_notebook(page.notebook)
            return self._run(record) if record.data.get("closure") == page.closure else None
        for record in reversed(self.cache.list_cache_records()):
            same = (record.data.get("code"), record.data.get("closure")) == (
                page.code,
                page.closure,
            )
            if same:
                old = [c for c in self.cache.get_cache_bundle(record.pk).nb.cells]
                notebook = deepcopy(page.notebook)
                for cell in (c for c in notebook.cells if c.cell_type == "code"):
                    ran = old.pop(0)
                    cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
                return self._store(page, notebook, record.data)
        return None

    def keep(
        self, page: Page, notebook: nbformat.NotebookNode, seconds: float, memory: int | None
    ) -> Run:
        """Store what a page's kernel gave, and what it cost."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        facts = {"code": page.code, "closure": page.closure, "when": now, "machine": machine()}
        cost = {"execution_seconds": seconds, "memory": memory}
        return self._store(page, notebook, cost | facts)

    def seconds_last_time(self, page: Page) -> float:
        """Duration of the page's latest run, infinite if there was none."""
        records = [r for r in self.cache.list_cache_records() if r.uri == str(page.path)]
        return records[-1].data["execution_seconds"] if records else float("inf")

    def _store(self, page: Page, notebook: nbformat.NotebookNode, data: dict) -> Run:
        bundle = CacheBundleIn(notebook, str(page.path), data=data)
        return self._run(
            self.cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        )

    @staticmethod
    def _run(record) -> Run:
        d = record.data
        key = f"{record.hashkey} {d['closure']} {d['when']}"
        return Run(d["execution_seconds"], d.get("memory"), d["when"], d["machine"], key)


async def _run_all(pages: list[Page], outputs: Outputs, timeout: int) -> dict[str, Run]:
    cores = int(machine()["cores"])
    jobs = min(cores, len(pages))
    threads = max(1, cores // jobs // 2)  # on a core that is not free the others wait for one
    free, left, runs = asyncio.Semaphore(jobs), len(pages), {}
    print(f"execution: {left} notebook{'s' * (left > 1)} to run, {jobs} at once", flush=True)

    async def one(page: Page) -> None:
        nonlocal left
        async with free:
            print(f"execution: {page.name} starts", flush=True)
            notebook, seconds, memory = await run_page(page, threads=threads, timeout=timeout)
            runs[page.name] = outputs.keep(page, notebook, seconds, memory)
            left -= 1
            print(f"execution: {page.name} done in {seconds:.1f} s, {left} left", flush=True)

    tasks = [asyncio.ensure_future(one(page)) for page in pages]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return runs


def execute(
    names: Iterable[str], cache: Path, *, timeout: int = 300, root: Path = ROOT
) -> dict[str, Run]:
    """Bring the outputs of the named pages up to date.

    Parameters
    ----------
    names : iterable of str
        Pages by their toc names; those without code are passed over.
    cache : Path
        Folder of the jupyter-cache.
    timeout : int
        Seconds that one cell may take.
    root : Path
        The repository that the pages and their closures lie in.

    Returns
    -------
    dict of str to Run
        For every page with code, the run that its outputs come from.

    Raises
    ------
    NotebookFailed
        At the first cell that raises, writes to stderr, or takes too long. Pages finished before
        are kept.
    """
    pages, outputs = read_pages(names, root), Outputs(cache)
    runs = {page.name: outputs.find(page) for page in pages}
    todo = [page for page in pages if runs[page.name] is None]
    todo.sort(key=outputs.seconds_last_time, reverse=True)
    if todo:
        runs |= asyncio.run(_run_all(todo, outputs, timeout))
    return runs
