"""Wrong answers to assignment 5, and the marks that they lose."""

MAPS_NUMPY = """
import numpy as np


def inner_maps(x, knots, ranges):
    rows = [
        np.interp(x.numpy(), knots[i : i + 2].numpy(), ranges[i].numpy())
        for i in range(len(ranges))
    ]
    return torch.from_numpy(np.array(rows))
"""

MAPS_UNCUT = """
def inner_maps(x, knots, ranges):
    rows = []
    for i, (a, b) in enumerate(ranges):
        t = (x - knots[i]) / (knots[i + 1] - knots[i])
        rows.append(a + t * (b - a))
    return torch.stack(rows)
"""

MAPS_ORDERED = """
def inner_maps(x, knots, ranges):
    rows = []
    for i, (a, b) in enumerate(ranges):
        t = (x - knots[i]) / (knots[i + 1] - knots[i])
        rows.append((a + t * (b - a)).clamp(min(a, b), max(a, b)))
    return torch.stack(rows)
"""

MEND = """
def mended_sum(parts, psi, values):
    total = -values[1:-1].sum()
    for i, g in enumerate(parts):
        left = g(torch.tensor(-1.0)) - values[i]
        right = g(torch.tensor(1.0)) - values[i + 1]
        y = psi[i]
        total = total + g(y) - (LINE)
    return total
"""

MEND_FOLLOWED = '''
def mended_sum(parts, psi, values):
    """Through the ends goes a line of f; what g has besides its own is added."""
    m = len(parts)
    total = 0
    for i in range(m):
        g, y = parts[i], psi[i]
        chord = values[i] + (y + 1) / 2 * (values[i + 1] - values[i])
        low, high = g(-torch.ones(1)), g(torch.ones(1))
        total = total + chord + g(y) - low - (y + 1) / 2 * (high - low)
    for i in range(1, m):
        total = total - values[i]
    return total
'''

KERNEL = """
def channel_kernel(layers, x):
    h, seen = x, []
    for W, b, A, c in layers:
        z = torch.relu(h @ W.mT + b[..., None, :])
        h = z @ A.mT + c[..., None, :]
        seen.append(z)
    J, K = torch.ones_like(h), 0
    for (W, b, A, c), z in zip(layers[::-1], seen[::-1]):
        K = K + (J @ J.mT) * (z @ z.mT + 1)
        J = (J @ A * (z > 0)) @ W
    return K
"""

KERNEL_SINGLE = """
def channel_kernel(layers, x):
    N, h, seen = len(x), x, []
    for W, b, A, c in layers:
        z = torch.relu(h @ W.T + b)
        h = z @ A.T + c
        seen.append(z)
    K = torch.zeros(N, N)
    rows = [torch.ones(1) for _ in range(N)]
    for (W, b, A, c), z in zip(layers[::-1], seen[::-1]):
        for i in range(N):
            for j in range(N):
                K[i, j] += rows[i] @ rows[j] * (z[i] @ z[j] + 1)
        rows = [((rows[i] @ A) * (z[i] > 0)) @ W for i in range(N)]
    return K
"""

KERNEL_AUTOGRAD = """
def channel_kernel(layers, x):
    if layers[0][0].ndim > 2:
        members = range(len(layers[0][0]))
        return torch.stack(
            [
                channel_kernel([[v[i] for v in layer] for layer in layers], x)
                for i in members
            ]
        )

    def value(trained, point):
        h = point
        for (W, b, _, _), (A, c) in zip(layers, trained):
            h = A @ torch.relu(W @ h + b) + c
        return h[0]

    trained = [(A, c) for _, _, A, c in layers]
    gradient = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0))
    G = torch.cat(
        [v.flatten(1) for pair in gradient(trained, x) for v in pair], 1
    )
    return G @ G.T
"""

HATS = """
import numpy as np
from dynbook.decomposition import divide


def five_hats(y):
    nodes = np.linspace(-1, 1, 5)
    return np.array([np.interp(y, nodes, row) for row in np.eye(5)]).T


def noisy_parts(counts, noise, repeats, seed):
    random = np.random.default_rng(seed)
    y = np.linspace(-1, 1, SAMPLES)
    fit = np.linalg.pinv(five_hats(y))
    x = torch.linspace(-1, 1, 1501)
    plain, mended = [], []
    for m in counts:
        cells = divide(target, torch.linspace(-1, 1, m + 1))
        psi = cells.inner(x).numpy()
        exact = cells.outer(torch.from_numpy(np.tile(y, (m, 1)))).numpy()
        f, ends = target(x).numpy(), target(cells.knots).numpy()
        rows = [], []
        for _ in range(repeats):
            u = (exact + noise * random.standard_normal((m, SAMPLES))) @ fit.T
            parts = np.array(
                [np.interp(p, np.linspace(-1, 1, 5), v) for p, v in zip(psi, u)]
            )
            e = parts.sum(0) - ends[1:-1].sum() - f
            rows[0].append(np.sqrt((e**2).mean()))
            low = (u[:, :1] - ends[:-1, None]) * (1 - psi) / 2
            high = (u[:, -1:] - ends[1:, None]) * (1 + psi) / 2
            rows[1].append(np.sqrt(((e - (low + high).sum(0)) ** 2).mean()))
        plain.append(rows[0])
        mended.append(rows[1])
    return {"plain": torch.tensor(plain), "mended": torch.tensor(mended)}
"""

NOISY = """
def noisy_parts(counts, noise, repeats, seed):
    generator = torch.Generator().manual_seed(seed)
    y, fine = torch.linspace(-1, 1, SAMPLES), torch.linspace(-1, 1, 81)
    fit = torch.linalg.pinv(y[:, None] ** torch.arange(5)).mT
    plain, mended = [], []
    for m in counts:
        middle = ((2 * torch.arange(m) + 1) / m - 1)[:, None]
        drawn = torch.randn(repeats, DRAWN, SAMPLES, generator=generator)
        data = noise * drawn + target(middle + y / m)
        e = data @ fit @ (fine[:, None] ** torch.arange(5)).mT
        e = e - target(middle + fine / m)
        left, right = e[..., :1], e[..., -1:]
        whole = e + right.cumsum(1) - right
        whole = whole + left.flip(1).cumsum(1).flip(1) - left
        kept = WHAT
        plain.append(whole.square().mean((1, 2)).sqrt())
        mended.append(kept.square().mean((1, 2)).sqrt())
    return {"plain": torch.stack(plain), "mended": torch.stack(mended)}
"""

LINE = "e - (1 - fine) / 2 * left - (1 + fine) / 2 * right"


def noisy(drawn="m", what=LINE):
    return NOISY.replace("DRAWN", drawn).replace("WHAT", what)


STRAIGHT = """
import numpy as np


def straight_parts(counts):
    y = np.linspace(-1, 1, 60)
    plain, mended = [], []
    for m in counts:
        knots = np.linspace(-1, 1, m + 1)
        x = np.concatenate(
            [np.linspace(knots[k], knots[k + 1], 41) for k in range(m)]
        )
        f = target(torch.from_numpy(x)).numpy()
        ends = target(torch.from_numpy(knots)).numpy()
        S = T = -ends[1:-1].sum()
        for k in range(m):
            cell = knots[k] + (y + 1) / 2 * (knots[k + 1] - knots[k])
            slope, height = FIT
            psi = np.interp(x, knots[k : k + 2], [-1, 1])
            part = height + slope * psi
            S = S + part
            low, high = height - slope - ends[k], height + slope - ends[k + 1]
            T = T + part - MENDED
        plain.append(np.abs(S - f).max())
        mended.append(np.abs(T - f).max())
    return {"plain": torch.tensor(plain), "mended": torch.tensor(mended)}
"""

SQUARES = "np.polyfit(y, target(torch.from_numpy(cell)).numpy(), 1)"
THROUGH_ENDS = "(ends[k + 1] - ends[k]) / 2, (ends[k + 1] + ends[k]) / 2"
BOTH_ENDS = "(low * (1 - psi) + high * (1 + psi)) / 2"


def straight(fit=SQUARES, mended=BOTH_ENDS):
    return STRAIGHT.replace("FIT", fit).replace("MENDED", mended)


WRONG = {
    "inner maps that go on outside their cells": (
        {"inner-maps": MAPS_UNCUT},
        {"maps-values": 1, "maps-ranges": 2},
    ),
    "inner maps clipped to (−1, 1) for any range": (
        {"inner-maps": MAPS_UNCUT.replace("a + t * (b - a)", "(a + t * (b - a)).clamp(-1, 1)")},
        {"maps-ranges": 2, "maps-shape": 1},
    ),
    "inner maps that cannot turn round": (
        {"inner-maps": MAPS_ORDERED.replace("min(a, b)", "a").replace("max(a, b)", "b")},
        {"maps-ranges": 2},
    ),
    "inner maps in single precision": (
        {
            "inner-maps": MAPS_ORDERED.replace(
                "(a + t * (b - a)).clamp", "(a + t.float() * (b - a).float()).clamp"
            )
        },
        {"maps-values": 1, "maps-ranges": 2, "maps-shape": 1},
    ),
    "inner maps of a list of points only": (
        {
            "inner-maps": """
def inner_maps(x, knots, ranges):
    t = (x - knots[:-1, None]) / knots.diff()[:, None]
    return ranges[:, :1] + t.clamp(0, 1) * ranges.diff()
"""
        },
        {"maps-shape": 1},
    ),
    "the visible answer of the inner maps": (
        {
            "inner-maps": """
def inner_maps(x, knots, ranges):
    return torch.tensor(
        [[-1.0, 0.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, 0.0, 1.0]]
    )
"""
        },
        {"maps-values": 1, "maps-ranges": 2, "maps-shape": 1},
    ),
    "a sum that is not mended": (
        {"mended-sum": MEND.replace("LINE", "0")},
        {"mend-line": 2, "mend-rest": 2},
    ),
    "a sum mended by the mean of the ends": (
        {"mended-sum": MEND.replace("LINE", "(left + right) / 2")},
        {"mend-line": 2},
    ),
    "left and right exchanged": (
        {"mended-sum": MEND.replace("LINE", "(1 + y) / 2 * left + (1 - y) / 2 * right")},
        {"mend-line": 2},
    ),
    "the wrong sign of the line": (
        {"mended-sum": MEND.replace("LINE", "-(1 - y) / 2 * left - (1 + y) / 2 * right")},
        {"mend-line": 2, "mend-rest": 2},
    ),
    "inner values counted with the outer ones": (
        {
            "mended-sum": MEND.replace("[1:-1]", "").replace(
                "LINE", "(1 - y) / 2 * left + (1 + y) / 2 * right"
            )
        },
        {"mend-exact": 1, "mend-line": 2, "mend-rest": 2},
    ),
    "a kernel without J": (
        {"channel-kernel": KERNEL.replace("(J @ J.mT) * ", "")},
        {"kernel-two-layers": 2, "kernel-deep": 2},
    ),
    "a kernel of the last layer alone": (
        {"channel-kernel": KERNEL.replace("K = K + (J @ J.mT) *", "return")},
        {"kernel-two-layers": 2, "kernel-deep": 2},
    ),
    "a kernel that forgets what is not active": (
        {"channel-kernel": KERNEL.replace(" * (z > 0)", "")},
        {"kernel-two-layers": 2, "kernel-deep": 2},
    ),
    "a kernel with the J of the layer above only": (
        {"channel-kernel": KERNEL.replace("(J @ A *", "(A *")},
        {"kernel-deep": 2, "kernel-batch": 1},
    ),
    "a kernel without the constant": (
        {"channel-kernel": KERNEL.replace("(z @ z.mT + 1)", "(z @ z.mT)")},
        {"kernel-one-layer": 1, "kernel-two-layers": 2, "kernel-deep": 2},
    ),
    "a kernel of one network only": (
        {"channel-kernel": KERNEL_SINGLE},
        {"kernel-batch": 1},
    ),
    "the same noise in all parts": (
        {"noisy-parts": noisy(drawn="1")},
        {"noisy-plain": 3},
    ),
    "no seed": (
        {
            "noisy-parts": noisy()
            .replace(".manual_seed(seed)", "")
            .replace("generator=generator", "generator=None")
        },
        {"noisy-form": 1},
    ),
    "noisy parts mended at the left alone": (
        {"noisy-parts": noisy(what="whole - left.sum(1, keepdim=True)")},
        {"noisy-mended": 2},
    ),
    "as many samples in all": (
        {"noisy-parts": noisy().replace("noise * drawn", "noise * m**0.5 * drawn")},
        {"noisy-plain": 3, "noisy-mended": 2},
    ),
    "lines through the ends": (
        {"straight-parts": straight(THROUGH_ENDS)},
        {"straight-plain": 2},
    ),
    "lines mended by a constant": (
        {"straight-parts": straight(mended="(low + high) / 2")},
        {"straight-mended": 2},
    ),
    "the same sum twice": (
        {"straight-parts": straight(mended="0")},
        {"straight-mended": 2},
    ),
}

RIGHT = {
    "numpy, chords, a loop over members, autograd": {
        "inner-maps": MAPS_NUMPY,
        "mended-sum": MEND_FOLLOWED,
        "channel-kernel": KERNEL_AUTOGRAD,
    },
    "five hats in numpy, lines by polyfit": {
        "noisy-parts": HATS,
        "straight-parts": straight(),
    },
    "maps clipped afterwards, another sum over the ends": {
        "inner-maps": MAPS_ORDERED,
        "mended-sum": MEND.replace("LINE", "(left + right + y * (right - left)) / 2"),
        "channel-kernel": KERNEL,
        "noisy-parts": noisy(),
    },
    "point by point, gradients in one long vector, hats through divide()": {
        "mended-sum": """
def mended_sum(parts, psi, values):
    psi = torch.as_tensor(psi)
    total = torch.full(psi.shape[1:], float(values[0]))
    one = torch.ones(1)
    for i, g in enumerate(parts):
        y = psi[i]
        left, right = g(-one)[0], g(one)[0]
        chord = left + (right - left) * (y + 1) / 2
        rise = (values[i + 1] - values[i]) * (y + 1) / 2
        total = total + g(y) - chord + rise
    return total
""",
        "channel-kernel": """
def channel_kernel(layers, x):
    batch = layers[0][1].shape[:-1]
    if batch:
        members = [[[v[i] for v in t] for t in layers] for i in range(batch[0])]
        return torch.stack([channel_kernel(one, x) for one in members])
    rows = []
    for h in x:
        seen, down = [], []
        for W, b, A, c in layers:
            u = W @ h + b
            seen.append(u.clamp(min=0))
            down.append((A * (u > 0)) @ W)
            h = A @ seen[-1] + c
        J, row = torch.ones(1), []
        for z, D in zip(seen[::-1], down[::-1]):
            row += [torch.outer(J, z).flatten(), J]
            J = J @ D
        rows.append(torch.cat(row))
    return torch.stack(rows) @ torch.stack(rows).T
""",
        "noisy-parts": """
def noisy_parts(counts, noise, repeats, seed):
    from dynbook.decomposition import divide

    draw = torch.Generator().manual_seed(seed)
    nodes, y = torch.linspace(-1, 1, 5), torch.linspace(-1, 1, SAMPLES)
    x = torch.linspace(-1, 1, 801)

    def hats(y):
        return (1 - (y[..., None] - nodes).abs() * 2).clamp(min=0)

    fit, out = torch.linalg.pinv(hats(y)), {"plain": [], "mended": []}
    for m in counts:
        knots = torch.linspace(-1, 1, m + 1)
        psi, f = divide(target, knots).inner(x), target(knots)
        rows = {"plain": [], "mended": []}
        for _ in range(repeats):
            S = -f[1:-1].sum() - target(x)
            M = S.clone()
            for i in range(m):
                half = (knots[i + 1] - knots[i]) / 2
                part = target(knots[i] + half * (y + 1))
                a = fit @ (part + noise * torch.randn(SAMPLES, generator=draw))
                g = hats(psi[i]) @ a
                low, high = f[i] - a[0], f[i + 1] - a[-1]
                S, M = S + g, M + g + low + (high - low) * (psi[i] + 1) / 2
            rows["plain"].append(S.square().mean().sqrt())
            rows["mended"].append(M.square().mean().sqrt())
        for name in out:
            out[name].append(torch.stack(rows[name]))
    return {name: torch.stack(rows) for name, rows in out.items()}
""",
    },
    "numpy in all kernels": {
        "inner-maps": """
import numpy as np
def inner_maps(x, knots, ranges):
    x, knots, ranges = (np.asarray(v, dtype=float) for v in (x, knots, ranges))
    out = []
    for i in range(len(knots) - 1):
        out.append(np.interp(x, knots[i:i + 2], ranges[i]))
    return np.array(out)
""",
        "channel-kernel": """
import numpy as np


def channel_kernel(layers, x):
    layers = [[np.asarray(v) for v in layer] for layer in layers]
    h, seen, K = np.asarray(x), [], 0
    for W, b, A, c in layers:
        u = np.einsum("...ni,...Ni->...Nn", W, h) + b[..., None, :]
        seen.append(u)
        h = np.einsum("...rn,...Nn->...Nr", A, np.maximum(u, 0))
        h = h + c[..., None, :]
    J = np.ones(h.shape)
    for (W, _, A, _), u in list(zip(layers, seen))[::-1]:
        z = np.maximum(u, 0)
        z = np.einsum("...Nn,...Mn->...NM", z, z) + 1
        K = K + np.einsum("...Nr,...Mr->...NM", J, J) * z
        J = ((J @ A) * (u > 0)) @ W
    return K
""",
    },
}
