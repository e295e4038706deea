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
}
