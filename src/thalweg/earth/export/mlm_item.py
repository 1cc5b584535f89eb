"""Item of a model by the machine learning model extension (`mlm:`) of STAC, with a copy of its weights."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.earth.model.checkpoints import read_checkpoint_card
from thalweg.earth.model.earth_model import EarthModel
from thalweg.io.checkpoints import CARD, WEIGHTS

if TYPE_CHECKING:
    import pystac

_MODEL_TASK = "similarity-search"


def copy_model(model: EarthModel, folder: Path, out: Path) -> None:
    """Copy the checkpoints of a model, so that a catalogue holds what its item names; the copy is a model folder.

    Args:
        model: the loaded model.
        folder: its folder.
        out: folder to write to; is created.

    Raises:
        OSError: the copy cannot be written.
    """
    for part in ("fusion", *model.sensors):
        (out / part).mkdir(parents=True)
        for name in (CARD, WEIGHTS):
            shutil.copyfile(folder / part / name, out / part / name)


def model_item(model: EarthModel, folder: Path) -> "pystac.Item":
    """Return the item of a model: inputs, output, hyperparameters, accelerator, and assets next to the item.

    Args:
        model: the loaded model.
        folder: its folder, for the settings of its training.
    """
    import pystac
    import torch
    from pystac.extensions.mlm import (
        AcceleratorType,
        Hyperparameters,
        InputStructure,
        MLMExtension,
        ModelInput,
        ModelOutput,
        ResultStructure,
        TaskType,
    )
    from pystac.extensions.raster import DataType

    item = pystac.Item(
        id=model.identifier,
        geometry=None,
        bbox=None,
        datetime=None,
        start_datetime=datetime(2015, 1, 1, tzinfo=UTC),  # the epoch of the model's days
        end_datetime=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        properties={"description": "Context-aware encoders of several sensors and their fusion into one embedding."},
    )
    for name in ("fusion", *model.sensors):
        item.add_asset(
            f"{name}-card",
            pystac.Asset(
                f"./{name}/{CARD}",
                media_type=pystac.MediaType.JSON,
                roles=["metadata"],
                title=f"declarations, training settings and hashes of {name}",
            ),
        )
        item.add_asset(
            name,
            pystac.Asset(
                f"./{name}/{WEIGHTS}",
                media_type="application/octet-stream; framework=safetensors",
                roles=["mlm:model", "mlm:weights"],
                title=f"weights of the {'fusion' if name == 'fusion' else f'encoder and decoder of {name}'}",
                extra_fields={"mlm:artifact_type": "safetensors.torch.save_file"},
            ),
        )
    inputs = [
        ModelInput.create(
            name=sensor.name,
            bands=list(sensor.band_names),
            input=InputStructure.create(
                [-1, len(sensor.bands), -1, -1], ["time", "channel", "height", "width"], DataType.FLOAT32
            ),
            description=f"{sensor.units}, {sensor.value_range[0]:g} to {sensor.value_range[1]:g} mapped to 0 to 1",
        )
        for sensor in model.fusion.sensors
    ]
    total = model.fusion.embedding_scale.numel()
    output = ModelOutput.create(
        name="embedding",
        tasks=[TaskType(_MODEL_TASK)],
        result=ResultStructure.create([-1, total, -1, -1], ["time", "channel", "height", "width"], DataType.FLOAT32),
        description="the first 7 dimensions are an embedding themselves",
    )
    parameters = list(model.parameters())
    trained = read_checkpoint_card(folder / "fusion").training.get("settings", {})
    settings = {name: value for name, value in trained.items() if name != "dimensions"}
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=model.identifier,
        architecture="context-aware encoders with a fusion (arXiv 2511.11706)",
        tasks=[TaskType(_MODEL_TASK)],
        input=inputs,
        output=[output],
        framework="PyTorch",
        framework_version=torch.__version__.partition("+")[0],
        total_parameters=sum(parameter.numel() for parameter in parameters),
        memory_size=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        pretrained=True,
        hyperparameters=Hyperparameters.create(dimensions=total, **settings),
        accelerator=AcceleratorType.AMD64,
        accelerator_constrained=False,
        accelerator_summary="any CPU; a CUDA GPU if there is one",
    )
    return item
