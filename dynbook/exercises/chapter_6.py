"""Chapter 6, residual networks and energy: every expected value is computed."""

from __future__ import annotations

import math

from dynbook.check import close, exercise, numbers


def _whole(answer) -> int:
    n = numbers(answer, shape=()).item()
    if n != round(n):
        raise AssertionError("The answer is a count, a whole number.")
    return int(n)


@exercise("6.1")
def layers_that_remember(answer):
    layers, T, omega = _whole(answer), 2, 3
    if layers < omega * T:
        raise AssertionError("With fewer than ω_max T layers no damping holds the fastest mode.")

    def left(L):
        return (1 - (omega * T / L) ** 2) ** (L / 2)

    enough = next(L for L in range(omega * T, 1000) if left(L) >= 0.5)
    for wrong, hint in (
        (
            enough - 1,
            "It keeps a little less than half. (With γ = ½hω² it looks like half, but this is only "
            "the beginning of a series.)",
        ),
        (7, "So many for each layer to keep half; but all together?"),
        (53, "So many for half of the energy; the mode itself?"),
    ):
        if layers == wrong:
            raise AssertionError(hint)
    close(
        layers,
        enough,
        rtol=0,
        name="the number of layers",
        hint="At ω = 0 a layer multiplies by 1 − hγ, with h = T/L and the least γ for this h.",
    )
    return "For twice the frequency it would take four times as many layers, only to stand still."


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
def states_to_keep(answer):
    states, T = _whole(answer), 20
    digits = math.log(1e-3 / 2.0**-23)

    def pieces(rate):
        return math.ceil(T * rate / digits)

    for wrong, hint in (
        (pieces(4) - 1, "Nearly. Is x(T) among them?"),
        (pieces(4) + 1, "x(0) need not be kept: nothing starts from there."),
        (pieces(5), "So many for the state to be right; its error is weighed with e^(λ₁s)."),
        (pieces(6), "λ₁ is negative: does a weight e^(λ₁s) help or harm?"),
    ):
        if states == wrong:
            raise AssertionError(hint)
    close(
        states,
        pieces(4),
        rtol=0,
        name="the number of states",
        hint="The error is ε e^((λ₁ − λ_D)s) until the first fresh start, and matters most there: "
        "how large may s be?",
    )
    return "Later pieces weigh less and could be longer: equal distances are not the best ones."


@exercise("6.4")
def no_grid(answer):
    value = numbers(answer, shape=()).item()
    coarse, fine = (1 + 1 / 8) ** 8, (1 + 1 / 16) ** 16
    for wrong, hint in (
        (fine, "The finer one alone is wrong by order h."),
        ((coarse + fine) / 2, "A mean is wrong by order h too; both are too small."),
        (fine**2 / coarse, "Order h², too, but no sum of multiples: find the two factors."),
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
