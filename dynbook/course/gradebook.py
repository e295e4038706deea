"""What nbgrader does: releases, the gradebook, marks, feedback. Run in the grading environment.

`python gradebook.py generate|record COURSE ASSIGNMENT…`, started by :mod:`.grade` and
:mod:`.build`. It imports nothing of the book: the grading environment holds nbgrader alone.
"""

from __future__ import annotations

import csv
import html
import json
import shutil
import sys
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.preprocessors import SaveAutoGrades
from traitlets.config import Config

CONFIG = """\
# nbgrader reads this when it is started in this folder: `nbgrader formgrader`, `nbgrader export`.
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "dynbook"
c.HTMLExporter.sanitize_html = True  # what students hand in is looked at, not run
"""
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1><p>{score:g} of {most:g} marks: {problem}.</p></body></html>
"""


def api(course: Path) -> NbGraderAPI:
    config = Config()
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.course_id = "dynbook"
    config.HTMLExporter.sanitize_html = True
    return NbGraderAPI(config=config)


def gradebook(course: Path) -> Gradebook:
    return Gradebook(f"sqlite:///{course / 'gradebook.db'}", "dynbook")


def must(result: dict, what: str) -> None:
    """Stop with nbgrader's own words when it failed."""
    if not result["success"]:
        sys.exit(f"nbgrader could not {what}:\n{result.get('log') or result.get('error')}")


def generate(course: Path, *names: str) -> None:
    """From source/ to release/ and into the gradebook."""
    (course / "nbgrader_config.py").write_text(CONFIG, encoding="utf8")
    for name in names:
        done = api(course).generate_assignment(name, force=True, create=True)
        must(done, f"make the release of {name}")


def report_of(folder: Path) -> dict:
    """The report on a run; of somebody who is in the gradebook alone, that there is none."""
    try:
        return json.loads((folder / "report.json").read_text(encoding="utf8"))
    except FileNotFoundError:
        return {"problem": "it was not run here", "notes": [], "digest": ""}


def record(course: Path, name: str) -> None:
    """Every finished run that is not in the gradebook yet, or no longer the latest."""
    book, runs = gradebook(course), course / "runs" / name
    with book:
        for report in sorted(runs.glob("*/report.json")):
            folder, student = report.parent, report.parent.name
            said = json.loads(report.read_text(encoding="utf8"))
            done = folder / "recorded"
            if done.exists() and done.read_text() == said["digest"]:
                continue
            book.update_or_create_student(student)
            book.update_or_create_submission(name, student)
            target, given = (course / x / student / name for x in ("autograded", "submitted"))
            for place in (target, given):
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
            executed = folder / "notebook.ipynb"
            if executed.exists():
                notebook = nbformat.read(executed, as_version=4)
                where = {"notebook": name, "assignment": name, "student": student}
                resources = {"nbgrader": where | {"db_url": book.engine.url}}
                saver = SaveAutoGrades()
                saver.preprocess(notebook, resources)
                shutil.copy(executed, target / f"{name}.ipynb")
                shutil.copy(folder / "handed.ipynb", given / f"{name}.ipynb")
            else:
                for grade in book.find_submission_notebook(name, name, student).grades:
                    grade.auto_score, grade.manual_score = 0, None
                    grade.needs_manual_grade = False
                book.db.commit()
            done.write_text(said["digest"])
    export(course, name)


def export(course: Path, name: str) -> None:
    """Marks as CSV and feedback as HTML, for everybody in the gradebook."""
    place = course / "marks"
    place.mkdir(exist_ok=True)
    feedback = place / f"{name}-feedback"
    feedback.mkdir(exist_ok=True)
    makes = api(course)
    rows = []
    with gradebook(course) as book:
        assignment = book.find_assignment(name)
        cells = [cell.name for book_ in assignment.notebooks for cell in book_.grade_cells]
        for one in sorted(assignment.submissions, key=lambda s: s.student_id):
            student = one.student_id
            folder = course / "runs" / name / student
            said = report_of(folder)
            grades = {grade.name: grade for sub in one.notebooks for grade in sub.grades}
            rows.append(
                {
                    "student": student,
                    "score": one.score,
                    "of": one.max_score,
                    "to_mark_by_hand": " ".join(c for c in cells if grades[c].needs_manual_grade),
                    "problem": said["problem"] or "",
                    "notes": "; ".join(said["notes"]),
                    **{cell: grades[cell].score for cell in cells},
                }
            )
            page = feedback / f"{student}.html"
            comments = [(c.name, c.comment) for sub in one.notebooks for c in sub.comments]
            scores = [(cell, grades[cell].score) for cell in cells]
            made_from = json.dumps([said["digest"], scores, sorted(comments, key=str)])
            stamp = folder / "feedback"
            if page.exists() and stamp.exists() and stamp.read_text() == made_from:
                continue
            executed, done = (folder / "notebook.ipynb").exists(), {"success": False}
            if executed:
                done = makes.generate_feedback(name, student, force=True)
            if done["success"]:
                shutil.copy(course / "feedback" / student / name / f"{name}.html", page)
            else:
                title = html.escape(f"{name}: {student}")
                words = html.escape(said["problem"] or "nbgrader could not show the notebook")
                told = {"title": title, "problem": words}
                page.write_text(PAGE.format(**told, score=one.score, most=one.max_score), "utf8")
            folder.mkdir(parents=True, exist_ok=True)
            stamp.write_text(made_from)
    with open(place / f"{name}.csv", "w", newline="", encoding="utf8") as file:
        fields = ["student", "score", "of", "to_mark_by_hand", "problem", "notes", *cells]
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    {"generate": generate, "record": record}[sys.argv[1]](
        Path(sys.argv[2]).resolve(), *sys.argv[3:]
    )
