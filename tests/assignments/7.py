"""Wrong answers to assignment 7, and the marks that they lose."""

LISTEN = """
def listen(A, B, dt, u):
    eye = torch.eye(len(B))
    left = {left}
    step = torch.linalg.solve(left, {right})
    push = torch.linalg.solve(left, dt * B)
    x, seen = torch.zeros({shape}), []
    for now in u.unbind(-1):
        x = x @ {step} + now[..., None] * push
        seen.append(x)
    return torch.stack(seen, -2)
"""
FILTER = """
def filter_step(mean, cov, h, y, noise, drift):
    eye, drift = torch.eye(mean.shape[-1]), torch.as_tensor(drift)
    cov = {before}
    towards = (cov @ h[..., None])[..., 0]
    spread = (h * towards).sum(-1) + {noise}
    gain = towards / spread[..., None]
    innovation = y - (h * mean).sum(-1)
    keep = eye - gain[..., :, None] * h[..., None, :]
    cov = {after}
    mean = mean {sign} gain * innovation[..., None]
    return mean, cov, gain, innovation, spread
"""
FORGET = """
def forgetting(gains, h, transient=0):
    v, total = torch.ones_like(gains[0]), 0.0
    for t, (gain, row) in enumerate(zip(gains, h)):
        v = v / v.norm({norm})
        v = {step}
        if t >= {first}:
            total = total + v.norm({norm}).log(){shape}
    return total / ({count})
"""
FOLLOW = """
def follow(seed):
    rooms, samples = {rooms}, {samples}
    rng = seeded(seed)
    u = torch.randn(rooms, samples, generator=rng) / math.sqrt(STEP)
    left = torch.eye(4) - STEP / 2 * legs(4)[0]
    step = torch.linalg.solve(left, 2 * torch.eye(4) - left)
    push = STEP * torch.linalg.solve(left, legs(4)[1])
    drift = Q * {grid}
    m, late = len(drift), samples // 4
    x, truth, v = torch.zeros(rooms, 4), torch.zeros(rooms, 4), torch.ones(4)
    mean, P = torch.zeros(m, rooms, 4), torch.eye(4).expand(m, rooms, 4, 4)
    sums, total = torch.zeros(3, m, rooms), 0.0
    for t in range(samples):
        x = x @ step.T + u[:, t, None] * push
        truth = truth + {walk} * torch.randn(rooms, 4, generator=rng)
        y = (x * truth).sum(-1)
        y = y + math.sqrt(R) * torch.randn(rooms, generator=rng)
        P = P + {drift} * torch.eye(4)
        Ph = (P @ x[..., None])[..., 0]
        S = (Ph * x).sum(-1) + R
        K = Ph / S[..., None]
        nu = y - (x * mean).sum(-1)
        P = P - K[..., None] * Ph[..., None, :]
        mean = mean + K * nu[..., None]
        v = v - K * (x * v).sum(-1, keepdim=True)
        size = v.norm(dim=-1)
        v = v / size[..., None]
        if t >= late:
            error = (mean - truth).square().sum(-1)
            trace = {claimed}
            sums = sums + torch.stack([error, trace, {ratio}])
            total = total + size.log()
    error, claimed, ratio = (sums / (samples - late)).mean(-1)
    rate = {rate}
    return {{"drift": drift, "error": error, "claimed": claimed,
            "ratio": ratio, "rate": rate}}
"""
JOSEPH = "keep @ cov @ keep.mT + noise * gain[..., :, None] * gain[..., None, :]"


def listen(**changes):
    usual = dict(
        left="eye - dt / 2 * A",
        right="eye + dt / 2 * A",
        shape="*u.shape[:-1], len(B)",
        step="step.T",
    )
    return {"listen": LISTEN.format(**(usual | changes))}


def filter_step(**changes):
    usual = dict(
        before="cov + drift[..., None, None] * eye",
        noise="noise",
        after=JOSEPH,
        sign="+",
    )
    return {"filter-step": FILTER.format(**(usual | changes))}


def forgetting(**changes):
    usual = dict(
        norm="dim=-1, keepdim=True",
        step="v - gain * (row * v).sum(-1, keepdim=True)",
        first="transient",
        shape="[..., 0]",
        count="len(gains) - transient",
    )
    return {"forgetting": FORGET.format(**(usual | changes))}


def follow(**changes):
    usual = dict(
        rooms=8,
        samples=2000,
        grid="10 ** torch.linspace(-2, 2, 15)",
        walk="math.sqrt(Q)",
        drift="drift[:, None, None, None]",
        claimed="P.diagonal(dim1=-2, dim2=-1).sum(-1)",
        ratio="nu**2 / S",
        rate="total.mean(-1) / (samples - late)",
    )
    return {"follow": FOLLOW.format(**(usual | changes))}


# Their Part C stands on its own feet: `follow()` uses nothing of Part B.
WRONG_B = {
    "B1: Euler's step": (
        listen(left="eye", right="eye + dt * A"),
        {"listen-one": 2, "listen-batch": 2},
    ),
    "B1: the matrix on the wrong side": (
        listen(step="step"),
        {"listen-one": 2},
    ),
    "B1: no batch": (
        {
            "listen": """
def listen(A, B, dt, u):
    left = torch.linalg.inv(torch.eye(len(B)) - dt / 2 * A)
    x, seen = torch.zeros(len(B)), []
    for now in u.tolist():
        x = left @ (x + dt / 2 * A @ x + dt * now * B)
        seen.append(x)
    return torch.stack(seen)
"""
        },
        {"listen-batch": 2},
    ),
    "B2: the noise as a standard deviation": (
        filter_step(noise="noise**2"),
        {"filter-one": 2, "filter-drift": 1, "filter-batch": 2},
    ),
    "B2: no drift": (
        filter_step(before="cov"),
        {"filter-drift": 1, "filter-batch": 2},
    ),
    "B2: the drift times the covariance": (
        filter_step(before="cov * (1 + drift[..., None, None])"),
        {"filter-drift": 1},
    ),
    "B2: P - K H P": (filter_step(after="keep @ cov"), {"filter-rounding": 2}),
    "B2: Joseph without the noise": (
        filter_step(after="keep @ cov @ keep.mT"),
        {
            "filter-one": 2,
            "filter-drift": 1,
            "filter-batch": 2,
            "filter-rounding": 2,
        },
    ),
    "B3: K and h exchanged": (
        forgetting(step="v - row * (gain * v).sum(-1, keepdim=True)"),
        {"forgetting-one": 2},
    ),
    "B3: the sign of the gain": (
        forgetting(step="v + gain * (row * v).sum(-1, keepdim=True)"),
        {"forgetting-one": 2, "forgetting-long": 1, "forgetting-batch": 1},
    ),
    "B2: the mean moved the wrong way": (
        filter_step(sign="-"),
        {"filter-one": 2, "filter-batch": 2, "filter-rounding": 2},
    ),
    "B2: the numbers of the visible test": (
        {
            "filter-step": """
def filter_step(mean, cov, h, y, noise, drift):
    return [1.4411765], [[0.11764706]], [0.47058824], 2.0, 8.5
"""
        },
        {
            "filter-one": 2,
            "filter-drift": 1,
            "filter-batch": 2,
            "filter-rounding": 2,
        },
    ),
    "B3: the mean over all steps": (
        forgetting(count="len(gains)"),
        {"forgetting-one": 2},
    ),
    "B3: the transient one too long": (
        forgetting(first="transient + 1"),
        {"forgetting-one": 2, "forgetting-long": 1, "forgetting-batch": 1},
    ),
    "B3: one norm for the whole batch": (
        forgetting(norm="", shape=""),
        {"forgetting-batch": 1},
    ),
    "B3: the norm only at the end": (
        {
            "forgetting": """
def forgetting(gains, h, transient=0):
    v, before = torch.ones_like(gains[0]), None
    for t, (gain, row) in enumerate(zip(gains, h)):
        if t == transient:
            before = v.norm(dim=-1)
        v = v - gain * (row * v).sum(-1, keepdim=True)
    return (v.norm(dim=-1) / before).log() / (len(gains) - transient)
"""
        },
        {"forgetting-long": 1},
    ),
}
WRONG_C = {
    "C: a walk of variance Q squared": (
        follow(walk="Q"),
        {"follow-best": 2, "follow-claimed": 3, "follow-surprise": 2},
    ),
    "C: the drift as a standard deviation": (
        follow(drift="drift[:, None, None, None].sqrt()"),
        {
            "follow-best": 2,
            "follow-claimed": 3,
            "follow-surprise": 2,
            "follow-rate": 2,
        },
    ),
    "C: the trace forgotten, one entry only": (
        follow(claimed="P[..., 0, 0]"),
        {"follow-claimed": 3},
    ),
    "C: surprise without the square": (
        follow(ratio="nu.abs() / S.sqrt()"),
        {"follow-surprise": 2},
    ),
    "C: the rate per run, not per sample": (
        follow(rate="total.mean(-1)"),
        {"follow-rate": 2},
    ),
    "C: a coarse grid": (
        follow(grid="10 ** torch.linspace(-2, 2, 9)"),
        {"follow-form": 1},
    ),
    "C: the best drift at the end of the grid": (
        follow(grid="10 ** torch.linspace(-2, 0, 9)"),
        {
            "follow-form": 1,
            "follow-best": 2,
            "follow-claimed": 3,
            "follow-surprise": 2,
        },
    ),
}
WRONG = {
    words: (follow() | answers, losses) for words, (answers, losses) in WRONG_B.items()
} | WRONG_C

RIGHT = {
    "a filter of information, and a layer by its kernel": {
        "listen": """
def listen(A, B, dt, u):
    T, eye = u.shape[-1], torch.eye(len(B))
    left = torch.linalg.inv(eye - dt / 2 * A)
    step, kernel = left @ (eye + dt / 2 * A), [left @ B * dt]
    for _ in range(T - 1):
        kernel.append(step @ kernel[-1])
    kernel = torch.stack(kernel)
    late = torch.arange(T)[:, None] - torch.arange(T)
    table = torch.where((late >= 0)[..., None], kernel[late.clamp(min=0)], 0.0)
    return torch.einsum("tsn,...s->...tn", table, u)
""",
        "filter-step": """
def filter_step(mean, cov, h, y, noise, drift):
    eye = torch.eye(mean.shape[-1])
    M = cov + torch.as_tensor(drift)[..., None, None] * eye
    H = h[..., None, :]
    spread = (H @ M @ H.mT)[..., 0, 0] + noise
    cov = torch.linalg.inv(torch.linalg.inv(M) + H.mT @ H / noise)
    innovation = y - (H @ mean[..., None])[..., 0, 0]
    gain = (M @ H.mT)[..., 0] / spread[..., None]
    mean = mean + gain * innovation[..., None]
    return mean, cov, gain, innovation, spread
""",
    },
    "an exponent with one matrix for each step": {
        "forgetting": """
def forgetting(gains, h, transient=0):
    eye, v = torch.eye(h.shape[-1]), torch.ones(*h.shape[1:], 1)
    logs = []
    for gain, row in zip(gains, h):
        new = (eye - gain[..., :, None] * row[..., None, :]) @ v
        grown = new.norm(dim=(-2, -1)) / v.norm(dim=(-2, -1))
        logs.append(torch.log(grown))
        v = new / new.norm(dim=(-2, -1), keepdim=True)
    return torch.stack(logs[transient:]).mean(0)
"""
    },
    "another order of draws": follow(),
    "the least that is asked for": follow(samples=1500),
    "more rooms": follow(rooms=24, samples=1500),
    "a wider grid": follow(grid="2.0 ** torch.arange(-8, 9)"),
    "numpy, one drift and one room at a time": {
        "follow": """
def follow(seed):
    import numpy as np

    rooms, samples, late = 8, 1500, 375
    A, B = (v.numpy() for v in legs(4))
    left = np.linalg.inv(np.eye(4) - STEP / 2 * A)
    step, push = left @ (np.eye(4) + STEP / 2 * A), STEP * left @ B
    drifts, rng = Q * np.logspace(-2, 2, 15), np.random.default_rng(seed)
    sums = np.zeros((4, 15))
    for _ in range(rooms):
        x, truth, heard = np.zeros(4), np.zeros(4), []
        for _ in range(samples):
            x = step @ x + push * rng.normal() / math.sqrt(STEP)
            truth = truth + math.sqrt(Q) * rng.normal(size=4)
            y = x @ truth + math.sqrt(R) * rng.normal()
            heard.append((x, y, truth))
        for i, d in enumerate(drifts):
            mean, P, v, wide = np.zeros(4), np.eye(4), np.ones(4), d * np.eye(4)
            for t, (x, y, truth) in enumerate(heard):
                P = P + wide
                Px = P @ x
                S = Px @ x + R
                K = Px / S
                nu = y - x @ mean
                mean, P = mean + K * nu, P - K[:, None] * Px
                v = v - K * (x @ v)
                size = math.sqrt(v @ v)
                v = v / size
                if t >= late:
                    miss = mean - truth
                    sums[:, i] += (miss @ miss, P.trace(), nu * nu / S,
                                   math.log(size))
    found = sums / rooms / (samples - late)
    names = "error", "claimed", "ratio", "rate"
    return {"drift": drifts} | dict(zip(names, found))
"""
    },
    "a layer by Fourier transform, a root of the covariance": {
        "listen": """
def listen(A, B, dt, u):
    N, T = len(B), u.shape[-1]
    inv = torch.linalg.inv(torch.eye(N) - dt / 2 * A)
    Ab, b = inv @ (torch.eye(N) + dt / 2 * A), inv @ B * dt
    ks = []
    for _ in range(T):
        ks.append(b); b = Ab @ b
    k = torch.stack(ks)  # T, N
    f = torch.fft.rfft(k.T, 2 * T) * torch.fft.rfft(u, 2 * T)[..., None, :]
    return torch.fft.irfft(f, 2 * T)[..., :T].mT
""",
        "filter-step": """
def filter_step(mean, cov, h, y, noise, drift):
    N, drift = mean.shape[-1], torch.as_tensor(drift)
    M = cov + drift[..., None, None] * torch.eye(N)
    innovation = y - (h * mean).sum(-1)
    lead = torch.broadcast_shapes(innovation.shape, M.shape[:-2])
    U = torch.linalg.cholesky(M.expand(*lead, N, N)).mT
    top = torch.zeros(*lead, 1, N + 1)
    top[..., 0, 0] = noise**0.5
    low = torch.cat([U @ h.expand(*lead, N)[..., None], U], -1)
    r = torch.linalg.qr(torch.cat([top, low], -2))[1]
    gain, V = r[..., 0, 1:] / r[..., 0, :1], r[..., 1:, 1:]
    mean = mean + gain * innovation[..., None]
    return mean, V.mT @ V, gain, innovation, r[..., 0, 0] ** 2
""",
    },
    "an exponent in floats, a finer grid": {
        "forgetting": """
def forgetting(gains, h, transient=0):
    if gains.ndim > 2:
        pairs = zip(gains.unbind(1), h.unbind(1))
        rates = [forgetting(K, x, transient) for K, x in pairs]
        return torch.stack([torch.as_tensor(rate) for rate in rates])
    v, total = [1.0] * gains.shape[1], 0.0
    for t, (K, x) in enumerate(zip(gains.tolist(), h.tolist())):
        size = math.hypot(*v)
        v = [a / size for a in v]
        seen = sum(a * b for a, b in zip(x, v))
        v = [a - k * seen for a, k in zip(v, K)]
        if t >= transient:
            total += math.log(math.hypot(*v))
    return total / (len(gains) - transient)
""",
        "follow": """
def follow(seed):
    import numpy as np
    rng = np.random.default_rng(seed)
    A, B = (v.numpy() for v in legs(4))
    left = np.linalg.inv(np.eye(4) - STEP / 2 * A)
    Ab, Bb = left @ (np.eye(4) + STEP / 2 * A), left @ B * STEP
    drifts = Q * np.geomspace(0.01, 100, 31)
    rooms, T = 8, 1500
    out = np.zeros((4, 31))
    m, P = np.zeros((31, rooms, 4)), np.eye(4)
    x, th, v = 0, 0, np.ones((31, rooms, 4))
    for t in range(T):
        u = rng.standard_normal((rooms, 1)) / STEP**0.5
        x = (x @ Ab.T if t else 0) + u * Bb
        th = th + Q**0.5 * rng.standard_normal((rooms, 4))
        y = (x * th).sum(-1) + R**0.5 * rng.standard_normal(rooms)
        M = P + drifts[:, None, None, None] * np.eye(4)
        Mh = (M @ x[..., None])[..., 0]
        S = (x * Mh).sum(-1) + R
        K = Mh / S[..., None]
        nu = y - (x * m).sum(-1)
        m = m + K * nu[..., None]
        P = M - K[..., None] * K[..., None, :] * S[..., None, None]
        w = v - K * (x * v).sum(-1, keepdims=True)
        size = np.linalg.norm(w, axis=-1)
        g = np.log(size / np.linalg.norm(v, axis=-1))
        v = w / size[..., None]
        if t >= T // 4:
            out[0] += ((m - th)**2).sum(-1).mean(-1)
            out[1] += np.trace(P, axis1=-2, axis2=-1).mean(-1)
            out[2] += (nu**2 / S).mean(-1)
            out[3] += g.mean(-1)
    out /= T - T // 4
    names = "drift", "error", "claimed", "ratio", "rate"
    return dict(zip(names, (drifts, *out)))
""",
    },
}
