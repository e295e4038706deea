"""ReLU Gram spectra and low-pass filtering."""

from __future__ import annotations

import math

import mpmath
from pytest import approx

from quoted import Within


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


QUOTED = {
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
    "fem_scaled": approx(3.79e-5, rel=0.15),  # float32: 3.8e-5 with torch 2.13, 4.1e-5 with 2.15
    "uniform32_worst": Within(1, 10),
    "adaptive_max": Within(0.0035, 0.0045),
    "fem_max": Within(3e-4, 4e-4),
    "fem_times": Within(8, 10.5),
    "blame_gram": Within(0.03, 0.12),
    "blame_clean": Within(0.04, 0.06),
    "blame_qr": approx(1e-4, rel=0.3),
    "blame_qr_number": approx(1e-4, rel=0.3),
    "blame_numpy": approx(1e-4, rel=0.3),
    "blame_lstsq": Within(0.1, 3),  # rounding alone: 0.14 with torch 2.15
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
}
