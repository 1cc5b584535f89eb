from .session import Sessions, SteeringContext
from .tabs import AT_ONCE, STATIC, steering_tabs

__all__ = ["AT_ONCE", "STATIC", "Sessions", "SteeringContext", "steering_tabs"]
