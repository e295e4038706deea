    # 4.1: how likely is a good network? Bands: eight other seeds
    "h_median": approx(4.098, abs=0.02),
    "h_zero": approx(0.231, abs=0.02),  # per cent
    "h_best": Within(0.55, 0.74),
    "h_gap": Within(1e-16, 1e-12),  # rounding
    "h_grid": Within(1e-7, 1e-5),
