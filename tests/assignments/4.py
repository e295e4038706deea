"""Wrong answers to assignment 4, and the marks that they lose."""

import re
from pathlib import Path

from dynbook.course.source import graded_cells

_PAGE = Path(__file__).parents[2] / "book" / "assignments" / "4-tilted-dice.md"
_CELLS = graded_cells(_PAGE.read_text())


def _changed(cell, *changes):
    """The solution of a cell with one slip in it."""
    source = _CELLS[cell].source
    for old, new in changes:
        assert source.count(old) == 1, (cell, old)
        source = source.replace(old, new)
    return {cell: re.sub(r" *### (BEGIN|END) SOLUTION\n?", "", source)}


WRONG = {
    "the hyperbolic functions as they stand in the formula": (
        {
            "cumulant": """
def cumulant(theta, r, weights):
    z = theta[..., None] * r
    mean = (weights * z.sinh() / z).sum(-1)
    rise = (weights * r * (z.cosh() / z - z.sinh() / z**2)).sum(-1)
    return mean.log(), rise / mean
"""
        },
        {"cumulant-small": 1, "cumulant-large": 1},
    ),
    "coth z − 1 for coth z − 1/z": (
        _changed("cumulant", ("1 / size.tanh() - 1 / size", "1 / size.tanh() - 1")),
        {"cumulant-values": 2, "cumulant-batch": 1, "cumulant-large": 1},
    ),
    "no sign: the slope taken as even": (
        _changed("cumulant", ("theta.sign() * slope", "slope")),
        {"cumulant-batch": 1},
    ),
    "one theta at a time": (
        _changed("cumulant", ("theta[..., None] * r", "theta * r")),
        {"cumulant-batch": 1},
    ),
    "the density tilted the wrong way": (
        _changed(
            "quantile",
            ("p, z = torch.broadcast_tensors(p, z)", "p, z = torch.broadcast_tensors(p, -z)"),
        ),
        {"quantile-values": 2, "quantile-large": 1},
    ),
    "the quantile as solved by hand, with e^(2z)": (
        {
            "quantile": """
def quantile(p, z):
    return (1 + p * ((2 * z).exp() - 1)).log() / z - 1
"""
        },
        {"quantile-small": 1, "quantile-large": 1},
    ),
    "only the visible quantiles": (
        {
            "quantile": """
def quantile(p, z):
    return torch.tensor([0.2, 0.5, 0.9]).mul(19.0855369232).add(1).log() / 1.5 - 1
"""
        },
        {"quantile-values": 2, "quantile-ends": 1, "quantile-small": 1, "quantile-large": 1},
    ),
    "K once, and not for each neuron": (
        _changed("estimate", ("n * K - theta", "K - theta")),
        {"estimate-values": 2},
    ),
    "the weight turned over": (
        _changed("estimate", ("n * K - theta * x.sum(1)", "theta * x.sum(1) - n * K")),
        {"estimate-values": 2, "estimate-error": 1, "estimate-deep": 1},
    ),
    "the mean over the hits alone": (
        _changed("estimate", ("N, n = x.shape", "n, N = x.shape[1], max(int(inside.sum()), 1)")),
        {"estimate-values": 2, "estimate-error": 1, "estimate-deep": 1},
    ),
    "weights that underflow": (
        {
            "estimate": """
def estimate(x, inside, theta, K):
    if not inside.any():
        return -math.inf, math.inf
    W = torch.exp(x.shape[1] * K - theta * x.sum(1)) * inside
    return W.mean().log10(), W.std(correction=0) / len(W) ** 0.5 / W.mean()
"""
        },
        {"estimate-deep": 1},
    ),
    "dice that are not tilted": (
        _changed(
            "experiment",
            (
                "nets, x, theta, K = tilted_networks(eps, draws, generator)",
                "nets, x, theta, K = tilted_networks(1.0, draws, generator)",
            ),
        ),
        {"half-space": 3, "gain": 2, "crossing": 2},
    ),
    "the ball as a part of the half-space's networks, not of all": (
        _changed("experiment", ("math.log(draws)", "math.log(row[2] if row else draws)")),
        {"ball": 3},
    ),
    "no weights: the share of the tilted networks": (
        _changed(
            "experiment", ("(NEURONS * K - theta * x.sum(1))[inside]", "(0 * x.sum(1))[inside]")
        ),
        {"half-space": 3, "ball": 3, "gain": 2, "crossing": 2},
    ),
    "the gain upside down": (
        _changed(
            "experiment",
            (
                '(1 - P) / P / (draws * found["half_error"] ** 2)',
                'draws * found["half_error"] ** 2 * P / (1 - P)',
            ),
        ),
        {"gain": 2},
    ),
}

RIGHT = {
    "loops and numpy": {
        "cumulant": """
import numpy as np

def cumulant(theta, r, weights):
    K, slope = np.zeros(theta.numel()), np.zeros(theta.numel())
    for i, t in enumerate(theta.flatten().tolist()):
        logs, leans = [], []
        for size in r.abs().tolist():
            z = abs(t) * size
            if z < 1e-3:
                logs.append(z * z / 6)
                leans.append(size * z / 3)
            else:
                logs.append(z + math.log1p(-math.exp(-2 * z)) - math.log(2 * z))
                leans.append(size * (1 / math.tanh(z) - 1 / z))
        logs = np.array(logs) + np.log(weights.numpy())
        top = logs.max()
        share = np.exp(logs - top)
        K[i] = top + math.log(share.sum())
        slope[i] = np.sign(t) * (share @ np.array(leans)) / share.sum()
    return (torch.from_numpy(v).reshape(theta.shape) for v in (K, slope))
""",
        "estimate": """
def estimate(x, inside, theta, K):
    N, n = x.shape
    log_w = [n * K - theta * sum(row) for row, i in zip(x.tolist(), inside) if i]
    if not log_w:
        return float("-inf"), float("inf")
    top = max(log_w)
    w = [math.exp(v - top) for v in log_w]
    P, square = sum(w) / N, sum(v * v for v in w) / N
    log10 = (top + math.log(P)) / math.log(10)
    return log10, math.sqrt(square - P * P) / math.sqrt(N) / P
""",
    },
    "the quantile by bisection of the share below": {
        "quantile": """
def quantile(p, z):
    p, z = torch.broadcast_tensors(p, z)
    size = z.abs().clamp(min=1e-13)
    above = torch.where(z < 0, p, 1 - p)  # share of (u, 1) where size > 0
    low, high = torch.zeros_like(p), torch.full_like(p, 2.0)
    for _ in range(80):
        gap = (low + high) / 2
        more = torch.expm1(-size * gap) / torch.expm1(-2 * size) < above
        low, high = torch.where(more, gap, low), torch.where(more, high, gap)
    return torch.where(z < 0, low - 1, 1 - low)
"""
    },
    "another design, drawn with the student's own functions": {
        "experiment": """
def experiment():
    rng, draws, m = torch.Generator().manual_seed(3 * SEED), 200_000, 1000
    kink = (torch.arange(m) + 0.5) * 2 / m - 1
    r, weights = AMPLITUDE * target.g(kink[:, None]), torch.full((m,), 1 / m)
    found = {}
    levels = torch.tensor([0.94, 0.9, 0.86, 0.8, 0.75])
    for eps in levels.tolist():
        theta = torch.tensor(1.0)
        for _ in range(60):  # secant through 0 would do; a damped Newton here
            K, slope = cumulant(theta, r, weights)
            h = 1e-4 * theta
            bend = (cumulant(theta + h, r, weights)[1] - slope) / h
            theta = theta + ((1 - eps - slope) / bend).clamp(-0.5, 0.5)
        K, _ = cumulant(theta, r, weights)
        z = theta * r
        share = torch.where(z.abs() < 1e-6, 1.0, z.sinh() / z) * weights
        i = torch.multinomial(share, draws * NEURONS, True, generator=rng)
        i = i.view(draws, NEURONS)
        u = quantile(torch.rand(i.shape, generator=rng), z[i])
        w = torch.rand(i.shape, generator=rng).sub(0.5).sign()
        nets = torch.stack([AMPLITUDE * u, w * kink[i], w], -1)
        x = r[i] * u
        sets = {"half": x.mean(1) >= 1 - eps, "ball": squared_loss(nets) <= eps**2}
        for name, inside in sets.items():
            log10, error = estimate(x, inside, theta, K)
            found.setdefault(name, []).append(float(log10))
            found.setdefault(name + "_error", []).append(float(error))
            found.setdefault(name + "_hits", []).append(int(inside.sum()))
    found = {name: torch.tensor(v) for name, v in found.items()}
    needed = (10 ** -found["half"] - 1) / found["half_error"] ** 2
    return found | {"half_gain": needed / draws, "eps": levels, "draws": draws}
""",
        "picture": "data = experiment()",
    },
}
