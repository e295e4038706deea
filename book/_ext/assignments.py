"""Assignments: the site shows the student's text; `{answer}` is where a derivation will stand.

```{answer} period-two
:points: 6

The model answer and its rubric, which no student sees: dynbook/course/source.py takes them out
before the page is read.
```
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from dynbook.course.source import nbgrader_metadata, student

FOLDER = "book/assignments/"


class Answer(SphinxDirective):
    """A place for an answer in words and formulas, with its marks."""

    required_arguments = 1
    has_content = True
    option_spec = {"points": directives.nonnegative_int}  # noqa: RUF012  (docutils wants a dict)

    def run(self) -> list[nodes.Node]:
        short = {"grade_id": self.arguments[0], "solution": True, **self.options}
        box = nodes.container(classes=["answer"], text="\n".join(self.content))
        box["nbgrader"] = nbgrader_metadata(short)
        points = self.options["points"]
        words = f"Your answer: {points} mark{'s' * (points != 1)}, given by a person."
        box += nodes.paragraph("", words)
        return [box]


def strip(app, page: str, source: list[str]) -> None:
    """Nobody downstream of here sees a solution."""
    if page.startswith(FOLDER):
        try:
            source[0] = student(source[0])
        except ValueError as wrong:
            raise ExtensionError(f"{page}.md: {wrong}") from None


def page_text(path: str, page: str) -> str:
    """A page's text as Sphinx reads it."""
    text = Path(path).read_text(encoding="utf8")
    return student(text) if page.startswith(FOLDER) else text


def setup(app):
    app.add_directive("answer", Answer)
    app.connect("source-read", strip, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
