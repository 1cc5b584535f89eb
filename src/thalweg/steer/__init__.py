"""Moving in an embedding space: toward a metric, along a person's choices, until a seed's look is in the embedding."""
