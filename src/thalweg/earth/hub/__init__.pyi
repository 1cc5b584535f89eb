from .hub_card import CARD_FILE, HubCard
from .model_repository import MODEL_FILES, repository_folder, upload_folder

__all__ = ["CARD_FILE", "MODEL_FILES", "HubCard", "repository_folder", "upload_folder"]
