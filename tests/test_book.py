"""The book builds without a warning; nothing is left out, nothing is done twice."""

from __future__ import annotations

import ast
import gzip
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynbook.publish.book import build
from dynbook.publish.pages import (
    anchors,
    broken_links,
    heavy_figures,
    own_weight,
    soup,
    toc_pages,
    without_alt,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = toc_pages()
MODULES = sorted(f.stem for f in (ROOT / "dynbook").glob("[!_]*.py"))


def public_functions(module: str) -> list[str]:
    """Names of the functions and classes that a module itself defines for others."""
    tree = ast.parse((ROOT / "dynbook" / f"{module}.py").read_text(encoding="utf8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [n.name for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]


def test_the_book_builds_without_a_warning(building):
    status, said = building
    assert status == 0, said[-6000:]


def test_every_page_of_the_toc_is_in_the_site(book):
    missing = [p for p in PAGES if not (book / "html" / f"{p}.html").exists()]
    assert not missing


def test_the_front_door_is_a_page_and_no_redirect(book):
    home = (book / "html" / "index.html").read_text(encoding="utf8")
    assert "<article" in home and "http-equiv" not in home.lower()


def test_no_page_tells_where_it_was_built(book):
    tells = [p for p in PAGES if str(ROOT) in (book / "html" / f"{p}.html").read_text("utf8")]
    assert not tells


def test_with_nothing_changed_nothing_is_executed_and_it_is_quick(book):
    written = {f: f.stat().st_mtime_ns for f in (book / "notebooks").iterdir()}
    start = time.monotonic()
    status, said = build()
    assert status == 0 and "execution:" not in said
    assert time.monotonic() - start < 15
    assert {f: f.stat().st_mtime_ns for f in (book / "notebooks").iterdir()} == written


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_no_page_takes_more_than_two_gigabytes(book):
    rows = soup(book / "html" / "book" / "reference" / "runtimes.html").select("table tbody tr")
    took = [float(row.select("td")[2].text) for row in rows]
    assert len(took) >= 8 and 0.2 < min(took) and max(took) < 2


@pytest.mark.parametrize("page", PAGES)
def test_links_weights_and_alternatives_of(page, book):
    site = book / "html"
    assert not broken_links(site, page)
    assert not without_alt(site, page)
    assert not heavy_figures(site, page)
    assert own_weight(site, page) < 1_000_000


@pytest.mark.parametrize("page", [*PAGES, "search", "genindex"])
def test_nothing_is_waited_for_before_a_page_shows(page, book):
    """Styles stand in the page, scripts wait for it; what a first visit loads is small (gzip)."""
    site = book / "html"
    here = soup(site / f"{page}.html")
    assert not here.select("link[rel=stylesheet], link[rel=preload]")
    scripts = here.select("script[src]")
    assert all(s.has_attr("defer") for s in scripts), "a script in the way"
    assert len(scripts) <= 2 + 2 * (page == "search")
    styles = "".join(str(s) for s in here.select("head style"))
    assert len(gzip.compress(styles.encode())) < 30_000
    files = [(site / f"{page}.html").parent / s["src"].partition("?")[0] for s in scripts]
    first = sum(len(gzip.compress(f.read_bytes())) for f in files if f.name != "search-entries.js")
    assert first < 330_000


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_is_in_the_reference(module, book):
    page = f"book/reference/api/{module}"
    assert page in PAGES, f"write {page}.md (copy a neighbour) and name it in _toc.yml"
    wanted = {f"dynbook.{module}.{name}" for name in public_functions(module)}
    assert wanted <= anchors(book / "html" / f"{page}.html")


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_says_what_it_is_for(module):
    loaded = importlib.import_module(f"dynbook.{module}")
    silent = [n for n in public_functions(module) if not inspect.getdoc(getattr(loaded, n))]
    assert not silent


def test_every_source_can_be_looked_up(book):
    """Each entry links to a DOI, an arXiv page or an address, or is a book or a lecture."""
    page = soup(book / "html" / "book" / "reference" / "bibliography.html")
    entries = page.select("div.citation")
    lines = (ROOT / "book" / "references.bib").read_text(encoding="utf8").splitlines()
    kinds = [line[1:].partition("{")[0].lower() for line in lines if line.startswith("@")]
    assert entries and kinds
    bare = [e.get_text(" ", strip=True)[:80] for e in entries if not e.select_one("a.external")]
    assert len(bare) <= kinds.count("book") + kinds.count("unpublished"), bare


def test_nothing_generated_is_committed_by_mistake():
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no clone: nothing is committed")
    ask = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "_build", ".venv"]
    assert subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize("page", [p for p in PAGES if p.startswith("book/") and p[5].isdigit()])
def test_every_picture_has_a_number_and_a_caption(page, book):
    """Also those that move; all are figures that the text can refer to."""
    article = soup(book / "html" / f"{page}.html").find("article")
    pictures = article.select(".cell_output :is(.theme-svg, img)")
    bare = [
        (picture.select_one("[aria-label]") or picture).get("aria-label", "")[:80]
        for picture in pictures
        if not any(
            f.select_one("figcaption .caption-number") for f in picture.find_parents("figure")
        )
    ]
    assert len(pictures) > 5 and bare == []


@pytest.mark.parametrize("page", [p for p in PAGES if p.startswith("book/") and p[5].isdigit()])
def test_a_chapter_says_how_long_it_takes_and_is_read_in_one_sitting(page, book):
    facts = soup(book / "html" / f"{page}.html").select_one("article .chapter-facts").get_text()
    told = re.search(r"(\d+) minutes to read\. Runs in ((\d+) min )?(\d+) s on \d+ CPU core", facts)
    assert told and int(told[1]) <= 45


def test_minutes_and_seconds_are_computed_and_not_typed():
    """In chapters, on the front page and in the guide; an assignment's hours are a student's."""
    texts = [
        ROOT / "index.md",
        *(ROOT / "book").glob("[1-9]-*.md"),
        *(ROOT / "book/guide").glob("*.md"),
    ]
    for text in texts:
        prose = re.sub(r"^```\{code-cell\}.*?^```$", "", text.read_text("utf8"), flags=re.S | re.M)
        assert not re.findall(r"(?<![\w`$}.])\d+ (?:minutes?|seconds?|min|s)\b", prose), text.name
