from .daily_table import feature_columns, is_daily_table, read_daily_table, require_gpp, with_vegetation_columns
from .flux_days import check_quality, read_days
from .flux_files import DAY_COLUMN, MAX_LISTED, open_flux_table, read_site_list, require_flux_columns, site_name
from .gpp_columns import is_gpp_column, no_gpp_column, quality_column
from .physical_limits import GPP_UNITS, LIMITS, METEOROLOGY, METEOROLOGY_COLUMN, POTENTIAL_RADIATION
from .table_files import TableFile, open_table

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
    "is_gpp_column",
    "no_gpp_column",
    "open_flux_table",
    "open_table",
    "quality_column",
    "read_daily_table",
    "read_days",
    "read_site_list",
    "require_flux_columns",
    "require_gpp",
    "site_name",
    "with_vegetation_columns",
]
