@exercise("4.2")
def last_frequency(answer):
    from scipy.optimize import brentq

    nu = numbers(answer, shape=()).item()

    def last(dim, radial=True, least=0.5):
        def spare(nu):
            f = wave(nu, dim, radial=radial)
            w = torch.eye(dim, dtype=torch.float64)[:1]
            return 30 * f.ridge(w, torch.zeros(1, dtype=torch.float64)).item() - least

        return brentq(spare, 2.0, 40.0)

    if math.isclose(nu, last(1), rel_tol=5e-3):
        raise AssertionError("This is the wave on the interval; take wave(nu, 2, radial=True).")
    if math.isclose(nu, last(2, radial=False), rel_tol=5e-3):
        raise AssertionError("This is the plane wave; the radial one is worse seen.")
    if math.isclose(nu, last(2, least=1.0), rel_tol=5e-3):
        raise AssertionError("There is a factor 1 − ε: for which κ is Aκ as small as 0.5?")
    close(
        nu,
        last(2),
        rtol=2e-3,
        name="the frequency",
        hint="Solve 30 κ(ν) = 1 − ε, with κ of wave(nu, 2, radial=True).",
    )
    return "One wavelength per radius is the end: from here on it takes larger weights, not more."
