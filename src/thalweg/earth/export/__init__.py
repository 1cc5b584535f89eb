"""Embeddings in other formats: GeoTIFF, GeoParquet, STAC."""
