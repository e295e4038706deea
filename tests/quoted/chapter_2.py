"""Depth as time."""

from __future__ import annotations

import math

import mpmath
from pytest import approx

from quoted import Within


def newman(n: int) -> float:
    """Twice the largest exponent of Gaussian n × n matrices of variance 1/n: ln ‖Jv‖² a factor."""
    return float(mpmath.log(mpmath.mpf(2) / n) + mpmath.digamma(mpmath.mpf(n) / 2))


QUOTED = {
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
    "solved_128": Within(0.009, 0.015),  # another LAPACK, another tenth
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
}
