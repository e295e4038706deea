"""Chapter 4, Rashomon sets: every expected value is computed here, none is written down."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import brentq

from dynbook.check import close, exercise, numbers
from dynbook.gram import relu_gram
from dynbook.modes import training_modes
from dynbook.oscillations import wave


@exercise("4.1")
def one_neuron(answer):
    eps = numbers(answer, shape=()).item()
    b = np.linspace(-0.99, 0.99, 20_001)
    g = wave(math.pi).g(torch.from_numpy(b)[:, None]).numpy()
    left = (1 - 3 * g**2 / (1 - b) ** 3).min()
    if not 0 < eps < 1:
        raise AssertionError("A relative error between 0 and 1: with a = 0 it is 1 already.")
    if math.isclose(eps, left, rel_tol=1e-3):
        raise AssertionError("This is ε²: the set is about the norm, not about its square.")
    if math.isclose(eps, math.sqrt(1 - left), rel_tol=1e-2):
        raise AssertionError("This is the norm of what the neuron explains; what does it leave?")
    close(
        eps,
        math.sqrt(left),
        rtol=2e-4,
        name="the relative error",
        hint="For each kink b the loss is a parabola in a. What does its minimum leave, and for "
        "which b the least?",
    )
    return "One neuron leaves almost everything; as it is broad, f oscillates away beneath it."


@exercise("4.2")
def last_frequency(answer):
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


@exercise("4.4")
def one_mode(answer):
    x = (torch.arange(400, dtype=torch.float64) + 0.5) / 200 - 1
    kernel = (relu_gram(1.0, x) + relu_gram(1.0, -x)) / 4  # the mean over w = ±1 and b
    rate = training_modes(kernel, 7).rates[6].item()
    nats = 3 * 8 / (2 * 60**2) * 0.5**2 / rate
    given = numbers(answer, shape=()).item()
    for wrong, hint in (
        (nats, "That is the exponent, in natural logarithms: how many decades is it?"),
        (-nats / math.log(10), "The size is right; a cost is positive."),
        (4 * nats / math.log(10), "h need not be f: the cheapest h that is good is nearer to 0."),
        (
            nats / 4 / math.log(10),
            "K is a mean over neurons, of weight 1/4 on dw db: is yours a sum?",
        ),
        (2 * nats / math.log(10), "Is there a ½ in the exponent of your Gaussian?"),
    ):
        if abs(given - wrong) < 0.01 * abs(wrong):
            raise AssertionError(hint)
    close(
        given,
        nats / math.log(10),
        rtol=0.01,
        hint="All of h should be in mode 7: which multiple of u_7 is at distance ε from it? Divide "
        "its square by λ_7 (relu_modes.rates[6]).",
    )
    return "One mode, one number: rarity is the square of what is asked over what is offered."
