"""`make newest`: every plain notebook as on Colab, with the newest versions of all it needs.

An environment with the newest numpy, torch, …, in which this package is not installed, takes itself
for Colab (colab.py). Each committed notebook runs there from a clone at its own commit or tag: its
first cell fetches the code, and nothing that was there may be installed again. What the cells quote
is then held against tests/quoted: that a notebook runs does not say that its numbers are right.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from jupyter_client import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from .closure import ROOT
from .colab import colab, moved, opened_from
from .environment import torch_options
from .execute import ANSI, machine

VENV = ROOT / ".venv-newest"
REPORT = ROOT / "_build" / "newest.md"
NOT_ON_COLAB = ("jaxtyping",)  # a notebook's first cell installs it
OWNER_AND_NAME = "someone/book"


@dataclass
class Outcome:
    """What became of a notebook: what went wrong, what it warned of, what it published."""

    name: str
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    quoted: dict[str, object] = field(default_factory=dict)


def packages(root: Path = ROOT) -> list[str]:
    """What a notebook needs and Colab has: the ranges of pyproject.toml, and what runs a kernel."""
    text = (root / "pyproject.toml").read_text(encoding="utf8")
    lists = re.findall(r"^(?:dependencies|notebooks) = (\[.*\])$", text, re.MULTILINE)
    if len(lists) != 2:
        raise SystemExit(
            "newest: pyproject.toml must have `dependencies` and `notebooks`, a line each"
        )
    named = [package for line in lists for package in ast.literal_eval(line)]
    return [p for p in named if not p.startswith(NOT_ON_COLAB)] + ["ipykernel", "pip"]


def environment() -> Path:
    """Make .venv-newest anew; returns its Python."""
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    for command in (
        [uv, "venv", "-q", "--clear", "--python", sys.executable, VENV],
        [
            uv,
            "pip",
            "install",
            "-q",
            "--upgrade",
            "--python",
            python,
            *torch_options(),
            *packages(),
        ],
    ):
        if subprocess.run(list(map(str, command))).returncode:
            raise SystemExit("newest: stopped at `" + " ".join(map(str, command)) + "`")
    return python


def versions(python: Path) -> dict[str, str]:
    """All distributions of an environment: name → version."""
    ask = (
        "import importlib.metadata as m, json; "
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    told = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


def clone(root: Path, revision: str, github: Path) -> Path:
    """Put a revision of the repository where `colab` looks for GitHub; returns the clone."""
    home = github / OWNER_AND_NAME
    known = subprocess.run(
        ["git", "-C", root, "rev-parse", "-q", "--verify", f"{revision}^{{commit}}"],
        capture_output=True,
        text=True,
    )
    if known.returncode:
        raise SystemExit(f"newest: {revision!r} is neither a tag nor a commit of this clone")
    for command in (
        ["clone", "-q", "--no-checkout", f"file://{root}", home],
        ["-C", home, "checkout", "-q", "-B", "opened", known.stdout.strip()],
    ):
        subprocess.run(["git", *map(str, command)], check=True)
    return home


def run(
    python: Path, path: Path, home: Path, work: Path, first_cell_alone: bool = False
) -> Outcome:
    """One notebook of a clone, in a folder and with a `/content` of its own."""
    outcome = Outcome(path.stem)
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    here, content = work / path.stem, work / path.stem / "content"
    here.mkdir(parents=True, exist_ok=True)
    code[0].source = moved(code[0].source, content)
    if first_cell_alone:
        notebook.cells = [code[0]]
    else:
        came = "import dynbook\nprint('dynbook of', dynbook.__path__[0])"
        notebook.cells.append(nbformat.v4.new_code_cell(came))
    opened = opened_from(OWNER_AND_NAME, "opened", path.relative_to(home).as_posix())
    kernel = KernelManager(kernel_name="python3")
    kernel.kernel_spec.argv[0] = str(python)
    leaks = ("PYTHON", "VIRTUAL_ENV", "CONDA", "DYNBOOK", "MPLBACKEND")
    env = {k: v for k, v in os.environ.items() if not k.startswith(leaks)}
    client = NotebookClient(
        notebook, km=kernel, timeout=600, resources={"metadata": {"path": str(here)}}
    )
    start = time.monotonic()
    with colab(here / "pretence", home.parents[1], opened) as pretence:
        env |= pretence | {"DYNBOOK_BUILD": "1", "OMP_NUM_THREADS": "1"}  # a build publishes quotes
        try:
            client.execute(env=env, stderr=subprocess.DEVNULL)  # its own words on ports and mirrors
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            outcome.wrong.append("\n".join(ANSI.sub("", str(error)).strip().splitlines()[-12:]))
    outcome.seconds = time.monotonic() - start
    said = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    outcome.warnings = [out.text.strip() for out in said if out.get("name") == "stderr"]
    for out in said:
        for kind, value in out.get("data", {}).items():
            if kind.startswith("application/papermill.record/"):
                outcome.quoted[out.metadata["scrapbook"]["name"]] = ast.literal_eval(value)
    if not outcome.wrong and not first_cell_alone and str(content) not in said[-1].get("text", ""):
        outcome.wrong.append(f"its code is not the clone's: {said[-1].get('text', '')}")
    return outcome


def judge(outcome: Outcome, root: Path) -> None:
    """Add to what went wrong the quoted numbers that are not what tests/quoted says."""
    number = outcome.name.partition("-")[0]
    if outcome.wrong or not (root / "tests" / "quoted" / f"chapter_{number}.py").exists():
        return
    ask = (
        "import ast, sys; sys.path.insert(0, sys.argv[1]); from quoted import differences; "
        "print(*differences(sys.argv[2], ast.literal_eval(sys.stdin.read())), sep='\\n')"
    )
    command = [sys.executable, "-c", ask, str(root / "tests"), number]
    told = subprocess.run(command, input=repr(outcome.quoted), capture_output=True, text=True)
    outcome.wrong += told.stdout.split("\n")[:-1] if not told.returncode else [told.stderr]
    outcome.wrong = [line for line in outcome.wrong if line]


def report(outcomes: Iterable[Outcome], lock: str, found: dict[str, str], revision: str) -> str:
    """A page for people: versions beside the lock's, then each notebook."""
    lines = [f"Plain notebooks at `{revision}`, Python {machine()['python']}, as on Colab.", ""]
    lines += ["| package | locked | newest |", "|---|---|---|"]
    for package in packages():
        name = re.match(r"[\w-]+", package)[0]
        pinned = re.findall(rf"^{name}==([^\s;]+)", lock, re.MULTILINE | re.IGNORECASE)
        now = {k.lower(): v for k, v in found.items()}.get(name.lower(), "missing")
        lines.append(f"| {name} | {', '.join(pinned) or 'not locked'} | {now} |")
    for one in outcomes:
        verdict = "as it should be" if not one.wrong else "**not as it should be**"
        lines += ["", f"## {one.name}: {verdict}", ""]
        lines.append(f"{one.seconds:.0f} s, {len(one.quoted)} quoted numbers.")
        for title, texts in (("Wrong", one.wrong), ("It warned", one.warnings)):
            lines += [f"\n{title}:\n```text\n{text}\n```" for text in texts]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="make newest", description=__doc__.split("\n")[0])
    parser.add_argument("chapter", nargs="*", help="numbers of chapters; all notebooks without any")
    parser.add_argument("--at", default="HEAD", metavar="TAG", help="a tag or commit; HEAD if none")
    parser.add_argument("--python", type=Path, help="take this environment, and install nothing")
    asked = parser.parse_args(arguments)
    if asked.python and not asked.python.is_file():
        parser.error(f"--python must be the Python of an environment, got {asked.python}")
    python = asked.python.absolute() if asked.python else environment()
    before = versions(python)
    with tempfile.TemporaryDirectory(prefix="newest-") as folder:
        work = Path(folder)
        home = clone(root, asked.at, work / "github")
        paths = sorted((home / "book" / "notebooks").glob("*.ipynb"))
        if asked.chapter:
            paths = [p for p in paths if p.name.partition("-")[0] in asked.chapter]
        if not paths:
            parser.error(f"no notebook of {asked.chapter or 'the book'} at {asked.at}")
        outcomes = [run(python, paths[0], home, work / "first", first_cell_alone=True)]
        if not outcomes[0].wrong:
            paths.sort(key=lambda path: path.stat().st_size, reverse=True)
            with ThreadPoolExecutor(int(machine()["cores"])) as pool:
                jobs = [pool.submit(run, python, path, home, work / "runs") for path in paths]
                outcomes = [job.result() for job in jobs]
        for outcome in sorted(outcomes, key=lambda one: one.name):
            judge(outcome, home)
            print(f"{outcome.name}: {'; '.join(outcome.wrong) or 'ok'}, {outcome.seconds:.0f} s")
    after = versions(python)
    changed = sorted(name for name in before if after.get(name) != before[name])
    if changed:
        outcomes[0].wrong.append(f"installed again, where Colab has its own: {', '.join(changed)}")
        print(outcomes[0].wrong[-1])
    lock = (root / "requirements.txt").read_text(encoding="utf8")
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(report(outcomes, lock, after, asked.at), encoding="utf8")
    print(f"The report: {REPORT}")
    return 1 if any(one.wrong for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
