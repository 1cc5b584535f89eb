"""Leaf area, absorbed radiation and canopy chlorophyll: decoded embeddings next to the published networks.

The networks are those of ESA's toolbox SNAP (`biophysical_networks`). They read the reflectance of one clear date; the
model reads the series around it. Canopy chlorophyll is leaf area times leaf chlorophyll (ug per cm2 of ground); the
model decodes the two apart. `_7` and `_32` are the dimensions decoded, `_networks` the networks.

Simulated: unseen landscapes, one of each climate, with known truth, pixels with soil and plants on clear dates. **The
model learned its traits on landscapes of the same simulator, with the same definitions; the networks did not**: it is
at home here. The definitions differ: absorbed radiation is that of green leaves by Beer's law in the simulator, of the
green canopy at 10 in the morning in the networks; leaf area is the true one here, an effective one there.

- `simulated_VARIABLE_r2`, `_rmse`, `_bias`: of the pooled pixel-dates; `_r`, their correlation, does not depend on a
  definition's scale. Only pixel-dates inside the networks' domain count, for all three.
- `simulated_VARIABLE_valid`: the share of pixel-dates that is inside.

Real sites (BE-2 and RO-NRT by default, places of report: nothing is chosen on them): agreement of the two, without any
truth. **It does not say which of them is right.** Dates without haze (`haze`).

- `SITE_VARIABLE_r`, `_slope`, `_bias`: correlation, least-squares slope of ours on the networks', and mean of ours
  minus theirs, over all pixel-dates; `_valid` as above.
- `SITE_VARIABLE_space_r`: correlation after each date's mean is removed; `_time_r`: after each pixel's mean is removed.
- `SITE_not_run`: what the networks lack at a site where they cannot be run. RO-NRT has neither four of their bands nor
  angles. Where a site has them, the sun and view angles are those of its file, one per date.

20 m bands are repeated on the 10 m grid, so the networks read pixels of 10 m with the other bands of 20 m.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from biophysical_networks import NETWORK_BANDS, BiophysicalNetwork, angle_cosines
from biophysics_probes import LandscapeSample
from common import parser, report
from embedded_site import DATES_AT_ONCE, OPTICAL, EmbeddedSite, haze_free
from estimate_agreement import agreement, scores
from thalweg.earth.model.context import SAME_DAY, days_since_epoch
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import sensor_by_name
from thalweg.simulate import simulate
from unseen_landscapes import UNSEEN

SIZES = (7, 32)
LANDSCAPE_SIZE = 48
LANDSCAPES = UNSEEN[:6]
NETWORKS = {"lai": "LAI", "fapar": "FAPAR", "canopy_chlorophyll": "LAI_Cab"}
ANGLES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")


@dataclass(frozen=True)
class Estimates:
    """Estimates of a place, (T, H, W) by variable.

    Attributes:
        networks: of the published networks, NaN outside of their domain.
        decoded: of the model, by number of dimensions.
    """

    networks: dict[str, NDArray]
    decoded: dict[int, dict[str, NDArray]]

    @classmethod
    def of(cls, here: EmbeddedSite, folder: Path) -> "Estimates":
        """Return the estimates of an embedded site that lies in a folder, NaN where it was not clear."""
        decoded = {size: decoded_variables(here, size) for size in SIZES}
        return cls(network_variables(here, folder), decoded)


def missing_inputs(here: EmbeddedSite, folder: Path) -> list[str]:
    """Return the bands and angles that the networks need and a site lacks."""
    present = here.site.contexts[OPTICAL].present.tolist()
    bands = [name for name, is_present in zip(sensor_by_name(OPTICAL).band_names, present, strict=True) if is_present]
    with xr.open_dataset(folder / "s2.nc") as scenes:
        return [name for name in NETWORK_BANDS if name not in bands] + [name for name in ANGLES if name not in scenes]


def network_variables(here: EmbeddedSite, folder: Path) -> dict[str, NDArray]:
    """Return the networks' estimates (T, H, W) by variable, NaN where not clear or outside of their domain."""
    sensor = sensor_by_name(OPTICAL)
    values, valid, _ = here.nearest(OPTICAL)
    reflectance = sensor.unscale(values.numpy())[:, [sensor.band_names.index(name) for name in NETWORK_BANDS]]
    cosines = date_cosines(folder, here.days.numpy())[:, None, None]
    bands = np.moveaxis(reflectance, 1, -1)
    inputs = np.concatenate([bands, np.broadcast_to(cosines, (*bands.shape[:-1], cosines.shape[-1]))], -1)
    clear = valid[:, 0].numpy() > 0
    return {
        name: np.where(clear, BiophysicalNetwork.load(network).estimate(inputs), np.nan)
        for name, network in NETWORKS.items()
    }


def date_cosines(folder: Path, days: NDArray) -> NDArray:
    """Return the cosines of the angles (T, 3) of a site's overpasses on days (T,)."""
    with xr.open_dataset(folder / "s2.nc") as scenes:
        distance = np.abs(days[:, None] - days_since_epoch(scenes.time.values)[None])
        if (distance.min(1) >= SAME_DAY).any():
            raise SystemExit(f"{folder / 's2.nc'}: dates without an overpass: expected the file that was embedded")
        return angle_cosines(*(scenes[name].values[distance.argmin(1)] for name in ANGLES))


def decoded_variables(here: EmbeddedSite, size: int) -> dict[str, NDArray]:
    """Return the estimates (T, H, W) by variable that the model decodes from the first `size` dimensions."""
    with torch.inference_mode():
        traits = {
            name: torch.cat([here.model.decode_trait(some, name, size)[0] for some in here.values.split(DATES_AT_ONCE)])
            for name in ("lai", "fapar", "chlorophyll")
        }
    leaf_area, absorbed, chlorophyll = (found.double().numpy() for found in traits.values())
    return {"lai": leaf_area, "fapar": absorbed, "canopy_chlorophyll": leaf_area * chlorophyll}


def simulated_scores(model: EarthModel) -> dict[str, float]:
    """Return the scores against the truth of the unseen landscapes, all pixel-dates pooled."""
    parts: list[dict[str, NDArray]] = []
    for seed, climate in LANDSCAPES:
        landscape = simulate(seed=seed, size=LANDSCAPE_SIZE, climate=climate)  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as scratch:
            folder = landscape.write(Path(scratch) / "landscape")
            here = EmbeddedSite.load(folder, model)
            sample = LandscapeSample.draw(here.site, landscape.truth)
            found = Estimates.of(here, folder)
        truth = sample.truth | {"canopy_chlorophyll": sample.truth["lai"] * sample.truth["chlorophyll"]}
        columns = {f"truth_{name}": truth[name] for name in NETWORKS}
        for suffix, by_name in [("networks", found.networks), *found.decoded.items()]:
            columns |= {f"{suffix}_{name}": by_name[name].ravel()[sample.pixels] for name in NETWORKS}
        parts.append(columns)
    pooled = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    results = {}
    for name in NETWORKS:
        valid = np.isfinite(pooled[f"networks_{name}"])
        results[f"simulated_{name}_valid"] = float(valid.mean())
        for suffix in (*SIZES, "networks"):
            found_scores = scores(pooled[f"{suffix}_{name}"][valid], pooled[f"truth_{name}"][valid])
            results |= {f"simulated_{name}_{key}_{suffix}": value for key, value in found_scores.items()}
    return results


def site_agreement(folder: Path, model: EarthModel) -> dict[str, float | str]:
    """Return the agreement of the model with the networks at a real site."""
    prefix = folder.name.lower().replace("-", "")
    here = EmbeddedSite.load(folder, model)
    missing = missing_inputs(here, folder)
    if missing:
        print(f"{folder.name}: the networks cannot be run, it lacks {', '.join(missing)}")
        return {f"{prefix}_not_run": ", ".join(missing)}
    kept = haze_free(here.site)
    found = Estimates.of(here, folder)
    results: dict[str, float | str] = {f"{prefix}_dates": int(kept.sum())}
    for name in NETWORKS:
        theirs = found.networks[name][kept]
        results[f"{prefix}_{name}_valid"] = float(np.isfinite(theirs).sum() / clear_pixels(here)[kept].sum())
        for size in SIZES:
            figures = agreement(found.decoded[size][name][kept], theirs)
            results |= {f"{prefix}_{name}_{key}_{size}": value for key, value in figures.items()}
    return results


def clear_pixels(here: EmbeddedSite) -> NDArray[np.bool_]:
    """Return which pixel-dates (T, H, W) are clear."""
    return np.asarray(here.nearest(OPTICAL)[1][:, 0].numpy() > 0)


def main() -> None:
    takes = parser(__doc__)
    takes.add_argument("--sites", nargs="*", default=["BE-2", "RO-NRT"], help="real sites, folders in --data")
    options = takes.parse_args()
    torch.set_num_threads(1)
    model = EarthModel.load(options.model)
    results: dict[str, float | str] = {"model": model.identifier} | simulated_scores(model)
    for name in options.sites:
        results |= site_agreement(options.data / name, model)
    report(results, options.json)


if __name__ == "__main__":
    main()
