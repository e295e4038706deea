"""Under each picture that a cell of a page draws: the cell, to run it, and the functions behind it.

The cell is that of the plain notebook: on Colab where the book's address is known, else in the
notebook to download, by the number it has there when all is run from the top. The line is the
site's alone; plain_notebooks.py takes code and caption of a cell and nothing else.
"""

from __future__ import annotations

from html import escape

from docutils import nodes
from made_with import SHIPPED, functions
from myst_nb.core.read import myst_nb_reader_plugin
from page_buttons import notebook_path
from plain_notebooks import cell_id
from plain_page import LEFT_OUT

OWN_CELLS = 1  # the plain notebook begins with a cell for Colab


def shows_a_picture(cell: nodes.Element) -> bool:
    """Whether a cell's output has a figure of the house, or an image."""
    outputs = [c for c in cell.children if "cell_output" in c.get("classes", ())]
    raw = (r.astext() for o in outputs for r in o.findall(nodes.raw))
    return any("theme-svg" in r or "<img" in r for r in raw) or any(
        True for o in outputs for _ in o.findall(nodes.image)
    )


def code_cells(path: str) -> dict[int, str]:
    """Sources of the code cells that the plain notebook has, by their place on the page."""
    cells = enumerate(myst_nb_reader_plugin(path).cells)
    return {
        i: c.source
        for i, c in cells
        if c.cell_type == "code" and LEFT_OUT.isdisjoint(c.metadata.get("tags", ()))
    }


def link(url: str, text: str) -> str:
    return f'<a href="{escape(url)}">{text}</a>'


def line(app, page: str, cells: dict[int, str], index: int, is_figure: bool) -> str:
    """The words under a picture, as HTML."""
    places, sources = list(cells), list(cells.values())
    at = places.index(index)
    number = at + 1 + OWN_CELLS
    where, path = app.dynbook_address, notebook_path(page)
    if where:
        same = sources[: at + 1].count(sources[at])
        to_cell = link(
            f"{where.colab(path)}#scrollTo={cell_id(page, 'code', sources[at], same)}",
            f"cell {number} on Colab",
        )
    else:
        up = app.builder.get_relative_uri(page, "index").removesuffix("index.html")
        to_cell = link(up + path, f"cell {number} of the plain notebook")
    objects = app.env.get_domain("py").objects
    made = [name for name in functions(sources, at) if name in objects]
    links = [
        link(
            f"{app.builder.get_relative_uri(page, objects[name].docname)}#{objects[name].node_id}",
            f"<code>{name.rpartition('.')[2]}</code>",
        )
        + (" (data computed beforehand)" if name == SHIPPED else "")
        for name in made
    ]
    by = f"made with {', '.join(links)}" if links else "made by the code of this page alone"
    what = "figure" if is_figure else "picture"
    return f'<p class="reproduce">Reproduce this {what}: {to_cell}; {by}.</p>'


def add_lines(app, doctree: nodes.document, page: str) -> None:
    """Put the line into every cell that shows a picture."""
    if app.builder.format != "html" or "kernelspec" not in app.env.metadata.get(page, {}):
        return
    found = (c for c in doctree.findall(nodes.container) if c.get("nb_element") == "cell_code")
    drawing = [cell for cell in found if shows_a_picture(cell)]
    cells = code_cells(app.env.doc2path(page)) if drawing else {}
    for cell in drawing:
        if cell["cell_index"] in cells:
            numbered = any(f["ids"] for f in cell.findall(nodes.figure))
            text = line(app, page, cells, cell["cell_index"], numbered)
            cell += nodes.raw("", text, format="html")


def setup(app):
    app.setup_extension("page_buttons")
    app.connect("doctree-resolved", add_lines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
