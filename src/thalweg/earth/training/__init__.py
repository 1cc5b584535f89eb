"""Training of the autoencoders and the fusion."""
