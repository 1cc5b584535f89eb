from .clusters import Clusters, cluster
from .distribution import EmbeddingDistribution
from .pca import PrincipalComponents
from .similarity import Similarity

__all__ = ["Clusters", "EmbeddingDistribution", "PrincipalComponents", "Similarity", "cluster"]
