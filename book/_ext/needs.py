"""Which sections a section rests on: book/guide/needs.yml."""

from __future__ import annotations

from pathlib import Path

import yaml
from sections import ROOT, Section

TABLE = Path("book/guide/needs.yml")
CLOSING = "What we have seen"


def needs(root: Path = ROOT) -> dict[str, list[str]]:
    """For the label of each section those of the sections that come directly before it."""
    return yaml.safe_load((root / TABLE).read_text(encoding="utf8"))


def taught(sections: list[Section]) -> list[Section]:
    """The sections with something to learn: neither a chapter's opening nor its last."""
    return [s for s in sections if s.number[1] and not s.title.startswith(CLOSING)]


def everything_before(label: str, table: dict[str, list[str]]) -> set[str]:
    """All sections that a section rests on, directly or not.

    Raises
    ------
    ValueError
        If a section rests on itself, or on one that the table lacks.
    """

    def walk(name: str, above: tuple[str, ...]) -> set[str]:
        if name in above:
            raise ValueError(f"{name} rests on itself: {' → '.join([*above, name])}")
        if name not in table:
            raise ValueError(f"{above[-1] if above else 'nothing'} needs {name}, not in {TABLE}")
        return {name}.union(*(walk(n, (*above, name)) for n in table[name]))

    return walk(label, ()) - {label}
