from .identity import Hashes, Identifier, hash_network
from .library_logging import quiet
from .model_folder import (
    CONFIG,
    INDEX,
    VOCABULARIES,
    WEIGHT_STEMS,
    check_files,
    find_folder,
    find_weights,
    hint_nearby,
    read_config,
    read_object,
)
from .single_file import SingleFile, find_model
from .weight_files import file_type, fill, load_network, load_part

__all__ = [
    "CONFIG",
    "INDEX",
    "VOCABULARIES",
    "WEIGHT_STEMS",
    "Hashes",
    "Identifier",
    "SingleFile",
    "check_files",
    "file_type",
    "fill",
    "find_folder",
    "find_model",
    "find_weights",
    "hash_network",
    "hint_nearby",
    "load_network",
    "load_part",
    "quiet",
    "read_config",
    "read_object",
]
