"""Similarity, principal components and the distribution of embeddings."""
