"""Agreement of counterfactuals with physics: leaf area raised by one, on landscapes with known truth.

For pixel-dates of simulated landscapes: the minimal perturbation of the embedding that raises the leaf area that the
model decodes from it by 1 m2 m-2, and the decoded bands before and after. It is compared with the simulator's own
physics: the same leaves, soil, sun and view with the present leaf area and with 1 m2 m-2 more, through PROSAIL
(Sentinel-2). Where nearly all changes of a band have one sign, agreement of sign is no evidence: size and correlation
are scored too.

Fixed before the first run on these landscapes:

- none of the six landscapes trained the shipped weights (seeds 2000 to 2239), nor was anything chosen on them (that was
  done on `--first-seed 5101`);
- the distribution, and so the region of plausible results, is that of the measured landscape's own embeddings, as in
  `thalweg earth whatif`;
- pixels of a single unit (share of 0.99 or more) that has plants, green leaf area of 0.5 m2 m-2 or more, clear on the
  date; the same number from each landscape, drawn at random from all dates; none is left out for its result;
- a sign counts where physics changes the band by more than the standard deviation of the simulated pixel's noise
  (0.0012 + 0.012 of its reflectance); slopes and correlations are over all pixel-dates.

change_slope: decoded change over physical change, least squares through zero, all bands together.
change_correlation: correlation of the decoded with the physical change over pixel-dates, mean over the ten bands.
slope_B02 ..., correlation_B02 ...: the same by band.
slope_sparse, slope_medium, slope_dense: change_slope where the true leaf area is below 1.5, up to 3, and above.
band_sign_agreement: share of the counted bands whose decoded change has the sign of the physical one.
always_majority: baseline, the score of each band's more frequent sign.
agreement_B02 ...: sign by band; counted_B02 ...: the share of pixel-dates in which the band counts.
plausible_share: results inside the 95 % region of the landscape's real embeddings.
plausible_share_unbounded: the same for the minimal perturbation without bounds.
reached_share: results whose decoded leaf area is one more, to 0.01.
leaf_area_r2: of the decoded leaf area, on the pixel-dates measured.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from change_agreement import change_agreement
from common import parser, report
from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.quantities import quantity_by_name
from thalweg.earth.counterfactual.solver import minimal_perturbation
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.simulate import Climate, Landscape, simulate
from thalweg.simulate.land.heterogeneity import vigour
from thalweg.simulate.land.land_cover import is_surface, trait
from thalweg.simulate.land.vegetation import Growth
from thalweg.simulate.landscape import simulate_site
from thalweg.simulate.observations.overpasses import OpticalOverpasses
from thalweg.simulate.observations.site import SimulatedSite
from thalweg.simulate.radiative_transfer import optics
from thalweg.simulate.radiative_transfer.canopy import SENTINEL2

FIRST_SEED = 9101
CLIMATES: tuple[Climate, ...] = ("temperate", "continental", "mediterranean")
LANDSCAPES = 6
SIZE, YEARS = 48, 1
PIXEL_DATES = 60
LEAST_LEAF_AREA, PURE = 0.5, 0.99
LEVEL = 0.95
CANOPIES = {"sparse": (0.0, 1.5), "medium": (1.5, 3.0), "dense": (3.0, np.inf)}
"""True leaf area, from and below, of the pixel-dates whose slope is also given."""


@dataclass(frozen=True)
class Ground:
    """Landscape, the site it was simulated from, and its embeddings."""

    site: SimulatedSite
    landscape: Landscape
    embedded: xr.Dataset
    seed: int

    @classmethod
    def of(cls, seed: int, climate: Climate, model: EarthModel) -> "Ground":
        """Simulate a landscape and embed it with all 32 dimensions."""
        landscape = simulate(seed=seed, size=SIZE, years=YEARS, climate=climate)
        with tempfile.TemporaryDirectory() as scratch:
            embedded = embed(landscape.write(Path(scratch) / "landscape"), model, 32)
        return cls(simulate_site(seed, SIZE, YEARS, climate), landscape, embedded, seed)

    def samples(self, count: int) -> "Samples":
        """Draw vegetated pixel-dates."""
        shares = self.site.parcels.shares.tocsr()
        purest = np.asarray(shares.max(axis=1).todense()).ravel()
        units = np.asarray(shares.argmax(axis=1)).ravel()
        unvegetated = is_surface(self.site.parcels.surfaces[units], "roof", "asphalt", "water")
        pure = (purest >= PURE) & ~unvegetated
        passes = pd.DatetimeIndex(self.landscape.sentinel2.time.values)
        dates = passes.get_indexer(pd.DatetimeIndex(self.embedded.time.values))
        leaf_area = self.landscape.truth.lai.values[dates].reshape(len(dates), -1)
        vectors = np.moveaxis(self.embedded.embeddings.values, 1, -1).reshape(len(dates), -1, 32)
        usable = pure & (leaf_area >= LEAST_LEAF_AREA) & np.isfinite(vectors).all(-1)
        chosen = np.random.default_rng(self.seed).permutation(np.argwhere(usable))[:count]
        date, pixel = chosen.T
        return Samples(dates[date], pixel, units[pixel], vectors[date, pixel], leaf_area[date, pixel])


@dataclass(frozen=True)
class Samples:
    """Pixel-dates (n): index of the pass, flat pixel, unit, embedding (n, 32) and true leaf area."""

    passes: NDArray
    pixels: NDArray
    units: NDArray
    vectors: NDArray
    leaf_area: NDArray


def physical_change(ground: Ground, samples: Samples) -> tuple[NDArray, NDArray]:
    """Reflectance (n, band) before, and its change with 1 m2 m-2 of leaf area more, by the simulator's physics."""
    before, after = np.zeros((2, len(samples.pixels), len(SENTINEL2.names)))
    for index in np.unique(samples.passes):
        here = samples.passes == index
        units, pixels = samples.units[here], samples.pixels[here]
        before[here] = reflectance(ground, int(index), units, pixels, 0.0)
        after[here] = reflectance(ground, int(index), units, pixels, 1.0)
    return before, after - before


def reflectance(ground: Ground, index: int, units: NDArray, pixels: NDArray, more: float) -> NDArray:
    """(n, band) of pixels that are each of one unit, on the pass `index`, with `more` leaf area than at present."""
    site, scene = ground.site, ground.landscape.sentinel2.isel(time=[index])
    names = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")
    overpasses = OpticalOverpasses(
        pd.DatetimeIndex(scene.time.values), *(scene[name].values.astype(float) for name in names)
    )
    state = site.growth.on(site.days(overpasses.times))
    growth = Growth(**{name: values[:, units] for name, values in vars(state).items()})
    surfaces, stress = site.parcels.surfaces[units], growth.stress[0]
    deviation = np.clip(vigour(site.heterogeneity, stress, pixels), -2.5, 2.5)
    growth = replace(growth, lai=growth.lai + more / np.exp(trait("variation", surfaces) * deviation))
    responses = optics.unit_responses(
        site.climate, SENTINEL2, surfaces, site.brightness[units], site.turbidity[units], growth, overpasses.views()
    )
    return np.einsum("nk,nkb->nb", optics.polynomial_terms(site.heterogeneity, stress, pixels), responses[0])


@dataclass(frozen=True)
class Changes:
    """Results of pixel-dates (n): the decoded change (n, band), and whether each is plausible and reached."""

    decoded: NDArray
    plausible: NDArray
    reached: NDArray


def change(model: EarthModel, samples: Samples, distribution: EmbeddingDistribution, level: float | None) -> Changes:
    """Raise the leaf area of every pixel-date by one, and decode before and after."""
    quantity = quantity_by_name("lai", model)

    def measure(embeddings: torch.Tensor) -> torch.Tensor:
        return quantity.evaluate(embeddings)[:, None, 0, 0]

    goals = decoded_leaf_area(model, samples) + 1.0
    found = [
        minimal_perturbation(distribution, vector, measure, np.array([goal]), np.array([quantity.tolerance]), level)
        for vector, goal in zip(samples.vectors, goals, strict=True)
    ]
    with torch.inference_mode():
        before, after = (
            model.decode(torch.from_numpy(vectors)[..., None, None], "sentinel-2")[..., 0, 0].numpy()
            for vectors in (samples.vectors, np.stack([one.vector for one in found]))
        )
    plausible, reached = (np.array([getattr(one, name) for one in found]) for name in ("plausible", "reached"))
    return Changes(after - before, plausible, reached)


def decoded_leaf_area(model: EarthModel, samples: Samples) -> NDArray:
    """Return the leaf area (n,) that the model decodes, as counterfactuals measure it."""
    with torch.inference_mode():
        leaf_area = quantity_by_name("lai", model).evaluate(torch.from_numpy(samples.vectors)[..., None, None])
    return np.asarray(leaf_area[:, 0, 0].double().numpy())


def main() -> None:
    takes = parser(__doc__)
    takes.add_argument("--first-seed", type=int, default=FIRST_SEED, help="seed of the first of six landscapes")
    options = takes.parse_args()
    torch.set_num_threads(1)
    model = EarthModel.load(options.model)
    physics, noise, leaf_area, read, bounded, unbounded = [], [], [], [], [], []
    for index in range(LANDSCAPES):
        ground = Ground.of(options.first_seed + index, CLIMATES[index % len(CLIMATES)], model)
        samples = ground.samples(PIXEL_DATES)
        distribution = EmbeddingDistribution.of(ground.embedded)
        before, physical = physical_change(ground, samples)
        physics.append(physical)
        noise.append(optics.NOISE + optics.RELATIVE_NOISE * before)
        leaf_area.append(samples.leaf_area)
        read.append(decoded_leaf_area(model, samples))
        bounded.append(change(model, samples, distribution, LEVEL))
        unbounded.append(change(model, samples, distribution, None))
    physical, counted = np.concatenate(physics), np.abs(np.concatenate(physics)) > np.concatenate(noise)
    changed = np.concatenate([one.decoded for one in bounded])
    agree = np.sign(changed) == np.sign(physical)
    rises = ((physical > 0) & counted).sum(0)
    majority = float(np.maximum(rises, counted.sum(0) - rises).sum() / counted.sum())
    truth, guess = np.concatenate(leaf_area), np.concatenate(read)
    slope, by_band = change_agreement(changed, physical)
    results: dict[str, float | int | str] = {
        "model": model.identifier,
        "change_slope": slope,
        "change_correlation": float(np.mean([one.correlation for one in by_band])),
        "band_sign_agreement": float(agree[counted].mean()),
        "always_majority": majority,
        "plausible_share": float(np.concatenate([one.plausible for one in bounded]).mean()),
        "reached_share": float(np.concatenate([one.reached for one in bounded]).mean()),
        "plausible_share_unbounded": float(np.concatenate([one.plausible for one in unbounded]).mean()),
        "counted_share": float(counted.mean()),
        "pixel_dates": len(truth),
        "leaf_area_r2": float(1 - np.square(guess - truth).mean() / truth.var()),
    }
    for name, (low, high) in CANOPIES.items():
        inside = (truth >= low) & (truth < high)
        results[f"slope_{name}"] = change_agreement(changed[inside], physical[inside])[0]
    print(f"sign: {results['band_sign_agreement']:.3f}, always the majority's sign: {majority:.3f}")
    for name, band, own, use in zip(SENTINEL2.names, by_band, agree.T, counted.T, strict=True):
        results |= {f"slope_{name}": band.slope, f"correlation_{name}": band.correlation}
        results[f"counted_{name}"] = float(use.mean())
        if use.any():
            results[f"agreement_{name}"] = float(own[use].mean())
    report(results, options.json)


if __name__ == "__main__":
    main()
