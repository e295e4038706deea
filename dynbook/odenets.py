"""Residual networks as differential equations: a layer is a step of length h.

The interface, for layers ℓ = 1 … L of width n (leading dimensions b after L are an ensemble)::

    residual_field(K, b)                  y ↦ φ(Ky + b), one layer: K (*b, n, n), b (*b, n)
    residual_layers(K, b, h)              [y ↦ y + hφ(K_ℓ y + b_ℓ)]: K (L, *b, n, n), b (L, *b, n)
    antisymmetric(M, damping)             ½(M − Mᵀ) − γI, a K for the two above
    hamiltonian_field(K1, b1, K2, b2)     x = (y, z) ↦ (K1ᵀφ(K1 z + b1), −K2ᵀφ(K2 y + b2))
    leapfrog_layers(K1, b1, K2, b2, h)    its leapfrog steps: K (L, *b, m, n), b (L, *b, m)
    hamiltonian(x, K1, b1, K2, b2)        the energy that the field conserves, for φ = tanh

Fields go into :func:`dynbook.maps.euler` and :func:`dynbook.maps.rk4`, lists of layers into
:func:`dynbook.lyapunov.lyapunov_spectrum` and :func:`dynbook.ftle.ftle`. Gradients flow to K and b.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from dynbook.domains import kind
from dynbook.maps import Map, can_be_called, euler


def residual_field(
    K: Float[Tensor, "*b n n"], b: Float[Tensor, "*b n"], phi: Map = torch.tanh
) -> Map:
    """The right-hand side y ↦ φ(Ky + b) of one layer :cite:p:`haber2018`.

    Parameters
    ----------
    K : Tensor (n, n) or (…, n, n)
        Weights. One matrix takes states (..., n), as a batch of data; with leading dimensions, an
        ensemble of networks, each takes the state at its place.
    b : Tensor (n,) or (…, n)
        Biases, with the leading dimensions of K.
    phi : callable
        Activation φ, for each coordinate.

    Raises
    ------
    TypeError, ValueError
        If weights or biases are no real tensors of one dtype, their shapes do not fit, or phi
        cannot be called.
    """
    _weights(K=K, b=b)
    if K.shape[-1] != K.shape[-2]:
        raise ValueError(f"K must be square, so that a layer keeps its width, got {_shape(K)}")
    can_be_called("phi", phi)

    def field(y: Tensor) -> Tensor:
        if y.shape[-1:] != K.shape[-1:]:
            raise ValueError(
                f"y must have {K.shape[-1]} numbers for weights {_shape(K)}, got {_shape(y)}"
            )
        return phi(_times(K, y) + b)

    return field


def residual_layers(
    K: Float[Tensor, "L *b n n"],
    b: Float[Tensor, "L *b n"],
    h: float | Tensor,
    phi: Map = torch.tanh,
) -> list[Map]:
    """The layers y ↦ y + hφ(K_ℓ y + b_ℓ) of a residual network: Euler steps of length h.

    Parameters
    ----------
    K, b : Tensor (L, n, n) and (L, n), or (L, …, n, n) and (L, …, n)
        Weights and biases; :func:`residual_field` says what the dimensions after L mean.
    h : float or Tensor
        Step, as dt of :func:`dynbook.maps.euler`.
    phi : callable
        Activation.

    Raises
    ------
    TypeError, ValueError
        As :func:`residual_field` and :func:`dynbook.maps.euler`; or if there is no layer.
    """
    _layered(K=K, b=b)
    return [euler(residual_field(*layer, phi), h) for layer in zip(K, b, strict=True)]


def antisymmetric(M: Float[Tensor, "*b n n"], damping: float | Tensor = 0.0) -> Tensor:
    """½(M − Mᵀ) − γI: every eigenvalue has real part −γ :cite:p:`haber2018`.

    Parameters
    ----------
    M : Tensor (…, n, n)
        Any square matrices; n (n − 1)/2 numbers of each count.
    damping : float or Tensor
        γ ≥ 0 in units of 1/time, one for all or broadcast against the matrices, (V, 1, 1); taken
        in the dtype of M.

    Raises
    ------
    TypeError, ValueError
        If M is no tensor of square matrices, or the damping is not a real number ≥ 0.
    """
    if not isinstance(M, Tensor) or not M.is_floating_point():
        raise TypeError(f"M must be a real floating-point tensor, got {kind(M)}")
    if M.ndim < 2 or M.shape[-1] != M.shape[-2]:
        raise ValueError(f"M must hold square matrices (..., n, n), got {_shape(M)}")
    if not isinstance(damping, (Real, Tensor)) or torch.is_complex(torch.as_tensor(damping)):
        raise TypeError(f"damping must be a real number or tensor, got {kind(damping)}")
    damping = torch.as_tensor(damping, dtype=M.dtype, device=M.device)
    if not (good := (damping >= 0) & (damping < math.inf)).all():
        raise ValueError(f"damping must be finite and not negative, got {damping[~good][0].item()}")
    return (M - M.mT) / 2 - damping * torch.eye(M.shape[-1]).to(M)


def hamiltonian_field(
    K1: Float[Tensor, "*b m n"],
    b1: Float[Tensor, "*b m"],
    K2: Float[Tensor, "*b k n"],
    b2: Float[Tensor, "*b k"],
    phi: Map = torch.tanh,
) -> Map:
    """x = (y, z) ↦ (K1ᵀφ(K1 z + b1), −K2ᵀφ(K2 y + b2)), one layer :cite:p:`chang2018`.

    It is Hamilton's equation of the energy Σ Φ(K1 z + b1) + Σ Φ(K2 y + b2), Φ' = φ.

    Parameters
    ----------
    K1, b1, K2, b2 : Tensor (m, n), (m,), (k, n), (k,), or with leading dimensions
        Weights and biases; leading dimensions are an ensemble, as for :func:`residual_field`.
    phi : callable
        Activation.

    Raises
    ------
    TypeError, ValueError
        If weights or biases are no real tensors of one dtype, their shapes do not fit, or phi
        cannot be called; and, when it is called, if the state has not 2n numbers.
    """
    drift, kick = _halves(K1, b1, K2, b2, phi)

    def field(x: Tensor) -> Tensor:
        y, z = _halved(x, K1)
        return torch.cat([drift(z), kick(y)], -1)

    return field


def leapfrog_layers(
    K1: Float[Tensor, "L *b m n"],
    b1: Float[Tensor, "L *b m"],
    K2: Float[Tensor, "L *b k n"],
    b2: Float[Tensor, "L *b k"],
    h: float | Tensor,
    phi: Map = torch.tanh,
) -> list[Map]:
    """The layers of a Hamiltonian network on x = (y, z): kick, drift, kick :cite:p:`chang2018`.

    z½ = z − h/2 K2ᵀφ(K2 y + b2), y' = y + h K1ᵀφ(K1 z½ + b1), z' = z½ − h/2 K2ᵀφ(K2 y' + b2).
    Each layer is symplectic, and the one with −h undoes it: the way back is
    ``leapfrog_layers(K1.flip(0), b1.flip(0), K2.flip(0), b2.flip(0), -h)``.

    Parameters
    ----------
    K1, b1, K2, b2 : Tensor (L, m, n), (L, m), (L, k, n), (L, k), or with dimensions after L
        Weights and biases, as for :func:`hamiltonian_field`.
    h : float or Tensor
        Step, finite and not zero; one for all or broadcast against y.
    phi : callable
        Activation.

    Raises
    ------
    TypeError, ValueError
        As :func:`hamiltonian_field`; if there is no layer, or h is zero or not finite.
    """
    _layered(K1=K1, b1=b1, K2=K2, b2=b2)
    euler(lambda x: x, h)  # refuses steps that are none

    def layer(K1: Tensor, b1: Tensor, K2: Tensor, b2: Tensor) -> Map:
        drift, kick = _halves(K1, b1, K2, b2, phi)

        def step(x: Tensor) -> Tensor:
            y, z = _halved(x, K1)
            z = z + h / 2 * kick(y)
            y = y + h * drift(z)
            return torch.cat([y, z + h / 2 * kick(y)], -1)

        return step

    return [layer(*weights) for weights in zip(K1, b1, K2, b2, strict=True)]


def hamiltonian(
    x: Float[Tensor, "*b d"],
    K1: Float[Tensor, "*b m n"],
    b1: Float[Tensor, "*b m"],
    K2: Float[Tensor, "*b k n"],
    b2: Float[Tensor, "*b k"],
) -> Float[Tensor, "*b"]:
    """H(y, z) = Σ ln cosh(K1 z + b1) + Σ ln cosh(K2 y + b2), the energy for φ = tanh.

    Each summand has a rounding error of about that of ln 2, however small it is itself.
    Parameters and errors are those of :func:`hamiltonian_field`, with x = (y, z) of 2n numbers.
    """
    _halves(K1, b1, K2, b2, torch.tanh)
    y, z = _halved(x, K1)
    return _ln_cosh(_times(K1, z) + b1).sum(-1) + _ln_cosh(_times(K2, y) + b2).sum(-1)


def _halves(K1: Tensor, b1: Tensor, K2: Tensor, b2: Tensor, phi: Map) -> tuple[Map, Map]:
    """dy/dt as a function of z, and dz/dt as one of y."""
    _weights(K1=K1, b1=b1)
    _weights(K2=K2, b2=b2)
    if K1.shape[-1] != K2.shape[-1] or K1.dtype != K2.dtype:
        raise ValueError(
            "K1 and K2 must act on as many coordinates, in one dtype: z moves y and y moves z; got "
            f"{_shape(K1)} {K1.dtype} and {_shape(K2)} {K2.dtype}"
        )
    can_be_called("phi", phi)
    return (
        lambda z: _times(K1.mT, phi(_times(K1, z) + b1)),
        lambda y: -_times(K2.mT, phi(_times(K2, y) + b2)),
    )


def _halved(x: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape[-1] != 2 * K.shape[-1]:
        raise ValueError(
            f"x must be (y, z), {2 * K.shape[-1]} numbers for weights {_shape(K)}, got {_shape(x)}"
        )
    return x.chunk(2, -1)


def _times(K: Tensor, y: Tensor) -> Tensor:
    """Ky: one matrix for all states, or a matrix for each."""
    return y @ K.mT if K.ndim == 2 else (K @ y[..., None])[..., 0]


def _ln_cosh(a: Tensor) -> Tensor:
    return torch.logaddexp(a, -a) - math.log(2)  # smooth at 0, and large where cosh overflows


def _weights(**named: Tensor) -> None:
    """Refuses weights and biases that do not belong together."""
    (weight, K), (bias, b) = named.items()
    for name, value in named.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise TypeError(f"{name} must be a real floating-point tensor, got {kind(value)}")
    if K.dtype != b.dtype:
        raise TypeError(f"{weight} and {bias} must have one dtype, got {K.dtype} and {b.dtype}")
    if K.ndim < 2 or b.shape != K.shape[:-1]:
        raise ValueError(
            f"{weight} must hold matrices (..., m, n) and {bias} a number for each row, (..., m); "
            f"got {_shape(K)} and {_shape(b)}"
        )


def _layered(**named: Tensor) -> None:
    """Refuses weights without layers, or with different numbers of them."""
    for name, value in named.items():
        if not isinstance(value, Tensor) or value.ndim < 2 + name.startswith("K"):
            got = _shape(value) if isinstance(value, Tensor) else kind(value)
            rest = "m, n" if name.startswith("K") else "m"
            raise ValueError(f"{name} must be (L, ..., {rest}), a layer for each row, got {got}")
    counts = {name: len(value) for name, value in named.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise ValueError(f"there must be as many layers everywhere, at least one, got {counts}")


def _shape(x: Tensor) -> str:
    return f"shape {tuple(x.shape)}"
