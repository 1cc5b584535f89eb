from .distribution import EmbeddingDistribution
from .pca import PrincipalComponents
from .similarity import Similarity

__all__ = ["EmbeddingDistribution", "PrincipalComponents", "Similarity"]
