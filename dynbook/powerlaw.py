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
        if 0 < self.half_width < math.inf:
            digits = min(max(-math.floor(math.log10(self.half_width)), 0), 6)
        exponent = round(self.exponent, digits) + 0.0  # −0 is written 0
        width = f"{self.half_width:.{digits}f}".replace("inf", "∞")
        return f"{exponent:.{digits}f} ± {width}".replace("-", "−")


def power_law(x, y) -> PowerLaw:
    """Fit y = c x^s by least squares on log axes.

    The interval says how well a straight line describes *these* points. A drift of the local slope
    is not noise: where one is expected, compare theory and measurement on the same range.

    Parameters
    ----------
    x, y : array-like (n,), n ≥ 3
        Positive and finite; lists, numpy, or torch of any type and device.

    Raises
    ------
    ValueError
        If x or y is no vector, the lengths differ or are below three, a value is not positive and
        finite, all x are equal, or the prefactor is too large or too small for a float.
    """
    from scipy.stats import t

    x, y = _vector(x, "x"), _vector(y, "y")
    n = len(x)
    if n != len(y) or n < 3:
        raise ValueError(f"x and y must have the same length ≥ 3, got {n} and {len(y)}")
    lx, ly = np.log(x), np.log(y)
    across, up = lx - lx.mean(), ly - ly.mean()
    if np.ptp(lx) == 0:
        raise ValueError(f"x must take two values or more for a slope, got {x[0]:g} throughout")
    slope = across @ up / (across @ across)
    intercept = ly.mean() - slope * lx.mean()
    if abs(intercept) > 700:
        raise ValueError(
            f"the prefactor would be e^{intercept:.0f}, beyond the range of a float: scale x or y, "
            "as x / x[0]"
        )
    rest = up - slope * across
    error = math.sqrt(rest @ rest / (n - 2) / (across @ across))
    return PowerLaw(float(slope), math.exp(intercept), float(t.ppf(0.975, n - 2)) * error)


def _vector(values, name: str) -> np.ndarray:
    if hasattr(values, "detach"):  # a torch tensor
        values = values.detach().cpu().double()
    values = np.asarray(values, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"{name} must be a vector (n,), got shape {values.shape}")
    bad = values[~(np.isfinite(values) & (values > 0))]
    if len(bad):
        raise ValueError(f"{name} must be positive and finite for a power law, got {bad[0]:g}")
    return values
