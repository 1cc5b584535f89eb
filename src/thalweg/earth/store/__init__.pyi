from .lookup import LocatedEmbedding, date_index, embedding_at, embedding_at_place, parse_date, parse_place
from .portable import structured
from .quantization import check_bits, dequantize, quantizations, quantize
from .reader import check_alike, fingerprint, holds_embeddings, open_overviews, open_store
from .schema import CONTEXT_DAYS, INTERVAL_LEVEL, Block, StoreSchema, empty_dataset, spatial_attributes
from .store_mosaic import write_mosaic
from .subsample import (
    block_shape,
    clear_fractions,
    evenly_spaced_dates,
    evenly_spaced_parts,
    mean_squared_distances,
    sample_vectors,
)
from .writer import create_store, fill_block, write_block
from .zarr_chunks import checked_compressors

__all__ = [
    "CONTEXT_DAYS",
    "INTERVAL_LEVEL",
    "Block",
    "LocatedEmbedding",
    "StoreSchema",
    "block_shape",
    "check_alike",
    "check_bits",
    "checked_compressors",
    "clear_fractions",
    "create_store",
    "date_index",
    "dequantize",
    "embedding_at",
    "embedding_at_place",
    "empty_dataset",
    "evenly_spaced_dates",
    "evenly_spaced_parts",
    "fill_block",
    "fingerprint",
    "holds_embeddings",
    "mean_squared_distances",
    "open_overviews",
    "open_store",
    "parse_date",
    "parse_place",
    "quantizations",
    "quantize",
    "sample_vectors",
    "spatial_attributes",
    "structured",
    "write_block",
    "write_mosaic",
]
