"""Chapter 1, gradient descent: every expected value is computed here, none is written down."""

from __future__ import annotations

import math

import numpy as np

from dynbook.check import close, exercise, numbers


@exercise("1.1")
def best_heavy_ball(answer):
    eta, beta = numbers(answer, shape=(2,))
    if not (0 < eta < math.inf and 0 <= beta < 1):
        raise AssertionError("Learning rate first, η > 0; then momentum, 0 ≤ β < 1.")
    if math.isclose(beta, 9 / 11, rel_tol=1e-3):
        raise AssertionError("This is √β, the factor per step; the momentum is β.")
    if beta < 1e-3:
        raise AssertionError("With β = 0 this is plain gradient descent: momentum does better.")
    close(
        [eta, beta],
        [(2 / 11) ** 2, (9 / 11) ** 2],
        rtol=2e-4,
        name="(η, β)",
        hint="The slowest factor is √β if all eigenvalues are complex: how small can β be if both "
        "h = 1 and h = 100 are to stay on the circle?",
    )
    return "Each step keeps 9/11 of the error; plain gradient descent keeps 99/101 at best."


@exercise("1.2")
def three_in_series(answer):
    limit = numbers(answer, shape=()).item()
    flattest = 3.0  # |(vw, uw, uv)|² where u = v = w = 1
    if math.isclose(limit, flattest, rel_tol=1e-3):
        raise AssertionError("This is the sharpness; up to which η is it harmless?")
    if math.isclose(limit, 1 / flattest, rel_tol=1e-3):
        raise AssertionError("Up to 1/S errors keep their sign. They still shrink beyond.")
    if math.isclose(limit, 2 / 9, rel_tol=1e-3):
        raise AssertionError(
            "This holds for one weight used three times, ½(1 − x³)². Three weights have a gradient "
            "of three entries."
        )
    if math.isclose(limit, 1, rel_tol=1e-3):
        raise AssertionError("This is the limit for two weights; the third adds to the sharpness.")
    close(
        limit,
        2 / flattest,
        rtol=2e-3,
        hint="Where uvw = 1 the Hessian is ggᵀ with g = (vw, uw, uv). How small can |g|² be?",
    )
    return "In general 2/N for N weights in series: the deeper, the smaller the step must be."


@exercise("1.3")
def saturated_limit(answer):
    rate, features = numbers(answer, shape=()).item(), 100 + 1
    if math.isclose(rate, 2 / 100, rel_tol=2e-3):
        raise AssertionError("The output has a bias too, and it moves.")
    if math.isclose(rate, 1 / features, rel_tol=2e-3):
        raise AssertionError("A step is stable while |1 − ηS| ≤ 1: up to 2/S, not 1/S.")
    if math.isclose(rate, features, rel_tol=2e-2):
        raise AssertionError("That is the sharpness. Up to which rate is a step stable there?")
    close(
        rate,
        2 / features,
        rtol=2e-3,
        hint="H = (1/n) Σ g gᵀ with the gradient g of the output in (w, c), here the same at all "
        "points; its only eigenvalue that is not zero is ‖g‖².",
    )
    return "The wider a saturated network, the lower its speed limit."


@exercise("1.4")
def exit_rate(answer):
    x = np.linspace(-1, 1, 20)
    y = np.exp(-8 * (x - 0.3) ** 2)
    coupling = abs(np.mean((y.mean() - y) * x))
    rate, given = math.log1p(0.3 * coupling), numbers(answer, shape=()).item()
    if abs(given - math.log1p(coupling)) < 1e-3 * given:
        raise AssertionError("Is the learning rate in it? A step multiplies by 1 − ηh.")
    if abs(given - coupling) < 1e-3 * given:
        raise AssertionError(
            "That is |h|. By what does a step multiply, and what is the logarithm?"
        )
    if abs(given - 0.3 * coupling) < 1e-4 * given:
        raise AssertionError(
            "Nearly: that is the factor less 1; an exponent is the factor's logarithm."
        )
    if abs(given + 0.3 * coupling) < 0.02 * 0.3 * coupling:
        raise AssertionError("That direction contracts; its partner grows.")
    if given == 0:
        raise AssertionError("Zero is the answer for the bump in the centre; this one is shifted.")
    close(
        given,
        rate,
        rtol=1.5e-3,
        hint="All that is left of ∇²f couples w_h with A_h: the mean of r x over the points. What "
        "are the eigenvalues of a symmetric 2 × 2 matrix with zeros on its diagonal?",
    )
    return "Every neuron has this exit; for the centred bump it is closed."


@exercise("1.5")
def conserved_sums(answer):
    given = numbers(answer, shape=()).item()
    inputs, first, last, classes = 64, 30, 20, 10
    objections = {
        last: "Almost: the output biases are weights too, those of a unit that is always 1.",
        first + last + 2: "A sigmoid is no softmax: add a number to its inputs, and it notices.",
        last * classes: "The weights themselves move; which sums of them stay?",
        (last + 1) * classes: "The weights themselves move; which sums of them stay?",
        classes: "Count the units that the sums belong to, not the outputs they run over.",
        inputs + 1: "The sums belong to the units before the softmax, not to the inputs.",
    }
    if given in objections:
        raise AssertionError(objections[given])
    close(
        given,
        last + 1,
        rtol=1e-9,
        hint="One sum for each unit whose outgoing weights all end in the softmax, the constant "
        "unit of the biases included.",
    )
    return "As many directions in which no perturbation is ever forgotten."


@exercise("1.6")
def finite_variance(answer):
    batch, d, lr = numbers(answer, shape=()).item(), 100, 1.0
    if batch == d + 1:
        raise AssertionError("At this batch the variance just fails to be finite: one row more.")
    if batch in (d - 1, d):
        raise AssertionError("E AΣA is not HΣH: the fourth moments of a Gaussian count as well.")
    if batch == 1:
        raise AssertionError("That would do for the mean, which never sees the batch.")
    least = next(
        B for B in range(1, 1000) if (1 - lr) ** 2 + lr**2 * (d + 1) / B < 1 - 1e-12
    )  # E‖δ'‖²/‖δ‖² = 1 − 2η + η²(1 + (d + 1)/B)
    close(
        batch,
        least,
        rtol=1e-9,
        hint="All h_i are 1: solve g < 1 for B, a whole number.",
    )
    return "To walk half as fast as the full batch, a minibatch needs more rows than weights."


@exercise("1.7")
def price_of_stability(answer):
    noise, steps = numbers(answer, shape=(2,))
    exact = math.sqrt(1 / 0.99 - 1)
    if not 0 < noise < math.inf:
        raise AssertionError("The noise should be a positive number.")
    if math.isclose(noise, exact**2, rel_tol=0.02):
        raise AssertionError("This is the variance s² of the noise; its standard deviation is s.")
    if math.isclose(noise, 1.0, rel_tol=0.02):
        raise AssertionError("This halves the eigenvalue; half the lifetime is twice ln λ.")
    close(
        noise,
        exact,
        rtol=6e-3,
        name="the noise",
        hint="Half the lifetime means twice ln λ, so λ² in place of λ: which s makes "
        "s_k/(s_k + s²) of this mode's size?",
    )
    healing = math.log(1e-3) / math.log1p(-0.5 * exact**2)
    if math.isclose(steps, math.log(1e-3) / math.log1p(-0.5 * exact), rel_tol=0.02):
        raise AssertionError("The rate is 1 − ηs², with the variance of the noise.")
    if math.isclose(steps, math.log(1e-3) / math.log1p(-0.5 * (1 + exact**2)), abs_tol=1):
        raise AssertionError("That is the direction with data; one without has s_k = 0.")
    close(
        steps,
        healing,
        rtol=5e-3,
        name="the number of steps",
        hint="In a direction without data the weight is multiplied by 1 − ηs² in each step.",
    )
    return "Noise of a tenth of the signal halves the memory, and takes a thousand steps to heal."
