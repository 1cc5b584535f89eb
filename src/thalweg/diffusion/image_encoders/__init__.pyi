from .dino import DinoEncoder, load_dino
from .dreamsim import DreamSim, load_dreamsim
from .image_reward import ImageReward, load_image_reward
from .lpips import Lpips, load_lpips
from .preprocessing import ImagePreprocessing, read_preprocessing

__all__ = [
    "DinoEncoder",
    "DreamSim",
    "ImagePreprocessing",
    "ImageReward",
    "Lpips",
    "load_dino",
    "load_dreamsim",
    "load_image_reward",
    "load_lpips",
    "read_preprocessing",
]
