"""From files in the cloud to one date's numbers on the grid, faults of servers waited out."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.mosaics import Mosaic
from thalweg.earth.stac.client import RetryPolicy
from thalweg.earth.stac.encoding import StorageEncoding, layer_codes, storage_encoding_of
from thalweg.earth.stac.request import PIXEL
from thalweg.earth.stac.scenes import Overpass, Scene
from thalweg.earth.stac.sentinel1_grd import sigma_nought, text_reader
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.redaction import public_cause, redact

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

BANDS_AT_ONCE = 6
"""Files read side by side: reading waits for the server, not for the processor."""

_SERVER_FAULT = re.compile(
    r"HTTP response code:? ?(429|5\d\d)|response_code=(0|429|5\d\d)|timed? ?out|could ?n[o']t connect|"
    r"connection|resolve host|empty reply|recv failure|ssl",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"HTTP response code:? ?40[13]|access ?denied|credentials|forbidden", re.IGNORECASE)


class UnreadableError(Exception):
    """A scene's file can not be read: it is damaged, missing or forbidden."""


@dataclass
class Loader:
    """Reads dates onto a grid.

    Attributes:
        grid: the grid.
        sign: makes an href readable, where the catalogue needs that.
        options: GDAL options of the catalogue.
        read_text: reads a small file at an address.
        patience: how often a server is asked again.
        skipped: item -> why it could not be read; filled while reading.
        tell: called with one line for each item skipped.
        has_read: whether any scene was read: a first refusal is told from a single forbidden file.
    """

    grid: "GeoBox"
    sign: Callable[[str], str] | None
    options: Mapping[str, str]
    read_text: Callable[[str], str]
    patience: RetryPolicy
    tell: Callable[[str], None]
    skipped: dict[str, str] = field(default_factory=dict)
    has_read: bool = False

    def read(self, date: Overpass, rows: slice, columns: slice) -> tuple[dict[str, np.ndarray], list[Scene]]:
        """Stored numbers (rows, columns) of each band and layer of a date in a window; the scenes they are of.

        Scenes are laid under one another in their order: a pixel takes all its bands from the first scene that
        has any there. A scene that can not be read is skipped, and `skipped` says why.

        Raises:
            ThalwegError: the server does not answer, however often it is asked.
        """
        sensor = date.scenes[0].sensor
        window = self.grid[rows, columns]
        shape = (int(window.shape[0]), int(window.shape[1]))
        coding = storage_encoding_of(sensor)
        layer = sensor.validity.variable if sensor.validity else None
        empty = {name: np.full(shape, coding.fill, coding.dtype) for name in sensor.band_names}
        if layer is not None:
            empty[layer] = layer_codes(layer).empty(shape)
        mosaic = Mosaic(empty)
        used = []
        for scene in date.scenes:
            if scene.name in self.skipped or mosaic.is_full:
                continue
            try:
                with _quiet():
                    numbers = self._scene(scene, window, coding)
            except UnreadableError as error:
                self.skipped[scene.name] = str(error)
                self.tell(f"{scene.name}: skipped, {error}")
                continue
            self.has_read = True
            has = np.zeros(shape, bool)
            for name in set(sensor.band_names) & set(numbers):
                has |= numbers[name] != coding.fill
            if mosaic.add(numbers, has):
                used.append(scene)
        return mosaic.numbers, used

    def _scene(self, scene: Scene, window: "GeoBox", coding: StorageEncoding) -> dict[str, np.ndarray]:
        """Stored numbers of the bands and layers that a scene has."""
        bands = set(scene.sensor.band_names)

        def one(name: str) -> np.ndarray:
            raw = self._numbers(scene, name, window)
            if name not in bands:
                return layer_codes(name).stored(raw)
            if scene.sensor.units == "dB":
                return coding.stored_power(raw)
            return coding.stored(raw, scene.nodata(name) or 0.0, *scene.scale_and_offset(name))

        with ThreadPoolExecutor(BANDS_AT_ONCE) as pool:
            return dict(zip(scene.assets, pool.map(one, scene.assets), strict=True))

    def _numbers(self, scene: Scene, band: str, window: "GeoBox") -> np.ndarray:
        """One band's numbers as its file has them; what can not be read is told apart from who does not answer."""
        options = {**self.options, **self._http}
        try:
            if scene.product.level == "digital numbers":
                return sigma_nought(scene, band, window, self.sign, options, text_reader(self.read_text, self.options))
            return _read_band(scene, band, window, self.sign, options)
        except UsageError:
            raise
        except Exception as error:  # rasterio's and GDAL's many kinds
            reason = _reason(error)
            if _REFUSED.search(reason) and not self.has_read:
                raise ThalwegError(
                    f"{redact(scene.assets[band].href)}: the server refuses to give it ({reason[:120]}): "
                    "check the credentials"
                ) from public_cause(error)
            if not _SERVER_FAULT.search(reason):
                raise UnreadableError(f"{band} can not be read ({reason[:120]})") from public_cause(error)
            raise ThalwegError(
                f"{redact(scene.assets[band].href)}: no answer after {self.patience.attempts} attempts "
                f"({reason[:120]}): the same command goes on where this one stopped"
            ) from public_cause(error)

    @property
    def _http(self) -> dict[str, str]:
        """GDAL asks again by itself, with a delay that doubles."""
        return {
            "GDAL_HTTP_MAX_RETRY": str(self.patience.attempts - 1),
            "GDAL_HTTP_RETRY_DELAY": f"{self.patience.delay:g}",
            "GDAL_HTTP_TIMEOUT": f"{self.patience.timeout:g}",
            "GDAL_HTTP_CONNECTTIMEOUT": f"{self.patience.timeout:g}",
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/",  # else a fault is remembered as the file's absence
        }


def _read_band(
    scene: Scene, band: str, window: "GeoBox", sign: Callable[[str], str] | None, options: Mapping[str, str]
) -> np.ndarray:
    """One band's numbers as its file has them, int32 or float32, on the window's grid.

    On the reference system of the file a pixel is the file's pixel there. From another one, numbers are
    interpolated between the pixels that have data, and classes are those of the nearest pixel; each pixel's
    place is computed exactly, so that windows join.
    """
    import odc.geo.xr
    import odc.stac
    import pystac
    import rasterio
    from odc.geo.geobox import GeoBox

    item, asset = scene.item, scene.assets[band]
    # The reader gets one asset under the band's name: what else the item holds can not be mistaken for it.
    alone = pystac.Item(item.id, item.geometry, item.bbox, item.datetime or scene.time.to_pydatetime(), {})
    alone.add_asset(band, pystac.Asset(asset.href, media_type="image/tiff", roles=["data"]))
    own = scene.crs(band) or str(window.crs)
    elsewhere = own != str(window.crs)
    around = window.pad(8).footprint(own).boundingbox if elsewhere else None
    floating = scene.sensor.units == "dB" or not scene.is_integer(band)
    with rasterio.Env(**options):
        loaded = odc.stac.load(
            [alone],
            bands=[band],
            geobox=window if around is None else GeoBox.from_bbox(around, own, resolution=PIXEL),
            resampling="nearest",
            dtype="float32" if floating else "int32",
            nodata=np.nan if floating else scene.nodata(band) or 0,
            patch_url=sign,
            stac_cfg={"*": {"warnings": "ignore"}},
        )
        numbers = loaded[band].isel(time=0)
        if elsewhere:
            resampling = "bilinear" if band in scene.sensor.band_names else "nearest"
            numbers = numbers.odc.reproject(window, resampling=resampling, tolerance=0)
    values: np.ndarray = numbers.values
    return values


def _reason(error: BaseException) -> str:
    """What went wrong, its deepest cause first, in one line and without credentials."""
    said = []
    cause: BaseException | None = error
    while cause is not None:
        said.append(" ".join(str(cause).split()))
        cause = cause.__cause__ or cause.__context__
    return redact("; ".join(dict.fromkeys(text for text in reversed(said) if text)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the reader's own log lines and warnings: faults are told once, in the package's words.

    The libraries change the warnings' filters in each of their threads; here they are put back.
    """
    logger = logging.getLogger("odc.loader")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
