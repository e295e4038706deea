"""What the prose of each chapter quotes, beside what it should be and how closely: one file each.

The right-hand sides come from a closed form worked out there, a published table, or, for a random
experiment, the band in which ten other seeds land. Nothing here calls the package.
"""

from __future__ import annotations

import importlib
import re


class Within:
    """A band, for what theory bounds or a random experiment spreads over."""

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high

    def __eq__(self, x: object) -> bool:
        return self.low <= x <= self.high

    def __repr__(self) -> str:
        return f"between {self.low:g} and {self.high:g}"


def number(text: str) -> float | str:
    """The number in a quoted text: 6.1 ± 0.4 is 6.1, 1.3·10⁻⁵ is 1.3e-5."""
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
    plain = text.translate(raised).split(" ±")[0].replace("·10", "e")
    return float(plain) if re.fullmatch(r"-?[\d.]+(e-?\d+)?", plain) else text


def differences(chapter: str, published: dict[str, float | str]) -> list[str]:
    """What a chapter published and what it should have, a line for each that differs."""
    expected = importlib.import_module(f"quoted.chapter_{chapter}").QUOTED
    values = {k: number(v) if isinstance(v, str) else v for k, v in published.items()}
    lost = [f"{name} is not quoted" for name in expected if name not in values]
    return lost + [
        f"{name} is {values[name]!r}, should be {wanted!r}"
        for name, wanted in expected.items()
        if name in values and not isinstance(wanted, str) and not values[name] == wanted
    ]
