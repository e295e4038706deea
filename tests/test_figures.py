import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from dynbook.figures import (
    COLORS,
    LIMIT,
    LINES,
    POINTS,
    canvas,
    described,
    figure,
    framed,
    heatmap,
    picture,
    quote,
    sci,
    table,
)

ALT = "Error against width: a straight line of slope −4."


def lines_and_points(ax):
    x = np.linspace(0, 6, 50)
    for i in range(3):
        ax.plot(x, np.sin(x + i), label=f"theory {i}")
        ax.plot(x[::5], np.sin(x[::5] + i), **POINTS[i])
    ax.set(xlabel="time t (steps)", ylabel="sharpness λ")
    ax.legend()


def drawing(draw=lines_and_points, alt=ALT, **options):
    with canvas((6.4, 3.6), **options) as (fig, axes):
        draw(axes)
        return picture(fig, alt)


def luminance(color):
    """Relative luminance as WCAG 2 defines it."""
    c = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("page", ["#ffffff", "#121212"])
@pytest.mark.parametrize("color", COLORS)
def test_every_colour_has_a_contrast_of_three_to_one_on_both_pages(color, page):
    low, high = sorted([luminance(color), luminance(page)])
    assert (high + 0.05) / (low + 0.05) >= 3


def test_lines_and_points_differ_in_more_than_colour():
    assert len({str(style["linestyle"]) for style in LINES}) == len(LINES)
    assert len({style["marker"] for style in POINTS}) == len(POINTS)
    with canvas((4, 3)) as (_, ax):
        dashes = {str(line._unscaled_dash_pattern) for line in ax.plot(np.eye(len(LINES)))}
    assert len(dashes) == len(LINES)


def test_the_picture_is_valid_xml_with_unique_ids_that_are_all_used():
    svg = drawing()
    root = ET.fromstring(svg)
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids)) > 10
    assert set(ids) == set(re.findall(r'[("]#([^")]+)', svg))
    assert all(re.fullmatch(r"f[0-9a-f]{5}-.+", name) for name in ids)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == ALT
    assert root.attrib["viewBox"] == "0 0 460.8 259.2"


def test_text_and_axes_take_the_colour_of_the_page_and_nothing_hides_it():
    svg = drawing()
    assert svg.count("currentColor") > 20
    colors = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", svg))
    assert colors <= {"none", "currentColor", *map(str.lower, COLORS[:3])}
    assert "<style" not in svg and "<metadata" not in svg and "<!--" not in svg


def test_the_same_drawing_gives_the_same_bytes_and_another_alt_other_ids():
    assert drawing() == drawing()
    ids = re.compile(r'\bid="(f\w{5})')
    assert ids.search(drawing())[1] != ids.search(drawing(alt="Something else is seen."))[1]


def test_the_bytes_do_not_depend_on_the_process():
    other = subprocess.run(
        [sys.executable, "-c", "import test_figures; print(test_figures.drawing())"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert other.stdout.strip() == drawing()


def points_of(d):
    """The corners of an SVG path of straight lines, read as the SVG standard reads them."""
    at, corners = np.zeros(2), []
    for command, text in re.findall(r"([Mlz])([^Mlz]*)", d):
        numbers = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", text)]
        for pair in np.reshape(numbers, (-1, 2)):
            at = pair if command == "M" else at + pair
            corners.append(at)
    return np.array(corners)


def test_a_path_keeps_its_place_to_a_tenth_of_a_point():
    rng = np.random.default_rng(0)
    x, y = np.arange(200.0), rng.standard_normal(200)
    with canvas((6.4, 3.6)) as (fig, ax), plt.rc_context({"path.simplify": False}):
        ax.plot(x, y, color="#ff0000")
        svg = picture(fig, ALT)
        place = ax.transData.transform(np.column_stack([x, y])) * 72 / fig.dpi
    d = re.search(r'd="([^"]+)"[^>]*stroke:#ff0000', svg)[1]
    corners = points_of(d)
    np.testing.assert_allclose(corners, np.column_stack([place[:, 0], 259.2 - place[:, 1]]),
                               atol=0.0501)  # fmt: skip


def test_a_grid_becomes_a_webp_and_blanks_show_the_page():
    values = torch.rand(60, 80, generator=torch.Generator().manual_seed(0))
    values[20:30] = torch.nan

    def draw(ax):
        mesh = heatmap(ax, np.arange(80), np.arange(60), values, label="exponent (per layer)")
        assert mesh.get_array().mask.sum() == 800

    svg = drawing(draw)
    assert svg.count('href="data:image/webp;base64,') == 2  # the grid and its colour bar
    assert "image/png" not in svg and len(svg.encode()) < LIMIT
    assert "currentColor" in svg


def test_a_heavy_figure_is_refused_in_the_book_and_a_warning_elsewhere(monkeypatch):
    x = np.random.default_rng(0).standard_normal((2, 4000))
    heavy = drawing(lambda ax: ax.scatter(*x, s=4))
    monkeypatch.delenv("DYNBOOK_BUILD", raising=False)
    with pytest.warns(UserWarning, match="rasterized=True"):
        framed(heavy)
    monkeypatch.setenv("DYNBOOK_BUILD", "1")
    with pytest.raises(ValueError, match=r"weighs \d+ KB, the book takes 150.*rasterized=True"):
        framed(heavy)
    light = drawing(lambda ax: ax.scatter(*x, s=4, rasterized=True))
    assert "max-width:640px" in framed(light)


@pytest.mark.parametrize("alt", ["", "  ", "plot", "figures/plot-1.svg", "plot.png", None])
def test_an_alternative_text_that_says_nothing_is_refused(alt):
    with pytest.raises(ValueError, match="alt must say in words"), figure(alt=alt):
        pass


def test_an_alternative_text_is_one_line_and_escaped():
    assert described(" Two\n   lines. ") == "Two lines."
    svg = drawing(alt='A "quoted" text with x < y & more.')
    assert ET.fromstring(svg).attrib["aria-label"] == 'A "quoted" text with x < y & more.'


def test_in_a_script_the_figure_is_left_to_the_caller_and_nothing_is_shown(capsys):
    with figure(alt=ALT, rows=1, cols=2) as axes:
        lines_and_points(axes[0])
    assert axes.shape == (2,)
    assert plt.fignum_exists(axes[0].figure.number)
    assert capsys.readouterr().out == ""
    plt.close(axes[0].figure)


def test_an_error_inside_the_block_is_not_swallowed():
    with pytest.raises(ZeroDivisionError), figure(alt=ALT):
        1 / 0  # noqa: B018
    plt.close("all")


@pytest.mark.parametrize(
    ("x", "digits", "text"),
    [
        (1.3e-5, 2, "1.3·10⁻⁵"),
        (-2.34e12, 3, "−2.34·10¹²"),
        (9.96e3, 2, "1.0·10⁴"),
        (np.float32(0.5), 1, "5·10⁻¹"),
        (torch.tensor(6e7), 2, "6.0·10⁷"),
        (0, 2, "0"),
    ],
)
def test_powers_of_ten_as_they_are_printed(x, digits, text):
    assert sci(x, digits) == text


@pytest.mark.parametrize(
    ("x", "digits", "error", "words"),
    [
        ("1e-5", 2, TypeError, "x must be one real number, got the text"),
        ([1.0], 2, TypeError, "x must be"),
        (float("inf"), 2, ValueError, "x must be finite"),
        (1.0, 0, ValueError, "digits must be at least 1"),
    ],
)
def test_what_is_not_one_finite_number_has_no_powers_of_ten(x, digits, error, words):
    with pytest.raises(error, match=words):
        sci(x, digits)


@pytest.mark.parametrize("value", [float("nan"), np.float64("inf"), torch.tensor(-torch.inf)])
def test_a_number_that_is_not_finite_is_not_quoted(value):
    with pytest.raises(ValueError, match="slope must be finite to be quoted"):
        quote(fine=1.0, slope=value)


@pytest.mark.parametrize("value", [np.ones(3), torch.ones(1, 2), 1j, True, None, [1.0]])
def test_what_is_not_one_number_is_not_quoted(value):
    with pytest.raises(TypeError, match="slope must be a text or one real number"):
        quote(slope=value)


def test_a_live_session_shows_nothing_of_what_is_quoted(capsys):
    quote(slope=-4.0, n=np.int64(3), eps=torch.tensor(1e-7), law="n⁴")
    assert capsys.readouterr().out == ""


def test_a_table_is_markdown_and_its_entries_print_themselves(capsys):
    table(["$i$", "value"], [(1, "0.50"), (2, sci(1e-7))])
    assert capsys.readouterr().out.splitlines() == [
        "| $i$ | value |",
        "| --- | --- |",
        "| 1 | 0.50 |",
        "| 2 | 1.0·10⁻⁷ |",
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([1], "row 1 must have 2 entries, got 1"),
        ([1, "|x|"], r"neither \| nor a line break, got '\|x\|' in row 1; .* draw bars"),
        ([1, "a\nb"], "nor a line break"),
    ],
)
def test_a_table_that_would_fall_apart_is_refused(row, words):
    with pytest.raises(ValueError, match=words):
        table(["a", "b"], [row])
