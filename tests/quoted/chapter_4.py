"""Rashomon sets."""

from __future__ import annotations

import math

from pytest import approx

from quoted import Within

QUOTED = {
    # 4.1: how likely is a good network? Bands: eight other seeds
    "h_median": approx(4.098, abs=0.02),
    "h_zero": approx(0.231, abs=0.02),  # per cent
    "h_best": Within(0.55, 0.74),
    "h_gap": Within(1e-16, 1e-12),  # rounding
    "h_grid": Within(1e-7, 1e-5),
    # 4.2: a bound, and what it sees. Theorems, and bands around a run of four million
    "i_printed": approx(0, abs=1e-12),
    "i_low": Within(0.0168, 0.0186),
    "i_high": Within(0.0176, 0.0194),
    "i_bound": approx(math.exp(-8 * 0.1**2 / (2 * 30**2) * (1024 / 35) ** 2), abs=1e-5),
    "i_wave": approx(math.exp(-8 * 0.25**2 / (2 * (30 * 0.089392) ** 2)), abs=1e-5),
    "i_counted": Within(5e-6, 3.5e-5),
    "i_empty": approx(1 - 30 * 0.010113, abs=1e-4),
    "i_two": approx(2.5, abs=0.02),
    "i_three": approx(3, abs=0.02),
    "i_plane_rms": approx(2.5, abs=0.03),
    # 4.3: rare events; bands of the live runs from eight seeds, of the recorded ones from their
    # intervals, the others are deterministic
    "j_device": "device",
    "j_date": "date",
    "j_scored": Within(500_000, 610_000),  # ten to twelve rungs
    "j_hand": Within(10.7, 12.0),
    "j_deep": Within(11.0, 11.35),
    "j_deep_half": Within(0.05, 0.25),
    "j_judged": Within(0, 0.09),
    "j_ratio": Within(0.75, 1.3),
    "j_ratio_half": Within(0.07, 0.35),
    "j_bias": approx(33, abs=0.5),
    "j_least": Within(0.1545, 0.1565),  # with its certificate, to a thousandth
    "j_slope": Within(0.21, 0.235),
    "j_rate": approx(0.2248, abs=2e-4),
    "j_hoeffding_slope": approx(0.16 / (2 * 30**2 * 0.089392**2) / math.log(10), rel=1e-3),
    "j_start": Within(5.0, 5.6),
    "j_nu_growth": Within(3.2, 3.5),
    "j_fast": Within(11.6, 12.4),
    "j_kappa_growth": approx((0.089392 / 0.010113) ** 2, rel=1e-3),
    "j_empty": Within(5.69, 5.75),
    "j_empty_kappa": Within(6.2, 6.27),
    "j_two": Within(0.815, 0.819),
    "j_straight": Within(96.5, 98.5),
    "j_theory_gap": Within(0, 0.2),
    "j_theory_gap8": Within(0.3, 0.65),
    "j_sharp_slope": approx(0.237, abs=0.002),
    "j_slope_half": Within(0.002, 0.03),
    # 4.4: inside the set. Bands: three seeds of every generator (440-458, +1000, +2000), widened
    "k_weight": Within(0.70, 0.77),
    "k_heavy": Within(7.2, 7.45),
    "k_heavy_prior": Within(6.05, 6.2),
    "k_f5": Within(78.3, 78.6),
    "k_right5": Within(88, 95),
    "k_right7": Within(52, 68),
    "k_right9": Within(2, 35),
    "k_gap": Within(0.05, 0.25),
    "k_gap_max": Within(0.2, 1.1),
    "k_sine": Within(0.999, 0.9997),
    "k_reached": Within(44, 67),
    "k_measure": Within(3e-8, 1.5e-7),
    "k_decades": Within(6.5, 7.3),
    "k_reached1": Within(93, 100),
    "k_reached3": Within(6, 22),
    "k_low": Within(4, 12),
    "k_ks_a": Within(0.1, 0.25),
    "k_ks_b": Within(0.07, 0.2),
    "k_ks_low": Within(0.45, 0.72),
    "k_null": Within(0.03, 0.3),
    "k_s1": approx(3.9, abs=0.05),
    "k_lines": approx(97.9, abs=0.3),
    "k_exponent": approx(1.85, abs=0.03),
    "k_rate": approx(8 * 0.2248, abs=2e-3),
    "k_fast_gap": Within(0.9, 1.5),
    "k_fast_sharp": Within(0, 0.5),
    "k_nothing": Within(23, 27),
    "k_seeing": Within(2.7, 3.4),
    "k_deepest": Within(0.5, 8),
    "k_steps": Within(3.5, 4.3),
    "k_longer3": Within(12, 42),
    "k_straight": Within(5, 30),
    "k_arrival": Within(400, 650),
    "k_moved_a": Within(0.17, 0.28),
    "k_moved_b": Within(0.15, 0.27),
    "k_weight_trained": Within(0.5, 0.55),
    "k_weight_uniform": Within(0.59, 0.63),
    # a share of the neurons turns: neither all nor none; the Gaussian's exponent grows like ν
    "k_turned": Within(2.5, 4),
    "k_plane": Within(8.2, 8.8),
    "k_plane_gauss": Within(94, 100),
}
