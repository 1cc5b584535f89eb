"""Sentinel-1 GRD: from digital numbers in the satellite's own geometry to sigma nought on the grid."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from thalweg.earth.stac.search.scenes import Scene
from thalweg.errors import UsageError
from thalweg.io.redaction import redact

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

GEOLOCATION_STEP = 16
"""Pixels of the grid from one computed image position to the next; positions between them are interpolated."""


def sigma_nought(
    scene: Scene,
    band: str,
    window: "GeoBox",
    sign: Callable[[str], str] | None,
    options: Mapping[str, str],
    read_text: Callable[[str], str],
) -> np.ndarray:
    """Return the backscatter of a GRD product as sigma nought in linear power on a window of the grid.

    The power is the squared digital number over the squared value of the product's calibration table. It is
    interpolated in the image. Positions come from the product's tie points, which follow the ellipsoid: on slopes
    they are off, and brightness is not corrected for terrain. A terrain-corrected product is better.

    Args:
        scene: item of the product.
        band: polarisation, a band of the sensor.
        window: pixels of the grid.
        sign: function that signs an address, where the catalogue needs one.
        options: GDAL options for reading.
        read_text: function that reads a text file at an address.

    Returns:
        (rows, columns) float32, NaN without data.

    Raises:
        ValueError: the file has no tie points, or the item no calibration table.
    """
    import rasterio
    from rasterio.windows import Window
    from scipy.ndimage import map_coordinates

    href = scene.assets[band].href
    lines, samples, table = _calibration(read_text(_calibration_href(scene, band, sign)))
    with rasterio.Env(**options), rasterio.open(sign(href) if sign else href) as file:
        rows, columns = _image_positions(file, window)
        top, left = (max(int(np.floor(positions.min())) - 2, 0) for positions in (rows, columns))
        bottom = min(int(np.ceil(rows.max())) + 3, file.height)
        right = min(int(np.ceil(columns.max())) + 3, file.width)
        if bottom <= top or right <= left:
            return np.full(rows.shape, np.nan, np.float32)
        numbers = file.read(1, window=Window(left, top, right - left, bottom - top)).astype(np.float64)
    factors = _interpolated(lines, samples, table, np.arange(top, bottom), np.arange(left, right))
    power = (numbers / factors) ** 2
    power[numbers == 0] = np.nan  # the border without data; interpolation with it is NaN too
    positions = np.stack([rows - top, columns - left])
    return np.asarray(map_coordinates(power, positions, order=1, cval=np.nan), np.float32)


def _calibration_href(scene: Scene, band: str, sign: Callable[[str], str] | None) -> str:
    """Return the address of the calibration table of a polarisation."""
    for key, asset in scene.item.assets.items():
        if "calibration" in key.lower() and band.lower() in key.lower():
            return sign(asset.href) if sign else asset.href
    raise ValueError(f"the item has no calibration table for {band}")


def _calibration(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parse a calibration table: its lines (L,), samples (S,) and the factor of sigma nought at each, (L, S)."""
    vectors = ElementTree.fromstring(text).findall(".//calibrationVector")
    if not vectors:
        raise ValueError("the calibration table holds no vector")

    def numbers(vector: ElementTree.Element, name: str) -> np.ndarray:
        return np.array((vector.findtext(name) or "").split(), float)

    samples = numbers(vectors[0], "pixel")
    table = [np.interp(samples, numbers(vector, "pixel"), numbers(vector, "sigmaNought")) for vector in vectors]
    return np.array([float(vector.findtext("line") or 0) for vector in vectors]), samples, np.array(table)


def _interpolated(
    lines: np.ndarray, samples: np.ndarray, table: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Interpolate a calibration table to rows (R,) and columns (C,) of the image, (R, C)."""
    along = np.array([np.interp(columns, samples, vector) for vector in table])
    above = np.clip(np.searchsorted(lines, rows, side="right") - 1, 0, max(len(lines) - 2, 0))
    below = np.minimum(above + 1, len(lines) - 1)
    gap = np.maximum(lines[below] - lines[above], 1)
    share = np.clip((rows - lines[above]) / gap, 0, 1)[:, None]
    return np.asarray((1 - share) * along[above] + share * along[below])


def _image_positions(file: Any, window: "GeoBox") -> tuple[np.ndarray, np.ndarray]:
    """Return row and column in the image, from the centre of its first pixel, of each pixel of the window."""
    from pyproj import Transformer
    from rasterio.transform import GCPTransformer
    from scipy.ndimage import map_coordinates

    points, crs = file.gcps
    if not points:
        raise ValueError("the file has no tie points")
    height, width = window.shape
    step = GEOLOCATION_STEP
    coarse_y, coarse_x = (np.arange(-(-(size - 1) // step) + 1) * step + 0.5 for size in (height, width))
    affine = window.affine
    x, y = np.meshgrid(affine.c + affine.a * coarse_x, affine.f + affine.e * coarse_y)
    longitude, latitude = Transformer.from_crs(str(window.crs), crs, always_xy=True).transform(x, y)
    with GCPTransformer(points, tps=True) as transformer:
        rows, columns = transformer.rowcol(longitude.ravel(), latitude.ravel(), op=lambda values: values)
    fine = np.meshgrid(np.arange(height) / step, np.arange(width) / step, indexing="ij")
    row, column = (
        map_coordinates(np.reshape(positions, x.shape).astype(float) - 0.5, fine, order=1, mode="nearest")
        for positions in (rows, columns)
    )
    return row, column


def text_reader(over_http: Callable[[str], str], options: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that reads a small text file at an address.

    Args:
        over_http: function that reads a path or an http(s) address.
        options: GDAL options of the catalogue; they hold the address of its S3 storage.

    Returns:
        A function that also reads s3 addresses; it raises a `UsageError` if s3fs is not installed.
    """

    def read(href: str) -> str:
        if not href.startswith("s3://"):
            return over_http(href)
        try:
            import s3fs
        except ImportError as error:
            raise UsageError(f"{redact(href)}: the calibration table is on S3: install s3fs") from error
        endpoint = options.get("AWS_S3_ENDPOINT")
        files = s3fs.S3FileSystem(
            endpoint_url=f"https://{endpoint}" if endpoint else None,
            requester_pays=options.get("AWS_REQUEST_PAYER") == "requester",
        )
        return str(files.cat(href).decode())

    return read
