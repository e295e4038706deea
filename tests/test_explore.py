"""explore() in a build, in a real browser and in a live kernel."""

from __future__ import annotations

import json
import os
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import sync_playwright

import dynbook
from dynbook.explore import Explorable, explore
from dynbook.player import _parts
from dynbook.sliders import parameters

X = np.linspace(0, 1, 300)


def wave(ax, k):
    ax.plot(X, np.sin(k * X))
    ax.plot(X, np.cos(k * X))
    ax.set(xlim=(0, 1), ylim=(-1.2, 1.2), xlabel="position x", ylabel="displacement")


def explorable(draw=wave, alt="A wave of frequency {k:.1f}.", play=False, **values):
    return Explorable(draw, alt, parameters(values, {}, {}, {}), (6.4, 3.6), 1, 1, play)


def table(html):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.S)[1])


def frames_of(html):
    """Every frame put together again, as the script on the page does."""
    data = table(html)
    base = data["base"].split("\n")
    for parts in data["frames"]:
        lines = []
        for part in parts:
            lines += [part] if isinstance(part, str) else base[slice(*part)]
        yield "\n".join(lines)


# The player, as text.


def test_each_frame_comes_back_and_says_what_it_shows():
    html = explorable(k=[1.0, 2.0, 7.5]).html()
    frames = [ET.fromstring(svg) for svg in frames_of(html)]
    labels = [svg.attrib["aria-label"] for svg in frames]
    assert labels == [f"A wave of frequency {k}." for k in (1.0, 2.0, 7.5)]
    assert len({ET.tostring(svg) for svg in frames}) == 3


def test_thirty_frames_of_two_lines_weigh_less_than_150_kilobytes():
    html = explorable(k=torch.linspace(1, 30, 30)).html()
    assert len(html.encode()) < 150_000


def test_the_player_is_the_same_on_every_run_and_asks_nothing_of_the_network():
    first, again = (explorable(k=[1, 2], play=True).html() for _ in range(2))
    assert first == again
    assert "explore-key" not in first
    outside = set(re.findall(r"https?://[^\s\"'<\\]+", first))
    assert outside <= {"http://www.w3.org/2000/svg"}


def test_parts_of_lines_share_what_is_equal():
    base = ["a", "b", "c", "d"]
    assert _parts(base, ["a", "x", "y", "c", "d"]) == [[0, 1], "x", "y", [2, 4]]
    assert _parts(base, base) == [[0, 4]]


def jumping(ax, k):
    ax.plot([0, k], [0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({}, "explore needs a parameter"),
        ({"k": [1, 2], "labels": {"eta": "rate"}}, "labels names eta, but the parameters are k"),
        ({"k": range(81)}, "k make 81 frames, a page takes 80"),
        ({"k": [1, 2], "alt": "A wave."}, "alt must say what the values change: use {k}"),
        ({"k": [1, 2], "alt": "A wave of {q}."}, "alt may use the fields k only"),
        ({"k": [1, 2], "alt": "{k}"}, "alt must say in words"),
        ({"k": [1, 2], "draw": jumping}, r"draw must fix size and limits.*at {'k': 2}"),
    ],
)
def test_what_makes_no_player_is_refused_in_words(call, message):
    arguments = {"draw": wave, "alt": "A wave of frequency {k}.", **call}
    with pytest.raises(ValueError, match=message):
        explore(arguments.pop("draw"), **arguments)


def test_frames_too_heavy_for_a_page_are_refused():
    noise = np.random.default_rng(0).standard_normal((12, 8000))

    def draw(ax, k):
        ax.plot(noise[k])
        ax.set(xlim=(0, 8000), ylim=(-5, 5))

    with pytest.raises(ValueError, match=r"the 12 frames of k weigh \d+ KB, a page takes 400"):
        explorable(draw, k=range(12)).html()


# Notebooks that use it, built and live.

DRAWINGS = """
import numpy as np
from dynbook.explore import explore
from dynbook.figures import LINES, POINTS, figure, heatmap, quote

x = np.linspace(0, 1, 100)

def wave(ax, k):
    ax.plot(x, np.sin(k * x), label="sine")
    ax.set(xlim=(0, 1), ylim=(-1.2, 1.2), xlabel="position x", ylabel="displacement")

def field(ax, a, name):
    f = {"sine": np.sin, "cosine": np.cos}[name]
    heatmap(ax, x, x, f(a * x[:, None] + x), label="value", vmin=-1, vmax=1)
"""
CELLS = {
    "setup": DRAWINGS,
    "figure": """with figure(alt="Points on a straight line.") as ax:
    ax.plot(x, x)
    ax.plot(x[::9], x[::9], **POINTS[1])""",
    "quote": "quote(slope=np.float64(-3.98765), n=np.int64(1000), law='n⁴')",
    "one": """explore(wave, alt="A wave of frequency {k:.1f}.", labels={"k": "frequency k"},
        start={"k": 4}, play=True, k=np.arange(1.0, 11.0))""",
    "two": """explore(field, alt="A field: the {name} of {a} x + y.", a=[1, 2, 3],
        name=["sine", "cosine"], size=(4.6, 3.6))""",
    "check": """from dynbook.check import Result, _cell
Result(True, "It is `n⁴`.", cell=None)""",
    "check shown": """from dynbook.check import _show
result = Result(False, "Shown once.", cell=_cell())
_show(result)
result""",
    "check later": "result",
}


def run(cells, **environment):
    """Execute cells in a kernel of their own; returns the notebook."""
    book = new_notebook(cells=[new_code_cell(source) for source in cells])
    client = NotebookClient(book, timeout=120, kernel_name="python3", store_widget_state=True)
    root = str(Path(dynbook.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    client.execute(env={**os.environ, "DYNBOOK_BUILD": "", "PYTHONPATH": path, **environment})
    nbformat.validate(book)
    return book


@pytest.fixture(scope="module")
def built():
    """Outputs by name, as in a build of the book."""
    book = run(CELLS.values(), DYNBOOK_BUILD="1")
    return dict(zip(CELLS, (cell.outputs for cell in book.cells), strict=True))


def test_a_figure_is_one_html_output(built):
    (output,) = built["figure"]
    assert output.data["text/plain"] == "Points on a straight line."
    assert output.data["text/html"].startswith('<div class="theme-svg"')


def test_quoted_numbers_are_glue(built):
    names = {o.metadata["scrapbook"]["name"]: o.data for o in built["quote"]}
    assert {n: d["application/papermill.record/text/plain"] for n, d in names.items()} == {
        "slope": "-3.98765", "n": "1000", "law": "'n⁴'",
    }  # fmt: skip


def test_a_build_shows_one_player_and_returns_nothing(built):
    (output,) = built["one"]
    assert output.output_type == "display_data"
    assert output.data["text/plain"] == "A wave of frequency 4.0."


def test_a_verdict_appears_once_in_its_cell_and_again_when_asked_for(built):
    assert [len(built[name]) for name in ("check", "check shown", "check later")] == [1, 1, 1]
    assert built["check shown"][0].data["text/plain"] == "✗ Not yet. Shown once."


# In a real browser.

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(built, tmp_path_factory):
    """A page with the outputs on it."""
    shown = [built[name][0].data["text/html"] for name in ("figure", "one", "two", "check")]
    page = tmp_path_factory.mktemp("page") / "index.html"
    page.write_text(
        '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Outputs</title><style>'
        "body{margin:0 1rem;font-family:sans-serif;color:#222;background:#fff}"
        "html[data-theme=dark] body{color:#ddd;background:#121212;color-scheme:dark}</style>"
        f"</head><body><main><h1>Outputs</h1>{''.join(shown)}</main></body></html>",
        encoding="utf-8",
    )
    return page.as_uri()


@pytest.fixture
def page(browser, address, request):
    """The page, in a browser that fails the test if the console speaks or a request leaves."""
    options = getattr(request, "param", {})
    context = browser.new_context(viewport={"width": 800, "height": 900}, **options)
    page, noise = context.new_page(), []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or noise.append(r.url))
    page.goto(address)
    yield page
    context.close()
    assert noise == []


def label(figure):
    return figure.locator("svg").get_attribute("aria-label")


def test_the_keyboard_moves_picture_value_and_description(page):
    figure = page.locator("figure.explore").first
    slider = page.get_by_role("slider", name="frequency k")
    assert slider.get_attribute("aria-valuetext") == figure.locator("output").inner_text() == "4"
    still = figure.locator("svg").inner_html()
    slider.focus()
    slider.press("ArrowRight")
    assert label(figure) == "A wave of frequency 5.0."
    assert slider.get_attribute("aria-valuetext") == figure.locator("output").inner_text() == "5"
    assert figure.locator("svg").inner_html() != still
    slider.press("End")
    assert label(figure) == "A wave of frequency 10.0."
    slider.press("Home")
    assert label(figure) == "A wave of frequency 1.0."
    for _ in range(3):
        slider.press("ArrowRight")
    assert figure.locator("svg").inner_html() == still
    assert figure.locator("svg").count() == 1


def test_two_sliders_reach_every_combination(page):
    figure = page.locator("figure.explore").nth(1)
    a, name = figure.get_by_role("slider").all()
    seen = set()
    for _ in range(3):
        seen |= {label(figure)}
        name.press("ArrowRight")
        seen |= {label(figure)}
        name.press("Home")
        a.press("ArrowRight")
    waves = ("sine", "cosine")
    assert seen == {f"A field: the {f} of {a} x + y." for f in waves for a in (1, 2, 3)}
    assert label(page.locator("figure.explore").first) == "A wave of frequency 4.0."


def test_a_finger_moves_the_slider(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = context.new_page()
    page.goto(address)
    slider = page.get_by_role("slider", name="frequency k")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box["height"] >= 24 and box["width"] > 200
    page.touchscreen.tap(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2)
    assert label(page.locator("figure.explore").first) == "A wave of frequency 10.0."
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_play_runs_to_the_end_and_pause_stops_it(page):
    figure = page.locator("figure.explore").first
    button = figure.get_by_role("button")
    button.click()
    assert button.inner_text() == "Pause"
    page.wait_for_function(
        "document.querySelector('figure.explore svg').ariaLabel == 'A wave of frequency 5.0.'"
    )
    button.click()
    assert button.inner_text() == "Play"
    paused = label(figure)
    page.wait_for_timeout(1300)
    assert label(figure) == paused
    figure.get_by_role("slider").press("End")
    figure.get_by_role("slider").press("ArrowLeft")
    button.click()
    page.wait_for_function("document.querySelector('figure.explore button').innerText == 'Play'")
    assert label(figure) == "A wave of frequency 10.0."


@pytest.mark.parametrize("page", [{"reduced_motion": "reduce"}], indirect=True)
def test_who_wants_no_motion_is_offered_none(page):
    assert page.get_by_role("button").count() == 0
    page.get_by_role("slider", name="frequency k").press("End")
    assert label(page.locator("figure.explore").first) == "A wave of frequency 10.0."


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_javascript_a_still_picture_and_its_value_remain(page):
    figure = page.locator("figure.explore").first
    assert figure.locator("svg").is_visible()
    assert figure.inner_text().split() == ["frequency", "k", "4"]
    assert figure.get_by_role("slider").count() == figure.get_by_role("button").count() == 0


def test_the_ink_is_the_text_colour_of_the_page_in_light_and_dark(page):
    glyph = ".theme-svg svg g[style*=currentColor] use"
    ink = f"getComputedStyle(document.querySelector('{glyph}')).fill"
    text = "getComputedStyle(document.body).color"
    light = page.evaluate(ink)
    assert light == page.evaluate(text) == "rgb(34, 34, 34)"
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert page.evaluate(ink) == page.evaluate(text) == "rgb(221, 221, 221)"
    page.get_by_role("slider", name="frequency k").press("End")
    assert page.evaluate(ink.replace(".theme-svg", ".explore")) == "rgb(221, 221, 221)"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(page, theme, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    results = Axe().run(page)
    assert results.response["violations"] == []
    assert len(results.response["passes"]) > 10


def test_ids_are_unique_and_the_script_may_run_twice_or_away_from_its_place(page):
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids)) > 10
    # A front end that evaluates scripts on its own, after the output, and more than once
    page.evaluate("""() => {
        const output = document.querySelector('figure.explore');
        const again = output.cloneNode(true);
        delete again.dataset.ready;
        output.replaceWith(again);
        for (let i = 0; i < 2; i++) {
            const script = document.createElement('script');
            script.text = again.querySelector('script:not([type])').text;
            document.body.append(script);
            script.remove();
        }
    }""")
    figure = page.locator("figure.explore").first
    figure.get_by_role("slider").press("ArrowRight")
    assert label(figure) == "A wave of frequency 5.0."
    figure.get_by_role("button").click()
    assert figure.get_by_role("button").inner_text() == "Pause"  # one click, one handler
    figure.get_by_role("button").click()


# In a live kernel.


@pytest.fixture(scope="module")
def live():
    """The executed cells of a notebook whose reader moves a slider."""
    moves = """slider = w.children[1]
slider.index = 8
print(type(slider).__name__, slider.description, slider.label)"""
    broken = """def bad(ax, k):
    raise ArithmeticError("k is mine")
explore(bad, alt="A picture of {k} things.", k=[1, 2])"""
    plain = "explore(wave, alt='A wave of {k}.', k=[1, 2])"
    return run([DRAWINGS, f"w = {CELLS['one']}", moves, plain, "w", CELLS["quote"], broken])


def output_texts(book):
    """What the output areas of the widgets hold."""
    models = book.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    return [
        output.get("data", {}).get("text/plain", output.get("ename"))
        for model in models
        if model["model_name"] == "OutputModel"
        for output in model["state"]["outputs"]
    ]


def test_a_live_slider_redraws_the_same_picture(live):
    one, moved = live.cells[1].outputs, live.cells[2].outputs
    assert [list(o.data) for o in one if "data" in o] == [
        ["text/plain", "application/vnd.jupyter.widget-view+json"]
    ]
    assert moved[0].text == "SelectionSlider frequency k 9\n"
    assert "A wave of frequency 9.0." in output_texts(live)
    assert "A wave of frequency 4.0." not in output_texts(live)


def test_a_live_widget_is_shown_once_in_its_cell_and_again_when_asked_for(live):
    views = [
        sum("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in cell.outputs)
        for cell in live.cells
    ]
    assert views == [0, 1, 0, 1, 1, 0, 1]


def test_live_quotes_show_nothing_and_errors_in_draw_are_seen(live):
    assert live.cells[5].outputs == []
    assert "ArithmeticError" in output_texts(live)


def test_without_ipywidgets_a_kernel_shows_the_player():
    hide = "import sys; sys.modules['ipywidgets'] = None\n"
    book = run([hide + DRAWINGS, "explore(wave, alt='A wave of {k}.', k=[1, 2])"])
    (output,) = book.cells[1].outputs
    assert output.data["text/html"].startswith('<figure class="explore"')
