from .auth import Streams, add_guards, user_of
from .checked_blocks import CheckedBlocks, check_clicked
from .gradio_requests import GradioRequests
from .hosts import LOOPBACK, AllowedHosts, check_access, check_port, new_token
from .messages import browser_message
from .uploads import UPLOAD_LIMIT, Uploads, private_folder

__all__ = [
    "LOOPBACK",
    "UPLOAD_LIMIT",
    "AllowedHosts",
    "CheckedBlocks",
    "GradioRequests",
    "Streams",
    "Uploads",
    "add_guards",
    "browser_message",
    "check_access",
    "check_clicked",
    "check_port",
    "new_token",
    "private_folder",
    "user_of",
]
