"""Wrong answers to assignment 3, and the marks that they lose."""

GRAM = {"gram-values": 2, "gram-ends": 1, "gram-batch": 2}
ROOTS = {"roots-first": 2, "roots-many": 2}
SOLVE = {"solve-weights": 2, "solve-affine": 1, "solve-cut": 2, "solve-batch": 1}


def gram(mixed, b="b", end="gram - mixed @ mixed.mT"):
    """`free_gram` with these inner products with the affine functions."""
    return f"""
def free_gram(b):
    b = {b}
    kink, other = b[..., :, None], b[..., None, :]
    rest = 1 - torch.maximum(kink, other)
    gram = rest**3 / 3 + (kink - other).abs() * rest**2 / 2
    mixed = torch.stack({mixed}, -1)
    return {end}
"""


MEAN, TILT = "(1 - b) ** 2 / 8**0.5", "(1 - b) ** 2 * (2 + b) / 24**0.5"


def solve(hat="(f - f_affine @ mixed.mT)", top="values[-1]", c="f_affine - a @ mixed"):
    """`skip_solve` with another right-hand side, largest eigenvalue or c."""
    return f"""
def skip_solve(gram, mixed, f, f_affine, delta):
    values, vectors = torch.linalg.eigh(gram)
    keep = values > delta * {top}
    hat = {hat} @ vectors[:, keep]
    a = (hat / values[keep]) @ vectors[:, keep].mT
    return a, {c}
"""


def race(free="layer - affine @ (affine.mT @ layer)", rate="1 / (2 * values[-1])", wave="wave"):
    """A race by the exact law of gradient descent on the spectrum of samples."""
    return f"""
def race():
    n = 300
    x = torch.linspace(-1, 1, n + 2)[1:-1]
    layer = torch.relu(x[:, None] - x) * 2 / (n + 1)
    affine = torch.linalg.qr(torch.stack([torch.ones(n), x], 1)).Q
    plain = layer @ layer.mT
    free = {free}
    found = {{}}
    for name, kernel, shift in (("plain", plain, -0.5), ("skip", free @ free.mT, 0.5)):
        values, modes = torch.linalg.eigh(kernel)
        mode = torch.arange(2, 9)
        wave = (mode + shift) * math.pi / 2
        rate = {rate}
        steps = math.log(2) / -torch.log1p(-rate * values.flip(0)[mode - 1])
        found[name] = {wave}, steps
    return found
"""


TRAINED = """
def race():
    n = 300
    x = torch.linspace(-1, 1, n + 2)[1:-1]
    layer = torch.relu(x[:, None] - x) * 2 / (n + 1)
    plain = layer @ layer.mT
    skip = plain + (1 + torch.outer(x, x)) * 2 / (n + 1)
    found = {}
    mode = torch.arange(2, 9)
    for name, kernel, shift in (("plain", plain, 0), ("skip", skip, 2)):
        values = torch.linalg.eigvalsh(kernel).flip(0)
        steps = math.log(2) / -torch.log1p(-values[mode - 1 + shift] / (2 * values[0]))
        found[name] = (mode - 0.5 + shift / 2) * math.pi / 2, steps
    return found
"""

WRONG = {
    "only the mean is taken off": ({"free-gram": gram(f"[{MEAN}]")}, GRAM),
    "e_1 = x, not normalised": ({"free-gram": gram(f"[{MEAN}, {TILT} / 1.5**0.5]")}, GRAM),
    "added, not taken off": (
        {"free-gram": gram(f"[{MEAN}, {TILT}]", end="gram + mixed @ mixed.mT")},
        GRAM,
    ),
    "Gram matrix in float32": (
        {"free-gram": gram(f"[{MEAN}, {TILT}]", b="b.float()", end="(gram - mixed @ mixed.mT)")},
        GRAM,
    ),
    "Gram matrix without a batch": (
        {
            "free-gram": gram(f"[{MEAN}, {TILT}]", end="gram - mixed @ mixed.T").replace(
                "b[..., :, None], b[..., None, :]", "b[:, None], b[None, :]"
            )
        },
        {"gram-batch": 2},
    ),
    "the number of the shown test": (
        {"free-gram": "def free_gram(b):\n    return torch.full((len(b), len(b)), 1 / 24)"},
        GRAM,
    ),
    "the clamped beam of the chapter": (
        {
            "free-roots": """
def free_roots(count):
    low = math.pi * torch.arange(count, dtype=torch.float64)
    high = low + math.pi
    rising = torch.arange(count) % 2 == 1
    for _ in range(60):
        middle = (low + high) / 2
        above = middle.cos() + 1 / middle.cosh() > 0
        low = torch.where(above == rising, low, middle)
        high = torch.where(above == rising, middle, high)
    return (low + high) / 2
"""
        },
        ROOTS,
    ),
    "the asymptotic roots": (
        {
            "free-roots": "def free_roots(count):\n"
            "    return (torch.arange(1, count + 1) + 0.5) * math.pi"
        },
        {"roots-first": 2},
    ),
    "cosh overflows": (
        {
            "free-roots": """
def free_roots(count):
    k = (torch.arange(1, count + 1) + 0.5) * math.pi
    for _ in range(20):
        slope = k.cos() * k.sinh() - k.sin() * k.cosh()
        k = k - (k.cos() * k.cosh() - 1) / slope
    return k
"""
        },
        {"roots-many": 2},
    ),
    "zero counted as a root": (
        {
            "free-roots": """
def free_roots(count):
    k = (torch.arange(count) + 0.5) * math.pi
    k[0] = 0.0
    for _ in range(40):
        sign = (-1.0) ** torch.arange(count)
        new = (torch.arange(count) + 0.5) * math.pi - sign * torch.asin(1 / k.cosh())
        k = torch.where(k > 0, new, k)
    return k
"""
        },
        ROOTS,
    ),
    "the skip connection does not touch a": (
        {"skip-solve": solve(hat="f")},
        SOLVE,
    ),
    "the affine part with the wrong sign": (
        {"skip-solve": solve(hat="(f + f_affine @ mixed.mT)")},
        SOLVE,
    ),
    "c without the affine parts of the neurons": (
        {"skip-solve": solve(c="f_affine + 0 * (a @ mixed)")},
        {"solve-affine": 1},
    ),
    "an absolute threshold": ({"skip-solve": solve(top="1.0")}, {"solve-cut": 2}),
    "the smallest eigenvalue taken for the largest": (
        {"skip-solve": solve(top="values[0]")},
        {"solve-cut": 2},
    ),
    "one target only": (
        {
            "skip-solve": """
def skip_solve(gram, mixed, f, f_affine, delta):
    values, vectors = torch.linalg.eigh(gram)
    hat = vectors.T @ (f - mixed @ f_affine)
    hat = torch.where(values > delta * values[-1], hat / values, 0.0)
    a = vectors @ hat
    return a, f_affine - mixed.T @ a
"""
        },
        {"solve-batch": 1},
    ),
    "the learning rate of the plain layer for both": (
        {"race": race(rate="1 / (2 * torch.linalg.eigvalsh(plain)[-1])")},
        {"race-gain": 3},
    ),
    "a skip connection that is trained": ({"race": TRAINED}, {"race-gain": 3}),
    "nothing is projected, and the wave numbers are of another layer": (
        {"race": race(free="layer")},
        {"race-skip": 2, "race-gain": 3},
    ),
    "twice the learning rate": (
        {"race": race(rate="1 / (1.001 * values[-1])")},
        {"race-plain": 3},
    ),
    "periods, not radians": (
        {"race": race(wave="wave / (2 * math.pi)")},
        {"race-plain": 3},
    ),
    "the index for the wave number": (
        {"race": race(wave="mode")},
        {"race-plain": 3, "race-skip": 2, "race-gain": 3},
    ),
    "too few waves": (
        {"race": race().replace("torch.arange(2, 9)", "torch.arange(2, 6)")},
        {"race-data": 2},
    ),
}

RIGHT = {
    "Green's function, roots by scipy, another race": {
        "free-gram": """
def free_gram(b):
    s, t = (1 + b[..., :, None]) / 2, (1 + b[..., None, :]) / 2
    s, t = torch.minimum(s, t), torch.maximum(s, t)
    return 4 / 3 * s**2 * (1 - t) ** 2 * (2 * t * (1 - s) + (t - s))
""",
        "free-roots": """
def free_roots(count):
    from scipy.optimize import brentq

    def f(k):
        return math.cos(k) - 2 * math.exp(-k) / (1 + math.exp(-2 * k))

    pi = math.pi
    return torch.tensor([brentq(f, n * pi, (n + 1) * pi, xtol=1e-13) for n in range(1, count + 1)])
""",
        "skip-solve": """
def skip_solve(gram, mixed, f, f_affine, delta):
    inverse = torch.linalg.pinv(gram, rtol=delta, hermitian=True)
    a = (inverse @ (f[..., None] - mixed @ f_affine[..., None]))[..., 0]
    return a, f_affine - (mixed.mT @ a[..., None])[..., 0]
""",
        "race": race(),
    },
    "numpy, loops, the package's beam and lists": {
        "free-gram": """
import numpy as np

def free_gram(b):
    x, w = np.polynomial.legendre.leggauss(6)
    flat = b.reshape(-1, b.shape[-1]).numpy()
    out = []
    for kinks in flat:
        ends = np.unique(np.concatenate([[-1.0, 1.0], kinks]))
        h = np.diff(ends) / 2
        points = (ends[:-1, None] + h[:, None] * (x + 1)).ravel()
        weight = (h[:, None] * w).ravel()
        psi = np.maximum(points[:, None] - kinks, 0)
        e = np.stack([points**0 / 2**0.5, points * 1.5**0.5], 1)
        psi = psi - e @ (e.T @ (psi * weight[:, None]))
        out.append(psi.T @ (psi * weight[:, None]))
    return torch.tensor(np.array(out)).reshape(*b.shape, b.shape[-1])
""",
        "free-roots": """
def free_roots(count):
    base = (torch.arange(1, count + 1) + 0.5) * math.pi
    sign = (-1.0) ** torch.arange(1, count + 1)
    k = base
    for _ in range(30):
        k = base + sign * -torch.asin(1 / k.cosh())
    return k
""",
        "skip-solve": """
import numpy as np

def skip_solve(gram, mixed, f, f_affine, delta):
    values, vectors = np.linalg.eigh(gram.numpy())
    a, c = torch.zeros_like(f), torch.zeros_like(f_affine)
    for where in np.ndindex(*f.shape[:-1]):
        rest = (f[where] - mixed @ f_affine[where]).numpy()
        for value, vector in zip(values, vectors.T):
            if value > delta * values[-1]:
                a[where] += torch.tensor(vector * (vector @ rest) / value)
        c[where] = f_affine[where] - mixed.T @ a[where]
    return a, c
""",
        "race": """
def race():
    from dynbook.beam import beam_spectrum

    mu = beam_spectrum(21)
    kappa = [4.730040744862704] + [(k + 0.5) * math.pi for k in range(2, 22)]
    free = [(2 / k) ** 4 for k in kappa]
    found = {}
    for name, spectrum in (("plain", mu.tolist()), ("skip", free)):
        some = spectrum[1:21]
        steps = [math.ceil(math.log(0.5) / math.log(1 - v / (2 * spectrum[0]))) for v in some]
        found[name] = [v**-0.25 for v in some], steps
    return found
""",
    },
    "gradient descent on the weights, from an exact Gram matrix": {
        "race": """
def race():
    n = 120
    b = -1 + (2 * torch.arange(n) + 1) / n
    m = 1 - torch.maximum(b[:, None], b)
    gram = m**3 / 3 + (b[:, None] - b).abs() * m**2 / 2
    one, slope = (1 - b) ** 2 / 2, (1 - b) ** 2 * (2 + b) / 6
    free = gram - torch.outer(one, one) / 2 - torch.outer(slope, slope) * 1.5
    found = {}
    for name, g, start in (("plain", gram, 1.5), ("skip", free, 2.5)):
        values, vectors = torch.linalg.eigh(g)
        rate, waves, halved = 1 / (2 * values[-1]), [], []
        for k in range(5):
            mode = vectors[:, -2 - k]
            f = mode * values[-2 - k] ** 0.5  # moments of the unit target u_k
            a, step, error = torch.zeros(n), 0, 1.0
            while error > 0.5:
                a, step = a + rate * (f - g @ a), step + 1
                error = (1 - 2 * (a @ f) + a @ g @ a).clamp(min=0).sqrt().item()
            waves.append((start + k) * math.pi / 2)
            halved.append(step)
        found[name] = waves, halved
    return found
""",
    },
    "closed forms, Newton, pinv, exact law from Gram matrices, integers": {
        "free-gram": """
def free_gram(b):
    m = torch.maximum(b[..., :, None], b[..., None, :])
    gap = (b[..., :, None] - b[..., None, :]).abs()
    G = (1 - m) ** 3 / 3 + gap * (1 - m) ** 2 / 2
    m0 = (1 - b) ** 2 / math.sqrt(8)
    m1 = math.sqrt(1.5) * ((1 - b**3) / 3 - b * (1 - b**2) / 2)
    return G - m0[..., None] * m0[..., None, :] - m1[..., None] * m1[..., None, :]
""",
        "free-roots": """
def free_roots(count):
    k = torch.arange(1, count + 1)
    x = (k + 0.5) * math.pi
    for _ in range(50):
        s = 2 * torch.exp(-x) / (1 + torch.exp(-2 * x))
        x = x - (torch.cos(x) - s) / (-torch.sin(x) + s * torch.tanh(x))
    return x
""",
        "skip-solve": """
def skip_solve(gram, mixed, f, f_affine, delta):
    P = torch.linalg.pinv(gram, rtol=delta, hermitian=True)
    a = (f - f_affine @ mixed.T) @ P
    return a, f_affine - a @ mixed
""",
        "race": """
def race():
    import numpy as np
    n = 300
    b = np.linspace(-1, 1, n + 1)[:-1] + 1 / n
    m = np.maximum(b[:, None], b)
    G = (1 - m) ** 3 / 3 + abs(b[:, None] - b) * (1 - m) ** 2 / 2
    M = np.stack([(1 - b) ** 2 / 8**0.5, 1.5**0.5 * (1 - b) ** 2 * (2 + b) / 6], 1)
    out = {}
    for name, g, shift in (("plain", G, -0.5), ("skip", G - M @ M.T, 0.5)):
        lam = np.linalg.eigvalsh(g)[::-1]
        k = np.arange(2, 10)
        waves = (k + shift) * np.pi / 2
        steps = np.ceil(np.log(0.5) / np.log(1 - lam[k - 1] / (2 * lam[0])))
        out[name] = (waves, steps)
    return out
""",
    },
    "pairs by Gauss, bisection, eigh, simulation on samples with measured waves": {
        "free-gram": """
def free_gram(b):
    import numpy as np
    t, w = np.polynomial.legendre.leggauss(4)
    B = b.double().numpy()
    lead, n = B.shape[:-1], B.shape[-1]
    B = B.reshape(-1, n)
    out = np.zeros((len(B), n, n))
    for q, row in enumerate(B):
        for i in range(n):
            for j in range(i + 1):
                cuts = [-1.0, *sorted((row[i], row[j])), 1.0]
                X, W = [], []
                for lo, hi in zip(cuts, cuts[1:]):
                    X.append((lo + hi) / 2 + (hi - lo) / 2 * t)
                    W.append((hi - lo) / 2 * w)
                X, W = np.concatenate(X), np.concatenate(W)
                u, v = np.maximum(X - row[i], 0), np.maximum(X - row[j], 0)
                e0, e1 = 0 * X + 0.5**0.5, 1.5**0.5 * X
                s = (W * u * v).sum()
                for e in (e0, e1):
                    s -= (W * u * e).sum() * (W * v * e).sum()
                out[q, i, j] = out[q, j, i] = s
    return torch.tensor(out.reshape(*lead, n, n), dtype=b.dtype)
""",
        "free-roots": """
def free_roots(count):
    def g(x):
        return math.cos(x) - (1 / math.cosh(x) if x < 700 else 0.0)

    out = []
    for k in range(1, count + 1):
        lo, hi = k * math.pi, (k + 1) * math.pi
        for _ in range(80):
            mid = (lo + hi) / 2
            if g(lo) * g(mid) <= 0:
                hi = mid
            else:
                lo = mid
        out.append((lo + hi) / 2)
    return torch.tensor(out)
""",
        "skip-solve": """
def skip_solve(gram, mixed, f, f_affine, delta):
    lam, V = torch.linalg.eigh(gram)
    keep = lam > delta * lam[-1]
    lam, V = lam[keep], V[:, keep]
    rhs = f - (mixed @ f_affine[..., None])[..., 0]
    a = ((rhs @ V) / lam) @ V.T
    c = f_affine - (mixed.T @ a[..., None])[..., 0]
    return a, c
""",
        "race": """
def race():
    n, m = 120, 240
    b = -1 + (2 * torch.arange(n) + 1) / n
    x = -1 + (2 * torch.arange(m) + 1) / m
    A = torch.relu(x[:, None] - b)
    E, _ = torch.linalg.qr(torch.stack([torch.ones(m), x], 1))
    out = {}
    for name, B in (("plain", A), ("skip", A - E @ (E.T @ A))):
        U, S, Vh = torch.linalg.svd(B, full_matrices=False)
        eta = 1 / (2 * S[0] ** 2)
        waves, steps = [], []
        for k in range(1, 7):
            f = U[:, k]
            sign = (f[1:] * f[:-1] < 0).nonzero()[:, 0]
            z = x[sign] - f[sign] * (x[1] - x[0]) / (f[sign + 1] - f[sign])
            if len(z) < 2:
                continue
            waves.append(math.pi * (len(z) - 1) / (z[-1] - z[0]).item())
            a = torch.zeros(n)
            t, before = 0, f.norm().item()
            while True:
                a = a - eta * (B.T @ (B @ a - f))
                t += 1
                now = (B @ a - f).norm().item()
                if now <= 0.5:
                    steps.append(t - (0.5 - now) / (before - now))
                    break
                before = now
        out[name] = (torch.tensor(waves), torch.tensor(steps))
    return out
""",
    },
    "gradient flow, waves from the eigenvalues": {
        "race": """
def race():
    n = 200
    b = -1 + (2 * torch.arange(n) + 1) / n
    m = torch.maximum(b[:, None], b)
    G = (1 - m) ** 3 / 3 + (b[:, None] - b).abs() * (1 - m) ** 2 / 2
    x = torch.linspace(-1, 1, 4001)
    P = torch.relu(x[:, None] - b)
    w = torch.full((4001,), 2 / 4000); w[0] = w[-1] = 1 / 4000
    e = torch.stack([torch.full_like(x, 0.5**0.5), 1.5**0.5 * x], 1)
    M = P.T @ (w[:, None] * e)
    out = {}
    for name, g in (("plain", G), ("skip", G - M @ M.T)):
        lam = torch.linalg.eigvalsh(g).flip(0)
        k = torch.tensor([2, 3, 5, 7, 10, 14]) - 1
        out[name] = ((2 / n * lam[k]) ** -0.25, 2 * math.log(2) * lam[0] / lam[k])
    return out
""",
    },
}
