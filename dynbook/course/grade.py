"""`dynbook grade`: run what students handed in, many at once, each in a sandbox; write marks."""

from __future__ import annotations

import argparse
import csv
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from ..publish.closure import ROOT
from .build import COURSE, gradebook
from .run import LARGEST, write
from .sandbox import INSTALL, Limits, kill, problem

CHECKPOINTS = ".ipynb_checkpoints"
RUNNING: set[subprocess.Popen] = set()
UNITS = {
    "cell_seconds": "for one cell",
    "seconds": "for one submission",
    "memory": "GiB for one submission",
    "processes": "of one submission at one time",
    "output": "MB shown by one submission",
}


def collect(folder: Path) -> dict[str, list[Path]]:
    """What each student handed in: `<student>.ipynb`, or notebooks in a folder `<student>/`.

    In a student's name, what is neither letter nor digit nor one of ``_ . @ -`` becomes ``_``.

    Raises
    ------
    SystemExit
        If there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise SystemExit(f"SUBMISSIONS must be a folder; there is none at {folder}")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*.ipynb") if CHECKPOINTS not in p.parts)
            found.setdefault(safe(path.name), []).extend(inside)
        elif path.suffix == ".ipynb":
            found.setdefault(safe(path.stem), []).append(path)
    if not found:
        raise SystemExit(f"{folder} holds neither <student>.ipynb nor folders <student>/")
    return found


def safe(name: str) -> str:
    """A name for folders and addresses; one that looks the same is the same."""
    return re.sub(r"[^\w.@-]", "_", unicodedata.normalize("NFC", name)).lstrip(".@-") or "_"


@contextmanager
def alone(course: Path) -> Iterator[None]:
    """Nobody else grades in this course meanwhile.

    Raises
    ------
    SystemExit
        If somebody does.
    """
    with open(course / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with this process at the latest
        except BlockingIOError:
            raise SystemExit(f"another `dynbook grade` is at work in {course}") from None
        yield


def grade_one(
    student: str, paths: list[Path], master: Path, folder: Path, options: list[str]
) -> bool:
    """Run one student's notebook unless that is done; whether anything had to be done.

    What is done is known by the bytes of the notebook, of the master and of the options.
    """
    digest = hashlib.sha256(master.read_bytes() + repr(options).encode())
    wrong = None
    if len(paths) != 1:
        names = ", ".join(path.name for path in paths)
        wrong = f"{len(paths)} notebooks ({names}): one is expected" if paths else "no notebook"
    elif paths[0].is_symlink() or not paths[0].is_file():  # a link may lead to another's work
        wrong = f"{paths[0].name} is not an ordinary file"
    else:
        try:
            with open(paths[0], "rb") as file:
                digest.update(file.read(int(LARGEST) + 1))
        except OSError as error:
            wrong = f"{paths[0].name} cannot be read ({error.strerror})"
    digest = hashlib.sha256(digest.digest() + str(wrong).encode()).hexdigest()
    place = folder / student
    place.mkdir(parents=True, exist_ok=True)
    report = place / "report.json"
    if report.exists() and json.loads(report.read_text(encoding="utf8"))["digest"] == digest:
        return False
    report.unlink(missing_ok=True)
    said, notebook = {"problem": wrong, "notes": [], "seconds": 0.0}, None
    if wrong is None:
        said, notebook = run_apart(master, paths[0], options)
    (place / "notebook.ipynb").unlink(missing_ok=True)
    if notebook is not None:
        write(place / "notebook.ipynb", notebook)
        shutil.copy(paths[0], place / "handed.ipynb")
    write(report, json.dumps(said | {"digest": digest}))
    return True


def run_apart(master: Path, submission: Path, options: list[str]) -> tuple[dict, str | None]:
    """The report on one submission and its executed notebook, from a process of its own."""
    with tempfile.TemporaryDirectory(dir=master.parents[1] / "work") as folder:
        command = [sys.executable, "-m", "dynbook.course.run", master, submission, folder, *options]
        process = subprocess.Popen(
            list(map(str, command)),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # an interruption is for us to deal with
        )
        RUNNING.add(process)
        try:
            errors = process.communicate()[1]
        finally:
            RUNNING.discard(process)
        if process.returncode:
            last = errors.decode(errors="replace").strip().splitlines()[-1:]
            words = " ".join(last)[:200] or f"status {process.returncode}"
            return {"problem": f"its run broke down ({words})", "notes": [], "seconds": 0.0}, None
        executed = Path(folder, "notebook.ipynb")
        said = json.loads(Path(folder, "report.json").read_text(encoding="utf8"))
        return said, executed.read_text(encoding="utf8") if executed.exists() else None


def grade(
    submissions: Path,
    name: str,
    *,
    course: Path = COURSE,
    jobs: int | None = None,
    sandbox: bool = True,
    limits: Limits | None = None,
) -> dict[str, dict]:
    """Grade a folder of submissions; the report of each student.

    Parameters
    ----------
    submissions : Path
        Folder with `<student>.ipynb`, or a folder for each student.
    name : str
        The assignment, as ``"1-two-steps"``.
    jobs : int, optional
        How many at once; as many as there are cores.

    Raises
    ------
    SystemExit
        If there is no sandbox, and none was not asked for; if there is no such assignment; if
        somebody else grades in this course now.
    """
    if sandbox and (why := problem()):
        raise SystemExit(INSTALL.format(problem=why))
    master = course / "masters" / f"{name}.ipynb"
    if not master.exists():
        raise SystemExit(f"{course} has no assignment {name}: `make course` first")
    limits = limits or Limits()
    options = [f"--{key.replace('_', '-')}={value}" for key, value in asdict(limits).items()]
    options += [] if sandbox else ["--no-sandbox"]
    handed, folder = collect(submissions), course / "runs" / name
    if jobs is None:
        jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    start, new, work = time.monotonic(), 0, course / "work"
    bar = tqdm(total=len(handed), unit="submission")
    with alone(course), ThreadPoolExecutor(jobs) as pool, bar:
        shutil.rmtree(work, ignore_errors=True)  # what a killed run has left
        work.mkdir()
        waiting = [
            pool.submit(grade_one, student, paths, master, folder, options)
            for student, paths in handed.items()
        ]
        try:
            for one in as_completed(waiting):
                new += one.result()
                bar.update()
        except BaseException:  # interrupted: what is finished is kept, the rest is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            for process in [*RUNNING]:
                kill(process.pid)
            raise
        gradebook("record", course, name)
    seconds = time.monotonic() - start
    print(f"{len(handed)} submissions, {new} of them run now, {seconds:.0f} s")
    table = course / "marks" / f"{name}.csv"
    with open(table, newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    for column, words in (("problem", "with a problem"), ("to_mark_by_hand", "to mark by hand")):
        print(f"{words}: {sum(bool(row[column]) for row in rows)} of {len(rows)} in the table")
    print(f"marks: {table}\nfeedback: {course / 'marks' / name}-feedback")
    reports = sorted(folder.glob("*/report.json"))
    return {path.parent.name: json.loads(path.read_text(encoding="utf8")) for path in reports}


def named(number: str, course: Path) -> str:
    """The assignment of a number, or of a name."""
    names = sorted(path.stem for path in (course / "masters").glob("*-*.ipynb"))
    found = [name for name in names if number in (name, name.partition("-")[0])]
    if not found:
        there = ", ".join(names) or "none; `make course` makes them"
        raise SystemExit(f"there is no assignment {number} in {course}: {there}")
    return found[0]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="dynbook", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("grade", help="grade what students handed in")
    add.add_argument("submissions", type=Path, metavar="SUBMISSIONS")
    add.add_argument("--assignment", required=True, metavar="K", help="its number")
    add.add_argument("--course", type=Path, default=COURSE, help="made by `make course`")
    add.add_argument("--jobs", type=int, help="how many at once (as many as cores)")
    add.add_argument("--no-sandbox", action="store_true", help="run strangers' code as your own")
    for name, value in asdict(Limits()).items():
        text = f"at most, {UNITS[name]} ({value:g})"
        add.add_argument("--" + name.replace("_", "-"), type=type(value), default=value, help=text)
    said = parser.parse_args(arguments)
    limits = Limits(**{name: getattr(said, name) for name in asdict(Limits())})
    try:
        grade(
            said.submissions,
            named(said.assignment, said.course),
            course=said.course,
            jobs=said.jobs,
            sandbox=not said.no_sandbox,
            limits=limits,
        )
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. What was graded is kept: run the same command again.")


if __name__ == "__main__":
    main()
