"""Loader of dates: files of a catalogue's scenes become one date's numbers on the grid."""

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
from thalweg.earth.stac.encoding import empty_array, encode_mask, encode_numbers, encode_power
from thalweg.earth.stac.search.client import RetryPolicy
from thalweg.earth.stac.search.request import RESOLUTION
from thalweg.earth.stac.search.scenes import Overpass, Scene
from thalweg.earth.stac.sentinel1_grd import sigma_nought, text_reader
from thalweg.errors import ThalwegError
from thalweg.io.redaction import public_cause, redact

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

MAX_PARALLEL_READS = 6
"""Files of a scene that are read at the same time: reading waits for the server, not for the processor."""

_SERVER_FAULT = re.compile(
    r"HTTP response code:? ?(429|5\d\d)|response_code=(0|429|5\d\d)|timed? ?out|could ?n[o']t connect|"
    r"connection|resolve host|empty reply|recv failure|ssl",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"HTTP response code:? ?40[13]|access ?denied|credentials|forbidden", re.IGNORECASE)


class UnreadableError(Exception):
    """Error of a scene's file that cannot be read: it is damaged, missing or forbidden."""


@dataclass
class Loader:
    """Loader of dates onto a grid.

    Attributes:
        grid: grid of the store.
        sign: function that signs an address, where the catalogue needs one.
        options: GDAL options of the catalogue.
        read_text: function that reads a small text file at an address.
        retry_policy: how requests are repeated after a fault of the server.
        on_skipped: function that is called with one line for each item skipped.
        skipped: reason for each item that could not be read; filled while reading.
        has_read: whether any scene was read; until then, a refusal means that the credentials are wrong.
    """

    grid: "GeoBox"
    sign: Callable[[str], str] | None
    options: Mapping[str, str]
    read_text: Callable[[str], str]
    retry_policy: RetryPolicy
    on_skipped: Callable[[str], None]
    skipped: dict[str, str] = field(default_factory=dict)
    has_read: bool = False

    def read(self, date: Overpass, rows: slice, columns: slice) -> tuple[dict[str, np.ndarray], list[Scene]]:
        """Read a window of a date.

        Scenes are put on top of one another in their order: a pixel takes all its bands from the first scene that
        has any there. A scene that cannot be read is skipped, and `skipped` holds the reason.

        Args:
            date: overpass to read.
            rows: rows of the grid.
            columns: columns of the grid.

        Returns:
            The store's numbers (rows, columns) of each band and of the mask, by name, and the scenes they are from.

        Raises:
            ThalwegError: the server does not answer, however often a request is repeated.
        """
        sensor = date.scenes[0].sensor
        window = self.grid[rows, columns]
        shape = (int(window.shape[0]), int(window.shape[1]))
        empty = {name: empty_array(sensor.storage_of(name), shape) for name in sensor.band_names}
        if sensor.validity is not None:
            empty[sensor.validity.variable] = empty_array(sensor.validity.storage, shape)
        mosaic = Mosaic(empty)
        used = []
        for scene in date.scenes:
            if scene.name in self.skipped or mosaic.is_full:
                continue
            try:
                with _quiet():
                    numbers = self._scene(scene, window)
            except UnreadableError as error:
                self.skipped[scene.name] = str(error)
                self.on_skipped(f"{scene.name}: skipped, {error}")
                continue
            self.has_read = True
            has_data = np.zeros(shape, bool)
            for name in set(sensor.band_names) & set(numbers):
                has_data |= numbers[name] != sensor.storage_of(name).fill
            if mosaic.add(numbers, has_data):
                used.append(scene)
        return mosaic.arrays, used

    def _scene(self, scene: Scene, window: "GeoBox") -> dict[str, np.ndarray]:
        """Read the store's numbers of the bands and the mask that a scene has."""
        sensor = scene.sensor
        smallest = sensor.physical_range[0] if sensor.physical_range is not None else -np.inf

        def encoded(name: str) -> np.ndarray:
            raw = self._numbers(scene, name, window)
            if sensor.validity is not None and name == sensor.validity.variable:
                return encode_mask(raw, sensor.validity.storage)
            if sensor.units == "dB":
                return encode_power(raw, sensor.storage_of(name))
            nodata = scene.nodata(name) or 0.0
            return encode_numbers(raw, nodata, *scene.scale_and_offset(name), sensor.storage_of(name), smallest)

        with ThreadPoolExecutor(MAX_PARALLEL_READS) as pool:
            return dict(zip(scene.assets, pool.map(encoded, scene.assets), strict=True))

    def _numbers(self, scene: Scene, band: str, window: "GeoBox") -> np.ndarray:
        """Read one band's numbers as its file has them; a damaged file and a silent server raise different errors."""
        options = {**self.options, **self._http}
        try:
            if scene.product.level == "digital numbers":
                return sigma_nought(scene, band, window, self.sign, options, text_reader(self.read_text, self.options))
            return _read_band(scene, band, window, self.sign, options)
        except ThalwegError:
            raise
        except Exception as error:  # rasterio and GDAL raise many types
            reason = _reason(error)
            if _REFUSED.search(reason) and not self.has_read:
                raise ThalwegError(
                    f"{redact(scene.assets[band].href)}: the server refuses access ({reason[:120]}): "
                    "check the credentials"
                ) from public_cause(error)
            if not _SERVER_FAULT.search(reason):
                raise UnreadableError(f"{band} cannot be read ({reason[:120]})") from public_cause(error)
            raise ThalwegError(
                f"{redact(scene.assets[band].href)}: no answer after {self.retry_policy.attempts} attempts "
                f"({reason[:120]}): fetch the same request again to resume"
            ) from public_cause(error)

    @property
    def _http(self) -> dict[str, str]:
        """GDAL options of the retry policy; GDAL doubles the delay from one attempt to the next."""
        return {
            "GDAL_HTTP_MAX_RETRY": str(self.retry_policy.attempts - 1),
            "GDAL_HTTP_RETRY_DELAY": f"{self.retry_policy.delay:g}",
            "GDAL_HTTP_TIMEOUT": f"{self.retry_policy.timeout:g}",
            "GDAL_HTTP_CONNECTTIMEOUT": f"{self.retry_policy.timeout:g}",
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/",  # else GDAL remembers a fault as the file being absent
        }


def _read_band(
    scene: Scene, band: str, window: "GeoBox", sign: Callable[[str], str] | None, options: Mapping[str, str]
) -> np.ndarray:
    """Read one band of a scene on the window's grid.

    If the file has the window's reference system, a pixel takes the number of the file's nearest pixel. Otherwise
    the file is reprojected: bands are interpolated between the pixels that have data, masks take the nearest class.
    Each pixel's position is computed exactly, so that adjacent windows match.

    Returns:
        (rows, columns) int32 or float32, the numbers of the file.
    """
    import odc.geo.xr
    import odc.stac
    import pystac
    import rasterio
    from odc.geo.geobox import GeoBox

    item, asset = scene.item, scene.assets[band]
    # The reader gets one asset under the band's name, so that it cannot mistake another one of the item for it.
    single = pystac.Item(item.id, item.geometry, item.bbox, item.datetime or scene.time.to_pydatetime(), {})
    single.add_asset(band, pystac.Asset(asset.href, media_type="image/tiff", roles=["data"]))
    own = scene.crs(band) or str(window.crs)
    is_reprojected = own != str(window.crs)
    around = window.pad(8).footprint(own).boundingbox if is_reprojected else None
    floating = scene.sensor.units == "dB" or not scene.is_integer(band)
    with rasterio.Env(**options):
        loaded = odc.stac.load(
            [single],
            bands=[band],
            geobox=window if around is None else GeoBox.from_bbox(around, own, resolution=RESOLUTION),
            resampling="nearest",
            dtype="float32" if floating else "int32",
            nodata=np.nan if floating else scene.nodata(band) or 0,
            patch_url=sign,
            stac_cfg={"*": {"warnings": "ignore"}},
        )
        numbers = loaded[band].isel(time=0)
        if is_reprojected:
            resampling = "bilinear" if band in scene.sensor.band_names else "nearest"
            numbers = numbers.odc.reproject(window, resampling=resampling, tolerance=0)
    values: np.ndarray = numbers.values
    return values


def _reason(error: BaseException) -> str:
    """Return the messages of an error and its causes, the deepest first, in one line without credentials."""
    messages = []
    cause: BaseException | None = error
    while cause is not None:
        messages.append(" ".join(str(cause).split()))
        cause = cause.__cause__ or cause.__context__
    return redact("; ".join(dict.fromkeys(text for text in reversed(messages) if text)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the reader's own log lines and warnings; the package reports each fault once.

    The libraries change the warning filters in each of their threads; they are restored here.
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
