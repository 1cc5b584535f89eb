from .sources import open_datasets

__all__ = ["open_datasets"]
