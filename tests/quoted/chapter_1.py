"""Gradient descent as a dynamical system."""

from __future__ import annotations

import math

from pytest import approx

from quoted import Within

QUOTED = {
    # 1.1: a step is a map
    "a_limit": approx(2 / (5 + math.sqrt(17)), rel=1e-9),
    "a_cycle": Within(0, 1e-6),  # contracts by e^−0.1 a step: e^−20 after 200
    "a_best": approx((1 - math.sqrt(0.1 * (5 - math.sqrt(17)))) ** 2, rel=1e-9),
    "a_plain": approx(math.log(1 - 0.1 * (5 - math.sqrt(17))), rel=1e-9),
    "a_ball": approx(math.log(1 - math.sqrt(0.1 * (5 - math.sqrt(17)))), rel=1e-9),
    "a_flow": approx(1, abs=0.1),
    "a_bent": approx(2, abs=0.15),
    # 1.2: the double well. Closed forms and Feigenbaum's constants; random: ten other seeds
    "b_limit": approx(1.302283463, abs=1e-9),
    "b_delta": approx(4.669201609, abs=2e-5),
    "b_window": approx(6),
    "b_triple": approx(math.log(3), abs=5e-4),  # standard error π/√6/1000/√200 = 9e-5
    "b_triple_error": approx(math.pi / math.sqrt(6) / 1000 / math.sqrt(200), rel=0.3),
    "b_scatter": approx(math.pi / math.sqrt(6) / 1000, rel=0.3),
    "b_scatter_other": Within(0.0105, 0.0155),
    "b_batch_other": Within(0.0125, 0.015),
    "b_lost_inside": approx(0, abs=0.05),  # theorem
    "b_lost_outside": Within(99.9, 100),
    "b_on_cycle": Within(99.9, 100),
    "b_less": Within(6, 9),
    "b_rim": Within(2.08, 2.14),
    "b_flow": Within(5.6, 6.1),
    # 1.3: the edge of stability. Theory: S = 2/η at the edge, and the balance of (eq-stabilise);
    # other bands: six other sets of five starts, and room for other processors
    "c_05": Within(0.94, 1.03),  # the slowest arrives last; others: 0.964 … 1.006
    "c_1": Within(0.99, 1.01),
    "c_2": Within(0.99, 1.01),
    "c_below": Within(0.2, 0.6),  # 0.28 … 0.47
    "c_rise": Within(22, 45),
    "c_rise_slow": approx(0, abs=0.1),
    "c_fall": Within(60, 95),  # 67 … 83
    "c_fall_runs": Within(16, 20),
    "c_summit": Within(1.1, 1.35),  # 1.19 … 1.25
    "c_flip": Within(99.5, 100),  # theory: every step
    "c_swing": Within(25, 90),
    "c_settled": Within(3, 30),
    "c_settled_runs": Within(2, 20),
    "c_ratio_low": Within(0.94, 1.01),
    "c_ratio_high": Within(0.99, 1.06),
    "c_ratio": approx(1, abs=0.04),  # theory
    "c_uphill": 120,  # the summary says: always
    "c_hunt": Within(0.002, 0.09),  # 0.007 … 0.048
    "c_saturated": approx(32 + 1, abs=0.05),  # H = ggᵀ with g = (±1, …, ±1, 1)
    "c_lost": Within(28, 40),
    "c_saturated_count": Within(24, 38),
    "c_final": Within(1e-6, 1e-3),  # 7e-6 … 2e-5
    # 1.4: the tangent of training. Bands: eight other seeds of the 250 starts; of what is recorded,
    # four standard errors
    "d_gap": Within(0, 1e-10),
    "d_best": Within(0.72, 0.92),
    "d_tangent": Within(-0.5, -0.15),
    "d_partial": Within(-0.65, -0.35),
    "d_loss": Within(0.3, 0.62),
    "d_margin": Within(-0.05, 0.25),
    "d_margin_low": Within(-0.3, 0.1),
    "d_margin_high": Within(0.05, 0.45),
    "d_nudged": Within(0.03, 0.33),
    "d_nudged_loss": Within(0.25, 0.6),
    "d_henon": approx(0.4192, abs=0.006),  # published; four standard errors
    "d_henon_sum": approx(math.log(0.3), rel=1e-6),
    "d_lorenz": approx(0.906, abs=0.05),
    "d_lorenz_zero": approx(0, abs=0.04),
    "d_lorenz_sum": approx(-41 / 3, abs=0.01),
    "d_residual": Within(0, 1e-9),
    "d_frame": Within(0.02, 1),
    "d_clv_turn": Within(15, 28),
    "d_clv_300": Within(-0.25, 0.12),
    "d_clv_1000": Within(-0.45, -0.22),
    "d_loss_300": Within(0.7, 0.85),
    "d_loss_1000": Within(0.8, 0.95),
    "d_inside": 10,  # recorded: the sentence is about the two others
    "d_lowest": Within(-0.45, -0.2),
    "d_highest": Within(0.1, 0.35),
    "d_beaten": Within(9, 12),
    "d_many_6000": Within(-0.44, -0.26),
    "d_many_30000": Within(-0.33, -0.15),
    "d_device": "device",
    "d_date": "date",
    # 1.5: Iris; bands from seven draws of flowers, starts and perturbations (recorded run: from six
    # groups of 12 other starts)
    "e_until": Within(25, 110),
    "e_slope": Within(0.07, 0.33),
    "e_slope_error": Within(0.002, 0.015),
    "e_slope_gap": Within(0, 1e-3),
    "e_rounding": Within(140, 215),
    "e_drift": Within(0, 1e-12),
    "e_zero": approx(11, abs=0),  # ten hidden units and the constant one of the biases
    "e_flat": Within(48, 70),
    "e_calm": Within(5e-5, 5e-4),
    "e_calm_count": Within(9, 16),
    "e_positive": Within(4, 14),
    "e_wild": Within(0.16, 0.27),
    "e_wild_low": Within(0.09, 0.21),
    "e_wild_high": Within(0.26, 0.37),
    "e_rise": Within(34, 48),
    "e_rise_low": Within(17, 35),
    "e_rise_high": Within(43, 54),
    "e_rise_late": Within(45, 51),
    "e_sharp": Within(4.8, 7),
    "e_edge": Within(0.28, 0.42),
    "e_edge_standard": Within(2.5, 4.8),
    "e_standard": Within(0.002, 0.0045),
    "e_nearer_calm": Within(0.96, 1),
    "e_nearer_wild": Within(0.3, 0.9),
    "e_quiet": Within(0, 5),
    "e_return": Within(35, 80),
    "e_grown": Within(3, 3.8),
    "e_loss_last": Within(0.028, 0.045),
    "e_best": approx(0, abs=0),  # the argument about the infimum needs one network without error
    "e_device": "device of the recorded run",
    "e_date": "date of the recorded run",
    # 1.6: noise. Theorems, and bands around six other seeds
    "f_rms": approx(4 / 7, rel=1e-9),  # 2B/(B + d + 1) for d = 4, B = 2
    "f_typical": approx(0.743, abs=0.012),
    "f_gap": Within(1e-11, 1e-5),
    "f_error": Within(0.25, 0.5),
    "f_single": Within(-0.08, 0.2),
    "f_first": Within(1.4, 2.1),
    "f_second": Within(1.2, 1.65),
    "f_first_exact": Within(0.6, 0.95),
    "f_second_exact": Within(1.0, 1.4),
    "f_first_drawn": Within(2.0, 2.9),
    "f_drawn": Within(-0.1, 0.2),
    "f_epochs": Within(1.25, 1.42),
    # 1.7: learned simulators. Bands: ten other seeds, for data, initial weights and noise alike
    "g_outside": Within(1, 9),  # of the sixteen unlearned eigenvalues
    "g_glorot": Within(26, 36),  # per cent of a thousand draws
    "g_slow": Within(0.88, 0.96),
    "g_noise_gap": Within(0.1, 0.9),  # per cent
    "g_best": Within(0.005, 0.031),
    "g_best_error": Within(0.02, 0.2),
    "g_tenth_error": Within(0.8, 1.0),
    "g_frozen": Within(1e-17, 1e-14),  # rounding
    "g_slope": Within(14, 36),  # per cent
    "g_adam": Within(18, 36),  # per cent
    "g_in": Within(0.03, 0.07),
    "g_near": Within(0.6, 1),
    "g_far": Within(0.99, 1),
    "g_graph": Within(0.02, 0.3),
    "g_graph_error": Within(0.9, 1.8),
    "g_law": Within(0.03, 0.07),
    "g_under_near": Within(2.4, 8.5),
    "g_under_far": Within(4, 9.5),
    "g_under_law": Within(18, 45),
    "g_rank": Within(0.8, 0.99),
    "g_rank_in": Within(0.35, 0.75),
    "g_half": Within(17, 45),
    "g_four": Within(0.04, 0.9),
}
