"""Items and catalogues with invalid JSON and damaged bytes: a one-line error each, and valid items are still found."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.random import Generator

from damaging import change_json, damage
from stac_items import BOX, QUICK, SPAN, item, write_catalogue
from stac_server import serve
from thalweg.earth.stac import Request, fetch, plan
from thalweg.earth.stac.plan import FetchPlan
from thalweg.errors import ThalwegError

SEED = 17
EXTRA = {
    "a_eo__bands": [{"name": "B02", "common_name": "blue"}],
    "a_raster__bands": [{"scale": 0.0001, "offset": 0, "nodata": 0, "data_type": "uint16"}],
    "a_proj__transform": [10, 0, 500000, 0, -10, 5630500],
    "a_gsd": 10,
    "p_sat__orbit_state": "descending",
    "p_earthsearch__boa_offset_applied": True,
}
ALTERATIONS = (damage, change_json)
Alteration = Callable[[Path, Generator], str]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogue")
    second = item("second", p_datetime="2022-06-11T10:50:31Z", **EXTRA)
    return write_catalogue(folder, {"first": item("first", **SPAN, **EXTRA), "second": second})


def attempt(job: Callable[[], object], change: str) -> object | None:
    """Return the result of a job; None if it raises a one-line error. Any other exception fails the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return job()
    except ThalwegError as error:
        assert "\n" not in str(error), change
        assert len(str(error)) < 1000, change
        return None


def planned(address: str | Path) -> FetchPlan:
    return plan(Request(BOX, "2022-06", ("sentinel-2",)), str(address), QUICK)


@pytest.mark.parametrize("alter", ALTERATIONS)
def test_an_invalid_item_does_not_hide_the_valid_one(alter: Alteration, catalogue: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(SEED)
    folder = Path(shutil.copytree(catalogue.parent, tmp_path / "catalogue"))
    altered = folder / "items" / "second.json"
    reported = 0
    for number in range(60):
        change = alter(altered, random)
        found = attempt(lambda: planned(folder / "catalog.json"), change)
        assert isinstance(found, FetchPlan), change
        names = [name for date in found.dates["sentinel-2"] for name in date.names]
        assert "first" in names, change
        notes = [note for note in found.notes if ": skipped, " in note]
        assert all("\n" not in note and len(note) < 400 for note in notes), change
        reported += len(notes)
        if number % 10 == 0:  # the scenes that were found are read too
            store = attempt(lambda found=found, number=number: fetch(found, tmp_path / f"{number}.zarr"), change)
            if isinstance(store, Path):
                read = xr.open_zarr(store, group="sentinel-2")
                assert "first" in " ".join(map(str, read.item_id.values)), change
        shutil.copy(catalogue.parent / "items" / "second.json", altered)
    assert reported > 10


@pytest.mark.parametrize("alter", ALTERATIONS)
@pytest.mark.parametrize("name", ["catalog.json", "collection.json"])
def test_a_damaged_catalogue_raises_one_line_error_or_gives_its_items(
    name: str, alter: Alteration, catalogue: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(SEED)
    folder = Path(shutil.copytree(catalogue.parent, tmp_path / "catalogue"))
    refused = 0
    for _ in range(30):
        change = alter(folder / name, random)
        found = attempt(lambda: planned(folder / "catalog.json"), change)
        refused += found is None
        if isinstance(found, FetchPlan):
            names = [scene for date in found.dates["sentinel-2"] for scene in date.names]
            assert set(names) <= {"first", "second"} and names, change
        shutil.copy(catalogue.parent / name, folder / name)
    assert refused > 5


def test_invalid_answers_of_an_api_raise_one_line_error_or_give_items(
    catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    random = np.random.default_rng(SEED)
    items = [json.loads((catalogue.parent / "items" / f"{name}.json").read_text()) for name in ("first", "second")]
    answers = {
        "/api/collections": {"collections": [{"id": "sentinel-2-l2a"}], "links": [{"rel": "self", "href": "x"}]},
        "/api/search": {"type": "FeatureCollection", "features": items, "links": [{"rel": "self", "href": "x"}]},
    }
    with serve(tmp_path) as server:
        for number in range(60):
            path = list(answers)[number % 2]
            server.answers = {end: json.dumps(answer).encode() for end, answer in answers.items()}
            (tmp_path / "answer.json").write_bytes(server.answers[path])
            change = ALTERATIONS[number // 2 % 2](tmp_path / "answer.json", random)
            server.answers[path] = (tmp_path / "answer.json").read_bytes()
            found = attempt(lambda: planned(server.api), change)
            if isinstance(found, FetchPlan):
                names = [scene for date in found.dates["sentinel-2"] for scene in date.names]
                assert len(names) <= 2 and names, change
