import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dynbook.ftle import _log_singular_values, ftle, ftle_field
from dynbook.lyapunov import LyapunovError
from dynbook.maps import layers
from dynbook.random_matrices import gaussian_matrices, wide_limit

ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU, nn.Softplus, nn.LeakyReLU)


def network(widths, activation=nn.Tanh, *, gain=1.5, seed=0, dtype=torch.float64, bias=True):
    generator = torch.Generator().manual_seed(seed)
    modules = []
    for fan_in, width in itertools.pairwise(widths):
        linear = nn.Linear(fan_in, width, bias=bias, dtype=dtype)
        for p, scale in ((linear.weight, gain * fan_in**-0.5), (linear.bias, 0.3)):
            if p is not None:
                nn.init.normal_(p, 0, scale, generator=generator)
        modules += [linear, activation()]
    return nn.Sequential(*modules)


def functions(net):
    """The same layers, but nothing can be known of them except what they do."""
    return [lambda x, layer=layer: layer(x) for layer in layers(net)]


def inputs(*shape, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def numpy_exponents(net, x):
    """Matrix products by hand and numpy's SVD, for one input of a tanh network."""
    state, jacobian = x.double().numpy(), np.eye(len(x))
    linears = [m for m in net if isinstance(m, nn.Linear)]
    for m in linears:
        weight, bias = (p.detach().double().numpy() for p in (m.weight, m.bias))
        state = np.tanh(weight @ state + bias)
        jacobian = (1 - state**2)[:, None] * (weight @ jacobian)
    return np.log(np.linalg.svd(jacobian)[1]) / len(linears), np.linalg.svd(jacobian)[2]


# --- the exponents ---------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(2, 9, 7), (3, 8, 8, 8), (40, 6, 6, 6), (5, 9, 3)], ids=str)
def test_exponents_are_singular_values_of_the_product(widths):
    """Forward, wide input (turned), and narrow output (pulled back)."""
    net, x, k = network(widths), inputs(4, widths[0]), min(widths[0], widths[-1])
    for member, ours in zip(x, ftle(net, x, k), strict=True):
        np.testing.assert_allclose(ours, numpy_exponents(net, member)[0][:k], rtol=0, atol=1e-12)
    torch.testing.assert_close(ftle(net, x), ftle(net, x, k)[:, :1], rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    widths=st.lists(st.integers(2, 7), min_size=2, max_size=6),
    activation=st.sampled_from(ACTIVATIONS),
    seed=st.integers(0, 99),
)
def test_what_the_layers_are_written_in_does_not_matter(widths, activation, seed):
    net, x = network(widths, activation, seed=seed), inputs(3, widths[0], seed=seed)
    ours, theirs = ftle(net, x), ftle(functions(net), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_leading_dimensions_are_an_ensemble(device):
    net, x = network((4, 6, 6)).to(device), inputs(3, 2, 4).to(device)
    together = ftle(net, x, 3)
    assert together.shape == (3, 2, 3) and together.device.type == device
    alone = torch.stack([torch.stack([ftle(net, one, 3) for one in row]) for row in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_depth_exhausts_no_dtype(dtype):
    """400 layers g·1: neither 3^400 nor 10^{−1200} has a float32, nor the latter a float64."""
    for gain in (3.0, 1e-3):
        deep = [nn.Linear(3, 3, bias=False, dtype=dtype) for _ in range(400)]
        for layer in deep:
            nn.init.eye_(layer.weight).data.mul_(gain)
        x = torch.zeros(3, dtype=dtype)
        for maps in (deep, functions(nn.Sequential(*deep))):
            exponents = ftle(maps, x, 3)
            assert exponents.dtype == dtype
            assert exponents.tolist() == pytest.approx([math.log(gain)] * 3, abs=1e-6)


def test_a_wide_product_stretches_by_the_fuss_catalan_edge():
    """The largest of N = 400 singular values, within N^{−2/3} of the edge."""
    generator = torch.Generator().manual_seed(5)
    for length in (1, 3):
        maps = [
            lambda x, m=m: x @ m.mT for m in gaussian_matrices(400, length, generator=generator)
        ]
        assert ftle(maps, torch.zeros(400, dtype=torch.float64)).item() == pytest.approx(
            wide_limit(length), abs=0.5 * 400 ** (-2 / 3)
        )


def test_what_is_below_rounding_is_not_called_a_number():
    maps = [lambda x: x * torch.tensor([1.0, 1e-5, 1e-20], dtype=torch.float64)]
    exponents = ftle(maps, torch.ones(3, dtype=torch.float64), 3)
    assert exponents.tolist() == pytest.approx([0, math.log(1e-5), -math.inf])


@pytest.mark.parametrize("k", [1, 2])
def test_behind_dead_neurons_the_exponent_is_minus_infinity(k):
    net = network((2, 5, 5), nn.ReLU)
    nn.init.constant_(net[2].bias, -1e3)
    for maps in (net, functions(net)):
        assert ftle(maps, inputs(4, 2), k).eq(-math.inf).all()
        field = ftle_field(maps, (-1, 1), (-1, 1), 4, dtype=torch.float64)
        assert field.ftle.eq(-math.inf).all() and field.direction.eq(0).all()


def test_the_hidden_layers_are_a_slice():
    net = network((2, 6, 6, 1))
    ours = ftle(layers(net)[:-1], inputs(2))
    assert ours.item() == pytest.approx(numpy_exponents(net[:4], inputs(2))[0][0], abs=1e-12)


# --- the field -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, tol", [(torch.float32, 3e-6), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize("kind", ["layers", "functions"])
def test_a_field_is_its_points(dtype, tol, kind, device):
    net = network((2, 12, 12, 12), dtype=dtype).to(device)
    maps = net if kind == "layers" else functions(net)
    n, like = 7, {"dtype": dtype, "device": device}
    field = ftle_field(maps, (-1, 2), (0, 0.5), n, chunk=10, **like)
    assert field.ftle.shape == (n, n) and field.direction.shape == (n, n, 2)
    assert field.ftle.dtype == dtype and field.ftle.device.type == device
    np.testing.assert_allclose(field.x.cpu(), np.linspace(-1, 2, n), rtol=0, atol=1e-6)
    np.testing.assert_allclose(field.y.cpu(), np.linspace(0, 0.5, n), rtol=0, atol=1e-6)
    for i, j in ((0, 0), (2, 5), (6, 1)):
        exponents, vectors = numpy_exponents(net.cpu(), torch.stack([field.x[j], field.y[i]]).cpu())
        assert field.ftle[i, j].item() == pytest.approx(exponents[0], abs=tol)
        cosine = abs(field.direction[i, j].cpu().double().numpy() @ vectors[0])
        assert cosine == pytest.approx(1, abs=tol)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype, tol", [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
def test_the_fast_path_gives_the_numbers_of_the_general_one(activation, dtype, tol):
    net = network((2, 10, 10, 10), activation, dtype=dtype)
    fast, general = (ftle_field(m, (-1, 1), (-1, 1), 9, dtype=dtype) for m in (net, functions(net)))
    torch.testing.assert_close(fast.ftle, general.ftle, rtol=0, atol=tol)
    cosine = (fast.direction * general.direction).sum(-1).abs()
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=tol)


def test_without_onednn_the_field_is_the_same(monkeypatch):
    net = network((2, 30, 30, 30), dtype=torch.float32)
    here = ftle_field(net, (-1, 1), (-1, 1), 30)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    seen = []
    monkeypatch.setattr(
        "dynbook.dense.linear", lambda x, *w: seen.append(len(x)) or nn.functional.linear(x, *w)
    )
    there = ftle_field(net, (-1, 1), (-1, 1), 30)
    assert seen
    torch.testing.assert_close(here.ftle, there.ftle, rtol=0, atol=1e-6)


def test_saturated_units_lose_no_digits_to_the_sigmoid():
    """tanh as 2 σ(2z) − 1: slopes down to 1e-5 in double precision, behind a large bias."""
    net = network((2, 6, 6), nn.Tanh)
    for m in net[::2]:
        nn.init.constant_(m.bias, 6.0)
    ours = ftle(net, inputs(4, 2), 2)
    for member, found in zip(inputs(4, 2), ours, strict=True):
        np.testing.assert_allclose(found, numpy_exponents(net, member)[0][:2], rtol=0, atol=1e-10)


def test_activations_in_place_change_nothing():
    plain, saving = (
        network((2, 8, 8), lambda p=p: nn.LeakyReLU(0.1, inplace=p)) for p in (False, True)
    )
    for maps in (saving, functions(saving)):
        torch.testing.assert_close(ftle(maps, inputs(5, 2)), ftle(plain, inputs(5, 2)))


@pytest.mark.parametrize("outputs", [5, 2], ids=["forward", "reverse"])
def test_layers_that_work_in_place_leave_the_inputs_alone(outputs):
    """3x in place, twice: pushed forward and pulled back."""
    last = network((5, outputs))
    x = inputs(4, 5)
    before, by_hand = x.clone(), ftle([lambda x: 9 * x, last], x) * 2 / 3
    torch.testing.assert_close(ftle([lambda x: x.mul_(3)] * 2 + [last], x), by_hand)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_saturated_neurons_keep_their_digits(dtype):
    """tanh' = 4 e^{−2|x|} far out, on either side; 1 − tanh² has none left from 9 or 19 on."""
    layer = nn.Linear(1, 1, bias=False, dtype=dtype)
    nn.init.ones_(layer.weight)
    for x in torch.tensor([12.0, -12.0, 25.0, -25.0], dtype=dtype):
        ours = ftle(nn.Sequential(layer, nn.Tanh()), x[None]).item()
        assert ours == pytest.approx(math.log(4) - 2 * abs(x.item()), rel=1e-6)


@pytest.mark.parametrize("copies", [2, 7], ids=["reverse", "forward"])
def test_layers_may_return_views(copies):
    """A sum of five, copied: σ = √(5 · copies); and nothing at all, of a sign."""
    maps = [lambda x: x.sum(-1, keepdim=True).expand(-1, copies)]
    expected = torch.full((4, 1), math.log(5 * copies) / 2, dtype=torch.float64)
    torch.testing.assert_close(ftle(maps, inputs(4, 5)), expected)
    assert ftle([torch.sign, lambda x: x.detach()[:, :copies]], inputs(4, 5)).isneginf().all()


@pytest.mark.parametrize("where", [(0,), (0, 1), (1,), (1, 0)], ids=str)
def test_hooks_are_seen(where):
    """What goes from the first layer to the second is tripled by a hook on a chain or a leaf."""
    net, x = nn.Sequential(network((4, 4)), network((4, 3))), inputs(5, 4)
    expected = ftle([net[0], lambda x: 3 * x, net[1]], x) * 3 / 2
    module = net
    for i in where:
        module = module[i]
    if where[0] == 0:
        module.register_forward_hook(lambda module, x, y: 3 * y)
    else:
        module.register_forward_pre_hook(lambda module, x: (3 * x[0],))
    torch.testing.assert_close(ftle(net, x), expected)


@pytest.mark.parametrize(
    "dtype, gain, tol",
    [
        (torch.float32, 50, 3e-4),
        (torch.float32, 1e4, 1e-6),
        (torch.float32, 1e8, 1e-6),
        (torch.float64, 1e12, 1e-12),
        (torch.float64, 1e200, 1e-12),
    ],
    ids=str,
)
def test_small_states_before_a_steep_layer_keep_their_digits(dtype, gain, tol):
    """tanh(g tanh(x/g)) = tanh x + O(g⁻²), so that the exponents are −ln cosh x."""
    modules = [nn.Linear(2, 2, bias=False, dtype=dtype) for _ in range(2)]
    for linear, factor in zip(modules, (1 / gain, gain), strict=True):
        nn.init.eye_(linear.weight).data.mul_(factor)
    net = nn.Sequential(modules[0], nn.Tanh(), modules[1], nn.Tanh())
    x = torch.tensor([0.5, -1.0], dtype=dtype)
    torch.testing.assert_close(ftle(net, x, 2), -x.cosh().log(), rtol=0, atol=tol)


def test_the_direction_of_a_shear_is_found_by_hand():
    """J = diag(1, 3) turned by 30°: stretched most along its second axis."""
    angle = math.pi / 6
    axes = torch.tensor(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    ).double()
    field = ftle_field([lambda x: x @ axes.mT * torch.tensor([1.0, 3.0])], (0, 1), (0, 1), 2,
                       dtype=torch.float64)  # fmt: skip
    torch.testing.assert_close(field.ftle, torch.full((2, 2), math.log(3)).double())
    torch.testing.assert_close(field.direction, (-axes[1]).expand(2, 2, 2))


def test_small_activations_keep_their_digits_in_single_precision():
    """Without biases the centre is a fixed point, and next to it the net is its product."""
    net = network((2, *[20] * 10), gain=1.2, dtype=torch.float32, bias=False)
    near = ftle_field(net, (1e-9, 2e-9), (1e-9, 2e-9), 2).ftle
    product = torch.eye(2).double()
    for m in net[::2]:
        product = m.weight.detach().double() @ product
    expected = torch.linalg.svdvals(product)[0].log() / 10
    torch.testing.assert_close(near.double(), expected.expand(2, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["layers", "functions"])
def test_memory_is_that_of_one_chunk(kind, monkeypatch):
    """The most points that the network sees at once, on lattices of 1,600 and of 14,400."""
    seen = []
    net = network((2, 8, 8))
    original = torch.nn.functional.linear
    monkeypatch.setattr(
        "dynbook.dense.linear", lambda x, *w: seen.append(len(x)) or original(x, *w)
    )
    maps = net if kind == "layers" else [lambda x: seen.append(len(x)) or net(x)]
    most = []
    for n in (40, 120):
        seen.clear()
        ftle_field(maps, (-1, 1), (-1, 1), n, chunk=500, dtype=torch.float64)
        most.append(max(seen))
    assert most[0] == most[1] == (1500 if kind == "layers" else 500)


@pytest.mark.parametrize("kind", ["layers", "functions"])
def test_a_chunk_shrinks_where_the_network_is_wide(kind, monkeypatch):
    """Points and their tangents, 1,000 wide, perhaps unseen: the 100 MB of the docstring."""
    rows = []
    net, original = network((2, 1000, 2)), torch.nn.functional.linear
    monkeypatch.setattr(
        "dynbook.dense.linear", lambda x, *w: rows.append(len(x)) or original(x, *w)
    )
    maps = net if kind == "layers" else [lambda x: rows.append(3 * len(x)) or net(x)]
    ftle_field(maps, (-1, 1), (-1, 1), 80, dtype=torch.float64)
    assert max(rows) * 1000 * 8 < 1e8 < 3 * 80**2 * 1000 * 8


# --- refusals --------------------------------------------------------------------------------


def overflowing(where):
    net = network((2, 4, 4, 4), nn.ReLU)
    nn.init.constant_(net[2 * where].weight, 1e300)
    nn.init.constant_(net[2 * where - 2].weight, 1e300)
    return net


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_an_overflow_names_its_layer(reverse):
    for net in (overflowing(1), functions(overflowing(1))):
        maps = [*layers(net), nn.Linear(4, 1, dtype=torch.float64)] if reverse else net
        with pytest.raises(LyapunovError, match=r"the state after layer 1 is not finite.*scale"):
            ftle(maps, torch.ones(2, dtype=torch.float64))


def test_a_state_may_overflow_though_its_tangents_do_not():
    layer = nn.Linear(2, 2)
    nn.init.eye_(layer.weight).data.mul_(1e38)
    nn.init.constant_(layer.bias, 3e38)
    with pytest.raises(LyapunovError, match="the state after layer 0 is not finite, inf"):
        ftle(nn.Sequential(layer, nn.ReLU()), torch.full((2,), 3.0))


def test_a_steep_layer_is_named():
    with pytest.raises(LyapunovError, match=r"Jacobian of layer 1 overflows torch.float64"):
        ftle([torch.square, lambda x: (x - 1).sqrt()], torch.ones(3, 2, dtype=torch.float64))


@pytest.mark.parametrize("bad", ["weight", "bias"])
def test_parameters_that_are_no_numbers_are_named(bad):
    net = network((2, 4, 4))
    getattr(net[2], bad).data[1] = math.nan
    with pytest.raises(ValueError, match=rf"layer 1's 0\.{bad} must be finite, got nan at index"):
        ftle_field(net, (-1, 1), (-1, 1), 3)


@pytest.mark.parametrize(
    "limits, words",
    [
        (((1, -1), (0, 1), 3), r"xlim must be finite and ascending, got \(1, -1\)"),
        (((0, 1), (0, 0), 3), r"ylim must be finite and ascending, got \(0, 0\)"),
        (((0, math.inf), (0, 1), 3), "xlim must be finite"),
        (((0, 1), (0, math.nan), 3), "ylim must be finite"),
        (((0, 1), (0, 1), 1), "n must be an integer ≥ 2, got 1"),
        (((0, 1), (0, 1), 2.5), "n must be an integer ≥ 2, got 2.5"),
    ],
)
def test_a_lattice_must_be_one(limits, words):
    with pytest.raises(ValueError, match=words):
        ftle_field(network((2, 3)), *limits)
    with pytest.raises(ValueError, match="chunk must be an integer ≥ 1, got 0"):
        ftle_field(network((2, 3)), (0, 1), (0, 1), 3, chunk=0)


def test_a_lattice_needs_a_dtype_that_can_tell_its_points_apart():
    for net in (network((2, 3)).half(), network((2, 3), dtype=torch.bfloat16)):
        with pytest.raises(TypeError, match=r"float32 or torch.float64, got .*\.double\(\)"):
            ftle_field(net, (0, 1), (0, 1), 3)
    for bad in (1.0, "ab", (0, 1, 2)):
        with pytest.raises(TypeError, match=r"xlim must be two numbers, \(low, high\), got"):
            ftle_field(network((2, 3)), bad, (0, 1), 3)
    with pytest.raises(ValueError, match=r"ylim must be finite and ascending, got \(0, 1e\+300"):
        ftle_field(network((2, 3), dtype=torch.float32), (0, 1), (0, 1e300), 3)


def test_inputs_must_fit_the_network():
    net, x = network((3, 4)), inputs(5, 3)
    for maps in (net, functions(net)):
        with pytest.raises(ValueError, match=r"layer 0 must take inputs \(\.\.\., 2\)"):
            ftle_field(maps, (0, 1), (0, 1), 2, dtype=torch.float64)
    with pytest.raises(
        TypeError, match=r"x must be a float32 or float64 tensor, got a torch.int64"
    ):
        ftle(net, torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"layer 0 must map .* takes \(3, 3\) to \(tensor"):
        ftle([lambda x: (x, x)], x)
    with pytest.raises(ValueError, match="x must have"):
        ftle(net, torch.tensor(1.0).double())
    with pytest.raises(ValueError, match="x must be finite, got nan at index"):
        ftle(net, x * math.nan)
    with pytest.raises(TypeError, match=r"0.weight must share dtype and device.*move one with"):
        ftle(net, x.float())
    with pytest.raises(ValueError, match="k must be at most 3, for a network of 3 inputs and 4"):
        ftle(net, x, 4)
    with pytest.raises(ValueError, match="k must be an integer ≥ 1, got 0"):
        ftle(net, x, 0)


def test_a_layer_must_keep_its_members():
    for lost in (lambda x: x.flatten(), lambda x: x.sum(), lambda x: x[:2]):
        with pytest.raises(
            ValueError, match=r"layer 1 must map \(\.\.\., 3\) to \(\.\.\., width\)"
        ):
            ftle([nn.Linear(2, 3), lost], torch.rand(4, 2))


def test_members_must_not_see_each_other():
    coupled = nn.BatchNorm1d(3, track_running_stats=False, affine=False).eval()
    noisy = [lambda x: x + torch.rand_like(x)]
    for maps in ([nn.Linear(2, 3), coupled], [nn.Linear(2, 3), *noisy]):
        with pytest.raises(ValueError, match="layer 1 must treat the members of a batch one by on"):
            ftle(maps, torch.rand(5, 2))


@pytest.mark.parametrize("restless", [nn.Dropout(0.5), nn.BatchNorm1d(3)], ids=["drop", "norm"])
def test_training_mode_is_refused_and_rest_accepted(restless):
    net = nn.Sequential(nn.Linear(2, 3), restless, nn.Tanh())
    with pytest.raises(ValueError, match=r"behaves as in training; call network.eval\(\) first"):
        ftle(net, torch.rand(5, 2))
    at_rest = ftle(net.eval(), torch.rand(5, 2))
    assert at_rest.shape == (5, 1) and at_rest.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("D, N", [(5, 7), (7, 5)])
@pytest.mark.parametrize("first", [0, 2])
def test_exponents_keep_their_digits_whether_singular_values_are_level_or_not(first, D, N, dtype):
    """Diagonal maps turned on both sides: σ is known, for level members, steep ones and zero."""
    sigma = torch.tensor([[3, 2.5, 2, 1, 1], [1, 1, 0.5, 0.3, 1e-3], [3, 1e-5, 0, 0, 0]]).double()
    sigma = sigma.roll(-first, 0)
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(3, n, n, generator=generator, dtype=torch.float64))[0]
        for n in (D, N)
    )
    tangents = (left[..., :5] * sigma[:, None] @ right[..., :5].mT).to(dtype).movedim(0, 1)
    scale = torch.tensor([0.0, 10, -700], dtype=torch.float64)
    for k in (1, 3, 5):
        logs = _log_singular_values(tangents, scale, k)
        expected = scale[:, None] + sigma[:, :k].log()
        rounding = 40 * torch.finfo(dtype).eps * (1 + sigma[:, :1] / sigma[:, :k])
        off = (logs - expected).abs()
        assert logs.dtype == dtype
        assert (
            (off < rounding + torch.finfo(dtype).eps * scale[:, None].abs()) | (logs == expected)
        ).all()
