"""Figures that read well on white and on black, and the numbers the prose quotes from them.

A figure is drawn once, in one ink that follows the page: every text, tick and axis is drawn in a
colour that becomes ``currentColor`` in the SVG, every background is left out, and lines take
colours with a contrast of at least 3:1 on white and on ``#121212``.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.collections import QuadMesh

from dynbook.svg import INK, themed

#: Okabe–Ito hues in a lightness that reads on white and on black: blue, vermilion, green, purple,
#: ochre, sky.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#C56C9E", "#B07D00", "#3E97CF")

_DASHES = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.1)), (0, (9, 2)), (0, (3, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P")

#: Theory: ``ax.plot(x, y, **LINES[i])``; also the default cycle of ``ax.plot``.
LINES = tuple({"color": c, "linestyle": d} for c, d in zip(COLORS, _DASHES, strict=True))

#: Measurement: ``ax.plot(x, y, **POINTS[i])``, hollow, in the colour of ``LINES[i]``.
POINTS = tuple(
    {"color": c, "marker": m, "linestyle": "none", "markerfacecolor": "none"}
    for c, m in zip(COLORS, _MARKERS, strict=True)
)

#: Largest figure the book takes, in bytes.
LIMIT = 150_000

STYLE = {
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "axes.titlecolor": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": INK, "patch.edgecolor": INK,
    "hatch.color": INK, "lines.color": INK, "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "savefig.edgecolor": "none", "legend.facecolor": "none",
    "legend.frameon": False, "legend.handlelength": 2.6, "legend.fontsize": 11,
    "font.size": 12, "axes.labelsize": 12, "xtick.labelsize": 11, "ytick.labelsize": 11,
    "axes.titlesize": 12, "axes.titlelocation": "left", "axes.titlepad": 8,
    "mathtext.fontset": "dejavuserif",
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "axes.grid": True, "axes.axisbelow": True, "grid.linewidth": 0.6, "grid.alpha": 0.18,
    "lines.linewidth": 2, "lines.markersize": 6, "lines.markeredgewidth": 1.6,
    "errorbar.capsize": 3, "image.cmap": "viridis",
    "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=_DASHES),
    "svg.fonttype": "path", "svg.hashsalt": "dynbook", "savefig.dpi": 144,
}  # fmt: skip


@contextmanager
def figure(
    alt: str, size: tuple[float, float] = (6.4, 3.6), rows: int = 1, cols: int = 1, **subplots: Any
) -> Iterator[Any]:
    """Draw a figure and show it as an SVG in the colours of the page.

    In a notebook the figure appears when the block ends. In a plain script nothing is shown and
    the figure is left to the caller as ``ax.figure``.

    Parameters
    ----------
    alt : str
        What the figure shows, in words, for readers who do not see it.
    size : (float, float)
        Width and height in inches; the page shows an inch as at most 100 pixels.
    rows, cols : int
        Number of axes down and across.
    **subplots
        Passed to :func:`matplotlib.pyplot.subplots`, as ``sharex=True``.

    Yields
    ------
    Axes, or an array of Axes if ``rows * cols > 1``.

    Raises
    ------
    ValueError
        If `alt` is empty or a file name, or, while the book is built, if the figure weighs more
        than 150 KB (elsewhere a warning).
    """
    alt = described(alt)
    with canvas(size, rows, cols, keep=not in_notebook(), **subplots) as (fig, axes):
        yield axes
        if in_notebook():
            show(framed(picture(fig, alt)), alt)


def heatmap(
    ax: Any, x: Any, y: Any, values: Any, *, label: str, cmap: str = "viridis", **pcolormesh: Any
) -> QuadMesh:
    """Draw `values` (len(y), len(x)) over a grid, with a labelled colour bar.

    Entries that are masked or not finite are left blank, in the colour of the page. Further
    arguments go to ``ax.pcolormesh`` (``norm="log"``, ``vmin=…``).
    """
    values = np.ma.masked_invalid(np.ma.asarray(values))
    mesh = ax.pcolormesh(
        x, y, values, cmap=matplotlib.colormaps[cmap].with_extremes(bad="none"), **pcolormesh
    )
    ax.grid(False)
    ax.figure.colorbar(mesh, ax=ax, label=label).outline.set_visible(False)
    return mesh


def quote(**values: Any) -> None:
    """Publish numbers or short texts for the prose of the same page.

    ``quote(slope=fit.slope)`` in a cell, and ``{glue:text}`slope:.2f``` in the text. Only a build
    of the book publishes; a live notebook shows nothing.

    Raises
    ------
    TypeError
        If a value is neither a text nor a single real number.
    ValueError
        If a number is not finite.
    """
    plain = {name: _plain(name, value) for name, value in values.items()}
    if in_notebook() and building():
        from IPython.display import display

        prefix = "application/papermill.record/"
        for name, value in plain.items():
            record = {"scrapbook": {"name": name, "mime_prefix": prefix}}
            display({f"{prefix}text/plain": repr(value)}, raw=True, metadata=record)


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
    """Display a table; entries are texts (Markdown, with ``$…$``) or print themselves.

    Raises
    ------
    ValueError
        If a row is longer or shorter than the head, or an entry holds what ends an entry.
    """
    lines = [[str(entry) for entry in row] for row in (head, *rows)]
    for number, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise ValueError(f"row {number} must have {len(lines[0])} entries, got {len(line)}")
        broken = [entry for entry in line if "|" in entry or "\n" in entry]
        if broken:
            raise ValueError(
                f"an entry may hold neither | nor a line break, got {broken[0]!r} in row {number}; "
                r"in formulas \vert and \Vert draw bars"
            )
    lines.insert(1, ["---"] * len(lines[0]))
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    if in_notebook():
        show(text, text, "text/markdown")
    else:
        print(text)


def sci(x: Any, digits: int = 2) -> str:
    """A number in powers of ten, with `digits` significant digits: ``sci(1.3e-5)`` is 1.3·10⁻⁵.

    Raises
    ------
    TypeError
        If `x` is not a single real number.
    ValueError
        If `x` is not finite, or `digits` is below 1.
    """
    if digits < 1:
        raise ValueError(f"digits must be at least 1, got {digits}")
    x = _plain("x", x)
    if isinstance(x, str):
        raise TypeError(f"x must be one real number, got the text {x!r}")
    if x == 0:
        return "0"
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}·10{raised}".replace("-", "−")


# What explore.py needs as well.


@contextmanager
def canvas(
    size: tuple[float, float], rows: int = 1, cols: int = 1, *, keep: bool = False, **subplots: Any
) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes in the style of the book, closed at the end unless `keep`."""
    with plt.rc_context(STYLE), plt.ioff():
        fig, axes = plt.subplots(rows, cols, figsize=size, layout="constrained", **subplots)
        try:
            yield fig, axes
        finally:
            if not keep:
                plt.close(fig)


def described(alt: str) -> str:
    """`alt` in one line.

    Raises
    ------
    ValueError
        If it is no text, empty, a single word or a file name: it tells a listener nothing.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt must say in words what the figure shows, got {alt!r}")
    if re.fullmatch(r"\S*[./\\]\S*|\S+", alt.strip()):
        raise ValueError(
            f"alt must say in words what the figure shows, got {alt!r}, a single word or a file "
            "name. Write a sentence: 'Error against n: a straight line of slope −4.'"
        )
    return " ".join(alt.split())


def picture(fig: Any, alt: str, prefix: str | None = None) -> str:
    """The figure as one ``<svg>`` of the book, one element a line.

    Parameters
    ----------
    prefix : str, optional
        Start of every id inside; by default a hash of the alternative text and of the drawing,
        so that ids of several figures on a page differ and yet are the same on every run.
    """
    for mesh in fig.findobj(QuadMesh):  # seams between vector cells show; pixels have none
        mesh.set_rasterized(True)
    drawn = io.BytesIO()
    with plt.rc_context(STYLE):
        fig.savefig(drawn, format="svg", metadata={"Date": None})
    prefix = prefix or "f" + hashlib.sha256(alt.encode() + drawn.getvalue()).hexdigest()[:5]
    return themed(drawn.getvalue(), alt, prefix)


def framed(svg: str) -> str:
    """The ``<div>`` that keeps a picture within the column and its natural size.

    Raises
    ------
    ValueError
        While the book is built, if the picture weighs more than 150 KB; elsewhere it warns.
    """
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1]) * 100 / 72
    weight = len(svg.encode())
    if weight > LIMIT:
        problem = (
            f"the figure weighs {weight / 1000:.0f} KB, the book takes {LIMIT // 1000}. Draw dense "
            "artists with rasterized=True, or fewer points"
        )
        if building():
            raise ValueError(problem)
        warnings.warn(problem, stacklevel=4)
    return f'<div class="theme-svg" style="max-width:{width:.0f}px;margin:0 auto">\n{svg}\n</div>'


def show(rich: str, text: str, kind: str = "text/html") -> None:
    """Display one output, and `text` where only text can be shown."""
    from IPython.display import display

    display({kind: rich, "text/plain": text}, raw=True)


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def building() -> bool:
    """Whether the book is being built, as against a notebook being used."""
    return os.environ.get("DYNBOOK_BUILD", "") not in ("", "0")


def _plain(name: str, value: Any) -> str | int | float:
    """A Python text or finite number of what may be a numpy or torch scalar."""
    if isinstance(value, str):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"{name} must be a text or one real number, got {escape(repr(value)[:60])}. "
            "Quote the entries of an array one by one."
        )
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite to be quoted, got {value}")
    return value
