"""Two hundred submissions, killed once and resumed: `pytest tests/batch_of_200.py -s`.

Not part of `make test`: it takes minutes. It needs the course (`make course`) and bubblewrap, and
prints the seconds that a submission took.
"""

from __future__ import annotations

import csv
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from test_assignments import answers

from dynbook.course.build import COURSE, build
from dynbook.course.source import graded_cells

ROOT = Path(__file__).resolve().parents[1]
NUMBER = 200
HOSTILE = [
    "while True: pass",
    "import os\nwhile True: os.fork()",
    "x = []\nwhile True: x.append(bytearray(10**8))",
    "print('x' * 50_000_000)",
    "import os\nos._exit(0)",
]


def test_a_batch_is_graded_and_resumed(bubblewrap, tmp_path):
    name = build()[0]
    course = tmp_path / "course"
    for part in ("source", "release", "students", "masters"):
        shutil.copytree(COURSE / part, course / part)
    shutil.copy(COURSE / "gradebook.db", course)
    page = (ROOT / "book" / "assignments" / f"{name}.md").read_text(encoding="utf8")
    cells = graded_cells(page)
    tests = {k: c.points for k, c in cells.items() if c.points and not c.metadata["solution"]}
    first = next(k for k, c in cells.items() if c.metadata["solution"] and not c.points)
    kinds = [({}, {}), *((source, lost) for source, lost in answers(name).WRONG.values())]
    handed, expected, draw = tmp_path / "handed", {}, random.Random(1)
    handed.mkdir()
    for index in range(NUMBER):
        source, lost = draw.choice(kinds)
        if index % 20 == 10:
            source, lost = {first: HOSTILE[index // 20 % len(HOSTILE)]}, None
        notebook = nbformat.read(course / "source" / name / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            key = cell.metadata.get("nbgrader", {}).get("grade_id")
            cell.source = source.get(key, cell.source)
        nbformat.write(notebook, handed / f"s{index:03d}.ipynb")
        if lost is not None:
            expected[f"s{index:03d}"] = sum(tests.values()) - sum(lost.values())
    command = [sys.executable, "-m", "dynbook.course.grade", "grade", str(handed)]
    command += ["--assignment", name, "--course", str(course), "--cell-seconds", "20"]
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT)
    runs = course / "runs" / name
    while len(done := list(runs.glob("*/report.json"))) < NUMBER // 3 and process.poll() is None:
        time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in done}
    subprocess.run(command, cwd=ROOT, check=True)
    seconds = time.monotonic() - start
    print(f"{NUMBER} submissions in {seconds:.0f} s, {seconds / NUMBER:.2f} s each")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with open(course / "marks" / f"{name}.csv", encoding="utf8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert len(rows) == NUMBER
    auto = {s: sum(float(row[k]) for k in tests) for s, row in rows.items() if s in expected}
    assert auto == expected
