"""Model card of a model repository: front matter of the geo-embeddings template, and how to use the model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CARD_FILE = "README.md"
"""File of a repository that holds its card."""


@dataclass(frozen=True)
class HubCard:
    """Content of the card of a model.

    Attributes:
        identifier: identifier of the model.
        sensors: titles of its sensors by their names.
        dimensions: numbers of dimensions of its nested embedding, rising.
        hashes: content hash of each checkpoint by the name of its folder.
    """

    identifier: str
    sensors: Mapping[str, str]
    dimensions: tuple[int, ...]
    hashes: Mapping[str, str]

    def front_matter(self) -> dict[str, Any]:
        """Return the fields of the front matter, as https://geoembeddings.org's template names and orders them."""
        products = {"sentinel-2": "sentinel-2-l2a", "sentinel-1": "sentinel-1-grd"}
        kinds = {"sentinel-2": "multispectral", "sentinel-1": "SAR"}
        data = {
            "data_types": sorted({kinds[name] for name in self.sensors if name in kinds}) or ["multispectral"],
            "product_names": [products.get(name, name) for name in self.sensors],
        }
        return {
            "language": ["en"],
            "license": "apache-2.0",
            "library_name": "thalweg",
            "provider": "The Thalweg developers",
            "tags": ["geospatial", "earth-observation", "embeddings", *self.sensors],
            "embedding_spatial_types": ["pixel"],
            "embedding_temporal_type": ["single-date"],
            "embedding_spatial_context": "spatial context beyond embedding spatial type",
            # The template's accepted value, word for word; it means the time around the date.
            "embedding_temporal_context": "spatial context beyond embedding temporal type",
            "embedding_dimension": self.dimensions[-1],
            "description": f"Embedding per pixel and date of {' and '.join(self.sensors.values())}, with calibrated "
            f"uncertainty; nested, {' and '.join(map(str, self.dimensions))} dimensions.",
            "compression": "none; stores may hold integers of 8 or 16 bits on a linear scale",
            "cautions": "traits were learned on simulated landscapes; places unlike the training places are untested",
            "precomputed_embeddings": "no",
            "publication_link": "https://arxiv.org/abs/2511.11706",
            "model_architecture": "autoencoders per sensor with attention over dates, frozen, and a fusion of them",
            "pretraining": {**data, "temporal_context": "multi-date"},
            "inference": {**data, "temporal_context": "multi-date"},
        }

    def text(self) -> str:
        """Return the card: front matter and body."""
        # Every JSON value is a YAML value, so that the card needs no YAML library.
        fields = "\n".join(f"{name}: {json.dumps(value)}" for name, value in self.front_matter().items())
        hashes = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in self.hashes.items())
        return f"""---
{fields}
---

# {self.identifier}

{self.front_matter()["description"]}

```python
from thalweg import EarthModel

model = EarthModel.from_pretrained("OWNER/NAME")  # or a folder with these files
```

Weights are safetensors; nothing is unpickled. Loading verifies the hash of every checkpoint, and the identifier follows
from them.

| checkpoint | SHA-256 of its tensors |
|---|---|
{hashes}
"""
