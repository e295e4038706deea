"""What a student may hand in: right in every form it comes in, and the usual slips."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import expm
from scipy.optimize import brentq, minimize_scalar
from scipy.special import j0, j1, lambertw

from dynbook.check import _checks, judge
from dynbook.meanfield import critical_line, depth_scale
from dynbook.mmnn import MMNN

HAT = [0, 0, 0, 5, -10, 5, 0, 0, 0, 0]
FORMS = [
    list, tuple, np.array, torch.tensor, lambda a: torch.tensor(a, dtype=torch.float32),
    lambda a: torch.tensor(a, dtype=torch.float64), lambda a: [float(x) for x in a],
    lambda a: torch.tensor(a).bfloat16(), lambda a: torch.tensor(a) + 0j,
]  # fmt: skip
NUMBER_FORMS = [
    float, np.float64, np.array, torch.tensor, lambda n: torch.tensor(n, dtype=torch.float32),
    lambda n: [n], lambda n: torch.tensor([n]),
]  # fmt: skip

#: First root of cos κ cosh κ = −1; the m-th is (m − ½)π to fifteen digits from m = 12 on.
KAPPA_1 = 1.8751040687119611
#: The last mode that is halved in 10⁸ steps: 1 = 10⁸ μ_m/(2 μ_1 ln 2), but for one part in 10⁷.
HALVED = math.floor(KAPPA_1 / math.pi * (1e8 / (2 * math.log(2))) ** 0.25 + 0.5)


@pytest.mark.parametrize("form", FORMS)
def test_the_hat_is_right_in_any_form(form):
    assert judge("3.1", form(HAT)).ok


def test_the_hat_may_come_from_a_solver_in_single_precision():
    nodes = torch.linspace(-1, 1, 11, dtype=torch.float32)
    values = (nodes[1:, None] - nodes[:-1]).relu()
    assert judge("3.1", torch.linalg.solve(values, torch.eye(10)[3])).ok


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([-a for a in HAT], "1 of the 10 entries of the network at the nodes"),
        ([*HAT[1:], 0], "2 of the 10 entries of the network at the nodes"),
        ([0, *HAT[:-1]], "2 of the 10 entries of the network at the nodes"),
        ([a / 5 for a in HAT], "1 of the 10 entries of the network at the nodes"),
        (torch.tensor(HAT)[:, None], "an array of 10 × 1 numbers"),
        ([*HAT, 0], "a list of 11 numbers"),
        (torch.tensor(HAT) + 5j, "should be real, but has an imaginary part"),
    ],
)
def test_a_wrong_hat_is_told_what_is_wrong(answer, words):
    verdict = judge("3.1", answer)
    assert not verdict.ok and words in verdict.message


RIGHT = {
    "3.2": [38],
    "3.4": [8],
    "3.5": [HALVED],
    "3.6": [5_000_000],
}


@pytest.mark.parametrize("form", NUMBER_FORMS)
@pytest.mark.parametrize(("exercise", "number"), [(e, n) for e in RIGHT for n in RIGHT[e]])
def test_a_right_number_is_right_in_any_form(exercise, number, form):
    assert judge(exercise, form(number)).ok


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        ("3.2", 37, "still below"),
        ("3.2", 39, "not the smallest"),
        ("3.2", 37.6, "whole number"),
        ("3.2", 38 + 1j, "should be real"),
        ("3.2", -38, "between 2 and 10000"),
        ("3.2", 10_001, "between 2 and 10000"),
        ("3.2", "38", "should be numbers"),
        ("3.3", 400, "both the slope and the bias"),
        ("3.3", 30.5, "whole number"),
        ("3.4", 8.03, "the largest q that passes, a whole number"),
        ("3.4", 9, "wave number"),
        ("3.4", 7, "wave number"),
        ("3.4", -8, "off by more than 10 %"),
        ("3.5", HALVED + 1, "1 − η λ_m"),
        ("3.5", HALVED - 1, "1 − η λ_m"),
        ("3.5", HALVED + 0.5, "a whole number"),
        ("3.6", 50_000, "√n must, too"),
        ("3.6", 0.05, "√n must, too"),
    ],
)
def test_a_wrong_number_is_told_what_is_wrong(exercise, answer, words):
    verdict = judge(exercise, answer)
    assert not verdict.ok and words in verdict.message


def test_the_steep_tanh_layer_is_counted_by_quadrature():
    """ψ at the points of a fine midpoint rule; singular values instead of a Gram matrix."""
    b = -1 + 2 * torch.arange(400, dtype=torch.float64) / 400
    x = (torch.arange(4000, dtype=torch.float64) + 0.5) / 2000 - 1
    values = torch.linalg.svdvals(torch.tanh(10 * (x[:, None] - b)))
    count = int((values**2 > 2.0**-23 * values[0] ** 2).sum())
    assert judge("3.3", count).ok
    assert not judge("3.3", count + 1).ok and not judge("3.3", count - 1).ok


#: Trace of BA is 7/2 and its determinant 1, so 2 cosh 2λ = 7/2; the other right answers are as
#: short.
PERIODIC = math.acosh(7 / 4) / 2
LEAKY = math.sqrt(2 / 1.04)
DISC = math.pi / 32
AREA = (765 - 21 / 2) / 777


@pytest.mark.parametrize("form", FORMS[:7])
def test_the_exponents_of_a_periodic_product_are_right_in_any_form(form):
    assert judge("2.1", form([PERIODIC, -PERIODIC])).ok


def along_the_circle() -> float:
    z = np.linspace(0, 9, 2001)
    weight = np.exp(-(z**2) / 2) / np.cosh(z / np.sqrt(2)) ** 4
    simpson = np.where(np.arange(2001) % 2, 4, 2) * weight
    simpson[0] /= 2
    return math.sqrt(simpson.sum() / (simpson @ z**2))


@pytest.mark.parametrize("form", NUMBER_FORMS)
@pytest.mark.parametrize(
    ("exercise", "number"),
    [
        ("2.2", 880.0),
        ("2.3", LEAKY),
        ("2.3", 1.387),
        ("2.5", along_the_circle()),
        ("2.5", round(along_the_circle(), 2)),
        ("2.6", DISC),
        ("2.6", 0.098),
        ("2.7", AREA),
        ("2.7", 0.971),
    ],
)
def test_a_right_number_of_chapter_2_is_right_in_any_form(exercise, number, form):
    assert judge(exercise, form(number)).ok


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        ("2.1", [-PERIODIC, PERIODIC], "Largest exponent first"),
        ("2.1", [2 * PERIODIC, -2 * PERIODIC], "a period has two layers"),
        ("2.1", [math.log(2) / 2, -math.log(2) / 2], "what do its powers grow"),
        ("2.1", PERIODIC, "a single number"),
        ("2.2", 440, "decays with 2λ₁"),
        ("2.2", 884, "the exact λ₁ of width 64"),
        ("2.2", 128 * math.log(10), "the exact λ₁ of width 64"),
        ("2.3", math.sqrt(2), "the mean of φ'²"),
        ("2.3", LEAKY**2, "the mean of φ'²"),
        ("2.3", -LEAKY, "a positive number"),
        ("2.4", (1.3, 1.1), "the smaller first"),
        ("2.4", (1.0, 1.1), "the second in chaos"),
        ("2.4", (1.1, 1.3), "should be 20 at both"),
        ("2.5", along_the_circle() ** 2, "root mean squares"),
        ("2.5", 1 / along_the_circle(), "along over across"),
        ("2.6", 2 * DISC, "Which of the two classes suffers"),
        ("2.6", 0.5, "Which of the two classes suffers"),
        ("2.7", 765 / 797, "Count, for each misread image"),
        ("2.7", (765 - 20) / 777, "Count, for each misread image"),
        ("2.7", 1 - AREA, "Count, for each misread image"),
    ],
)
def test_a_wrong_answer_of_chapter_2_is_told_what_is_wrong(exercise, answer, words):
    verdict = judge(exercise, answer)
    assert not verdict.ok and words in verdict.message


def test_twenty_layers_may_be_rounded_to_a_thousandth():
    def excess(sigma_w):
        return depth_scale(torch.tanh, sigma_w, 0.1).correlation.item() - 20

    edge = critical_line(torch.tanh, 0.1).item()
    pair = brentq(excess, 0.5, edge - 1e-3), brentq(excess, edge + 1e-3, 3)
    assert judge("2.4", pair).ok
    assert judge("2.4", tuple(round(s, 3) for s in pair)).ok


def shifted_exit() -> float:
    """ln(1 + η|m|), with m from the eigenvalues of the Hessian of three neurons by differences."""
    x = np.linspace(-1, 1, 20)
    y = np.exp(-8 * (x - 0.3) ** 2)

    def loss(t):
        out = np.tanh(np.outer(x, t[:3]) + t[3:6]) @ t[6:9] + t[9]
        return ((out - y) ** 2).mean() / 2

    rest, unit, h = np.append(np.zeros(9), y.mean()), 1e-3 * np.eye(10), 1e-3
    hessian = [
        [
            (loss(rest + a + b) - loss(rest + a - b) - loss(rest - a + b) + loss(rest - a - b))
            for b in unit
        ]
        for a in unit
    ]
    return math.log1p(-0.3 * np.linalg.eigvalsh(np.array(hessian) / (4 * h * h))[0])


NOISE = math.sqrt(1 / 0.99 - 1)
HEALED = next(n for n in range(10_000) if (1 - 0.5 * NOISE**2) ** n < 1e-3)


@pytest.mark.parametrize("form", NUMBER_FORMS)
@pytest.mark.parametrize(
    ("exercise", "number"),
    [
        ("1.2", 2 / 3),
        ("1.2", 0.667),
        ("1.3", 2 / 101),
        ("1.3", 0.0198),
        ("1.4", shifted_exit()),
        ("1.5", 21),
        ("1.6", 102),
    ],
)
def test_a_right_number_of_chapter_1_is_right_in_any_form(exercise, number, form):
    assert judge(exercise, form(number)).ok


def test_two_right_numbers_of_chapter_1_are_right():
    assert judge("1.1", [(2 / 11) ** 2, (9 / 11) ** 2]).ok
    assert judge("1.1", torch.tensor([0.03306, 0.6694])).ok
    assert judge("1.7", (NOISE, HEALED)).ok
    assert judge("1.7", (0.101, 1364)).ok


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        ("1.1", [(9 / 11) ** 2, (2 / 11) ** 2], "how small can β be"),
        ("1.1", [(2 / 11) ** 2, 9 / 11], "the momentum is β"),
        ("1.1", [2 / 101, 0], "momentum does better"),
        ("1.1", [-1, 0.5], "η > 0"),
        ("1.2", 3, "This is the sharpness"),
        ("1.2", 1 / 3, "still shrink beyond"),
        ("1.2", 2 / 9, "one weight used three times"),
        ("1.2", 1, "the limit for two weights"),
        ("1.2", 0.5, "How small can"),
        ("1.3", 2 / 100, "has a bias too"),
        ("1.3", 1 / 101, "up to 2/S, not 1/S"),
        ("1.3", 101, "That is the sharpness"),
        ("1.3", 0.5, "only eigenvalue that is not zero"),
        ("1.4", 0, "this one is shifted"),
        ("1.4", -shifted_exit(), "its partner grows"),
        ("1.4", 0.3, "a symmetric 2 × 2 matrix"),
        ("1.5", 20, "the output biases are weights too"),
        ("1.5", 52, "A sigmoid is no softmax"),
        ("1.5", 10, "not the outputs"),
        ("1.5", 7, "One sum for each unit"),
        ("1.6", 101, "one row more"),
        ("1.6", 100, "fourth moments"),
        ("1.6", 1, "never sees the batch"),
        ("1.6", 50, "solve g < 1 for B"),
        ("1.7", (NOISE**2, HEALED), "its standard deviation"),
        ("1.7", (1, HEALED), "halves the eigenvalue"),
        ("1.7", (-NOISE, HEALED), "a positive number"),
        ("1.7", (NOISE, 9), "has s_k = 0"),
        ("1.7", (NOISE, 2 * HEALED), "multiplied by 1 − ηs²"),
    ],
)
def test_a_wrong_answer_of_chapter_1_is_told_what_is_wrong(exercise, answer, words):
    verdict = judge(exercise, answer)
    assert not verdict.ok and words in verdict.message


# --- chapter 4 --------------------------------------------------------------------------------


def bump(r):
    """(1 − r²)³, and its first and second derivatives."""
    q = 1 - r**2
    return q**3, -6 * r * q**2, -6 * q**2 + 24 * r**2 * q


def one_neuron() -> float:
    """What the best neuron leaves of g″, g = (1 − x²)³ cos πx."""

    def f(x):
        u, du, ddu = bump(x)
        return (ddu - math.pi**2 * u) * math.cos(math.pi * x) - 2 * math.pi * du * math.sin(
            math.pi * x
        )

    square = quad(lambda x: f(x) ** 2, -1, 1)[0]

    def left(b):
        g = bump(b)[0] * math.cos(math.pi * b)
        return 1 - g**2 / square / ((1 - b) ** 3 / 3)

    starts = [
        minimize_scalar(left, bounds=ends, method="bounded") for ends in ((-0.5, 0.45), (0.5, 1))
    ]
    return math.sqrt(min(s.fun for s in starts))


def last_frequency(level=0.5) -> float:
    """30 κ = level for the radial wave on the disk, by one-dimensional integrals."""

    def spare(nu):
        def f(r):
            u, du, ddu = bump(r)
            return j0(nu * r) * (ddu - 6 * (1 - r**2) ** 2 - nu**2 * u) - 2 * nu * du * j1(nu * r)

        norm = math.sqrt(2 * math.pi * quad(lambda r: f(r) ** 2 * r, 0, 1)[0])
        return 60 * quad(lambda y: bump(y)[0] * j0(nu * y), 0, 1)[0] / norm - level

    return brentq(spare, 3, 20)


def seventh_mode() -> float:
    """The decades of half of u_7, from eigenvalues by Nyström's method and Gauss's rule."""
    x, weights = np.polynomial.legendre.leggauss(300)
    low, high = np.minimum.outer(x, x), np.maximum.outer(x, x)
    right = (1 + low) ** 3 / 3 + (high - low) * (1 + low) ** 2 / 2
    kernel = (right + right[::-1, ::-1]) / 4
    root = np.sqrt(weights)
    rate = np.linalg.eigvalsh(root[:, None] * kernel * root)[-7]
    return 24 / (2 * 60**2) * 0.25 / rate / math.log(10)


def test_right_numbers_of_chapter_4_are_right():
    assert judge("4.1", one_neuron()).ok and judge("4.1", torch.tensor(round(one_neuron(), 4))).ok
    assert judge("4.2", last_frequency()).ok and judge("4.2", round(last_frequency(), 3)).ok
    share = -lambertw(-2 * math.exp(-2)).real / 2  # ln p = −2(1 − p), but for p = 1
    assert judge("4.3", share).ok and judge("4.3", 0.203).ok
    assert judge("4.4", seventh_mode()).ok and judge("4.4", round(seventh_mode(), 2)).ok


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        ("4.1", lambda: one_neuron() ** 2, "This is ε²"),
        ("4.1", lambda: math.sqrt(1 - one_neuron() ** 2), "what does it leave"),
        ("4.1", lambda: 1.2, "between 0 and 1"),
        ("4.1", lambda: 0.8, "For each kink b the loss is a parabola"),
        ("4.2", lambda: last_frequency(1.0), "There is a factor 1 − ε"),
        ("4.2", lambda: 9.0, "Solve 30 κ"),
        ("4.3", lambda: 0.1, "the choice of the package"),
        ("4.3", lambda: math.exp(-2), "1 − p₀ in it"),
        ("4.3", lambda: 0.95, "count all networks"),
        ("4.3", lambda: 1.5, "a share, between 0 and 1"),
        ("4.3", lambda: 0.3, "minimise over p₀"),
        ("4.4", lambda: seventh_mode() * math.log(10), "how many decades"),
        ("4.4", lambda: -seventh_mode(), "a cost is positive"),
        ("4.4", lambda: 4 * seventh_mode(), "h need not be f"),
        ("4.4", lambda: seventh_mode() / 4, "is yours a sum"),
        ("4.4", lambda: 2 * seventh_mode(), "Is there a ½"),
        ("4.4", lambda: 17.7 * 1.3, "All of h should be in mode 7"),
    ],
)
def test_a_wrong_answer_of_chapter_4_is_told_what_is_wrong(exercise, answer, words):
    verdict = judge(exercise, answer())
    assert not verdict.ok and words in verdict.message


# --- chapter 5 --------------------------------------------------------------------------------


def bend(x):
    return abs(4e4 * x**2 - 200) * math.exp(-100 * x**2)


def mesh_worth() -> float:
    """‖f″‖ by hand on the whole line, as f is e⁻¹⁰⁰ at the ends; the other integral by quad."""
    half = [quad(lambda x: bend(x) ** 0.4, *ends)[0] for ends in ((0, 200**-0.5), (200**-0.5, 1))]
    return math.sqrt(4 * math.sqrt(3e4 * math.sqrt(math.pi / 200)) / (2 * sum(half)) ** 2.5)


def kernel_ratio(mode=40) -> float:
    """λ_k of neurons as torch draws them by that of covering ones, from integrals over b."""
    x, weights = np.polynomial.legendre.leggauss(400)

    def kernel(w):
        reach, gap = 1 + w * np.minimum.outer(x, x), w * abs(np.subtract.outer(x, x))
        right = reach**3 / 3 + gap * reach**2 / 2
        return (right + right[::-1, ::-1]) / 4

    def value(kernel):
        root = np.sqrt(weights)
        return np.linalg.eigvalsh(root[:, None] * kernel * root)[-mode]

    slopes = zip(*np.polynomial.legendre.leggauss(4), strict=True)  # exact: cubes of w
    return value(sum(g / 2 * kernel((t + 1) / 2) for t, g in slopes)) / value(kernel(1))


def zigzag(height, b=(-0.02, -0.01, 0.01, 0.02)):
    return [[-height, 2 * height, -2 * height, height], list(b)]


def best_zigzag():
    """By least squares for its four changes of slope, on other points than those of the check."""
    x, b = np.linspace(-1, 1, 40_001), np.array([-0.02, -0.01, 0.01, 0.02])
    sine = np.where(abs(x) < 0.02, np.sin(50 * math.pi * x), 0)
    return np.linalg.lstsq(np.maximum(x[:, None] - b, 0), sine, rcond=None)[0], b


def slope_density() -> float:
    """How x²/2 and 4x², both on [0, 1], best share 10,000 hats, if slopes are to be right."""
    n = np.arange(1, 10_000)
    cell = ((np.linspace(0, 1, 100_001) - 0.5) ** 2).mean()  # (x²/2)' less the slope of one hat
    best = n[np.argmin(cell / n**2 + 64 * cell / (10_000 - n) ** 2)]
    return math.log((10_000 - best) / best) / math.log(8)


def stays_zero() -> int:
    """The entries of the gradient that are zero in a network with columns of W at zero."""
    network = MMNN(
        100, 20, 4, activation=torch.tanh, generator=torch.Generator().manual_seed(0)
    ).double()
    for i in (2, 4, 6):
        network.get_buffer(f"weight_{i}")[:, 10:] = 0
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    (network(x) - torch.sin(5 * x)).square().mean().backward()
    return int((network.theta.grad == 0).sum())


#: 16 |x|^{3/2} = k + ½ on either side, and 0; L maps make 2^L − 1 turns.
TURNS = 1 + 2 * sum((k + 0.5) / 16 < 1 for k in range(100))


@pytest.mark.parametrize("form", NUMBER_FORMS)
@pytest.mark.parametrize(
    ("exercise", "number"),
    [
        ("5.1", mesh_worth()),
        ("5.1", 4.6),
        ("5.2", kernel_ratio()),
        ("5.2", 0.25),
        ("5.4", 2 / 3),
        ("5.4", 0.667),
        ("5.6", 3030),
    ],
)
def test_a_right_number_of_chapter_5_is_right_in_any_form(exercise, number, form):
    assert judge(exercise, form(number)).ok


@pytest.mark.parametrize("form", [list, tuple, np.array, torch.tensor])
@pytest.mark.parametrize("height", [1200 / math.pi**2, 121.6, 122])
def test_a_needle_is_right_in_any_form(form, height):
    assert judge("5.3", form(zigzag(height))).ok
    assert judge("5.3", tuple(torch.tensor(row) for row in zigzag(height))).ok
    a, b = map(np.array, zigzag(height))
    assert judge("5.3", (a[::-1].copy(), b[::-1].copy())).ok


def test_right_answers_of_chapter_5_are_found_by_other_roads():
    assert judge("5.3", best_zigzag()).ok
    assert judge("5.4", slope_density()).ok
    assert judge("5.5", (TURNS, math.ceil(math.log2(TURNS + 1)))).ok
    assert judge("5.5", torch.tensor([33.0, 6.0])).ok
    assert judge("5.6", stays_zero()).ok


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        ("5.1", lambda: mesh_worth() ** 2, "the ratio of the errors at equal n"),
        ("5.1", lambda: 1 / mesh_worth(), "turn the ratio round"),
        ("5.1", lambda: mesh_worth() / 2, "2/n apart, not 1/n"),
        ("5.1", lambda: mesh_worth() * math.sqrt(2), "Put h = 2/n"),
        ("5.2", lambda: 4, "The other way round"),
        ("5.2", lambda: 1 / 2, "the share of kinks inside"),
        ("5.2", lambda: quad(lambda w: w**2, 0, 1)[0], "by |w|, and the kernel, a square, by w²"),
        ("5.2", lambda: 1 / 2 * 1 / 3, "likelier to have their kink inside"),
        ("5.2", lambda: 1 / 8, "counted as 0 where the kink is outside"),
        ("5.3", lambda: zigzag(-122), "Upside down"),
        ("5.3", lambda: zigzag(122, (0.02, 0.01, -0.01, -0.02)), "Upside down"),
        ("5.3", lambda: zigzag(122)[::-1], "First a, then b"),
        ("5.3", lambda: zigzag(100), "go higher"),
        ("5.3", lambda: [[-122, 243, -243, 122], zigzag(1)[1]], "back at 0"),
        ("5.3", lambda: [[-122, 244, -244, 0], zigzag(1)[1]], "back at 0"),
        ("5.3", lambda: zigzag(122, (-0.03, -0.01, 0.01, 0.03)), "back at 0"),
        ("5.3", lambda: zigzag(50), "one crest and one trough"),
        ("5.3", lambda: [row[:3] for row in zigzag(122)], "an array of 2 × 4 numbers"),
        ("5.4", lambda: 2 / 5, "best for the values"),
        ("5.4", lambda: 1 / 2, "h²|f''| the same everywhere"),
        ("5.4", lambda: 1, "slopes in the maximum"),
        ("5.4", lambda: -2 / 3, "the width of the cells"),
        ("5.4", lambda: 1 / 3, "Of f''² it is"),
        ("5.4", lambda: 0.25, "from the middle"),
        ("5.5", lambda: (TURNS - 1, 6), "what does the function do at 0"),
        ("5.5", lambda: (16, 6), "This is one side"),
        ("5.5", lambda: (31, 6), "Where is the sine ±1"),
        ("5.5", lambda: (TURNS, 5), "5 layers reach 31 turning points"),
        ("5.5", lambda: (TURNS, TURNS), "folds multiply"),
        ("5.5", lambda: (TURNS, 7), "if the input turns t times"),
        ("5.5", lambda: 33, "a list of 2 numbers"),
        ("5.6", lambda: 3 * 10 * 100, "an entry of c, too"),
        ("5.6", lambda: 10 * 100, "an entry of c, too"),
        ("5.6", lambda: 10 * 101, "This is one layer"),
        ("5.6", lambda: 4 * 10 * 101, "The last layer has one component"),
        ("5.6", lambda: 3 * 20 * 101, "count the new ones only"),
        ("5.6", lambda: MMNN(100, 20, 4, generator=torch.Generator()).count(), "new ones only"),
        ("5.6", lambda: 0, "the derivative of the loss by a component"),
    ],
)
def test_a_wrong_answer_of_chapter_5_is_told_what_is_wrong(exercise, answer, words):
    verdict = judge(exercise, answer())
    assert not verdict.ok and words in verdict.message


# --- chapter 6 --------------------------------------------------------------------------------


def enough_layers() -> int:
    """The least damping of each depth by bisection of the norm of a layer, and its powers."""
    A = np.zeros((3, 3))
    A[0, 1], A[1, 0] = 3, -3
    for L in range(7, 100):

        def layer(gamma, h=2 / L):
            return np.eye(3) + h * (A - gamma * np.eye(3))

        def growth(gamma, layer=layer):
            return np.linalg.norm(layer(gamma), 2) - 1

        gamma = brentq(growth, 0, L / 2)
        if np.linalg.matrix_power(layer(gamma), L)[2, 2] >= 0.5:
            return L
    raise AssertionError


def longest_step() -> float:
    """Bisection for the step at which an eigenvalue of kick, drift, kick leaves the circle."""
    low, high = 0.1, 1.0
    while high - low > 1e-6:
        h = (low + high) / 2
        kick, drift = np.array([[1, 0], [-9 * h / 2, 1]]), np.array([[1, 4 * h], [0, 1]])
        bounded = abs(np.linalg.eigvals(kick @ drift @ kick)).max() < 1 + 1e-7
        low, high = (h, high) if bounded else (low, h)
    return low


def states_to_keep() -> int:
    """Error of the state times its weight, followed along the way back."""
    s = np.linspace(0, 20, 200_001)[:-1]
    for n in range(1, 100):
        piece = 20 / n
        error = np.minimum(1, 2.0**-23 * np.exp(5 * (s % piece))) * np.exp(-s)
        if error.max() <= 1e-3:
            return n
    raise AssertionError


def extrapolated() -> float:
    h = np.array([1 / 8, 1 / 16])
    return np.polyval(np.polyfit(h, (1 + h) ** (1 / h), 1), 0)


def goes_on() -> float:
    def density(z):
        return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

    return 1 - (2 * quad(lambda z: z * density(z), 0, np.inf)[0]) ** 2


def rubbed() -> float:
    """A linear pendulum from rest, its friction from a loss of 1.01 σ²."""
    c = brentq(lambda c: (c**2 * 0.5 + 2 * 0.01) / 2 - 1.01 * 0.01, 0, 1)
    end = expm(100 * np.array([[0, 1], [-1, -c]])) @ [1, 0]
    return end @ end


@pytest.mark.parametrize("form", NUMBER_FORMS)
@pytest.mark.parametrize(
    ("exercise", "number"),
    [
        ("6.1", enough_layers()),
        ("6.2", longest_step()),
        ("6.2", 0.333),
        ("6.3", states_to_keep()),
        ("6.4", extrapolated()),
        ("6.4", 2.71),
        ("6.5", goes_on()),
        ("6.5", 0.363),
        ("6.6", rubbed()),
        ("6.6", 0.135),
    ],
)
def test_a_right_number_of_chapter_6_is_right_in_any_form(exercise, number, form):
    assert judge(exercise, form(number)).ok


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        ("6.1", 26, "a little less than half"),
        ("6.1", 26.6, "a whole number"),
        ("6.1", 7, "but all together?"),
        ("6.1", 53, "half of the energy"),
        ("6.1", 5, "no damping holds"),
        ("6.1", 28, "a layer multiplies by 1 − hγ"),
        ("6.1", 1000, "a layer multiplies by 1 − hγ"),
        ("6.2", 2 / 36, "is that the frequency, or its square?"),
        ("6.2", 1 / 6, "Up to which trace"),
        ("6.2", 0, "when do its powers stay bounded"),
        ("6.2", 1e9, "when do its powers stay bounded"),
        ("6.2", 2 / 5, "It has determinant 1"),
        ("6.3", 8, "Is x(T) among them?"),
        ("6.3", 10, "nothing starts from there"),
        ("6.3", 12, "its error is weighed"),
        ("6.3", 14, "help or harm?"),
        ("6.3", 9.5, "a whole number"),
        ("6.3", 4, "matters most there"),
        ("6.4", (17 / 16) ** 16, "wrong by order h."),
        ("6.4", ((9 / 8) ** 8 + (17 / 16) ** 16) / 2, "A mean is wrong by order h"),
        ("6.4", 2 * (9 / 8) ** 8 - (17 / 16) ** 16, "The wrong way"),
        ("6.4", (4 * (17 / 16) ** 16 - (9 / 8) ** 8) / 3, "for an error of order h²"),
        ("6.4", (17 / 16) ** 32 / (9 / 8) ** 8, "no sum of multiples"),
        ("6.4", math.e, "That is the limit"),
        ("6.4", (9 / 8) ** 8, "eliminate c"),
        ("6.5", 2 / math.pi, "This is what leaves"),
        ("6.5", math.pi / 4, "and for complex z"),
        ("6.5", 1 - math.pi / 4, "a real z is small more often"),
        ("6.5", 1 - math.sqrt(2 / math.pi), "Energy is a square"),
        ("6.5", 1.2, "between 0 and 1"),
        ("6.5", 0.5, "Which share of E z²"),
        ("6.6", 1 - math.exp(-2), "what is left"),
        ("6.6", math.exp(-1), "the energy goes with its square"),
        ("6.6", math.exp(-4), "the mean of p² is E"),
        ("6.6", math.exp(-math.sqrt(2)), "in one of them only"),
        ("6.6", math.exp(-20), "not by all of it"),
        ("6.6", 0, "Find c"),
    ],
)
def test_a_wrong_answer_of_chapter_6_is_told_what_is_wrong(exercise, answer, words):
    verdict = judge(exercise, answer)
    assert not verdict.ok and words in verdict.message


# --- chapter 7 --------------------------------------------------------------------------------


def one_echo(start=1.0) -> tuple[float, float]:
    """The first of two neurons, driven together, and the growth of a difference."""
    W = np.array([[1.5, 1.5], [-1.5, -1.5]])
    r, growth, v = np.array([start, 1.0]), 0.0, np.ones(2)
    for t in range(1000):
        r = np.tanh(W @ r + [-1.5, 50.0])
        v = (1 - r**2) * (W @ v)
        growth += math.log(np.linalg.norm(v)) if t >= 500 else 0
        v /= np.linalg.norm(v)
    return r[0], growth / 500


def third_of_both() -> float:
    """The trace of Lorenz's Jacobian, and of 3 + 2 exponents in order, by bisection over α."""
    teacher = [0.906, 0.0, np.trace([[-10, 10, 0], [28, -1, 0], [0, 0, -8 / 3]]) - 0.906]
    low, high = 0.01, 0.99
    while high - low > 1e-9:
        alpha = (low + high) / 2
        both = sorted([*teacher, *[math.log(1 - alpha) / 0.02] * 2], reverse=True)
        low, high = (low, alpha) if both[2] == teacher[2] else (alpha, high)
    return high


def first_flip() -> float:
    """Bisection over Δ: to which eigenvalue of A the largest one of Ā belongs."""
    low, high = 0.01, 1.0
    while high - low > 1e-9:
        dt = (low + high) / 2
        A = -np.diag(np.arange(1.0, 65))
        abar = np.linalg.solve(np.eye(64) - dt / 2 * A, np.eye(64) + dt / 2 * A)
        slowest = abs(np.diag(abar)).argmax()
        low, high = (dt, high) if slowest == 0 else (low, dt)
    return high


def inflated(steps=500) -> float:
    """In terms of information, 1/P, to which a sample adds 1/R = 1."""
    information = 1.0
    for _ in range(steps):
        information = information / 1.1**2 + 1
    return 1 / information


@pytest.mark.parametrize("form", NUMBER_FORMS)
@pytest.mark.parametrize(
    ("exercise", "number"),
    [
        ("7.2", third_of_both()),
        ("7.2", 0.253),
        ("7.3", first_flip()),
        ("7.4", inflated()),
        ("7.4", 0.174),
    ],
)
def test_a_right_number_of_chapter_7_is_right_in_any_form(exercise, number, form):
    assert judge(exercise, form(number)).ok


@pytest.mark.parametrize("form", FORMS[:7])
def test_an_echo_is_right_in_any_form(form):
    assert judge("7.1", form(one_echo())).ok
    assert judge("7.1", form([0.859, -0.929])).ok


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        ("7.1", lambda: one_echo(-1.0), "where the other start ends"),
        ("7.1", lambda: (0, math.log(1.5)), "an unstable one"),
        ("7.1", lambda: (math.tanh(1.5), -0.9286), "what is left for neuron 1?"),
        ("7.1", lambda: (one_echo()[0], math.exp(one_echo()[1])), "is its logarithm"),
        ("7.1", lambda: (one_echo()[0], math.log(1 - one_echo()[0] ** 2)), "one more factor"),
        ("7.1", lambda: (one_echo()[0], -one_echo()[1]), "The derivative of tanh"),
        ("7.1", lambda: one_echo()[0], "a list of 2 numbers"),
        ("7.2", lambda: 1 - third_of_both(), "what is kept of r"),
        ("7.2", lambda: 0.02 * (41 / 3 + 0.906), "multiplies by 1 − α exactly"),
        ("7.2", lambda: 1 - math.exp(-41 / 3 - 0.906), "how long is a step?"),
        ("7.2", lambda: 1 - math.exp(-0.02 * 41 / 3), "the sum of the three"),
        ("7.2", lambda: 1 - math.exp(-0.02 * (41 / 3 - 0.906)), "mind the sign"),
        ("7.2", lambda: 0.15, "Set it equal to λ₃"),
        ("7.3", lambda: 2 / 64, "mode 64 vanishes"),
        ("7.3", lambda: 2, "the first mode vanishes"),
        ("7.3", lambda: 1 / 8, "A factor of two"),
        ("7.3", lambda: 1 / 2, "A factor of two"),
        ("7.3", lambda: 0.3, "the same for two a?"),
        ("7.4", lambda: 0.21, "before a sample"),
        ("7.4", lambda: 1 - 1 / 1.1, "do to their variance?"),
        ("7.4", lambda: 0.1, "do to their variance?"),
        ("7.4", lambda: 0, "something balances"),
        ("7.4", lambda: 1 / 1.21, "which P comes back"),
    ],
)
def test_a_wrong_answer_of_chapter_7_is_told_what_is_wrong(exercise, answer, words):
    verdict = judge(exercise, answer())
    assert not verdict.ok and words in verdict.message


# --- all chapters -----------------------------------------------------------------------------

PAGES = sorted(Path(__file__).resolve().parents[1].glob("book/[1-9]-*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_exercise_of_a_page_is_checked_in_its_text_and_in_its_solution(page):
    blocks = re.split(r"^[:`]{3,}\{exercise(?:-start)?\}", page.read_text("utf8"), flags=re.M)[1:]
    asked = [re.findall(r'check\("([\d.]+)"', block) for block in blocks]
    expected = [f"{page.name[0]}.{i + 1}" for i in range(len(blocks))]
    assert asked == [[number] * 2 for number in expected]
    assert sorted(_checks(page.name[0])) == expected


@pytest.mark.parametrize("exercise", [e for page in PAGES for e in _checks(page.name[0])])
def test_no_exercise_is_solved_by_an_answer_that_says_nothing(exercise):
    blank = [..., None, "", [], (), {}, True, math.nan, math.inf, -1, 0, 0.5, 1, 2, 100]
    lists = [[x] * n for x in (0, 0.5, 1) for n in (2, 10)] + [[[x] * 4] * 2 for x in (0, 1)]
    assert not [a for a in [*blank, *lists, lambda *x: 0] if judge(exercise, a).ok]
