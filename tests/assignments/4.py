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
    },
    "branches with where, logaddexp; the lattice": {
        "cumulant": """
def parts(z):
    a = z.abs()
    s = a < 0.03
    b = torch.where(s, 1.0, a)
    L = b - math.log(2) - b.log() + torch.log1p(-torch.exp(-2 * b))
    L = torch.where(s, a**2 / 6 - a**4 / 180, L)
    C = 1 / torch.tanh(b) - 1 / b
    C = torch.where(s, a / 3 - a**3 / 45, C) * z.sign()
    return L, C


def cumulant(theta, r, weights):
    L, C = parts(theta[..., None] * r)
    t = weights.log() + L
    return t.logsumexp(-1), (t.softmax(-1) * r * C).sum(-1)
""",
        "quantile": """
def quantile(p, z):
    p, z = torch.broadcast_tensors(p, z)
    a = z.abs()
    q = torch.where(z < 0, 1 - p, p)
    small = a < 0.5
    s = torch.where(small, torch.where(a == 0, 1e-20, a), 1.0)
    near = -1 + torch.log1p(q * torch.expm1(2 * s)) / s
    g = torch.where(small, 1.0, a)
    far = 1 + torch.logaddexp(q.log(), torch.log1p(-q) - 2 * g) / g
    u = torch.where(small, near, far)
    return torch.where(z < 0, -u, u)
""",
        "estimate": """
def estimate(x, inside, theta, K):
    N, n = x.shape
    if not inside.any():
        return -math.inf, math.inf
    w = (n * K - theta * x.sum(1))[inside]
    top = w.max()
    W = torch.exp(w - top)
    P = W.sum() / N
    var = (W**2).sum() / N - P**2
    return (P.log() + top) / math.log(10), var.clamp(min=0).sqrt() / (math.sqrt(N) * P)
""",
        "experiment": """
def experiment():
    N = 60_000
    names = "eps half half_error half_hits ball ball_error ball_hits half_gain"
    out = {k: [] for k in names.split()}
    g = torch.Generator().manual_seed(SEED)
    for eps in (0.95, 0.9, 0.85, 0.8, 0.75):
        nets, x, theta, K = tilted_networks(eps, N, g)
        w = NEURONS * K - theta * x.sum(1)
        out["eps"].append(eps)
        sets = {"half": x.mean(1) >= 1 - eps, "ball": squared_loss(nets) <= eps**2}
        for name, inside in sets.items():
            W = torch.where(inside, w.exp(), 0.0)
            P = W.mean()
            hits = int(inside.sum())
            err = (W.var(correction=0) / N).sqrt() / P if hits else torch.tensor(math.inf)
            out[name].append(P.log10().item() if hits else -math.inf)
            out[name + "_error"].append(err.item())
            out[name + "_hits"].append(hits)
            if name == "half":
                out["half_gain"].append(((1 - P) / (P * err**2) / N).item())
    return {k: torch.tensor(v) for k, v in out.items()} | {"draws": N}

""",
    },
    "floats in loops, bisection; own sampler in the experiment": {
        "cumulant": """
def cumulant(theta, r, weights):
    K, D = [], []
    for th in theta.reshape(-1).tolist():
        terms = []
        for ri, w in zip(r.tolist(), weights.tolist()):
            z = abs(th * ri)
            if z < 1e-2:
                L, C = z * z / 6 - z**4 / 180, z / 3 - z**3 / 45
            else:
                L = z + math.log1p(-math.exp(-2 * z)) - math.log(2 * z)
                C = 1 / math.tanh(z) - 1 / z
            terms.append((L, w, ri * math.copysign(C, th * ri)))
        top = max(t[0] for t in terms)
        s = sum(w * math.exp(L - top) for L, w, _ in terms)
        K.append(top + math.log(s))
        D.append(sum(w * math.exp(L - top) * c for L, w, c in terms) / s)
    return torch.tensor(K).reshape(theta.shape), torch.tensor(D).reshape(theta.shape)
""",
        "quantile": """
def quantile(p, z):
    import numpy as np
    p, z = np.broadcast_arrays(p.numpy(), z.numpy())
    p, z = p.astype(float), z.astype(float)
    a = np.where(z == 0, 1e-30, np.abs(z))
    q = np.where(z > 0, 1 - p, p)        # below for the falling density
    tail = np.where(z > 0, p, 1 - p)     # 1 - q, without rounding
    # falling: 1 - q = (exp(-a(u+1)) - exp(-2a)) / (1 - exp(-2a))
    with np.errstate(divide="ignore"):
        lo, hi = np.zeros_like(a), 2 * np.ones_like(a)
        for _ in range(70):
            y = (lo + hi) / 2
            # share above y, y from 0 to 2
            up = np.exp(-a * y) * -np.expm1(-a * (2 - y)) / -np.expm1(-2 * a)
            left = -np.expm1(-a * y) / -np.expm1(-2 * a)
            more = np.where(q < 0.5, left < q, up > tail)
            lo = np.where(more, y, lo)
            hi = np.where(more, hi, y)
    u = (lo + hi) / 2 - 1
    return torch.tensor(np.where(z > 0, -u, u))
""",
        "estimate": """
def estimate(x, inside, theta, K):
    N, n = len(x), x.shape[1]
    logs = [n * K - theta * sum(row) for row, i in zip(x.tolist(), inside.tolist()) if i]
    if not logs:
        return float("-inf"), float("inf")
    top = max(logs)
    one = math.fsum(math.exp(l - top) for l in logs) / N
    two = math.fsum(math.exp(2 * (l - top)) for l in logs) / N
    return (top + math.log(one)) / math.log(10), math.sqrt(two - one * one) / (math.sqrt(N) * one)
""",
        "experiment": """
def experiment():
    import numpy as np
    rng = np.random.default_rng(SEED + 1)
    N = 100_000
    kinks = np.linspace(-1, 1, 1001)
    r = AMPLITUDE * target.g(torch.tensor(kinks)[:, None]).numpy()

    def logshc(z):
        one = np.where(abs(z) < 1e-3, 1, abs(z))
        return np.where(abs(z) < 1e-3, z**2 / 6, np.log(np.sinh(one) / one))

    levels = [0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76]
    rows = []
    for eps in levels:
        def Kof(t):
            return np.log(np.mean(np.exp(logshc(t * r))))
        lo, hi = 0.0, 300.0
        for _ in range(60):
            t = (lo + hi) / 2
            d = (Kof(t + 1e-4) - Kof(t - 1e-4)) / 2e-4
            lo, hi = (t, hi) if d < 1 - eps else (lo, t)
        K = Kof(t)
        law = np.exp(logshc(t * r)); law /= law.sum()
        i = rng.choice(len(r), size=(N, NEURONS), p=law)
        z = t * r[i]
        p = rng.random(z.shape)
        z = np.where(abs(z) < 1e-7, 1e-7, z)
        u = np.sign(z) * (1 + np.log(p + (1 - p) * np.exp(-2 * abs(z))) / abs(z))
        x = r[i] * u
        s = rng.choice([-1.0, 1.0], size=z.shape)
        nets = torch.tensor(np.stack([AMPLITUDE * u, s * kinks[i], s], -1))
        W0 = np.exp(NEURONS * K - t * x.sum(1))
        row = [eps]
        for inside in (x.mean(1) >= 1 - eps, squared_loss(nets).numpy() <= eps**2):
            W = W0 * inside
            P = W.mean()
            hits = inside.sum()
            if hits:
                err = W.std() / np.sqrt(N) / P
                row += [np.log10(P), err, hits]
            else:
                row += [-np.inf, np.inf, 0]
        P = 10 ** row[1]
        row.append((1 - P) / P / row[2] ** 2 / N)
        rows.append(row)
    names = "eps half half_error half_hits ball ball_error ball_hits half_gain"
    return {k: torch.tensor(v) for k, v in zip(names.split(), zip(*rows))} | {"draws": N}

""",
    },
}
