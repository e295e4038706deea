import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from dynbook.gram import moments, relu_gram
from dynbook.lowpass import (
    GramSpectrum,
    cutoff_frequency,
    gradient_flow,
    gram_spectrum,
    truncated_solve,
)
from dynbook.splines import leading_eigenpairs


def positive(n, *, decay=1.0, seed=0, rank=None, dtype=torch.float64):
    """A Gram matrix of known eigenvalues 10^{−decay·k}, the last n − rank of them zero."""
    g = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))[0]
    values = 10.0 ** (-decay * torch.arange(n, dtype=torch.float64))
    values[rank or n :] = 0
    matrix = (q * values) @ q.mT
    return ((matrix + matrix.mT) / 2).to(dtype), values


def target(n, seed=1, batch=()):
    return torch.randn(
        *batch, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


# --- spectrum -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_spectrum_is_the_one_built_in(dtype, device):
    gram, values = positive(7, dtype=dtype)
    ours = gram_spectrum(gram.to(device))
    assert ours.values.dtype == dtype and ours.values.device.type == device
    assert (ours.values.diff() <= 0).all() and ours.complete
    torch.testing.assert_close(ours.values.double().cpu(), values, rtol=0, atol=ours.floor)
    residual = gram.to(device) @ ours.vectors - ours.vectors * ours.values
    assert residual.abs().max() < ours.floor


def test_condition_and_modes_of_a_hilbert_matrix():
    """Monomials on (0, 1): cond 4.7661e5 at n = 5, from mpmath's exact inverse."""
    n = torch.arange(1, 6, dtype=torch.float64)
    spectrum = gram_spectrum(1 / (n[:, None] + n - 1))
    with mpmath.workdps(30):
        values = sorted(mpmath.eigsy(mpmath.hilbert(5), eigvals_only=True))
    assert spectrum.condition == pytest.approx(float(values[-1] / values[0]), rel=1e-9)
    assert [spectrum.modes(r) for r in (1e-1, 1e-3, 1e-9)] == [
        sum(v > r * values[-1] for v in values) for r in (1e-1, 1e-3, 1e-9)
    ]


def test_duplicate_neurons_are_reported_and_never_inverted():
    b = torch.tensor([-0.9, 0.1, 0.1, 0.5], dtype=torch.float64)
    spectrum = gram_spectrum(relu_gram(1.0, b))
    with pytest.raises(ValueError, match=r"singular to working precision.*distinct neurons"):
        _ = spectrum.condition
    solved = truncated_solve(spectrum, torch.ones(4, dtype=torch.float64), rtol=1e-12)
    assert solved.rank.item() == 3
    assert solved.coef[1].item() == pytest.approx(solved.coef[2].item(), rel=1e-9)


def test_single_precision_meets_its_floor_where_double_does_not():
    gram, _ = positive(9)
    assert gram_spectrum(gram).condition == pytest.approx(1e8, rel=1e-6)
    with pytest.raises(ValueError, match="use more digits"):
        _ = gram_spectrum(gram.float()).condition


# --- truncated solution ---------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 9), cut=st.floats(0.2, 7.8), seed=st.integers(0, 99), rank=st.integers(1, 9)
)
def test_the_truncated_solution_is_the_pseudo_inverse(n, cut, seed, rank):
    """numpy.linalg.pinv, and a threshold between two eigenvalues 10^{−k}."""
    rank = min(rank, n)
    cut = math.floor(cut) + 0.5
    gram, _ = positive(n, seed=seed, rank=rank)
    f, rtol = target(n, seed), 10**-cut
    ours = truncated_solve(gram, f, rtol)
    expected = np.linalg.pinv(gram.numpy(), rcond=rtol, hermitian=True) @ f.numpy()
    assert ours.rank.item() == min(rank, math.ceil(cut))
    np.testing.assert_allclose(ours.coef, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    residual = np.linalg.norm(gram.numpy() @ expected - f.numpy())
    assert ours.residual.item() == pytest.approx(residual, rel=1e-6, abs=1e-6)


def test_batches_of_thresholds_and_of_targets_are_their_members(device):
    gram, _ = positive(8)
    spectrum = gram_spectrum(gram.to(device))
    f = target(8, batch=(3,)).to(device)
    rtol = torch.tensor([1e-1, 1e-3, 1e-5, 1e-9], dtype=torch.float64, device=device)
    grid = truncated_solve(spectrum, f, rtol[:, None])
    assert grid.coef.shape == (4, 3, 8) and grid.rank.shape == grid.residual.shape == (4, 3)
    for i, r in enumerate(rtol):
        together = truncated_solve(spectrum, f, r)
        for j in range(3):
            alone = truncated_solve(gram.to(device), f[j], r.item())
            for name in ("coef", "rank", "residual"):
                one = getattr(alone, name)
                torch.testing.assert_close(getattr(grid, name)[i, j], one, rtol=1e-8, atol=1e-9)
                torch.testing.assert_close(getattr(together, name)[j], one, rtol=1e-8, atol=1e-9)


def test_the_default_threshold_is_where_rounding_begins():
    """n ε = 3.6e-6 and 6.7e-15 for n = 30: eigenvalues 10^{−k/2} above them."""
    for dtype, rank in ((torch.float32, 11), (torch.float64, 29)):
        values = 10.0 ** (-torch.arange(30, dtype=dtype) / 2)
        solved = truncated_solve(torch.diag(values), torch.ones(30, dtype=dtype))
        assert solved.rank.item() == rank
    assert truncated_solve(torch.diag(values.float()), f=torch.ones(30), rtol=1e-50).rank == 30


def test_leading_eigenpairs_solve_what_they_can_tell():
    b = -1 + 2 * torch.arange(80, dtype=torch.float64) / 80
    leading, f = leading_eigenpairs(b, 12), target(80)
    whole = truncated_solve(relu_gram(1.0, b), f, 1e-3)
    partial = truncated_solve(leading, f, 1e-3)
    for name in ("coef", "rank", "residual"):
        torch.testing.assert_close(
            getattr(partial, name), getattr(whole, name), rtol=1e-8, atol=1e-8
        )
    assert leading.modes(1e-3) == whole.rank
    assert leading.floor == pytest.approx(gram_spectrum(relu_gram(1.0, b)).floor)


# --- gradient flow --------------------------------------------------------------------------


def test_the_flow_solves_its_differential_equation():
    gram, _ = positive(6, decay=0.5)
    f, a0, t = target(6), target(6, 2), torch.tensor([0.0, 0.3, 2.0, 40.0], dtype=torch.float64)
    for start in (a0, None):
        begin = np.zeros(6) if start is None else start.numpy()
        exact = solve_ivp(
            lambda _, a: f.numpy() - gram.numpy() @ a,
            (0, 40),
            begin,
            t_eval=t,
            rtol=1e-11,
            atol=1e-12,
        )
        ours = gradient_flow(gram, f, t, start)
        np.testing.assert_allclose(ours, exact.y.T, rtol=0, atol=1e-8)


def test_the_flow_starts_at_f_t_and_ends_at_the_solution():
    gram, _ = positive(5)
    f = target(5)
    torch.testing.assert_close(gradient_flow(gram, f, 1e-9), 1e-9 * f, rtol=1e-8, atol=0)
    solution = torch.from_numpy(np.linalg.solve(gram.numpy(), f.numpy()))
    torch.testing.assert_close(gradient_flow(gram, f, 1e7), solution, rtol=1e-9, atol=1e-9)


def test_a_null_mode_rests_where_it_started():
    """G = diag(1, 0): a_2 is what it was, also where the 0 has been rounded and f_2 with it."""
    for null in (0.0, 1e-300, 5e-324, -1e-17):
        gram = torch.diag(torch.tensor([1.0, null], dtype=torch.float64))
        t = torch.tensor([0.0, 1.0, 1e8], dtype=torch.float64)
        a = gradient_flow(gram, torch.ones(2, dtype=torch.float64), t)
        torch.testing.assert_close(a[:, 0], -torch.expm1(-t))
        assert a[:, 1].tolist() == [0.0] * 3
        start = torch.ones(2, dtype=torch.float64)
        kept = gradient_flow(gram, torch.zeros_like(start), 1e19, start)
        assert kept.tolist() == [0.0, 1.0]  # rounding below zero must not grow


def test_duplicate_neurons_share_their_coefficient_at_all_times():
    """exp against equispaced neurons, the third twice; left alone the null mode is noise × t."""
    b = torch.tensor([-0.9, -0.4, 0.1, 0.1, 0.5], dtype=torch.float64)
    f = moments(lambda x: x[:, 0].exp(), torch.relu, 1.0, b)
    f = f + 1e-17 * torch.tensor([0, 0, 1, -1, 0])
    gram = relu_gram(1.0, b)
    end = gradient_flow(gram, f, torch.tensor([1e3, 1e9, 1e20], dtype=torch.float64))
    torch.testing.assert_close(end[:, 2], end[:, 3], rtol=0, atol=1e-9)
    torch.testing.assert_close(end[-1], truncated_solve(gram, f).coef, rtol=0, atol=1e-9)
    assert end.abs().max() < 10


@settings(max_examples=20, deadline=None)
@given(s=st.floats(0, 50), t=st.floats(0, 50), seed=st.integers(0, 99))
def test_flowing_twice_is_flowing_once(s, t, seed):
    spectrum = gram_spectrum(positive(5, seed=seed)[0])
    f = target(5, seed)
    twice = gradient_flow(spectrum, f, t, gradient_flow(spectrum, f, s))
    torch.testing.assert_close(twice, gradient_flow(spectrum, f, s + t), rtol=1e-9, atol=1e-9)


def test_times_keep_their_shape(device):
    gram, f = positive(4)[0].to(device), target(4).to(device)
    t = torch.rand(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    flow = gradient_flow(gram, f, t)
    assert flow.shape == (2, 3, 4) and flow.device.type == device
    assert gradient_flow(gram, f, 0.5).shape == (4,)
    torch.testing.assert_close(flow[1, 2], gradient_flow(gram, f, t[1, 2]))


# --- cut-off --------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_cutoff_balances_decay_against_rounding(dim):
    """At k the mode's eigenvalue C k^{−(d+3)} equals n ε with n = k^d."""
    for eps, constant in ((2.0**-23, 1.0), (2.0**-52, 0.1269)):
        k = cutoff_frequency(eps, dim, constant)
        assert constant * k ** -(dim + 3) == pytest.approx(k**dim * eps, rel=1e-12)


def test_one_dimension_keeps_16_frequencies_in_single_and_894_in_double():
    """With the true constant (κ_1/π)⁴ and ε = 2⁻²³, 2⁻⁵²."""
    constant = (1.8751040687119611 / math.pi) ** 4
    assert constant == pytest.approx(0.1269, abs=5e-5)
    kept = [int(cutoff_frequency(2.0**-m, 1, constant)) for m in (23, 52)]
    assert kept == [16, 894]


# --- refusals -------------------------------------------------------------------------------


def test_a_spectrum_is_a_pair_and_a_threshold_may_be_a_number():
    spectrum = gram_spectrum(positive(5)[0])
    values, vectors = spectrum
    assert values is spectrum.values and vectors is spectrum.vectors
    assert spectrum.above(1e-2 * 1.001).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_tolerances_are_relative(scale):
    """What passes as rounding, and what does not, is the same for every unit of G."""
    skew, zero = torch.eye(3).double().roll(1, 0), torch.diag(torch.tensor([1.0, 1.0, 0])).double()
    gram_spectrum(scale * (torch.eye(3) + 1e-15 * skew))
    gram_spectrum(scale * (zero - 1e-15 * torch.eye(3)))
    with pytest.raises(ValueError, match="symmetric"):
        gram_spectrum(scale * (torch.eye(3) + 1e-13 * skew))
    with pytest.raises(ValueError, match="semi-definite"):
        gram_spectrum(scale * (zero - 1e-13 * torch.eye(3)))


def test_the_cutoff_of_the_paper_has_constant_one():
    assert cutoff_frequency(1e-10, 1) == pytest.approx(100, rel=1e-12)


G, _ = positive(3)
F = target(3)
PART = GramSpectrum(*(x[..., :2] for x in vars(gram_spectrum(G)).values()))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: gram_spectrum(G[:2]), r"gram must have shape \(n, n\).*got \(2, 3\)"),
        (lambda: gram_spectrum(G[None]), r"gram must have shape \(n, n\)"),
        (lambda: gram_spectrum(G[0]), r"gram must have shape \(n, n\)"),
        (lambda: GramSpectrum(*torch.linalg.eigh(G)), r"decrease.*gram_spectrum\(G\) sorts them"),
        (lambda: GramSpectrum(F[:2], G), r"must fit, got \(2,\) and \(3, 3\)"),
        (lambda: GramSpectrum(F, G[:2]), r"must fit, got \(3,\) and \(2, 3\)"),
        (lambda: GramSpectrum(F * math.nan, G), "values must be finite"),
        (lambda: GramSpectrum(F, G * math.nan), "vectors must be finite"),
        (lambda: GramSpectrum(0 * F, G), "values must decrease from λ_1 > 0"),
        (lambda: gram_spectrum(G[:0, :0]), "n ≥ 1"),
        (lambda: gram_spectrum(G * math.nan), r"gram must be finite, got nan at index \[0, 0\]"),
        (lambda: gram_spectrum(G.triu()), r"gram must be symmetric.*\(G \+ G.mT\) / 2"),
        (lambda: gram_spectrum(-G), "gram must be positive semi-definite.*eigenvalues run from"),
        (lambda: gram_spectrum(G - 0.05 * torch.eye(3)), "gram must be positive semi-definite"),
        (lambda: gram_spectrum(0 * G), "gram must be positive semi-definite"),
        (lambda: truncated_solve(G, F[:2]), r"f must have shape \(..., 3\), as G has, got \(2,\)"),
        (lambda: truncated_solve(G, F[:, None]), r"f must have shape.*got \(3, 1\)"),
        (lambda: truncated_solve(G, F / 0), "f must be finite, got .*inf at index"),
        (lambda: truncated_solve(G, F, 0.0), r"rtol must lie in \(0, 1\), got 0"),
        (lambda: truncated_solve(G, F, 1.0), r"rtol must lie in \(0, 1\), got 1"),
        (lambda: truncated_solve(G, F, math.nan), r"rtol must lie in \(0, 1\), got nan"),
        (lambda: truncated_solve(G, F, [1e-3, 2.0]), r"rtol must lie in \(0, 1\), got 2"),
        (lambda: truncated_solve(PART, F, 1e-9), "all 2 leading eigenpairs through.*raise rtol"),
        (lambda: truncated_solve(G, 1e308 * F.sign()), "coef must be finite.*overflows.*scale f"),
        (lambda: truncated_solve(G, torch.stack([F, F]), [0.1] * 3), r"broadcast.*\(3,\) and \(2,"),
        (lambda: gradient_flow(G, 1e308 * F.sign(), 1e9), r"a\(t\) must be finite.*overflows"),
        (lambda: PART.modes(1e-9), "leading eigenpairs"),
        (lambda: PART.modes([0.5, 0.2]), r"rtol must be one number.*above\(rtol\)"),
        (lambda: PART.condition, "needs all 3 eigenvalues, these are the 2 leading"),
        (lambda: gradient_flow(PART, F, 1.0), "gram must have all 3 eigenpairs, got the 2 leading"),
        (lambda: gradient_flow(G, F, -1.0), "t must be finite and ≥ 0, got -1"),
        (lambda: gradient_flow(G, F, math.inf), "t must be finite"),
        (
            lambda: gradient_flow(G, F[None], 1.0),
            r"f must have shape \(3,\), as G has, got \(1, 3\)",
        ),
        (lambda: gradient_flow(G, F, 1.0, F * math.nan), "a0 must be finite"),
        (lambda: cutoff_frequency(0.0, 1), r"eps must lie in \(0, 1\), got 0.0"),
        (lambda: cutoff_frequency(math.nan, 1), "eps must lie in"),
        (lambda: cutoff_frequency(0.1, 0), "dim must be an integer ≥ 1, got 0"),
        (lambda: cutoff_frequency(0.1, math.inf), "dim must be an integer"),
        (lambda: cutoff_frequency(0.1, 1, -1.0), "constant must be positive and finite, got -1"),
        (lambda: cutoff_frequency(0.1, 1, math.nan), "constant must be positive.*nan"),
        (lambda: cutoff_frequency(0.1, 1, math.inf), "constant must be positive.*inf"),
    ],
)
def test_what_cannot_be_filtered_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: gram_spectrum(G.int()), "gram must be a float32 or float64 tensor, got.*int32"),
        (lambda: gram_spectrum(G.half()), "gram must be a float32 or float64"),
        (lambda: gram_spectrum(G.to(torch.complex128)), "gram must be.*complex128"),
        (lambda: gram_spectrum(G.numpy()), r"gram must be.*got array\("),
        (lambda: truncated_solve(G, F.float()), "f must share dtype and device.*float32.*float64"),
        (lambda: truncated_solve(G, F.to("meta")), "f must share dtype and device.*meta"),
        (lambda: truncated_solve(G, F.tolist()), "f must be a tensor, got list"),
        (lambda: gradient_flow(G, F, 1.0, F.float()), "a0 must share dtype and device with G"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused_in_words(call, words):
    with pytest.raises(TypeError, match=words):
        call()
