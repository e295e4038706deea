"""Assignments: what students see, what teachers get, what a submission may do, what it is worth."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dynbook.course.build import build
from dynbook.course.grade import alone, collect, grade, main
from dynbook.course.run import Refused, assemble, inert, read, run
from dynbook.course.sandbox import Limits
from dynbook.course.source import (
    FENCED,
    graded_cells,
    nbgrader_metadata,
    overlaid,
    split_options,
    student,
    teacher,
)

ROOT = Path(__file__).resolve().parents[1]
LIMITS = Limits(cell_seconds=5, seconds=15, memory=1.5)

SAMPLE = '''\
# A sample

Words.

```{answer} proof
:points: 4

The secret answer.
```

```{code-cell}
:nbgrader: {grade_id: given}
factor = 2
```

```{code-cell}
:nbgrader: {grade_id: half, solution: true}
def half(x):
    """A half of x."""
    ### BEGIN SOLUTION
    return x / factor
    ### END SOLUTION
```

```{code-cell}
:nbgrader: {grade_id: half-shown, points: 1}
assert -1e-9 < half(1.0) - 0.5 < 1e-9
```

```{code-cell}
:nbgrader: {grade_id: half-hidden, points: 2}
assert callable(half)
### BEGIN HIDDEN TESTS
assert -1e-9 < half(7.0) - 3.5 < 1e-9
### END HIDDEN TESTS
```
'''


def notebook_of(text: str) -> nbformat.NotebookNode:
    """The cells of a page that count, as a notebook: what the site's build does, without Sphinx."""
    cells = [new_markdown_cell("Words.")]
    for cell in FENCED.finditer(text):
        head, options, _ = split_options(cell["body"])
        source = cell["body"][len(head) :]
        if cell["kind"] == "answer":
            marks = {"grade_id": cell["name"].strip(), "solution": True, **options}
            cells.append(new_markdown_cell(source.strip()))
        else:
            marks = options["nbgrader"]
            cells.append(new_code_cell(source.strip("\n")))
        cells[-1].metadata["nbgrader"] = nbgrader_metadata(marks)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def answered(notebook: nbformat.NotebookNode, **answers: str) -> nbformat.NotebookNode:
    """A student's notebook with answers in some cells (`_` in a name stands for `-`)."""
    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    for cell in copy.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "").replace("-", "_")
        cell.source = answers.get(name, cell.source)
    return copy


GIVEN_OUT = notebook_of(student(SAMPLE))
MASTER = teacher(GIVEN_OUT, graded_cells(SAMPLE))
GOOD = "def half(x): return x / 2"


# One source


def test_students_see_stubs_and_no_hidden_tests():
    text = student(SAMPLE)
    assert "secret" not in text and "return x" not in text and "7.0" not in text
    assert '    """A half of x."""\n    # YOUR CODE HERE\n    raise NotImplementedError()\n' in text
    assert "YOUR ANSWER HERE" in text and "# 1 mark\nassert -1e-9 < half(1.0) - 0.5" in text


def test_students_get_every_line_that_is_no_secret():
    new = ("YOUR", "NotImplemented", "# 1 mark", "# 2 mark")
    kept = [x for x in student(SAMPLE).splitlines() if not any(word in x for word in new)]
    assert [x for x in kept if x not in SAMPLE.splitlines()] == []


@pytest.mark.parametrize(
    "mark", ["### BEGIN SOLUTION", "### END SOLUTION", "### BEGIN HIDDEN TESTS"]
)
def test_a_mark_without_its_other_half_is_refused(mark):
    lines = SAMPLE.splitlines()
    lost = "\n".join(line for line in lines if line.strip() != mark)
    with pytest.raises(ValueError, match=r"line \d+ of the student's text"):
        student(lost)


def test_two_cells_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two cells have the grade_id 'half'"):
        graded_cells(SAMPLE.replace("half-shown", "half"))


@pytest.mark.parametrize("short", [{}, {"points": 3}, {"grade_id": "a", "grade": True}, "a", None])
def test_metadata_say_what_they_should(short):
    with pytest.raises(ValueError, match="expected grade_id"):
        nbgrader_metadata(short)


@pytest.mark.parametrize("points", [0, -1, "three"])
def test_points_are_positive(points):
    with pytest.raises(ValueError, match="points must be positive"):
        nbgrader_metadata({"grade_id": "a", "points": points})


def test_a_private_page_replaces_cells_and_only_cells_that_are_there():
    cells = graded_cells(SAMPLE)
    private = "```{code-cell}\n:nbgrader: {grade_id: given}\nfactor = 4\n```\n"
    assert overlaid(cells, graded_cells(private))["given"].source == "factor = 4"
    assert [*overlaid(cells, graded_cells(private))] == [*cells]
    with pytest.raises(ValueError, match="'taken' replaces none of proof, given, half"):
        overlaid(cells, graded_cells(private.replace("given", "taken")))
    with pytest.raises(ValueError, match="marks stand in the text"):
        overlaid(cells, graded_cells(private.replace("given}", "given, points: 3}")))


def test_a_notebook_that_is_not_of_its_page_is_refused():
    with pytest.raises(ValueError, match="`make book` first"):
        teacher(new_notebook(cells=GIVEN_OUT.cells[:-1]), graded_cells(SAMPLE))


# What was handed in


def names(notebook: nbformat.NotebookNode) -> list[str]:
    return [c.metadata.get("nbgrader", {}).get("grade_id", c.source) for c in notebook.cells]


def test_tests_come_from_the_master_whatever_was_handed_in():
    handed = answered(GIVEN_OUT, half=GOOD, half_hidden="pass", given="factor = 0")
    handed.cells.reverse()
    whole, notes = assemble(MASTER, handed)
    assert names(whole) == names(MASTER) and notes == []
    assert "factor = 2" in [c.source for c in whole.cells]
    assert "7.0" in whole.cells[-1].source and GOOD in [c.source for c in whole.cells]


def test_cells_of_ones_own_stay_where_they_stood():
    handed = answered(GIVEN_OUT, half="def half(x): return helper(x)")
    handed.cells.insert(3, new_code_cell("def helper(x): return x / 2"))
    handed.cells.insert(0, new_code_cell("first = 1"))
    whole, _ = assemble(MASTER, handed)
    order = names(whole)
    assert order[0] == "first = 1"
    assert order.index("given") < order.index("def helper(x): return x / 2") < order.index("half")


def test_deleted_renamed_and_doubled_cells_are_told():
    handed = answered(GIVEN_OUT, half=GOOD)
    del handed.cells[4]  # half-shown
    handed.cells[1].metadata.nbgrader.grade_id = "evidence"  # was: proof
    handed.cells.append(handed.cells[3].copy())
    whole, notes = assemble(MASTER, handed)
    assert [n for n in names(whole) if n in names(MASTER)] == names(MASTER)
    assert notes == [
        "the cell half was there twice: the first counts",
        "the cell proof was missing: no answer",
        "the cell half-shown was missing: put back",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the file is empty"),
        ('{"cells":', "not a notebook"),
        ("[]", "not a notebook"),
        ('{"cells": 3, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "not a notebook"),
        ('{"cells": [{"cell_type": "code"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
         "not a notebook"),
        ("[" * 100_000, "not a notebook"),
        ("\x00\xff", "not a notebook"),
        (nbformat.writes(new_notebook(cells=[new_code_cell("1")])), "is it another one's"),
        (" " * 21_000_000, "the file has 21 MB"),
    ],
)  # fmt: skip
def test_what_is_no_notebook_of_this_assignment_is_refused_in_words(content, words, tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(content, encoding="latin1" if "\xff" in content else "utf8")
    with pytest.raises(Refused, match=words):
        assemble(MASTER, read(path))


def test_submissions_are_files_or_folders(tmp_path):
    for path in ("ada.ipynb", "bob/hw.ipynb", "cyd/1.ipynb", "cyd/2.ipynb", "notes.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    (tmp_path / "dan").mkdir()
    counts = {student: len(paths) for student, paths in collect(tmp_path).items()}
    assert counts == {"ada": 1, "bob": 1, "cyd": 2, "dan": 0}


@pytest.mark.parametrize("encoding", ["utf8", "utf-8-sig", "utf-16"])
def test_notebooks_are_read_as_any_editor_saved_them(encoding, tmp_path):
    text = nbformat.writes(answered(GIVEN_OUT, proof="Zoë")).replace("\n", "\r\n")
    (tmp_path / "a.ipynb").write_text(text, encoding=encoding)
    assert "Zoë" in [c.source for c in read(tmp_path / "a.ipynb").cells]


def test_a_name_that_two_assignments_share_does_not_make_one_the_other():
    other = answered(GIVEN_OUT)
    for cell in other.cells[1:]:
        cell.metadata.nbgrader.grade_id += "-two"
    other.cells[2].metadata.nbgrader.grade_id = "given"
    with pytest.raises(Refused, match="another one's"):
        assemble(MASTER, other)


def test_names_that_look_the_same_are_one_student(tmp_path):
    for name in ("Zoe\u0308 M.ipynb", "Zo\u00eb_M.ipynb", "-x.ipynb", "=1+2.ipynb"):
        (tmp_path / name).write_text("")
    counts = {student: len(paths) for student, paths in collect(tmp_path).items()}
    assert counts == {"Zo\u00eb_M": 2, "x": 1, "_1_2": 1}


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_a_folder_without_submissions_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"<student>\.ipynb|must be a folder"):
        collect(tmp_path / folder)


# What a submission may do

needs_sandbox = pytest.mark.usefixtures("bubblewrap")


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("master") / "master.ipynb"
    nbformat.write(MASTER, path)
    return path


@pytest.fixture
def submit(master, tmp_path):
    """Run the sample with these answers; its executed cells by name, and the report."""

    def submit(limits: Limits = LIMITS, *, sandbox: bool = True, **answers: str):
        nbformat.write(answered(GIVEN_OUT, **answers), tmp_path / "handed.ipynb")
        notebook, report = run(master, tmp_path / "handed.ipynb", limits, sandbox=sandbox)
        return dict(zip(names(notebook), notebook.cells, strict=True)), report

    return submit


def passed(cell: nbformat.NotebookNode) -> bool:
    return all(output.output_type != "error" for output in cell.outputs)


@needs_sandbox
def test_a_right_answer_passes_and_an_empty_one_fails(submit):
    cells, report = submit(half=GOOD)
    assert passed(cells["half-shown"]) and passed(cells["half-hidden"])
    assert report["problem"] is None and report["notes"] == []
    cells, report = submit()
    assert not passed(cells["half-shown"]) and not passed(cells["half-hidden"])
    assert report["problem"] is None


STOPPED = {
    "memory": ("x = []\nwhile True: x.append(bytearray(10**8))", "GiB of memory"),
    "memory of many": (
        "import os, time\nfor i in range(20):\n    if os.fork() == 0:\n"
        "        x = bytearray(2 * 10**8); time.sleep(99)\ntime.sleep(9)",
        "GiB of memory",
    ),
    "forks": ("import os\nwhile True: os.fork()", "processes|memory"),
    "output": ("print('x' * 50_000_000)", "showed more than 5 MB"),
    "endless output": ("while True: print('x' * 10_000)", "showed more than 5 MB|memory"),
    "time": ("import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass", "more than 15 s"),
    "exit": ("import os\nos._exit(0)", "kernel died"),
    "exit in a test": ("import os\ndef half(x): os._exit(0)", "kernel died"),
    "files below the sockets": (
        "import os, time\nfolder = next(p for p in os.listdir('/tmp') if p.startswith('dynbook'))\n"
        "os.mkdir(f'/tmp/{folder}/x')\ntime.sleep(2)",
        "sockets",
    ),
    "a hurry among the sockets": (
        "import os\nfolder = next(p for p in os.listdir('/tmp') if p.startswith('dynbook'))\n"
        "while True:\n    open(f'/tmp/{folder}/x', 'w').close()\n    os.unlink(f'/tmp/{folder}/x')",
        "sockets|not be watched",
    ),
    "the sockets": (
        "import os\nfolder = next(p for p in os.listdir('/tmp') if p.startswith('dynbook'))\n"
        "for i in range(9):\n    open(f'/tmp/{folder}/{i}', 'wb').write(bytes(10**7))\n"
        "import time\ntime.sleep(2)",
        "sockets",
    ),
}  # fmt: skip


@needs_sandbox
@pytest.mark.parametrize("crime", STOPPED)
def test_what_takes_too_much_is_stopped_and_named(crime, submit):
    source, words = STOPPED[crime]
    patient = replace(LIMITS, cell_seconds=30, seconds=60)  # nothing else ends it on a busy machine
    cells, report = submit(LIMITS if crime == "time" else patient, half=source)
    assert re.search(words, report["problem"])
    assert not passed(cells["half-shown"]) and not passed(cells["half-hidden"])


FAILS_ALONE = {
    "an endless loop": "while True: pass",
    "a network call": "import urllib.request as r\nr.urlopen('http://1.1.1.1', timeout=2)\n" + GOOD,
    "a write outside": "open('/usr/x', 'w')\n" + GOOD,
    "a write into the book": f"open({str(ROOT / 'dynbook' / 'x.py')!r}, 'w')\n" + GOOD,
    "a look at the solutions": f"open({str(ROOT / 'README.md')!r})\n" + GOOD,
    "a look at the course": f"import os\nos.listdir({str(ROOT / '_build')!r})\n" + GOOD,
    "the machine's kernel": "import os\nos.open('/proc/sys/kernel/core_pattern', os.O_WRONLY)\n"
    + GOOD,
    "shared memory": "for i in range(9): open(f'/dev/shm/{i}', 'wb').write(bytes(10**8))\n" + GOOD,
    "the root": "open('/x', 'w')\n" + GOOD,
    "the devices": "open('/dev/x', 'w')\n" + GOOD,
    "a look at the user": "import os\nassert os.environ.get('USER')\n" + GOOD,
    "an ask for input": "input()\n" + GOOD,
    "a large array": "import numpy as np\nx = np.ones(10**10)\n" + GOOD,
    "a look at others' processes": "import os\n"
    "assert sum(name.isdigit() for name in os.listdir('/proc')) > 5\n" + GOOD,
}


@needs_sandbox
@pytest.mark.parametrize("crime", FAILS_ALONE)
def test_what_is_not_allowed_fails_and_the_rest_goes_on(crime, submit):
    cells, report = submit(half=FAILS_ALONE[crime])
    assert report["problem"] is None
    assert not passed(cells["half"]) and not passed(cells["half-hidden"])


@needs_sandbox
def test_what_is_allowed_works(submit):
    allowed = "open('notes.txt', 'w').write('x' * 10**6)\nimport matplotlib.pyplot as plt\n"
    allowed += "plt.plot([1, 2])\nplt.show()\nimport subprocess\nsubprocess.run('ls', check=True)\n"
    cells, _ = submit(half=allowed + GOOD)
    assert passed(cells["half"]) and passed(cells["half-hidden"])


@needs_sandbox
def test_a_cell_without_end_is_named(submit):
    cells, report = submit(half="while True: pass")
    assert report["notes"] == ["the cell half: no end after 5 s"]
    assert cells["half"].outputs[-1].ename == "TimeoutError"
    caught = "try:\n    while True: pass\nexcept KeyboardInterrupt:\n    pass\n" + GOOD
    cells, report = submit(half=caught)
    assert report["notes"] == ["the cell half: no end after 5 s"] and not passed(cells["half"])


@needs_sandbox
def test_messages_that_no_kernel_sends_are_named(submit):
    forged = "kernel = get_ipython().kernel\nkernel.session.send(kernel.iopub_socket, 'stream', "
    forged += "{'name': 3, 'text': None}, parent=kernel.get_parent())\nimport time\ntime.sleep(1)\n"
    cells, report = submit(half=forged + GOOD)
    assert "what its kernel sent cannot be read" in report["problem"]
    assert not passed(cells["half-hidden"])


@needs_sandbox
@pytest.mark.parametrize(
    "patch",
    [
        "import numpy, torch\nnumpy.allclose = torch.allclose = lambda *a, **k: True",
        "import builtins\nbuiltins.abs = lambda x: 0\nabs = round = min = max = abs",
        "import builtins\nbuiltins.all = builtins.isinstance = lambda *a: True",
        "get_ipython().showtraceback = lambda *a, **k: None",
        "import sys\nsys.excepthook = lambda *a: None",
        "get_ipython().set_custom_exc((BaseException,), lambda *a, **k: None)",
    ],
)
def test_patching_what_tests_might_use_gains_nothing(patch, submit):
    cells, _ = submit(half=f"{patch}\ndef half(x): return 0.0")
    assert not passed(cells["half-shown"]) and not passed(cells["half-hidden"])


@needs_sandbox
@pytest.mark.parametrize("shown", ["2", "float('nan')", "1e9", "'2'"])
def test_a_number_shown_in_a_test_is_no_mark(shown, submit):
    cells, _ = submit(
        half=f"import sys\ndef half(x):\n    sys.displayhook({shown})\n    return 0.0"
    )
    kinds = {o.output_type for o in cells["half-hidden"].outputs}
    assert kinds == {"display_data", "error"}


@needs_sandbox
def test_a_picture_that_is_none_is_not_shown(submit):
    bad = "{'image/png': '\"><script>', 'text/plain': {}, 'text/latex': r'\\href{javascript:x}{y}'}"
    show = f"from IPython.display import display\ndisplay({bad}, raw=True)\n"
    cells, _ = submit(half=show + GOOD)
    assert [o.data for o in cells["half"].outputs] == [{"text/latex": r"\href{java script:x}{y}"}]


@pytest.mark.parametrize(
    "text",
    [
        "<script>x</script>",
        "<img src=x onerror=x>",
        "<!-- -->",
        "[x](javascript:x)",
        "[x](JaVaScRiPt\\:x)",
        "[x](java&#115;cript:x)",
        "[x](java&Tab;script:x)",
    ],
)
def test_words_of_a_student_hold_no_script(text):
    shown = inert(text)
    assert not re.search(r"<[\w/!]|&(#|\w+;)|javascript", shown, re.IGNORECASE)
    assert shown.replace(" ", "") == text.replace(" ", "")
    whole, _ = assemble(MASTER, answered(GIVEN_OUT, proof=text))
    assert shown in [c.source for c in whole.cells]


def test_formulas_stay_as_they_are():
    text = "$a < b$, $x<1$, $$\\begin{matrix} a & b \\\\ c&d \\end{matrix}$$ and R&D"
    assert inert(text) == text


def test_pictures_of_a_derivation_are_kept_and_nothing_else():
    handed = answered(GIVEN_OUT, proof="![](attachment:a.png)")
    proof = next(c for c in handed.cells if "attachment" in c.source)
    pasted = {"image/png": "iVBORw0KGgo=", "image/svg+xml": "<svg onload=x>"}
    proof.attachments = {"a.png": pasted, "b.png": {"image/png": '"><script>'}}
    whole, _ = assemble(MASTER, handed)
    kept = [c.attachments for c in whole.cells if "attachments" in c]
    assert kept == [{"a.png": {"image/png": "iVBORw0KGgo="}}]


@needs_sandbox
def test_nothing_that_runs_in_a_browser_comes_out(submit):
    show = "from IPython.display import HTML, Javascript, SVG, display"
    bad = "display(HTML('<script>'), Javascript('alert(1)'), SVG('<svg onload=\"alert(1)\"/>'))"
    cells, _ = submit(half=f"{show}\n{bad}\n{GOOD}")
    assert {kind for o in cells["half"].outputs for kind in o.data} == {"text/plain"}


@needs_sandbox
def test_a_warning_in_a_test_costs_nothing(submit):
    cells, _ = submit(
        half="import warnings\ndef half(x):\n    warnings.warn('hm')\n    return x / 2"
    )
    streams = {o.name for o in cells["half-shown"].outputs if o.output_type == "stream"}
    assert passed(cells["half-shown"]) and streams == {"stdout"}


@needs_sandbox
def test_nothing_is_left_behind(submit):
    def here() -> set[str]:
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                found.add((folder / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
        return {line for line in found if "ipykernel_launcher" in line and "dynbook-" in line}

    submit(half="import os\nfor i in range(3): os.fork()\n" + GOOD)
    deadline = time.monotonic() + 5
    while here() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert here() == set()


def test_without_a_sandbox_limits_hold_all_the_same(submit):
    cells, report = submit(half="import numpy as np\nx = np.ones(10**10)", sandbox=False)
    assert not passed(cells["half"]) and report["problem"] is None
    assert passed(submit(half=GOOD, sandbox=False)[0]["half-hidden"])


def test_without_bubblewrap_grading_is_refused_and_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt install bubblewrap"):
        grade(tmp_path, "1-sample", course=tmp_path)


# Marks


@pytest.fixture(scope="module")
def sample_course(tmp_path_factory) -> Path:
    """A course of one assignment, the sample."""
    root = tmp_path_factory.mktemp("sample")
    for folder in ("pages", "notebooks"):
        (root / folder).mkdir()
    (root / "pages" / "1-sample.md").write_text(SAMPLE, encoding="utf8")
    nbformat.write(GIVEN_OUT, root / "notebooks" / "1-sample.ipynb")
    build(root / "course", pages=root / "pages", notebooks=root / "notebooks")
    return root / "course"


def marks(course: Path, name: str) -> dict[str, dict[str, str]]:
    with open(course / "marks" / f"{name}.csv", encoding="utf8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def test_what_nbgrader_releases_is_what_the_site_shows(sample_course):
    release = nbformat.read(sample_course / "students" / "1-sample.ipynb", as_version=4)
    assert [c.source.strip() for c in release.cells] == [c.source.strip() for c in GIVEN_OUT.cells]


@needs_sandbox
def test_one_bad_submission_spoils_no_other(sample_course, tmp_path):
    handed = {
        "ada": answered(GIVEN_OUT, half=GOOD, proof="Because."),
        "bob": answered(GIVEN_OUT, half="def half(x): return 0.5"),
        "cyd": GIVEN_OUT,
        "dan": answered(GIVEN_OUT, half="import os\nwhile True: os.fork()"),
        "eve": answered(GIVEN_OUT, half=GOOD, half_hidden="pass"),
        "fay": new_notebook(cells=[new_code_cell("1")]),
    }
    handed["eve"].metadata["kernelspec"] = {"name": "julia-1.9", "display_name": "J"}
    for who, notebook in handed.items():
        nbformat.write(notebook, tmp_path / f"{who}.ipynb")
    (tmp_path / "gus.ipynb").write_text("{")
    (tmp_path / "hal.ipynb").write_text("")
    (tmp_path / "ian").mkdir()
    for name in "ab":
        nbformat.write(handed["ada"], tmp_path / "ian" / f"{name}.ipynb")
    nbformat.write(handed["ada"], tmp_path / "j o + y.ipynb")
    (tmp_path / "kim").mkdir()
    (tmp_path / "kim" / "hw.ipynb").symlink_to(tmp_path / "ada.ipynb")
    (tmp_path / "lou" / "hw.ipynb").mkdir(parents=True)
    grade(tmp_path, "1-sample", course=sample_course, limits=LIMITS)
    rows = marks(sample_course, "1-sample")
    scores = {name: float(row["score"]) for name, row in rows.items()}
    assert scores == dict(ada=3, bob=1, cyd=0, dan=0, eve=3, fay=0, gus=0, hal=0, ian=0) | {
        "j_o___y": 3, "kim": 0, "lou": 0
    }  # fmt: skip
    assert {float(row["of"]) for row in rows.values()} == {7}
    assert [name for name, row in rows.items() if row["to_mark_by_hand"]] == ["ada", "j_o___y"]
    problems = {"dan": "processes|memory", "fay": "another", "gus": "not a notebook"}
    problems |= {"hal": "empty", "ian": "2 notebooks", "kim": "ordinary", "lou": "ordinary"}
    for name, words in problems.items():
        assert re.search(words, rows[name]["problem"])
        page = (sample_course / "marks" / "1-sample-feedback" / f"{name}.html").read_text("utf8")
        assert name == "dan" or re.search(words, page)
    assert {name for name, row in rows.items() if not row["problem"]} == {
        *"ada bob cyd eve j_o___y".split()
    }
    before = {f: f.stat().st_mtime_ns for f in (sample_course / "runs").rglob("report.json")}
    grade(tmp_path, "1-sample", course=sample_course, limits=LIMITS)
    assert {f: f.stat().st_mtime_ns for f in before} == before


@needs_sandbox
def test_somebody_without_a_run_spoils_no_other(sample_course, tmp_path):
    for who in ("pat", "sam"):
        nbformat.write(answered(GIVEN_OUT, half=GOOD), tmp_path / f"{who}.ipynb")
    grade(tmp_path, "1-sample", course=sample_course, limits=LIMITS)
    shutil.rmtree(sample_course / "runs" / "1-sample" / "sam")
    (tmp_path / "sam.ipynb").unlink()
    grade(tmp_path, "1-sample", course=sample_course, limits=LIMITS)
    rows = marks(sample_course, "1-sample")
    assert [(rows[s]["score"], rows[s]["problem"]) for s in ("pat", "sam")] == [
        ("3.0", ""),
        ("3.0", "it was not run here"),
    ]


@needs_sandbox
def test_two_do_not_grade_one_course_at_a_time(sample_course, tmp_path):
    nbformat.write(GIVEN_OUT, tmp_path / "ada.ipynb")
    with alone(sample_course), pytest.raises(SystemExit, match=r"another .* is at work"):
        grade(tmp_path, "1-sample", course=sample_course, limits=LIMITS)


@needs_sandbox
def test_a_killed_run_is_resumed_and_grades_nobody_twice(sample_course, tmp_path):
    slow = answered(GIVEN_OUT, half="import time\ntime.sleep(3)\n" + GOOD)
    for who in ("kay", "lea", "mia"):
        nbformat.write(slow, tmp_path / f"{who}.ipynb")
    command = [sys.executable, "-m", "dynbook.course.grade", "grade", tmp_path, "--assignment", "1"]
    command += ["--course", sample_course, "--jobs", "1"]
    reports = {
        s: sample_course / "runs" / "1-sample" / s / "report.json" for s in ("kay", "lea", "mia")
    }
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not reports["kay"].exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = reports["kay"].stat().st_mtime_ns
    assert not reports["mia"].exists()
    left = {*(sample_course / "work").iterdir()}
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert "3 submissions, 2 of them run now" in done.stdout
    table = len(marks(sample_course, "1-sample"))
    for words in ("with a problem", "to mark by hand"):
        assert re.search(rf"{words}: \d+ of {table} in the table", done.stdout)
    assert left and not left & {*(sample_course / "work").iterdir()}
    assert reports["kay"].stat().st_mtime_ns == first
    assert {marks(sample_course, "1-sample")[s]["score"] for s in reports} == {"3.0"}


def test_an_assignment_that_is_not_there_is_named(sample_course, tmp_path):
    with pytest.raises(SystemExit, match=r"no assignment 9 in .*: 1-sample"):
        main(["grade", str(tmp_path), "--assignment", "9", "--course", str(sample_course)])
