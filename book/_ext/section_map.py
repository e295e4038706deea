"""`{section-map}`: which section rests on which, drawn, and as a table."""

from __future__ import annotations

import textwrap
from html import escape

from chapter_facts import careful_minutes
from docutils import nodes
from needs import TABLE, needs, taught
from sections import ROOT, Section, all_sections, chapters
from sphinx.util.docutils import SphinxDirective

#: One for each chapter; 3 : 1 on white and on black (dynbook.figures.COLORS, and a grey).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#C56C9E", "#B07D00", "#3E97CF", "#808080")
WIDTH, EDGE, LINE = 360, 84, 19  # of the picture; where names begin; from line to line


def lines_of(sections: list[Section], opening: dict[int, str]) -> list[tuple[Section | None, str]]:
    """The lines of the picture: chapters and sections, broken where they are too long."""
    lines, chapter = [], 0
    for s in sections:
        if s.number[0] != chapter:
            chapter = s.number[0]
            wrapped = textwrap.wrap(f"{chapter} {opening[chapter]}", 36)
            lines += [(None, ""), *((None, text) for text in wrapped)]
        first, *rest = textwrap.wrap(f"{chapter}.{s.number[1]} {s.title}", 37)
        lines += [(s, first), *((None, "\u2003" + text) for text in rest)]
    return lines[1:]


def drawing(sections: list[Section], opening: dict[int, str], table: dict[str, list[str]]) -> str:
    """The map as SVG: a line for each section, an arc from each to every one that rests on it."""
    lines = lines_of(sections, opening)
    where = {s.label: LINE * (i + 0.7) for i, (s, _) in enumerate(lines) if s}
    color = {s.label: COLORS[s.number[0] - 1] for s in sections}
    arcs, names = [], []
    for label, before in table.items():
        for other in before:
            top, bottom = where[other], where[label]
            bow = min(EDGE - 16, 8 + (bottom - top) ** 0.62)
            x = EDGE - 8
            arcs.append(
                f'<path d="M{x} {top:.0f}C{x - bow:.0f} {top:.0f} {x - bow:.0f} {bottom:.0f} '
                f'{x} {bottom:.0f}" stroke="{color[other]}"/>'
            )
    for i, (s, text) in enumerate(lines):
        y = LINE * (i + 0.7)
        if s:
            fill = color[s.label]
            names.append(f'<circle cx="{EDGE - 8}" cy="{y:.0f}" r="3.5" fill="{fill}"/>')
        indent, weight = (EDGE, "") if s or text[:1] == "\u2003" else (EDGE - 11, "bold")
        style = f' font-weight="{weight}"' if weight else ""
        names.append(f'<text x="{indent}" y="{y + 4.5:.0f}"{style}>{escape(text)}</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {LINE * len(lines) + 6}" role="img" '
        f'aria-label="{escape(described(sections, table))}" font-size="13" font-family="inherit" '
        'fill="currentColor" style="display:block;width:100%;max-width:31rem;margin:auto">'
        f'<g fill="none" stroke-width="1.6">{"".join(arcs)}</g>{"".join(names)}</svg>'
    )


def described(sections: list[Section], table: dict[str, list[str]]) -> str:
    """The map in a sentence or two, for those who do not see it."""
    place = {s.label: s.number for s in sections}
    between = [(a, b) for b, before in table.items() for a in before if place[a][0] != place[b][0]]
    told = [f"{named(place[a])} before {named(place[b])}" for a, b in between]
    return (
        f"A list of the {len(sections)} sections of the book, an arc from each section to those "
        f"that rest on it. Between chapters: {', '.join(told)}. All arcs stand in the table below."
    )


def named(number: tuple[int, int]) -> str:
    return f"{number[0]}.{number[1]}"


def link(section: Section) -> str:
    """A reference to a section by number and name, in MyST."""
    return f"{{ref}}`{named(section.number)} {section.title} <{section.label}>`"


class FromSections(SphinxDirective):
    """What is written from the chapters' sections, and anew when one of them changes."""

    def sections(self) -> list[Section]:
        for file in [*chapters(), ROOT / TABLE]:
            self.env.note_dependency(str(file))
        return all_sections()


class SectionMap(FromSections):
    def run(self) -> list[nodes.Node]:
        everything, table = self.sections(), needs()
        opening = {s.number[0]: s.title for s in everything if not s.number[1]}
        shown = taught(everything)
        by_label = {s.label: s for s in shown}
        rows = ["| section | rests directly on | minutes to read |", "|---|---|--:|"]
        for s in shown:
            before = ", ".join(named(by_label[b].number) for b in table[s.label]) or "—"
            rows.append(f"| {link(s)} | {before} | {careful_minutes(s.text):.0f} |")
        picture = f'<div class="theme-svg">{drawing(shown, opening, table)}</div>'
        figure = nodes.figure("", nodes.raw("", picture, format="html"))
        caption = (
            "Each line is a section, each arc joins a section to one further down that rests on "
            "it, in the colour of the chapter it comes from. A section without an arc from above "
            "can be read at once."
        )
        figure += nodes.caption("", caption)
        return [figure, *self.parse_text_to_nodes("\n".join(rows))]


def setup(app):
    app.add_directive("section-map", SectionMap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
