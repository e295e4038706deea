"""`make newest`: on a small repository, with this environment in place of the newest one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import quoted
from quoted import Within

from dynbook.publish import newest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="git's insteadOf wants a POSIX path")

RIGHT = """
from dynbook import answer
from dynbook.figures import quote

quote(answer=answer)
"""
FIGURES = """
from IPython.display import display

def quote(answer):
    kind = "application/papermill.record/"
    record = {"scrapbook": {"name": "answer", "mime_prefix": kind}}
    display({kind + "text/plain": repr(answer)}, raw=True, metadata=record)
"""


def git(*words):
    who = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=no"]
    subprocess.run([*who, *map(str, words)], check=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Commits a repository of one notebook whose last cell is given; `newest` looks at this one."""
    root = tmp_path / "repository"
    (root / "dynbook").mkdir(parents=True)
    (root / "dynbook" / "__init__.py").write_text("answer = 42\n")
    (root / "dynbook" / "figures.py").write_text(FIGURES)
    (root / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (root / "requirements.txt").write_text("numpy==1.0\ntorch==2.13.0\n")
    (root / "tests" / "quoted").mkdir(parents=True)
    text = Path(quoted.__file__).read_text(encoding="utf8")
    (root / "tests" / "quoted" / "__init__.py").write_text(text, encoding="utf8")
    expects = "from quoted import Within\nQUOTED = {'answer': Within(41, 43)}\n"
    (root / "tests" / "quoted" / "chapter_7.py").write_text(expects)
    (root / "book" / "notebooks").mkdir(parents=True)
    git("init", "-q", root)
    monkeypatch.setattr(newest, "REPORT", tmp_path / "newest.md")
    first = nbformat.read(ROOT / "book" / "notebooks" / "7-reservoirs.ipynb", 4).cells
    first = next(cell.source for cell in first if cell.cell_type == "code")

    def commit(cell: str) -> Path:
        book = nbformat.v4.new_notebook()
        book.cells = [nbformat.v4.new_code_cell(text) for text in (first, cell)]
        nbformat.write(book, root / "book" / "notebooks" / "7-small.ipynb")
        git("-C", root, "add", ".")
        git("-C", root, "commit", "-q", "-m", "x")
        return root

    return commit


def run(root, *words):
    return newest.main(["--python", sys.executable, *words], root)


def test_a_notebook_whose_numbers_are_right_passes(repository, capsys):
    assert run(repository(RIGHT)) == 0
    assert "7-small: ok" in capsys.readouterr().out
    told = newest.REPORT.read_text(encoding="utf8")
    assert "1 quoted numbers" in told and "| numpy | 1.0 |" in told


def test_a_number_that_moved_is_named_with_what_it_should_be(repository, capsys):
    assert run(repository(RIGHT.replace("answer=answer", "answer=answer + 2"))) == 1
    assert "answer is 44, should be between 41 and 43" in capsys.readouterr().out


def test_a_cell_that_fails_and_a_warning_are_reported(repository, capsys):
    assert run(repository("import warnings; warnings.warn('old'); 1 / 0")) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert "old" in newest.REPORT.read_text(encoding="utf8")


def test_code_that_is_not_the_clones_is_seen(repository, capsys):
    away = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import dynbook"
    assert run(repository(away)) == 1
    assert "its code is not the clone's" in capsys.readouterr().out


def test_an_older_tag_is_run_as_it_was(repository, capsys):
    root = repository(RIGHT)
    git("-C", root, "tag", "2026-autumn")
    repository("1 / 0")
    assert run(root, "--at", "2026-autumn") == 0
    assert run(root) == 1
    with pytest.raises(SystemExit, match="neither a tag nor a commit"):
        run(root, "--at", "2031-spring")


def test_an_environment_that_is_not_there_is_named(repository, capsys):
    with pytest.raises(SystemExit):
        newest.main(["--python", "no/python"], repository(RIGHT))
    assert "got no/python" in capsys.readouterr().err


def test_what_a_notebook_installs_again_is_seen(repository, monkeypatch, capsys):
    told = iter([{"numpy": "2.0", "torch": "3"}, {"numpy": "2.1", "torch": "3", "jaxtyping": "1"}])
    monkeypatch.setattr(newest, "versions", lambda python: next(told))
    assert run(repository(RIGHT)) == 1
    assert "installed again, where Colab has its own: numpy" in capsys.readouterr().out


def test_the_packages_are_those_that_a_notebook_needs_and_colab_has():
    names = newest.packages()
    assert {"torch>=2.4", "matplotlib>=3.8", "ipykernel"} <= set(names)
    assert not any(name.startswith(("jaxtyping", "dynbook")) for name in names)


def test_a_difference_is_named_and_a_lost_number_too(monkeypatch):
    expected = {"slope": Within(-0.3, -0.2), "where": "a device", "lost": 1}
    monkeypatch.setattr("quoted.chapter_7.QUOTED", expected)
    assert quoted.differences("7", {"slope": "−0.25 ± 0.01", "where": "CPU", "lost": 1}) == []
    assert quoted.differences("7", {"slope": 0.25, "where": "CPU"}) == [
        "lost is not quoted",
        "slope is 0.25, should be between -0.3 and -0.2",
    ]
