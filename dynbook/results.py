"""Experiments at the size of the papers: run once, shipped as small files, drawn beside ours.

`DYNBOOK_SCALE=paper` makes a chapter run them anew and write the file; without it the recorded
numbers are read.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "book" / "data"


def scale() -> str:
    """The size of experiments asked for by the environment: "laptop" (the default) or "paper"."""
    value = os.environ.get("DYNBOOK_SCALE", "laptop")
    if value not in ("laptop", "paper"):
        raise ValueError(f'DYNBOOK_SCALE must be "laptop" or "paper", got {value!r}')
    return value


def recorded(name: str) -> dict[str, Any]:
    """The recorded experiment `name`: its numbers, and `device`, `date` and `commit` of the run.

    Raises
    ------
    FileNotFoundError
        If there is none; the message names the ones there are.
    """
    file = FOLDER / f"{name}.json"
    if not file.exists():
        known = ", ".join(sorted(f.stem for f in FOLDER.glob("*.json"))) or "none"
        raise FileNotFoundError(f"no recorded experiment {name!r} in {FOLDER}; there are: {known}")
    return json.loads(file.read_text())


def record(name: str, **numbers: Any) -> dict[str, Any]:
    """Write an experiment's numbers (lists, floats, tensors) with device, date and commit.

    The file is written under another name and then renamed: a run that is stopped leaves the old
    one whole. Returns what :func:`recorded` will.
    """
    plain = {key: v.tolist() if hasattr(v, "tolist") else v for key, v in numbers.items()}
    result = {"device": device(), "date": date.today().isoformat(), "commit": _commit(), **plain}
    FOLDER.mkdir(parents=True, exist_ok=True)
    unfinished = FOLDER / f"{name}.json.part"
    unfinished.write_text(json.dumps(result) + "\n")
    unfinished.replace(FOLDER / f"{name}.json")
    return result


def device() -> str:
    """What computes here, in words: the GPU's name, or the number of CPU cores and their kind."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {os.cpu_count()} cores, {platform.machine()}"


def _commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=FOLDER.parent, capture_output=True, text=True
    )
    return asked.stdout.strip() if asked.returncode == 0 else "unknown"
