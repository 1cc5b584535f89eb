from .autoencoder import Autoencoder
from .checkpoints import read_checkpoint_card, save_checkpoint
from .context import HALO, RECEPTIVE_FIELD, SensorContext, as_context, cube_context, days_since_epoch, sensor_context
from .earth_model import SHIPPED, EarthModel, evaluation_device, load_autoencoder
from .fusion import FULL_SIZE, QUANTILE_LEVELS, SMALL_SIZE, Fusion

__all__ = [
    "FULL_SIZE",
    "HALO",
    "QUANTILE_LEVELS",
    "RECEPTIVE_FIELD",
    "SHIPPED",
    "SMALL_SIZE",
    "Autoencoder",
    "EarthModel",
    "Fusion",
    "SensorContext",
    "as_context",
    "cube_context",
    "days_since_epoch",
    "evaluation_device",
    "load_autoencoder",
    "read_checkpoint_card",
    "save_checkpoint",
    "sensor_context",
]
