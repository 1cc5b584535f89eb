from .heterogeneity import Heterogeneity, draw_heterogeneity, vigour
from .land_cover import LAND_COVER, is_surface, trait
from .light_use_efficiency import absorbed_share, greenness, light_use
from .management import plan_management
from .parcels import PIXEL, Parcels, draw_parcels
from .random_fields import random_field
from .vegetation import Growth, grow

__all__ = [
    "LAND_COVER",
    "PIXEL",
    "Growth",
    "Heterogeneity",
    "Parcels",
    "absorbed_share",
    "draw_heterogeneity",
    "draw_parcels",
    "greenness",
    "grow",
    "is_surface",
    "light_use",
    "plan_management",
    "random_field",
    "trait",
    "vigour",
]
