"""Every page of the toc, opened in a real browser: light, dark, and 390 px wide."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from dynbook.publish.pages import toc_pages

PAGES = toc_pages()
AXE = {"resultTypes": ["violations"], "preload": False}
UNSET_FORMULAS = """() => [...document.querySelectorAll('article .math')]
    .filter(m => !m.querySelector('mjx-container')).map(m => m.textContent.slice(0, 80))"""
WRONG_FORMULAS = """() => [...document.querySelectorAll('mjx-merror, [data-mjx-error]')]
    .map(m => m.textContent.slice(0, 80))"""
TOO_WIDE = """() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    const scrolls = e => { for (e = e.parentElement; e; e = e.parentElement)
        if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX)) return true;
        return false; };
    return [...document.body.querySelectorAll('*')]
        .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1 && !scrolls(e))
        .map(e => `${e.tagName}.${e.className} reaches ${e.getBoundingClientRect().right} px`)
        .slice(0, 5).concat(`the page is ${root.scrollWidth} px wide`); }"""
OUT_OF_REACH = """() => [...document.querySelectorAll('article div.math')].filter(d => {
    d.scrollLeft = -1e5;
    return d.querySelector('mjx-math').getBoundingClientRect().left
        < d.getBoundingClientRect().left - 1; }).map(d => d.id)"""
CONTRAST_INK = """() => [...document.querySelectorAll('article .theme-svg')]
    .map(e => getComputedStyle(e)).map(s => [s.color, getComputedStyle(document.body).color])
    .filter(([ink, text]) => ink !== text).map(String)"""


@pytest.mark.parametrize("mode", ["light", "dark", "phone"])
@pytest.mark.parametrize("page", PAGES)
def test_looks_right(page, mode, viewers):
    viewer = viewers[mode]
    tab = viewer.open(page)
    assert tab.evaluate(UNSET_FORMULAS) == []
    assert tab.evaluate(WRONG_FORMULAS) == []
    assert tab.evaluate(TOO_WIDE) == []
    assert tab.evaluate(OUT_OF_REACH) == []
    assert tab.evaluate(CONTRAST_INK) == []
    theme = tab.evaluate("() => document.documentElement.dataset.theme")
    assert theme == ("dark" if mode == "dark" else "light")
    assert viewer.complaints == []
    found = Axe().run(tab, options=AXE).response["violations"]
    serious = [
        f"{v['id']}: {v['help']}: {n['html'][:160]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for n in v["nodes"]
    ]
    assert not serious, "\n".join(serious)


@pytest.mark.parametrize("page", PAGES)
def test_sliders_move_by_keyboard(page, viewers):
    tab = viewers["light"].open(page)
    figures = tab.locator(".explore")
    for i in range(figures.count()):
        figure = figures.nth(i)
        for slider in figure.locator("input[type=range]").all():
            picture = figure.locator(".explore-stage").inner_html()
            key = (
                "ArrowLeft" if slider.input_value() == slider.get_attribute("max") else "ArrowRight"
            )
            slider.focus()
            slider.press(key)
            assert figure.locator(".explore-stage").inner_html() != picture
    assert viewers["light"].complaints == []


def test_the_plain_notebook_is_what_the_button_gives(viewers, book):
    tab = viewers["light"].open("book/3-relu-gram")
    button = tab.locator("a[href$='.ipynb']").first
    answer = tab.request.get(button.evaluate("a => a.href"))
    assert answer.ok
    assert (
        answer.body() == (book / "html" / "book" / "notebooks" / "3-relu-gram.ipynb").read_bytes()
    )
    assert tab.locator("a[href*='_sources'], a[href$='.md']").count() == 0


def test_on_paper_there_is_only_the_text(viewers):
    tab = viewers["light"].open("book/3-relu-gram")
    tab.emulate_media(media="print")
    try:
        for part in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer"):
            assert not tab.locator(part).first.is_visible()
        assert tab.locator("h1:visible").count() == 1
    finally:
        tab.emulate_media(media="screen")
