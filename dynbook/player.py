"""Frames behind sliders, as HTML that needs no kernel; player.js moves them."""

from __future__ import annotations

import hashlib
import json
from difflib import SequenceMatcher
from html import escape
from pathlib import Path

from dynbook.sliders import Parameter

#: Stands in the frames for the name of the figure, which :func:`player` makes of their content.
KEY = "explore-key"


def player(
    svgs: list[str], first: int, parameters: tuple[Parameter, ...], width: float, play: bool
) -> str:
    """A ``<figure>`` that shows one of `svgs`, at first the one of index `first`.

    Parameters
    ----------
    svgs : list of str
        The frames, the last parameter changing fastest, with ids that start with `KEY`.
    width : float
        Largest width, in inches of 100 pixels.
    play : bool
        Whether to offer a button that runs through the first parameter.
    """
    base = svgs[first].split("\n")
    data = {
        "base": svgs[first],
        "frames": [_parts(base, svg.split("\n")) for svg in svgs],
        "texts": [p.texts for p in parameters],
    }
    table = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    script = (Path(__file__).parent / "player.js").read_text(encoding="utf-8")
    html = (
        f'<figure class="explore" data-key="{KEY}" style="margin:0 auto;padding:0;'
        f'max-width:{100 * width:.0f}px">\n'
        f'<div class="theme-svg explore-stage">\n{svgs[first]}\n</div>\n'
        f'<div style="margin:.5em 0 .2em">\n{_controls(parameters, play)}\n</div>\n'
        f'<script type="application/json">{table}</script>\n'
        f"<script>{{\n{script.replace('KEY', KEY)}}}</script>\n</figure>"
    )
    return html.replace(KEY, "x" + hashlib.sha256(html.encode()).hexdigest()[:5])


_ROW = "display:flex;flex-wrap:wrap;align-items:center;gap:0 1em;text-align:left"
_VALUE = "display:inline-block;margin-left:.4em;font-weight:600;font-variant-numeric:tabular-nums"
_MOVE = "display:flex;align-items:center;gap:1em;flex:1 1"
_SLIDER = (
    "flex:1;min-width:0;height:1.9em;margin:0;outline-offset:-2px;accent-color:#0072B2;"
    "cursor:pointer"
)
_BUTTON = (
    "font:inherit;color:inherit;background:none;border:1px solid currentColor;"
    "border-radius:.4em;padding:.15em 0;width:5em;cursor:pointer"
)


def _controls(parameters: tuple[Parameter, ...], play: bool) -> str:
    """A row for each parameter: label, value and slider, and a button in the first.

    Sliders and button wait, hidden, for the script.
    """
    widths = [max(map(len, p.texts)) for p in parameters]
    room = 0.6 * max(len(p.label) + wide for p, wide in zip(parameters, widths, strict=True)) + 1
    button = (
        f'<button type="button" data-interval="{interval(parameters[0])}" hidden '
        f'style="{_BUTTON}">Play</button>'
    )
    rows = []
    for p, wide in zip(parameters, widths, strict=True):
        name, text = f"{KEY}-{p.name}", escape(p.texts[p.start])
        basis, shown = ("17em", button) if play and p is parameters[0] else ("11em", "")
        aligned = f' style="min-width:{room:.1f}em"' if len(parameters) > 1 else ""
        rows.append(
            f'<div style="{_ROW}"><span{aligned}><label for="{name}" style="margin:0">'
            f'{escape(p.label)}</label> <output for="{name}" aria-live="off" '
            f'style="{_VALUE};min-width:{wide}ch">{text}</output></span>\n'
            f'<span style="{_MOVE} {basis}"><input id="{name}" type="range" min="0" '
            f'max="{len(p.values) - 1}" value="{p.start}" aria-valuetext="{text}" '
            f'autocomplete="off" hidden style="{_SLIDER}">{shown}</span></div>'
        )
    return "\n".join(rows)


def interval(p: Parameter) -> int:
    """Milliseconds a frame, for some six seconds in all."""
    return min(600, max(100, 6000 // len(p.values)))


def _parts(base: list[str], frame: list[str]) -> list[str | list[int]]:
    """`frame` as its own lines, and as [from, to] the runs of lines that it shares with `base`."""
    parts: list[str | list[int]] = []
    matcher = SequenceMatcher(None, base, frame, autojunk=False)
    for kind, i, j, u, v in matcher.get_opcodes():
        if kind == "equal":
            parts.append([i, j])
        else:
            parts += frame[u:v]
    return parts
