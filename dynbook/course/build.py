"""`make course`: student notebooks, solutions, and the nbgrader course, into `_build/course`.

The student notebooks are those of the site (`make book`). An instructor's private pages, in
`book/assignments/private/` under the same names, replace cells of the public ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from ..publish.closure import ROOT
from ..publish.environment import make_extra
from .run import name_of
from .source import HIDDEN, assignments, graded_cells, overlaid, teacher

COURSE = ROOT / "_build" / "course"
PAGES = ROOT / "book" / "assignments"
NOTEBOOKS = ROOT / "_build" / "html" / "book" / "notebooks" / "assignments"
LOCK = ROOT / "dynbook" / "course" / "requirements.txt"


def grading_python() -> Path:
    """The Python of the grading environment, `.venv-grading`, which is made where it is missing."""
    return make_extra(".venv-grading", LOCK)


def gradebook(*arguments: object) -> None:
    """Let nbgrader do its part, in its environment.

    Raises
    ------
    SystemExit
        If it fails, in its words.
    """
    python, script = grading_python(), Path(__file__).with_name("gradebook.py")
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"  # nbgrader calls its alembic
    done = subprocess.run(
        [python, "-W", "ignore", script, *map(str, arguments)],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        encoding="utf8",
    )
    if done.returncode:
        raise SystemExit(done.stderr[-4000:] or done.stdout[-4000:])


def full_notebook(page: Path, notebook: Path, private: Path) -> nbformat.NotebookNode:
    """An assignment with its solutions and hidden tests, those of the private page first.

    Raises
    ------
    SystemExit
        If the notebook is missing, or a page cannot be used; in words, with the page's name.
    """
    if not notebook.exists():
        raise SystemExit(f"{notebook} is not there: `make book` first")
    at = page
    try:
        cells = graded_cells(page.read_text(encoding="utf8"))
        if private.exists():
            at, public = private, cells
            own = graded_cells(private.read_text(encoding="utf8"))
            cells = overlaid(cells, own)
            for name, cell in own.items():
                if HIDDEN.search(public[name].source) and not HIDDEN.search(cell.source):
                    print(f"course: {private}: students will see all of the test {name!r}")
        return teacher(nbformat.read(notebook, as_version=4), cells)
    except ValueError as error:
        raise SystemExit(f"{at}: {error}") from None


def with_checksums(source: nbformat.NotebookNode, release: nbformat.NotebookNode):
    """The source with nbgrader's checksums, by which it knows an answer that was not given."""
    marks = {name_of(cell): cell.metadata["nbgrader"] for cell in release.cells if name_of(cell)}
    for cell in source.cells:
        if name := name_of(cell):
            cell.metadata["nbgrader"] = marks[name]
    return source


def solve(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook executed, in a plain kernel: the solutions are ours.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a solution does not pass its own tests.
    """
    return NotebookClient(notebook, timeout=300, record_timing=False).execute(cwd=str(ROOT))


def build(course: Path = COURSE, *, pages: Path = PAGES, notebooks: Path = NOTEBOOKS) -> list[str]:
    """Make or renew the course; returns the names of the assignments.

    Parameters
    ----------
    course : Path
        Where to.
    pages, notebooks : Path
        The assignments' text, and the students' notebooks that the book's build made of it.

    Raises
    ------
    SystemExit
        If a page cannot be used, or a solution does not pass its own tests.
    """
    names, new = [page.stem for page in assignments(pages).values()], {}
    for private in sorted((pages / "private").glob("[1-9]*.md")):
        if private.stem not in names:
            raise SystemExit(f"{private} has the name of no assignment: {', '.join(names)}")
    for name in names:
        private = pages / "private" / f"{name}.md"
        full = full_notebook(pages / f"{name}.md", notebooks / f"{name}.ipynb", private)
        text = nbformat.writes(full) + "\n"
        stamp = course / "source" / name / ".made-from"
        if not stamp.exists() or stamp.read_text(encoding="utf8") != text:
            new[name] = text
    for name, text in new.items():
        print(f"course: solving {name}", flush=True)
        for folder in ("source", "release", "solutions", "students", "masters"):
            (course / folder).mkdir(parents=True, exist_ok=True)
        try:
            solved = solve(nbformat.reads(text, as_version=4))
        except CellExecutionError as error:
            raise SystemExit(f"{error}\n{name}: the solution does not pass its own tests") from None
        nbformat.write(solved, course / "solutions" / f"{name}.ipynb")
        (course / "source" / name).mkdir(exist_ok=True)
        (course / "source" / name / f"{name}.ipynb").write_text(text, encoding="utf8")
    if new:
        gradebook("generate", course, *new)
    for name, text in new.items():
        release = course / "release" / name / f"{name}.ipynb"
        shutil.copy(release, course / "students" / f"{name}.ipynb")
        marked = with_checksums(nbformat.reads(text, 4), nbformat.read(release, 4))
        nbformat.write(marked, course / "masters" / f"{name}.ipynb")
        (course / "source" / name / ".made-from").write_text(text, encoding="utf8")
    return names


def main() -> int:
    build()
    print(f"For students:    {COURSE / 'students'}\nFor instructors: {COURSE / 'solutions'}")
    print(f"The course:      {COURSE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
