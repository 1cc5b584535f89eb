"""Search of catalogues: from a request to the scenes of a sensor."""
