"""Optimisation of a prompt embedding toward an image metric."""
