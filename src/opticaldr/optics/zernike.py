"""Zernike polynomials in Noll order: the surface of the lens.

Noll, J. Opt. Soc. Am. 66, 207 (1976): even j carries cos(m t), odd j carries sin(m t).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.types import InputError

Normalisation = Literal["noll", "peak"]


def noll_index(j: int) -> tuple[int, int]:
    """Radial order n and azimuthal order m of Noll index j (m < 0: sine term).

    j = 1..4: (0, 0), (1, 1), (1, -1), (2, 0).
    """
    if j < 1:
        raise InputError(f"Expected a Noll index of at least 1, found {j}; Noll counts from 1.")
    n = (math.isqrt(8 * j - 7) - 1) // 2
    position = j - n * (n + 1) // 2 - 1  # 0-based position within the radial order
    m = 2 * ((position + 1) // 2) if n % 2 == 0 else 2 * (position // 2) + 1
    return n, m if j % 2 == 0 else -m


def radial_over_power(n: int, m: int, rho2: Tensor) -> Tensor:
    """R_n^m(rho) / rho^m as a polynomial in rho^2, any shape; m >= 0.

    R_n^m(rho) = sum_s (-1)^s (n-s)! / (s! ((n+m)/2-s)! ((n-m)/2-s)!) rho^(n-2s)
    """
    half = (n - m) // 2
    total = torch.zeros_like(rho2)
    for s in range(half + 1):  # Horner, highest power of rho^2 first
        weight = math.factorial(n - s) // (
            math.factorial(s) * math.factorial((n + m) // 2 - s) * math.factorial(half - s)
        )
        total = total * rho2 + (-1) ** s * weight
    return total


def harmonic(m: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """rho^m cos(m t) and rho^m sin(m t): real and imaginary part of (x + i y)^m."""
    cosine, sine = torch.ones_like(x), torch.zeros_like(x)
    for _ in range(m):
        cosine, sine = cosine * x - sine * y, cosine * y + sine * x
    return cosine, sine


def zernike(j: int, x: Tensor, y: Tensor, *, normalisation: Normalisation = "noll") -> Tensor:
    """Z_j at (x, y) in units of the normalisation radius [1]; defined outside the disc too.

    Z_j = N R_n^|m|(rho) cos(m t) for even j, N R_n^|m|(rho) sin(|m| t) for odd j, with
    N = sqrt(n+1) for m = 0 and sqrt(2(n+1)) otherwise ("noll": mean square 1 over the disc),
    or N = 1 ("peak": largest value 1, so that Z4 = 2 rho^2 - 1).
    """
    n, m = noll_index(j)
    cosine, sine = harmonic(abs(m), x, y)
    norm = 1.0
    if normalisation == "noll":
        norm = math.sqrt(n + 1) if m == 0 else math.sqrt(2 * (n + 1))
    return norm * radial_over_power(n, abs(m), x**2 + y**2) * (cosine if m >= 0 else sine)


def zernike_basis(
    terms: int, x: Tensor, y: Tensor, *, normalisation: Normalisation = "noll"
) -> Float[Tensor, "terms h w"]:
    """Z_1 .. Z_terms stacked, at coordinates x, y (h, w) in normalisation radii [1]."""
    return torch.stack([zernike(j, x, y, normalisation=normalisation) for j in range(1, terms + 1)])
