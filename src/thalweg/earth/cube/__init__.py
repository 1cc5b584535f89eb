"""A user's data in: files and datasets as aligned space-time cubes."""
