"""Every assignment: the solution has all marks, the empty version none, a mistake loses its own."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from dynbook.course.build import PAGES, build, grading_python
from dynbook.course.grade import grade
from dynbook.course.source import assignments, graded_cells, student

TEXTS = {page.stem: page.read_text(encoding="utf8") for page in assignments(PAGES).values()}
ANSWERS = Path(__file__).parent / "assignments"


def answers(name: str):
    """The module of right and wrong answers of an assignment."""
    path = ANSWERS / f"{name.partition('-')[0]}.py"
    spec = importlib.util.spec_from_file_location(f"answers_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_chapter_has_an_assignment():
    chapters = {p.name.partition("-")[0] for p in PAGES.parent.glob("[1-9]-*.md")}
    assert {name.partition("-")[0] for name in TEXTS} == chapters


@pytest.mark.parametrize("name", TEXTS)
def test_marks_in_the_headings_are_those_of_the_cells(name):
    parts = re.split(r"^## ", TEXTS[name], flags=re.MULTILINE)[1:]
    for part in parts:
        said = int(re.match(r"Part [A-D]: .*\((\d+) marks\)\n", part)[1])
        assert sum(cell.points for cell in graded_cells(part).values()) == said, part[:40]
    assert [part[:7] for part in parts] == ["Part A:", "Part B:", "Part C:", "Part D:"]
    assert sum(cell.points for cell in graded_cells(TEXTS[name]).values()) == 40


@pytest.mark.parametrize("name", TEXTS)
def test_hidden_tests_use_nothing_that_a_student_may_have_patched(name):
    for cell in graded_cells(TEXTS[name]).values():
        for hidden in re.findall(r"BEGIN HIDDEN TESTS(.*?)END HIDDEN", cell.source, re.DOTALL):
            assert not re.search(r"\b(allclose|isclose|assert_close|all|abs|round|close)\(", hidden)


@pytest.mark.parametrize("name", TEXTS)
def test_the_site_tells_no_solution(name, book):
    secret = {
        line.strip()
        for cell in graded_cells(TEXTS[name]).values()
        for line in cell.source.splitlines()
        if len(line.strip()) > 20
    } - {line.strip() for line in student(TEXTS[name]).splitlines()}
    assert len(secret) > 20
    html = book / "html" / "book"
    page = (html / "assignments" / f"{name}.html").read_text(encoding="utf8")
    notebook = html / "notebooks" / "assignments" / f"{name}.ipynb"
    cells = nbformat.read(notebook, as_version=4).cells
    shown = BeautifulSoup(page, "html.parser").get_text()
    for text in (shown, "\n".join(cell.source for cell in cells)):
        assert secret & {line.strip() for line in text.splitlines()} == set()
        assert "Rubric" not in text and "Model answer" not in text


@pytest.fixture(scope="module")
def course(book, tmp_path_factory) -> Path:
    """The course, made from the built book; its solutions have passed their tests."""
    folder = tmp_path_factory.mktemp("course")
    build(folder, notebooks=book / "html" / "book" / "notebooks" / "assignments")
    return folder


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_handed_out_is_what_the_site_shows(name, course, book):
    shown = book / "html" / "book" / "notebooks" / "assignments" / f"{name}.ipynb"
    handed = nbformat.read(course / "students" / f"{name}.ipynb", as_version=4)
    cells = nbformat.read(shown, as_version=4).cells
    assert [c.source.strip() for c in handed.cells] == [c.source.strip() for c in cells]


def some(cases: dict, every: int) -> dict:
    """Each so-many-th case, the first among them."""
    return dict([*cases.items()][::every])


def handed_in(
    course: Path, name: str, replaced: dict[str, str], start: str
) -> nbformat.NotebookNode:
    """A student's notebook: the solved (`source`) or the empty one, with some cells replaced."""
    folder = course / start / name if start == "source" else course / start
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = replaced.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
    return notebook


@pytest.mark.usefixtures("bubblewrap")
@pytest.mark.parametrize("name", TEXTS)
def test_marks_are_what_they_should_be(name, course, tmp_path, request):
    cells = graded_cells(TEXTS[name])
    tests = {k: c.points for k, c in cells.items() if c.points and not c.metadata["solution"]}
    by_hand = {k for k, c in cells.items() if c.points and c.metadata["solution"]}
    every = 1 if request.config.getoption("--all-answers") else 6
    wrong, right = some(answers(name).WRONG, every), some(answers(name).RIGHT, every)
    assert len(wrong) >= 3
    expected = {"empty": tests, "solution": {}}
    nbformat.write(handed_in(course, name, {}, "students"), tmp_path / "empty.ipynb")
    nbformat.write(handed_in(course, name, {}, "source"), tmp_path / "solution.ipynb")
    cases = [(replaced, lost) for replaced, lost in wrong.values()]
    cases += [(replaced, {}) for replaced in right.values()]
    for index, (replaced, lost) in enumerate(cases):
        assert {*replaced} <= {k for k, c in cells.items() if c.metadata["solution"]}
        notebook = handed_in(course, name, replaced, "source")
        nbformat.write(notebook, tmp_path / f"case{index}.ipynb")
        expected[f"case{index}"] = lost
    grade(tmp_path, name, course=course)
    with open(course / "marks" / f"{name}.csv", encoding="utf8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    words = dict(zip(expected, ["empty", "solution", *wrong, *right], strict=True))
    lost = {
        who: {k: points - float(row[k]) for k, points in tests.items() if float(row[k]) < points}
        for who, row in rows.items()
    }
    assert {words[w]: lost[w] for w in lost} == {words[w]: expected[w] for w in expected}
    assert {w: row["problem"] for w, row in rows.items() if row["problem"]} == {}
    assert {*rows["solution"]["to_mark_by_hand"].split()} == by_hand
    assert float(rows["empty"]["score"]) == 0 and not rows["empty"]["to_mark_by_hand"]


BY_HAND = """
import json, sys
from nbgrader.api import Gradebook
course, name = sys.argv[1:]
with Gradebook(f"sqlite:///{course}/gradebook.db", "dynbook") as book:
    for grade in book.find_submission_notebook(name, name, "solution").grades:
        if grade.needs_manual_grade:
            grade.manual_score, grade.needs_manual_grade = grade.max_score, False
    book.find_submission_notebook(name, name, "solution").comments[0].manual_comment = "Well told."
    book.db.commit()
"""


@pytest.mark.usefixtures("bubblewrap")
def test_marks_given_by_hand_make_the_solution_whole(course, tmp_path):
    name = next(iter(TEXTS))
    nbformat.write(handed_in(course, name, {}, "source"), tmp_path / "solution.ipynb")
    grade(tmp_path, name, course=course)
    command = [grading_python(), "-W", "ignore", "-c", BY_HAND, course, name]
    path = {"PATH": f"{grading_python().parent}:/usr/bin:/bin"}
    subprocess.run(list(map(str, command)), check=True, env=path)
    reports = grade(tmp_path, name, course=course)
    assert json.dumps(reports)
    with open(course / "marks" / f"{name}.csv", encoding="utf8") as file:
        row = next(row for row in csv.DictReader(file) if row["student"] == "solution")
    assert float(row["score"]) == 40 and not row["to_mark_by_hand"]
    page = course / "marks" / f"{name}-feedback" / "solution.html"
    assert "Well told." in page.read_text(encoding="utf8")
