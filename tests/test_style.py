"""The code reads as one hand wrote it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_ruff_has_nothing_to_say():
    ruff = Path(sys.executable).with_name("ruff")
    check = [ruff, "check", "-q", "--output-format=concise", ROOT]
    said = subprocess.run(check, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("page", sorted(ROOT.glob("book/[5-9]-*.md")), ids=lambda p: p.stem)
def test_code_is_as_wide_as_the_page(page):
    """80 columns, but for what stands in a figure's alt text or caption: nobody scrolls for it."""
    cells = re.findall(r"^```\{code-cell\}.*?\n(.*?)^```", page.read_text("utf8"), re.S | re.M)
    code = [re.sub(r"\A---\n.*?\n---\n", "", cell, flags=re.S) for cell in cells]
    lines = [line for cell in code for line in cell.splitlines()]
    text = re.compile(r'\s*(\w+=)?[rf]?"')
    assert [line for line in lines if len(line) > 80 and not text.match(line)] == []
