"""Earth in the browser: two linked maps of an embedding store, its dates, and what one pixel says."""

from thalweg.app.earth.routes import earth_router
from thalweg.app.earth.tab import earth_tab

__all__ = ["earth_router", "earth_tab"]
