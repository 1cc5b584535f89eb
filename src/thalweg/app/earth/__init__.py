"""Earth page in the browser: two linked maps of an embedding store, its dates, and the series of one pixel."""

from thalweg.app.earth.routes import earth_router
from thalweg.app.earth.tab import earth_tab

__all__ = ["earth_router", "earth_tab"]
