"""Optical and radar signals of simulated surfaces."""
