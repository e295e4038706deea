"""Chapter 7, reservoirs, state spaces, filters: every expected value is computed."""

from __future__ import annotations

import math

from scipy.optimize import brentq

from dynbook.check import close, exercise, numbers


@exercise("7.1")
def two_echoes(answer):
    r, exponent = numbers(answer, shape=(2,)).tolist()
    right = brentq(lambda x: math.tanh(1.5 * x) - x, 0.1, 1)
    slope = 1.5 * (1 - right**2)
    if math.isclose(r, -right, rel_tol=1e-3):
        raise AssertionError("That is where the other start ends; from r₁ = 1?")
    if abs(r) < 1e-3:
        raise AssertionError(
            "From (1, 1)? 0 is a fixed point, but an unstable one: the slope there is w > 1."
        )
    close(
        r,
        right,
        rtol=3e-3,
        name="r₁",
        hint="With neuron 2 at 1, its push and the input cancel: what is left for neuron 1?",
    )
    if math.isclose(exponent, slope, rel_tol=1e-2):
        raise AssertionError("This is the factor per step; the exponent is its logarithm.")
    if math.isclose(exponent, math.log(1 - right**2), rel_tol=1e-2):
        raise AssertionError(
            "The chain rule has one more factor: what is multiplied by r₁ in tanh?"
        )
    close(
        exponent,
        math.log(slope),
        rtol=3e-3,
        name="the exponent",
        hint="The derivative of tanh is 1 − tanh².",
    )
    return "Radius zero, negative exponents, and two echoes: neither number speaks of all starts."


@exercise("7.2")
def who_comes_third(answer):
    alpha = numbers(answer, shape=()).item()
    third = -41 / 3 - 0.906
    right = 1 - math.exp(0.02 * third)
    for wrong, hint in (
        (math.exp(0.02 * third), "This is 1 − α, what is kept of r in a step."),
        (-0.02 * third, "That is to first order in Δt; a step multiplies by 1 − α exactly."),
        (1 - math.exp(third), "This is for a unit of time; how long is a step?"),
        (1 - math.exp(-0.02 * 41 / 3), "This is the sum of the three; λ₁ is one of them."),
        (1 - math.exp(0.02 * (-41 / 3 + 0.906)), "λ₃ = −41/3 − λ₁: mind the sign."),
    ):
        if math.isclose(alpha, wrong, rel_tol=2e-3):
            raise AssertionError(hint)
    close(
        alpha,
        right,
        rtol=2e-3,
        name="α",
        hint="With W = 0 the tangent of a step is (1 − α) times the identity: its exponent per "
        "unit of time? Set it equal to λ₃.",
    )
    return "Who forgets more slowly than the teacher contracts hides the teacher's third exponent."


@exercise("7.3")
def slow_because_fast(answer):
    dt, N = numbers(answer, shape=()).item(), 64

    def decay(n, dt):
        return math.log(abs((1 - n * dt / 2) / (1 + n * dt / 2)))

    right = brentq(lambda dt: decay(N, dt) - decay(1, dt), 2.5 / N, 1.9)
    if math.isclose(dt, 2 / N, rel_tol=1e-2):
        raise AssertionError(
            "This is where Euler's step becomes unstable; here mode 64 vanishes, for nΔ/2 = 1."
        )
    if math.isclose(dt, 2, rel_tol=1e-2):
        raise AssertionError(
            "Here the first mode vanishes. When is another one slower for the first time?"
        )
    if math.isclose(dt, 2 * right, rel_tol=1e-2) or math.isclose(dt, right / 2, rel_tol=1e-2):
        raise AssertionError("A factor of two: the eigenvalues of Ā depend on nΔ/2.")
    close(
        dt,
        right,
        rtol=2e-3,
        name="the step",
        hint="Which modes can be the slowest? When is |1 − a|/(1 + a) the same for two a?",
    )
    return "A rule that cannot explode need not forget: stiff modes survive as flips of the sign."


@exercise("7.4")
def variance_under_inflation(answer):
    variance = numbers(answer, shape=()).item()
    rho = 1.1
    if abs(variance - (rho**2 - 1)) < 1e-3:
        raise AssertionError("So large it is before a sample; the exercise asks for after.")
    if abs(variance - (1 - 1 / rho)) < 1e-3 or abs(variance - (rho - 1)) < 1e-3:
        raise AssertionError("Members are stretched by ρ; what does that do to their variance?")
    if abs(variance) < 1e-3:
        raise AssertionError("Without inflation it falls to zero; with it, something balances.")
    close(
        variance,
        1 - rho**-2,
        rtol=5e-3,
        name="the variance",
        hint="Stretch, then use a sample: which P comes back as P?",
    )
    return "It weighs old samples less and less, as if there were about six of them."
