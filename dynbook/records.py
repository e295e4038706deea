"""Records in a folder, lines of JSON in files of one writer each: there whole, or not at all."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

Record = dict[str, Any]
"""What is written, a ``key`` and what else JSON knows."""


def begin(folder: Path, token: str) -> tuple[dict[str, Record], BinaryIO]:
    """A new file for what goes by this token, and the records that earlier files of it have."""
    for attempt in itertools.count():
        try:
            stream = (folder / f"{token}.{attempt}.jsonl").open("xb")
        except FileExistsError:
            continue
        return read(folder, token) if attempt else {}, stream


def write(stream: BinaryIO, record: Record) -> None:
    """One line, which counts as soon as its end is there."""
    stream.write(json.dumps(record).encode() + b"\n")
    stream.flush()


def read(folder: Path | None, token: str = "") -> dict[str, Record]:
    """The records of a token, or all, by their keys; one without ``error`` goes before others.

    A line that has no end was being written when its writer was killed; one that is no JSON was
    not yet on the disk when its power failed. Both, and lines of others, count as not written.
    """
    found: dict[str, Record] = {}
    for file in folder.glob(f"{token}*.jsonl") if folder else ():
        for line in file.read_bytes().split(b"\n")[:-1]:
            try:
                record = json.loads(line)
                if record["key"] not in found or "error" in found[record["key"]]:
                    found[record["key"]] = record
            except (ValueError, TypeError, KeyError):
                continue
    return found


def encoded(name: str, value: Any) -> Any:
    """A value as JSON knows it, tensors and arrays to the bit.

    Raises
    ------
    TypeError
        If it is not made of numbers, strings, dense tensors, arrays of numbers or strings, lists,
        and dictionaries with strings as keys; the message has its name.
    ValueError
        If a whole number in it has more than 10,000 bits, which JSON could not take.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() > 10_000:
        raise ValueError(
            f"{name} must have whole numbers of at most 10,000 bits, as text if need be"
        )
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, complex):
        return {"__complex__": [value.real, value.imag]}
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized:
        flat = value.detach().cpu().resolve_conj().resolve_neg().reshape(-1).contiguous()
        data = base64.b64encode(flat.view(torch.uint8).numpy()).decode()
        return {"__tensor__": [str(value.dtype).removeprefix("torch."), list(value.shape), data]}
    masked = isinstance(value, np.ma.MaskedArray)  # whose mask would be lost
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcUS" and not masked:
        data = base64.b64encode(value.tobytes()).decode()
        return {"__array__": [value.dtype.str, list(value.shape), data]}
    if isinstance(value, (list, tuple)):
        return [encoded(name, v) for v in value]
    if isinstance(value, Mapping) and all(isinstance(k, str) and k[:2] != "__" for k in value):
        return {k: encoded(f"{name}, {k}", v) for k, v in value.items()}
    raise TypeError(
        f"{name} must be a number, a string, a dense tensor, an array of numbers or strings, or "
        "lists and dictionaries of these with strings as keys that do not begin with __, got "
        f"{value!r:.40}"
    )


def decoded(value: Any) -> Any:
    """What was encoded; tensors are on the CPU, tuples have become lists."""
    if isinstance(value, list):
        return [decoded(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "__complex__" in value:
        return complex(*value["__complex__"])
    if "__tensor__" in value:
        dtype, shape, data = value["__tensor__"]
        raw, dtype = bytearray(base64.b64decode(data)), getattr(torch, dtype)
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        return flat.reshape(shape)
    if "__array__" in value:
        dtype, shape, data = value["__array__"]
        return np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()
    return {k: decoded(v) for k, v in value.items()}
