"""Parcels of a landscape: fields cut along a few directions, woods, a village, roads, a stream and a pond.

The map is drawn three times finer than the pixels. Each point belongs to a unit, which is ground with one history (a
field, a wood, all roofs of one material in a village). The signal of a pixel is a weighted mean of a few units.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from thalweg.simulate.land.land_cover import LAND_COVER_OF_SURFACE, SURFACE_INDEX
from thalweg.simulate.land.random_fields import random_field
from thalweg.simulate.weather.climates import ClimateSpec

OVERSAMPLING = 3
"""Cells of the fine map along each side of a pixel."""

PIXEL = 10.0
"""Side of a pixel in m."""

_CELL = PIXEL / OVERSAMPLING


@dataclass(frozen=True)
class Parcels:
    """Units of the ground and their shares of every pixel."""

    surfaces: NDArray[np.int64]  # (unit,) index into SURFACES
    land_cover: NDArray[np.uint8]  # (y, x) codes of LAND_COVER, by majority
    parcel_ids: NDArray[np.int32]  # (y, x) by majority, from 0
    shares: csr_matrix  # (pixel, unit) share of a pixel's signal from a unit; rows add up to 1
    parcel_shares: csr_matrix  # (parcel, unit) share of a parcel's ground; rows add up to 1

    @property
    def size(self) -> int:
        """Pixels along a side."""
        return self.land_cover.shape[0]


class _Canvas:
    """Fine map while it is drawn: the unit and the parcel of every cell, and the surface of every unit."""

    def __init__(self, side: int) -> None:
        self.unit = np.zeros((side, side), np.int64)
        self.parcel = np.zeros((side, side), np.int64)
        self.surfaces: list[int] = []
        self.parcels = 0
        rows, columns = np.mgrid[:side, :side]
        self.x, self.y = (columns + 0.5) * _CELL, (rows + 0.5) * _CELL

    def new_unit(self, surface: str) -> int:
        self.surfaces.append(SURFACE_INDEX[surface])
        return len(self.surfaces) - 1

    def new_parcel(self) -> int:
        self.parcels += 1
        return self.parcels - 1

    def paint(self, where: NDArray, surface: str) -> None:
        """Assign the cells of ``where`` to one new parcel of one new unit."""
        if where.any():
            self.unit[where] = self.new_unit(surface)
            self.parcel[where] = self.new_parcel()


def draw_parcels(rng: np.random.Generator, size: int, climate: ClimateSpec) -> Parcels:
    """Draw the parcels of a landscape.

    Args:
        rng: Source of randomness.
        size: Pixels of 10 m along each side.
        climate: Climate, which determines the size of parcels, the land cover and the crops.
    """
    canvas = _Canvas(size * OVERSAMPLING)
    extent = size * PIXEL
    bearing = rng.uniform(0, np.pi)
    roads = []
    for index in range(1 + size // 56):
        angle = bearing + (index % 2) * np.pi / 2 + rng.normal(0, 0.12)
        x, y = rng.uniform(0.15, 0.85, 2) * extent
        roads.append((np.cos(angle) * (canvas.y - y) - np.sin(angle) * (canvas.x - x), angle))

    pieces = _cut_parcels(rng, canvas, roads, climate.parcel_area)
    surfaces = _assign_surfaces(rng, canvas, pieces, roads[0][0], climate)
    village: list[NDArray] = []
    for piece, surface in zip(pieces, surfaces, strict=True):
        canvas.parcel.flat[piece] = canvas.new_parcel()
        if surface == "built_up":
            village.append(piece)
        else:
            canvas.unit.flat[piece] = canvas.new_unit(surface)
    if village:
        _build(rng, canvas, village)
    _plant_hedges(rng, canvas, 0.25 if climate.parcel_area < 30000 else 0.1)
    for distance, _ in roads:
        canvas.paint(np.abs(distance) < rng.uniform(3.0, 5.0), "asphalt")
    _draw_water(rng, canvas, extent)
    return _rasterise(canvas, size)


def _cut(rng: np.random.Generator, cells: NDArray, u: NDArray, v: NDArray, area: float) -> list[NDArray]:
    """Halve a piece of ground, given as flat cell indices, until every part has an area of about ``area`` m2."""
    done, todo = [], [cells]
    while todo:
        piece = todo.pop()
        if piece.size * _CELL**2 < area * rng.lognormal(0.35, 0.45):
            done.append(piece)
            continue
        length_u, length_v = np.ptp(u[piece]), np.ptp(v[piece])
        along_u = length_u > length_v * rng.lognormal(0, 0.35)
        main, other = (u, v) if along_u else (v, u)
        tilted = main[piece] + rng.normal(0, 0.04) * other[piece]
        below = tilted < np.quantile(tilted, rng.uniform(0.33, 0.67))
        parts = [piece[below], piece[~below]]
        if min(part.size for part in parts) < 12:
            done.append(piece)
        else:
            todo.extend(parts)
    return done


def _cut_parcels(
    rng: np.random.Generator, canvas: _Canvas, roads: list[tuple[NDArray, float]], area: float
) -> list[NDArray]:
    """Cut the ground between the roads into parcels, aligned by block to one of the roads."""
    block = sum((distance > 0).astype(int) << road for road, (distance, _) in enumerate(roads))
    pieces = []
    for number in np.unique(block):
        angle = roads[rng.integers(len(roads))][1] + rng.normal(0, 0.06)
        u = (np.cos(angle) * canvas.x + np.sin(angle) * canvas.y).ravel()
        v = (np.cos(angle) * canvas.y - np.sin(angle) * canvas.x).ravel()
        pieces += _cut(rng, np.flatnonzero(block == number), u, v, area)
    return pieces


def _assign_surfaces(
    rng: np.random.Generator, canvas: _Canvas, pieces: list[NDArray], road: NDArray, climate: ClimateSpec
) -> list[str]:
    """Choose the surface of each parcel: houses along a road, woods and meadows in clusters, crops elsewhere."""
    side = canvas.unit.shape[0]
    areas = np.array([piece.size for piece in pieces]) / side**2
    woods, conifers, meadows = (random_field(rng, side, side / 8).ravel() for _ in range(3))
    centre = rng.uniform(0.2, 0.8, 2) * side * _CELL
    distance = np.hypot(canvas.x - centre[0], canvas.y - centre[1]) + 1.5 * np.abs(road)
    surfaces: list[str | None] = [None] * len(pieces)

    def assign(score: NDArray, share: float, surface: str) -> list[int]:
        """Assign the free parcels of highest score to a surface until it has a share of the area."""
        assigned, total = [], 0.0
        for index in np.argsort(-score):
            if surfaces[index] is None and total + areas[index] / 2 < share:
                surfaces[index], total = surface, total + areas[index]
                assigned.append(int(index))
        return assigned

    def means(values: NDArray) -> NDArray:
        return np.array([values[piece].mean() for piece in pieces])

    jitter = rng.lognormal(0, 0.3, 5)
    assign(-means(distance.ravel()), climate.shares["built_up"] * jitter[0], "built_up")
    wooded = assign(
        means(woods) + 0.2 * rng.standard_normal(len(pieces)),
        climate.shares["forest"] * jitter[1],
        "broadleaf_forest",
    )
    coniferous = means(conifers)
    for index in wooded:
        if np.mean(coniferous[wooded] <= coniferous[index]) <= climate.shares["needleleaf"]:
            surfaces[index] = "needleleaf_forest"
    for index in assign(
        means(meadows) + 0.5 * rng.standard_normal(len(pieces)),
        climate.shares["grass"] * jitter[2],
        "grass_grazed",
    ):
        if rng.random() < climate.shares["mown"]:
            surfaces[index] = "grass_mown"
    assign(rng.standard_normal(len(pieces)), climate.shares["bare"] * jitter[3], "bare_soil")

    # Crops by the area that each still lacks, so that a small landscape is mixed too.
    lacking = {crop: weight * rng.lognormal(0, 0.25) for crop, weight in climate.crops.items()}
    total = sum(lacking.values())
    free = [index for index in rng.permutation(len(pieces)) if surfaces[index] is None]
    rest = sum(areas[index] for index in free)
    lacking = {crop: weight / total * rest for crop, weight in lacking.items()}
    for index in free:
        crop = max(lacking, key=lambda name: lacking[name] + 1e-9 * len(name))
        surfaces[index] = crop
        lacking[crop] -= areas[index]
    return [surface for surface in surfaces if surface is not None]


def _build(rng: np.random.Generator, canvas: _Canvas, village: list[NDArray]) -> None:
    """Divide the village into lots: roofs of several materials, gardens, streets and yards."""
    roofs = [canvas.new_unit("roof") for _ in range(6)]
    gardens = [canvas.new_unit("garden") for _ in range(3)]
    yards = [canvas.new_unit("asphalt") for _ in range(2)]
    share_roofs = rng.uniform(0.25, 0.42)
    u, v = canvas.x.ravel(), canvas.y.ravel()
    for piece in village:
        angle = rng.uniform(0, np.pi)
        lots = _cut(rng, piece, np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u, 180.0)
        for lot in lots:
            draw = rng.random()
            choices = roofs if draw < share_roofs else yards if draw < share_roofs + 0.18 else gardens
            canvas.unit.flat[lot] = choices[rng.integers(len(choices))]


def _plant_hedges(rng: np.random.Generator, canvas: _Canvas, share: float) -> None:
    """Turn ``share`` of the borders between parcels into hedges or rows of trees, about 7 m wide."""
    hedge = np.zeros(canvas.unit.shape, bool)
    with_hedge = rng.random(4096) < share
    for axis in (0, 1):
        neighbour = np.roll(canvas.parcel, 1, axis)
        low, high = np.minimum(canvas.parcel, neighbour), np.maximum(canvas.parcel, neighbour)
        border = (low != high) & with_hedge[(low * 73 + high * 151) % 4096]
        border[(0, slice(None)) if axis == 0 else (slice(None), 0)] = False
        hedge |= border | np.roll(border, -1, axis)
    if hedge.any():
        canvas.unit[hedge] = canvas.new_unit("broadleaf_forest")


def _draw_water(rng: np.random.Generator, canvas: _Canvas, extent: float) -> None:
    """Draw a meandering stream with trees on its banks and a pond."""
    angle = rng.uniform(0, 2 * np.pi)
    x, y = canvas.x - extent / 2, canvas.y - extent / 2
    along = np.cos(angle) * x + np.sin(angle) * y
    offset, wave = rng.uniform(-0.3, 0.3) * extent, rng.uniform(180, 320)
    bend = (
        offset
        + 0.12 * wave * np.sin(2 * np.pi * along / wave + rng.uniform(0, 6))
        + 0.08 * wave * np.sin(2 * np.pi * along / (2.7 * wave) + rng.uniform(0, 6))
    )
    distance = np.abs(np.cos(angle) * y - np.sin(angle) * x - bend)
    width = rng.uniform(4.0, 12.0)
    trees = random_field(rng, canvas.unit.shape[0], 12.0) > 0.2
    canvas.paint((distance < width / 2 + 10) & trees, "broadleaf_forest")
    water = distance < width / 2
    middle = rng.uniform(-0.3, 0.3) * extent
    nearest = np.unravel_index(np.argmin(distance + np.abs(along - middle)), distance.shape)
    radius = 0.5 * np.sqrt(rng.uniform(0.012, 0.03)) * extent
    shore = 1 + 0.25 * random_field(rng, canvas.unit.shape[0], 20.0)
    water |= np.hypot(canvas.x - canvas.x[nearest], canvas.y - canvas.y[nearest]) < radius * shore
    canvas.paint(water, "water")


def _rasterise(canvas: _Canvas, size: int) -> Parcels:
    """Weight the units of each pixel by a point spread function that is slightly wider than the pixel."""
    used, unit = np.unique(canvas.unit, return_inverse=True)
    unit = unit.reshape(canvas.unit.shape)
    surfaces = np.array(canvas.surfaces)[used]
    _, parcel = np.unique(canvas.parcel, return_inverse=True)
    parcel = parcel.reshape(canvas.parcel.shape)

    reach = OVERSAMPLING // 2 + 1
    steps = np.arange(-reach, reach + 1)
    # Close to Sentinel-2's modulation transfer: 0.2 to 0.3 at the Nyquist frequency (ESA L1C data quality).
    spread = np.exp(-0.5 * (steps / (0.42 * OVERSAMPLING)) ** 2)
    centres = np.arange(size) * OVERSAMPLING + OVERSAMPLING // 2
    pixels = np.arange(size * size).reshape(size, size)
    rows, columns, weights = [], [], []
    for dy, wy in zip(steps, spread, strict=True):
        for dx, wx in zip(steps, spread, strict=True):
            at = np.ix_(np.clip(centres + dy, 0, unit.shape[0] - 1), np.clip(centres + dx, 0, unit.shape[1] - 1))
            rows.append(pixels.ravel())
            columns.append(unit[at].ravel())
            weights.append(np.full(size * size, wx * wy))
    shares = csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), (size * size, len(surfaces))
    )
    shares.sum_duplicates()
    shares = csr_matrix(shares.multiply(1 / shares.sum(axis=1)))

    by_class = np.stack([shares @ (LAND_COVER_OF_SURFACE[surfaces] == code) for code in range(14)])
    counts = csr_matrix((np.ones(unit.size), (parcel.ravel(), unit.ravel())), (parcel.max() + 1, len(surfaces)))
    blocks = parcel.reshape(size, OVERSAMPLING, size, OVERSAMPLING).swapaxes(1, 2).reshape(size, size, -1)
    votes = (blocks[..., :, None] == blocks[..., None, :]).sum(-1)
    majority = np.take_along_axis(blocks, votes.argmax(-1)[..., None], -1)[..., 0]
    return Parcels(
        surfaces=surfaces,
        land_cover=by_class.argmax(0).reshape(size, size).astype(np.uint8),
        parcel_ids=majority.astype(np.int32),
        shares=shares,
        parcel_shares=csr_matrix(counts.multiply(1 / counts.sum(axis=1))),
    )
