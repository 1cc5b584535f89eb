from .atomic import atomic_file, atomic_folder, atomic_write, refuse_existing, write_failure
from .checkpoints import CARD, ModelFormat, load_state
from .hashing import content_hash, file_hash, hash_uri, json_hash
from .image_files import png, read_image, read_mask
from .json_files import read_as, read_json
from .progress_log import LOG_FILE, ProgressLog, complete_finalize
from .redaction import public_cause, redact, redact_logs
from .safetensors_files import LFS_POINTER, SUFFIX, describe_wrong_content, open_safetensors, read_tensors
from .state import STATE, check_request, read_state, write_state

__all__ = [
    "CARD",
    "LFS_POINTER",
    "LOG_FILE",
    "STATE",
    "SUFFIX",
    "ModelFormat",
    "ProgressLog",
    "atomic_file",
    "atomic_folder",
    "atomic_write",
    "check_request",
    "complete_finalize",
    "content_hash",
    "describe_wrong_content",
    "file_hash",
    "hash_uri",
    "json_hash",
    "load_state",
    "open_safetensors",
    "png",
    "public_cause",
    "read_as",
    "read_image",
    "read_json",
    "read_mask",
    "read_state",
    "read_tensors",
    "redact",
    "redact_logs",
    "refuse_existing",
    "write_failure",
    "write_state",
]
