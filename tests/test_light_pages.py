"""A page gets the rules that it can use, in order, and no others."""

from __future__ import annotations

from pathlib import Path

import light_pages
import pytest

from dynbook.publish.speed import Visit, main, table

CSS = """
@charset "UTF-8";
/* a } in a comment */ .used, .unused > a { color: red; --kept: 1px; --unread: 2px }
a[href=","]:not(.unused)::after { content: "}{;"; width: var(--kept) }
@media (min-width: 1px) { .unused { x: y } #id { x: y } }
.made-here { x: y }
@media print { .unused { x: y } }
.fa-rocket::before { content: "x" }
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "a.css").write_text(CSS)
    (tmp_path / "_static" / "documentation_options.js").write_text("const D = {};")
    (tmp_path / "other.js").write_text("put('made-here')")
    (tmp_path / "_static" / "doctools.js").write_text('"use strict"; const one = 1;')
    head = (
        '<link href="_static/a.css?v=1" rel="stylesheet" />\n'
        '<script src="_static/documentation_options.js?v=1"></script>\n'
        '<script src="_static/doctools.js?v=1"></script>\n<script src="other.js"></script>\n'
    )
    file = tmp_path / "p.html"
    file.write_text(f'<head>{head}</head><i class="fas fa-rocket"></i><p class="used" id="id">')
    return file


def test_rules_are_kept_in_order_if_the_page_can_use_them(page):
    html = light_pages.one_block(page.read_text(), page, "")
    for rule in (".used{color: red;--kept: 1px", 'content: "}{;"', "{#id{x: y}}", ".made-here{"):
        assert rule.replace(" ", "") in html.replace(" ", "")
    for gone in ("unused > a", "--unread", "print {", "::before", "rel=", "charset"):
        assert gone not in html.split("</style>")[0]
    assert ".fa-rocket{--shape:url(" in html


def test_a_page_twice_mended_is_the_same(page):
    once = light_pages.one_block(page.read_text(), page, "")
    assert light_pages.one_block(once, page, "") == once


def test_scripts_are_one_and_wait_for_the_page(page):
    light_pages.merge(page.parent)
    html = light_pages.one_script(page.read_text(), page, page.parent, "v")
    assert "<script>const D = {};</script>" in html
    assert '<script defer="defer" src="_static/book.js?v=v"></script>' in html
    assert '<script defer="defer" src="other.js">' in html
    assert "doctools" not in html
    assert not (page.parent / "_static" / "book.js").read_text().startswith('"use strict"')


def test_an_unclosed_brace_is_an_error_in_words():
    with pytest.raises(ValueError, match="unclosed brace"):
        light_pages.parse("a {b: c")


def test_the_table_of_speeds_is_markdown():
    rows = table({"index": Visit(3, 350_000, 1.134, 1.5, 0.0123)}).splitlines()
    assert rows[2] == "| index | 3 | 350 | 1.13 | 1.50 | 0.012 |"
    assert len({row.count("|") for row in rows}) == 1


def test_a_page_that_is_not_there_is_named(capsys):
    assert main(["nowhere"]) == 2
    assert capsys.readouterr().out.startswith(("Not in the site: nowhere", "There is no site"))
