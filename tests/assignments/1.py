"""Wrong answers to assignment 1, and the marks that they lose."""

STEP = """
def ball_step(slope, state, eta, beta):
    eta, beta = torch.as_tensor(eta), torch.as_tensor(beta)
    theta, v = state.chunk(2, -1)
    {lines}
"""
TANGENT = """
def ball_tangent(hessian, state, eta, beta):
    eta, beta = torch.as_tensor(eta), torch.as_tensor(beta)
    h = eta[..., None, None] * hessian(state.chunk(2, -1)[0])
    one = torch.eye(h.shape[-1]).expand_as(h)
    kept = beta[..., None, None] * one
    {lines}
"""
EXPONENTS = """
def exponents(step, tangent, start, n, transient=0):
    d = start.shape[-1]
    frame = torch.eye(d).expand(*start.shape, d)
    state, total = start, torch.zeros_like(start)
    {lines}
"""
DIAGRAM = """
def momentum_diagram(betas):
    rho = torch.arange(0.9, 2.0, {gap})
    beta = torch.tensor(betas)[:, None]
    eta = {eta}
    x, v = torch.full_like(eta, 1.05), torch.zeros_like(eta)
    dx, dv, total = torch.ones_like(eta), torch.zeros_like(eta), 0.0
    path, count = [], {count}
    for t in range(2 * count):
        kick = eta * (3 * x**2 - 1) * dx
        dv = {tangent}
        dx = dx + dv
        size = torch.hypot(dx, dv)
        dx, dv = dx / size, dv / size
        if t >= count:
            total = total + size.log()
        v = beta * v - eta * (x**3 - x)
        x = x + v
        path = [*path[-7:], x]
    path = torch.stack(path)
    period = torch.zeros(eta.shape, dtype=torch.long)
    for p in {periods}:
        back = (path[p:] - path[:-p]).abs().amax(0)
        period[back < {near}] = p
    period[~(x.abs() < {far})] = -1
    return {{"rho": rho, "period": period, "exponent": {exponent}}}
"""
USUAL = dict(gap=0.005, eta="rho * (1 + beta)", count=1500, far=10, near=1e-5,
             tangent="beta * dv - kick", periods=(4, 2, 1),
             exponent="total / count")  # fmt: skip


def step(*lines):
    return {"ball-step": STEP.format(lines="\n    ".join(lines))}


def tangent(*lines):
    return {"ball-tangent": TANGENT.format(lines="\n    ".join(lines))}


def exponents(*lines):
    return {"exponents": EXPONENTS.format(lines="\n    ".join(lines))}


def diagram(**changes):
    return {"momentum-diagram": DIAGRAM.format(**(USUAL | changes))}


ALL_STEPS = {"ball-step-one": 2, "ball-step-batch": 2}
ALL_TANGENTS = {"ball-tangent-one": 2, "ball-tangent-batch": 2}
ALL_EXPONENTS = {
    "exponents-linear": 2,
    "exponents-order": 2,
    "exponents-late": 1,
    "exponents-batch": 2,
}

WRONG = {
    "theta moves with the old velocity": (
        step(
            "new = beta[..., None] * v - eta[..., None] * slope(theta)",
            "return torch.cat([theta + v, new], -1)",
        ),
        ALL_STEPS,
    ),
    "uphill": (
        step(
            "v = beta[..., None] * v + eta[..., None] * slope(theta)",
            "return torch.cat([theta + v, v], -1)",
        ),
        ALL_STEPS,
    ),
    "one rate for all members": (
        step(
            "v = beta * v - eta * slope(theta)",
            "return torch.cat([theta + v, v], -1)",
        ),
        {"ball-step-batch": 2},
    ),
    "the visible step, hard-coded": (
        {
            "ball-step": "def ball_step(slope, state, eta, beta):\n"
            "    return torch.tensor([1.65, -0.35])"
        },
        ALL_STEPS,
    ),
    "tangent: theta feels the old velocity, without friction": (
        tangent(
            "above, below = torch.cat([one - h, one], -1), torch.cat([-h, kept], -1)",
            "return torch.cat([above, below], -2)",
        ),
        ALL_TANGENTS,
    ),
    "tangent: transposed": (
        tangent(
            "above, below = torch.cat([one - h, kept], -1), torch.cat([-h, kept], -1)",
            "return torch.cat([above, below], -2).mT",
        ),
        ALL_TANGENTS,
    ),
    "tangent: of one weight only": (
        tangent(
            "h = h[..., 0, 0]",
            "b = beta.expand_as(h)",
            "top = torch.stack([1 - h, b], -1)",
            "low = torch.stack([-h, b], -1)",
            "return torch.stack([top, low], -2)",
        ),
        {"ball-tangent-batch": 2},
    ),
    "tangent of the state after the step": (
        exponents(
            "for t in range(transient + n):",
            "    state = step(state)",
            "    frame, growth = torch.linalg.qr(tangent(state) @ frame)",
            "    if t >= transient:",
            "        total = total + growth.diagonal(dim1=-2, dim2=-1).abs().log()",
            "return total / n",
        ),
        {"exponents-order": 2},
    ),
    "frame on the wrong side": (
        exponents(
            "for t in range(transient + n):",
            "    frame, growth = torch.linalg.qr(frame @ tangent(state))",
            "    if t >= transient:",
            "        total = total + growth.diagonal(dim1=-2, dim2=-1).abs().log()",
            "    state = step(state)",
            "return total / n",
        ),
        {"exponents-order": 2, "exponents-late": 1},
    ),
    "frame starts after the transient": (
        exponents(
            "for t in range(transient):",
            "    state = step(state)",
            "for t in range(n):",
            "    frame, growth = torch.linalg.qr(tangent(state) @ frame)",
            "    total = total + growth.diagonal(dim1=-2, dim2=-1).abs().log()",
            "    state = step(state)",
            "return total / n",
        ),
        {"exponents-late": 1},
    ),
    "the transient counted in the mean": (
        exponents(
            "for t in range(transient + n):",
            "    frame, growth = torch.linalg.qr(tangent(state) @ frame)",
            "    if t >= transient:",
            "        total = total + growth.diagonal(dim1=-2, dim2=-1).abs().log()",
            "    state = step(state)",
            "return total / (transient + n)",
        ),
        {"exponents-late": 1, "exponents-batch": 2},
    ),
    "logarithm of a negative diagonal": (
        exponents(
            "for t in range(transient + n):",
            "    frame, growth = torch.linalg.qr(tangent(state) @ frame)",
            "    if t >= transient:",
            "        total = total + growth.diagonal(dim1=-2, dim2=-1).log()",
            "    state = step(state)",
            "return total / n",
        ),
        ALL_EXPONENTS,
    ),
    "single precision": (
        exponents(
            "frame, total = frame.float(), total.float()",
            "for t in range(transient + n):",
            "    frame, growth = torch.linalg.qr(tangent(state).float() @ frame)",
            "    if t >= transient:",
            "        total = total + growth.diagonal(dim1=-2, dim2=-1).abs().log()",
            "    state = step(state)",
            "return total / n",
        ),
        ALL_EXPONENTS,
    ),
    "one member only": (
        exponents(
            "frame = torch.eye(d)",
            "for t in range(transient + n):",
            "    frame, growth = torch.linalg.qr(tangent(state) @ frame)",
            "    if t >= transient:",
            "        total = total + growth.diagonal().abs().log()",
            "    state = step(state)",
            "return total / n",
        ),
        {"exponents-batch": 2},
    ),
    "the rate itself on the axis": (
        diagram(eta="rho * torch.ones_like(beta)"),
        {
            "diagram-periods": 2,
            "diagram-doubling": 2,
            "diagram-exponents": 3,
            "diagram-escape": 2,
        },
    ),
    "not the least period": (
        diagram(periods=(1, 2, 4)),
        {"diagram-periods": 2, "diagram-doubling": 2},
    ),
    "a coarse grid": (
        diagram(gap=0.025),
        {"diagram-form": 1},
    ),
    "tangent without memory": (
        diagram(tangent="-kick"),
        {"diagram-exponents": 3},
    ),
    "exponent as a sum, not per step": (
        diagram(exponent="total"),
        {"diagram-exponents": 3},
    ),
    "lost as soon as it leaves the right well": (
        diagram(far=1.2),
        {"diagram-escape": 2},
    ),
}

RIGHT = {
    "a step in slices, a tangent entry by entry": {
        "ball-step": """
def ball_step(slope, state, eta, beta):
    p = state.shape[-1] // 2
    out = torch.empty_like(state)
    e = eta.unsqueeze(-1) if isinstance(eta, torch.Tensor) else eta
    b = beta.unsqueeze(-1) if isinstance(beta, torch.Tensor) else beta
    out[..., p:] = b * state[..., p:] - e * slope(state[..., :p])
    out[..., :p] = state[..., :p] + out[..., p:]
    return out
""",
        "ball-tangent": """
def ball_tangent(hessian, state, eta, beta):
    p = state.shape[-1] // 2
    h = hessian(state[..., :p])
    out = torch.zeros(*state.shape, 2 * p)
    for i in range(p):
        out[..., i, i] = 1
        for k in (i, p + i):
            out[..., k, p + i] = beta
            for j in range(p):
                out[..., k, j] -= eta * h[..., i, j]
    return out
""",
    },
    "Gram and Schmidt by hand, one member after the other, in numpy": {
        "exponents": """
import numpy as np

def exponents(step, tangent, start, n, transient=0):
    d = start.shape[-1]
    rates = []
    for x in start.reshape(-1, d):
        q, total = np.eye(d), np.zeros(d)
        for t in range(transient + n):
            a = tangent(x).numpy() @ q
            for k in range(d):
                for j in range(k):
                    a[:, k] -= (a[:, k] @ a[:, j]) * a[:, j]
                size = np.sqrt(a[:, k] @ a[:, k])
                a[:, k] /= size
                if t >= transient:
                    total[k] += np.log(size)
            q, x = a, step(x)
        rates.append(total / n)
    return np.array(rates).reshape(tuple(start.shape))
"""
    },
    "the diagram in numpy, coarser, from another start, not for long": {
        "momentum-diagram": """
import numpy as np

def momentum_diagram(betas):
    rho = np.linspace(0.85, 1.95, 112)
    period = np.zeros((len(betas), 112), int)
    exponent = np.zeros((len(betas), 112))
    for i, b in enumerate(betas):
        for j, r in enumerate(rho):
            eta, x, v, dx, dv, total = r * (1 + b), 0.88, 0.0, 0.6, 0.8, 0.0
            for t in range(1000):
                dv = b * dv - eta * (3 * x * x - 1) * dx
                dx += dv
                size = math.sqrt(dx * dx + dv * dv)
                dx, dv = dx / size, dv / size
                total += math.log(size) if t >= 300 else 0.0
                v = b * v - eta * (x**3 - x)
                x += v
                if not -10 < x < 10:
                    break
            if not -10 < x < 10:
                period[i, j], exponent[i, j] = -1, math.nan
                continue
            exponent[i, j] = total / 700
            tail = [x]
            for _ in range(12):
                v = b * v - eta * (x**3 - x)
                x += v
                tail.append(x)
            for p in (1, 2, 4):
                if max(abs(tail[k + p] - tail[k]) for k in range(8)) < 1e-3:
                    period[i, j] = p
                    break
    return {"rho": rho, "period": period, "exponent": exponent}
"""
    },
    "the diagram with the functions of Part B, as lists": {
        "momentum-diagram": """
def momentum_diagram(betas):
    rho = torch.linspace(0.9, 1.9, 126)
    periods, rates = [], []
    for b in betas:
        eta = rho * (1 + b)
        state = torch.tensor([0.9, 0.0]).expand(126, 2)
        path = []
        for t in range(2000):
            state = ball_step(well_slope, state, eta, b)
            path = [*path[-8:], state[:, 0]]
        path = torch.stack(path)
        lost = ~(path[-1].abs() < 10)
        state = torch.where(lost[:, None], torch.tensor([1.0, 0.0]), state)
        eta = torch.where(lost, 0.5, eta)
        rate = exponents(
            lambda s: ball_step(well_slope, s, eta, b).clamp(-50, 50),
            lambda s: ball_tangent(well_hessian, s, eta, b),
            state, 1000, 50
        )[:, 0]
        same = [(path[-1] - path[-1 - p]).abs() < 1e-4 for p in (1, 2, 4)]
        kind = torch.where(same[2], 4, 0)
        kind = torch.where(same[1], 2, kind)
        kind = torch.where(same[0], 1, kind)
        periods.append(torch.where(lost, -1, kind).tolist())
        rates.append(rate.tolist())
    return {"rho": rho.tolist(), "period": periods, "exponent": rates}
"""
    },
    "split with chunk, jacobian by blocks, QR with an explicit frame": {
        "ball-step": """
def ball_step(slope, state, eta, beta):
    theta, v = state.chunk(2, dim=-1)
    eta = torch.as_tensor(eta)[..., None]
    beta = torch.as_tensor(beta)[..., None]
    new = beta * v - eta * slope(theta)
    return torch.cat((theta + new, new), dim=-1)
""",
        "ball-tangent": """
def ball_tangent(hessian, state, eta, beta):
    p = state.shape[-1] // 2
    H = hessian(state[..., :p])
    I = torch.eye(p).expand(H.shape)
    e = torch.as_tensor(eta)[..., None, None]
    b = torch.as_tensor(beta)[..., None, None]
    lower = torch.cat((-e * H, b * I), dim=-1)
    upper = torch.cat((I - e * H, b * I), dim=-1)
    return torch.cat((upper, lower), dim=-2)
""",
        "exponents": """
def exponents(step, tangent, start, n, transient=0):
    x = start
    d = start.shape[-1]
    Q = torch.eye(d).expand(*start.shape[:-1], d, d)
    total = torch.zeros(start.shape)
    for t in range(transient + n):
        Q, R = torch.linalg.qr(tangent(x) @ Q)
        if t >= transient:
            total += torch.diagonal(R, dim1=-2, dim2=-1).abs().log()
        x = step(x)
    return total / n
""",
        "momentum-diagram": """
def momentum_diagram(betas):
    # numpy, plain loops over steps, 1000 before looking, 400 looked at
    import numpy as np
    rho = np.arange(0.85, 1.9, 0.01)
    b = np.array(betas)[:, None]
    eta = rho[None] * (1 + b)
    with np.errstate(all="ignore"):
        x = np.full(eta.shape, 1.1)
        v = np.zeros_like(x)
        tx, tv = np.full_like(x, 0.6), np.full_like(x, 0.8)
        total = np.zeros_like(x)
        seen = []
        N, M = 1000, 1000
        for t in range(N + M):
            h = 3 * x**2 - 1
            tv = b * tv - eta * h * tx
            tx = tx + tv
            size = np.hypot(tx, tv)
            tx, tv = tx / size, tv / size
            if t >= N:
                total += np.log(size)
            v = b * v - eta * (x**3 - x)
            x = x + v
            if t >= N + M - 8:
                seen.append(x.copy())
        seen = np.array(seen)
        last = seen[-1]
        lost = ~np.isfinite(last) | (np.abs(last) > 10)
        period = np.zeros(eta.shape, dtype=int)
        for k in (4, 2, 1):
            same = np.abs(seen[k:] - seen[:-k]).max(0) < 1e-4
            period[same] = k
        period[lost] = -1
    return {"rho": rho, "period": period, "exponent": total / M}
""",
    },
    "loops over the batch in B; nested loops over floats in C": {
        "ball-step": """
def ball_step(slope, state, eta, beta):
    p = state.shape[-1] // 2
    lead = state.shape[:-1]
    e = torch.as_tensor(eta).expand(lead).reshape(-1)
    b = torch.as_tensor(beta).expand(lead).reshape(-1)
    rows = state.reshape(-1, 2 * p)
    out = torch.empty_like(rows)
    for i, row in enumerate(rows):
        v = b[i] * row[p:] - e[i] * slope(row[:p])
        out[i, :p] = row[:p] + v
        out[i, p:] = v
    return out.reshape(state.shape)
""",
        "ball-tangent": """
def ball_tangent(hessian, state, eta, beta):
    p = state.shape[-1] // 2
    lead = state.shape[:-1]
    e = torch.as_tensor(eta).expand(lead).reshape(-1)
    b = torch.as_tensor(beta).expand(lead).reshape(-1)
    rows = state.reshape(-1, 2 * p)
    out = torch.empty(len(rows), 2 * p, 2 * p)
    for i, row in enumerate(rows):
        H = hessian(row[:p])
        I = torch.eye(p)
        out[i, :p, :p] = I - e[i] * H
        out[i, :p, p:] = b[i] * I
        out[i, p:, :p] = -e[i] * H
        out[i, p:, p:] = b[i] * I
    return out.reshape(*lead, 2 * p, 2 * p)
""",
        "exponents": """
def exponents(step, tangent, start, n, transient=0):
    # Gram-Schmidt by hand
    x = start.clone()
    d = x.shape[-1]
    Q = torch.eye(d).repeat(*x.shape[:-1], 1, 1)
    logs = []
    for t in range(transient + n):
        P = tangent(x) @ Q
        cols, norms = [], []
        for j in range(d):
            c = P[..., j]
            for q in cols + cols:
                c = c - (q * c).sum(-1, keepdim=True) * q
            r = c.norm(dim=-1)
            cols.append(c / r[..., None])
            norms.append(r)
        Q = torch.stack(cols, -1)
        logs.append(torch.stack(norms, -1).log())
        x = step(x)
    return torch.stack(logs[transient:]).mean(0)
""",
        "momentum-diagram": """
def momentum_diagram(betas):
    rho = torch.linspace(0.9, 2.0, 111)
    period, exponent = [], []
    for beta in betas:
        kinds, rates = [], []
        for r in rho.tolist():
            eta = r * (1 + beta)
            x, v, tx, tv, total = 0.9, 0.0, 1.0, 0.0, 0.0
            orbit = []
            kind = None
            for t in range(1500):
                tv = beta * tv - eta * (3 * x * x - 1) * tx
                tx = tx + tv
                s = math.sqrt(tx * tx + tv * tv)
                tx, tv = tx / s, tv / s
                if t >= 1000:
                    total += math.log(s)
                v = beta * v - eta * (x**3 - x)
                x = x + v
                orbit.append(x)
                if abs(x) > 10:
                    kind = -1
                    break
            if kind is None:
                a = orbit[-5:]
                if abs(a[-1] - a[-2]) < 1e-6:
                    kind = 1
                elif abs(a[-1] - a[-3]) < 1e-6:
                    kind = 2
                elif abs(a[-1] - a[-5]) < 1e-6:
                    kind = 4
                else:
                    kind = 0
            kinds.append(kind)
            rates.append(total / 500)
        period.append(kinds)
        exponent.append(rates)
    return {"rho": rho, "period": torch.tensor(period), "exponent": torch.tensor(exponent)}
""",
    },
}
