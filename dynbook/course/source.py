"""An assignment's one source and what is made from it: a student's text, a teacher's notebook.

An assignment is a page of MyST, `book/assignments/<n>-<subject>.md`. Three kinds of cells count::

    ```{code-cell}                                ```{code-cell}
    :nbgrader: {grade_id: step, solution: true}   :nbgrader: {grade_id: step-test, points: 3}
    def step(x):                                  assert -1e-9 < step(1.0) - 0.5 < 1e-9
        ### BEGIN SOLUTION                        ### BEGIN HIDDEN TESTS
        return x / 2                              assert -1e-9 < step(7.0) - 3.5 < 1e-9
        ### END SOLUTION                          ### END HIDDEN TESTS
    ```                                           ```

and ``{answer} <grade_id>`` with ``:points:``, a derivation that a person marks; the text in it is
the model answer with its rubric. A code cell with `solution: true` and `points` is marked by a
person too; one with a `grade_id` alone is given and locked, like the parameters. These are
nbgrader's own marks, with what follows from them left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from nbformat import NotebookNode

FENCED = re.compile(
    r"^(?P<fence>```+)\{(?P<kind>code-cell|answer)\}(?P<name>[^\n]*)\n"
    r"(?P<body>.*?)^(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
OPTIONS = re.compile(r"\A(?:---\n.*?^---\n|(?::[\w-]+:[^\n]*\n)*)", re.MULTILINE | re.DOTALL)
SOLUTION = re.compile(r"^(?P<indent>[ \t]*)#+ BEGIN SOLUTION.*?#+ END SOLUTION", re.M | re.S)
HIDDEN = re.compile(r"^[ \t]*#+ BEGIN HIDDEN TESTS.*?#+ END HIDDEN TESTS[^\n]*\n?", re.M | re.S)
CODE_STUB = "# YOUR CODE HERE", "raise NotImplementedError()"  # nbgrader's own words
TEXT_STUB = "YOUR ANSWER HERE"
MARK = re.compile(r"(BEGIN|END) (SOLUTION|HIDDEN TESTS)")


@dataclass(frozen=True)
class Cell:
    """A cell that counts: its `grade_id`, its full `source`, nbgrader's `metadata`."""

    grade_id: str
    source: str
    metadata: dict

    @property
    def points(self) -> float:
        return self.metadata.get("points", 0)


def nbgrader_metadata(short: dict) -> dict:
    """What nbgrader wants to know of a cell, from what its author wrote.

    Raises
    ------
    ValueError
        If `grade_id` is missing, or something else is said than `solution` and `points`.
    """
    allowed = {"grade_id", "solution", "points"}
    if not isinstance(short, dict) or not {"grade_id"} <= {*short} <= allowed:
        raise ValueError(f"nbgrader: expected grade_id, and solution or points, got {short!r}")
    points, solution = short.get("points"), bool(short.get("solution", False))
    if points is not None and not (isinstance(points, (int, float)) and points > 0):
        raise ValueError(f"nbgrader: points must be positive, got {short!r}")
    full = {
        "grade": points is not None,
        "grade_id": str(short["grade_id"]),
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    return full if points is None else full | {"points": points}


def split_options(body: str) -> tuple[str, dict, str]:
    """The options at the head of a cell, as they stand and as read, and the rest.

    A test begins with its marks, as a comment.
    """
    head = OPTIONS.match(body)[0]
    text = re.sub(r"^:([\w-]+):", r"\1:", head, flags=re.MULTILINE).replace("---\n", "")
    options, rest = yaml.safe_load(text) or {}, body[len(head) :]
    marks = options.get("nbgrader")
    if isinstance(marks, dict) and marks.get("points") and not marks.get("solution"):
        rest = f"# {marks['points']} mark{'s' * (marks['points'] != 1)}\n{rest}"
    return head, options, rest


def without_solution(source: str) -> str:
    """Code as students get it: stubs for solutions, no hidden tests."""

    def stub(found: re.Match) -> str:
        return "\n".join(found["indent"] + line for line in CODE_STUB)

    return HIDDEN.sub("", SOLUTION.sub(stub, source))


def student(text: str) -> str:
    """The page as students see it.

    Raises
    ------
    ValueError
        If a mark of a solution or of hidden tests is left over: one without its other half.
    """

    def strip(found: re.Match) -> str:
        head, options, rest = split_options(found["body"])
        if found["kind"] == "answer":
            rest = TEXT_STUB + "\n"
        elif options.get("nbgrader"):
            rest = without_solution(rest)
        opening = f"{found['fence']}{{{found['kind']}}}{found['name']}\n"
        return f"{opening}{head}{rest}{found['fence']}"

    stripped = FENCED.sub(strip, text)
    if left := MARK.search(stripped):
        line = stripped[: left.start()].count("\n") + 1
        raise ValueError(f"line {line} of the student's text: {left[0]!r} without its other half")
    return stripped


def graded_cells(text: str) -> dict[str, Cell]:
    """Every cell of the page that counts, in order, with solutions and hidden tests.

    Raises
    ------
    ValueError
        If two cells have one `grade_id`.
    """
    found: dict[str, Cell] = {}
    for cell in FENCED.finditer(text):
        _, options, source = split_options(cell["body"])
        if cell["kind"] == "answer":
            short = {"grade_id": cell["name"].strip(), "solution": True, **options}
        elif "nbgrader" in options:
            short = options["nbgrader"]
        else:
            continue
        metadata = nbgrader_metadata(short)
        if metadata["grade_id"] in found:
            raise ValueError(f"two cells have the grade_id {metadata['grade_id']!r}")
        found[metadata["grade_id"]] = Cell(metadata["grade_id"], source.rstrip("\n"), metadata)
    return found


def overlaid(cells: dict[str, Cell], private: dict[str, Cell]) -> dict[str, Cell]:
    """The cells, with those of an instructor's private page in the place of the public ones.

    Raises
    ------
    ValueError
        If the private page has a cell that the public one has not, or other marks for it.
    """
    for name, cell in private.items():
        if name not in cells:
            raise ValueError(f"the private cell {name!r} replaces none of {', '.join(cells)}")
        if cell.metadata != cells[name].metadata:
            raise ValueError(
                f"the private cell {name!r} is marked {cell.metadata}, the public one "
                f"{cells[name].metadata}; the marks stand in the text, so they must agree"
            )
    return cells | private


def teacher(notebook: NotebookNode, cells: dict[str, Cell]) -> NotebookNode:
    """A student's notebook with solutions and hidden tests put in: nbgrader's source.

    Raises
    ------
    ValueError
        If cells that count are missing from the notebook, or it has others.
    """
    notebook, there = notebook.copy(), []
    notebook.cells = [cell.copy() for cell in notebook.cells]
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            name = cell.metadata["nbgrader"]["grade_id"]
            there.append(name)
            if name in cells:
                cell.source = cells[name].source
    if there != [*cells]:
        raise ValueError(f"the notebook has cells {there}, its page {[*cells]}: `make book` first")
    return notebook


def assignments(folder: Path) -> dict[int, Path]:
    """The pages of the assignments, by their number."""
    pages = sorted(folder.glob("[1-9]*-*.md"))
    return {int(path.name.partition("-")[0]): path for path in pages}
