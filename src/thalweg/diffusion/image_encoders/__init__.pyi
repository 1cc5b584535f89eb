from .preprocessing import ImagePreprocessing, read_preprocessing

__all__ = ["ImagePreprocessing", "read_preprocessing"]
