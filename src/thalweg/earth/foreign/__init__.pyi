from .alphaearth import dequantize_alphaearth, open_alphaearth
from .feature_classes import classify_features
from .feature_vectors import FEATURE, feature_at, feature_components, feature_similarity, is_feature_table
from .opening import open_embeddings, open_grid
from .tessera_tiles import open_tessera_tiles, tile_grid
from .tessera_zarr import is_tessera_zarr, open_tessera_zarr
from .vector_tables import open_vector_table

__all__ = [
    "FEATURE",
    "classify_features",
    "dequantize_alphaearth",
    "feature_at",
    "feature_components",
    "feature_similarity",
    "is_feature_table",
    "is_tessera_zarr",
    "open_alphaearth",
    "open_embeddings",
    "open_grid",
    "open_tessera_tiles",
    "open_tessera_zarr",
    "open_vector_table",
    "tile_grid",
]
