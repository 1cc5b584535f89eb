"""Aligned space-time cubes, read from a user's files and datasets."""
