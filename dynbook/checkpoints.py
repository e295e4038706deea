"""A long run that was stopped goes on where it was, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_File = str | Path | None


def resumed(file: _File, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What :func:`keep` wrote last, or None where there is no such file (or none was named).

    Parameters
    ----------
    file : str, Path or None
    settings : dict
        Numbers, texts and tensors that say which run it is.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or another run's.
    """
    if file is None or not Path(file).exists():
        return None
    try:
        saved = torch.load(file, weights_only=True)
        theirs, state = saved["settings"], saved["state"]
    except Exception as error:
        raise ValueError(
            f"checkpoint {file} cannot be read ({type(error).__name__}): name another file, or "
            "delete it to begin anew"
        ) from error
    for key in settings.keys() | theirs.keys():
        if key not in settings or key not in theirs or not _same(settings[key], theirs[key]):
            raise ValueError(
                f"checkpoint {file} belongs to another run, whose {key} differs: name another "
                "file, or delete it to begin anew"
            )
    return state


def keep(file: _File, settings: dict[str, Any], state: dict[str, Any]) -> None:
    """Write the state of a run, under another name first: a stop leaves the last one whole."""
    if file is None:
        return
    file = Path(file)
    unfinished = file.with_name(file.name + ".part")
    torch.save({"settings": settings, "state": state}, unfinished)
    unfinished.replace(file)


def _same(ours: Any, theirs: Any) -> bool:
    return torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))
