"""Every page of the toc in a real browser: light, dark, from 340 px to 1600 px, and on paper."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe

from dynbook.publish.pages import toc_pages

PAGES = toc_pages()
AXE = {"resultTypes": ["violations"], "preload": False}
OF_COLOUR = ["color-contrast", "link-in-text-block"]
OF_WIDTH = ["landmark-unique", "region", "scrollable-region-focusable", "target-size"]
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
CUT_OFF = """() => [...document.querySelectorAll('article :is(.theme-svg svg, table, pre, .math)')]
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(e => `${e.getAttribute('aria-label') || e.textContent.slice(0, 60)} is cut off`)"""
INLINE_STYLES = r"""() => [...document.styleSheets].flatMap(sheet => [...sheet.cssRules])
    .filter(rule => /^\.svg-\d+$/.test(rule.selectorText)).map(rule => {
        for (const e of document.querySelectorAll(rule.selectorText)) {
            e.setAttribute('style', rule.style.cssText);
            e.removeAttribute('class'); } }).length"""
WIDE_FONT = "body, body :not(mjx-container *, svg *, i) {font-family: monospace !important}"


def violations(tab, **only) -> list[str]:
    """What axe finds, of any impact."""
    found = Axe().run(tab, options={**AXE, **only}).response["violations"]
    return [f"{v['id']}: {v['help']}: {n['html'][:160]}" for v in found for n in v["nodes"]]


def theme(tab) -> str:
    return tab.evaluate("() => document.documentElement.dataset.theme")


@pytest.mark.parametrize("page", PAGES)
def test_a_reader_finds_nothing_wrong_with(page, viewer):
    """One visit: in the light, by keyboard, in the dark, on a phone, on paper."""
    tab = viewer.open(page)
    assert theme(tab) == "light"
    assert tab.evaluate(UNSET_FORMULAS) == []
    assert tab.evaluate(WRONG_FORMULAS) == []
    assert tab.evaluate(CONTRAST_INK) == []
    assert violations(tab) == []
    move_the_sliders(tab)

    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function("() => document.documentElement.dataset.theme == 'dark'")
    assert tab.evaluate(CONTRAST_INK) == []
    assert violations(tab, runOnly=OF_COLOUR) == []

    for width in (1600, 768, 390, 340):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate(TOO_WIDE) == [], f"at {width} px"
        if width in (768, 390):
            assert violations(tab, runOnly=OF_WIDTH) == [], f"at {width} px"
    assert tab.evaluate(OUT_OF_REACH) == []
    tab.add_style_tag(content=WIDE_FONT)
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate(TOO_WIDE) == [], "at 390 px, in wider fonts than ours"

    tab.set_viewport_size({"width": 720, "height": 1000})  # about A4
    tab.emulate_media(media="print")
    tab.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert theme(tab) == "light", "a dark page would print grey on white"
    assert tab.evaluate(CUT_OFF) == []
    for part in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer"):
        assert not tab.locator(part).first.is_visible()
    assert tab.locator("h1:visible").count() == 1
    assert viewer.complaints == []


def move_the_sliders(tab) -> None:
    for figure in tab.locator(".explore").all():
        for slider in figure.locator("input[type=range]").all():
            picture = figure.locator(".explore-stage").inner_html()
            at_end = slider.input_value() == slider.get_attribute("max")
            slider.focus()
            slider.press("ArrowLeft" if at_end else "ArrowRight")
            assert figure.locator(".explore-stage").inner_html() != picture


@pytest.mark.parametrize("page", [p for p in PAGES if p.startswith("book/") and p[5].isdigit()])
def test_figures_look_as_if_every_line_had_its_own_style(page, viewer):
    tab = viewer.open(page)
    figures = [f for f in tab.locator(".theme-svg:has(use)").all() if f.is_visible()][:6]
    shared = [figure.screenshot() for figure in figures]
    assert shared and tab.evaluate(INLINE_STYLES) > 5
    assert shared == [figure.screenshot() for figure in figures]


def test_the_plain_notebook_is_what_the_button_gives(viewer, book):
    tab = viewer.open("book/3-relu-gram")
    button = tab.locator("a[href$='.ipynb']").first
    answer = tab.request.get(button.evaluate("a => a.href"))
    assert answer.ok
    assert (
        answer.body() == (book / "html" / "book" / "notebooks" / "3-relu-gram.ipynb").read_bytes()
    )
    assert tab.locator("a[href*='_sources'], a[href$='.md']").count() == 0


def test_who_wants_no_motion_gets_none(viewer):
    tab = viewer.open("index")
    assert tab.locator(".explore button").first.is_hidden()
    moving = """() => [...document.querySelectorAll('*')].map(e => getComputedStyle(e))
        .filter(s => parseFloat(s.transitionDuration) || s.animationName != 'none'
            || s.scrollBehavior != 'auto').length"""
    assert tab.evaluate(moving) == 0


def test_the_keyboard_reaches_every_part_and_is_seen_there(viewer):
    """From the first Tab: skip link, search, buttons, text, slider, footer; never caught."""
    tab, seen = viewer.open("index"), []
    for _ in range(150):
        tab.keyboard.press("Tab")
        at = tab.evaluate("""() => { const e = document.activeElement, s = getComputedStyle(e);
            return e == document.body ? null : {tag: e.tagName, name: e.className + ' ' + e.id,
                text: e.textContent.trim().slice(0, 20), outline: s.outlineStyle,
                shadow: s.boxShadow}; }""")
        if at is None:
            break
        seen.append(at)
    assert at is None, "the keyboard never leaves the page"
    assert seen[0]["text"] == "Skip to main content"
    tags = {s["tag"] for s in seen}
    assert {"A", "BUTTON", "INPUT"} <= tags
    assert any("theme-switch" in s["name"] for s in seen)
    unseen = [s for s in seen if s["outline"] == "none" and s["shadow"] == "none"]
    assert not unseen


def test_a_whole_chapter_by_keyboard(viewer):
    """Every stop from the first to the last, each seen; what folds and slides obeys the keys."""
    tab, stops = viewer.open("book/4-rashomon-sets"), []
    for _ in range(2000):
        tab.keyboard.press("Tab")
        at = tab.evaluate("""() => { const e = document.activeElement, s = getComputedStyle(e);
            return e == document.body ? null : [e.tagName, String(e.className),
                s.outlineStyle != 'none' || s.boxShadow != 'none', e.innerText || ''] }""")
        if at is None:
            break
        stops.append(at)
    assert at is None, "the keyboard never leaves the page"
    assert not [stop for stop in stops if not stop[2]]
    tags, names = {stop[0] for stop in stops}, " ".join(stop[1] for stop in stops)
    assert {"A", "BUTTON", "INPUT", "SUMMARY"} <= tags and "copybtn" in names
    fold, is_open = tab.locator("article details > summary").first, "s => s.parentElement.open"
    was_open = fold.evaluate(is_open)
    fold.press("Enter")
    assert fold.evaluate(is_open) != was_open


@pytest.mark.parametrize("page", PAGES)
def test_headings_skip_no_level(page, book):
    text = (book / "html" / f"{page}.html").read_text(encoding="utf8")
    article = text[text.index("<article") : text.index("</article>")]
    levels = [int(n) for n in re.findall(r"<h([1-6])[\s>]", article)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_formulas_have_a_text(viewer):
    tab = viewer.open("book/3-relu-gram")
    silent = "() => document.querySelectorAll('mjx-container:not([aria-label])').length"
    assert tab.locator("mjx-container").count() > 50
    assert tab.evaluate(silent) == 0


def test_escape_closes_the_search_and_gives_the_focus_back(viewer):
    tab = viewer.open("index")
    button = tab.locator(".search-button-field:visible, .search-button:visible").first
    button.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#pst-search-dialog input").first.is_visible()
    tab.keyboard.press("Escape")
    assert tab.locator("#pst-search-dialog").is_hidden()
    assert button.evaluate("e => e == document.activeElement")


def test_a_figure_of_several_panels_scrolls_on_a_phone(viewer):
    viewer.tab.set_viewport_size({"width": 390, "height": 844})
    tab = viewer.open("book/3-relu-gram")
    wide = tab.locator(".wide-figure.scrolls-sideways")
    assert wide.count() > 0
    assert wide.first.locator("svg").bounding_box()["width"] >= 520
    assert wide.first.get_attribute("tabindex") == "0"
