"""`make paper`: run the experiments of the chapters in the sizes of the papers, and record them.

Each chapter runs as it stands, in a kernel of its own; the experiments in it are the cells that ask
:func:`dynbook.results.due`. With `DYNBOOK_SCALE=trial` they are tried out in a reduced size.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from dynbook import results

from .closure import ROOT
from .execute import NotebookFailed, Page, explain, kernel_environment, machine, read_pages

ASKS = re.compile(r"""\bdue\(["']([\w-]+)["']\)""")


def experiments(text: str) -> list[str]:
    """Names of the experiments in a chapter's text, or a cell's."""
    return ASKS.findall(text)


def chapters(root: Path = ROOT) -> dict[str, Path]:
    """Texts of the chapters that have experiments, by the numbers of their names."""
    found = sorted((root / "book").glob("[0-9]*-*.md"))
    return {p.name.split("-")[0]: p for p in found if experiments(p.read_text(encoding="utf8"))}


def run(page: Page) -> None:
    """Execute a page, and say of each of its experiments when it begins and ends.

    Raises
    ------
    NotebookFailed
        At the first cell that raises, or that the kernel does not survive.
    """
    now, begin, names = 0, time.monotonic(), []

    def started(cell, cell_index):
        nonlocal now, begin, names
        now, begin = cell_index, time.monotonic()
        names = list(filter(results.due, experiments(cell.source)))
        for name in names:
            print(f"  {name} …", flush=True)

    def ended(cell, cell_index, execute_reply):
        if execute_reply["content"]["status"] == "ok":
            for name in names:
                print(f"  {name} done, {time.monotonic() - begin:.0f} s", flush=True)

    client = NotebookClient(
        page.notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(page.path.parent)}},
        on_cell_start=started,
        on_cell_executed=ended,
    )
    try:
        client.execute(env=kernel_environment(int(machine()["cores"]), page.root))
    except CellExecutionError:
        error = next(o for o in page.notebook.cells[now].outputs if o.output_type == "error")
        raise explain(page, now, "\n".join(error.traceback)) from None
    except DeadKernelError:
        raise explain(page, now, "The kernel died (out of memory?).") from None


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    known = chapters(root)
    parser = argparse.ArgumentParser(prog="make paper", description=__doc__.split("\n")[0])
    words = f"numbers of chapters; without any, all that have experiments: {', '.join(known)}"
    parser.add_argument("chapter", nargs="*", help=words)
    asked = parser.parse_args(arguments).chapter or list(known)
    if unknown := [number for number in asked if number not in known]:
        parser.error(f"no experiments in chapter {unknown[0]}; there are in {', '.join(known)}")
    if results.scale() == "laptop":
        os.environ["DYNBOOK_SCALE"] = "paper"
    folder = results.FOLDER if results.scale() == "paper" else results.TRIAL
    commit = results.commit()
    print(f"{results.device(results.best_device())}; commit {commit}; into {folder}")
    if folder == results.FOLDER and (commit == "unknown" or commit.endswith(results.CHANGED)):
        print("This is no clean commit: if it is stopped, all will be run again.")
    failed = []
    for number in asked:
        path = known[number]
        name = f"book/{path.stem}"
        wanted = list(filter(results.due, experiments(path.read_text(encoding="utf8"))))
        print(f"{name}: {', '.join(wanted) or 'all recorded by this commit'}", flush=True)
        if wanted:
            try:
                run(*read_pages([name], root))
            except NotebookFailed as problem:
                print(problem, file=sys.stderr, flush=True)
                failed.append(name)
    if failed:
        print(f"Failed: {', '.join(failed)}. What the others recorded is kept.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on; what was recorded is kept.")
        sys.exit(130)
