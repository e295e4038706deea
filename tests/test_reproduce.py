"""Under each picture a way to make it again: the right cell, and functions that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from urllib.parse import urlsplit

import made_with
import nbformat
import pytest
from reproduce import code_cells
from source_links import lines_of

from dynbook.publish.address import Address
from dynbook.publish.closure import plain_python
from dynbook.publish.pages import soup, toc_pages

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [page for page in toc_pages() if re.match(r"book/\d", page)]


def pictures(book, page):
    """Cells of a built page that show one, as parsed HTML."""
    return [
        cell
        for cell in soup(book / "html" / f"{page}.html").select("article div.cell")
        if cell.select_one(".cell_output :is(.theme-svg, img)")
    ]


def notebook(book, page) -> list:
    path = book / "html" / "book" / "notebooks" / f"{page.removeprefix('book/')}.ipynb"
    return [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]


def texts(source: str) -> list[str]:
    """Pieces of text in a cell, between the fields that are filled in."""
    nodes = ast.walk(ast.parse(plain_python(source)))
    told = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return [" ".join(p.split()) for t in told for p in re.split(r"\{[^}]*\}", t)]


@pytest.mark.parametrize("page", CHAPTERS)
def test_each_picture_has_one_line_and_its_cell_is_the_one_that_draws(page, book):
    cells, shown = notebook(book, page), pictures(book, page)
    assert len(shown) > 5
    for cell in shown:
        lines = cell.select("p.reproduce")
        assert len(lines) == 1
        number = int(re.search(r"cell (\d+)", lines[0].text)[1])
        drawn = cell.select_one("svg[aria-label]") or cell.select_one("img")
        said = drawn.get("aria-label") or drawn["alt"]
        source = cells[number - 1].source
        code = cell.select_one(".cell_input")
        if code:
            squeezed = re.sub(r"\s+", "", code.get_text())
            assert re.sub(r"\s+", "", source) in squeezed, said
        assert any(len(piece) > 12 and piece in said for piece in texts(source)), said


@pytest.mark.parametrize("page", CHAPTERS)
def test_each_function_that_made_a_picture_is_named_under_it(page, book):
    sources = list(code_cells(str(ROOT / f"{page}.md")).values())
    for cell in pictures(book, page):
        line = cell.select_one("p.reproduce")
        at = int(re.search(r"cell (\d+)", line.text)[1]) - 2  # from 1, and one for Colab
        made = [name.rpartition(".")[2] for name in made_with.functions(sources, at)]
        assert [code.text for code in line.select("code")] == made


@pytest.mark.parametrize("page", CHAPTERS)
def test_each_function_named_is_in_the_reference_and_in_the_notebook(page, book):
    text = "\n".join(cell.source for cell in notebook(book, page))
    some = 0
    for line in soup(book / "html" / f"{page}.html").select("p.reproduce"):
        for link in line.select("a:has(code)"):
            some += 1
            where = urlsplit(link["href"])
            assert where.path.startswith("reference/api/")
            module, name = where.fragment.split(".")[1:]
            assert name == link.text and re.search(rf"\b{name}\b", text)
            assert where.path == f"reference/api/{module}.html"
    assert some > 10


def test_a_picture_from_functions_of_known_cells_names_them(book):
    """Three of chapter 7, read by hand."""
    sources = list(code_cells(str(ROOT / "book" / "7-reservoirs.md")).values())
    made = {}
    for at, source in enumerate(sources):
        if name := re.search(r"explore\(\s*draw_(copies|forecast|online)", source):
            made[name[1]] = {f.split(".")[-1] for f in made_with.functions(sources, at)}
    assert made["copies"] == {"make_reservoir", "lyapunov_exponent"}
    assert {"ridge", "make_reservoir", "rk4", "lyapunov_spectrum"} <= made["forecast"]
    assert made["online"] == {"extended_kalman"}


IMPORTS = "from dynbook.gram import relu_gram, beam\nfrom dynbook.figures import figure\n"


@pytest.mark.parametrize(
    "cells, names",
    [
        (["G = relu_gram(1, 2)", "with figure('x') as ax:\n    ax.plot(G)"], ["relu_gram"]),
        (["G = relu_gram(1, 2)", "G = 3", "ax.plot(G)"], []),
        (["G = {}", "G[1] = beam(1)", "ax.plot(G)"], ["beam"]),
        (["G = []", "for i in 1, 2:\n    G.append(beam(i))", "ax.plot(G)"], ["beam"]),
        (["def f(x):\n    return beam(x)", "y = [f(i) for i in 'ab']", "ax.plot(y)"], ["beam"]),
        (["G = beam(1)", "def draw(ax, G):\n    ax.plot(G)\nexplore(draw)"], []),
        (["x = beam(1)", "y = [x for x in range(3)]\nax.plot(y)"], []),
        (["for x in beam(3):\n    y = x", "ax.plot(y)"], ["beam"]),
        (["a = beam(1)", "a, b = relu_gram(a, 2), 1", "ax.plot(b)"], ["relu_gram", "beam"]),
        (["x = 1", "f = lambda: beam(x)", "x = relu_gram(1, 2)", "ax.plot(f)"], ["beam"]),
        (["%matplotlib inline\nG = beam(1)", "ax.plot(G)"], ["beam"]),
        (["if True:\n    G = beam(1)\nelse:\n    G = 2", "ax.plot(G)"], []),
    ],
)
def test_what_made_a_picture_is_traced(cells, names):
    found = made_with.functions([IMPORTS, *cells], len(cells))
    assert [name.split(".")[-1] for name in found] == names


def test_a_function_is_named_where_it_is_defined():
    cells = ["from dynbook.lyapunov import matrix_product_spectrum as f", "ax.plot(f(1))"]
    assert made_with.functions(cells, 1) == ["dynbook.products.matrix_product_spectrum"]


def test_what_was_computed_beforehand_is_traced_to_the_cell_that_did():
    cells = [
        f"{IMPORTS}from dynbook.results import due, record, recorded",
        "def run():\n    return beam(1)\nif due('1-x'):\n    record('1-x', y=run())\n"
        "if due('1-z'):\n    record('1-z', y=relu_gram(1, 2))",
        "y = recorded('1-x')['y']",
        "ax.plot(y)",
    ]
    names = [name.split(".")[-1] for name in made_with.functions(cells, 3)]
    assert names == ["recorded", "beam"]


def test_lines_of_a_function_are_where_it_stands():
    file, first, last = lines_of("dynbook.gram", "relu_gram")
    lines = (ROOT / file).read_text(encoding="utf8").splitlines()
    assert file == "dynbook/gram.py" and lines[first - 1].startswith(("def relu_gram", "@"))
    assert last > first and lines[last - 1].startswith("    return")
    assert lines_of("dynbook.gram", "nothing") is None and lines_of("math", "sin") is None


def test_with_an_address_the_line_leads_to_the_cell_on_colab(book):
    """The id in the address is that of the cell in the committed notebook."""
    from types import SimpleNamespace

    from reproduce import line

    page = "book/3-relu-gram"
    sources = code_cells(str(ROOT / f"{page}.md"))
    app = SimpleNamespace(
        dynbook_address=Address("https://github.com/someone/fork", "2027-spring", ""),
        env=SimpleNamespace(get_domain=lambda name: SimpleNamespace(objects={})),
    )
    cells = notebook(book, page)
    for at, (index, source) in enumerate(sources.items()):
        text = line(app, page, sources, index, True)
        start = (
            "https://colab.research.google.com/github/someone/fork/blob/2027-spring/book/notebooks"
        )
        assert f'href="{start}/3-relu-gram.ipynb#scrollTo={cells[at + 1].id}"' in text
        assert cells[at + 1].source == source
