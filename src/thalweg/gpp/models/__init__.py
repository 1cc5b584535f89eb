"""GPP models and their baselines."""
