"""Run one submission: put its answers into the master notebook, execute that, report.

As a program, `python -m dynbook.course.run MASTER SUBMISSION FOLDER`, it is a process of its own
for each submission: even if what comes out of a kernel breaks this client, the others go on.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from .sandbox import Limits, Watch, command, set_limits

LARGEST = 20e6  # bytes of a submitted file
PICTURES = ("image/png", "image/jpeg")
SHOWN = ("text/plain", "text/latex", "image/png")  # no HTML, no script: people will look at it


class Refused(Exception):
    """What was handed in cannot be graded; the message says why."""


def read(path: Path) -> nbformat.NotebookNode:
    """A submitted notebook.

    Raises
    ------
    Refused
        If the file is none.
    """
    size = path.stat().st_size
    if size == 0:
        raise Refused("the file is empty")
    if size > LARGEST:
        raise Refused(f"the file has {size / 1e6:.0f} MB; a notebook may have {LARGEST / 1e6:.0f}")
    try:
        content = path.read_bytes()
        text = content.decode(json.detect_encoding(content))  # with or without a byte-order mark
        notebook = nbformat.reads(text, as_version=4)
    except Exception as error:  # whatever a reader of JSON finds to object to
        first = (str(error).splitlines() or [""])[0][:120]
        raise Refused(f"the file is not a notebook ({type(error).__name__}: {first})") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(map(is_cell, cells)):
        raise Refused("the file is not a notebook (its cells are not in order)")
    return notebook


def is_cell(cell: object) -> bool:
    return (
        isinstance(cell, dict)
        and cell.get("cell_type") in ("code", "markdown", "raw")
        and isinstance(cell.get("source"), str)
        and isinstance(cell.get("metadata", {}), dict)
    )


def name_of(cell: dict) -> str | None:
    marks = cell.get("metadata", {}).get("nbgrader")
    name = marks.get("grade_id") if isinstance(marks, dict) else None
    return name if isinstance(name, str) else None


def assemble(
    master: nbformat.NotebookNode, submission: nbformat.NotebookNode
) -> tuple[nbformat.NotebookNode, list[str]]:
    """The master notebook with a student's answers, and notes on what was odd.

    Every cell of the master stands in its place, tests and given cells as the master has them.
    Cells of the student's own follow the cell after which they stood. Of two cells with one name
    the first counts.

    Raises
    ------
    Refused
        If most of what counts in the submission is of another assignment.
    """
    notes, answers, own, strangers = [], {}, {}, 0
    known = {name_of(c): c for c in master.cells if name_of(c)}
    text = {c.source.strip() for c in master.cells if not name_of(c)}
    last = None
    for cell in submission.cells:
        name = name_of(cell)
        if name in known and name not in answers:
            answers[name] = cell
            last = name
            continue
        strangers += bool(name) and name not in known
        if name in known:
            notes.append(f"the cell {name} was there twice: the first counts")
        if cell.source.strip() not in text:
            own.setdefault(last, []).append(cell)
    if len(answers) <= strangers:  # a name or two may stand in more than one assignment
        raise Refused("it has few cells of this assignment or none: is it another one's notebook?")
    cells = [plain(cell) for cell in own.get(None, ())]
    for cell in master.cells:
        name = name_of(cell)
        cell = cell.copy()
        if name and cell.metadata["nbgrader"]["solution"]:
            if name in answers:
                cell.source = answers[name].source
                if cell.cell_type == "markdown":
                    cell.source = inert(cell.source)
                    cell |= pictures(answers[name])
            else:
                notes.append(f"the cell {name} was missing: no answer")
                cell.source = "" if cell.cell_type == "code" else "(deleted)"
        elif name and name not in answers:
            notes.append(f"the cell {name} was missing: put back")
        cells.append(cell)
        cells += [plain(c) for c in own.get(name, ()) if name]
    # ids may repeat in what students hand in; nobody needs them from here on
    whole = nbformat.v4.new_notebook(cells=cells, metadata=master.metadata)
    for index, cell in enumerate(whole.cells):
        cell.id = f"cell-{index}"
    return whole, notes


def plain(cell: dict) -> nbformat.NotebookNode:
    """A student's own cell, without whatever its metadata say."""
    if cell["cell_type"] == "code":
        return new_code_cell(cell["source"])
    return new_markdown_cell(inert(cell["source"]), **pictures(cell))


def inert(text: str) -> str:
    """Markdown in which nothing is HTML or a script: nbgrader's pages would let it run.

    A blank after ``<``, in an entity or in the name of a language breaks it and leaves formulas
    as they are.
    """
    return re.sub(r"(?i)<(?=[a-z/!?])|&(?=#|\w+;)|(java|vb)(?=script)", r"\g<0> ", text)


def pictures(cell: dict) -> dict:
    """The pictures that were pasted into a text, as an option of its cell."""
    pasted, kept = cell.get("attachments"), {}
    for name, data in pasted.items() if isinstance(pasted, dict) else ():
        if isinstance(data, dict):
            shown = {k: data[k] for k in PICTURES if k in data and is_base64(data[k])}
            kept |= {name: shown} if shown else {}
    return {"attachments": kept} if kept else {}


def is_base64(data: object) -> bool:
    try:
        base64.b64decode("".join(data.split()), validate=True)
    except Exception:  # whatever it may be
        return False
    return True


class Client(NotebookClient):
    """Sends cells to a kernel, keeps what is safe to show, and gives up on a flood."""

    def __init__(self, notebook, watch: Watch | None = None, most: float = 5e6, **options):
        super().__init__(notebook, **options)
        self.watch, self.most, self.said, self.slow = watch, most, 0, False
        self.on_cell_executed = record_error

    def process_message(self, msg, cell, cell_index):
        self.said += len(json.dumps(msg["content"], default=str))
        if self.said > self.most:
            self.watch.stop(f"its cells showed more than {self.most / 1e6:g} MB")
            raise DeadKernelError("too much output")
        data = msg["content"].get("data")
        if isinstance(data, dict):
            shown = {kind: data[kind] for kind in SHOWN if isinstance(data.get(kind), str)}
            if not is_base64(shown.get("image/png", "")):
                del shown["image/png"]
            if "text/latex" in shown:
                shown["text/latex"] = inert(shown["text/latex"])
            msg["content"]["data"], msg["content"]["metadata"] = shown, {}
        return super().process_message(msg, cell, cell_index)

    def handle_comm_msg(self, outs, msg, cell_index):
        """Widgets are for a page; here they might hide what a cell shows."""

    async def _async_handle_timeout(self, timeout, cell=None):
        self.slow = True
        return await super()._async_handle_timeout(timeout, cell)


def record_error(cell: nbformat.NotebookNode, execute_reply: dict, **_) -> None:
    """See that a cell that failed looks so, even where nothing was shown of it."""
    said = execute_reply["content"]
    if said["status"] != "ok" and not any(o.output_type == "error" for o in cell.outputs):
        name, words = str(said.get("ename", "Error")), str(said.get("evalue", said["status"]))
        cell.outputs.append(failed(name, words))


def failed(name: str, words: str) -> nbformat.NotebookNode:
    return new_output("error", ename=name, evalue=words, traceback=[words])


class Kernel(AsyncKernelManager):
    """A kernel started by a command of our own."""

    spec: KernelSpec

    @property
    def kernel_spec(self):
        return self.spec


async def execute(
    notebook: nbformat.NotebookNode, limits: Limits, *, sandbox: bool
) -> tuple[str | None, list[str]]:
    """Execute all cells in place; why that was stopped before the end, or None, and notes."""
    sockets = Path(tempfile.mkdtemp(prefix="dynbook-"))
    kernel = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel += ["--HistoryManager.hist_file=:memory:"]
    wrapped = command(kernel, sockets, limits) if sandbox else kernel
    manager = Kernel(
        transport="ipc", ip=str(sockets / "k"), connection_file=str(sockets / "kernel.json")
    )
    manager.spec = KernelSpec(
        argv=wrapped, display_name="", language="python", interrupt_mode="message"
    )
    client = Client(
        notebook,
        km=manager,
        most=limits.output * 1e6,
        timeout=limits.cell_seconds,
        interrupt_on_timeout=True,
        error_on_timeout={"ename": "TimeoutError", "evalue": "", "traceback": []},
        raise_on_iopub_timeout=False,
        iopub_timeout=10,
        allow_errors=True,
        record_timing=False,
        store_widget_state=False,
    )
    options = {"cwd": str(sockets), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if not sandbox:
        options["env"] = os.environ | {"OMP_NUM_THREADS": "1"}
    reason, watch, index, notes = None, None, 0, []
    try:
        await manager.start_kernel(preexec_fn=lambda: set_limits(limits), **options)
        watch = client.watch = Watch(manager.provisioner.pid, sockets, limits)
        await client.async_start_new_kernel_client()
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                client.slow = False
                await client.async_execute_cell(cell, index)
                settle(cell, client.code_cells_executed)
                if client.slow:
                    words = f"no end after {limits.cell_seconds:g} s"
                    cell.outputs.append(failed("TimeoutError", words))
                    notes.append(f"the cell {name_of(cell) or 'of its own'}: {words}")
    except Exception as error:  # whatever a kernel can do to its client
        died = isinstance(error, DeadKernelError | RuntimeError)
        what = "its kernel died" if died else "what its kernel sent cannot be read"
        reason = (watch and watch.reason) or f"{what} ({type(error).__name__})"
        for cell in notebook.cells[index:]:
            if cell.cell_type == "code":
                cell.outputs = [failed("Stopped", reason)]
    finally:
        if watch:
            watch.end()
            watch.stop("done")
        with suppress(Exception):
            await client._async_cleanup_kernel()
        subprocess.run(["rm", "-rf", sockets], stderr=subprocess.DEVNULL)  # however deep it is
    return reason, notes


def settle(cell: nbformat.NotebookNode, count: int) -> None:
    """Leave outputs in the form in which marks are read: an error, or none."""
    cell.execution_count = count
    for output in cell.outputs:
        if output.output_type == "stream":
            output.name = "stdout"  # nbgrader takes a warning on stderr for an error
            output.text = output.text[:20_000]
        elif output.output_type == "execute_result":
            output.output_type = "display_data"  # nbgrader takes a number in a test for its marks
            del output["execution_count"]


def run(master: Path, submission: Path, limits: Limits, *, sandbox: bool = True):
    """The executed notebook of a submission, or None, and a report on it as a dictionary."""
    start = time.monotonic()
    whole = nbformat.read(master, as_version=4)
    try:
        notebook, notes = assemble(whole, read(submission))
    except Refused as refused:
        return None, {"problem": str(refused), "notes": [], "seconds": 0.0}
    problem, more = asyncio.run(execute(notebook, limits, sandbox=sandbox))
    seconds = round(time.monotonic() - start, 2)
    return notebook, {"problem": problem, "notes": notes + more, "seconds": seconds}


def write(path: Path, text: str) -> None:
    """All of it or nothing."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf8")
    draft.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("master", type=Path)
    parser.add_argument("submission", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-sandbox", action="store_true")
    for name, value in asdict(Limits()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    said = parser.parse_args(arguments)
    limits = Limits(**{name: getattr(said, name) for name in asdict(Limits())})
    resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))  # what comes out may be large, too
    notebook, report = run(said.master, said.submission, limits, sandbox=not said.no_sandbox)
    if notebook is not None:
        write(said.folder / "notebook.ipynb", nbformat.writes(notebook))
    write(said.folder / "report.json", json.dumps(report))


if __name__ == "__main__":
    main()
