from .colour_axes import load_axes, save_axes
from .distribution import EmbeddingDistribution
from .pca import PrincipalComponents
from .similarity import Similarity

__all__ = ["EmbeddingDistribution", "PrincipalComponents", "Similarity", "load_axes", "save_axes"]
