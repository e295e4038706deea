import copy
import math

import pytest
import torch
from torch import nn

from dynbook.classifiers import TanhNetworks, tanh_networks, train
from dynbook.networks import DivergenceError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def patterns(count=70, classes=0, *, dtype=torch.float64, device="cpu", seed=1):
    g = generator(seed)
    x = torch.randn(count, 3, generator=g, dtype=dtype)
    if classes:
        y = torch.eye(classes, dtype=dtype)[torch.randint(classes, (count,), generator=g)]
    else:
        y = torch.randn(count, 2, generator=g, dtype=dtype).sign()
    return x.to(device), y.to(device)


def networks(output="tanh", K=2, *, members=3, dtype=torch.float64, device="cpu", seed=2):
    kind = {"output": output, "dtype": dtype, "device": device}
    return tanh_networks((3, 6, 5, K), members, bias_std=0.3, generator=generator(seed), **kind)


def parameters(n):
    return [*n.weights, *n.biases]


def plain_training(module, x, y, loss, orders, lr, batch):
    """One network, by autograd and torch.optim."""
    moving = [p for p in module.parameters() if p.requires_grad]
    descent = torch.optim.SGD(moving, lr=lr)
    for order in orders:
        for chosen in order.split(batch):
            descent.zero_grad()
            loss(module(x[chosen]), y[chosen]).backward()
            descent.step()


@pytest.mark.parametrize("train_hidden", [True, False])
@pytest.mark.parametrize("output", ["tanh", "softmax"])
def test_each_member_is_trained_as_torch_optim_would(output, train_hidden, device):
    classes = 4 if output == "softmax" else 0
    x, y = patterns(classes=classes, device=device)
    start = networks(output, classes or 2, device=device)
    g = generator(3)
    run = train(start, x, y, lr=0.1, epochs=3, batch=16, train_hidden=train_hidden, generator=g)
    end = list(run)[-1].networks
    g = generator(3)
    orders = [torch.randperm(len(x), generator=g) for _ in range(3)]
    for i in range(len(start)):
        module = start.member(i)
        loss = nn.MSELoss()
        if output == "softmax":
            module, loss = module[:-1], nn.CrossEntropyLoss()
        for p in list(module.parameters())[: 0 if train_hidden else -2]:
            p.requires_grad_(False)
        plain_training(module, x, y, loss, orders, 0.1, 16)
        ours = end.member(i)
        for name, p in module.named_parameters():
            torch.testing.assert_close(ours.get_parameter(name), p, rtol=1e-11, atol=1e-13)
            assert ours.get_parameter(name).device.type == device


def test_a_member_is_a_plain_module_with_the_same_values():
    for output, K in (("tanh", 2), ("softmax", 4)):
        nets, (x, _) = networks(output, K), patterns()
        for i in range(3):
            torch.testing.assert_close(nets.member(i)(x), nets(x)[i])
            torch.testing.assert_close(nets.member(i)[:-2](x), nets.hidden(x)[i])
        assert [type(m) for m in nets.member(0)[-2:]] == [
            nn.Linear,
            nn.Tanh if output == "tanh" else nn.Softmax,
        ]
        own = torch.stack([x + i for i in range(3)])
        torch.testing.assert_close(nets(own)[2], nets(x + 2)[2])


@pytest.mark.parametrize("hidden", [1, 3])
def test_the_hidden_states_are_those_before_the_output(hidden):
    nets = tanh_networks((3, *[4] * hidden, 2), 2, generator=generator(), dtype=torch.float64)
    x, _ = patterns()
    by_hand = torch.einsum("mkn,mpn->mpk", nets.weights[-1], nets.hidden(x)).tanh()
    torch.testing.assert_close(nets(x), by_hand)
    torch.testing.assert_close(nets.member(1)[:-2](x), nets.hidden(x)[1])
    three = tanh_networks((3, 4, 2), 1, output="softmax", generator=generator()).member(0)
    torch.testing.assert_close(three(x.float()[:, None])[:, 0], three(x.float()))


def test_a_member_is_a_copy():
    nets, (x, _) = networks(), patterns()
    before = nets(x).clone()
    with torch.no_grad():
        nets.member(1)[0].weight.zero_()
    assert torch.equal(nets(x), before)


def test_members_do_not_see_each_other():
    x, y = patterns()
    start = networks()
    *_, together = train(start, x, y, lr=0.2, epochs=2, generator=generator(4))
    one = start[1:2]
    *_, alone = train(one, x, y, lr=0.2, epochs=2, generator=generator(4))
    for ours, theirs in zip(parameters(together.networks), parameters(alone.networks), strict=True):
        torch.testing.assert_close(ours[1:2], theirs, rtol=1e-12, atol=1e-14)


def test_stopped_and_resumed_from_a_file_training_is_the_same(tmp_path):
    x, y = patterns()
    whole = list(train(networks(), x, y, lr=0.1, epochs=6, generator=generator(5)))
    g = generator(5)
    for epoch in train(networks(), x, y, lr=0.1, epochs=6, generator=g):
        if epoch.number == 2:
            torch.save((parameters(epoch.networks), g.get_state()), tmp_path / "half.pt")
            break
    saved, state = torch.load(tmp_path / "half.pt")
    g = generator(99)
    g.set_state(state)
    half = type(epoch.networks)(tuple(saved[:3]), tuple(saved[3:]))
    resumed = list(train(half, x, y, lr=0.1, epochs=4, generator=g))
    for ours, theirs in zip(resumed[1:], whole[3:], strict=True):
        assert torch.equal(ours.loss, theirs.loss)
        assert all(map(torch.equal, parameters(ours.networks), parameters(theirs.networks)))


def test_no_state_is_overwritten_later_and_the_start_is_left_alone():
    x, y = patterns()
    start = networks()
    first = copy.deepcopy(parameters(start))
    run = list(train(start, x, y, lr=0.1, epochs=2, generator=generator()))
    assert [epoch.number for epoch in run] == [0, 1, 2]
    assert all(map(torch.equal, parameters(start), first))
    assert all(map(torch.equal, parameters(run[0].networks), first))
    assert not torch.equal(run[1].networks.weights[0], run[2].networks.weights[0])


def test_training_records_no_graph_whatever_asks_for_gradients():
    (x, y), nets = patterns(), networks()
    plain = [e.loss for e in train(nets, x, y, lr=0.1, epochs=2, generator=generator())]
    weights = tuple(w.clone().requires_grad_() for w in nets.weights)
    asking = TanhNetworks(weights, nets.biases)
    run = list(train(asking, x.requires_grad_(), y, lr=0.1, epochs=2, generator=generator()))
    assert [e.loss.tolist() for e in run] == [loss.tolist() for loss in plain]
    last = [run[-1].loss, *parameters(run[-1].networks)]
    assert not any(p.requires_grad for p in last)


def test_the_loss_is_that_of_the_formula_and_falls():
    for output, K in (("tanh", 2), ("softmax", 4)):
        x, y = patterns(classes=K if output == "softmax" else 0)
        start = networks(output, K)
        run = list(train(start, x, y, lr=0.1, epochs=30, generator=generator()))
        out = start(x)
        by_hand = (out - y).square() if output == "tanh" else -(y * out.log()).sum(-1)
        torch.testing.assert_close(run[0].loss, by_hand.flatten(1).mean(1))
        assert (run[-1].loss < run[0].loss).all()


def test_frozen_hidden_layers_do_not_move_and_the_output_does():
    x, y = patterns()
    start, g = networks(), generator()
    *_, end = train(start, x, y, lr=0.1, epochs=2, train_hidden=False, generator=g)
    moved = [
        not torch.equal(a, b)
        for a, b in zip(parameters(start), parameters(end.networks), strict=True)
    ]
    assert moved == [False, False, True, False, False, True]


def test_weights_have_the_variance_of_the_convention():
    """χ²: the sample variance of n normals has relative error √(2/n)."""
    nets = tanh_networks(
        (50, 80, 1), 40, weight_std=1.5, bias_std=0.7, generator=generator(), dtype=torch.float64
    )
    for values, variance in (
        (nets.weights[0], 1.5**2 / 50),
        (nets.weights[1], 1.5**2 / 80),
        (nets.biases[0], 0.7**2),
    ):
        assert values.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / values.numel()))
        assert abs(values.mean()) < 5 * math.sqrt(variance / values.numel())
    assert (nets.biases[1] == 0).all()


def test_single_and_double_precision_start_from_the_same_networks(device):
    single, double = (networks(dtype=t, device=device) for t in (torch.float32, torch.float64))
    for a, b in zip(parameters(single), parameters(double), strict=True):
        assert a.dtype == torch.float32 and a.device.type == device
        assert torch.equal(a, b.float())


def test_zero_thresholds_make_a_network_odd():
    nets = tanh_networks((3, 7, 7, 1), 5, generator=generator(), dtype=torch.float64)
    x, _ = patterns()
    torch.testing.assert_close(nets(-x), -nets(x), rtol=0, atol=1e-15)


def test_divergence_names_the_pass_and_the_rate():
    x, y = patterns(classes=4)
    run = train(networks("softmax", 4), 1e200 * x, y, lr=1e300, epochs=9, generator=generator())
    with pytest.raises(DivergenceError, match=r"after 1 steps \(pass 1\) with lr 1e\+300; take"):
        list(run)


def test_probability_zero_of_a_true_class_is_a_divergence():
    """The cross-entropy is infinite there, not a number to average."""
    x, y = patterns(classes=4)
    nets = networks("softmax", 4)
    nets.weights[-1][1] *= 1e6
    with pytest.raises(DivergenceError, match="after 0 steps"):
        list(train(nets, x, y, lr=0.1, epochs=1, generator=generator()))


NETS, (X, Y), G = networks(), patterns(), generator()


def make(sizes=(2, 3, 1), members=1, generator=G, **more):
    return tanh_networks(sizes, members, generator=generator, **more)


def go(x=X, y=Y, generator=G, **more):
    return train(NETS, x, y, **{"lr": 0.1, "epochs": 1, "generator": generator, **more})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: make(sizes=(2, 1)), ValueError, r"sizes must be \(inputs, hidden"),
        (lambda: make(sizes=(2, 0, 1)), ValueError, r"sizes\[1\] must be an integer ≥ 1"),
        (lambda: make(sizes=(2, 2.5, 1)), ValueError, r"sizes\[1\] must be an integer"),
        (lambda: make(members=0), ValueError, "members must be an integer ≥ 1"),
        (lambda: make(weight_std=0), ValueError, "weight_std must be > 0"),
        (lambda: make(weight_std=math.nan), ValueError, "weight_std must be > 0"),
        (lambda: make(bias_std=-1), ValueError, "bias_std must be ≥ 0"),
        (lambda: make(output="linear"), ValueError, 'output must be "tanh" or "softmax"'),
        (lambda: make(dtype=torch.int32), TypeError, "dtype must be of floating point"),
        (lambda: make(generator=None), TypeError, "generator must be a torch.Generator"),
        (lambda: go(generator=7), TypeError, "generator must be a torch.Generator"),
        (lambda: go(x=X.tolist()), TypeError, "x must have dtype and device of the networks"),
        (lambda: go(x=X.float()), TypeError, r"x must have dtype.*float32.*x\.to\("),
        (lambda: go(y=Y.to("meta")), TypeError, "y must have dtype and device.*meta"),
        (lambda: go(x=X[:, :2]), ValueError, r"x must have shape \(P, 3\), got \(70, 2\)"),
        (lambda: go(y=Y[:, 0]), ValueError, r"y must have shape \(P, 2\), got \(70,\)"),
        (lambda: go(x=X[:0], y=Y[:0]), ValueError, "x must have shape"),
        (lambda: go(y=Y[1:]), ValueError, "as many rows, got 70 and 69"),
        (lambda: go(x=X / 0), ValueError, "x must be finite"),
        (lambda: go(lr="0.1"), ValueError, "lr must be positive and finite, got 0.1"),
        (lambda: make(weight_std="1"), ValueError, "weight_std must be > 0"),
        (lambda: go(lr=0), ValueError, "lr must be positive and finite"),
        (lambda: go(lr=math.inf), ValueError, "lr must be positive and finite"),
        (lambda: go(epochs=-1), ValueError, "epochs must be an integer ≥ 0"),
        (lambda: go(batch=0), ValueError, "batch must be an integer ≥ 1"),
        (lambda: NETS(X[:, :2]), ValueError, r"x must have shape \(P, 3\) or \(3, P, 3\)"),
        (lambda: NETS.hidden(X.float()), TypeError, "x must have dtype"),
        (lambda: NETS(X.expand(2, 70, 3)), ValueError, r"\(3, P, 3\), got \(2, 70, 3\)"),
        (lambda: NETS[1], TypeError, r"a slice, got 1; member\(i\)"),
        (lambda: list(NETS), TypeError, r"a slice, got 0"),
        (lambda: NETS[3:], IndexError, "some of the networks 0 … 2 are needed"),
        (lambda: TanhNetworks((), ()), ValueError, "weights must have shapes"),
        (lambda: TanhNetworks((X,), (X[0],)), ValueError, "weights must have shapes"),
        (lambda: TanhNetworks(NETS.weights[1:], NETS.biases), ValueError, r"and biases .* got"),
        (lambda: TanhNetworks(NETS.weights[::2], NETS.biases[::2]), ValueError, "weights must"),
        (lambda: TanhNetworks(NETS.weights, NETS.biases, "linear"), ValueError, "output must be"),
        (lambda: NETS.member(3), IndexError, "networks 0 … 2, got 3"),
    ],
)
def test_refusals_name_the_argument_and_the_remedy(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_softmax_takes_probabilities_only():
    nets = networks("softmax", 4)
    x, y = patterns(classes=4)
    for wrong in (2 * y, -y, y - 0.25):
        with pytest.raises(ValueError, match="y must hold probabilities"):
            train(nets, x, wrong, lr=0.1, epochs=1, generator=G)
