"""The sliders of a figure: what values a parameter takes, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    """The sliders of a figure, from what its author says of them; refuses unknown names."""
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
