"""A figure with sliders, with or without a kernel, from one call.

In a live notebook the sliders are ipywidgets and each picture is drawn when it is asked for. Where
there is no kernel, as on the pages of the book, all pictures are drawn beforehand and a few lines
of plain JavaScript put one of them in place: no library, no network, and a still picture where
there is no JavaScript.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from dynbook.figures import building, canvas, described, framed, in_notebook, picture, sci, show

#: Most frames, and most bytes, of one figure without a kernel.
MOST_FRAMES, LIMIT = 80, 400_000


def explore(
    draw: Callable[..., None],
    *,
    alt: str | Callable[..., str],
    labels: Mapping[str, str] | None = None,
    start: Mapping[str, Any] | None = None,
    formats: Mapping[str, str] | None = None,
    size: tuple[float, float] = (6.4, 3.6),
    rows: int = 1,
    cols: int = 1,
    play: bool = False,
    **values: Sequence[Any],
) -> Any:
    """Show ``draw(ax, eta=…)`` with a slider over `values`, as ``eta=torch.logspace(-3, 0, 30)``.

    Parameters
    ----------
    draw : callable
        Draws one picture on fresh axes (an array of axes if ``rows * cols > 1``), for values that
        are Python numbers or texts. It must fix the limits, so that nothing jumps:
        ``ax.set(xlim=…, ylim=…)``.
    alt : str or callable
        What the picture shows, in words, with the parameters as fields, ``"… at η = {eta:.2g}"``,
        or a function of the parameters that returns it.
    labels : mapping, optional
        Parameter → label of its slider; the parameter's name by default.
    start : mapping, optional
        Parameter → value to start at (the nearest of its values); the first by default.
    formats : mapping, optional
        Parameter → format specification of the value shown, as ``{"eta": ".2f"}``; by default as
        many digits, three or more, as tell the values apart.
    size, rows, cols
        As in :func:`dynbook.figures.figure`.
    play : bool
        Offer a button that runs through the first parameter.
    **values : sequence of numbers or texts
        The parameters, one or more, each with its values. Without a kernel every combination is
        drawn, at most 80.

    Returns
    -------
    None without a kernel; with one, the widget, which is already on show.

    Raises
    ------
    ValueError
        If there is no parameter, one has no values, or a label, start or format names none of
        them; if `alt` is empty or the same for all values. Without a kernel also if there are more
        than 80 frames, if size or limits differ between frames, or if all together weigh more than
        400 KB.
    """
    parameters = _parameters(values, labels or {}, start or {}, formats or {})
    explorable = Explorable(draw, alt, parameters, size, rows, cols, play)
    if in_notebook() and not building() and importlib.util.find_spec("ipywidgets"):
        return explorable.widget()
    html = explorable.html()
    if in_notebook():
        show(html, explorable.words(explorable.first))
    return None


@dataclass(frozen=True)
class Parameter:
    """One slider: its values, the texts that show them, and where it starts."""

    name: str
    label: str
    values: tuple
    texts: tuple[str, ...]
    start: int


@dataclass(frozen=True)
class Explorable:
    """A drawing and its parameters; :func:`explore` shows it."""

    draw: Callable[..., None]
    alt: str | Callable[..., str]
    parameters: tuple[Parameter, ...]
    size: tuple[float, float]
    rows: int
    cols: int
    play: bool

    def __post_init__(self) -> None:
        described(self.words(self.first))
        places = self.places()
        if len(places) > 1 and len({self.words(at) for at in places}) == 1:
            fields = ", ".join(f"{{{p.name}}}" for p in self.parameters)
            raise ValueError(f"alt must say what the values change: use {fields} in {self.alt!r}")

    @property
    def first(self) -> tuple[int, ...]:
        return tuple(p.start for p in self.parameters)

    def places(self) -> list[tuple[int, ...]]:
        return list(itertools.product(*(range(len(p.values)) for p in self.parameters)))

    def state(self, at: tuple[int, ...]) -> dict[str, Any]:
        return {p.name: p.values[i] for p, i in zip(self.parameters, at, strict=True)}

    def words(self, at: tuple[int, ...]) -> str:
        state = self.state(at)
        if callable(self.alt):
            return self.alt(**state)
        try:
            return self.alt.format(**state)
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"alt may use the fields {', '.join(state)} only, got {self.alt!r}"
            ) from error

    def frame(self, at: tuple[int, ...], prefix: str | None = None) -> tuple[str, list]:
        """The picture at `at`, and what must not change from frame to frame."""
        with canvas(self.size, self.rows, self.cols) as (fig, axes):
            self.draw(axes, **self.state(at))
            svg = picture(fig, described(self.words(at)), prefix)
            frozen = [tuple(fig.get_size_inches())]
            frozen += [(*ax.get_xlim(), *ax.get_ylim()) for ax in fig.axes]
        return svg, frozen

    # With a kernel.

    def widget(self) -> Any:
        """Show and return sliders and picture, drawn on demand."""
        import ipywidgets as widgets
        from IPython import get_ipython
        from IPython.display import display

        class Shown(widgets.VBox):
            """A box that its own cell does not show a second time as its last expression."""

            cell = None

            def _repr_mimebundle_(self, **kwargs: Any) -> Any:
                again = self.cell == get_ipython().execution_count
                return {} if again else super()._repr_mimebundle_(**kwargs)

        @cache
        def drawn(*at: int) -> str:
            return framed(self.frame(at)[0])

        def update(**indices: int) -> None:
            at = tuple(indices.values())
            show(drawn(*at), self.words(at))

        sliders = {
            p.name: widgets.SelectionSlider(
                options=[(text, i) for i, text in enumerate(p.texts)],
                value=p.start,
                description=p.label,
                style={"description_width": "initial"},
                layout={"width": "100%", "max_width": f"{100 * self.size[0]:.0f}px"},
            )
            for p in self.parameters
        }
        controls = list(sliders.values())
        if self.play:
            slider, interval = controls[0], _interval(self.parameters[0])
            player = widgets.Play(max=len(slider.options) - 1, interval=interval)
            widgets.jslink((player, "value"), (slider, "index"))
            controls.append(player)
        box = Shown([widgets.interactive_output(update, sliders), *controls])
        display(box)
        box.cell = get_ipython().execution_count
        return box

    # Without.

    def html(self) -> str:
        """A player of frames drawn now, that needs no kernel."""
        names, places = " × ".join(p.name for p in self.parameters), self.places()
        if len(places) > MOST_FRAMES:
            raise ValueError(
                f"{names} make {len(places)} frames, a page takes {MOST_FRAMES}: give fewer "
                "values, or one parameter less"
            )
        frames = [self.frame(at, prefix=_KEY) for at in places]
        self._refuse_jumps(places, [frozen for _, frozen in frames])
        html = self._player([svg for svg, _ in frames], places.index(self.first))
        html = html.replace(_KEY, "x" + hashlib.sha256(html.encode()).hexdigest()[:8])
        weight = len(html.encode())
        if weight > LIMIT:
            raise ValueError(
                f"the {len(places)} frames of {names} weigh {weight / 1000:.0f} KB, a page takes "
                f"{LIMIT // 1000}: give fewer values, fewer points, or rasterized=True"
            )
        return html

    def _refuse_jumps(self, places: list[tuple[int, ...]], frozen: list[list]) -> None:
        for at, now in zip(places, frozen, strict=True):
            if now != frozen[0]:
                raise ValueError(
                    "draw must fix size and limits, ax.set(xlim=…, ylim=…), and the scale of a "
                    f"colour bar: they are {frozen[0]} at {self.state(places[0])}, and {now} at "
                    f"{self.state(at)}"
                )

    def _player(self, svgs: list[str], first: int) -> str:
        base = svgs[first].split("\n")
        data = {
            "base": svgs[first],
            "frames": [_parts(base, svg.split("\n")) for svg in svgs],
            "texts": [p.texts for p in self.parameters],
        }
        table = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
        controls = "\n".join(_control(p, f"{_KEY}-{p.name}") for p in self.parameters)
        interval = _interval(self.parameters[0])
        button = (
            f'<button type="button" data-interval="{interval}" hidden style="{_BUTTON}">'
            "Play</button>\n"
        )
        script = (Path(__file__).parent / "player.js").read_text(encoding="utf-8")
        return (
            f'<figure class="explore" data-key="{_KEY}" style="margin:0 auto;padding:0;'
            f'max-width:{100 * self.size[0]:.0f}px">\n'
            f'<div class="theme-svg explore-stage">\n{svgs[first]}\n</div>\n'
            f'<div class="explore-controls" style="{_CONTROLS}">\n{controls}\n'
            f"{button if self.play else ''}</div>\n"
            f'<script type="application/json">{table}</script>\n'
            f"<script>{{\n{script.replace('KEY', _KEY)}}}</script>\n</figure>"
        )


_KEY = "explore-key"  # stands for the name of the figure until its content is known

_CONTROLS = "display:flex;flex-wrap:wrap;align-items:center;gap:.3em 1em;margin:.5em 0 .2em"
_ROW = "flex:1 1 20em;display:flex;flex-wrap:wrap;align-items:center;gap:0 1em"
_SLIDER = (
    "flex:1 1 12em;min-width:0;height:1.9em;margin:0;outline-offset:-2px;accent-color:#0072B2;"
    "cursor:pointer"
)
_BUTTON = (
    "font:inherit;color:inherit;background:none;border:1px solid currentColor;"
    "border-radius:.4em;padding:.15em 0;width:5em;cursor:pointer"
)


def _control(p: Parameter, name: str) -> str:
    """Label, value and slider of one parameter; the slider waits, hidden, for the script."""
    text, wide = escape(p.texts[p.start]), max(map(len, p.texts))
    return (
        f'<div style="{_ROW}"><span style="flex:none"><label for="{name}" style="margin:0">'
        f'{escape(p.label)}</label> <output for="{name}" aria-live="off" style="display:'
        f'inline-block;min-width:{wide}ch;margin-left:.4em;font-weight:600;'
        f'font-variant-numeric:tabular-nums">{text}</output></span>\n'
        f'<input id="{name}" type="range" min="0" max="{len(p.values) - 1}" value="{p.start}" '
        f'aria-valuetext="{text}" autocomplete="off" hidden style="{_SLIDER}"></div>'
    )


def _interval(p: Parameter) -> int:
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


def _parameters(
    values: Mapping[str, Sequence[Any]],
    labels: Mapping[str, str],
    start: Mapping[str, Any],
    formats: Mapping[str, str],
) -> tuple[Parameter, ...]:
    if not values:
        raise ValueError("explore needs a parameter with its values, as eta=[0.1, 0.2, 0.5]")
    for argument, given in (("labels", labels), ("start", start), ("formats", formats)):
        if unknown := set(given) - set(values):
            raise ValueError(
                f"{argument} names {', '.join(sorted(unknown))}, but the parameters are "
                f"{', '.join(values)}"
            )
    return tuple(
        _parameter(name, some, labels.get(name, name), start.get(name), formats.get(name))
        for name, some in values.items()
    )


def _parameter(
    name: str, values: Sequence[Any], label: str, start: Any, spec: str | None
) -> Parameter:
    plain = values.tolist() if hasattr(values, "tolist") else list(values)
    plain = [v.item() if hasattr(v, "item") else v for v in plain]
    numeric = all(isinstance(v, (int, float)) and math.isfinite(v) for v in plain)
    if not plain or not (numeric or all(isinstance(v, str) for v in plain)):
        raise ValueError(f"{name} must be a sequence of finite numbers or of texts, got {values!r}")
    if start is None:
        at = 0
    elif numeric:
        at = min(range(len(plain)), key=lambda i: abs(plain[i] - start))
    elif start in plain:
        at = plain.index(start)
    else:
        raise ValueError(f"start of {name} must be one of {plain}, got {start!r}")
    return Parameter(name, label, tuple(plain), _texts(plain, spec), at)


def _texts(values: list, spec: str | None) -> tuple[str, ...]:
    if spec is not None:
        return tuple(format(v, spec).replace("-", "−") for v in values)
    for digits in range(3, 17):
        texts = tuple(_text(v, digits) for v in values)
        if len(set(texts)) == len(set(values)):
            break
    return texts


def _text(value: Any, digits: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value == 0 or 1e-3 <= abs(value) < 1e5:
        rounded = value if isinstance(value, int) else float(f"{value:.{digits}g}")
        return f"{rounded:.15g}".replace("-", "−")
    mantissa, power = sci(value, digits).split("·")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}·{power}"
