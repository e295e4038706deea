"""Chapter 3, ReLU Gram spectra: every expected value is computed here, none is written down."""

from __future__ import annotations

import math

import torch

from dynbook.beam import beam_spectrum
from dynbook.check import close, exercise, numbers
from dynbook.gram import ridge_gram
from dynbook.splines import condition_number, nodal_values


def _equispaced(n: int) -> torch.Tensor:
    return -1 + 2 * torch.arange(n, dtype=torch.float64) / n


def _whole(answer, name: str) -> int:
    n = numbers(answer, shape=())
    if n != n.round():
        raise AssertionError(f"The answer should be {name}, a whole number.")
    return int(n)


@exercise("3.1")
def hat_from_neurons(answer):
    a = torch.from_numpy(numbers(answer, shape=(10,)))
    peak = torch.eye(10, dtype=torch.float64)[3]  # v_i = h(b_{i+1}): b_5 is the fourth value
    close(
        nodal_values(a, _equispaced(10)),
        peak,
        atol=1e-4,  # a solution in single precision is welcome
        name="the network at the nodes b_2, …, b_10, 1",
        hint="It should be 1 at b_5 and 0 at all the others: which slopes, which changes of slope?",
    )
    return "Three neurons, and the far ones are not needed: a second difference is local."


@exercise("3.2")
def too_much_for_single_precision(answer):
    n = _whole(answer, "a count of neurons")
    if not 2 <= n <= 10_000:
        raise AssertionError("The answer should be a number of neurons between 2 and 10000.")
    here, before = condition_number(_equispaced(n)), condition_number(_equispaced(max(n - 1, 2)))
    if here <= 2**23:
        raise AssertionError("With so few neurons the condition number is still below 2^23.")
    if before > 2**23:
        raise AssertionError("One neuron less is already too many: this is not the smallest n.")
    return "A few dozen neurons, and the law n⁴ said so before we looked."


@exercise("3.3")
def steeper_tanh(answer):
    values = torch.linalg.eigvalsh(ridge_gram(torch.tanh, 10.0, 10 * _equispaced(400)))
    expected = int((values > 2.0**-23 * values[-1]).sum())
    close(
        _whole(answer, "a count of modes"),
        expected,
        rtol=0,
        hint="ψ_i(x) = tanh(w x − w b_i): are both the slope and the bias ten times larger, and is "
        "the threshold relative to the largest eigenvalue?",
    )


@exercise("3.4")
def fastest_wave(answer):
    kappa = 2 / beam_spectrum(1).item() ** 0.25
    close(
        _whole(answer, "the largest q that passes"),
        math.floor(kappa * 2 ** (23 / 4) / (4 * math.pi)),
        rtol=0,
        hint="sin 2πqx has wave number ω = 2πq, and a mode has wave number κ/2; solve "
        "δ = (κ_1/2ω)^4 for ω.",
    )


@exercise("3.5")
def modes_halved(answer):
    mu = beam_spectrum(80)
    steps = math.log(2) / -torch.log1p(-mu / (2 * mu[0]))
    close(
        _whole(answer, "the last mode that is halved"),
        int((steps <= 1e8).sum()),
        rtol=0,
        hint="One step multiplies the error in mode m by 1 − η λ_m; with η = 1/(2 λ_1) only ratios "
        "of the μ_m enter. The frontier of the figure is asymptotic: count.",
    )


@exercise("3.6")
def lazy_width(answer):
    close(
        answer,
        500 * (1 / 0.01) ** 2,
        rtol=1e-6,
        hint="R depends on c/√n: the amplitude goes up a hundred times, so √n must, too.",
    )
