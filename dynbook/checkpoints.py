"""Files from which a run goes on: never half written, never those of another run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another run; the message says why."""


def writable(name: str, file: str | Path) -> Path:
    """The path, if a file can be there.

    Raises
    ------
    FileNotFoundError
        If its folder does not exist.
    IsADirectoryError
        If it is a folder.
    """
    path = Path(file)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name} must lie in a folder that exists, got {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{name} must be a file, got the folder {path}")
    return path


def write(file: Path, run: dict[str, Any], state: dict[str, Any]) -> None:
    """Write the state of a run; until all of it is on the disk, the old file stays as it is."""
    part = file.with_name(file.name + ".part")
    state = {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in state.items()}
    with part.open("wb") as stream:
        torch.save({"run": run, "state": state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, file)


def resume(file: Path, run: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The state that the file holds, if it is one of this run.

    Tensors are moved to the device, but for bytes, which are states of generators. Tensors in
    ``run`` count as the same if they differ by rounding, as on another machine.

    Raises
    ------
    CheckpointError
        If it cannot be read or is one of another run; the message names what differs.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        was, state = content["run"], content["state"]
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"checkpoint {file} is none that can be read: {error!r:.80}; "
            "if it is not needed, delete it, or choose another name"
        ) from error
    for name, value in run.items():
        if not _same(was.get(name), value):
            found = "other values" if isinstance(value, Tensor) else f"{was.get(name)}, not {value}"
            raise CheckpointError(
                f"checkpoint {file} belongs to another run, with another {name} ({found}); "
                "choose another name, or delete it if it is not needed"
            )
    return {k: _moved(v, device) if isinstance(v, Tensor) else v for k, v in state.items()}


def _moved(value: Tensor, device: torch.device) -> Tensor:
    return value if value.dtype == torch.uint8 else value.to(device)


def _same(a: Any, b: Any) -> bool:
    if not isinstance(b, Tensor):
        return a == b
    if not isinstance(a, Tensor) or a.shape != b.shape or a.dtype != b.dtype:
        return False
    size = b.abs().nan_to_num(0.0, posinf=0.0).max().item()
    return torch.allclose(a, b, 0, torch.finfo(b.dtype).eps ** 0.4 * size, equal_nan=True)
