"""The chapters' sections, read from the source: titles, labels, and what each refers to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CELL = re.compile(r"^(?P<fence>```+)\{code-cell\}.*?^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(?:\((?P<label>[\w-]+)\)=\n)?(?P<marks>##?) (?P<title>.+)$", re.MULTILINE)

#: Where a label is set: before a block, in a directive, after an equation, in a cell's figure.
DEFINED = re.compile(
    r"^ *\(([\w-]+)\)=$|^:(?:label|name): *([\w-]+)|\$\$ *\((eq[\w:-]+)\)|\bname: *(fig[\w-]+)",
    re.MULTILINE,
)
REFERRED = re.compile(r"\{(?:ref|eq|numref|prf:ref)\}`(?:[^`<]*<)?([\w:-]+)>?`")


@dataclass(frozen=True)
class Section:
    """A section of the first level."""

    number: tuple[int, int]  # chapter, place in it
    page: str  # as Sphinx names it
    label: str | None
    title: str
    text: str = field(repr=False)

    @property
    def labels(self) -> set[str]:
        """What others can refer to in it."""
        return {name for names in DEFINED.findall(self.text) for name in names if name}

    @property
    def references(self) -> list[str]:
        """What its prose refers to."""
        return REFERRED.findall(CELL.sub("", self.text))


def chapters(root: Path = ROOT) -> list[Path]:
    """The sources of the chapters, in order."""
    return sorted((root / "book").glob("[0-9]-*.md"))


def sections_of(chapter: Path) -> Iterator[Section]:
    """The sections of a chapter; its opening has the number 0 and the chapter's own title."""
    text = chapter.read_text(encoding="utf8")
    hidden = CELL.sub(lambda m: re.sub(r"\S", " ", m[0]), text)  # code has its own #
    heads = list(HEADING.finditer(hidden))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    number, page = int(chapter.name[0]), f"book/{chapter.stem}"
    for i, (head, end) in enumerate(zip(heads, ends, strict=True)):
        own = text[head.start() : end]
        yield Section((number, i), page, head["label"], head["title"], own)


def all_sections(root: Path = ROOT) -> list[Section]:
    """The sections of all chapters, openings included, in reading order."""
    return [section for chapter in chapters(root) for section in sections_of(chapter)]


def links(sections: list[Section]) -> dict[tuple[int, int], dict[tuple[int, int], set[str]]]:
    """For each section the sections that its text refers to, with the labels it uses."""
    home = {label: s.number for s in sections for label in s.labels}
    found = {}
    for s in sections:
        found[s.number] = there = {}
        for label in s.references:
            if label in home and home[label] != s.number:
                there.setdefault(home[label], set()).add(label)
    return found
