"""Spatial and temporal detail that an embedding keeps of single dates, next to a principal component analysis.

Linear probes are fitted to BE-1, the one training site with a red and a near infrared band on every overpass, and
applied to BE-2, RO-NRT and unseen simulated landscapes. BE-2 and RO-NRT are places of report: nothing is chosen on
them. The quantities are NDVI; B11 (keys with `b11_`); and VV of the nearest radar date in dB, noise and speckle
included (keys with `vv_`; not at RO-NRT, which has no radar).

gain: slope of the probe's high-pass values on the observed ones; 1 keeps all detail, 0 none.
r: their correlation.
space: minus the 5 x 5 mean, where all 25 pixels are clear.
time: minus the linear interpolation of the pixel's previous and next clear dates, at most 40 days apart.
transfer: gain of single wavelengths (20, 40 and 80 m) on dates that are clear everywhere, simulated.
event share: share of the fall of NDVI at a mowing or a harvest shown on the first clear date after it, simulated.

The baseline (`_pca`) has as many components of the centre date's bands and its nearest radar date as the small
embedding has dimensions, fitted to BE-1 with the bands of the tested site; RO-NRT has six bands and no radar. Only
dates without haze count (`haze`).
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from sklearn.linear_model import LinearRegression

from common import arguments, report
from embedded_site import OPTICAL, RADAR, EmbeddedSite, haze_free
from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.indices import index_band_numbers, spectral_index
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import sensor_by_name
from thalweg.simulate import simulate
from unseen_landscapes import UNSEEN

MAX_INTERVAL_DAYS = 40.0
SPATIAL_WINDOW = 5
SIZES = (7, 32)
LANDSCAPES = UNSEEN[:4]
INFIXES = {"ndvi": "", "b11": "b11_", "vv": "vv_"}
"""Part of the keys of each quantity, before the size."""

WAVELENGTHS = (20.0, 40.0, 80.0)
MIN_LAI_FALL, MAX_EVENT_DAYS = 1.5, 20.0
PIXEL_STRIDE = 7


class ObservedSite:
    """Embeddings and observations of a site on its dates without haze.

    Attributes:
        days: (T,), days since 2015-01-01.
        clear: (T, H, W), bool.
        observed: (T, H, W) by quantity, those of `INFIXES` that the site has; NaN where not clear.
        embeddings: (T, H, W, 32).
        centre: (T, H, W, C), present bands of the date, then the nearest radar date's.
    """

    def __init__(self, folder: Path, model: EarthModel) -> None:
        here = EmbeddedSite.load(folder, model)
        optical = sensor_by_name(OPTICAL)
        target, valid, _ = here.nearest(OPTICAL)
        kept = haze_free(here.site)
        self.days, self.clear = here.days.numpy()[kept], valid[:, 0].numpy()[kept] > 0
        bands = {name: target[:, number].numpy()[kept] for name, number in index_band_numbers(optical).items()}
        with np.errstate(invalid="ignore", divide="ignore"):
            self.observed = {"ndvi": np.where(self.clear, spectral_index("NDVI", bands), np.nan)}
        self.present = here.site.contexts[OPTICAL].present.numpy()
        swir = optical.band_names.index("B11")
        if self.present[swir]:
            self.observed["b11"] = np.where(self.clear, target[:, swir].numpy()[kept], np.nan)
        self.embeddings = here.values.movedim(1, -1).numpy()[kept]
        columns = [target[:, torch.from_numpy(self.present)]]
        self.has_radar = RADAR in here.site.contexts
        if self.has_radar:
            radar, radar_valid, _ = here.nearest(RADAR)
            columns.append(radar)
            backscatter = sensor_by_name(RADAR).unscale(radar[:, 0].numpy())[kept]
            self.observed["vv"] = np.where(self.clear & (radar_valid[:, 0].numpy()[kept] > 0), backscatter, np.nan)
        self.centre = torch.cat(columns, 1).movedim(1, -1).numpy()[kept]

    @property
    def ndvi(self) -> NDArray:
        """Observed NDVI (T, H, W); NaN where not clear."""
        return self.observed["ndvi"]

    def like(self, other: "ObservedSite") -> NDArray:
        """Return the centre (T, H, W, C) with those columns only that another site has too."""
        columns = other.present[self.present]
        radar = np.full(self.centre.shape[-1] - len(columns), other.has_radar)
        return self.centre[..., np.concatenate([columns, radar])]


def spatial_detail(values: NDArray, clear: NDArray[np.bool_]) -> NDArray:
    """Return values (T, H, W) minus their 5 x 5 mean; NaN where not all 25 pixels are clear."""
    size = (1, SPATIAL_WINDOW, SPATIAL_WINDOW)
    complete = uniform_filter(clear.astype(float), size, mode="constant") > 1 - 1e-6
    filled = np.where(clear, values, 0.0)
    return np.where(complete, filled - uniform_filter(filled, size, mode="constant"), np.nan)


def temporal_detail(values: NDArray, clear: NDArray[np.bool_], days: NDArray) -> NDArray:
    """Return values (T, H, W) minus the interpolation between each pixel's clear dates before and after them."""
    detail = np.full(values.shape, np.nan)
    dates = np.arange(len(days))[:, None, None]
    before = np.maximum.accumulate(np.where(clear, dates, -1), 0)
    after = np.minimum.accumulate(np.where(clear, dates, len(days))[::-1], 0)[::-1]
    for date in range(1, len(days) - 1):
        first, last = before[date - 1], after[date + 1]
        usable = clear[date] & (first >= 0) & (last < len(days))
        first, last = np.where(usable, first, 0), np.where(usable, last, len(days) - 1)
        interval = days[last] - days[first]
        usable &= interval <= MAX_INTERVAL_DAYS
        share = (days[date] - days[first]) / interval
        start, end = (np.take_along_axis(values, index[None], 0)[0] for index in (first, last))
        detail[date] = np.where(usable, values[date] - (1 - share) * start - share * end, np.nan)
    return detail


def gain_and_correlation(predicted: NDArray, observed: NDArray) -> tuple[float, float]:
    """Return the slope of predicted on observed high-pass values, and their correlation, where both are finite."""
    both = np.isfinite(predicted) & np.isfinite(observed)
    x, y = observed[both] - observed[both].mean(), predicted[both] - predicted[both].mean()
    return float((x * y).sum() / (x**2).sum()), float((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))


def probe(train: ObservedSite, train_features: NDArray, features: NDArray, quantity: str = "ndvi") -> NDArray:
    """Fit a linear probe to a site's features (T, H, W, K) and return its predictions (T, H, W) elsewhere."""
    truth = train.observed[quantity]
    usable = np.isfinite(truth)
    fitted = LinearRegression().fit(train_features[usable][::PIXEL_STRIDE], truth[usable][::PIXEL_STRIDE])
    predicted: NDArray = fitted.predict(features.reshape(-1, features.shape[-1])).reshape(features.shape[:-1])
    return predicted


def detail_figures(train: ObservedSite, site: ObservedSite, prefix: str) -> dict[str, float]:
    """Return gain and correlation in space and time for all quantities, both sizes and the principal components."""
    features = {str(size): (train.embeddings[..., :size], site.embeddings[..., :size]) for size in SIZES}
    train_centre, centre = train.like(site), site.like(train)
    pca = PrincipalComponents.fit(train_centre[train.clear][::PIXEL_STRIDE], min(SIZES[0], centre.shape[-1]))
    features["pca"] = ((train_centre - pca.mean) @ pca.axes.T, (centre - pca.mean) @ pca.axes.T)
    results: dict[str, float] = {}
    for quantity, observed in site.observed.items():
        seen = np.isfinite(observed)
        space, time = spatial_detail(observed, seen), temporal_detail(observed, seen, site.days)
        for suffix, (train_features, own_features) in features.items():
            predicted = probe(train, train_features, own_features, quantity)
            for name, detail, filtered in (
                ("space", space, spatial_detail(predicted, seen)),
                ("time", time, temporal_detail(predicted, seen, site.days)),
            ):
                gain, correlation = gain_and_correlation(filtered, detail)
                results[f"{prefix}_{name}_gain_{INFIXES[quantity]}{suffix}"] = gain
                results[f"{prefix}_{name}_r_{INFIXES[quantity]}{suffix}"] = correlation
    return results


def transfer(predicted: NDArray, observed: NDArray) -> dict[float, tuple[float, float]]:
    """Return the cross power and the power of images (T, H, W) around single wavelengths, summed over the images."""
    frequency = np.fft.fftfreq(observed.shape[-1], 10.0)
    radius = np.hypot(frequency[:, None], frequency[None])
    spectra = [np.fft.fft2(images - images.mean((1, 2), keepdims=True)) for images in (predicted, observed)]
    powers = {}
    for wavelength in WAVELENGTHS:
        ring = np.abs(np.log2(radius.clip(min=1e-9) * wavelength)) < 0.25
        cross = (spectra[0] * spectra[1].conj()).real[:, ring].sum()
        powers[wavelength] = (float(cross), float((np.abs(spectra[1]) ** 2)[:, ring].sum()))
    return powers


def event_falls(site: ObservedSite, predicted: NDArray, lai: NDArray) -> tuple[float, float]:
    """Return the sums of predicted and observed falls of NDVI where leaf area (T, H, W) falls between two dates."""
    falls = [0.0, 0.0]
    for date in range(1, len(site.days)):
        if site.days[date] - site.days[date - 1] > MAX_EVENT_DAYS:
            continue
        event = site.clear[date] & site.clear[date - 1] & (lai[date - 1] - lai[date] > MIN_LAI_FALL)
        for index, values in enumerate((predicted, site.ndvi)):
            falls[index] += float((values[date - 1] - values[date])[event].sum())
    return falls[0], falls[1]


def simulated_figures(train: ObservedSite, model: EarthModel) -> dict[str, float]:
    """Return the transfer of single wavelengths and the share of events, over unseen landscapes."""
    powers: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed, climate in LANDSCAPES:
            folder = Path(scratch) / str(seed)
            simulate(seed=seed, size=64, climate=climate).write(folder)  # type: ignore[arg-type]
            site = ObservedSite(folder, model)
            with xr.open_dataset(folder / "truth.nc", engine="h5netcdf") as truth:
                days = (truth.time.values - np.datetime64("2015-01-01")) / np.timedelta64(1, "D")
                lai = truth.lai.values[np.abs(days[None] - site.days[:, None]).argmin(1)]
            everywhere = site.clear.all((1, 2))
            for size in SIZES:
                predicted = probe(train, train.embeddings[..., :size], site.embeddings[..., :size])
                powers.setdefault(f"event_share_first_date_{size}", []).append(event_falls(site, predicted, lai))
                if everywhere.any():
                    found = transfer(predicted[everywhere], site.ndvi[everywhere])
                    for wavelength, power in found.items():
                        powers.setdefault(f"simulated_transfer_{wavelength:.0f}m_{size}", []).append(power)
    return {name: sum(p for p, _ in pairs) / sum(o for _, o in pairs) for name, pairs in powers.items()}


def main() -> None:
    options = arguments(__doc__)
    if not (options.data / "BE-2").is_dir():
        raise SystemExit(f"no real sites in {options.data}: name their folder with --data")
    model = EarthModel.load(options.model)
    train = ObservedSite(options.data / "BE-1", model)
    results: dict[str, float | str] = {"model": model.identifier}
    for prefix, name in (("be2", "BE-2"), ("ro", "RO-NRT")):
        results.update(detail_figures(train, ObservedSite(options.data / name, model), prefix))
    results.update(simulated_figures(train, model))
    report(results, options.json)


if __name__ == "__main__":
    main()
