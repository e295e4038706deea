"""Training steps of networks of balanced layers: many small products, and Adam.

Steps are timed, and nothing else: each version makes its network, takes its steps, and only then,
when the clock stands, the outputs that are compared.
"""

from __future__ import annotations

import math

import torch
from compare import Case, have_jax
from torch import nn
from torch.nn.functional import mse_loss

from dynbook.mmnn import MMNN
from dynbook.regression import _objective, _Path, _start, pass_order  # fit would count its losses

EAGER = "torch, autograd and Adam, network by network"
LR = 1e-5  # so small that all versions stay together, to the rounding


def case(
    size: tuple[int, int, int] = (666, 36, 6),
    batch: int = 100,
    members: int = 1,
    steps: int = 200,
    few: int = 1,
    device: str = "cpu",
) -> Case:
    """`few` networks for the loops over networks, all for the rest."""
    points = max(1000, batch)
    x = torch.linspace(-1, 1, points)[:, None]
    y = torch.sin(16 * torch.pi * x.abs() ** 1.5)

    def network(dtype=torch.float32, where=device):
        generator = torch.Generator().manual_seed(0)
        return MMNN(*size, members=members, generator=generator, dtype=dtype, device=where)

    seed = torch.randint(2**62, (), generator=torch.Generator().manual_seed(1)).item()
    passes = math.ceil(steps / (points // batch))
    orders = [pass_order(seed, k, points)[: points // batch * batch] for k in range(passes)]
    rows = torch.cat(orders)[: steps * batch].view(steps, batch)
    here, there, target, chosen = network(), x.to(device), y.to(device), rows.to(device)

    def ours():
        path = _Path(*_objective(here), there, target, batch, seed, lambda step: LR, True)
        path.begin(_start(here, None, "adam"))
        for _ in range(steps):
            path.step()
        return lambda: here(there, path.theta).detach()

    def eager(net, many, x, y, rows, **options):
        modules = []
        for member in range(many):
            module = plain(net, member)
            moving = [p for p in module.parameters() if p.requires_grad]
            adam = torch.optim.Adam(moving, LR, **options)
            for chosen in rows:
                adam.zero_grad()
                mse_loss(module(x[chosen]), y[chosen]).backward()
                adam.step()
            modules.append(module)
        return lambda: torch.stack([module(x).detach() for module in modules])

    versions = {
        "dynbook": ours,
        EAGER: lambda: eager(here, few, there, target, chosen),
        "the same with Adam(fused=True)": lambda: eager(
            here, few, there, target, chosen, fused=True
        ),
    }
    share = {name: few / members for name in list(versions)[1:]}
    jit = "JAX, jit of scan" + " of vmap" * (members > 1)
    if have_jax():
        versions[jit] = _jax(here, x, y, rows)
    double = (t.double() for t in (x, y))
    width, rank, depth = size
    return Case(
        name=f"MMNN ({width}, {rank}, {depth})" + f", {members} side by side" * (members > 1),
        task=f"{steps} steps of Adam, batch {batch}, float32",
        versions=versions,
        share=share,
        reference=eager(network(torch.float64, "cpu"), few, *double, rows)(),
        measure="f",
        targets={EAGER: 1.4, jit: 1 / 1.1},
        limit="Between two products XLA makes bias and activation one pass over the hidden layer; "
        "eager torch makes several, each by a call.",
        flops=10 * steps * members * batch * width * rank * depth,
        dtype="float32",
    )


def plain(network: MMNN, member: int) -> nn.Sequential:
    """A member as a chain of modules, its inner maps frozen."""
    modules = []
    for i, (w, b) in enumerate(network.maps()):
        linear = nn.Linear(w.shape[-1], w.shape[-2]).to(w)
        linear.weight.data.copy_(w[member].detach())
        linear.bias.data.copy_(b[member].detach())
        linear.requires_grad_(network.trained[i])
        modules += [linear, nn.ReLU()] if network.active[i] else [linear]
    return nn.Sequential(*modules)


def _jax(network, x, y, rows):
    import jax
    import jax.numpy as jnp
    import numpy as np

    maps = [(jnp.asarray(w.detach().cpu()), jnp.asarray(b.detach().cpu()))
            for w, b in network.maps()]  # fmt: skip
    inner, outer = maps[::2], maps[1::2]
    x, y, rows = jnp.asarray(x), jnp.asarray(y), jnp.asarray(rows)

    def output(outer, inner, x):
        for (w, b), (a, c) in zip(inner, outer, strict=True):
            x = jax.nn.relu(x @ w.T + b) @ a.T + c
        return x

    def trained(inner, outer):
        def step(carry, chosen):
            outer, m, v, t = carry
            g = jax.grad(lambda o: ((output(o, inner, x[chosen]) - y[chosen]) ** 2).mean())(outer)
            t, f = t + 1, jnp.float32
            m = jax.tree.map(lambda m, g: f(0.9) * m + f(0.1) * g, m, g)
            v = jax.tree.map(lambda v, g: f(0.999) * v + f(0.001) * g * g, v, g)
            one, two = 1 - f(0.9) ** t, 1 - f(0.999) ** t
            outer = jax.tree.map(
                lambda p, m, v: p - f(LR) * (m / one) / (jnp.sqrt(v / two) + f(1e-8)), outer, m, v
            )
            return (outer, m, v, t), None

        zero = jax.tree.map(jnp.zeros_like, outer)
        return jax.lax.scan(step, (outer, zero, zero, jnp.float32(0)), rows)[0][0]

    run, outputs = jax.jit(jax.vmap(trained)), jax.vmap(lambda *maps: output(*maps, x))

    def steps():
        end = jax.block_until_ready(run(inner, outer))
        return lambda: np.asarray(outputs(end, inner))

    return steps
