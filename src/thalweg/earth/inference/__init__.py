"""Embedding of cubes, block by block, in one or several processes."""
