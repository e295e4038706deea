"""Publishing: what is executed again and what is not, how a failure reads, where the book lives."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from chapter_facts import reading_minutes, seconds_in_words
from docstrings import plain_bars

from dynbook.publish import environment
from dynbook.publish.address import address
from dynbook.publish.closure import closure, closure_key
from dynbook.publish.execute import NotebookFailed, execute, kernel_environment

PAGE = """\
---
jupytext: {{text_representation: {{extension: .md, format_name: myst}}}}
kernelspec: {{display_name: Python 3, language: python, name: python3}}
---

# A page

{prose}

```{{code-cell}}
:tags: [{tag}]
{code}
```
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small book: `a` imports `b`, `c` stands alone."""
    package = tmp_path / "dynbook"
    (package / "exercises").mkdir(parents=True)
    (tmp_path / "book" / "data").mkdir(parents=True)
    (tmp_path / "requirements.txt").write_text("torch==2\n")
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from .b import two\nSTYLE = 'look.css'\n")
    (package / "b.py").write_text("two = 2\n")
    (package / "c.py").write_text("three = 3\n")
    (package / "look.css").write_text("p {}")
    (package / "exercises" / "__init__.py").write_text("")
    (package / "exercises" / "chapter_3.py").write_text("")
    (tmp_path / "book" / "data" / "table.csv").write_text("1,2\n")
    return tmp_path


def write(root: Path, name: str, code: str, prose: str = "Words.", tag: str = "") -> None:
    (root / f"{name}.md").write_text(PAGE.format(code=code, prose=prose, tag=tag))


def run(root: Path, capsys, *names: str) -> list[str]:
    """Execute the pages; which of them ran?"""
    execute(names, root / "cache", root=root)
    return [line.split()[1] for line in capsys.readouterr().out.splitlines() if "starts" in line]


# -- what a page depends on ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "files"),
    [
        ("import math", []),
        ("from dynbook.a import STYLE", ["__init__.py", "a.py", "b.py", "look.css"]),
        ("from dynbook import c", ["__init__.py", "c.py"]),
        ("import dynbook.c as c", ["__init__.py", "c.py"]),
        ("import dynbook\ndynbook.b.two", ["__init__.py", "b.py"]),
        ("%matplotlib inline\n!ls\nfrom dynbook.b import two", ["__init__.py", "b.py"]),
        ("%%bash\nfrom dynbook", []),
        ("read('table.csv')", ["table.csv"]),
        ("recorded('table')", ["table.csv"]),
        ("'a tablet'", []),
        ('check("3.2", 1)', ["__init__.py", "__init__.py", "chapter_3.py"]),
    ],
)
def test_the_closure_of_a_cell_is_what_it_reaches(cell, files, repository):
    assert sorted(f.name for f in closure([cell], repository)) == sorted(files)


def test_the_key_follows_the_closure_the_lock_and_the_scale(repository, monkeypatch):
    cell = ["from dynbook.a import two"]
    keys = [closure_key(cell, repository)]
    (repository / "dynbook" / "c.py").write_text("three = 'another'\n")
    assert closure_key(cell, repository) == keys[0]
    (repository / "dynbook" / "b.py").write_text("two = 2.0\n")
    keys.append(closure_key(cell, repository))
    (repository / "requirements.txt").write_text("torch==3\n")
    keys.append(closure_key(cell, repository))
    monkeypatch.setenv("DYNBOOK_SCALE", "paper")
    keys.append(closure_key(cell, repository))
    assert len(set(keys)) == 4


# -- execution ----------------------------------------------------------------------------------


def test_only_what_changed_is_executed_again(repository, capsys):
    write(repository, "one", "from dynbook.a import two; two")
    write(repository, "other", "from dynbook.c import three; three")
    both = ["one", "other"]
    assert sorted(run(repository, capsys, *both)) == both
    assert run(repository, capsys, *both) == []
    write(
        repository, "one", "from dynbook.a import two; two", prose="Other words.", tag="hide-input"
    )
    assert run(repository, capsys, *both) == []
    write(repository, "other", "from dynbook.c import three; -three")
    assert run(repository, capsys, *both) == ["other"]
    (repository / "dynbook" / "b.py").write_text("two = 2.5\n")
    assert run(repository, capsys, *both) == ["one"]


def test_a_failing_cell_is_named_with_its_line_and_traceback(repository, capsys):
    write(repository, "good", "1 + 1")
    write(repository, "bad", "x = 1\nx / 0")
    with pytest.raises(NotebookFailed) as failed:
        execute(["good", "bad"], repository / "cache", root=repository)
    line = (repository / "bad.md").read_text().splitlines().index("x = 1") + 1
    assert f"bad.md:{line}: " in str(failed.value)
    assert "ZeroDivisionError: division by zero" in str(failed.value)
    assert len(str(failed.value).splitlines()) < 50
    capsys.readouterr()
    write(repository, "bad", "x = 1")
    assert "bad" in run(repository, capsys, "bad")


def test_a_warning_fails_like_an_error(repository):
    write(repository, "page", "import warnings; warnings.warn('mind the gap')")
    with pytest.raises(NotebookFailed, match="mind the gap"):
        execute(["page"], repository / "cache", root=repository)


def test_an_endless_cell_is_stopped(repository):
    write(repository, "page", "while True: pass")
    with pytest.raises(NotebookFailed, match="longer than 2 s"):
        execute(["page"], repository / "cache", root=repository, timeout=2)


def test_a_dead_kernel_is_reported(repository):
    write(repository, "page", "import os; os._exit(1)")
    with pytest.raises(NotebookFailed, match="kernel died"):
        execute(["page"], repository / "cache", root=repository)


def test_a_kernel_knows_it_builds_the_book_and_nothing_of_the_user(repository, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("MPLBACKEND", "Qt5Agg")
    env = kernel_environment(3, repository)
    assert env["DYNBOOK_BUILD"] == "1" and env["OMP_NUM_THREADS"] == "3"
    assert env["PYTHONPATH"] == str(repository) and "MPLBACKEND" not in env


# -- where the book lives -----------------------------------------------------------------------


def settle(root: Path, written: str = "", origin: str = "") -> Path:
    subprocess.run(["git", "init", "-q", root], check=True)
    (root / "_config.yml").write_text(f"repository: {{url: '{written}', branch: main}}\n")
    if origin:
        subprocess.run(["git", "-C", root, "remote", "add", "origin", origin], check=True)
    return root


@pytest.mark.parametrize(
    "origin",
    [
        "https://github.com/Some-One/notes.git",
        "git@github.com:Some-One/notes.git",
        "ssh://git@github.com/Some-One/notes",
    ],
)
def test_a_fork_finds_its_own_address(origin, tmp_path):
    found = address(settle(tmp_path, origin=origin))
    assert found.url == "https://github.com/Some-One/notes"
    assert found.site == "https://some-one.github.io/notes"
    assert found.colab("book/notebooks/x.ipynb") == (
        "https://colab.research.google.com/github/Some-One/notes/blob/main/book/notebooks/x.ipynb"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give")
def test_a_clone_of_another_owner_tells_its_address_too(tmp_path):
    where = settle(tmp_path, origin="https://github.com/a/b")
    for folder in (where, where / ".git"):
        os.chown(folder, 12345, 12345)
    assert address(where).url == "https://github.com/a/b"


def test_a_written_address_comes_first(tmp_path):
    where = settle(tmp_path, "https://github.com/a/b", "https://github.com/c/d")
    assert address(where).url == "https://github.com/a/b"


@pytest.mark.parametrize("origin", ["", "/some/folder", "https://example.org/a/b"])
def test_without_an_address_there_is_none(origin, tmp_path):
    assert address(settle(tmp_path, origin=origin)) is None


def test_an_address_that_is_no_repository_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"repository.url in _config.yml must be .*got 'notes'"):
        address(settle(tmp_path, "notes"))


# -- small parts --------------------------------------------------------------------------------


def test_reading_time_counts_words_equations_and_shown_code():
    assert reading_minutes("word " * 1800) == 10
    assert reading_minutes("---\nkey: value\n---\n" + "word " * 180) == 1
    equations = "$$ x = 1 $$ (eq:one)\n\n" * 45
    assert reading_minutes(equations) == reading_minutes("word " * 45 * 9)
    shown, hidden = "```{code-cell}\n", "```{code-cell}\n:tags: [hide-input]\n"
    body = "x = 1\n" * 450 + "```\n"
    assert reading_minutes(shown + body) == 10 and reading_minutes(hidden + body) == 1
    assert reading_minutes(hidden.replace("hide-input", "remove-cell") + body) == 1


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59.6, "1 min 0 s"), (80, "1 min 20 s")]
)
def test_seconds_in_words(seconds, words):
    assert seconds_in_words(seconds) == words


def test_the_environment_takes_the_build_of_torch_that_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(environment.platform, "system", lambda: "Linux")
    monkeypatch.setattr(environment.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("TORCH_BACKEND", raising=False)
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    assert environment.torch_options() == ["--torch-backend", "cpu"]
    version = environment.pin("torch").partition("==")[2]
    tag = f"cp{environment.sys.version_info.major}{environment.sys.version_info.minor}"
    (tmp_path / f"torch-{version}+cpu-{tag}-{tag}-manylinux_2_28_x86_64.whl").touch()
    assert environment.torch_options() == ["--find-links", str(tmp_path)]
    monkeypatch.setenv("TORCH_BACKEND", "cu130")
    assert environment.torch_options() == ["--torch-backend", "cu130"]


def test_a_missing_pin_is_an_error_that_says_what_to_do():
    with pytest.raises(
        SystemExit, match=r"requirements\.txt does not pin nosuchpackage; run `make lock`"
    ):
        environment.pin("nosuchpackage")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("the length |w| of w", r"the length \|w\| of w"),
        ("a literal ``|w|``, a role :math:`|w|`", "a literal ``|w|``, a role :math:`|w|`"),
        (".. math::\n\n   |w|\n\n|b|", ".. math::\n\n   |w|\n\n\\|b\\|"),
        ("As::\n\n    |w|\n|b|", "As::\n\n    |w|\n\\|b\\|"),
    ],
)
def test_bars_in_docstrings_are_absolute_values(written, meant):
    assert plain_bars(written.split("\n")) == meant.split("\n")
