"""Chapter 2, depth as time: every expected value is computed here, none is written down."""

from __future__ import annotations

import math

import numpy as np
import torch

from dynbook.check import close, exercise, numbers
from dynbook.meanfield import chi, depth_scale
from dynbook.random_matrices import gaussian_product_exponents


@exercise("2.1")
def periodic_product(answer):
    odd, even = np.array([[2.0, 1.0], [0.0, 0.5]]), np.array([[1.0, 0.0], [1.0, 1.0]])
    rates = np.sort(np.log(np.abs(np.linalg.eigvals(even @ odd))) / 2)[::-1]
    given = numbers(answer, shape=(2,))
    if np.allclose(np.sort(given)[::-1], 2 * rates, rtol=1e-4):
        raise AssertionError("These are exponents per period; a period has two layers.")
    close(
        given,
        rates,
        rtol=2e-6,
        hint="Two layers together are one matrix, the same every time: what do its powers grow "
        "like? Largest exponent first.",
    )
    return "The determinants are 1, so the two exponents add up to zero, as they should."


@exercise("2.2")
def typical_depth(answer):
    depth = numbers(answer, shape=())
    exact = math.log(1e-6) / (2 * gaussian_product_exponents(64)[0].item())
    if abs(depth - exact / 2) < 5:
        raise AssertionError("The energy is the square of the length: it decays with 2λ₁.")
    if not exact - 1 <= depth <= exact + 1:
        close(
            depth,
            exact,
            rtol=1e-9,
            hint="Solve e^{2 λ₁ L} = 10⁻⁶ with the exact λ₁ of width 64 and σ² = 1/N.",
        )
    return "Hundreds of layers: at width 64 it is depth over width that counts, not depth."


@exercise("2.3")
def leaky_edge(answer):
    sigma_w = numbers(answer, shape=()).item()
    if not 0 < sigma_w < math.inf:
        raise AssertionError("The answer should be a positive number.")
    close(
        chi(lambda x: torch.where(x > 0, x, 0.2 * x), sigma_w, 0.0, q=1.0).item(),
        1.0,
        rtol=2e-3,
        name="χ₁ at this σ_w",
        hint="φ' takes two values, each for half of all Gaussian numbers: what is the mean of φ'²?",
    )
    return "χ₁ does not depend on q, so that with this σ_w every length is kept on average."


@exercise("2.4")
def twenty_layers(answer):
    pair = numbers(answer, shape=(2,))
    if not 0 < pair[0] < pair[1] < math.inf:
        raise AssertionError("The answer should be two positive numbers, the smaller first.")
    scales = depth_scale(torch.tanh, torch.from_numpy(pair), 0.1)
    if not (scales.c[0] > 1 - 1e-6 > scales.c[1]):
        raise AssertionError("The first should lie in the ordered phase, the second in chaos.")
    close(
        scales.correlation,
        [20.0, 20.0],
        rtol=2e-2,
        name="the depth scales at these σ_w",
        hint="depth_scale(torch.tanh, sigma_w, 0.1).correlation should be 20 at both.",
    )
    return "The window of σ_w with a depth scale above twenty layers lies between them."


@exercise("2.5")
def along_the_circle(answer):
    z, weight = np.polynomial.hermite_e.hermegauss(80)
    slope_squared = 1 / np.cosh(z / math.sqrt(2)) ** 4  # tanh'² at r s z, r = 1, s² = ½
    along, across = weight @ slope_squared, weight @ (slope_squared * z**2)
    close(
        answer,
        math.sqrt(along / across),
        rtol=0.01,
        hint="Both are root mean squares, along over across; the factor s² cancels, and "
        "tanh'(u) = 1/cosh²(u) is squared.",
    )
    return "A random layer squeezes the way out and leaves the way round."


@exercise("2.6")
def least_error_in_the_trap(answer):
    share = math.pi * 0.5**2 / 4  # of the disc in the square
    close(
        answer,
        min(share, 1 - share) / 2,
        rtol=0.01,
        hint="Take x and −x together: the outputs are the signs of b + a and b − a. Which of the "
        "two classes suffers if b > 0, and how much of it?",
    )
    return "No number of neurons helps against a symmetry."


@exercise("2.7")
def area_from_ranks(answer):
    wrong, right, mean_rank = 20, 777, 765
    close(
        answer,
        (wrong * mean_rank - wrong * (wrong + 1) / 2) / (wrong * right),
        rtol=0.001,
        hint="Count, for each misread image, the right ones below it: its rank, less the misread "
        "ones up to and with itself. Then divide by the number of pairs.",
    )
