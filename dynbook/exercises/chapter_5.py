"""Chapter 5, structured decomposition: every expected value is computed, none written down."""

from __future__ import annotations

import math

import torch

from dynbook.check import close, exercise, numbers
from dynbook.decomposition import turning_points
from dynbook.targets import chirp, localised_sine


@exercise("5.1")
def mesh_worth(answer):
    ratio = numbers(answer, shape=()).item()
    x = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 50_000 - 1
    bend = ((4e4 * x**2 - 200) * torch.exp(-((10 * x) ** 2))).abs()
    norm = (2 * bend.square().mean()).sqrt().item()
    best = 2 * bend.pow(0.4).mean().item()
    right = math.sqrt(4 * norm / best**2.5)
    if math.isclose(ratio, right**2, rel_tol=1e-2):
        raise AssertionError("This is the ratio of the errors at equal n, which go like n⁻².")
    if math.isclose(ratio, 1 / right, rel_tol=1e-2):
        raise AssertionError("The best mesh needs fewer kinks: turn the ratio round.")
    if math.isclose(ratio, right / 2, rel_tol=1e-2):
        raise AssertionError("On [−1, 1] equispaced kinks are 2/n apart, not 1/n.")
    close(
        ratio,
        right,
        rtol=3e-3,
        name="the ratio",
        hint="Put h = 2/n on the left and compare with the right; both go like n⁻⁴.",
    )
    return "So much is there to gain from moving kinks, however g_1 does it."


@exercise("5.2")
def linear_layer(answer):
    from scipy.integrate import dblquad

    factor = numbers(answer, shape=()).item()

    def mean(of):  # over w and b in (0, 1), where the kink is inside
        return dblquad(lambda b, w: of(w), 0, 1, 0, lambda w: w)[0]

    exact = mean(lambda w: w**2)
    if factor > 1:
        raise AssertionError("The other way round: how small is linear, divided by covering?")
    if math.isclose(factor, mean(lambda w: 1), rel_tol=5e-3):
        raise AssertionError("This is the share of kinks inside. Their slopes are not 1, either.")
    if math.isclose(factor, mean(lambda w: w), rel_tol=5e-3):
        raise AssertionError("A slope w scales the neuron by |w|, and the kernel, a square, by w².")
    if math.isclose(factor, mean(lambda w: 1) / 3, rel_tol=5e-3):
        raise AssertionError(
            "Half the kinks, and w² is 1/3 in the mean; but steep neurons are likelier to have "
            "their kink inside. Average over those."
        )
    close(
        factor,
        exact,
        rtol=5e-3,
        name="the factor",
        hint="What is the mean of w² over all neurons, counted as 0 where the kink is outside?",
    )
    return "Half the kinks, each with half the weight: the default starts with a quarter."


@exercise("5.3")
def needle_from_four_neurons(answer):
    a, b = torch.from_numpy(numbers(answer, shape=(2, 4), name="(a, b)"))
    x = torch.linspace(-1, 1, 1000, dtype=torch.float64)

    def missed(a, b):
        return (torch.relu(x[:, None] - b) @ a - localised_sine(x)).square().mean().item()

    error = missed(a, b)
    if error <= 2e-4:
        return "So capacity is not what a network of 143 trained numbers lacks."
    if missed(-a, b) <= 5e-4:
        raise AssertionError(
            "Upside down: left of 0 the sine is negative (and σ(x − b) has its kink at +b)."
        )
    if missed(b, a) <= 5e-4:
        raise AssertionError("First a, then b, please.")
    if abs(a.sum()) > 1e-6 * a.abs().sum() or abs(a @ b) > 1e-6 * a.abs().sum():
        raise AssertionError(
            "Right of the needle slope and value must be back at 0: Σ a_i = 0 and Σ a_i b_i = 0."
        )
    if error <= 5e-4:
        raise AssertionError(
            "Nearly. A line through the sine's extrema is below it everywhere else: go higher."
        )
    raise AssertionError(
        f"The mean square error is {error:.1g}. Where should the kinks of a zigzag with one crest "
        "and one trough be, and what is the change of slope at each?"
    )


@exercise("5.4")
def hat_density(answer):
    from scipy.optimize import minimize_scalar

    p = numbers(answer, shape=()).item()

    def best(k):  # two regions, bends 1 and 2, error Σ f''² ϱ^(−k) for ϱ and 1 − ϱ
        share = minimize_scalar(
            lambda u: u**-k + 4 * (1 - u) ** -k, bounds=(0.1, 0.5), options={"xatol": 1e-10}
        ).x
        return math.log2((1 - share) / share)

    if math.isclose(p, best(4), rel_tol=2e-3):
        raise AssertionError("That is best for the values; the exercise asks for the slopes.")
    if math.isclose(p, 1 / 2, rel_tol=2e-3):
        raise AssertionError(
            "That makes h²|f''| the same everywhere: best for the values in the maximum."
        )
    if math.isclose(p, 1, rel_tol=2e-3):
        raise AssertionError(
            "That makes h|f''| the same everywhere: best for the slopes in the maximum, not in "
            "mean square."
        )
    if math.isclose(p, -best(2), rel_tol=2e-3):
        raise AssertionError("That is the width of the cells; nodes are dense where it is small.")
    if math.isclose(p, best(2) / 2, rel_tol=2e-3):
        raise AssertionError("Of f''² it is; the exercise asks for the power of |f''|.")
    close(
        p,
        best(2),
        rtol=2e-3,
        name="α",
        hint="In a cell the slope is off by f'' times the distance from the middle. Minimise "
        "∫ f''² ϱ⁻² dx with ∫ ϱ dx fixed.",
    )
    return "An equal share of Σ h (f'' h)² for each cell: h³ f''² is the same in all of them."


@exercise("5.5")
def folds(answer):
    turns, layers = numbers(answer, shape=(2,)).tolist()
    right = turning_points(chirp(torch.linspace(-1, 1, 100_001, dtype=torch.float64)))
    if turns == right - 1:
        raise AssertionError("One is missing: what does the function do at 0?")
    if turns == right // 2:
        raise AssertionError("This is one side; the function is even.")
    close(
        turns,
        right,
        rtol=1e-9,
        name="the number of turning points",
        hint="Where is the sine ±1? Count both sides, and look at 0.",
    )
    least, reach = 0, 0
    while reach < right:
        least, reach = least + 1, 2 * reach + 1
    if layers == least - 1:
        raise AssertionError(f"{least - 1} layers reach {reach // 2} turning points, no more.")
    if layers == right:
        raise AssertionError("That would be a turning point a layer; but folds multiply.")
    close(
        layers,
        least,
        rtol=1e-9,
        name="the number of layers",
        hint="A layer turns where its input turns, and where its input crosses the layer's own "
        "turn. How often can that be, if the input turns t times?",
    )
    return "And as many do it: fold at 0, then five tents, the last one rounded."


@exercise("5.6")
def dead_components(answer):
    count = numbers(answer, shape=()).item()
    n, old, new, layers = 100, 10, 20, 4
    each = (new - old) * (n + 1)  # rows of A, and entries of c
    if count in ((layers - 1) * (new - old) * n, each - (new - old)):
        raise AssertionError("Each new component has an entry of c, too.")
    if count == each:
        raise AssertionError("This is one layer. How many have components that are looked at?")
    if count == layers * each:
        raise AssertionError("The last layer has one component, the output; none was added to it.")
    if count in ((layers - 1) * new * (n + 1), ((layers - 1) * new + 1) * (n + 1)):
        raise AssertionError("The old components go on as before: count the new ones only.")
    close(
        count,
        (layers - 1) * each,
        rtol=1e-9,
        name="the count",
        hint="What is the derivative of the loss by a component that the next layer ignores?",
    )
    return "Half the trained numbers, for nothing: the layer above looks away, and W never learns."
