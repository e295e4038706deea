"""A figure with sliders, with or without a kernel, from one call.

In a live notebook the sliders are ipywidgets and each picture is drawn when it is asked for. Where
there is no kernel, as on the pages of the book, all pictures are drawn beforehand and a few lines
of plain JavaScript put one of them in place: no library, no network, and a still picture where
there is no JavaScript.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from dynbook.figures import building, canvas, described, framed, in_notebook, picture, show
from dynbook.player import KEY, interval, player
from dynbook.sliders import Parameter, parameters

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
        As :func:`dynbook.sliders.parameters`, for what is said of the parameters; if `alt` is
        empty or the same for all values. Without a kernel also if there are more
        than 80 frames, if size or limits differ between frames, or if all together weigh more than
        400 KB.
    """
    sliders = parameters(values, labels or {}, start or {}, formats or {})
    explorable = Explorable(draw, alt, sliders, size, rows, cols, play)
    if in_notebook() and not building() and importlib.util.find_spec("ipywidgets"):
        return explorable.widget()
    html = explorable.html()
    if in_notebook():
        show(html, explorable.words(explorable.first))
    return None


@dataclass(frozen=True)
class Explorable:
    """A drawing and its parameters; :func:`explore` shows it.

    A *place* is one combination of values: the index of each parameter's value, in order.

    Attributes
    ----------
    draw, alt, size, rows, cols, play
        As in :func:`explore`.
    parameters : tuple of Parameter
        Its sliders.

    Raises
    ------
    ValueError
        If `alt` is empty or the same at all places.
    """

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
        """The place it starts at."""
        return tuple(p.start for p in self.parameters)

    def places(self) -> list[tuple[int, ...]]:
        """Every place, the last parameter changing fastest."""
        return list(itertools.product(*(range(len(p.values)) for p in self.parameters)))

    def state(self, at: tuple[int, ...]) -> dict[str, Any]:
        """The values at a place, as `draw` takes them."""
        return {p.name: p.values[i] for p, i in zip(self.parameters, at, strict=True)}

    def words(self, at: tuple[int, ...]) -> str:
        """The alternative text at a place.

        Raises
        ------
        ValueError
            If `alt` has a field that is no parameter.
        """
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
        """The picture at a place, and what must not change from frame to frame.

        Parameters
        ----------
        prefix : str, optional
            As in :func:`dynbook.figures.picture`.
        """
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
            p = self.parameters[0]
            button = widgets.Play(value=p.start, max=len(p.values) - 1, interval=interval(p))
            widgets.jslink((button, "value"), (controls[0], "index"))
            controls.append(button)
        box = Shown([widgets.interactive_output(update, sliders), *controls])
        display(box)
        box.cell = get_ipython().execution_count
        return box

    # Without.

    def html(self) -> str:
        """A player of frames drawn now, that needs no kernel.

        Raises
        ------
        ValueError
            If there are more than 80 frames, size or limits differ between them, or all together
            weigh more than 400 KB.
        """
        names, places = " × ".join(p.name for p in self.parameters), self.places()
        if len(places) > MOST_FRAMES:
            raise ValueError(
                f"{names} make {len(places)} frames, a page takes {MOST_FRAMES}: give fewer "
                "values, or one parameter less"
            )
        frames = [self.frame(at, prefix=KEY) for at in places]
        self._refuse_jumps(places, [frozen for _, frozen in frames])
        svgs, first = [svg for svg, _ in frames], places.index(self.first)
        html = player(svgs, first, self.parameters, self.size[0], self.play)
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
