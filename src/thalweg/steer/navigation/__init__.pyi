from .history import Node, Tree, embedding_file
from .navigate_config import NavigateConfig, Recipe
from .navigation import Navigation
from .simulated_user import DesiredImage, SimulatedNavigation, SimulatedUser

__all__ = [
    "DesiredImage",
    "NavigateConfig",
    "Navigation",
    "Node",
    "Recipe",
    "SimulatedNavigation",
    "SimulatedUser",
    "Tree",
    "embedding_file",
]
