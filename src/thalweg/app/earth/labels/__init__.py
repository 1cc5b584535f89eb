"""Labels of the Earth page: checked, read from files, and mapped."""

from thalweg.app.earth.labels.label_maps import LabelMaps
from thalweg.app.earth.labels.label_routes import add_label_routes, attachment
from thalweg.app.earth.labels.page_labels import MAX_PAGE_CLASSES

__all__ = ["MAX_PAGE_CLASSES", "LabelMaps", "add_label_routes", "attachment"]
