"""Losses of networks as functions of flat parameters, minibatches, ensembles, checkpoints."""

import math
import warnings
from itertools import islice

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from dynbook.checkpoints import write
from dynbook.descent import Training, descend, flatten, load_flat, minibatch_descent, module_loss
from dynbook.ensembles import CheckpointError, DivergenceWarning
from dynbook.lyapunov import lyapunov_spectrum
from dynbook.maps import gradient, gradient_descent, iterate

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed=0, dtype=F64):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)


def data(count=23, device="cpu"):
    x = torch.randn(count, 2, generator=seeded(1), dtype=F64)
    return x.to(device), torch.sin(x.sum(1, keepdim=True)).to(device)


def ensemble(members=4, device="cpu"):
    return torch.stack([flatten(network(seed)) for seed in range(members)]).to(device)


def double_well(theta):
    return (theta**4 / 4 - theta**2 / 2).sum(-1)


# --- a network's loss -----------------------------------------------------------------------


def test_the_loss_of_a_network_and_its_gradient_are_those_of_the_network(device):
    x, y = data(device=device)
    loss, thetas = module_loss(network().to(device), mse_loss, x, y), ensemble(device=device)
    values, slopes = loss(thetas), gradient(loss, thetas)
    assert values.shape == (4,) and values.device.type == device
    for seed in range(4):
        net = network(seed).to(device)
        alone = mse_loss(net(x), y)
        alone.backward()
        grads = torch.cat([p.grad.flatten() for p in net.parameters()])
        torch.testing.assert_close(values[seed], alone.detach())
        torch.testing.assert_close(slopes[seed], grads)
        torch.testing.assert_close(loss(thetas[seed]), alone.detach())
    torch.testing.assert_close(loss(thetas.view(2, 2, -1)), values.view(2, 2))


def test_flat_parameters_go_back_to_where_they_came_from():
    first, other = network(0), network(1)
    assert load_flat(other, flatten(first)) is other
    for a, b in zip(first.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        first[0].weight.zero_()
    assert other[0].weight.abs().min() > 0


def test_frozen_parameters_stay_and_shared_ones_are_counted_once():
    x, y = data()
    net = network()
    net[0].requires_grad_(False)
    theta, loss = flatten(net), module_loss(net, mse_loss, x, y)
    assert theta.shape == (6,)
    torch.testing.assert_close(loss(theta), mse_loss(net(x), y).detach())
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).double()
    net[1].weight = net[0].weight
    theta, loss = flatten(net), module_loss(net, mse_loss, x, x)
    assert theta.shape == (8,)
    torch.testing.assert_close(loss(theta), mse_loss(net(x), x).detach())


class Gated(nn.Module):
    """Not a chain: a shared trunk, two heads, a buffer, keyword arguments inside."""

    def __init__(self):
        super().__init__()
        self.trunk, self.gate = nn.Linear(2, 3), nn.Linear(2, 3, bias=False)
        self.norm = nn.LayerNorm(3)
        self.register_buffer("shift", torch.tensor(0.5))

    def forward(self, x):
        return self.norm(torch.tanh(self.trunk(x)) * torch.sigmoid(self.gate(x)) + self.shift)


def test_any_module_and_any_objective_will_do():
    net, (x, _) = Gated().double(), data()
    classes = torch.randint(3, (len(x),), generator=seeded(2))
    loss, theta = module_loss(net, cross_entropy, x, classes), flatten(net)
    run = iterate(gradient_descent(loss, 0.5), torch.stack([theta, theta / 2]), 20)
    assert (loss(run[-1]) < loss(run[0])).all()
    load_flat(net, run[-1, 0])
    torch.testing.assert_close(cross_entropy(net(x), classes).detach(), loss(run[-1, 0]))


class Sequence(nn.Module):
    """What a recurrent or attentive module makes of a sequence."""

    def __init__(self, inner, arguments=1):
        super().__init__()
        self.inner, self.arguments = inner, arguments

    def forward(self, x):
        return self.inner(*[x] * self.arguments)[0]


@pytest.mark.parametrize(
    "net, name",
    [
        (Sequence(nn.LSTM(2, 2, 2, dropout=0.5)), "LSTM has dropout 0.5 and is in training mode"),
        (Sequence(nn.MultiheadAttention(2, 1, 0.25), 3), "MultiheadAttention has dropout 0.25"),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout()), "Dropout behaves as in training"),
    ],
)
def test_a_network_that_is_put_back_into_training_is_refused(net, name):
    x = torch.randn(5, 2, generator=seeded())
    loss, theta = module_loss(net.eval(), mse_loss, x, x), flatten(net)
    assert loss(theta) == mse_loss(net(x), x)
    net.train()
    for call in (lambda: loss(theta), lambda: module_loss(net, mse_loss)):
        with pytest.raises(ValueError, match=name + r".*call network.eval\(\)"):
            call()


# --- minibatches ----------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_torch_optim_takes_the_same_steps_on_the_same_minibatches(momentum):
    x, y = data()
    loss, thetas = module_loss(network(), mse_loss), ensemble(3)
    steps = minibatch_descent(loss, x, y, 0.1, 7, momentum=momentum, generator=seeded())
    start = torch.cat([thetas, 0 * thetas], -1) if momentum else thetas
    *_, end = descend(steps, start, 20)
    for seed in range(3):
        net = network(seed)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=momentum)
        for chosen in islice(steps.minibatches(), 20):
            optimiser.zero_grad()
            mse_loss(net(x[chosen]), y[chosen]).backward()
            optimiser.step()
        p = thetas.shape[-1]
        torch.testing.assert_close(end.theta[seed, :p], flatten(net), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("members", [None, 3])
def test_a_pass_takes_every_pattern_once_in_an_order_of_its_own(members):
    x, y = data(23)
    steps = minibatch_descent(mse_loss, x, y, 0.1, 7, members=members, generator=seeded())
    chosen = list(islice(steps.minibatches(), 8))
    assert [c.shape[-1] for c in chosen] == [7, 7, 7, 2] * 2
    passes = torch.stack([torch.cat(chosen[:4], -1), torch.cat(chosen[4:], -1)])
    assert (passes.sort(-1).values == torch.arange(23)).all()
    orders = passes.reshape(-1, 23)
    assert len(orders.unique(dim=0)) == len(orders) == 2 * (members or 1)
    again = minibatch_descent(mse_loss, x, y, 0.1, 7, members=members, generator=seeded())
    assert all(map(torch.equal, chosen, islice(again.minibatches(), 8)))
    other = minibatch_descent(mse_loss, x, y, 0.1, 7, members=members, generator=seeded(1))
    assert not torch.equal(next(other.minibatches()), chosen[0])


def test_members_with_orders_of_their_own_are_trained_one_by_one():
    x, y = data()
    loss, thetas = module_loss(network(), mse_loss), ensemble(3)
    steps = minibatch_descent(loss, x, y, 0.2, 10, members=3, generator=seeded())
    *_, end = descend(steps, thetas, 7)
    for i in range(3):
        theta = thetas[i]
        for chosen in islice(steps.minibatches(), 7):
            theta = theta - 0.2 * torch.func.grad(loss)(theta, x[chosen[i]], y[chosen[i]])
        torch.testing.assert_close(end.theta[i], theta, rtol=1e-11, atol=1e-13)


def test_a_schedule_is_a_function_of_the_step():
    x, y = data()
    loss = module_loss(network(), mse_loss)
    steps = minibatch_descent(loss, x, y, lambda t: 0.1 / (1 + t), 23, generator=seeded())
    *_, end = descend(steps, ensemble(1), 3)
    full = module_loss(network(), mse_loss, x, y)
    by_hand = ensemble(1)
    for t in range(3):
        by_hand = by_hand - 0.1 / (1 + t) * gradient(full, by_hand)
    torch.testing.assert_close(end.theta, by_hand, rtol=1e-11, atol=1e-13)


def test_minibatches_are_steps_of_a_lyapunov_spectrum():
    """L = mean (θ − x_i)²/2: every minibatch contracts by 1 − η, whatever it holds."""
    x = torch.randn(12, 1, generator=seeded(), dtype=F64)
    steps = minibatch_descent(
        lambda theta, x, y: ((theta[..., None, :] - x) ** 2).mean((-1, -2)) / 2,
        x,
        x,
        0.3,
        5,
        generator=seeded(),
    )
    found = lyapunov_spectrum(steps, torch.zeros(2, 1, dtype=F64), n=9).exponents
    torch.testing.assert_close(found, torch.full((2, 1), math.log(0.7), dtype=F64))


# --- ensembles ------------------------------------------------------------------------------


def test_an_ensemble_is_its_members_one_by_one(device):
    x, y = data(device=device)
    step = gradient_descent(module_loss(network(), mse_loss, x, y), 0.1, 0.9)
    thetas = ensemble(device=device)
    start = torch.cat([thetas, 0 * thetas], -1)
    *_, end = descend(step, start, 30, every=10)
    for i in range(4):
        alone = iterate(step, start[i], 30)[-1]
        torch.testing.assert_close(end.theta[i], alone, rtol=1e-11, atol=1e-13)


def test_states_are_those_of_the_orbit_and_are_not_overwritten():
    start = torch.rand(3, 2, generator=seeded(), dtype=F64)
    step = gradient_descent(double_well, 0.2)
    run = list(descend(step, start, 12, every=4))
    assert [state.step for state in run] == [0, 4, 8, 12]
    torch.testing.assert_close(
        torch.stack([s.theta for s in run]), iterate(step, start, 12, every=4), rtol=0, atol=0
    )
    worker = list(descend(lambda x: x.mul_(2), start, 2))
    assert torch.equal(worker[0].theta, start) and torch.equal(worker[2].theta, 4 * start)


def test_what_is_observed_of_all_states_is_kept():
    start = torch.rand(3, 2, generator=seeded(), dtype=F64)
    step = gradient_descent(double_well, 0.2)
    run = list(descend(step, start, 12, every=4, observe=double_well))
    for k, state in enumerate(run):
        expected = torch.stack([double_well(s.theta) for s in run[: k + 1]])
        assert torch.equal(state.seen, expected)


def test_a_member_that_diverges_is_named_and_the_others_do_not_notice():
    """x' = (1 + η)x − ηx³ leaves from outside ±√(1 + 2/η) only; 1e200 at once, 9 later."""
    x, y = data()
    step = gradient_descent(module_loss(network(), lambda a, b: (a - b).pow(4).mean(), x, y), 0.1)
    thetas = ensemble(5)
    calm = list(descend(step, thetas, 40, every=10))
    wild = thetas.clone()
    wild[1], wild[3] = 1e200, 20 * thetas[3]
    with pytest.warns(DivergenceWarning, match=r"\[1\] at step 1, \[3\] at step \d.*others go on"):
        run = list(descend(step, wild, 40, every=10))
    gone, kept = run[-1].diverged, [0, 2, 4]
    assert gone[kept].tolist() == [-1, -1, -1] and gone[1] == 1 and gone[3] > 1
    assert run[-1].alive.tolist() == [True, False, True, False, True]
    for ours, others in zip(run, calm, strict=True):
        assert torch.equal(ours.theta[kept], others.theta[kept])
        assert ours.theta[~ours.alive].isnan().all()
    orbit, state = [], wild[3]
    for _ in range(gone[3]):
        state = step(state)
        orbit.append(state.isfinite().all().item())
    assert orbit == [True] * (gone[3] - 1) + [False]


def test_a_gradient_that_is_not_finite_counts_at_its_step():
    """√|θ| has none at 0, which θ' = θ − 1/2 reaches from 1 at step 2."""

    def loss(theta):
        return torch.where(theta > 0, theta / 2, theta.abs().sqrt()).sum(-1)

    start = torch.tensor([[1.0], [5.0]], dtype=F64)
    with pytest.warns(DivergenceWarning, match=r"\[0\] at step 3; their gradient was not"):
        *_, end = descend(gradient_descent(loss, 1.0), start, 4, every=2)
    assert end.diverged.tolist() == [3, -1] and end.theta[1] == 3


def test_many_that_diverge_are_told_once():
    start = torch.full((3, 4, 1), 1e200, dtype=F64)
    start[0, 0] = 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        *_, end = descend(gradient_descent(double_well, 0.1), start, 20, every=5)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "[0, 1] at step 1" in str(caught[0].message) and "6 more" in str(caught[0].message)
    assert end.diverged.shape == (3, 4) and (end.diverged == 1).sum() == 11


# --- stop and resume ------------------------------------------------------------------------


def noisy(generator):
    step = gradient_descent(double_well, 0.1)
    return lambda x: step(x) + 0.01 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def minibatches():
    x, y = data()
    return minibatch_descent(
        module_loss(network(), mse_loss), x, y, 0.1, 7, momentum=0.9, generator=seeded(3)
    )


def wandering():
    thetas = ensemble(3)
    thetas[1] = 1e200
    return torch.cat([thetas, 0 * thetas], -1)


def same(ours, theirs):
    assert ours.step == theirs.step
    for name in ("theta", "diverged", "seen"):
        a, b = getattr(ours, name), getattr(theirs, name)
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.filterwarnings("ignore::dynbook.ensembles.DivergenceWarning")
def test_any_state_goes_on_to_the_bit():
    steps, options = minibatches(), {"every": 3, "observe": lambda x: x[..., 0]}
    unstopped = list(descend(steps, wandering(), 12, **options))
    for state in unstopped:
        rest = list(descend(minibatches(), state, 12, **options))
        for ours, theirs in zip(rest, unstopped[state.step // 3 :], strict=True):
            same(ours, theirs)
        same(list(descend(steps, state, 12, **options))[-1], unstopped[-1])


def test_noise_goes_on_where_it_stopped():
    start, g = torch.zeros(3, 2, dtype=F64), seeded()
    unstopped = list(descend(noisy(g), start, 9, generator=g))
    g = seeded(99)
    for step in (0, 4):
        *_, end = descend(noisy(g), unstopped[step], 9, generator=g)
        assert torch.equal(end.theta, unstopped[-1].theta)


class Interrupt(Exception):
    pass


class Interrupted:
    """Steps, and the lid that is closed after some of them."""

    def __init__(self, steps, after):
        self.steps, self.after = steps, after

    def __iter__(self):
        yield from islice(self.steps, self.after)
        raise Interrupt


@pytest.mark.parametrize("after", [1, 4, 6, 11])
@pytest.mark.filterwarnings("ignore::dynbook.ensembles.DivergenceWarning")
def test_a_run_that_is_interrupted_goes_on_from_its_file_to_the_bit(tmp_path, after):
    options = {"every": 4, "observe": lambda x: x[..., 0]}
    unstopped = list(descend(minibatches(), wandering(), 12, **options))
    options["checkpoint"] = tmp_path / "run.pt"
    with pytest.raises(Interrupt):
        list(descend(Interrupted(minibatches(), after), wandering(), 12, **options))
    rest = list(descend(minibatches(), wandering(), 12, **options))
    assert [s.step for s in rest] == [t for t in (0, 4, 8, 12) if t >= after]
    same(rest[-1], unstopped[-1])
    again = list(descend(minibatches(), wandering(), 12, **options))  # it has ended
    assert len(again) == 1
    same(again[0], unstopped[-1])
    assert [f.name for f in tmp_path.iterdir()] == ["run.pt"]


def test_noise_goes_on_from_its_file_too(tmp_path):
    start, file = torch.zeros(3, 2, dtype=F64), tmp_path / "run.pt"
    *_, end = descend(noisy(g := seeded()), start, 9, generator=g)
    for state in descend(noisy(g := seeded()), start, 9, generator=g, checkpoint=file):
        if state.step == 5:
            break
    *_, ours = descend(noisy(g := seeded()), start, 9, generator=g, checkpoint=str(file))
    assert torch.equal(ours.theta, end.theta)


def test_the_file_is_written_at_once_and_as_often_as_asked(tmp_path):
    file, steps = tmp_path / "run.pt", []
    start = torch.ones(2, 1, dtype=F64)
    for pause, expected in ((0.0, [0, 1, 2]), (60.0, [0, 0, 0])):
        for _ in descend(torch.tanh, start, 2, checkpoint=file, seconds=pause):
            steps.append(torch.load(file)["state"]["step"])
        assert steps == expected and torch.load(file)["state"]["step"] == 2
        steps.clear()
        file.unlink()


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "run.pt"
    start = torch.ones(2, 1, dtype=F64)
    for _ in descend(torch.tanh, start, 9, checkpoint=file):
        break
    old = file.read_bytes()

    def full(content, stream):
        stream.write(b"half of ")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        list(descend(torch.tanh, start, 9, checkpoint=file))
    assert file.read_bytes() == old


def test_a_bar_shows_the_steps_and_who_diverged(capsys):
    start = torch.tensor([[1.0], [1e200]], dtype=F64)
    with pytest.warns(DivergenceWarning):
        list(descend(gradient_descent(double_well, 0.1), start, 20, every=10, progress=True))
    shown = capsys.readouterr().err
    assert "20/20" in shown and "1 diverged" in shown


def test_one_who_looks_on_changes_nothing(tmp_path):
    """What observe does to its argument, and we to what is yielded, stays without effect."""
    start = torch.rand(3, 2, generator=seeded(), dtype=F64)
    plain = {"steps": gradient_descent(double_well, 0.2), "start": start, "n": 6}
    plain["checkpoint"] = tmp_path / "run.pt"
    calm = list(descend(plain["steps"], start, 6, observe=lambda x: x.clamp(max=0.5).sum(-1)))
    for ours in descend(**plain, observe=lambda x: x.clamp_(max=0.5).sum(-1)):
        same(ours, calm[ours.step])
        if ours.step == 3:
            for kept in (ours.theta, ours.diverged, ours.seen):
                kept.zero_()
            break
    *_, end = descend(**plain, observe=lambda x: x.clamp(max=0.5).sum(-1))
    same(end, calm[-1])
    rest = descend(plain["steps"], calm[2], 6, observe=double_well)
    next(rest).seen.zero_()
    assert calm[2].seen.min() > 0


def test_what_is_seen_grows_when_a_run_goes_on_with_longer_strides_and_keeps_its_kind():
    start = torch.ones(2, 3, dtype=torch.float64)

    def halved(n, start, observe=lambda x: x.sum(-1), **how):
        return list(descend(lambda x: x / 2, start, n, observe=observe, **how))

    end = halved(100, halved(40, start)[-1], every=20)[-1]
    expected = 3 * 0.5 ** torch.tensor([*range(41), 60, 80, 100]).double()
    torch.testing.assert_close(end.seen, expected[:, None].expand(-1, 2), rtol=1e-12, atol=0)
    for other in (lambda x: x.sum(), lambda x: x.sum(-1).float()):
        with pytest.raises(
            ValueError, match=r"observe must return torch.float64, shape \(2,\), as"
        ):
            halved(50, halved(40, start)[-1], other, every=5)
    assert next(descend(lambda x: x, start, 10**12, observe=lambda x: x)).seen.shape == (1, 2, 3)


def test_a_file_changes_no_draw_and_noise_it_cannot_keep_is_refused(tmp_path):
    start = torch.zeros(3, 2, dtype=F64)

    def drawn(x):
        return x + 0.01 * torch.randn(x.shape, dtype=x.dtype)

    with pytest.raises(ValueError, match=r"first step must be the same.*handed over as generator="):
        next(descend(drawn, start, 4, checkpoint=tmp_path / "run.pt"))
    with torch.random.fork_rng():
        state = torch.manual_seed(0).get_state()
        for _ in descend(lambda x: (drawn(x), x / 2)[1], start, 1, checkpoint=tmp_path / "run.pt"):
            assert torch.equal(torch.get_rng_state(), state)
            break


@pytest.mark.parametrize(
    "dtype, change, words",
    [
        (torch.float64, {"start": [[1e8, 1e8], [7.0, -9.0]]}, "another start"),
        (torch.float32, {"start": [[1e8, 1e8], [0.3, 0.50025]]}, "another start"),
        (torch.float32, {"lr": 0.1001}, "another first step"),
        (torch.float64, {"lr": 0.1 + 1e-12}, "another first step"),
    ],
)
def test_a_large_member_does_not_hide_another_that_differs(tmp_path, dtype, change, words):
    def run(start=((1e8, 1e8), (0.3, 0.5)), lr=0.1):
        step = gradient_descent(lambda t: t.square().sum(-1) / 2, lr)
        return descend(step, torch.tensor(start, dtype=dtype), 4, checkpoint=tmp_path / "run.pt")

    list(run())
    assert len(list(run())) == len(list(run(lr=0.1 * (1 + torch.finfo(dtype).eps)))) == 1
    with pytest.raises(CheckpointError, match=words):
        next(run(**change))


def test_a_link_stays_a_link_and_home_is_found(tmp_path, monkeypatch):
    (tmp_path / "link.pt").symlink_to(tmp_path / "there.pt")
    monkeypatch.setenv("HOME", str(tmp_path))
    list(descend(torch.tanh, torch.ones(2, 1), 2, checkpoint="~/link.pt"))
    assert (tmp_path / "link.pt").is_symlink() and (tmp_path / "there.pt").is_file()


def checkpoint(folder, options, changes=()):
    """A run of six steps stopped after three, and gone on with after changes."""
    start = torch.linspace(0.1, 1, 6, dtype=F64).view(3, 2)
    plain = {"steps": gradient_descent(double_well, 0.1), "start": start, "n": 6, **options}
    plain["checkpoint"] = folder / "run.pt"
    for state in descend(**plain):
        if state.step == 3:
            break
    return list(descend(**{**plain, **dict(changes)}))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"start": torch.ones(2, 2, dtype=F64)}, r"another shape \(\(3, 2\), not \(2, 2\)\)"),
        ({"start": torch.ones(3, 2)}, "another dtype .torch.float64, not torch.float32"),
        ({"start": torch.ones(3, 2, dtype=F64)}, r"another start \(other values\); choose"),
        ({"n": 12}, r"another n \(6, not 12\)"),
        ({"observe": double_well}, r"another observe \(False, not True\)"),
        ({"seen": lambda x: 2 * double_well(x)}, r"another value of observe \(other values\)"),
        ({"every": 3}, r"another every \(1, not 3\)"),
        ({"steps": gradient_descent(double_well, 0.1001)}, "another first step .other values"),
        ({"steps": gradient_descent(lambda t: double_well(t) + t.sum(-1), 0.1)}, "another first"),
        ({"generator": seeded()}, r"another generator \(False, not True\)"),
    ],
)
def test_the_file_of_another_run_is_refused(tmp_path, changes, words):
    before = {}
    if "seen" in changes:
        before, changes = {"observe": double_well}, {"observe": changes["seen"]}
    assert [s.step for s in checkpoint(tmp_path, before)] == [3, 4, 5, 6]
    with pytest.raises(CheckpointError, match="run.pt belongs to another run.*" + words):
        checkpoint(tmp_path, before, changes)


def test_the_file_of_other_minibatches_is_refused(tmp_path):
    (x, y), file = data(), tmp_path / "run.pt"
    loss = module_loss(network(), mse_loss)
    for seed, batch in ((0, 7), (1, 7), (0, 8)):
        steps = minibatch_descent(loss, x, y, 0.1, batch, generator=seeded(seed))
        run = descend(steps, ensemble(), 5, checkpoint=file)
        if (seed, batch) == (0, 7):
            list(run)
        else:
            with pytest.raises(CheckpointError, match="another first step"):
                next(run)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 half a file"])
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(tmp_path, content):
    (tmp_path / "run.pt").write_bytes(content)
    run = descend(torch.tanh, torch.ones(2, 1), 5, checkpoint=tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match=r"run.pt is none that can be read: .*delete it"):
        next(run)
    assert (tmp_path / "run.pt").read_bytes() == content


@pytest.mark.parametrize("part", ["run", "state", "sha256"])
def test_a_file_with_other_bytes_keys_or_shapes_is_refused(tmp_path, part):
    file = tmp_path / "run.pt"

    def run():
        return descend(torch.tanh, torch.ones(2, 1, dtype=F64), 4, checkpoint=file)

    list(run())
    content = torch.load(file)
    for damage in (
        {k: v for k, v in content.items() if k != part},
        {**content, part: torch.ones(3)},
        {**content, part: "half"},
        {**content, "state": {**content["state"], "theta": torch.ones(2, 1, dtype=F64)}},
    ):
        torch.save(damage, file)
        with pytest.raises(CheckpointError, match=r"none that can be read: .*may be damaged"):
            next(run())
    for state in ({"step": 1}, {**content["state"], "theta": torch.ones(2, 1)}):
        write(file, content["run"], state)
        with pytest.raises(CheckpointError, match=r"none that can be read: .*it holds"):
            next(run())


def test_no_flipped_byte_goes_unnoticed(tmp_path):
    file, start = tmp_path / "run.pt", torch.rand(3, 2, generator=seeded(), dtype=F64)
    *_, end = descend(torch.tanh, start, 4, checkpoint=file)
    whole = file.read_bytes()
    for at in range(0, len(whole), 97):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            (found,) = descend(torch.tanh, start, 4, checkpoint=file)
            same(found, end)  # the byte was none of the content
        except CheckpointError:
            pass


# --- refusals -------------------------------------------------------------------------------

X, Y = data(6)
START = torch.ones(2, 3, dtype=F64)
NET = network()


def some(**changes):
    """minibatch_descent with one argument that is wrong."""
    plain = {"loss": mse_loss, "x": X, "y": Y, "lr": 0.1, "batch": 2, "generator": seeded()}
    return minibatch_descent(**{**plain, **changes})


@pytest.mark.parametrize(
    "error, call, words",
    [
        (TypeError, lambda: module_loss(3, mse_loss), "network must be a torch.nn.Module, got 3"),
        (TypeError, lambda: module_loss(NET, "mse"), "objective must be a function"),
        (
            TypeError,
            lambda: module_loss(nn.Sequential(NET, nn.Linear(1, 1)), mse_loss),
            r"one dtype on one device, got 2 kinds; network.double\(\)",
        ),
        (
            ValueError,
            lambda: flatten(network().requires_grad_(False)),
            r"has none; network.requires_grad_\(\)",
        ),
        (
            ValueError,
            lambda: module_loss(nn.Sequential(NET, nn.Dropout()), mse_loss),
            r"Dropout behaves as in training; call network.eval\(\)",
        ),
        (
            ValueError,
            lambda: module_loss(NET, mse_loss, X, Y)(START),
            r"theta must have shape \(..., 21\), the parameters of this Sequential, got \(2, 3\)",
        ),
        (
            ValueError,
            lambda: module_loss(NET, mse_loss)(flatten(NET)),
            "x and y must be given",
        ),
        (
            ValueError,
            lambda: module_loss(NET, nn.MSELoss(reduction="none"), X, Y)(ensemble()),
            r"objective must return one number.*got a tensor of shape \(6, 1\)",
        ),
        (
            ValueError,
            lambda: module_loss(NET, lambda a, b: 0.0, X, Y)(ensemble()),
            "objective must return one number.*got 0.0",
        ),
        (
            TypeError,
            lambda: module_loss(NET, mse_loss, X, Y)(ensemble().float()),
            "theta must be a torch.float64 tensor, as .* this Sequential, got a torch.float32",
        ),
        (TypeError, lambda: load_flat(NET, [1.0] * 21), "must be a torch.float64 tensor.*got .1.0"),
        (TypeError, lambda: load_flat(NET, flatten(NET).float()), "got a torch.float32 tensor"),
        (ValueError, lambda: load_flat(NET, START), r"must have shape \(..., 21\)"),
        (ValueError, lambda: load_flat(NET, ensemble()), r"one vector.*one member is theta\[i\]"),
        (TypeError, lambda: some(x=[1.0]), r"x must be a tensor \(P, …\), got \[1.0\]"),
        (TypeError, lambda: some(generator=0), "generator must be a torch.Generator on the CPU"),
        (ValueError, lambda: some(y=Y[:4]), "as many rows, got 6 and 4"),
        (ValueError, lambda: some(y=Y / 0), "y must be finite, got inf|y must be finite, got -inf"),
        (ValueError, lambda: some(batch=7), "batch must be an integer ≥ 1 and ≤ 6, got 7"),
        (ValueError, lambda: some(members=0), "members must be an integer ≥ 1"),
        (
            ValueError,
            lambda: list(descend(some(members=3), START, 1)),
            r"shape \(members, p\) = \(3, p\).*minibatches of its own, got \(2, 3\)",
        ),
        (ValueError, lambda: some(lr=0.0), "lr must be positive and finite, got 0"),
        (ValueError, lambda: some(lr=lambda t: -1.0), "lr must be positive and finite, got -1"),
        (ValueError, lambda: some(momentum=1.0), r"momentum must be in \[0, 1\), got 1"),
        (TypeError, lambda: descend(3, START, 5), "steps must be a map or an iterable of maps"),
        (TypeError, lambda: descend(torch.tanh, [1.0], 5), "start must be a float32 or float64"),
        (TypeError, lambda: list(descend([3], START, 1)), "step 1 must be a function"),
        (TypeError, lambda: descend(torch.tanh, START, 5, observe=1), "observe must be a function"),
        (
            TypeError,
            lambda: descend(torch.tanh, START, 5, generator=1),
            "generator must be a torch",
        ),
        (
            TypeError,
            lambda: next(descend(torch.tanh, START, 5, observe=lambda x: 1.0)),
            "observe must return a tensor, got 1.0",
        ),
        (ValueError, lambda: descend(torch.tanh, START, 5, every=2), "multiple of every"),
        (ValueError, lambda: descend(torch.tanh, START, -5), "n must be an integer ≥ 0"),
        (ValueError, lambda: descend(torch.tanh, START / 0, 5), "start must be finite, got inf"),
        (ValueError, lambda: list(descend([torch.tanh], START, 2)), "hold n = 2 maps, got 1"),
        (
            ValueError,
            lambda: list(descend(lambda x: x.sum(-1), START, 2)),
            r"step 1 must keep the shape of its state, but takes \(2, 3\) to \(2,\)",
        ),
        (
            ValueError,
            lambda: descend(torch.tanh, Training(7, START, torch.tensor([-1, -1])), 5),
            "n counts from step 0 and must be ≥ 7, the start's; got 5",
        ),
        (
            ValueError,
            lambda: descend(iter([torch.tanh]), START, 1, checkpoint="run.pt"),
            "steps must begin anew each time.*got an iterator.*minibatch_descent",
        ),
        (
            TypeError,
            lambda: descend(torch.tanh, START, 5, checkpoint=3),
            "checkpoint must be the path of a file, got 3",
        ),
        (
            PermissionError,
            lambda: descend(torch.tanh, START, 5, checkpoint="/proc/run.pt"),
            "checkpoint must lie in a folder that can be written, got /proc/run.pt",
        ),
        (
            FileNotFoundError,
            lambda: descend(torch.tanh, START, 5, checkpoint="/nowhere/run.pt"),
            "checkpoint must lie in a folder that exists, got /nowhere/run.pt",
        ),
        (
            IsADirectoryError,
            lambda: descend(torch.tanh, START, 5, checkpoint="/"),
            "checkpoint must be a file",
        ),
        (
            ValueError,
            lambda: descend(torch.tanh, START, 5, checkpoint="run.pt", seconds=-1),
            "seconds must be a number ≥ 0, got -1",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(error, call, words):
    with pytest.raises(error, match=words):
        call()
