"""Stored numbers to values in a sensor's units."""
