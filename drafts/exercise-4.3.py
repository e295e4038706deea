@exercise("4.3")
def best_share(answer):
    p0 = numbers(answer, shape=()).item()
    if not 0 < p0 < 1:
        raise AssertionError("The answer is a share, between 0 and 1.")
    if p0 > 0.85:
        raise AssertionError(
            "With N fixed, small steps are the most precise, but there are more of them: choose N "
            "for the error that is asked for, and count all networks, K N."
        )
    if abs(p0 - math.exp(-1)) < 2e-3 or abs(p0 - math.exp(-2)) < 2e-3:
        raise AssertionError("Almost: the variance of a level has 1 − p₀ in it, not 1.")
    if abs(p0 - 0.1) < 1e-9:
        raise AssertionError("That is the choice of the package, near the best and not the best.")
    # the root of d/dp of ln(1 − p) − ln p − 2 ln(−ln p)
    best = brentq(lambda p: -1 / (1 - p) - 1 / p - 2 / (p * math.log(p)), 0.05, 0.5)
    close(
        p0,
        best,
        rtol=3e-3,
        name="p₀",
        hint="Solve the variance for N, multiply by K, and minimise over p₀: ln² p₀ appears.",
    )
    return "At a tenth it costs ten per cent more: the minimum is flat."
