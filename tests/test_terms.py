"""Words and sources: every term of the glossary is used and every source is cited, and found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
CHAPTERS = sorted(BOOK.glob("[1-9]-*.md"))
TERM = re.compile(r"\{term\}`(?:[^`<]*<([^>`]+)>|([^`]+))`", re.S)
CITATION = re.compile(r"\{cite:?\w*\}`([^`]+)`")


def glossary(text: str) -> list[str]:
    """Terms of a glossary: lines at its left margin, inside the directive."""
    body = re.search(r"^(:::+|```+)\{glossary\}\n(.*?)^\1", text, re.S | re.M)[2]
    return [line.strip() for line in body.splitlines() if line and not line.startswith((" ", ":"))]


def words(path: Path) -> str:
    return re.sub(r"\s+", " ", path.read_text(encoding="utf8"))


def prose(path: Path) -> str:
    """A page without its head, code, formulas, roles, headings, captions and directives' lines."""
    text = re.sub(r"\A---.*?^---$", "", path.read_text(encoding="utf8"), flags=re.S | re.M)
    for pattern in (
        r"^```\{code-cell\}.*?^```$",
        r"\$\$.*?\$\$",
        r"\$[^$]+\$",
        r"^(#|:::|```|:\w+:|\|)[^\n]*",
    ):
        text = re.sub(pattern, " ", text, flags=re.S | re.M)
    return text


TERMS = glossary((BOOK / "reference" / "glossary.md").read_text(encoding="utf8"))
BIB = (BOOK / "references.bib").read_text(encoding="utf8")
ENTRIES = {
    key: (kind, body)
    for kind, key, body in re.findall(r"^@(\w+)\{([^,\s]+),(.*?)^\}", BIB, re.S | re.M)
}
TEXTS = [*CHAPTERS, *sorted((BOOK / "guide").glob("*.md")), *sorted(BOOK.glob("assignments/*.md"))]


def test_the_glossary_and_the_bibliography_are_read():
    assert len(TERMS) > 40 and len(ENTRIES) > 60
    assert len(ENTRIES) == len(re.findall(r"^@(?!comment)\w+\{", BIB, re.M))


@pytest.mark.parametrize("term", TERMS)
def test_every_term_is_linked_from_a_chapter(term):
    linked = {a or b for page in CHAPTERS for a, b in TERM.findall(words(page))}
    assert term.lower() in {name.strip().lower() for name in linked}


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: path.stem)
def test_a_page_links_a_term_where_it_first_uses_it(page):
    """Terms of two words or more: a single word may be used in its everyday sense."""
    text, late = prose(page), []
    for term in (t for t in TERMS if " " in t):
        plain = re.search(rf"(?<![\w-]){re.escape(term)}s?(?![\w-])", text, re.I)
        link = re.search(rf"\{{term\}}`(?:[^`]*<)?{re.escape(term)}>?`", text, re.I)
        if plain and (not link or plain.start() < link.start()):
            late.append(f"{term}: …{text[max(0, plain.start() - 60) : plain.end() + 20]}…")
    assert late == []


def cited() -> set[str]:
    """Keys that a page or a docstring cites."""
    pages = (c for page in BOOK.rglob("*.md") for c in CITATION.findall(words(page)))
    modules = (f.read_text(encoding="utf8") for f in (ROOT / "dynbook").rglob("*.py"))
    documented = (c for text in modules for c in re.findall(r":cite:\w+:`([^`]+)`", text))
    return {key.strip() for c in (*pages, *documented) for key in c.split(",")}


CITED = cited()


WITHOUT_IDENTIFIER = {  # what has neither DOI nor arXiv id, and how it is found
    "hockney1981": "publisher",
    "zhao2023": "note",
    "jaeger2001": "url",
    "jaeger2002": "url",
    "bertschinger2004": "url",
    "singhal1989": "url",
}


@pytest.mark.parametrize("key", ENTRIES)
def test_every_source_is_cited_and_can_be_found(key):
    assert key in CITED, "nobody cites it"
    found = WITHOUT_IDENTIFIER.get(key, "doi|eprint")
    assert re.search(rf"^\s*({found})\s*=\s*[{{\"]\S", ENTRIES[key][1], re.M | re.I)


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda path: path.stem)
def test_prerequisites_are_links(page):
    """What a chapter asks for from others is a link to the very section, never a bare number."""
    boxed = re.search(r"You need(.*?)\n:::", page.read_text(encoding="utf8"), re.S)
    assert boxed
    assert not re.search(r"(?<![<`])\b[Cc]hapters? \d", re.sub(r"\{\w+\}`[^`]+`", "", boxed[1]))
