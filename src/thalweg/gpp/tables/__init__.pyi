from .daily_table import feature_columns, is_daily_table, read_daily_table, require_target, with_vegetation_columns
from .flux_days import check_quality, read_days
from .flux_files import DAY_COLUMN, MAX_LISTED, open_flux_table, read_site_list, require_flux_columns, site_name
from .physical_limits import GPP_UNITS, LIMITS, METEOROLOGY, METEOROLOGY_COLUMN, POTENTIAL_RADIATION
from .table_files import TableFile, open_table
from .target_columns import no_target_column, quality_column

__all__ = [
    "DAY_COLUMN",
    "GPP_UNITS",
    "LIMITS",
    "MAX_LISTED",
    "METEOROLOGY",
    "METEOROLOGY_COLUMN",
    "POTENTIAL_RADIATION",
    "TableFile",
    "check_quality",
    "feature_columns",
    "is_daily_table",
    "no_target_column",
    "open_flux_table",
    "open_table",
    "quality_column",
    "read_daily_table",
    "read_days",
    "read_site_list",
    "require_flux_columns",
    "require_target",
    "site_name",
    "with_vegetation_columns",
]
