"""Chapter 6, residual networks and energy: every expected value is computed."""

from __future__ import annotations

import math

from dynbook.check import close, exercise, numbers


@exercise("6.1")
def least_damping(answer):
    gamma, left = numbers(answer, shape=(2,))
    if math.isclose(gamma, 0.9, rel_tol=1e-3):
        raise AssertionError(
            "½hω² is only the beginning of a series; hγ is not small. Solve |1 − hγ + ihω| = 1."
        )
    if math.isclose(gamma, 9, rel_tol=1e-3):
        raise AssertionError("This is the greatest damping with which no mode grows; the least?")
    close(
        gamma,
        1.0,
        rtol=1e-6,
        name="the damping",
        hint="A layer multiplies a mode by 1 + h(iω − γ). When is its modulus 1 for ω = 3?",
    )
    if math.isclose(left, math.exp(-2), rel_tol=1e-3):
        raise AssertionError(
            "e^(−γT) is what the differential equation leaves; Euler's steps multiply by 1 − hγ."
        )
    if math.isclose(left, 0.8, rel_tol=1e-6):
        raise AssertionError("This is what one layer leaves; there are ten.")
    close(
        left,
        0.8**10,
        rtol=1e-6,
        name="what is left",
        hint="At ω = 0 a layer multiplies by 1 − hγ.",
    )
    return "A tenth is left after ten layers: this is what it costs to hold the fastest mode."


@exercise("6.2")
def longest_step(answer):
    h = numbers(answer, shape=()).item()
    omega = 2 * 3
    if math.isclose(h, 2 / omega**2, rel_tol=5e-3):
        raise AssertionError("y'' = −K₁²K₂² y: is that the frequency, or its square?")
    if math.isclose(h, 1 / omega, rel_tol=5e-3):
        raise AssertionError("Close: the layer has determinant 1. Up to which trace is it bounded?")
    if h <= 0 or h > 1e3:
        raise AssertionError(
            "Each layer is a 2×2 matrix of determinant 1 and trace 2 − h²ω²: when do its powers "
            "stay bounded?"
        )
    close(
        h,
        2 / omega,
        rtol=5e-3,
        name="the step",
        hint="Write the layer as a matrix. It has determinant 1; bounded powers need a trace "
        "between −2 and 2.",
    )
    return "Two steps per radian at the least: beyond, even the leapfrog explodes."


@exercise("6.3")
def half_gradient(answer):
    error = numbers(answer, shape=()).item()
    eps, first, last = 2.0**-23, -1.0, -5.0
    if math.isclose(error, eps, rel_tol=5e-2):
        raise AssertionError("That would need all exponents equal. Here the state is lost, early.")
    if math.isclose(error, 1, rel_tol=5e-2):
        raise AssertionError("The state is lost completely, but how much does it still weigh then?")
    if math.isclose(error, eps ** (last / first), rel_tol=5e-2):
        raise AssertionError(
            "The other way round: which exponent loses the state, and which weighs?"
        )
    if math.isclose(error, eps ** (1 - first / last), rel_tol=5e-2):
        raise AssertionError("At the time when ε e^(−λ_D s) = 1 the weight is e^(λ₁ s): insert s.")
    close(
        error,
        eps ** (first / last),
        rtol=5e-2,
        name="the error",
        hint="After which time s is the state lost, and what is the weight e^(λ₁ s) then?",
    )
    return "A fifth of the digits: what the slow direction has lost when the fast one is gone."


@exercise("6.4")
def no_grid(answer):
    value = numbers(answer, shape=()).item()
    coarse, fine = (1 + 1 / 8) ** 8, (1 + 1 / 16) ** 16
    for wrong, hint in (
        (fine, "The finer one alone is wrong by order h."),
        ((coarse + fine) / 2, "A mean is wrong by order h too; both are too small."),
        (2 * coarse - fine, "The wrong way: the finer one is nearer to the limit."),
        ((4 * fine - coarse) / 3, "That is right for an error of order h²; Euler's is of order h."),
        (math.e, "That is the limit; from the two numbers alone you come near it."),
    ):
        if math.isclose(value, wrong, rel_tol=1e-4):
            raise AssertionError(hint)
    close(
        value,
        2 * fine - coarse,
        rtol=1e-4,
        hint="Coarse = limit + c/8, fine = limit + c/16, and smaller terms: eliminate c.",
    )
    return "Two grids without the error of either: wrong by three parts in a thousand, not thirty."


@exercise("6.5")
def real_filters(answer):
    share = numbers(answer, shape=()).item()
    for wrong, hint in (
        (2 / math.pi, "This is what leaves, with the mean of |z|. What goes on?"),
        (math.pi / 4, "This is what leaves, and for complex z: here z is real."),
        (1 - math.pi / 4, "So it is for complex z; a real z is small more often."),
        (1 - math.sqrt(2 / math.pi), "Energy is a square: compare (E|z|)² with E|z|²."),
    ):
        if math.isclose(share, wrong, rel_tol=5e-3):
            raise AssertionError(hint)
    if not 0 < share < 1:
        raise AssertionError("A share of the energy lies between 0 and 1.")
    close(
        share,
        1 - 2 / math.pi,
        rtol=5e-3,
        hint="The modulus of z has a mean; the low pass takes it. Which share of E z² is (E|z|)²?",
    )
    return "Real filters are slower: more than a third goes on, against a fifth with complex ones."


@exercise("6.6")
def share_after_friction(answer):
    share = numbers(answer, shape=()).item()
    if abs(share - (1 - math.exp(-2))) < 0.02:
        raise AssertionError("That share is lost; the exercise asks for what is left.")
    if abs(share - math.exp(-1)) < 0.01:
        raise AssertionError("So much is left of the amplitude; the energy goes with its square.")
    if abs(share - math.exp(-4)) < 0.002:
        raise AssertionError(
            "Friction takes c p², and for small swings the mean of p² is E, not 2 E."
        )
    if abs(share - math.exp(-math.sqrt(2))) < 0.01:
        raise AssertionError(
            "The loss is the mean over both components, and the friction is in one of them only."
        )
    if abs(share - math.exp(-20)) < 1e-9:
        raise AssertionError(
            "The friction raises the loss by one per cent of σ², not by all of it."
        )
    close(
        share,
        math.exp(-2),
        rtol=0.03,
        name="the share",
        hint="Find c from c²⟨p²⟩/2, then the mean of dE/dt over a swing.",
    )
    return "Six sevenths are gone, and the test loss has risen by less than it scatters."
