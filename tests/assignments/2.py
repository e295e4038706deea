"""Wrong answers to assignment 2, and the marks that they lose."""

GROWTH = """
def growth(weights, slope, x, frame):
    rows = []
    for W in weights:
        h = (W @ x[..., None])[..., 0]
        d = torch.where(h > 0, 1.0, slope)
        x = d * h
        frame, R = torch.linalg.qr(d[..., None] * W @ frame)
        rows.append(R.diagonal(dim1=-2, dim2=-1).abs().log())
    return torch.stack(rows)
"""

NEWMAN = """
def expected_growth(widths, sigmas, k):
    N = torch.tensor(widths)[:, None]
    sigma = torch.tensor(sigmas)[:, None]
    half = ((N - torch.arange(k)) / 2).to(sigma)
    mean = sigma.log() + (math.log(2) + torch.special.digamma(half)) / 2
    return mean, torch.special.polygamma(1, half) / 4
"""

MEAN_FIELD = """
def mean_field(phi, slope, sigma_w, sigma_b):
    z = torch.linspace(-10, 10, 2001)
    density = (-z.square() / 2).exp()
    density = density / density.sum()

    def mean(f, q):
        return (f(q.sqrt()[..., None] * z).square() * density).sum(-1)

    q = torch.ones(torch.broadcast_shapes(sigma_w.shape, sigma_b.shape))
    for _ in range(200):
        q = sigma_w**2 * mean(phi, q) + sigma_b**2
    return q, sigma_w**2 * mean(slope, q)
"""

# By Part A no matrix is needed: W x is |x| times a Gaussian vector.
PRICE = """
def price():
    draw = torch.Generator().manual_seed(SEED + 10)
    widths, depth, networks = [30, 50, 70, 90, 110], 25, 1000
    exponent, spread = [], []
    for a in SLOPES:
        rows = []
        for N in widths:
            z = torch.randn(depth, networks, N, generator=draw)
            r = torch.where(z > 0, z, a * z).square().sum(-1)
            r = r * 2 / (1 + a**2) / N
            rows.append(r.log().sum(0) / (2 * depth))
        exponent.append([r.mean() for r in rows])
        spread.append([r.std() for r in rows])
    return {
        "widths": widths,
        "depth": depth,
        "networks": networks,
        "exponent": torch.tensor(exponent),
        "spread": torch.tensor(spread),
    }


data = price()
"""

ALIVE = """
def alive():
    draw, networks = torch.Generator().manual_seed(SEED + 1), 4000
    x, shares = torch.ones(networks, NARROW, 1), []
    for _ in range(DEEP):
        W = torch.randn(networks, NARROW, NARROW, generator=draw)
        x = torch.relu(W @ x)
        shares.append((x > 0).any(1).double().mean())
    return networks, torch.stack(shares)


networks_alive, shares = alive()
"""


def changed(source, *changes):
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


BATCH = {"growth-batch": 2}
LEAKY = {"growth-leaky": 2}
LINEAR = {"growth-linear": 2}
NEWMAN_BOTH = {"newman-mean": 2, "newman-variance": 2}
LENGTH = {"mean-field-length": 2}
CHI = {"mean-field-multiplier": 2}

WRONG = {
    "growth: the last layer first": (
        {"growth": changed(GROWTH, ("in weights", "in weights[::-1]"))},
        LINEAR | LEAKY | BATCH,
    ),
    "growth: no absolute value, the logarithm of a negative number": (
        {"growth": changed(GROWTH, (".abs()", ""))},
        LINEAR | LEAKY | BATCH,
    ),
    "growth: singular values of the product": (
        {
            "growth": """
def growth(weights, slope, x, frame):
    product, before, rows = frame, 0.0, []
    for W in weights:
        h = (W @ x[..., None])[..., 0]
        d = torch.where(h > 0, 1.0, slope)
        x = d * h
        product = d[..., None] * W @ product
        now = torch.linalg.svdvals(product).log()
        rows.append(now - before)
        before = now
    return torch.stack(rows)
"""
        },
        LINEAR | LEAKY | BATCH,
    ),
    "growth: one QR at the end of a long product": (
        {
            "growth": """
def growth(weights, slope, x, frame):
    product, before, rows = frame, 0.0, []
    for W in weights:
        h = (W @ x[..., None])[..., 0]
        d = torch.where(h > 0, 1.0, slope)
        x = d * h
        product = d[..., None] * W @ product
        R = torch.linalg.qr(product)[1]
        now = R.diagonal(dim1=-2, dim2=-1).abs().log()
        rows.append(now - before)
        before = now
    return torch.stack(rows)
"""
        },
        LINEAR,
    ),
    "growth: the slope decided by the input of the layer": (
        {
            "growth": changed(
                GROWTH,
                ("torch.where(h > 0, 1.0, slope)", "torch.where(x > 0, 1.0, slope)"),
                ("x = d * h", "x = torch.where(h > 0, h, slope * h)"),
                ("d[..., None] * W @", "W * d[..., None, :] @"),
            )
        },
        LEAKY,
    ),
    "growth: no activation": (
        {"growth": changed(GROWTH, ("(h > 0, 1.0, slope)", "(h > 0, 1.0, 1.0)"))},
        LEAKY,
    ),
    "growth: one network only": (
        {
            "growth": changed(
                GROWTH,
                ("(W @ x[..., None])[..., 0]", "W @ x"),
                ("d[..., None] * W", "torch.diag(d) @ W"),
                ("R.diagonal(dim1=-2, dim2=-1)", "R.diagonal()"),
            )
        },
        BATCH,
    ),
    "growth: in single precision": (
        {
            "growth": changed(
                GROWTH,
                ("    rows = []", "    rows, x, frame = [], x.float(), frame.float()"),
                ("    for W in weights:", "    for W in [W.float() for W in weights]:"),
            )
        },
        LINEAR | LEAKY | BATCH,
    ),
    "growth: the visible numbers written in": (
        {
            "growth": """
def growth(weights, slope, x, frame):
    if len(weights) == 1:
        return torch.tensor([[math.log(9.25) / 2]])
    if weights[0].ndim == 3:
        rows = torch.tensor([[2.0], [4.0], [6.0]]).log()
        return torch.stack([rows, torch.full((3, 1), 20**0.5).log()])
    return torch.tensor([[1.0, -1.0], [0.5, -0.5]]) * math.log(2)
"""
        },
        LINEAR | LEAKY | BATCH,
    ),
    "Newman: one degree of freedom too few": (
        {"newman": changed(NEWMAN, ("N - torch.arange(k)", "N - 1 - torch.arange(k)"))},
        NEWMAN_BOTH,
    ),
    "Newman: the variance of 2 ln R": (
        {"newman": changed(NEWMAN, ("half) / 4", "half)"))},
        {"newman-variance": 2},
    ),
    "Newman: no sigma": (
        {"newman": changed(NEWMAN, ("sigma.log() + ", ""))},
        {"newman-mean": 2},
    ),
    "Newman: the first width for all layers": (
        {"newman": changed(NEWMAN, ("half = ((N -", "half = ((0 * N + N[0] -"))},
        NEWMAN_BOTH,
    ),
    "mean field: q in the place of its root": (
        {"mean-field": changed(MEAN_FIELD, ("q.sqrt()", "q"))},
        LENGTH | CHI | {"mean-field-batch": 1},
    ),
    "mean field: chi without sigma_w": (
        {"mean-field": changed(MEAN_FIELD, ("q, sigma_w**2 * mean", "q, mean"))},
        CHI | {"mean-field-batch": 1},
    ),
    "mean field: sigma_b not squared": (
        {"mean-field": changed(MEAN_FIELD, ("+ sigma_b**2", "+ sigma_b"))},
        LENGTH | CHI | {"mean-field-batch": 1},
    ),
    "mean field: the exponent in the place of its multiplier": (
        {
            "mean-field": changed(
                MEAN_FIELD,
                ("q, sigma_w**2 * mean(slope, q)", "q, (sigma_w**2 * mean(slope, q)).log() / 2"),
            )
        },
        CHI | {"mean-field-batch": 1},
    ),
    "mean field: starts at zero and stays there": (
        {"mean-field": changed(MEAN_FIELD, ("torch.ones", "torch.zeros"))},
        LENGTH | CHI,
    ),
    "mean field: single numbers only": (
        {
            "mean-field": changed(
                MEAN_FIELD,
                ("q.sqrt()[..., None]", "q.sqrt()"),
                ("torch.broadcast_shapes(sigma_w.shape, sigma_b.shape)", "()"),
            )
        },
        {"mean-field-batch": 1},
    ),
    "price: growth of the energy, no half": (
        {"price": changed(PRICE, ("(2 * depth)", "depth"))},
        {"price-size": 2, "price-spread": 2},
    ),
    "price: the variance of ReLU for every slope": (
        {"price": changed(PRICE, ("2 / (1 + a**2) / N", "2 / N"))},
        {"price-design": 1, "price-scaling": 2, "price-size": 2},
    ),
    "price: the logarithm of the mean energy": (
        {
            "price": changed(
                PRICE,
                (
                    "[r.mean() for r in rows]",
                    "[(2 * depth * r).exp().mean().log() / (2 * depth) for r in rows]",
                ),
            )
        },
        {"price-design": 1, "price-scaling": 2, "price-size": 2},
    ),
    "price: the standard error for the spread": (
        {"price": changed(PRICE, ("r.std() for", "r.std() / networks**0.5 for"))},
        {"price-spread": 2},
    ),
    "price: too few networks": (
        {"price": changed(PRICE, ("1000\n", "100\n"), ("25, ", "10, "))},
        {"price-design": 1, "price-size": 2},
    ),
    "alive: one layer late": (
        {
            "alive": changed(
                ALIVE,
                ("        shares.append((x > 0).any(1).double().mean())\n", ""),
                (
                    "    for _ in range(DEEP):\n",
                    "    for _ in range(DEEP):\n"
                    "        shares.append((x > 0).any(1).double().mean())\n",
                ),
            )
        },
        {"alive-law": 2},
    ),
    "alive: only if all units are": (
        {"alive": changed(ALIVE, (".any(1)", ".all(1)"))},
        {"alive-shown": 1, "alive-law": 2},
    ),
    "alive: units, not signals": (
        {"alive": changed(ALIVE, (".any(1)", ""))},
        {"alive-law": 2},
    ),
}

RIGHT = {
    "the experiment without a matrix, with other widths": {"price": PRICE},
    "numpy, loops, lists": {
        "price": changed(
            PRICE,
            ("torch.tensor(exponent)", "[[float(v) for v in row] for row in exponent]"),
            ("torch.tensor(spread)", "[[float(v) for v in row] for row in spread]"),
        ),
        "newman": """
def expected_growth(widths, sigmas, k):
    from scipy.special import polygamma, psi

    mean, variance = [], []
    for N, sigma in zip(widths, sigmas):
        half = [(N - i) / 2 for i in range(k)]
        mean.append([math.log(sigma) + (math.log(2) + psi(h)) / 2 for h in half])
        variance.append([polygamma(1, h) / 4 for h in half])
    return torch.tensor(mean), torch.tensor(variance)
""",
        "alive": """
import numpy as np

rng = np.random.default_rng(SEED)
networks_alive, counts = 1500, np.zeros(DEEP)
for _ in range(networks_alive):
    x = rng.normal(size=NARROW)
    for layer in range(DEEP):
        x = np.maximum(rng.normal(size=(NARROW, NARROW)) @ x, 0)
        if not x.any():
            break
        counts[layer] += 1
shares = counts / networks_alive
""",
    },
    "Gauss and Hermite; Gram and Schmidt": {
        "growth": """
def growth(weights, slope, x, frame):
    rows = []
    for W in weights:
        h = torch.einsum("...ij,...j->...i", W, x)
        x = torch.where(h > 0, h, slope * h)
        Y = W @ frame * torch.where(h > 0, 1.0, slope)[..., None]
        columns, logs = [], []
        for column in Y.unbind(-1):
            for _ in range(2):
                for q in columns:
                    column = column - (q * column).sum(-1, keepdim=True) * q
            size = column.norm(dim=-1, keepdim=True)
            columns.append(column / size)
            logs.append(size[..., 0].log())
        frame = torch.stack(columns, -1)
        rows.append(torch.stack(logs, -1))
    return torch.stack(rows)
""",
        "mean-field": """
import numpy as np


def mean_field(phi, slope, sigma_w, sigma_b):
    z, weight = map(torch.tensor, np.polynomial.hermite_e.hermegauss(180))
    weight = weight / weight.sum()
    sigma_w, sigma_b = torch.broadcast_tensors(sigma_w, sigma_b)
    q = sigma_b**2 + sigma_w**2
    for _ in range(300):
        u = q.sqrt()[..., None] * z
        q = sigma_b**2 + sigma_w**2 * (phi(u) ** 2 @ weight)
    u = q.sqrt()[..., None] * z
    return q, sigma_w**2 * (slope(u) ** 2 @ weight)
""",
    },
    "the experiment with growth": {
        "price": """
def price():
    draw = torch.Generator().manual_seed(SEED)
    widths, depth, networks = (24, 40, 56, 80), 40, 250
    exponent = torch.zeros(len(SLOPES), 4)
    spread = torch.zeros(len(SLOPES), 4)
    for j, N in enumerate(widths):
        W = [torch.randn(networks, N, N, generator=draw) for _ in range(depth)]
        x = torch.eye(N)[0]
        for i, a in enumerate(SLOPES):
            scaled = (2 / (1 + a * a) / N) ** 0.5
            rows = growth([scaled * w for w in W], a, x, x[:, None])
            rates = rows[..., 0].mean(0)
            exponent[i, j], spread[i, j] = rates.mean(), rates.std()
    return dict(
        widths=widths, depth=depth, networks=networks,
        exponent=exponent, spread=spread,
    )


data = price()
"""
    },
    "masks as numbers, few layers and many networks": {
        "growth": """
def growth(weights, slope, x, frame):
    batch = weights[0].shape[:-2]
    x = x.expand(*batch, x.shape[-1])[..., None]
    Q = frame
    out = []
    for W in weights:
        z = W @ x
        D = (z > 0) * 1.0 + (z <= 0) * slope
        Q, R = torch.linalg.qr(D * (W @ Q))
        x = D * z
        out.append(R.diagonal(dim1=-2, dim2=-1).abs().log())
    return torch.stack(out)
""",
        "newman": """
def expected_growth(widths, sigmas, k):
    n = torch.as_tensor(widths, dtype=torch.float64)[:, None] - torch.arange(k)
    s = torch.as_tensor(sigmas, dtype=torch.float64)[:, None]
    mean = s.log() + 0.5 * (math.log(2) + torch.special.digamma(n / 2))
    return mean, torch.special.polygamma(1, n / 2) / 4
""",
        "mean-field": """
def mean_field(phi, slope, sigma_w, sigma_b):
    sw, sb = torch.broadcast_tensors(torch.as_tensor(sigma_w), torch.as_tensor(sigma_b))
    z = torch.linspace(-10, 10, 4001)
    w = torch.exp(-z**2 / 2)
    w = w / w.sum()

    def mean(f, q):
        return (f(q.sqrt()[..., None] * z) * w).sum(-1)

    q = torch.full(sw.shape, 100.0)
    for _ in range(4000):
        new = sw**2 * mean(lambda u: phi(u) ** 2, q) + sb**2
        if (new - q).abs().max() < 1e-13:
            break
        q = new
    return q, sw**2 * mean(lambda u: slope(u) ** 2, q)
""",
        "price": """
def price():
    g = torch.Generator().manual_seed(SEED + 5)
    widths = [25, 40, 60, 80]
    depth, M = 12, 500
    exponent, spread = [], []
    for a in SLOPES:
        e, s = [], []
        for N in widths:
            sig = math.sqrt(2 / (1 + a * a) / N)
            x = torch.randn(N, 1, generator=g).expand(M, N, 1)
            start = x.norm(dim=1)
            for _ in range(depth):
                z = sig * torch.randn(M, N, N, generator=g) @ x
                x = torch.where(z > 0, z, a * z)
            lam = (x.norm(dim=1) / start).log() / depth
            e.append(lam.mean()); s.append(lam.std())
        exponent.append(torch.stack(e)); spread.append(torch.stack(s))
    exponent, spread = torch.stack(exponent), torch.stack(spread)
    return dict(widths=widths, depth=depth, networks=M, exponent=exponent, spread=spread)


data = price()
for row in data["exponent"]:
    plt.loglog(data["widths"], -row)
""",
        "alive": """
def alive():
    g = torch.Generator().manual_seed(SEED)
    M = 1000
    x = torch.ones(M, NARROW, 1)
    out = []
    for _ in range(DEEP):
        W = torch.randn(M, NARROW, NARROW, generator=g) * math.sqrt(2 / NARROW)
        x = torch.relu(W @ x)
        out.append((x > 0).any(1).double().mean())
    return M, torch.stack(out)


networks_alive, shares = alive()
plt.plot(shares)
""",
    },
    "numpy and loops, Gauss-Hermite, layers without matrices": {
        "growth": """
def growth(weights, slope, x, frame):
    import numpy as np
    b = tuple(weights[0].shape[:-2])
    k = frame.shape[-1]
    x0 = np.broadcast_to(x.numpy(), b + (x.shape[-1],))
    f0 = np.broadcast_to(frame.numpy(), b + tuple(frame.shape[-2:]))
    out = np.zeros((len(weights),) + b + (k,))
    for index in np.ndindex(*b):
        v, Q = x0[index], f0[index]
        for l, W in enumerate(weights):
            w = W.numpy()[index]
            z = w @ v
            d = np.where(z > 0, 1.0, slope)
            Q, R = np.linalg.qr(d[:, None] * (w @ Q))
            v = d * z
            out[(l,) + index] = np.log(np.abs(np.diag(R)))
    return torch.from_numpy(out)
""",
        "newman": """
def expected_growth(widths, sigmas, k):
    mean, var = [], []
    for N, s in zip(widths, sigmas):
        for i in range(k):
            h = torch.tensor((N - i) / 2)
            mean.append(math.log(s * math.sqrt(2)) + torch.special.digamma(h).item() / 2)
            var.append(torch.special.polygamma(1, h).item() / 4)
    return torch.tensor(mean).view(-1, k), torch.tensor(var).view(-1, k)
""",
        "mean-field": """
def mean_field(phi, slope, sigma_w, sigma_b):
    # Gauss-Hermite and Steffensen
    import numpy as np
    z, w = np.polynomial.hermite_e.hermegauss(120)
    z, w = torch.tensor(z), torch.tensor(w / w.sum())
    sw, sb = torch.broadcast_tensors(sigma_w, sigma_b)

    def F(q):
        return sw**2 * (phi(q.sqrt()[..., None] * z) ** 2 @ w) + sb**2

    q = 1000.0 * torch.ones(sw.shape)
    for _ in range(30):
        q = F(q)
    for _ in range(200):
        a = F(q)
        b = F(a)
        den = b - 2 * a + q
        nxt = torch.where(den.abs() > 1e-14, q - (a - q) ** 2 / den, b)
        q = torch.where(nxt > 0, nxt, b)
    chi = sw**2 * (slope(q.sqrt()[..., None] * z) ** 2 @ w)
    return q, chi
""",
        "price": """
def price():
    # by the law of a product: z = W x is Gaussian with variance sigma^2|x|^2,
    # so layers need no matrix; numpy
    import numpy as np
    rng = np.random.default_rng(SEED)
    widths, depth, M = [32, 64, 96, 128], 100, 400
    e = np.zeros((len(SLOPES), 4)); s = e.copy()
    for i, a in enumerate(SLOPES):
        for j, N in enumerate(widths):
            lam = np.zeros(M)
            for _ in range(depth):
                z = rng.normal(size=(M, N)) * np.sqrt(2 / (1 + a * a) / N)
                y = np.where(z > 0, z, a * z)
                lam += np.log(np.sum(y**2, 1)) / 2 / depth
            e[i, j] = lam.mean(); s[i, j] = lam.std()
    return {"widths": np.array(widths), "depth": depth, "networks": M, "exponent": e, "spread": s}


data = price()
for row in data["exponent"]:
    plt.loglog(data["widths"], -row)
""",
        "alive": """
def alive():
    import numpy as np
    rng = np.random.default_rng(SEED)
    count = np.zeros(DEEP)
    M = 1000
    for m in range(M):
        x = np.ones(NARROW)
        for l in range(DEEP):
            x = np.maximum(rng.normal(size=(NARROW, NARROW)) @ x, 0)
            if not x.any():
                break
            count[l] += 1
    return M, torch.tensor(count / M)


networks_alive, shares = alive()
plt.plot(shares)
""",
    },
    "few networks, normed on the way": {
        "price": """
def price():
    # deep and few: 100 networks, 60 layers; matrices of the linear net by QR-free products
    g = torch.Generator().manual_seed(SEED)
    widths, depth, M = [24, 36, 54, 80], 60, 150
    ex, sp = [], []
    for a in SLOPES:
        for N in widths:
            x = torch.ones(M, N, 1) / N**0.5
            lam = torch.zeros(M)
            for _ in range(depth):
                W = torch.randn(M, N, N, generator=g, dtype=torch.float32).double()
                z = W @ x * math.sqrt(2 / (1 + a * a) / N)
                x = torch.where(z > 0, z, a * z)
                r = x.norm(dim=(1, 2)); lam += r.log(); x = x / r[:, None, None]
            lam = lam / depth
            ex.append(lam.mean().item()); sp.append(lam.std().item())
    s = (len(SLOPES), len(widths))
    ex, sp = torch.tensor(ex).view(s), torch.tensor(sp).view(s)
    return {"widths": widths, "depth": depth, "networks": M, "exponent": ex, "spread": sp}


data = price()
""",
    },
}
