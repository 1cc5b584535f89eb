"""Configuration of a training run."""

from pydantic import Field

from thalweg.earth.declarations import Declaration
from thalweg.earth.training.losses import LossWeights
from thalweg.earth.training.masking import MaskingConfig


class TrainingConfig(Declaration):
    """Everything that a training run depends on, except its data; stored in the checkpoint's card."""

    seed: int = Field(default=0, description="seed of initialisation, tiles and masking")
    steps: int = Field(default=2000, ge=0, description="optimizer steps; 0 for the closed-form start alone")
    tiles: int = Field(default=4, ge=1, description="tiles per optimizer step")
    encoded_tiles: int = Field(default=400, ge=1, description="tiles that a fusion learns from, encoded once")
    tile: int = Field(default=20, ge=1, description="width of a tile, in pixels")
    stride: int = Field(default=2, ge=1, description="every so many pixels of a tile are centre pixels")
    centres: int = Field(default=6, ge=1, description="centre dates per tile")
    target_dates: int = Field(default=6, ge=1, description="dates reconstructed around each centre date")
    learning_rate: float = Field(default=2e-3, gt=0, description="peak of the AdamW learning rate")
    weight_decay: float = Field(default=0.05, ge=0, description="AdamW weight decay")
    warm_up: int = Field(default=100, ge=1, description="steps of linear warm-up")
    neighbour_weight: float = Field(
        default=0.5, ge=0, le=1, description="weight of other dates in the loss; the centre date has 1"
    )
    loss: LossWeights = Field(default=LossWeights(), description="weights of the reconstruction losses")
    masking: MaskingConfig = Field(
        default=MaskingConfig(), serialization_alias="hiding", description="masking of contexts (`hiding` in cards)"
    )
    validation_tiles: int = Field(default=16, ge=1, description="held-out tiles per validation")
    calibration_tiles: int = Field(default=60, ge=1, description="held-out tiles that calibrate the spread")
    start_tiles: int = Field(default=200, ge=1, description="tiles that the closed-form start is fitted to")
