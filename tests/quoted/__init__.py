"""What the prose of each chapter quotes, beside what it should be and how closely: one file each.

The right-hand sides come from a closed form worked out there, a published table, or, for a random
experiment, the band in which ten other seeds land. Nothing here calls the package.
"""

from __future__ import annotations


class Within:
    """A band, for what theory bounds or a random experiment spreads over."""

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high

    def __eq__(self, x: object) -> bool:
        return self.low <= x <= self.high

    def __repr__(self) -> str:
        return f"between {self.low:g} and {self.high:g}"
