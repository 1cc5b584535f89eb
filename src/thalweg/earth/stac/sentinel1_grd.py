"""Sentinel-1 GRD: from digital numbers in the satellite's own geometry to sigma nought on the grid."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from thalweg.earth.stac.scenes import Scene
from thalweg.errors import UsageError
from thalweg.io.redaction import redact

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

STEP = 16
"""Pixels of the grid between places whose position in the image is computed; between them it is interpolated."""


def sigma_nought(
    scene: Scene,
    band: str,
    window: "GeoBox",
    sign: Callable[[str], str] | None,
    options: Mapping[str, str],
    read_text: Callable[[str], str],
) -> np.ndarray:
    """Backscatter of a GRD product as sigma nought in linear power on a window's grid, (rows, columns) float32.

    The power is the squared digital number over the squared value of the product's calibration table; it is
    interpolated in the image. Places are those of the product's tie points, which follow the ellipsoid: on
    slopes they are off, and brightness is not corrected for terrain (a terrain-corrected product is better).

    Raises:
        ValueError: the file has no tie points, or the item no calibration table.
    """
    import rasterio
    from rasterio.windows import Window
    from scipy.ndimage import map_coordinates

    href = scene.assets[band].href
    lines, samples, table = _calibration(read_text(_calibration_href(scene, band, sign)))
    with rasterio.Env(**options), rasterio.open(sign(href) if sign else href) as file:
        rows, columns = _places(file, window)
        top, left = (max(int(np.floor(places.min())) - 2, 0) for places in (rows, columns))
        bottom = min(int(np.ceil(rows.max())) + 3, file.height)
        right = min(int(np.ceil(columns.max())) + 3, file.width)
        if bottom <= top or right <= left:
            return np.full(rows.shape, np.nan, np.float32)
        numbers = file.read(1, window=Window(left, top, right - left, bottom - top)).astype(np.float64)
    power = (numbers / _at(lines, samples, table, np.arange(top, bottom), np.arange(left, right))) ** 2
    power[numbers == 0] = np.nan  # the border without data; it spreads to whatever would be interpolated with it
    places = np.stack([rows - top, columns - left])
    return np.asarray(map_coordinates(power, places, order=1, cval=np.nan), np.float32)


def _calibration_href(scene: Scene, band: str, sign: Callable[[str], str] | None) -> str:
    """Address of the calibration table of a band's polarisation."""
    for key, asset in scene.item.assets.items():
        if "calibration" in key.lower() and band.lower() in key.lower():
            return sign(asset.href) if sign else asset.href
    raise ValueError(f"the item has no calibration table for {band}")


def _calibration(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lines, samples, and the value of sigma nought at each, (lines, samples)."""
    vectors = ElementTree.fromstring(text).findall(".//calibrationVector")
    if not vectors:
        raise ValueError("the calibration table holds no vector")

    def numbers(vector: ElementTree.Element, name: str) -> np.ndarray:
        return np.array((vector.findtext(name) or "").split(), float)

    samples = numbers(vectors[0], "pixel")
    table = [np.interp(samples, numbers(vector, "pixel"), numbers(vector, "sigmaNought")) for vector in vectors]
    return np.array([float(vector.findtext("line") or 0) for vector in vectors]), samples, np.array(table)


def _at(lines: np.ndarray, samples: np.ndarray, table: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The table between its vectors, (rows, columns)."""
    along = np.array([np.interp(columns, samples, vector) for vector in table])
    above = np.clip(np.searchsorted(lines, rows, side="right") - 1, 0, max(len(lines) - 2, 0))
    below = np.minimum(above + 1, len(lines) - 1)
    gap = np.maximum(lines[below] - lines[above], 1)
    share = np.clip((rows - lines[above]) / gap, 0, 1)[:, None]
    return np.asarray((1 - share) * along[above] + share * along[below])


def _places(file: "object", window: "GeoBox") -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the image, from the centre of its first pixel, at each pixel of the window."""
    from pyproj import Transformer
    from rasterio.transform import GCPTransformer
    from scipy.ndimage import map_coordinates

    points, crs = file.gcps  # type: ignore[attr-defined]
    if not points:
        raise ValueError("the file has no tie points")
    height, width = window.shape
    coarse_y, coarse_x = (np.arange(-(-(size - 1) // STEP) + 1) * STEP + 0.5 for size in (height, width))
    affine = window.affine
    x, y = np.meshgrid(affine.c + affine.a * coarse_x, affine.f + affine.e * coarse_y)
    longitude, latitude = Transformer.from_crs(str(window.crs), crs, always_xy=True).transform(x, y)
    with GCPTransformer(points, tps=True) as transformer:
        rows, columns = transformer.rowcol(longitude.ravel(), latitude.ravel(), op=lambda values: values)
    fine = np.meshgrid(np.arange(height) / STEP, np.arange(width) / STEP, indexing="ij")
    between = (
        map_coordinates(np.reshape(places, x.shape).astype(float) - 0.5, fine, order=1, mode="nearest")
        for places in (rows, columns)
    )
    row, column = between
    return row, column


def text_reader(over_http: Callable[[str], str], options: Mapping[str, str]) -> Callable[[str], str]:
    """A function that reads a small text file at an address: a path, http(s), or s3 where s3fs is installed."""

    def read(href: str) -> str:
        if not href.startswith("s3://"):
            return over_http(href)
        try:
            import s3fs
        except ImportError as error:
            raise UsageError(f"{redact(href)}: the calibration table lies on S3: install s3fs") from error
        endpoint = options.get("AWS_S3_ENDPOINT")
        files = s3fs.S3FileSystem(
            endpoint_url=f"https://{endpoint}" if endpoint else None,
            requester_pays=options.get("AWS_REQUEST_PAYER") == "requester",
        )
        return str(files.cat(href).decode())

    return read
