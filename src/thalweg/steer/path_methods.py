"""Names of the methods of interpolation between two embeddings."""

from typing import Literal

Method = Literal["lerp", "slerp", "transport"]
METHODS: tuple[Method, ...] = ("lerp", "slerp", "transport")
