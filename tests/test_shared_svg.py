"""Letters and styles that several figures of a page have in common."""

import json
import re

from shared_svg import share_letters, share_styles

LETTER = '<path id="{0}-Sans-3" d="M0 0l5 5z" transform="scale(0.015625)" />'
FIGURE = "<svg>\n<defs>\n" + LETTER + '\n</defs>\n<use href="#{0}-Sans-3" x="7" />\n</svg>'


def page():
    frames = json.dumps({"base": FIGURE.format("x1"), "frames": [[FIGURE.format("x1")]]})
    return FIGURE.format("f1") + FIGURE.format("f2") + f"<script>{frames}</script>"


def test_a_letter_stands_once_and_everybody_refers_to_it():
    shared = share_letters(page())
    assert shared.count("M0 0l5 5z") == 1
    name = re.search(r'<path id="(\w+)"', shared)[1]
    assert shared.count(f'href="#{name}"') == 2 and shared.count(f'href=\\"#{name}\\"') == 2


def test_the_frames_of_a_slider_keep_their_lines():
    before, after = (
        json.loads(re.search("<script>(.*)</script>", text)[1])
        for text in (page(), share_letters(page()))
    )
    assert after["base"].count("\n") == before["base"].count("\n")


def test_other_references_and_pages_without_figures_are_left_alone():
    assert share_letters('<a href="#here">x</a>') == '<a href="#here">x</a>'
    assert '<a href="#here">' in share_letters('<a href="#here">x</a>' + page())


def test_letters_with_other_outlines_stay_apart():
    other = FIGURE.format("f3").replace("5 5z", "6 6z")
    shared = share_letters(page() + other)
    assert len(set(re.findall(r'<use href="#(\w+)"', shared))) == 2


GRID = '<path d="M0 {0}l5 0" style="fill:none;stroke-width:0.6" />'


def test_a_style_that_returns_stands_once_and_draws_the_same():
    lines = "\n".join(GRID.format(i) for i in range(5))
    other = '<path d="M0 9l5 0" style="fill:red" />\n<path class="a" style="fill:none" />'
    frames = json.dumps({"base": lines})
    shared = share_styles(f"<svg>{lines}{other}</svg><script>{frames}</script>")
    name = re.search(r"<style>\.([\w-]+)\{fill:none;stroke-width:0\.6\}</style>", shared)[1]
    assert shared.count("stroke-width") == 1
    assert shared.count(f'class="{name}"') == 5 and shared.count(f'class=\\"{name}\\"') == 5
    assert other in shared
    script = json.loads(re.search("<script>(.*)</script>", shared)[1])
    assert script["base"].count("\n") == 4


def test_styles_outside_figures_and_rare_ones_are_left_alone():
    text = '<p style="color:red">a</p>' * 5 + GRID.format(1)
    assert share_styles(text) == text
