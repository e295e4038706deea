"""A PDF of three pages of the book: its outline, its numbers, its links, and nothing cut."""

from __future__ import annotations

from multiprocessing import get_context
from unicodedata import normalize

import pytest
from pypdf import PdfReader

from dynbook.publish import pdf

NAMES = ["book/3-relu-gram", "book/reference/notation", "book/reference/glossary"]


@pytest.fixture(scope="module")
def printed(book, browser_path, tmp_path_factory) -> PdfReader:
    # in a process of its own: a second Playwright cannot start beside the session's
    target = tmp_path_factory.mktemp("pdf") / "book.pdf"
    child = get_context("spawn").Process(target=pdf.pdf, args=(target, NAMES))
    child.start()
    child.join()
    assert not child.exitcode
    assert target.stat().st_size < 3e6
    return PdfReader(target)


@pytest.fixture(scope="module")
def texts(printed) -> list[str]:
    return [normalize("NFKC", page.extract_text()) for page in printed.pages]  # no ligatures


def flat(outline) -> list:
    return [x for item in outline for x in (flat(item) if isinstance(item, list) else [item])]


def test_the_outline_leads_to_its_headings(printed, texts):
    titles = [entry.title for entry in flat(printed.outline)]
    assert [t for t in titles if t in ("Chapters", "Reference")] == ["Chapters", "Reference"]
    assert {"3. ReLU Gram spectra and low-pass filtering", "Notation", "Glossary"} <= set(titles)
    for entry in flat(printed.outline):
        if entry.title.startswith("3."):
            number = printed.get_destination_page_number(entry)
            words = "".join(texts[number].split())
            assert "".join(entry.title.split()) in words, entry.title


def test_pages_are_numbered_and_none_is_empty(texts):
    for number, text in enumerate(texts[1:], 2):
        assert text.rstrip().endswith(str(number))
        assert len(text) > 60, f"page {number} is empty"


def test_links_stay_in_the_pdf_or_lead_to_the_web(printed):
    inside = 0
    pages = {page.indirect_reference.idnum for page in printed.pages}
    for page in printed.pages:
        for item in page.get("/Annots") or ():
            link = item.get_object()
            if "/Dest" in link:
                assert link["/Dest"].get_object()[0].get_object().indirect_reference.idnum in pages
                inside += 1
            else:
                assert str(link["/A"]["/URI"]).startswith(("https://", "mailto:"))
    assert inside > 50


def test_the_contents_give_the_pages_of_chapters(printed, texts):
    for entry in flat(printed.outline):
        if entry.title in ("Notation", "Glossary"):
            number = printed.get_destination_page_number(entry) + 1
            assert f"{entry.title} {number} " in " ".join(texts[1].split())


def test_theorems_and_formulas_are_there(texts):
    whole = "\n".join(texts)
    assert "Theorem 3.1" in whole and "λ" in whole and "Commit".lower() in texts[0]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_the_paper(book, browser, name):
    tab = pdf.printing_tab(browser)
    tab.goto((book / "html" / f"{name}.html").as_uri())
    tab.add_style_tag(content=pdf.STYLE)
    tab.evaluate(pdf.READY)
    assert not tab.evaluate(pdf.WIDE)
    tab.context.close()


def test_without_a_browser_it_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="install the package `chromium`"):
        pdf.find_browser()
