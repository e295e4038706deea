"""Every number that the prose of a chapter quotes, beside what it should be and how closely.

The right-hand sides come from a closed form worked out here, a published table, or, for a random
experiment, the band in which ten other seeds land. Nothing here calls the package.
"""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path

import mpmath
import pytest

ROOT = Path(__file__).resolve().parents[1]
approx = pytest.approx


def kappa(k: int) -> float:
    """k-th root of cos κ cosh κ = −1."""


    def beam(z):
        return mpmath.cos(z) + 1 / mpmath.cosh(z)

    return float(mpmath.findroot(beam, (k - 0.5) * mpmath.pi))


def halving(k: int) -> float:
    """Steps that halve beam mode k at half the stable rate: ln 2 / −ln(1 − μ_k/2μ_1)."""
    return math.log(2) / -math.log1p(-((kappa(1) / kappa(k)) ** 4) / 2)


def exponent(k0: int, k1: int, power: int) -> float:
    """Slope of a straight line through ln (k − ½)^−(2p+2) against ln k: what a fit must find."""
    x = [math.log(k) for k in range(k0, k1 + 1)]
    y = [-(2 * power + 2) * math.log(k - 0.5) for k in range(k0, k1 + 1)]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum(
        (a - mean_x) ** 2 for a in x
    )


def newman(n: int) -> float:
    """Twice the largest exponent of Gaussian n × n matrices of variance 1/n: ln ‖Jv‖² a factor."""
    return float(mpmath.log(mpmath.mpf(2) / n) + mpmath.digamma(mpmath.mpf(n) / 2))


class Within:
    """A band, for what theory bounds or a random experiment spreads over."""

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high

    def __eq__(self, x: object) -> bool:
        return self.low <= x <= self.high

    def __repr__(self) -> str:
        return f"between {self.low:g} and {self.high:g}"


QUOTED = {
    "2-depth-as-time": {
        # 2.2: Gaussian products. Bands of random numbers: ten other seeds
        "z_worst": Within(1, 3.9),  # largest of twenty
        "naive_floor": Within(-0.22, -0.18),  # λ₁ + ln ε / L
        "exact_last": approx(float(mpmath.log(2 / 16) + mpmath.digamma(0.5)) / 2, rel=1e-9),
        "median_end": approx(math.exp(400 * newman(16)), rel=0.2),
        "above_mean": Within(0, 15),
        "wide10": approx((11 * math.log(11) - 10 * math.log(10)) / 20, rel=1e-12),
        "top10": approx(0.159, abs=0.006),
        "two10": Within(-0.02, 0.03),
        # 2.3: mean field, closed values by Gauss–Hermite quadrature or mpmath
        "wide_q": approx(2.253753, abs=1e-6),
        "phase_gap": Within(0.01, 0.07),
        "edge0": approx(1, abs=1e-6),
        "edge1": approx(1.193401, abs=1e-6),
        "edge3": approx(1.395584, abs=1e-6),
        "edge10": approx(1.855589, abs=1e-6),
        "edge_erf0": approx(math.sqrt(math.pi) / 2, abs=1e-6),
        "edge_relu0": approx(2, abs=1e-9),
        "cut_gap": Within(0.02, 0.055),
        "width_limit": approx(0.154724, abs=1e-5),
        "width20": approx(0.085, abs=0.012),
        "width100": approx(0.142, abs=0.01),
        "width400": approx(0.151, abs=0.012),
        "spread20": Within(0.038, 0.058),
        "width_cost": approx(1.317, abs=1e-3),
        "width_cost20": Within(1.15, 1.65),
        "width_cost20_error": Within(0.05, 0.09),
        "depth_order": approx(2.8065745, abs=1e-6),
        "depth_order_seen": Within(2.6, 3.0),
        "depth_chaos": approx(5.1089, abs=1e-3),
        "depth_below": approx(-1, abs=0.005),
        "depth_above": approx(-1, abs=0.01),
        "edge_left": approx(0.115769, abs=1e-5),
        "edge_left_seen": Within(0.07, 0.13),
        "order_left": approx(8.49e-6, rel=0.1),
        # 2.4: ridges
        "height_10_4": Within(3.5, 4.9),
        "height_160_4": Within(2.4, 2.75),
        "height_10_8": Within(5.7, 7.5),
        "height_160_8": Within(4.2, 4.8),
        "height_sd_10_8": Within(0.4, 1.8),
        "height_sd_160_8": Within(0.03, 0.35),
        "ratio_low": Within(3.1, 3.5),
        "ratio_high": Within(3.55, 4.1),
        "cos_after": Within(0.96, 1),
        "cos_before_10": Within(0.18, 0.38),
        "cos_before_160": Within(0.04, 0.07),
        "disc_accuracy": Within(96, 98.5),
        "wide_10_8": Within(5.7, 7.5),
        "wide_320_8": Within(3.5, 4.3),
        "wide_40_2": Within(1, 1.4),
        "wide_320_2": Within(1.3, 1.8),
        "wide_device": "device",
        "wide_date": "date",
        # 2.5: laziness
        "trap_low": Within(0.46, 0.52),
        "trap_high": Within(0.5, 0.59),
        "frozen_4": Within(0.24, 0.38),
        "frozen_128": Within(0.013, 0.025),
        "solved_4": Within(0.1, 0.35),
        "solved_16": Within(0.02, 0.05),
        "solved_128": Within(0.01, 0.015),
        "trained_4": Within(0.04, 0.05),
        "trained_16": Within(0.015, 0.05),
        "trained_128": Within(0.01, 0.022),
        "moved_4": Within(1.3, 2),
        "moved_128": Within(0.13, 0.175),
        "shrink": approx(-0.75, abs=0.1),
        # 2.6: digits
        "rho": Within(0.77, 0.9),
        "rho_low": Within(0.73, 0.88),
        "rho_high": Within(0.8, 0.92),
        "rho_tens_low": Within(0.7, 0.87),
        "rho_tens_high": Within(0.8, 0.93),
        "auc": Within(0.93, 0.97),
        "auc_low": Within(0.87, 0.95),
        "auc_high": Within(0.96, 0.99),
        "digits_wrong": Within(12, 28),
        "digits_accuracy": Within(96.4, 98.5),
        "single_accuracy": Within(94.7, 96.9),
        "rho_before": Within(-0.3, 0.2),
        "rho_nearest": Within(0.35, 0.53),
        "auc_nearest": Within(0.8, 0.93),
        "auc_doubt": Within(0.94, 0.99),
        "auc_max": Within(0.95, 0.99),
        "rho_one": Within(0.63, 0.72),
        "rho_one_own": Within(0.7, 0.79),
        "auc_one": Within(0.91, 0.945),
        "auc_one_own": Within(0.92, 0.95),
        "gap_1": Within(1.2, 1.55),
        # 2.7: backward; single networks of width 100
        "slope_08": approx(-0.235, abs=0.02),
        "rate_08": approx(-0.229, abs=0.02),
        "slope_25": approx(0.22, abs=0.06),
        "rate_25": approx(0.22, abs=0.06),
        "ratio_08": Within(1e-7, 2e-6),
    },
    "3-relu-gram": {
        # 3.1: G = VᵀMV to rounding; the condition numbers at n = 40
        "gap": Within(0, 1e-13),
        "cond_neurons": approx(48 / kappa(1) ** 4 * 40**4, rel=0.1),
        "cond_hats": Within(3.9, 4),
        # 3.2: the beam
        "kappa1": approx(kappa(1), rel=1e-12),
        "kappa1_error": approx(0, abs=1e-14),
        "trace": approx(4 / 3, abs=1e-6),
        "mu_slope1": approx(exponent(10, 40, 1), abs=0.02),
        "mu_slope2": approx(exponent(10, 40, 2), abs=0.02),
        "mu_gap": approx(2 / 1000, rel=0.1),  # left end points: an interval longer by 1/n
        "equi_constant": approx(48 / kappa(1) ** 4, rel=1e-4),
        "equi_fit": approx(4, abs=0.002),
        "random_fit": approx(6, abs=0.5),
        "adapted_constant": approx(9.2e3, rel=0.05),
        "fem_random_1000": Within(100, 1000),
        "fem_scaled_1000": Within(2, 3.01),  # tridiagonal, unit diagonal, off-diagonal at most ½
        "wave_gap": Within(math.exp(-math.pi) / math.sqrt(2), math.exp(-math.pi)),
        # 3.3: the disk (a Legendre–Galerkin computation per angular frequency, another author's)
        "disk1": approx(7.463945, abs=1e-6),
        "disk2": approx(1.890980, abs=1e-6),
        "disk4": approx(0.0792148, abs=1e-7),
        "disk6": approx(0.0621570554, abs=1e-9),
        "disk_gap": Within(0, 0.5),
        "disk_slope1": approx(-2.72, abs=0.006),
        "disk_slope2": approx(-3.98, abs=0.006),
        "disk_slope3": approx(-5.37, abs=0.006),
        "disk_measured": approx(-2.72, abs=0.03),
        "large_gap": Within(0, 0.1),
        "large_device": "device",
        "large_date": "date",
        "large_commit": "commit",
        "weyl_100": Within(1.5, 3),
        "weyl_1000": Within(1.2, 1.7),
        "weyl_10000": Within(1.02, 1.3),
        "ball_matrix": approx(-2.29, abs=0.1),
        "ball_line": approx(-2.293, abs=0.006),
        "square_matrix": approx(-2.72, abs=0.12),
        "kept_relu": 32,
        "kept_tanh": 6,
        "kept_gauss": 5,
        "kept_sine": 2,
        # 3.4: cut-offs
        "single": math.floor(((kappa(1) / math.pi) ** 4 * 2**23) ** 0.2),
        "double": round(((kappa(1) / math.pi) ** 4 * 2**52) ** 0.2),
        "single_qr": math.floor(kappa(1) * 2**11.5 / math.pi + 0.5),
        "single_eps": math.floor(kappa(1) * 2 ** (23 / 4) / math.pi + 0.5),
        "double_eps": math.floor(kappa(1) * 2**13 / math.pi + 0.5),
        # the table of the slides: float64 as printed, hats in float32 but for one pair
        "worst64": Within(0, 1),
        "hats32": 6,
        "constant_gap": approx(0, abs=1e-8),
        "empty": 121,
        "fem_scaled": approx(3.79e-5, rel=0.06),
        "uniform32_worst": Within(1, 10),
        "adaptive_max": Within(0.0035, 0.0045),
        "fem_max": Within(3e-4, 4e-4),
        "fem_times": Within(8, 10.5),
        "blame_gram": Within(0.03, 0.12),
        "blame_clean": Within(0.04, 0.06),
        "blame_qr": approx(1e-4, rel=0.3),
        "blame_qr_number": approx(1e-4, rel=0.3),
        "blame_numpy": approx(1e-4, rel=0.3),
        "blame_lstsq": Within(0.3, 3),
        "cond_psi": approx(math.sqrt(48) / kappa(1) ** 2 * 1000**2, rel=0.03),
        "noise_cut": approx(0.1 * math.sqrt(32 / 2000), rel=0.2),
        "noise_law": approx(0.1 * math.sqrt(32 / 2000)),
        "noise_all": approx(0.1, rel=0.1),
        "need_uniform": Within(22, 28),
        "need_adaptive": Within(7, 11),
        "above_uniform": 32,
        "above_adaptive": Within(25, 29),
        # 3.5: learning
        **{f"halve{k}": approx(halving(k), rel=1e-3) for k in range(2, 7)},
        "halve_gap": Within(0, 0.1),
        "fixed_law": approx(4, abs=0.05),
        "halve60": approx(halving(60) / 1e6, rel=0.01),
        "front_end": approx(0.5 + kappa(1) * (0.5e8 / math.log(2)) ** 0.25 / math.pi, rel=0.002),
        "stop_early": Within(0.8, 2),
        "stop_late": Within(3.4, 9.9),
        "stop_best": approx(0.0355, abs=0.005),
        "stop_end": approx(0.1 * math.sqrt(2), rel=0.05),
        "stop_noise": approx(0.1 * math.sqrt(2)),
        "stop_gain": Within(1, 9),
        "moved_law": Within(2.15, 2.4),
        "moved_high": approx(2.025, abs=0.02),
        "moved_small": approx(4, abs=0.1),
        "adam_fixed_law": approx(2, abs=0.1),
        "adam_moved_law": Within(1.2, 1.4),
        "adam_above": Within(5, 25),
        "speedup": approx(halving(6) / 287.8, rel=0.02),
        "ratio_lazy": approx(4 * (5.5 * math.pi / 2) ** 2 / (math.pi * math.sqrt(500))),
        "stall300": approx(0.69, abs=0.02),
        "stall1000": approx(0.632, abs=0.02),
        "stall10000": approx(0.35, abs=0.04),
        "stall_floor": approx(0.1185, abs=0.02),
        "crowd0": approx(8, abs=1),
        "crowd1000": Within(90, 100),
        "dead": Within(38, 48),
        "left_out": Within(18, 28),
    },
}


def number(text: str) -> float | str:
    """The number in a quoted text: 6.1 ± 0.4 is 6.1, 1.3·10⁻⁵ is 1.3e-5."""
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
    plain = text.translate(raised).split(" ±")[0].replace("·10", "e")
    return float(plain) if re.fullmatch(r"-?[\d.]+(e-?\d+)?", plain) else text


@pytest.fixture
def quoted(book, request) -> dict[str, float | str]:
    """What the executed page published: name → number, or text that is none."""
    file = book / "jupyter_execute" / "book" / f"{request.param}.glue.json"
    published = json.loads(file.read_text(encoding="utf8"))
    values = {k: ast.literal_eval(*v["data"].values()) for k, v in published.items()}
    return {k: number(v) if isinstance(v, str) else v for k, v in values.items()}


CASES = [(page, name) for page, expected in QUOTED.items() for name in expected]


@pytest.mark.parametrize("quoted, name", CASES, indirect=["quoted"])
def test_a_quoted_number_is_right(quoted, name, request):
    expected = QUOTED[request.node.callspec.params["quoted"]][name]
    if isinstance(expected, str):  # where and when a recorded experiment ran
        assert quoted[name], f"no {expected}"
    else:
        assert quoted[name] == expected


@pytest.mark.parametrize("quoted", QUOTED, indirect=True)
def test_no_number_is_quoted_untested_and_none_tested_unquoted(quoted, request):
    expected = QUOTED[request.node.callspec.params["quoted"]]
    assert set(quoted) == set(expected)


def prose(page: str) -> str:
    """A chapter's text without code, mathematics, roles, directives' options and link targets."""
    text = (ROOT / "book" / f"{page}.md").read_text(encoding="utf8").split("---", 2)[2]
    for pattern in (
        r"```\{code-cell\}.*?\n```",
        r"^```[^\n]*",
        r"\$\$.*?\$\$[^\n]*",
        r"\$[^$]+\$",
        r"\{[\w:]+\}`[^`\n]*`",
        r"`[^`\n]*`",
        r"^:\w+:[^\n]*",
    ):
        text = re.sub(pattern, " ", text, flags=re.S | re.M)
    return text


@pytest.mark.parametrize("page", QUOTED)
def test_every_decimal_in_the_prose_was_computed(page):
    """What is measured is quoted by {glue:text}; theory and settings stand in mathematics."""
    assert re.findall(r"[^\n]*\b\d+[.,]\d+\b[^\n]*", prose(page)) == []


@pytest.mark.parametrize("page", [p.stem for p in sorted((ROOT / "book").glob("[1-9]-*.md"))])
def test_every_chapter_has_its_numbers_here(page):
    assert page in QUOTED
