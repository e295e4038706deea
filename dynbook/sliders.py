"""The sliders of a figure: what values a parameter takes, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from dynbook.figures import sci


@dataclass(frozen=True)
class Parameter:
    """One slider: its values, the texts that show them, and where it starts."""

    name: str
    label: str
    values: tuple
    texts: tuple[str, ...]
    start: int


def parameters(
    values: Mapping[str, Sequence[Any]],
    labels: Mapping[str, str],
    start: Mapping[str, Any],
    formats: Mapping[str, str],
) -> tuple[Parameter, ...]:
    """The sliders of a figure, from what its author says of them.

    Parameters
    ----------
    values : mapping
        Parameter → its values in order, finite numbers or texts.
    labels, start, formats : mapping
        Parameter → label, value to start at (the nearest of its numbers), and format
        specification of the values shown; each may leave parameters out.

    Raises
    ------
    ValueError
        If there is no parameter; values are no ordered finite numbers or texts, or would look the
        same; a label, start or format names no parameter; a start is not of the values' kind; or a
        format does not suit them.
    """
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
    plain = _plain(values)
    numeric = all(_is_number(v) for v in plain)
    if not plain or not (numeric or all(isinstance(v, str) for v in plain)):
        raise ValueError(
            f"{name} must be a list of finite numbers or of texts in the order of the slider, got "
            f"{values!r}; for one value write [{values!r}], for a switch ['off', 'on']"
        )
    texts = _texts(plain, spec, name)
    for i, text in enumerate(texts):
        if text in texts[:i]:
            raise ValueError(
                f"{name} has values that look the same, {plain[texts.index(text)]!r} and "
                f"{plain[i]!r} are both shown as {text!r}: drop one, or give a finer format"
            )
    return Parameter(name, label, tuple(plain), texts, _start(plain, start, numeric, name))


def _plain(values: Any) -> list:
    """Python numbers and texts in order; empty if `values` has no order or is a single one."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, (str, bytes, Set, Mapping)) or not isinstance(values, Iterable):
        return []
    return [v.item() if hasattr(v, "item") else v for v in values]


def _is_number(value: Any) -> bool:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and math.isfinite(value)


def _start(values: list, start: Any, numeric: bool, name: str) -> int:
    if start is None:
        return 0
    start = start.item() if hasattr(start, "item") else start
    if numeric and _is_number(start):
        return min(range(len(values)), key=lambda i: abs(values[i] - start))
    if not numeric and start in values:
        return values.index(start)
    wanted = "a finite number" if numeric else f"one of {values}"
    raise ValueError(f"start of {name} must be {wanted}, got {start!r}")


def _texts(values: list, spec: str | None, name: str = "values") -> tuple[str, ...]:
    if spec is not None:
        try:
            return tuple(format(v, spec).replace("-", "−") for v in values)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"formats of {name} must be a format specification of its values, as '.2f' for "
                f"numbers; {spec!r} is none: {error}"
            ) from None
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
