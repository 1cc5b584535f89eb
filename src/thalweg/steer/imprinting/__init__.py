"""Imprinting: what one seed shows, put into the embedding."""
