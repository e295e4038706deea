"""Wrong answers to assignment 6, and the marks that they lose."""

LAYER = """
def lossy_layer(x, weights, h, gamma):
    K1, b1, K2, b2 = weights
    rub = math.exp(-gamma * h / 2)
    y, z = x.chunk(2, -1)
    z = rub * z - h / 2 * torch.tanh(y @ K2.T + b2) @ K2
    y = y + h * torch.tanh(z @ K1.T + b1) @ K1
    z = z - h / 2 * torch.tanh(y @ K2.T + b2) @ K2
    return torch.cat([y, rub * z], -1)
"""

PULL = """
def pull(x, a, weights, h, gamma):
    K1, b1, K2, b2 = weights
    rub = math.exp(-gamma * h / 2)
    (y, z), (p, q) = x.chunk(2, -1), a.chunk(2, -1)
    z, q = z / rub, rub * q
    t = torch.tanh(y @ K2.T + b2)
    z, late = z + h / 2 * t @ K2, -h / 2 * (1 - t**2) * (q @ K2.T)
    p = p + late @ K2
    t = torch.tanh(z @ K1.T + b1)
    y, g1 = y - h * t @ K1, h * (1 - t**2) * (p @ K1.T)
    q = q + g1 @ K1
    t = torch.tanh(y @ K2.T + b2)
    z, early = z + h / 2 * t @ K2, -h / 2 * (1 - t**2) * (q @ K2.T)
    p = p + early @ K2
    before = torch.cat([y, z / rub], -1), torch.cat([p, rub * q], -1)
    return *before, g1, early + late
"""

FRICTION = """
def damp(v, store, n, d):
    store = store * d + v % d
    v = v // d * n + store % n
    return v, store // n


def undamp(v, store, n, d):
    store = store * n + v % n
    v = v // n * d + store % d
    return v, store // d
"""

WAY = """
def way_back():
    gammas = torch.tensor([0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    weights, x = wild_networks(8)
    x, gamma = x.repeat(len(gammas), 1, 1), gammas[:, None, None]
    layer = friction_layer(weights, STEP, gamma)
    rates = lyapunov_spectrum(
        layer, x, n=LAYERS, dt=STEP, qr_every=20
    ).exponents
    kind = torch.float32
    weights, gamma = [w.to(kind) for w in weights], gamma.to(kind)
    orbit = [x.to(kind)]
    layer = friction_layer(weights, STEP, gamma)
    for _ in range(LAYERS):
        orbit.append(layer(orbit[-1]))
    size = torch.stack(orbit).square().sum(-1).mean(0).sqrt()
    found, layer = orbit[-1], friction_layer(weights, -STEP, gamma)
    undone = torch.full(size.shape, LAYERS)
    for number in range(1, LAYERS + 1):
        found = layer(found).nan_to_num().clamp(-1e6, 1e6)
        far = (found - orbit[-1 - number]).norm(dim=-1) > 1e-3 * size
        undone[far & (undone == LAYERS)] = number
    return {
        "gammas": gammas,
        "first": rates[..., 0],
        "last": rates[..., -1],
        "undone": undone,
    }


way = way_back()
"""


def changed(source, old, new):
    assert old in source, old
    return source.replace(old, new)


WRONG = {
    "friction once, at the end of the layer": (
        {
            "lossy-layer": changed(
                changed(LAYER, "z = rub * z -", "z = z -"),
                "rub * z], -1)",
                "rub**2 * z], -1)",
            )
        },
        {"lossy-one": 2, "lossy-batch": 2},
    ),
    "the second kick uses the old y": (
        {
            "lossy-layer": """
def lossy_layer(x, weights, h, gamma):
    K1, b1, K2, b2 = weights
    rub = math.exp(-gamma * h / 2)
    y, z = x.chunk(2, -1)
    kick = h / 2 * torch.tanh(y @ K2.T + b2) @ K2
    z = rub * z - kick
    y = y + h * torch.tanh(z @ K1.T + b1) @ K1
    return torch.cat([y, rub * (z - kick)], -1)
"""
        },
        {"lossy-one": 2, "lossy-batch": 2},
    ),
    "a layer for one state, not for a batch": (
        {
            "lossy-layer": """
def lossy_layer(x, weights, h, gamma):
    K1, b1, K2, b2 = weights
    rub = math.exp(-gamma * h / 2)
    y, z = x.chunk(2, -1)
    z = rub * z - h / 2 * K2.T @ torch.tanh(K2 @ y + b2)
    y = y + h * K1.T @ torch.tanh(K1 @ z + b1)
    z = z - h / 2 * K2.T @ torch.tanh(K2 @ y + b2)
    return torch.cat([y, rub * z], -1)
"""
        },
        {"lossy-batch": 2},
    ),
    "the slope is divided by the friction, like the state": (
        {
            "pull": changed(
                changed(PULL, "z / rub, rub * q\n", "z / rub, q / rub\n"),
                "[p, rub * q]",
                "[p, q / rub]",
            )
        },
        {"pull-slope": 3, "pull-bias": 2},
    ),
    "the slope of tanh forgotten": (
        {"pull": changed(PULL, "(1 - t**2) * ", "")},
        {"pull-slope": 3, "pull-bias": 2},
    ),
    "only one of the two kicks counts for b2": (
        {"pull": changed(PULL, "early + late", "late")},
        {"pull-bias": 2},
    ),
    "the state keeps its first rub": (
        {"pull": changed(PULL, "[y, z / rub]", "[y, z]")},
        {"pull-state": 1},
    ),
    "remainders are stored, and no room is made": (
        {
            "friction": """
def damp(v, store, n, d):
    return v // d * n, store * d + v % d


def undamp(v, store, n, d):
    return v // n * d + store % d, store // d
"""
        },
        {"friction-size": 2},
    ),
    "rounded, and nothing stored": (
        {
            "friction": """
def damp(v, store, n, d):
    return v * n // d, store


def undamp(v, store, n, d):
    return -(-v * d // n), store
"""
        },
        {"friction-undone": 2, "friction-size": 2},
    ),
    "multiplied by d / n, and exactly undone": (
        {
            "friction": FRICTION.replace("damp", "swap")
            + """

def damp(v, store, n, d):
    return swap(v, store, d, n)


def undamp(v, store, n, d):
    return unswap(v, store, d, n)
"""
        },
        {"friction-value": 1, "friction-size": 2},
    ),
    "exponents per layer, not per unit of time": (
        {"way": changed(WAY, "dt=STEP, ", "")},
        {"way-pairs": 3, "way-law": 3},
    ),
    "the way back in float64": (
        {"way": changed(WAY, "torch.float32", "torch.float64")},
        {"way-law": 3, "way-longest": 3},
    ),
    "no friction on the way back": (
        {
            "way": changed(
                WAY,
                "friction_layer(weights, -STEP, gamma)",
                "friction_layer(weights, -STEP, 0 * gamma)",
            )
        },
        {"way-law": 3, "way-longest": 3},
    ),
    "frictions only up to a half": (
        {"way": changed(WAY, "0.5, 1.0]", "0.4, 0.5]")},
        {"way-design": 1},
    ),
    "the middle one of the exponents for the least": (
        {"way": changed(WAY, "rates[..., -1]", "rates[..., 6]")},
        {"way-pairs": 3, "way-law": 3},
    ),
}

RIGHT = {
    "numpy, one state at a time, and other digits": {
        "lossy-layer": """
import numpy as np


def lossy_layer(x, weights, h, gamma):
    K1, b1, K2, b2 = (np.asarray(w) for w in weights)

    def one(row):
        y, z = np.split(row, 2)
        z = np.exp(-gamma * h / 2) * z
        z = z - h / 2 * K2.T @ np.tanh(K2 @ y + b2)
        y = y + h * K1.T @ np.tanh(K1 @ z + b1)
        z = z - h / 2 * K2.T @ np.tanh(K2 @ y + b2)
        return np.concatenate([y, np.exp(-gamma * h / 2) * z])

    rows = [one(row) for row in x.numpy().reshape(-1, x.shape[-1])]
    return torch.tensor(np.array(rows)).view(x.shape)
""",
        "pull": """
def pull(x, a, weights, h, gamma):
    K1, b1, K2, b2 = weights
    n, m, k = K1.shape[1], len(K1), len(K2)
    eye = torch.eye(2 * n)
    g = {1: torch.zeros(*x.shape[:-1], m), 2: torch.zeros(*x.shape[:-1], k)}
    rub = torch.ones(2 * n)
    rub[n:] = math.exp(-gamma * h / 2)
    x, a = x / rub, a * rub
    for which, length in ((2, -h / 2), (1, h), (2, -h / 2)):
        K, b = (K1, b1) if which == 1 else (K2, b2)
        into, of = (eye[:n], eye[n:]) if which == 1 else (eye[n:], eye[:n])
        u = torch.einsum("mn,nd,...d->...m", K, of, x) + b
        x = x - length * torch.einsum("mn,nd,...m->...d", K, into, u.tanh())
        pushed = torch.einsum("mn,nd,...d->...m", K, into, a)
        pushed = length * pushed / u.cosh() ** 2
        g[which] = g[which] + pushed
        a = a + torch.einsum("mn,nd,...m->...d", K, of, pushed)
    return x / rub, a * rub, g[1], g[2]
""",
        "friction": """
def damp(v, store, n, d):
    q, r = divmod(v, d)
    store, digit = divmod(store * d + (d - 1 - r), n)
    return q * n + (n - 1 - digit), store


def undamp(v, store, n, d):
    q, digit = divmod(v, n)
    store, r = divmod(store * n + (n - 1 - digit), d)
    return q * d + (d - 1 - r), store
""",
    },
    "other frictions one after the other, ten networks, lists of numbers": {
        "way": """
def way_back():
    data = {"gammas": [0, 0.03, 0.06, 0.12, 0.4, 1.5], "undone": []}
    weights, x = wild_networks(10)
    every = torch.tensor(data["gammas"])[:, None, None]
    found = lyapunov_spectrum(
        friction_layer(weights, STEP, every),
        x.repeat(6, 1, 1),
        n=LAYERS,
        dt=STEP,
        qr_every=50,
    ).exponents
    data["first"] = found.amax(-1).tolist()
    data["last"] = found.amin(-1).tolist()
    single = [w.float() for w in weights]
    for number in data["gammas"]:
        gamma = torch.tensor(number, dtype=torch.float32)
        there = friction_layer(single, STEP, gamma)
        back = friction_layer(single, -STEP, gamma)
        orbit = [x.float()]
        for _ in range(LAYERS):
            orbit.append(there(orbit[-1]))
        total = sum(state.square().sum(-1) for state in orbit)
        size, now, count = (total / len(orbit)).sqrt(), orbit.pop(), 0
        undone = [LAYERS] * 10
        while orbit:
            now, kept, count = back(now), orbit.pop(), count + 1
            for i, gap in enumerate((now - kept).norm(dim=-1) / size):
                if undone[i] == LAYERS and not gap <= 1e-3:
                    undone[i] = count
        data["undone"].append(undone)
    return data


way = way_back()
"""
    },
    "numpy, Jacobians written out, a digit taken before one is given": {
        "lossy-layer": """
import numpy as np
def lossy_layer(x, weights, h, gamma):
    x = np.asarray(x, dtype=float)
    K1, b1, K2, b2 = (np.asarray(w, dtype=float) for w in weights)
    n = K1.shape[1]
    y, z = x[..., :n].copy(), x[..., n:].copy()
    z *= np.exp(-gamma * h / 2)
    z -= h / 2 * np.tanh(y @ K2.T + b2) @ K2
    y += h * np.tanh(z @ K1.T + b1) @ K1
    z -= h / 2 * np.tanh(y @ K2.T + b2) @ K2
    z *= np.exp(-gamma * h / 2)
    return torch.tensor(np.concatenate([y, z], -1))
""",
        "pull": """
def pull(x, a, weights, h, gamma):
    K1, b1, K2, b2 = weights
    n, rub, rows = len(K1.T), math.exp(-gamma * h / 2), []
    one, none = torch.eye(n), torch.zeros(n, n)
    for p, s in zip(x.reshape(-1, 2 * n), a.reshape(-1, 2 * n)):
        F = torch.block_diag(one, rub * one)
        p, s, of_b = p / torch.diag(F), F @ s, [0, 0]
        for K, b, kick in ((K2, b2, 1), (K1, b1, 0), (K2, b2, 1)):
            t = torch.tanh(K @ (p[:n] if kick else p[n:]) + b)
            move = -h / 2 * K.T if kick else h * K.T
            D = move @ torch.diag(1 - t**2)
            O = torch.zeros_like(D)
            to_b = torch.cat([O, D] if kick else [D, O])
            top = torch.cat([one, none if kick else D @ K], 1)
            low = torch.cat([D @ K if kick else none, one], 1)
            still = torch.zeros(n)
            p = p - torch.cat([still, move @ t] if kick else [move @ t, still])
            of_b[kick] = of_b[kick] + to_b.T @ s
            s = torch.cat([top, low]).T @ s
        rows.append((p / torch.diag(F), F @ s, *of_b))
    return [torch.stack(v).reshape(*x.shape[:-1], -1) for v in zip(*rows)]
""",
        "friction": """
def damp(v, store, n, d):
    # pop first
    s, store = store % n, store // n
    q, r = v // d, v % d
    return n * q + s, store * d + r

def undamp(v, store, n, d):
    r, store = store % d, store // d
    q, s = v // n, v % n
    return d * q + r, store * n + s
""",
    },
    "small steps between the frictions, up to 2": {
        "lossy-layer": """
def lossy_layer(x, weights, h, gamma):
    K1, b1, K2, b2 = weights
    n = x.shape[-1] // 2
    rho = math.exp(-gamma * h / 2)

    def kick(y):
        u = torch.nn.functional.linear(y, K2, b2)
        return h / 2 * torch.tanh(u) @ K2

    y, z = x[..., :n], rho * x[..., n:]
    z = z - kick(y)
    y = y + h * torch.tanh(torch.nn.functional.linear(z, K1, b1)) @ K1
    return torch.cat((y, rho * (z - kick(y))), dim=-1)
""",
        "friction": """
def damp(v, store, n, d):
    q, r = divmod(v, d)
    store, s = divmod(store * d + r, n)
    return q * n + s, store

def undamp(v, store, n, d):
    q, s = divmod(v, n)
    store, r = divmod(store * n + s, d)
    return q * d + r, store
""",
        "way": """
def way_back():
    gammas = torch.tensor([0.0, 0.01, 0.02, 0.03, 0.06, 0.5, 2.0])
    weights, x = wild_networks(9)
    gamma, x = gammas[:, None, None], x.expand(7, 9, 12).contiguous()
    there = friction_layer(weights, STEP, gamma)
    rates = lyapunov_spectrum(
        there, x, n=LAYERS, dt=STEP, qr_every=10
    ).exponents
    weights = [w.float() for w in weights]
    there = friction_layer(weights, STEP, gamma.float())
    back = friction_layer(weights, -STEP, gamma.float())
    orbit = [x.float()]
    for _ in range(LAYERS):
        orbit.append(there(orbit[-1]))
    size = torch.stack(orbit).norm(dim=-1).square().mean(0).sqrt()
    x, good = orbit.pop(), torch.ones(7, 9, dtype=torch.bool)
    count = torch.ones(7, 9)
    while orbit:
        x = back(x)
        good &= (x - orbit.pop()).norm(dim=-1) <= 1e-3 * size
        count += good
    return {
        "gammas": gammas,
        "first": rates.amax(-1),
        "last": rates.amin(-1),
        "undone": count.clamp(max=LAYERS),
    }


way = way_back()
""",
    },
}
