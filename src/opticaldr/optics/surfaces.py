"""Surfaces of the plate: a frozen description with a differentiable height h(parameters, x, y) [m].

A height is found in two steps, so that callers can keep what never changes:
    prepare(x, y)                    what depends on position alone (float64, cached by the caller)
    evaluate(parameters, prepared)   the height, differentiable in the parameters
Parameters are dimensionless and of order 1: one unit moves the surface by about a micrometre.
Height is extra thickness of the plate, so a lens that gathers light has negative curvature.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from opticaldr.optics.zernike import Normalisation, noll_index, zernike_basis
from opticaldr.types import InputError

MICROMETRE = 1e-6
MARGIN = 1.05
"""Nets of control heights span this many radii: pupil cells on the edge have centres outside."""
Prepared = tuple["Tensor | Prepared", ...]


class Surface(ABC):
    """One shape of the plate; x and y are pupil coordinates [m], any shape, (0, 0) on the axis."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of parameters."""

    @property
    @abstractmethod
    def feature_m(self) -> float:
        """Length over which the slope can change [m]; a pupil grid needs four samples in it."""

    @abstractmethod
    def prepare(self, x: Tensor, y: Tensor) -> Prepared:
        """Everything of the height that depends on position alone."""

    @abstractmethod
    def evaluate(self, parameters: Tensor, prepared: Prepared) -> Tensor:
        """Height [m] at the prepared positions, in their shape."""

    @abstractmethod
    def like_parabola(self, curvature_per_m: float) -> tuple[float, ...]:
        """Parameters of h = curvature r^2 / 2 up to a constant, as near as the surface comes."""

    def height(self, parameters: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Height [m] at (x, y) [m]; parameters: (count,)."""
        self.check_count(parameters)
        return self.evaluate(
            parameters,
            cast(self.prepare(x.double(), y.double()), parameters.device, parameters.dtype),
        )

    def check_count(self, parameters: Tensor) -> None:
        """InputError unless there is one number per parameter."""
        if parameters.shape != (self.count,):
            raise InputError(
                f"Expected {self.count} parameters for {self}, found shape "
                f"{tuple(parameters.shape)}; give one number per parameter."
            )


def cast(prepared: Prepared, device: torch.device, dtype: torch.dtype) -> Prepared:
    """The same tree on another device, its real numbers in another precision."""
    return tuple(
        cast(part, device, dtype)
        if isinstance(part, tuple)
        else part.to(device, dtype if part.is_floating_point() else part.dtype)
        for part in prepared
    )


class LinearSurface(Surface):
    """h = unit sum_j p_j B_j(x, y) with few functions B_j, all kept."""

    @abstractmethod
    def basis(self, x: Tensor, y: Tensor) -> Tensor:
        """B_j at (x, y), (count, ...) [um]."""

    def prepare(self, x: Tensor, y: Tensor) -> Prepared:
        return (self.basis(x, y),)

    def evaluate(self, parameters: Tensor, prepared: Prepared) -> Tensor:
        return torch.tensordot(parameters * MICROMETRE, prepared[0], dims=1)


@dataclass(frozen=True)
class ZernikeSurface(LinearSurface):
    """Noll terms 1..terms; p_j [um]. radius_m: where rho = 1."""

    terms: int
    radius_m: float
    normalisation: Normalisation = "noll"

    @property
    def count(self) -> int:
        return self.terms

    @property
    def feature_m(self) -> float:
        return self.radius_m / max(1, noll_index(self.terms)[0])

    def basis(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = x / self.radius_m, y / self.radius_m
        return zernike_basis(self.terms, x, y, normalisation=self.normalisation)

    def like_parabola(self, curvature_per_m: float) -> tuple[float, ...]:
        if self.terms < 4:
            raise InputError(
                f"Expected at least 4 Zernike terms (the fourth is defocus), found {self.terms}; "
                "give more coefficients."
            )
        z4 = curvature_per_m * self.radius_m**2 / 4 / MICROMETRE
        if self.normalisation == "noll":
            z4 /= math.sqrt(3)
        return tuple(z4 if j == 3 else 0.0 for j in range(self.terms))


@dataclass(frozen=True)
class EvenAsphere(Surface):
    """h = c r^2 / (1 + sqrt(1 - p_2 c^2 r^2)) + sum_i p_(2+i) (r/R)^(2i+2) um,   i = 1..terms.

    c = curvature_per_m + 2 (p_1 - 1) um / R^2: p_1 = 1 gives the base curvature [1/m] and one unit
    more lifts the rim by 1 um. p_2 = 1 + conic constant: 1 is a sphere, 0 a parabola. The further
    parameters are heights at the rim [um]. radius_m: R.
    """

    terms: int
    radius_m: float
    curvature_per_m: float

    @property
    def count(self) -> int:
        return 2 + self.terms

    @property
    def feature_m(self) -> float:
        return self.radius_m / (self.terms + 1)

    def prepare(self, x: Tensor, y: Tensor) -> Prepared:
        return (x**2 + y**2,)

    def evaluate(self, parameters: Tensor, prepared: Prepared) -> Tensor:
        (r2,) = prepared
        curvature = self.curvature_per_m + 2 * MICROMETRE / self.radius_m**2 * (parameters[0] - 1)
        # past its equator a conic has no height: stay just inside, where it is still finite
        root = (1 - parameters[1] * curvature**2 * r2).clamp_min(1e-4).sqrt()
        rho2 = r2 / self.radius_m**2
        rim = torch.zeros_like(r2)
        for parameter in parameters[2:].flip(0):  # Horner: p_3 rho^4 + p_4 rho^6 + ...
            rim = (rim + parameter) * rho2
        return curvature * r2 / (1 + root) + MICROMETRE * rim * rho2

    def like_parabola(self, curvature_per_m: float) -> tuple[float, ...]:
        change = (curvature_per_m - self.curvature_per_m) * self.radius_m**2 / (2 * MICROMETRE)
        return (1 + change, 0.0, *(0.0,) * self.terms)


def cubic_b_spline(t: Tensor) -> Tensor:
    """Uniform cubic B-spline at t knot spacings from its centre [1]; 0 beyond 2."""
    t = t.abs()
    near = 2 / 3 - t**2 + t**3 / 2
    far = (2 - t).clamp_min(0) ** 3 / 6
    return torch.where(t < 1, near, far)


@dataclass(frozen=True)
class RadialSpline(LinearSurface):
    """Cubic B-spline in r with `controls` control heights [um], mirrored at the axis (h'(0) = 0)."""

    controls: int
    radius_m: float

    def __post_init__(self) -> None:
        if self.controls < 4:
            raise InputError(
                f"Expected at least 4 control heights for a radial spline, found {self.controls}; "
                "give surface.size = 4 or more."
            )

    @property
    def count(self) -> int:
        return self.controls

    @property
    def feature_m(self) -> float:
        return MARGIN * self.radius_m / (self.controls - 2)

    def basis(self, x: Tensor, y: Tensor) -> Tensor:
        t = (torch.hypot(x, y) / self.feature_m).clamp_max(self.controls - 2)
        return torch.stack(
            [cubic_b_spline(t - i) + (i > 0) * cubic_b_spline(t + i) for i in range(self.controls)]
        )

    def like_parabola(self, curvature_per_m: float) -> tuple[float, ...]:
        step = self.feature_m  # control heights i^2 - 1/3 make the spline r^2 / step^2
        scale = curvature_per_m * step**2 / 2 / MICROMETRE
        return tuple(scale * (i**2 - 1 / 3) for i in range(self.controls))


class _WeightedSum(torch.autograd.Function):
    """sum_a weight[..., a] values[index[..., a]]; ten times faster than torch's own gradient."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, values: Tensor, index: Tensor, weight: Tensor
    ) -> Tensor:
        ctx.save_for_backward(index, weight)
        ctx.count = len(values)
        neighbours = index.shape[-1]
        return torch.nn.functional.embedding_bag(
            index.reshape(-1, neighbours),
            values[:, None],
            mode="sum",
            per_sample_weights=weight.reshape(-1, neighbours),
        ).view(index.shape[:-1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        index, weight = ctx.saved_tensors
        share = (weight * gradient[..., None]).reshape(-1)
        return gradient.new_zeros(ctx.count).scatter_add_(0, index.reshape(-1), share), None, None


@dataclass(frozen=True)
class FreeForm(Surface):
    """Bicubic B-spline over a square of side x side control heights [um], rows = +y downwards.

    The net spans MARGIN radius_m on each side of the axis and one knot more.
    """

    side: int
    radius_m: float

    def __post_init__(self) -> None:
        if not isinstance(self.side, int) or self.side < 4:
            raise InputError(
                f"Expected a square net of at least 4 x 4 control heights, found a side of "
                f"{self.side}; give surface.size = 4 or more."
            )

    @property
    def count(self) -> int:
        return self.side**2

    @property
    def feature_m(self) -> float:
        return 2 * MARGIN * self.radius_m / (self.side - 3)

    def prepare(self, x: Tensor, y: Tensor) -> Prepared:
        """Index into the net and weight of the sixteen neighbours, (..., 16) each."""
        first, weights = [], []
        for position in (y, x):
            knots = (position / self.feature_m + (self.side - 3) / 2).clamp(0, self.side - 3)
            cell = knots.floor().clamp_max(self.side - 4)
            first.append(cell.long())
            offsets = torch.arange(-1, 3, dtype=knots.dtype, device=knots.device)
            weights.append(cubic_b_spline((knots - cell)[..., None] - offsets))
        step = torch.arange(4, device=x.device)
        rows, columns = first[0][..., None] + step, first[1][..., None] + step
        index = rows[..., :, None] * self.side + columns[..., None, :]
        weight = weights[0][..., :, None] * weights[1][..., None, :]
        return index.flatten(-2), weight.flatten(-2)

    def evaluate(self, parameters: Tensor, prepared: Prepared) -> Tensor:
        return _WeightedSum.apply(parameters * MICROMETRE, *prepared)

    def like_parabola(self, curvature_per_m: float) -> tuple[float, ...]:
        positions = [(i - (self.side - 1) / 2) * self.feature_m for i in range(self.side)]
        bend = 2 * self.feature_m**2 / 3  # what a B-spline adds to the controls of x^2 + y^2
        scale = curvature_per_m / 2 / MICROMETRE
        return tuple(scale * (x**2 + y**2 - bend) for y in positions for x in positions)


@dataclass(frozen=True)
class SurfaceSum(Surface):
    """Surfaces in contact: heights add; parameters stand one part after the other."""

    parts: tuple[Surface, ...]

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def feature_m(self) -> float:
        return min(part.feature_m for part in self.parts)

    def prepare(self, x: Tensor, y: Tensor) -> Prepared:
        return tuple(part.prepare(x, y) for part in self.parts)

    def evaluate(self, parameters: Tensor, prepared: Prepared) -> Tensor:
        shares = parameters.split([part.count for part in self.parts])
        heights = [
            part.evaluate(share, own)
            for part, share, own in zip(self.parts, shares, prepared, strict=True)
        ]
        return torch.stack(heights).sum(0)

    def like_parabola(self, curvature_per_m: float) -> tuple[float, ...]:
        """The first part makes the parabola, the others lie flat."""
        first, *others = self.parts
        flat = (value for part in others for value in part.like_parabola(0.0))
        return (*first.like_parabola(curvature_per_m), *flat)
