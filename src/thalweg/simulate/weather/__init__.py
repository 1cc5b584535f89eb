"""Climates, daily weather and clouds of a simulated landscape."""
