"""Configuration of a training run."""

from pydantic import Field

from thalweg.earth.declarations import Declaration
from thalweg.earth.model.linear_baseline import LinearFusionConfig
from thalweg.earth.training.losses import LossWeights
from thalweg.earth.training.masking import MaskingConfig


class TrainingConfig(Declaration):
    """Everything that a training run depends on, except its data; stored in the checkpoint's card."""

    seed: int = Field(default=0, description="seed of initialisation, tiles and masking")
    steps: int = Field(default=2000, ge=0, description="optimizer steps; 0 for the linear baseline alone")
    tile: int = Field(default=24, ge=1, description="width of a tile, in centre pixels")
    centres: int = Field(default=3, ge=1, description="centre dates per tile")
    target_dates: int = Field(default=6, ge=1, description="dates reconstructed around each centre date")
    learning_rate: float = Field(default=5e-4, gt=0, description="peak of the AdamW learning rate")
    weight_decay: float = Field(default=0.05, ge=0, description="AdamW weight decay")
    warm_up: int = Field(default=100, ge=1, description="steps of linear warm-up")
    neighbour_weight: float = Field(
        default=0.5, ge=0, le=1, description="weight of neighbouring dates and pixels in the loss; the centre has 1"
    )
    loss: LossWeights = Field(default=LossWeights(), description="weights of the reconstruction losses")
    masking: MaskingConfig = Field(
        default=MaskingConfig(), serialization_alias="hiding", description="masking of contexts (`hiding` in cards)"
    )
    linear_start: LinearFusionConfig = Field(
        default=LinearFusionConfig(), description="weights of the fusion's linear fit"
    )
    validation_tiles: int = Field(default=16, ge=1, description="held-out tiles per validation")
    calibration_tiles: int = Field(default=60, ge=1, description="held-out tiles that calibrate the spread")
    linear_tiles: int = Field(default=400, ge=1, description="tiles that the linear baseline is fitted to")
