"""Where does energy go in a convolutional network that throws nothing away? Modulus networks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from dynbook.domains import cpu_generator, finite, kind, whole

#: Most numbers in one layer of the whole tree; beyond, :func:`sampled_energy` walks down it.
LARGEST = 2**26


def wavelet_frame(
    n: int, octaves: int, *, dtype: torch.dtype = torch.float64
) -> Complex[Tensor, "K n"]:
    """Analytic wavelets, one per octave, each of twice the width of the one before.

    In s = log₂ of the frequency every filter is a window cos(π(s − s_k)/2), |s − s_k| ≤ 1, centred
    at n/2^octaves, …, n/4, n/2 periods per signal; the low pass takes what is below.

    Parameters
    ----------
    n : int
        Length of a signal, even; a signal is periodic.
    octaves : int
        Number of wavelets, with 2^(octaves + 1) ≤ n.
    dtype : torch.dtype
        float32 or float64, that of the signals.

    Returns
    -------
    Tensor (1 + octaves, n), complex
        Fourier transforms of the filters, the low pass first, then from low to high.

    Raises
    ------
    ValueError
        If n is odd or below 4, octaves are below 1 or too many for n, or the dtype is another.
    """
    half = _half(n)
    octaves = whole("octaves", octaves, most=int(math.log2(half)))
    scale = octaves + torch.log2(torch.arange(half + 1).double() / half)  # −∞ at frequency 0
    return _frame(_windows(scale.clamp(min=0), octaves + 1), dtype)


def gabor_frame(
    n: int, channels: int, *, dtype: torch.dtype = torch.float64
) -> Complex[Tensor, "K n"]:
    """Windows of one width, evenly spaced in frequency (Gabor, or Weyl–Heisenberg, filters).

    cos(π(s − k)/2), |s − k| ≤ 1, with s the frequency in units of n/2/channels.

    Parameters
    ----------
    n, dtype
        As in :func:`wavelet_frame`.
    channels : int
        Number of filters besides the low pass, at most n/2.

    Returns
    -------
    Tensor (1 + channels, n), complex

    Raises
    ------
    ValueError
        If n is odd or below 4, channels are below 1 or too many for n, or the dtype is another.
    """
    half = _half(n)
    channels = whole("channels", channels, most=half)
    return _frame(_windows(torch.arange(half + 1).double() * channels / half, channels + 1), dtype)


def random_frame(
    n: int, channels: int, generator: torch.Generator, *, dtype: torch.dtype = torch.float64
) -> Complex[Tensor, "K n"]:
    """Random analytic filters: complex Gaussian at each positive frequency, made tight.

    The low pass is the mean, frequency 0 alone.

    Parameters
    ----------
    n, channels, dtype
        As in :func:`gabor_frame`; any number of channels.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor (1 + channels, n), complex

    Raises
    ------
    ValueError, TypeError
        If n is odd or below 4, channels are below 1, the dtype is another, or the generator is
        none on the CPU.
    """
    half, channels = _half(n), whole("channels", channels)
    profile = torch.zeros(1 + channels, half + 1, dtype=torch.complex128)
    profile[0, 0] = 1
    profile[1:, 1:] = torch.randn(
        channels, half, dtype=torch.complex128, generator=cpu_generator(generator)
    )
    return _frame(profile, dtype)


def scattering_layer(
    filters: Complex[Tensor, "K n"], u: Float[Tensor, "*b n"]
) -> tuple[Float[Tensor, "*b n"], Float[Tensor, "*b K-1 n"]]:
    """What leaves the network, u ∗ χ, and what goes on, |u ∗ ψ_k| of every other filter.

    If the filters are a tight frame, ‖u‖² = ‖u ∗ χ‖² + Σ_k ‖u ∗ ψ_k‖²
    :cite:p:`wiatowski2018`.

    Parameters
    ----------
    filters : Tensor (K, n), complex
        Fourier transforms, low pass first, as from :func:`wavelet_frame`.
    u : Tensor (…, n)
        Real signals, float32 or float64, at least one.

    Raises
    ------
    TypeError, ValueError
        If filters or signals are of another kind or do not fit, or there is no signal.
    """
    _fitting(filters, u)
    spectra = torch.fft.fft(u)
    low = torch.fft.ifft(spectra * filters[0]).real
    return low, torch.fft.ifft(spectra[..., None, :] * filters[1:]).abs()


def scatter(
    filters: Complex[Tensor, "K n"], x: Float[Tensor, " n"], depth: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The whole tree of a modulus network, layer by layer.

    Parameters
    ----------
    filters : Tensor (K, n), complex
        A tight frame with a real low pass.
    x : Tensor (n,)
        A real signal.
    depth : int
        Number of layers.

    Yields
    ------
    out, on : Tensor (paths, n), (paths · (K − 1), n)
        For layers 1, …, depth: the signals that leave, and those that go on. The energy of x is
        that of all that has left and of what goes on.

    Raises
    ------
    TypeError, ValueError
        At the first layer, as :func:`scattering_layer`; or if the filters are no tight frame or
        their low pass is not real, x is no vector or not finite, or the last layer would hold more
        than 2²⁶ numbers.
    """
    _checked(filters, x)
    depth, channels = whole("depth", depth), len(filters) - 1
    if math.log2(len(x)) + depth * math.log2(channels) > math.log2(LARGEST):
        raise ValueError(
            f"{channels} channels have {channels}^{depth} paths, too many for a signal of "
            f"{x.shape[-1]} numbers: take fewer layers, or sampled_energy, which samples paths"
        )
    on = x[None]
    for _ in range(depth):
        out, on = scattering_layer(filters, on)
        on = on.flatten(0, 1)
        yield out, on


def remaining_energy(
    filters: Complex[Tensor, "K n"], x: Float[Tensor, " n"], depth: int
) -> Float[Tensor, " depth+1"]:
    """W_m/‖x‖², the share of the energy that goes on after m = 0, 1, …, depth layers.

    Parameters and errors are those of :func:`scatter`; and x may not be zero.
    """
    x = _unit(filters, x)
    energies = [on.square().sum() for _, on in scatter(filters, x, depth)]
    return torch.stack([x.square().sum(), *energies]) / x.square().sum()


def sampled_energy(
    filters: Complex[Tensor, "K n"],
    x: Float[Tensor, " n"],
    depth: int,
    walkers: int,
    generator: torch.Generator,
) -> Float[Tensor, "walkers depth+1"]:
    """Unbiased samples of :func:`remaining_energy`, at a cost that grows with depth, not K^depth.

    A walker goes down the tree; at each branching it takes one of the paths with a chance
    proportional to its energy. The product of the shares of energy that went on where it passed
    has the mean W_m/‖x‖², over walkers.

    Parameters
    ----------
    filters, x, depth
        As in :func:`scatter`, for any depth.
    walkers : int
        Number of independent samples.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor (walkers, depth + 1)

    Raises
    ------
    TypeError, ValueError
        As :func:`remaining_energy`; or if walkers or the generator are of the wrong kind.
    """
    x = _unit(filters, x)
    depth, walkers = whole("depth", depth), whole("walkers", walkers)
    cpu_generator(generator)
    u, row = x.expand(walkers, -1), torch.arange(walkers, device=x.device)
    shares = [x.new_ones(walkers)]
    for _ in range(depth):
        _, on = scattering_layer(filters, u)
        energy = on.square().sum(-1)
        whole_energy = u.square().sum(-1)
        shares.append(shares[-1] * energy.sum(-1) / whole_energy.where(whole_energy > 0, 1))
        chance = energy.where(energy.sum(-1, keepdim=True) > 0, 1)  # nothing goes on: any path
        chance = (chance / chance.sum(-1, keepdim=True)).cpu()
        taken = torch.multinomial(chance, 1, generator=generator)[:, 0].to(x.device)
        u = on[row, taken]
    return torch.stack(shares, 1)


def frame_defect(filters: Complex[Tensor, "K n"]) -> Float[Tensor, " n"]:
    """Σ_k ½(|ψ̂_k(ω)|² + |ψ̂_k(−ω)|²) − 1: zero at all n frequencies if the frame is tight.

    On real signals, that is: their spectra are as large at −ω as at ω.

    Parameters
    ----------
    filters : Tensor (K, n), complex
        Fourier transforms.

    Raises
    ------
    TypeError, ValueError
        If they are of another kind or shape.
    """
    _filters(filters)
    power = filters.abs().square().sum(0)
    return (power + power.roll(-1).flip(0)) / 2 - 1


def _windows(s: Tensor, count: int) -> Tensor:
    """cos(π(s − k)/2) on |s − k| ≤ 1 for k = 0, …, count − 1: at each s two squares, sum 1."""
    return (math.pi / 2 * (s - torch.arange(count)[:, None]).abs().clamp(max=1)).cos()


def _frame(profile: Tensor, dtype: torch.dtype) -> Tensor:
    """Filters from their values at frequencies 0, …, n/2: a real low pass, the others analytic."""
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    profile = profile / profile.abs().square().sum(0).sqrt()
    half = profile.shape[1] - 1
    filters = torch.zeros(len(profile), 2 * half, dtype=torch.complex128)
    filters[:, : half + 1] = profile
    filters[1:, 1:half] *= math.sqrt(2)  # for the negative frequencies, where they vanish
    filters[0, half + 1 :] = filters[0, 1:half].flip(0)
    return filters.to(dtype.to_complex())


def _half(n: int) -> int:
    n = whole("n", n, least=4)
    if n % 2:
        raise ValueError(f"n must be even, got {n}")
    return n // 2


def _filters(filters: Tensor) -> None:
    if not isinstance(filters, Tensor) or not filters.is_complex():
        raise TypeError(f"filters must be a complex tensor, got {kind(filters)}")
    if filters.ndim != 2 or len(filters) < 2:
        raise ValueError(
            "filters must be (K, n), a low pass and at least one more, got shape "
            f"{tuple(filters.shape)}"
        )


def _fitting(filters: Tensor, u: Tensor) -> None:
    _filters(filters)
    if not isinstance(u, Tensor) or u.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"the signal must be a float32 or float64 tensor, got {kind(u)}")
    if u.shape[-1:] != filters.shape[1:] or not u.numel():
        raise ValueError(
            "signals must be (..., n), at least one, for filters (K, n); got shapes "
            f"{tuple(u.shape)} and {tuple(filters.shape)}"
        )


def _unit(filters: Tensor, x: Tensor) -> Tensor:
    """x at the scale of 1, where squares neither overflow nor vanish: the network does not mind."""
    _checked(filters, x)
    if not x.any():
        raise ValueError("x must not be zero: it has no energy to share")
    return x / x.abs().max()


def _checked(filters: Tensor, x: Tensor) -> None:
    """Refuses what would make energy appear or vanish unseen."""
    _fitting(filters, x)
    if x.ndim != 1:
        raise ValueError(f"x must be one signal (n,), got shape {tuple(x.shape)}")
    finite("x", x)
    defect, allowed = frame_defect(filters).abs(), 1e3 * torch.finfo(x.dtype).eps
    if not defect.max() < allowed:
        at = int(defect.argmax())
        raise ValueError(
            "filters must be a tight frame, so that no energy is lost unseen, but the sum of "
            f"½(|ψ̂(ω)|² + |ψ̂(−ω)|²) differs from 1 by {defect[at]:.1e} at frequency {at}"
        )
    skew = (filters[0] - filters[0].roll(-1).flip(0).conj()).abs().max()
    if not skew < allowed:
        raise ValueError(
            "filters[0], the low pass, must make real signals of real ones, χ̂(−ω) = χ̂(ω)*, or "
            f"energy is lost with imaginary parts; got values that differ by {skew:.1e}"
        )
