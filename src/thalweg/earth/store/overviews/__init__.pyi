from .map_view import whole_map
from .pyramid import write_overviews
from .reduction import color_means, lowest_flags, means, renormalized_means

__all__ = ["color_means", "lowest_flags", "means", "renormalized_means", "whole_map", "write_overviews"]
