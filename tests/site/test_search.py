"""The search finds what has a name, shows it in words, and the missing page leads back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_book import MODULES, public_functions
from test_pages import violations

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "book").glob("[0-9]*.md"))
PLACE = """([query, title]) => bookSearch.find(query).findIndex(e =>
    e.title.replace(/[’']/g, "'").toLowerCase().includes(title))"""
TEX = re.compile(r"\$|\\\w|\\\(|[{}]|```|:label:|_\{")


def glossary_terms() -> list[str]:
    text = (ROOT / "book/reference/glossary.md").read_text(encoding="utf8")
    inside = re.search(r":::\{glossary\}\n(.*?)^:::", text, re.MULTILINE | re.DOTALL)[1]
    return [line for line in inside.splitlines() if line and not line.startswith((" ", ":"))]


def theorem_titles(chapter: Path) -> list[str]:
    text = chapter.read_text(encoding="utf8")
    return re.findall(r"\{prf:(?!proof|ref)\w+\} +(.+)", text)


def said(title: str) -> str:
    """A title as a reader types it: words, no formulas."""
    words = max(re.split(r"\$[^$]*\$", title), key=len)
    return words.strip().lower()


@pytest.fixture(scope="module")
def search(browser, address):
    """The search page, opened once."""
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{address}/search.html")
    yield tab
    context.close()


def unfound(search, wanted: dict[str, str]) -> list[str]:
    """Queries whose title is not among the first three results."""
    places = {query: search.evaluate(PLACE, [query, title]) for query, title in wanted.items()}
    return [f"{query!r}: place {place}" for query, place in places.items() if not 0 <= place < 3]


def test_every_term_of_the_glossary_is_found(search):
    terms = glossary_terms()
    assert len(terms) > 30
    assert unfound(search, {term: term.replace("’", "'").lower() for term in terms}) == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_theorem_is_found_by_its_title(chapter, search):
    titles = [said(title) for title in theorem_titles(chapter)]
    assert unfound(search, {title: title for title in titles}) == []


def test_a_theorem_is_found_by_its_number(search):
    assert unfound(search, {"Theorem 2.1": "newman's spectrum"}) == []


@pytest.mark.parametrize("module", MODULES)
def test_every_function_is_found_by_its_name_and_by_its_words(module, search):
    names = public_functions(module)
    assert unfound(search, {name: name.lower() for name in names}) == []
    spaced = {name.replace("_", " "): name.lower() for name in names}
    assert unfound(search, spaced) == []
    assert unfound(search, {f"dynbook.{module}.{name}": name.lower() for name in names}) == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_exercise_is_found_by_its_title(chapter, search):
    text = chapter.read_text(encoding="utf8")
    titles = [said(title) for title in re.findall(r"\{exercise(?:-start)?\} +(.+)", text)]
    assert titles and unfound(search, {title: title for title in titles}) == []


@pytest.mark.parametrize(
    "query, title",
    [("Kalman", "kalman filter"), ("Lyapunov", "lyapunov"), ("NTK", "tangent kernel")],
)
def test_a_concept_comes_before_the_exceptions_named_after_it(query, title, search):
    found = search.evaluate("q => bookSearch.find(q).slice(0, 5).map(e => e.title)", query)
    assert any(title in name.lower() for name in found)
    assert not any(name.endswith("Error") for name in found)


def test_words_of_the_text_are_found_and_nonsense_is_not(search):
    find = "query => bookSearch.find(query).map(e => e.url)"
    assert "book/3-relu-gram.html" in search.evaluate(find, "cantilever")[0]
    assert search.evaluate(find, "zweihundertvierzig") == []
    assert search.evaluate(find, " ... ") == []


def test_every_result_leads_to_its_place_and_says_it_in_words(search, book):
    entries = search.evaluate("() => searchEntries")
    noise, lost = [], []
    for url, page in entries:
        html = (book / "html" / url).read_text(encoding="utf8")
        for entry in page:
            if TEX.search(entry["title"]):
                noise.append(entry["title"])
            if entry["anchor"] and f'id="{entry["anchor"][1:]}"' not in html:
                lost.append(url + entry["anchor"])
        is_chapter = re.match(r"book/\d", url)
        noise += [e["text"][:80] for e in page if is_chapter and TEX.search(e["text"])]
    assert (noise, lost) == ([], [])


@pytest.mark.parametrize("width", [390, 1200])
def test_results_are_legible(width, viewer):
    tab = viewer.tab
    tab.set_viewport_size({"width": width, "height": 844})
    tab.goto(f"{viewer.address}/search.html?q=lyapunov spectrum")
    assert tab.locator("#search-count").inner_text().endswith("results.")
    first = tab.locator(".search-list li").first
    assert first.locator("a").inner_text() == "lyapunov_spectrum"
    assert "Function · dynbook.lyapunov" in first.inner_text()
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert violations(tab) == []
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= width
    tab.locator(".bd-search-container input").fill("edge of chaos")
    assert tab.locator(".search-list a").first.inner_text() == "Edge of chaos"
    assert viewer.complaints == []


def test_the_search_needs_no_server(viewer, book):
    viewer.tab.context.unroute_all()
    viewer.tab.goto((book / "html" / "search.html").as_uri() + "?q=newman")
    assert viewer.tab.locator(".search-list a").first.inner_text() == "Newman’s spectrum"
