from .config import TrainingConfig
from .fit import train_autoencoder, train_fusion
from .tiles import TrainingSite

__all__ = ["TrainingConfig", "TrainingSite", "train_autoencoder", "train_fusion"]
