from .daily_table import feature_columns, is_daily_table, read_daily_table, require_target, with_vegetation_columns
from .physical_limits import GPP_UNITS, LIMITS, METEOROLOGY, METEOROLOGY_COLUMN, POTENTIAL_RADIATION
from .table_files import TableFile, open_table
from .target_columns import no_target_column, quality_column

__all__ = [
    "GPP_UNITS",
    "LIMITS",
    "METEOROLOGY",
    "METEOROLOGY_COLUMN",
    "POTENTIAL_RADIATION",
    "TableFile",
    "feature_columns",
    "is_daily_table",
    "no_target_column",
    "open_table",
    "quality_column",
    "read_daily_table",
    "require_target",
    "with_vegetation_columns",
]
