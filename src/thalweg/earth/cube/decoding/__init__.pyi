from .band_decoding import Decoding
from .measurements import average_power, decode_block
from .offsets import OffsetMetadata, offset_metadata, parse_flag, product_offset
from .series_decoding import offset_metadata_of
from .value_checks import checked_decoding, count_lines

__all__ = [
    "Decoding",
    "OffsetMetadata",
    "average_power",
    "checked_decoding",
    "count_lines",
    "decode_block",
    "offset_metadata",
    "offset_metadata_of",
    "parse_flag",
    "product_offset",
]
