from .flux_days import check_quality, read_days
from .flux_files import DAY_COLUMN, MAX_LISTED, open_flux_table, read_site_list, require_flux_columns, site_name
from .wind_records import read_wind

__all__ = [
    "DAY_COLUMN",
    "MAX_LISTED",
    "check_quality",
    "open_flux_table",
    "read_days",
    "read_site_list",
    "read_wind",
    "require_flux_columns",
    "site_name",
]
