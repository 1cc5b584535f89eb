"""Embedding spaces learned from satellites."""
