"""From a function in the reference to its lines in the repository, where its address is known."""

from __future__ import annotations

import importlib
import inspect
from operator import attrgetter
from pathlib import Path

from dynbook.publish.closure import ROOT


def lines_of(module: str, name: str) -> tuple[str, int, int] | None:
    """File in the repository, first and last line of a function or class; None if it has none."""
    try:
        found = inspect.unwrap(attrgetter(name)(importlib.import_module(module)))
        source, first = inspect.getsourcelines(found)
        file = Path(inspect.getsourcefile(found)).resolve().relative_to(ROOT)
    except (AttributeError, ImportError, OSError, TypeError, ValueError):
        return None
    return file.as_posix(), first, first + len(source) - 1


def resolve_by(app):
    """`linkcode_resolve` of this build."""

    def resolve(domain: str, info: dict) -> str | None:
        where = app.dynbook_address
        if not where or domain != "py":
            return None
        found = lines_of(info["module"], info["fullname"])
        return f"{where.file(found[0])}#L{found[1]}-L{found[2]}" if found else None

    return resolve


def settle(app, config) -> None:
    config.linkcode_resolve = resolve_by(app)


def setup(app):
    app.setup_extension("page_buttons")
    app.setup_extension("sphinx.ext.linkcode")
    app.connect("config-inited", settle, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
