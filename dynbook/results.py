"""Experiments at the size of the papers: run once, shipped as small files, drawn beside ours.

A chapter reads the recorded numbers. `make paper` runs it with `DYNBOOK_SCALE=paper`, which makes
it run the experiments anew and write the files; `DYNBOOK_SCALE=trial` tries the same cells out in a
reduced size, and writes elsewhere.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")

#: Where they lie in a clone of the book.
#:
#: :meta hide-value:
FOLDER = Path(__file__).resolve().parents[1] / "book" / "data"

#: Where those of a trial go.
#:
#: :meta hide-value:
TRIAL = FOLDER.parents[1] / "_build" / "trial"

#: What :func:`record` adds of itself.
PROVENANCE = ("device", "date", "commit")

CHANGED = ", with changes"


def scale() -> str:
    """What `DYNBOOK_SCALE` asks for: "laptop" (the default), "trial" or "paper".

    Raises
    ------
    ValueError
        If it is set to anything else.
    """
    value = os.environ.get("DYNBOOK_SCALE") or "laptop"
    if value not in ("laptop", "trial", "paper"):
        raise ValueError(f'DYNBOOK_SCALE must be "laptop", "trial" or "paper", got {value!r}')
    return value


def at_scale(paper: T, trial: T) -> T:
    """The size of an experiment: the paper's, or a small one at the scale "trial"."""
    return trial if scale() == "trial" else paper


def due(name: str) -> bool:
    """Whether the experiment `name` is to be run now.

    At the scale "laptop" it never is, at "trial" always. At "paper" it is, unless its file was
    written by the very commit that is checked out, and neither then nor now anything differs from
    that commit but recorded experiments. So a run that was stopped goes on at the first experiment
    that is missing; to run one again, delete its file.

    Raises
    ------
    FileNotFoundError
        If the folder of the book is not there.
    ValueError
        If the name is no plain name.
    """
    _named(name)
    if scale() != "paper":
        return scale() == "trial"
    file, now = FOLDER / f"{name}.json", _clean_commit()
    return not (now and file.exists() and json.loads(file.read_text())["commit"] == now)


def best_device() -> torch.device:
    """The GPU, where PyTorch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def checkpoint(name: str) -> Path | None:
    """A file below `_build` from which a long run of an experiment may go on after a stop.

    Each commit has its own. None, where the code that wrote it could not be known again: without a
    commit, or where something differs from it; and at other scales than "paper".
    """
    _named(name)
    if scale() != "paper" or not (now := _clean_commit()):
        return None
    folder = TRIAL.with_name("paper") / now
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.pt"


def recorded(name: str) -> dict[str, Any]:
    """The recorded experiment `name`: its numbers, and `device`, `date` and `commit` of the run.

    At the scale "trial" that of the trial, if it has been run.

    Raises
    ------
    FileNotFoundError
        If there is none; the message names the ones there are, and where it looked.
    ValueError
        If the name is no plain name.
    """
    _named(name)
    file = FOLDER / f"{name}.json"
    if scale() == "trial" and (tried := TRIAL / file.name).exists():
        file = tried
    if not file.exists():
        known = ", ".join(sorted(f.stem for f in FOLDER.glob("*.json"))) or "none"
        raise FileNotFoundError(f"no recorded experiment {name!r} in {FOLDER}; there are: {known}")
    return json.loads(file.read_text())


def record(name: str, *, on: torch.device | str = "cpu", **numbers: Any) -> dict[str, Any]:
    """Write an experiment's numbers (lists, floats, tensors) with device, date and commit.

    `on` says what computed them. The file is written under another name and then renamed: a run
    that is stopped leaves the old one whole. Returns what :func:`recorded` will.

    Raises
    ------
    FileNotFoundError
        If the folder of the book is not there.
    ValueError
        If the name is no plain name, a number is called as one of the three that are added, or is
        not finite.
    TypeError
        If something is no number, text, list or tensor.
    """
    _named(name)
    folder = TRIAL if scale() == "trial" else FOLDER
    if taken := set(PROVENANCE) & set(numbers):
        raise ValueError(
            f"{', '.join(sorted(taken))} must not be given: record adds {', '.join(PROVENANCE)} of "
            "the run; choose another name"
        )
    plain = {key: _plain(key, v) for key, v in numbers.items()}
    here = (device(on), date.today().isoformat(), commit())
    result = dict(zip(PROVENANCE, here, strict=True)) | plain
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{name}.json.part"
    unfinished.write_text(json.dumps(result) + "\n")
    unfinished.replace(folder / f"{name}.json")
    return result


def device(on: torch.device | str = "cpu") -> str:
    """A device in words: the GPU's name, or the number of CPU cores and their kind."""
    if torch.device(on).type == "cuda":
        return torch.cuda.get_device_name(on)
    return f"CPU, {os.cpu_count()} cores, {platform.machine()}"


def commit() -> str:
    """The commit that ran, and whether anything but recorded experiments differed from it."""

    def git(*words: str) -> str:
        asked = subprocess.run(["git", *words], cwd=FOLDER.parent, capture_output=True, text=True)
        return asked.stdout.strip() if asked.returncode == 0 else ""

    if not shutil.which("git") or not (found := git("rev-parse", "--short", "HEAD")):
        return "unknown"
    changes = git("status", "--porcelain", "--", ":/", f":(exclude){FOLDER.name}")
    return found + CHANGED if changes else found


def _clean_commit() -> str | None:
    found = commit()
    return None if found == "unknown" or found.endswith(CHANGED) else found


def _named(name: str) -> None:
    """Refuses what is no name, and a package without its book."""
    if not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError(f"name must be of letters, digits, - and _, as '3-disk', got {name!r}")
    if not FOLDER.parent.is_dir():
        raise FileNotFoundError(
            f"no recorded experiments: looked for {FOLDER}. They come with the book and not with "
            "the installed package; run in a clone of the repository (pip install -e .)"
        )


def _plain(key: str, value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        words = f"{key} must be finite numbers, texts or lists of them: {error}"
        raise type(error)(words) from None
