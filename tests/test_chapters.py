"""Every number that the prose of a chapter quotes is what ``tests/quoted`` says it should be."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import pytest
from quoted import number

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [page.stem for page in sorted((ROOT / "book").glob("[1-9]-*.md"))]
QUOTED = {page: importlib.import_module(f"quoted.chapter_{page[0]}").QUOTED for page in CHAPTERS}


@pytest.fixture
def quoted(book, request) -> dict[str, float | str]:
    """What the executed page published: name → number, or text that is none."""
    file = book / "jupyter_execute" / "book" / f"{request.param}.glue.json"
    published = json.loads(file.read_text(encoding="utf8"))
    values = {k: ast.literal_eval(*v["data"].values()) for k, v in published.items()}
    return {k: number(v) if isinstance(v, str) else v for k, v in values.items()}


CASES = [(page, name) for page, expected in QUOTED.items() for name in expected]


@pytest.mark.parametrize("quoted, name", CASES, indirect=["quoted"])
def test_a_quoted_number_is_right(quoted, name, request):
    expected = QUOTED[request.node.callspec.params["quoted"]][name]
    if isinstance(expected, str):  # where and when a recorded experiment ran
        assert quoted[name], f"no {expected}"
    else:
        assert quoted[name] == expected


@pytest.mark.parametrize("quoted", QUOTED, indirect=True)
def test_no_number_is_quoted_untested_and_none_tested_unquoted(quoted, request):
    expected = QUOTED[request.node.callspec.params["quoted"]]
    assert set(quoted) == set(expected)


def prose(page: str) -> str:
    """A chapter's text without code, mathematics, roles, directives' options and link targets."""
    text = (ROOT / "book" / f"{page}.md").read_text(encoding="utf8").split("---", 2)[2]
    for pattern in (
        r"```\{code-cell\}.*?\n```",
        r"^```[^\n]*",
        r"\$\$.*?\$\$[^\n]*",
        r"\$[^$]+\$",
        r"\{[\w:]+\}`[^`\n]*`",
        r"`[^`\n]*`",
        r"^:\w+:[^\n]*",
    ):
        text = re.sub(pattern, " ", text, flags=re.S | re.M)
    return text


COUNT = "(?:\\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
MEASURED = re.compile(
    rf"[^\n]*\b(?:\d+[.,]\d+|{COUNT}[ -]per[ -]cent|{COUNT} (?:of|out of) {COUNT})\b[^\n]*", re.I
)


SETTINGS = re.compile(  # confidences, criteria, arithmetic: no measurement
    r"95[ -]per[ -]cent (interval|band)|hold 95 per cent|agree to ten per cent|"
    r"ten per cent take\s+four hundred hits|costs ten per cent more|two per cent of the interval|"
    r", four per cent\.|test loss by one per cent|; one per cent of|One per cent helps"
)


@pytest.mark.parametrize("page", QUOTED)
def test_every_measured_number_in_the_prose_was_computed(page):
    """What is measured is quoted by {glue:text}; theory and settings stand in mathematics."""
    assert MEASURED.findall(SETTINGS.sub("", prose(page))) == []


@pytest.mark.parametrize("typed", ["an error of 0.3 is", "42 per cent diverge", "seven of nine"])
def test_a_typed_measurement_is_found(typed):
    assert MEASURED.search(f"Of the runs {typed}, at once.")
