"""Climates, daily weather and the position of the sun."""
