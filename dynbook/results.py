"""Experiments at the size of the papers: run once, shipped as small files, drawn beside ours.

`DYNBOOK_SCALE=paper` makes a chapter run them anew and write the file; without it the recorded
numbers are read.
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
from typing import Any

#: Where they lie in a clone of the book.
#:
#: :meta hide-value:
FOLDER = Path(__file__).resolve().parents[1] / "book" / "data"

#: What :func:`record` adds of itself.
PROVENANCE = ("device", "date", "commit")


def scale() -> str:
    """The size of experiments asked for by the environment: "laptop" (the default) or "paper".

    Raises
    ------
    ValueError
        If `DYNBOOK_SCALE` is set to anything else.
    """
    value = os.environ.get("DYNBOOK_SCALE", "laptop")
    if value not in ("laptop", "paper"):
        raise ValueError(f'DYNBOOK_SCALE must be "laptop" or "paper", got {value!r}')
    return value


def recorded(name: str) -> dict[str, Any]:
    """The recorded experiment `name`: its numbers, and `device`, `date` and `commit` of the run.

    Raises
    ------
    FileNotFoundError
        If there is none; the message names the ones there are, and where it looked.
    ValueError
        If the name is no plain name.
    """
    file = _file(name)
    if not file.exists():
        known = ", ".join(sorted(f.stem for f in FOLDER.glob("*.json"))) or "none"
        raise FileNotFoundError(f"no recorded experiment {name!r} in {FOLDER}; there are: {known}")
    return json.loads(file.read_text())


def record(name: str, **numbers: Any) -> dict[str, Any]:
    """Write an experiment's numbers (lists, floats, tensors) with device, date and commit.

    The file is written under another name and then renamed: a run that is stopped leaves the old
    one whole. Returns what :func:`recorded` will.

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
    file = _file(name)
    if taken := set(PROVENANCE) & set(numbers):
        raise ValueError(
            f"{', '.join(sorted(taken))} must not be given: record adds {', '.join(PROVENANCE)} of "
            "the run; choose another name"
        )
    plain = {key: _plain(key, v) for key, v in numbers.items()}
    here = (device(), date.today().isoformat(), commit())
    result = dict(zip(PROVENANCE, here, strict=True)) | plain
    FOLDER.mkdir(exist_ok=True)
    unfinished = file.with_suffix(".json.part")
    unfinished.write_text(json.dumps(result) + "\n")
    unfinished.replace(file)
    return result


def device() -> str:
    """What computes here, in words: the GPU's name, or the number of CPU cores and their kind."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {os.cpu_count()} cores, {platform.machine()}"


def commit() -> str:
    """The commit that ran, and whether anything but recorded experiments differed from it."""

    def git(*words: str) -> str:
        asked = subprocess.run(["git", *words], cwd=FOLDER.parent, capture_output=True, text=True)
        return asked.stdout.strip() if asked.returncode == 0 else ""

    if not shutil.which("git") or not (found := git("rev-parse", "--short", "HEAD")):
        return "unknown"
    changes = git("status", "--porcelain", "--", ":/", f":(exclude){FOLDER.name}")
    return f"{found}, with changes" if changes else found


def _file(name: str) -> Path:
    if not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError(f"name must be of letters, digits, - and _, as '3-disk', got {name!r}")
    if not FOLDER.parent.is_dir():
        raise FileNotFoundError(
            f"no recorded experiments: looked for {FOLDER}. They come with the book and not with "
            "the installed package; run in a clone of the repository (pip install -e .)"
        )
    return FOLDER / f"{name}.json"


def _plain(key: str, value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        words = f"{key} must be finite numbers, texts or lists of them: {error}"
        raise type(error)(words) from None
