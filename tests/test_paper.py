"""`make paper`, on two small chapters in a clone of their own."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynbook.publish.paper import main

ROOT = Path(__file__).resolve().parents[1]

HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# Chapter

```{code-cell}
import time
from pathlib import Path

from dynbook.results import at_scale, due, record, recorded

def ran(name):  # a line for each time that an experiment was run
    with Path("../_build/ran").open("a") as log:
        log.write(name + "\\n")
```
"""

EXPERIMENT = """
```{code-cell}
if due("NAME"):
    ran("NAME")
    BODY
    record("NAME", n=at_scale(1000, 1))
```
"""


def chapter(**experiments: str) -> str:
    """A chapter with experiments, each with a line of its own."""
    cells = (
        EXPERIMENT.replace("NAME", name.replace("_", "-")).replace("BODY", body)
        for name, body in experiments.items()
    )
    return HEADER + "".join(cells)


@pytest.fixture
def clone(tmp_path):
    """A repository with the package and two chapters; the third has no experiments."""
    no_cache = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dynbook", tmp_path / "dynbook", ignore=no_cache)
    for file in (".gitignore", "requirements.txt"):
        shutil.copy(ROOT / file, tmp_path)
    for folder in ("book", "_build"):
        (tmp_path / folder).mkdir()
    write(tmp_path, "1-first", chapter(one="pass", two="pass"))
    write(tmp_path, "2-second", chapter(three="pass"))
    write(tmp_path, "3-third", HEADER)
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def write(clone: Path, name: str, text: str) -> None:
    (clone / "book" / f"{name}.md").write_text(text, encoding="utf8")


def git(clone: Path, *words: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=clone, check=True, capture_output=True)


def commit(clone: Path) -> None:
    git(clone, "add", ".")
    git(clone, "commit", "-m", "as it is")


def start(clone: Path, *chapters: str, **environment: str) -> subprocess.Popen:
    """`make paper` without the make."""
    env = {k: v for k, v in os.environ.items() if k != "DYNBOOK_SCALE"} | environment
    return subprocess.Popen(
        [sys.executable, "-m", "dynbook.publish.paper", *chapters],
        cwd=clone,
        env=env | {"PYTHONPATH": str(clone)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def paper(clone: Path, *chapters: str, **environment: str) -> tuple[int, str]:
    process = start(clone, *chapters, **environment)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def ran(clone: Path) -> list[str]:
    log = clone / "_build" / "ran"
    return log.read_text().split() if log.exists() else []


def test_what_is_recorded_is_not_run_again(clone):
    status, said = paper(clone, "2")
    assert status == 0, said
    assert ran(clone) == ["three"] and "1-first" not in said
    status, said = paper(clone)
    assert status == 0, said
    assert ran(clone) == ["three", "one", "two"]
    assert "book/2-second: all recorded by this commit" in said and "3-third" not in said
    data = clone / "book" / "data"
    assert sorted(f.stem for f in data.iterdir()) == ["one", "three", "two"]
    assert json.loads((data / "one.json").read_text())["n"] == 1000
    write(clone, "3-third", HEADER + "More.\n")
    status, said = paper(clone, "2")
    assert status == 0 and "This is no clean commit" in said
    assert ran(clone)[3:] == ["three"]


def test_a_chapter_without_experiments_is_refused_in_words(clone, capsys):
    with pytest.raises(SystemExit):
        main(["3"], clone)
    assert "no experiments in chapter 3; there are in 1, 2" in capsys.readouterr().err


def test_a_trial_is_small_and_lies_elsewhere(clone):
    assert paper(clone, "1", DYNBOOK_SCALE="trial")[0] == 0
    assert not (clone / "book" / "data").exists()
    tried = clone / "_build" / "trial"
    assert sorted(f.stem for f in tried.iterdir()) == ["one", "two"]
    assert json.loads((tried / "one.json").read_text())["n"] == 1


def test_what_fails_is_named_and_the_rest_goes_on(clone):
    write(clone, "1-first", chapter(one="pass", two="1 / 0", four="pass"))
    commit(clone)
    status, said = paper(clone)
    assert status == 1
    assert "1-first.md" in said and "ZeroDivisionError" in said
    assert "Failed: book/1-first." in said
    assert ran(clone) == ["one", "two", "three"]
    names = sorted(f.stem for f in (clone / "book" / "data").iterdir())
    assert names == ["one", "three"]


@pytest.mark.skipif(sys.platform == "win32", reason="kills as Unix does")
def test_a_run_that_is_killed_goes_on_where_it_was(clone):
    wait = 'time.sleep(0 if Path("../_build/go").exists() else 60)'
    write(clone, "1-first", chapter(one="pass", two=wait))
    commit(clone)
    process = start(clone)
    until = time.monotonic() + 60
    while ran(clone) != ["one", "two"] and time.monotonic() < until:
        time.sleep(0.1)
    process.kill()
    process.communicate(timeout=60)
    (clone / "_build" / "go").touch()
    status, said = paper(clone)
    assert status == 0, said
    assert ran(clone) == ["one", "two", "two", "three"]
