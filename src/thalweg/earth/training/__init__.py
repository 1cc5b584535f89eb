"""Training of autoencoders and fusions: tiles, masking, losses, Lightning modules, runs and calibration."""
