"""Export of embeddings to GeoTIFF, GeoParquet and STAC."""
