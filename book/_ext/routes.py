"""`{route}`: a way through the book, with its minutes; each line `labels | why`."""

from __future__ import annotations

from chapter_facts import careful_minutes, seconds_in_words
from docutils import nodes
from docutils.parsers.rst import directives
from section_map import FromSections, link


def steps_of(content: list[str]) -> list[tuple[list[str], str]]:
    """The lines of a route: the labels of the sections, and why one reads them."""
    steps = []
    for line in filter(str.strip, content):
        labels, _, why = line.partition("|")
        steps.append((labels.split(), why.strip()))
    return steps


class Route(FromSections):
    has_content = True
    option_spec = {"step": directives.unchanged_required}  # noqa: RUF012  (docutils wants a dict)

    def run(self) -> list[nodes.Node]:
        known = {s.label: s for s in self.sections()}
        steps = steps_of(self.content)
        if unknown := [n for labels, _ in steps for n in labels if n not in known]:
            raise self.error(f"no section has the label {', '.join(unknown)}")
        rows = [
            f"| {self.options.get('step', 'step')} | read | for | minutes |",
            "|--:|---|---|--:|",
        ]
        for i, (labels, why) in enumerate(steps, 1):
            minutes = sum(careful_minutes(known[n].text) for n in labels)
            links = ", ".join(link(known[n]) for n in labels)
            rows.append(f"| {i} | {links} | {why} | {minutes:.0f} |")
        return [*self.parse_text_to_nodes("\n".join(rows)), self.total(steps, known)]

    def total(self, steps, known) -> nodes.paragraph:
        """All minutes of reading, and how long the code of those chapters took here."""
        sections = [known[n] for labels, _ in steps for n in labels]
        minutes = sum(careful_minutes(s.text) for s in sections)
        pages = sorted({s.page for s in sections})
        seconds = sum(self.env.app.dynbook_runs[page].seconds for page in pages)
        text = (
            f"In all {5 * round(minutes / 5)} minutes of reading. The code of "
            f"the {len(pages)} chapters that it touches ran in {seconds_in_words(seconds)}."
        )
        line = nodes.paragraph("", text)
        line["classes"].append("chapter-facts")
        return line


def setup(app):
    app.add_directive("route", Route)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
