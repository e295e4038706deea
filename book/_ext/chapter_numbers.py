"""Chapter n is the page `book/n-….md`; sections, equations, figures, theorems count from that.

Sphinx would number chapters by their place in the table of contents, and every number in the book
would move when a chapter is added before it. It would also load all pages to count figures when
nothing has changed, which takes seconds.
"""

from __future__ import annotations

import re
from functools import wraps

from docutils import nodes
from sphinx.addnodes import compact_paragraph
from sphinx.environment.collectors.toctree import TocTreeCollector


def number_sections(
    toc: nodes.Element, stack: list[int], found: dict[str, tuple[int, ...]]
) -> None:
    """Give every heading in a page's own table of contents its number, in reading order."""
    for node in toc.children:
        if isinstance(node, nodes.bullet_list):
            number_sections(node, [*stack, 0], found)
        elif isinstance(node, nodes.list_item):
            number_sections(node, stack, found)
        elif isinstance(node, compact_paragraph):
            stack[-1] += 1
            found[node[0]["anchorname"]] = tuple(stack)
            node[0]["secnumber"] = list(stack)


unread = False  # whether the pages of this build are those of the last


def note(app, env, pages: list[str]) -> None:
    global unread
    unread = not pages and set(env.toc_fignumbers) <= env.found_docs


def sections_first(assign):
    """`TocTreeCollector.assign_figure_numbers`, after the chapters' sections got their numbers."""

    @wraps(assign)
    def assign_figure_numbers(self, env):
        for page in sorted(env.found_docs):
            if chapter := re.match(r"book/(\d+)-", page):
                found: dict[str, tuple[int, ...]] = {}
                number_sections(env.tocs[page][0], [int(chapter[1]) - 1], found)
                env.toc_secnumbers[page] = found
                env.titles[page]["secnumber"] = [int(chapter[1])]
        return [] if unread else assign(self, env)

    return assign_figure_numbers


def setup(app):
    app.connect("env-before-read-docs", note)
    original = TocTreeCollector.assign_figure_numbers
    if not hasattr(original, "__wrapped__"):
        TocTreeCollector.assign_figure_numbers = sections_first(original)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
