from .clusters import Clusters, cluster
from .colour_axes import load_axes, save_axes
from .distribution import EmbeddingDistribution
from .pca import PrincipalComponents
from .similarity import Similarity

__all__ = [
    "Clusters",
    "EmbeddingDistribution",
    "PrincipalComponents",
    "Similarity",
    "cluster",
    "load_axes",
    "save_axes",
]
