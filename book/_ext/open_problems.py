"""`{open-problems} N`: what chapter N leaves open, each in its own words, with a link to its place.

An open problem is a paragraph, or an item of a list, with a label `(open-…)=` before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from docutils import nodes
from section_map import FromSections, named
from sections import CELL, Section

LABELLED = re.compile(r"^(?:- | *)\((open-[\w-]+)\)=\n(.+?)(?=\n\s*\n|\n- |\Z)", re.M | re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """An open problem and where it is posed."""

    label: str
    text: str
    section: Section


def problems(sections: list[Section]) -> list[Problem]:
    """All open problems of some sections, in reading order."""
    return [
        Problem(label, " ".join(text.split()), section)
        for section in sections
        for label, text in LABELLED.findall(CELL.sub("", section.text))
    ]


class OpenProblems(FromSections):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        chapter = int(self.arguments[0])
        found = problems([s for s in self.sections() if s.number[0] == chapter])
        if not found:
            raise self.error(f"chapter {chapter} has no label (open-…)=")
        items = [f"1. {p.text} {{ref}}`→ {named(p.section.number)} <{p.label}>`" for p in found]
        return self.parse_text_to_nodes("\n".join(items))


def setup(app):
    app.add_directive("open-problems", OpenProblems)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
