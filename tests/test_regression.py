"""Least squares: the steps of torch.optim, stopped and resumed, and what goes wrong."""

import math
import os
import re
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from dynbook.descent import flatten, load_flat
from dynbook.ensembles import CheckpointError, DivergenceWarning
from dynbook.mmnn import MMNN, FullyConnected
from dynbook.regression import fit, pass_order

F64 = torch.float64
X = torch.linspace(-1, 1, 23, dtype=F64)[:, None]
Y = torch.sin(5 * X)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mmnn(members=None, **changes):
    return MMNN(12, 3, 3, **{"generator": seeded(), "dtype": F64, "members": members, **changes})


def plain(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def run(network, x=X, y=Y, **changes):
    options = {"steps": 30, "batch": 5, "lr": 1e-2, "generator": seeded(3), "every": 10}
    return fit(network, x, y, **{**options, **changes})


def same(a, b):
    for name, value in vars(a).items():
        other = getattr(b, name)
        equal = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
        assert equal, name


# --- the steps ------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer, other", [("adam", torch.optim.Adam), ("gd", torch.optim.SGD)])
@pytest.mark.parametrize("batch", [5, None])
@pytest.mark.parametrize("make", [mmnn, plain, lambda: FullyConnected(
    6, 2, generator=seeded(), dtype=F64)])  # fmt: skip
def test_torch_optim_takes_the_same_steps(make, batch, optimizer, other):
    *_, end = run(make(), batch=batch, optimizer=optimizer, decay=(0.5, 7))
    seed = torch.randint(2**62, (), generator=seeded(3)).item()
    network = make()
    stepper = other(network.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.StepLR(stepper, 7, 0.5)
    for step in range(30):
        rows = slice(None)
        if batch:
            epoch, i = divmod(step, 4)  # 23 points: four minibatches of 5, three points left out
            rows = pass_order(seed, epoch, 23)[5 * i : 5 * i + 5]
        stepper.zero_grad()
        mse_loss(network(X[rows]), Y[rows]).backward()
        stepper.step()
        decay.step()
    torch.testing.assert_close(end.theta, flatten(network), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(end.loss, mse_loss(network(X), Y).detach())


def test_every_pass_is_an_order_of_its_own_of_all_the_data():
    orders = torch.stack([pass_order(7, k, 100) for k in range(3)])
    assert torch.equal(orders.sort(-1).values, torch.arange(100).expand(3, -1))
    assert len(orders.unique(dim=0)) == 3
    assert torch.equal(orders[1], pass_order(7, 1, 100))
    assert not torch.equal(orders[1], pass_order(8, 0, 100))  # nor is it a pass of another run
    assert not torch.equal(orders[0], pass_order(7 + 2**32, 0, 100))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_members_are_fitted_as_if_they_were_alone(dtype, device):
    x, y = X.to(device, dtype), Y.to(device, dtype)
    kinds = {"dtype": dtype, "device": device}
    *_, together = run(mmnn(3, **kinds), x, y)
    *_, alone = run(mmnn(**kinds), x, y)
    assert together.theta.dtype == dtype and together.theta.device.type == device
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if dtype == torch.float32 else {}
    torch.testing.assert_close(together.theta[0], alone.theta, **tolerance)
    assert together.loss.shape == (3,) and together.losses.shape == (4, 3)


def test_a_state_tells_its_step_its_loss_and_all_losses_before():
    network = mmnn(2)
    before = network.theta.detach().clone()
    for i, state in enumerate(run(network)):
        assert state.step == 10 * i
        expected = (network(X, state.theta) - Y).square().mean((-2, -1)).detach()
        torch.testing.assert_close(state.loss, expected)
        torch.testing.assert_close(state.losses[-1], state.loss)
        assert state.losses.shape == (i + 1, 2)
    assert (state.losses[-1] < state.losses[0]).all()
    assert torch.equal(network.theta, before)


def test_many_starts_of_any_network_are_fitted_together():
    thetas = torch.stack([flatten(plain(seed)) for seed in range(3)])
    *_, end = run(plain(), start=thetas)
    *_, one = run(plain(2))
    torch.testing.assert_close(end.theta[2], one.theta)
    network = load_flat(plain(), end.theta[2])
    torch.testing.assert_close(end.loss[2], mse_loss(network(X), Y).detach())


def test_a_localised_sine_is_learnt_where_neurons_cover_the_interval():
    """400 steps of Adam leave less than a fifteenth of the error."""
    x = torch.linspace(-1, 1, 100)[:, None]
    y = torch.where(x.abs() < 0.5, torch.sin(2 * math.pi * x), 0 * x)
    network = MMNN(60, 6, 3, members=3, generator=seeded())
    *_, end = fit(network, x, y, steps=400, batch=25, lr=5e-3, every=400, generator=seeded(1))
    assert (end.loss < end.losses[0] / 15).all() and end.loss.max() < 0.02


def test_tf32_is_not_switched_on():
    flags = torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()
    list(run(mmnn()))
    assert flags == (False, "highest")
    assert flags == (torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision())


# --- stopped and resumed --------------------------------------------------------------------

KINDS = pytest.mark.parametrize(
    "make, options",
    [
        (lambda: mmnn(3), {}),
        (lambda: mmnn(3, dtype=torch.float32), {"decay": (0.9, 4)}),
        (lambda: mmnn(), {"batch": None, "optimizer": "gd"}),
        (plain, {}),
    ],
)


@KINDS
def test_a_run_that_goes_on_is_the_run_that_was_never_stopped(make, options, tmp_path):
    network = make()
    dtype = next(network.parameters()).dtype
    x, y, file = X.to(dtype), Y.to(dtype), tmp_path / "run.pt"
    all_states = list(run(network, x, y, **options))
    for state in run(network, x, y, checkpoint=file, **options):
        if state.step == 10:
            break
    rest = list(run(network, x, y, checkpoint=file, **options))
    assert [s.step for s in rest] == [10, 20, 30]
    for resumed in (rest, list(run(network, x, y, start=all_states[1], **options))):
        for a, b in zip(resumed, all_states[1:], strict=True):
            same(a, b)
    same(next(run(network, x, y, checkpoint=file, **options)), all_states[-1])


@pytest.mark.filterwarnings("ignore::dynbook.ensembles.DivergenceWarning")
@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_a_run_with_a_diverged_member_goes_on_from_every_state(optimizer):
    options = {"every": 5, "optimizer": optimizer}
    states = list(towards_zero(**options))
    assert states[-1].diverged[0] == -1 and 0 < states[-1].diverged[1] < 60
    for i, state in enumerate(states):
        for a, b in zip(towards_zero(start=state, **options), states[i:], strict=True):
            same(a, b)


@pytest.mark.parametrize("given", ["tensor", "Fit"])
def test_a_start_that_changes_afterwards_is_not_that_of_the_run(given):
    start = mmnn().theta.detach().clone() if given == "tensor" else next(run(mmnn()))
    states = run(mmnn(), start=start)
    for value in [start] if given == "tensor" else [start.theta, start.mean, start.losses]:
        value.fill_(7)
    for a, b in zip(states, run(mmnn()), strict=True):
        same(a, b)


def test_a_fit_goes_on_by_adam_though_all_its_gradients_were_zero():
    states = list(run(mmnn(), y=0 * X, start=torch.zeros(mmnn().count(), dtype=F64)))
    same(list(run(mmnn(), y=0 * X, start=states[1]))[-1], states[-1])
    assert states[1].step == 10 and not states[-1].square.any()


def test_hooks_and_a_forward_of_its_own_are_heeded():
    class Twice(MMNN):
        def forward(self, x, theta=None):
            return 2 * super().forward(x, theta)

    hooked, twice = mmnn(), Twice(12, 3, 3, generator=seeded(), dtype=F64)
    hooked.register_forward_hook(lambda network, given, out: 2 * out)
    *_, expected = run(mmnn(), y=Y)
    for network in (hooked, twice):
        *_, end = run(network)
        torch.testing.assert_close(end.losses[0], mse_loss(network(X), Y).detach())
        assert not torch.allclose(end.theta, expected.theta)


def test_an_interruption_leaves_the_state_that_was_shown_last(tmp_path):
    network, file, calls = mmnn(2), tmp_path / "run.pt", 0
    *_, never_stopped = run(network)
    usual = network.loss_and_gradients

    def stopped(*args):
        nonlocal calls
        calls += 1
        if calls == 17:
            raise KeyboardInterrupt
        return usual(*args)

    network.loss_and_gradients = stopped
    with pytest.raises(KeyboardInterrupt):
        list(run(network, checkpoint=file))
    states = list(run(network, checkpoint=file))
    assert [state.step for state in states] == [10, 20, 30] and calls == 37
    same(states[-1], never_stopped)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"lr": 2e-2}, "another lr .0.01, not 0.02"),
        ({"batch": 6}, "another batch"),
        ({"steps": 60}, "another steps"),
        ({"every": 5}, "another every"),
        ({"optimizer": "gd"}, "another optimizer"),
        ({"decay": (0.9, 3)}, "another decay"),
        ({"generator": seeded(4)}, "another order of the data"),
        ({"y": Y + 1}, "another x or y"),
        ({"start": torch.ones(mmnn().count(), dtype=F64)}, "another start"),
        ({"network": mmnn(generator=seeded(9))}, "another start|another fixed part"),
        ({"network": mmnn(2)}, "another shape"),
    ],
)
def test_the_file_of_another_run_is_refused(changes, words, tmp_path):
    file = tmp_path / "run.pt"
    list(run(mmnn(), checkpoint=file))
    with pytest.raises(CheckpointError, match=words):
        next(run(**{"network": mmnn(), "checkpoint": file, **changes}))


def test_the_file_of_a_network_that_begins_alike_is_refused(tmp_path):
    """At θ = 0 the values tell nothing of W, nor of what is frozen; nor do all θ of the class."""

    def frozen(seed):
        network = plain(seed)
        network[0].requires_grad_(False)
        return network

    flat = FullyConnected(12, 1, generator=seeded(), dtype=F64)
    layer = MMNN(12, 1, 1, generator=seeded(), dtype=F64, train_inner=True)
    assert torch.equal(flat(X, layer.theta), layer(X))
    for i, (first, second, words) in enumerate([
        (mmnn(), mmnn(generator=seeded(9)), "another fixed part"),
        (frozen(0), frozen(1), "another fixed part"),
        (flat, layer, "another network"),
    ]):  # fmt: skip
        settings = {"start": torch.zeros_like(flatten(first)), "checkpoint": tmp_path / f"{i}.pt"}
        list(run(first, **settings))
        with pytest.raises(CheckpointError, match=words):
            next(run(second, **settings))


def leaky(slope):
    return mmnn(activation=partial(nn.functional.leaky_relu, negative_slope=slope))


@pytest.mark.parametrize(
    "one, other, words",
    [
        (mmnn, lambda: mmnn(residual=True), "another skips"),
        (lambda: MMNN(5, 2, 2, generator=seeded()), lambda: MMNN(8, 1, 2, generator=seeded()),
         "another shapes"),
        (lambda: leaky(0.1), lambda: leaky(0.2), r"another activation \(.*=0.1\), not"),
        (plain, lambda: nn.Sequential(nn.Linear(1, 8), nn.ELU(), nn.Linear(8, 1)).double(),
         "another structure"),
    ],
)  # fmt: skip
def test_the_file_of_a_network_built_otherwise_is_refused(one, other, words, tmp_path):
    """At θ = 0 all values agree."""
    for network in (one(), other()):
        theta = torch.zeros_like(flatten(network))
        path = partial(run, network, X.to(theta), Y.to(theta), start=theta, steps=0)
        if not any(tmp_path.iterdir()):
            list(path(checkpoint=tmp_path / "run.pt"))
    with pytest.raises(CheckpointError, match=words):
        next(path(checkpoint=tmp_path / "run.pt"))


@pytest.mark.parametrize("change", [{"step": 20}, {"mean": 2}, {"square": 2}])
def test_the_file_of_a_run_from_another_state_is_refused(change, tmp_path):
    _, state, *_ = run(mmnn())
    list(run(mmnn(), start=state, checkpoint=tmp_path / "run.pt"))
    change = {k: v if k == "step" else v * getattr(state, k) for k, v in change.items()}
    with pytest.raises(CheckpointError, match="another start"):
        next(run(mmnn(), start=replace(state, **change), checkpoint=tmp_path / "run.pt"))


@pytest.mark.parametrize("seconds, steps", [(0, [0, 10, 20, 30]), (1e9, [0, 0, 0, 0])])
def test_a_state_is_written_when_it_is_time(seconds, steps, tmp_path):
    file = tmp_path / "run.pt"

    def written():
        return torch.load(file, weights_only=True)["state"]["step"]

    assert [written() for _ in run(mmnn(), checkpoint=file, seconds=seconds)] == steps
    assert written() == 30


@pytest.mark.parametrize("make", [lambda: mmnn(2), plain])
def test_the_loss_on_more_points_than_are_taken_at_once_is_their_mean(make):
    x = torch.linspace(-1, 1, 2**14 + 1000, dtype=F64)[:, None]
    y, network = 1 + x**3, make()
    state = next(run(network, x, y))
    expected = (network(x) - y).square().mean((-2, -1)).detach()
    torch.testing.assert_close(state.loss, expected)


def test_what_one_does_to_a_state_changes_nothing():
    calm = list(run(mmnn(2)))
    for state in run(mmnn(2)):
        same(state, calm[state.step // 10])
        for name in ("theta", "mean", "square", "diverged", "loss"):
            getattr(state, name).fill_(3)


def test_states_share_their_losses_with_each_other_but_not_with_the_run(tmp_path):
    calm, states = list(run(mmnn(2))), []
    for state in run(mmnn(2), checkpoint=tmp_path / "run.pt"):
        state.losses.fill_(3)
        states.append(state)
    assert states[0].losses.data_ptr() == states[-1].losses.data_ptr()
    same(next(run(mmnn(2), checkpoint=tmp_path / "run.pt")), calm[-1])


@pytest.mark.parametrize("gone", ["closed", "on"])
def test_a_run_begun_again_is_not_overwritten_by_the_one_before(gone, tmp_path):
    file = tmp_path / "run.pt"
    old = run(mmnn(), checkpoint=file, seconds=0)
    next(old), next(old)
    *_, end = run(mmnn(), checkpoint=file)
    if gone == "closed":
        old.close()
    else:
        assert next(old).step == 20
    same(next(run(mmnn(), checkpoint=file)), end)


def test_an_interruption_while_the_file_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    file = tmp_path / "run.pt"
    *_, end = run(mmnn())
    states = run(mmnn(), checkpoint=file, seconds=0)
    next(states)

    def interrupted(handle):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(states)
    assert [f.name for f in tmp_path.iterdir()] == ["run.pt"]
    *rest, last = run(mmnn(), checkpoint=file)
    assert rest[0].step == 0
    same(last, end)


def test_a_full_disk_is_noted_in_the_interruption_that_ends_the_run(tmp_path, monkeypatch):
    network, calls = mmnn(), []
    usual = network.loss_and_gradients

    def stopped(*args):
        calls.append(args)
        if len(calls) == 13:
            raise KeyboardInterrupt("by hand")
        return usual(*args)

    def full(handle):
        raise OSError("no space left")

    network.loss_and_gradients = stopped
    states = run(network, checkpoint=tmp_path / "run.pt")
    next(states)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyboardInterrupt, match="by hand") as caught:
        list(states)
    (note,) = getattr(caught.value, "__notes__", caught.value.args[1:])
    assert "state of step 10 is not on the disk: OSError('no space left')" in note
    with pytest.raises(OSError, match="no space left"):
        list(run(mmnn(), checkpoint=tmp_path / "run.pt"))


# --- divergence -----------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 10])
def test_a_member_that_diverges_is_named_and_keeps_its_last_good_parameters(every):
    """A linear network under gradient descent: θ ← θ − η ∇L overflows, for one start alone."""
    network = FullyConnected(4, 2, activation=torch.Tensor.clone, generator=seeded(), members=2)
    x, y = X.float(), Y.float()
    start = network.theta.detach().clone()
    start[1] *= 40
    options = {"batch": None, "optimizer": "gd", "lr": 0.05, "every": every, "start": start}
    with pytest.warns(DivergenceWarning, match=r"\[1\] at step \d+; their last good"):
        states = list(run(network, x, y, **options))
    end = states[-1]
    assert end.diverged[0] == -1 and 0 < end.diverged[1] <= 30
    assert end.theta.isfinite().all() and end.loss.isfinite().all()
    *_, calm = run(network, x, y, **{**options, "start": start * torch.tensor([[1.0], [0.02]])})
    torch.testing.assert_close(end.theta[0], calm.theta[0], rtol=0, atol=0)
    if every == 1:
        at = int(end.diverged[1])
        assert torch.equal(states[at].theta[1], states[at - 1].theta[1])
        assert states[at - 1].diverged[1] == -1
        loss, _ = network.loss_and_gradients(x, y, states[at - 1].theta)
        assert loss[1].isfinite()


class Root(nn.Module):
    """x √w, which is no number where w is negative."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, dtype=F64))

    def forward(self, x):
        return x * self.w.sqrt()


def towards_zero(**changes):
    """To x √w = −x w must fall, 0.01 a step of Adam: through 0 from 0.4, not from 4."""
    start = torch.tensor([[4.0], [0.4]], dtype=F64)
    options = {"steps": 60, "batch": None, "every": 10, "start": start, **changes}
    return run(Root(), X, -X, **options)


@pytest.mark.parametrize("every", [1, 10])
def test_adam_leaves_who_has_diverged_at_rest_and_the_others_alone(every):
    with pytest.warns(DivergenceWarning, match=r"\[1\] at step \d+"):
        states = list(towards_zero(every=every))
    end, at = states[-1], int(states[-1].diverged[1])
    assert 30 < at < 50 and end.diverged[0] == -1
    assert end.theta[1] > 0
    for state in states:
        assert state.mean.isfinite().all() and state.square.isfinite().all()
        if state.step >= at - (every == 1):
            assert torch.equal(state.theta[1], end.theta[1])
    *_, alone = towards_zero(start=torch.tensor([[4.0]], dtype=F64))
    torch.testing.assert_close(end.theta[0], alone.theta[0])


def test_parameters_may_leave_where_the_loss_does_not():
    """x/w is 0 and the loss that of y where a step has made w infinite."""

    class Quotient(Root):
        def forward(self, x):
            return x / self.w

    options = {"steps": 6, "batch": None, "optimizer": "gd", "lr": 1e308, "every": 3}
    with pytest.warns(DivergenceWarning, match="at step 1"):
        *_, end = run(Quotient(), 10 * X, -10 * X, **options)
    assert end.theta == 1 and end.diverged == 1


def test_a_divergence_is_told_once(tmp_path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        list(towards_zero(checkpoint=tmp_path / "run.pt"))
        assert len(told) == 1
        list(towards_zero(checkpoint=tmp_path / "run.pt"))
    assert len(told) == 1


def test_squares_of_gradients_that_overflow_are_named():
    """In float32 a gradient of 1e22 has no square, and Adam would stand still unnoticed."""
    y = 1e15 * Y.float()
    network = mmnn(dtype=torch.float32)
    start = network.theta.detach() * 1e3
    weights = {"start": start, "batch": None, "every": 1, "steps": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DivergenceWarning)
        list(run(network, X.float(), y, **weights))
    with pytest.warns(DivergenceWarning, match="the only one at step 1;"):
        *_, end = run(network, X.float(), 1e3 * y, **weights)
    assert end.diverged == 1 and torch.equal(end.theta, start)


@pytest.mark.parametrize("large", ["start", "y"])
def test_a_start_without_a_finite_loss_is_refused(large):
    network = mmnn(2, dtype=torch.float32)
    start = network.theta.detach().clone()
    start[1] *= 1e30 if large == "start" else 1
    y = Y.float() * (1e30 if large == "y" else 1)
    with pytest.raises(ValueError, match=r"start must have a finite loss, got (inf|nan) at index"):
        next(run(network, X.float(), y, start=start))


def test_a_start_whose_parts_do_not_fit_is_refused():
    _, state, *_ = run(mmnn(2))
    for change, words in [
        ({"mean": state.mean.float()}, "start.mean must fit .*float64.*got torch.float32"),
        ({"square": state.square[:, :3]}, r"start.square must fit .*got .*\(2, 3\)"),
        ({"diverged": state.diverged.int()}, "start.diverged must fit .*int64.*got torch.int32"),
        ({"losses": state.losses[:, :1]}, r"start.losses must fit .*\(2,\), got .*\(1,\)"),
        ({"step": -2}, "start.step must be an integer ≥ 0, got -2"),
        ({"step": 0.5}, "start.step must be an integer"),
        ({"loss": 2 * state.loss}, "start must be a Fit of this network to these data, but its"),
    ]:
        with pytest.raises(ValueError, match=words):
            run(mmnn(2), start=replace(state, **change))
    with pytest.raises(TypeError, match=r"start\.loss must be a tensor .*got None"):
        run(mmnn(2), start=replace(state, loss=None))
    end = list(run(mmnn(2), start=replace(state, step=10.0)))[-1]
    assert isinstance(end.step, int)
    for other in ({"network": mmnn(2, activation=torch.tanh)}, {"network": mmnn(2), "y": Y + 1}):
        with pytest.raises(ValueError, match="start must be a Fit of this network to these data"):
            run(**other, start=state)
    _, plain_descent, *_ = run(mmnn(2), optimizer="gd")
    with pytest.raises(ValueError, match="start must be a Fit by Adam, where Adam is to go on"):
        next(run(mmnn(2), start=plain_descent))


def test_a_network_with_an_attribute_called_members_is_like_any_other():
    network = plain()
    network.members = "Ada, Grace"
    *_, end = run(network)
    *_, usual = run(plain())
    same(end, usual)


def test_nothing_is_said_where_nothing_diverges():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DivergenceWarning)
        *_, end = run(mmnn(2))
    assert (end.diverged == -1).all()


def test_progress_is_shown(capsys):
    list(run(mmnn(), progress=True))
    shown = capsys.readouterr().err
    assert "30/30" in shown and "mean square error" in shown


def test_progress_goes_on_where_the_run_does(capsys):
    _, _, state, _ = run(mmnn())
    list(run(mmnn(), start=state, progress=True))
    shown = re.findall(r"(\d+)/30", capsys.readouterr().err)
    assert shown[0] == "20" and shown[-1] == "30"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_recorded_step_is_the_step():
    kinds = {"device": "cuda", "members": 3}
    x, y = X.cuda(), Y.cuda()
    *_, recorded = run(mmnn(**kinds), x, y)
    network = mmnn(**kinds)
    one = recorded.theta.new_tensor(network.theta.detach().cpu().numpy())
    *_, cpu = run(mmnn(3), start=one.cpu())
    torch.testing.assert_close(recorded.theta.cpu(), cpu.theta, rtol=1e-6, atol=1e-8)


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, changes, words",
    [
        (TypeError, {"network": 3}, "network must be a torch.nn.Module, got 3"),
        (ValueError, {"steps": 7}, "steps must be a multiple of every.*7, 10"),
        (ValueError, {"steps": -1}, "steps must be an integer ≥ 0"),
        (ValueError, {"every": 0}, "every must be an integer ≥ 1"),
        (ValueError, {"batch": 24}, "batch must be an integer ≥ 1 and ≤ 23, got 24"),
        (ValueError, {"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        (ValueError, {"lr": math.nan}, "lr must be positive and finite, got nan"),
        (ValueError, {"decay": (2.0, 3)}, "decay must be .q, k. with 0 < q ≤ 1"),
        (ValueError, {"decay": 0.9}, "decay must be .q, k."),
        (ValueError, {"decay": torch.ones(2)}, "decay must be .q, k..*got tensor"),
        (ValueError, {"decay": (torch.ones(2), 3)}, "decay must be .q, k."),
        (ValueError, {"decay": (True, 3)}, "decay must be .q, k."),
        (ValueError, {"decay": (0.9, 3.5)}, "decay must be .q, k."),
        (ValueError, {"lr": True}, "lr must be positive and finite, got True"),
        (ValueError, {"lr": torch.tensor(0.1)}, "lr must be positive and finite, got tensor"),
        (ValueError, {"seconds": True}, "seconds must be a number ≥ 0, got True"),
        (ValueError, {"decay": (0.9, 0)}, "decay must be .q, k."),
        (ValueError, {"optimizer": "sgd"}, "optimizer must be 'adam' or 'gd', got 'sgd'"),
        (TypeError, {"generator": None}, "generator must be a torch.Generator on the CPU"),
        (TypeError, {"x": [1.0]}, r"x must be a tensor \(P, …\)"),
        (TypeError, {"y": Y[:0]}, "y must be a tensor .*P ≥ 1"),
        (ValueError, {"y": Y[:4]}, "as many rows, got 23 and 4"),
        (ValueError, {"y": Y / 0}, "y must be finite, got"),
        (TypeError, {"x": X.float()}, "x must be a torch.float64 tensor"),
        (ValueError, {"network": plain(), "x": X.float()}, "x must be points.*got a torch.float32"),
        (ValueError, {"network": plain(), "x": X[:, [0, 0]]}, r"network takes.*\(23, 2\): mat1"),
        (TypeError, {"start": [1.0]}, "start must be a Fit or a tensor"),
        (ValueError, {"start": torch.ones(3, dtype=F64)}, "start must have shape"),
        (ValueError, {"seconds": -1}, "seconds must be a number ≥ 0"),
        (FileNotFoundError, {"checkpoint": "/nowhere/run.pt"}, "must lie in a folder that exists"),
    ],
)
def test_what_is_not_meant_is_refused_in_words(error, changes, words):
    with pytest.raises(error, match=words):
        next(run(**{"network": mmnn(), **changes}))


def test_data_of_another_device_are_refused():
    for name in ("x", "y"):
        with pytest.raises(ValueError, match=f"{name} must be on the network's device cpu, got me"):
            run(mmnn(), **{"x": X, "y": Y, name: X.to("meta")})


def test_a_start_that_is_past_or_beside_the_end_is_refused():
    _, _, state, _ = run(mmnn())
    for steps, every in ((10, 10), (60, 15)):
        with pytest.raises(ValueError, match="must be 20, where the start is, or a multiple"):
            run(mmnn(), start=state, steps=steps, every=every)


def test_a_start_in_another_order_in_memory_is_the_same_start():
    theta = torch.stack([mmnn().theta.detach()] * 3, -1).T
    ends = [
        list(fit(mmnn(), X, Y, start=t, steps=6, batch=5, generator=seeded(3), every=6))[-1]
        for t in (theta, theta.contiguous())
    ]
    assert torch.equal(ends[0].theta, ends[1].theta)


def test_a_checkpoint_of_another_activation_is_refused(tmp_path):
    settings = {"steps": 6, "every": 3, "checkpoint": tmp_path / "run.pt"}
    list(fit(mmnn(), X, Y, **settings))
    with pytest.raises(CheckpointError, match=r"another activation \(relu, not tanh\)"):
        list(fit(mmnn(activation=torch.tanh), X, Y, **settings))


def test_columns_of_a_table_are_data():
    table = torch.cat([X, Y], 1)
    assert len(list(fit(mmnn(), table[:, :1], table[:, 1:], steps=1))) == 2
