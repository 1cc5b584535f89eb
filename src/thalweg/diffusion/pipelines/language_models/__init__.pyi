from .chroma import Chroma
from .flux_2_klein import Flux2Klein
from .lumina_2 import Lumina2
from .qwen_image import QwenImage
from .sana import Sana
from .z_image import ZImage

__all__ = ["Chroma", "Flux2Klein", "Lumina2", "QwenImage", "Sana", "ZImage"]
