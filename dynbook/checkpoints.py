"""Files from which a run goes on: never half written, never those of another run."""

from __future__ import annotations

import hashlib
import io
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another run; the message says why."""


def writable(name: str, file: str | Path) -> Path:
    """The path, absolute and with links followed, if a file can be written there.

    Raises
    ------
    TypeError
        If it is no path.
    FileNotFoundError
        If its folder does not exist.
    IsADirectoryError
        If it is a folder.
    PermissionError
        If nothing can be written in its folder.
    """
    if not isinstance(file, (str, Path)):
        raise TypeError(f"{name} must be the path of a file, got {file!r:.40}")
    path = Path(file).expanduser().resolve()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name} must lie in a folder that exists, got {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{name} must be a file, got the folder {path}")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise PermissionError(
            f"{name} must lie in a folder that can be written, got {path}: {error}"
        ) from error
    return path


class Keeper:
    """When a run is written to its file, if it has one: at once, every so often, at the end.

    A state is an object with a ``step`` among its attributes, which are written. Where another run,
    or the same begun again, has written meanwhile, an older state does not replace a newer one.
    """

    def __init__(self, file: Path | None, seconds: float):
        self.file, self.seconds = file, seconds
        self.due, self.saved, self.seen = -math.inf, None, None

    def begin(self, run: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
        """What the file holds, as :func:`resume` finds it, or start if there is none."""
        self.run, self.start = run, start
        if self.file is None or not self.file.exists():
            return start
        self.seen = self._stamp()
        return resume(self.file, run, start)

    def offer(self, state: Any) -> None:
        """Write the state, if it is time."""
        if self.file and time.monotonic() >= self.due:
            self._write(state)

    def close(self, state: Any, error: BaseException | None = None) -> None:
        """Write the state, if it is not on the disk.

        Where an error ends the run, one of the disk does not take its place but is noted in it; a
        generator that is closed (GeneratorExit) could not tell it.
        """
        try:
            if self.file and state is not self.saved:
                self._write(state)
        except Exception as failure:
            if error is None or isinstance(error, GeneratorExit):
                raise
            told = f"The state of step {state.step} is not on the disk: {failure!r}"
            if hasattr(error, "add_note"):
                error.add_note(told)
            else:  # before Python 3.11
                error.args = *error.args, told

    def _write(self, state: Any) -> None:
        stamp = self._stamp()
        others = stamp not in (None, self.seen)
        if not others or resume(self.file, self.run, self.start)["step"] <= state.step:
            write(self.file, self.run, vars(state))
            self.saved, self.seen = state, self._stamp()
        self.due = time.monotonic() + self.seconds

    def _stamp(self) -> tuple[int, ...] | None:
        if not self.file.exists():
            return None
        found = self.file.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size


def write(file: Path, run: dict[str, Any], state: dict[str, Any]) -> None:
    """Write the state of a run; until all of it is on the disk, the old file stays as it is."""
    part, content = file.with_name(file.name + ".part"), io.BytesIO()
    state = {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in state.items()}
    # in memory first: an interruption within torch.save leaves a stream that cannot be closed
    torch.save({"run": run, "state": state, "sha256": digest(run, state)}, content)
    try:
        with part.open("wb") as stream:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def resume(file: Path, run: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    """The state that the file holds, if it is one of this run, which begins with start.

    The first tensor of ``start`` must have kept its shape and dtype; all are moved to its device,
    but for bytes, which are states of generators. What ``run`` holds must be what it was, by
    :func:`alike`.

    Raises
    ------
    CheckpointError
        If it is damaged or is one of another run; the message names what differs.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        was, state = content["run"], content["state"]
        if not torch.equal(content["sha256"], digest(was, state)):
            raise ValueError("its bytes are not those that were written")
        if state.keys() != start.keys():
            raise ValueError(f"it holds {', '.join(state)}")
        other = [name for name, value in run.items() if not alike(was.get(name), value)]
        name, here = next((k, v) for k, v in start.items() if isinstance(v, Tensor))
        found = state[name]
        if not other and (found.shape != here.shape or found.dtype != here.dtype):
            raise ValueError(f"it holds {name} of {found.dtype}, shape {tuple(found.shape)}")
    except Exception as error:  # a damaged file can make the reader stumble anywhere
        raise CheckpointError(
            f"checkpoint {file} is none that can be read: {error!r:.80}; it may be damaged; "
            "if it is not needed, delete it, or choose another name"
        ) from error
    for name in other[:1]:
        told = isinstance(was.get(name), Tensor) or isinstance(run[name], Tensor)
        found = "other values" if told else f"{was.get(name)}, not {run[name]}"
        raise CheckpointError(
            f"checkpoint {file} belongs to another run, with another {name} ({found}); "
            "choose another name, or delete it if it is not needed"
        )
    return {k: _moved(v, here.device) if isinstance(v, Tensor) else v for k, v in state.items()}


def digest(*contents: Any) -> Tensor:
    """The SHA-256 of tensors, dictionaries and what else has a repr, as 32 bytes in a tensor."""
    hashed = hashlib.sha256()
    for content in contents:
        if isinstance(content, dict):
            for name in sorted(content):
                hashed.update(name.encode() + bytes(digest(content[name]).tolist()))
        elif isinstance(content, Tensor):
            hashed.update(f"{content.dtype} {tuple(content.shape)}".encode())
            flat = content.detach().cpu().reshape(-1).contiguous()
            hashed.update(flat.view(torch.uint8).numpy())
        else:
            hashed.update(repr(content).encode())
    return torch.tensor(list(hashed.digest()), dtype=torch.uint8)


def alike(a: Any, b: Any) -> bool:
    """Whether two entries that tell a run from others are the same.

    A floating-point tensor (2, ...) holds values and, second, by how much they may differ, as by
    rounding on another machine; all else must be equal.
    """
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return type(a) is type(b) and a == b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not b.is_floating_point():
        return torch.equal(a, b)
    near = (a[0] - b[0]).abs() <= b[1]
    return bool((near | (a[0] == b[0]) | (a[0].isnan() & b[0].isnan())).all())


def _moved(value: Tensor, device: torch.device) -> Tensor:
    return value if value.dtype == torch.uint8 else value.to(device)
