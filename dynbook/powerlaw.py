"""Power laws from data: a slope on log axes, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PowerLaw:
    """y ≈ prefactor · x^exponent.

    Attributes
    ----------
    exponent, prefactor : float
        Least-squares fit on log axes.
    half_width : float
        Half of the exponent's 95 % interval (Student's t; independent, equal errors in log y).
    """

    exponent: float
    prefactor: float
    half_width: float

    def __call__(self, x):
        return self.prefactor * np.asarray(x, dtype=float) ** self.exponent

    def __str__(self) -> str:
        """Exponent ± half-width, to the first digit that the interval leaves open."""
        digits = 2
        if self.half_width > 0:
            digits = min(max(-math.floor(math.log10(self.half_width)), 0), 6)
        sign = "−" if self.exponent < 0 else ""
        return f"{sign}{abs(self.exponent):.{digits}f} ± {self.half_width:.{digits}f}"


def power_law(x, y) -> PowerLaw:
    """Fit y = c x^s by least squares on log axes.

    The interval says how well a straight line describes *these* points. A drift of the local slope
    is not noise: where one is expected, compare theory and measurement on the same range.

    Parameters
    ----------
    x, y : array-like (n,), n ≥ 3
        Positive and finite; numpy, torch on the CPU, or lists.

    Raises
    ------
    ValueError
        If the lengths differ, are below three, or a value is not positive and finite.
    """
    from scipy.stats import t

    x, y = (np.asarray(v, dtype=float).reshape(-1) for v in (x, y))
    if len(x) != len(y) or len(x) < 3:
        raise ValueError(f"x and y must have the same length ≥ 3, got {len(x)} and {len(y)}")
    for name, v in (("x", x), ("y", y)):
        if not (np.isfinite(v) & (v > 0)).all():
            raise ValueError(f"{name} must be positive and finite for a power law, got {v.min():g}")
    lx, ly = np.log(x), np.log(y)
    slope, intercept = np.polyfit(lx, ly, 1)
    rest = ly - slope * lx - intercept
    error = np.sqrt(rest @ rest / (len(x) - 2) / ((lx - lx.mean()) ** 2).sum())
    return PowerLaw(float(slope), float(np.exp(intercept)), float(t.ppf(0.975, len(x) - 2) * error))
