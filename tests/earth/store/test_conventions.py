"""Convention fields of stores: they follow their specifications, and contradictions are refused with one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr_cm

from convention_rules import geo_embedding_faults
from embedding_stores import StoreSpec, write_store
from thalweg.earth.store.reader import open_store
from thalweg.errors import UsageError


@pytest.fixture(scope="module", params=[None, 8, 16], ids=["float32", "8 bits", "16 bits"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = StoreSpec(shape=(20, 24), dimensions=32, quantize=request.param)
    return write_store(tmp_path_factory.mktemp("stores") / "a.zarr", spec)


def metadata(store: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store / "zarr.json").read_text())
    found.pop("consolidated_metadata", None)
    return found


def test_a_store_follows_its_conventions(store: Path) -> None:
    found = metadata(store)
    assert geo_embedding_faults(found) == []
    zarr_cm.proj.validate_group_metadata(found)
    zarr_cm.spatial.validate_group_metadata(found)
    assert found["attributes"]["geoemb:depths"] == [
        {"dimensions": 7, "array": "embeddings"},
        {"dimensions": 32, "array": "embeddings"},
    ]
    assert found["attributes"]["geoemb:model"].startswith("ni:///sha-256;")
    assert found["attributes"]["geoemb:source_data"] == ["https://sentiwiki.copernicus.eu/web/sentinel-2"]


def test_the_rules_find_faults(store: Path) -> None:
    found = metadata(store)
    for name, value in {
        "geoemb:model": "thalweg",
        "geoemb:source_data": "Sentinel-2",
        "geoemb:dimensions": 0,
        "geoemb:gsd": -1,
        "geoemb:strange": 1,
    }.items():
        changed = {**found, "attributes": {**found["attributes"], name: value}}
        assert len(geo_embedding_faults(changed)) == 1


@pytest.fixture
def changed(store: Path, tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def change(attributes: dict[str, Any]) -> Path:
        copy = Path(shutil.copytree(store, tmp_path / "copy.zarr"))
        found = json.loads((copy / "zarr.json").read_text())
        found["attributes"] |= attributes
        (copy / "zarr.json").write_text(json.dumps(found))
        return copy

    return change


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"geoemb:type": "chip"}, "geoemb:type chip, but its arrays have one embedding per pixel"),
        ({"geoemb:chip_layout": {}}, "geoemb:chip_layout with geoemb:type pixel"),
        ({"geoemb:spatial_layout": "utm_zones"}, "utm_zones, but its arrays are in no group of a zone"),
        ({"geoemb:spatial_layout": "global"}, "global, but spatial:bbox is a part of the Earth"),
        ({"geoemb:spatial_layout": "quadkey"}, "quadkey, expected utm_zones or global"),
        ({"geoemb:model": "thalweg-earth"}, "geoemb:model thalweg-earth is no URI, but version 1 is declared"),
        ({"geoemb:source_data": ["Sentinel-2"]}, "geoemb:source_data Sentinel-2 is no URI"),
        ({"geoemb:data_type": "float64"}, "geoemb:data_type float64, but embeddings are"),
        ({"geoemb:depths": [{"dimensions": 64, "array": "embeddings"}]}, r"geoemb:depths \[64\] of 32 dimensions"),
        ({"geoemb:depths": [{"dimensions": 32, "array": "other"}]}, "names the array other, which is not there"),
        ({"proj:code": "EPSG:32632"}, "proj:code EPSG:32632, but proj:wkt2 is EPSG:32631"),
        ({"multiscales": {"layout": [{"asset": "overviews/2/quality", "derived_from": "quality"}]}}, "overviews/2"),
        ({"multiscales": {"layout": [{"asset": "small/embeddings", "derived_from": "embeddings"}]}}, "expected groups"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_contradictory_fields_raise_one_line_error(
    attributes: dict[str, Any], reason: str, changed: Callable[[dict[str, Any]], Path]
) -> None:
    copy = changed(attributes)
    with pytest.raises(UsageError, match=reason) as caught:
        open_store(copy)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{copy}: its metadata are damaged (")


def test_a_quantization_that_differs_from_the_array_is_refused(
    store: Path, changed: Callable[[dict[str, Any]], Path]
) -> None:
    stated = {"method": "linear", "original_dtype": "float32", "scale": {"type": "scalar", "scale": 0.5}}
    with pytest.raises(UsageError, match="geoemb:quantization with"):
        open_store(changed({"geoemb:quantization": stated}))


def test_a_store_of_an_older_version_opens(changed: Callable[[dict[str, Any]], Path]) -> None:
    before = [
        {"name": "geoemb:", "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c"},
        {"name": "spatial:", "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"},
        {"name": "proj:", "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f"},
    ]
    older = {"zarr_conventions": before, "geoemb:model": "model-a", "geoemb:source_data": ["Sentinel-2 L2A"]}
    assert open_store(changed(older)).attrs["thalweg:model"] == "model-a"
