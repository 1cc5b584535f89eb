from .calendar_dataset import on_calendar
from .calendar_interpolation import CalendarInterpolation, store_calendar
from .feature_plan import FeaturePlan, FeatureReader

__all__ = ["CalendarInterpolation", "FeaturePlan", "FeatureReader", "on_calendar", "store_calendar"]
