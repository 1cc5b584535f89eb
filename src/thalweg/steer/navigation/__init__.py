"""Navigation of an embedding space by choosing among candidates."""
