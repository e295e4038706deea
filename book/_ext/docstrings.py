"""In a docstring |w| is an absolute value: substitutions are switched off there."""

from __future__ import annotations

import re

CODE = re.compile(r"(``.+?``|:[\w:]+:`[^`]*`|`[^`]*`_?)")


def plain_bars(lines: list[str]) -> list[str]:
    """Escape `|` everywhere but in code, roles, directives and literal blocks."""
    out, kept = [], None  # kept: indentation of the line that opened a block to leave alone
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if kept is not None and line.strip() and indent <= kept:
            kept = None
        if kept is None and (line.lstrip().startswith(".. ") or line.rstrip().endswith("::")):
            kept = indent
            out.append(line)
        elif kept is not None or line.lstrip().startswith(">>>"):
            out.append(line)
        else:
            parts = CODE.split(line)
            out.append("".join(p if i % 2 else p.replace("|", r"\|") for i, p in enumerate(parts)))
    return out


def process(app, what, name, obj, options, lines) -> None:
    lines[:] = plain_bars(lines)


def setup(app):
    app.connect("autodoc-process-docstring", process, priority=900)  # after napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
