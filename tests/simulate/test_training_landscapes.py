"""The script of the training landscapes: one folder per landscape, existing ones kept."""

import importlib.util
from pathlib import Path

import xarray as xr

from thalweg.simulate import simulate

SCRIPT = Path(__file__).parents[2] / "scripts" / "training_landscapes.py"


def test_missing_landscapes_are_made_and_existing_ones_kept(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("training_landscapes", SCRIPT)
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    (tmp_path / "temperate-2000").mkdir()

    folders = script.make_landscapes(tmp_path, count=2, size=16, years=1, workers=1)
    assert [folder.name for folder in folders] == ["temperate-2000", "continental-2001"]
    assert not list(folders[0].iterdir())
    made = folders[1].stat().st_mtime_ns
    assert script.make_landscapes(tmp_path, count=2, size=16, years=1, workers=1) == folders
    assert folders[1].stat().st_mtime_ns == made and len(list(tmp_path.iterdir())) == 2

    truth = xr.open_dataset(folders[1] / "truth.nc")
    assert truth.attrs["seed"] == 2001 and truth.attrs["variety"] == 1.0
    start = str(truth.day.values[0])[:10]
    expected = simulate(2001, 16, 1, "continental", start, variety=1.0)
    xr.testing.assert_equal(truth.lai.load(), expected.truth.lai)
    assert "2017" <= start[:4] <= "2021"
