"""Embedding stores: schema, writing, reading and lookup."""
