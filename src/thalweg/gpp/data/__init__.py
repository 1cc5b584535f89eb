"""Daily features and tower data for GPP models."""
