"""Decoding of stored numbers into values in a sensor's units, with a quality per pixel."""
