"""Embedding of whole cubes, block by block, in one process or many."""
