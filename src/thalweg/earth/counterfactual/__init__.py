"""Counterfactuals: minimal perturbations of an embedding that reach a target, and interpolation."""
