"""Observations of a simulated landscape: overpasses, clouds, satellite datasets and the truth behind them."""
