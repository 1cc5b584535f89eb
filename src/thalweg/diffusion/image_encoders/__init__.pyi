from .dino import DinoEncoder, load_dino
from .preprocessing import ImagePreprocessing, read_preprocessing

__all__ = ["DinoEncoder", "ImagePreprocessing", "load_dino", "read_preprocessing"]
