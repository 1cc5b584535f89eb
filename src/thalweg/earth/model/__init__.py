"""Per-sensor autoencoders, their fusion, and the trained set of both."""
