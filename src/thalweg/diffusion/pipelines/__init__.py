"""Pipeline adapters: the differences between the supported text-to-image pipelines."""
