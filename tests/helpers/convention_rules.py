"""Rules of conventions and extensions that no package carries, written from their specifications field by field."""

import re
from collections.abc import Callable, Mapping
from typing import Any

URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+")
DOI = re.compile(r"10\.[0-9a-zA-Z]{4,}/[^\s]+")
DATA_TYPES = {"int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "float32", "float64"}

Rule = Callable[[Any], bool]


def is_uri(value: Any) -> bool:
    return isinstance(value, str) and URI.fullmatch(value) is not None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def list_of(rule: Rule, least: int = 0) -> Rule:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(rule, value))


def one_of(*values: str) -> Rule:
    return lambda value: value in values


def object_of(required: Mapping[str, Rule], optional: Mapping[str, Rule]) -> Rule:
    return lambda value: isinstance(value, dict) and not faults(value, required, optional)


def faults(fields: Mapping[str, Any], required: Mapping[str, Rule], optional: Mapping[str, Rule]) -> list[str]:
    """Return which fields are missing, unknown or break their rule."""
    missing = [f"{name} is missing" for name in required if name not in fields]
    rules = {**required, **optional}
    unknown = [f"{name} is unknown" for name in fields if name not in rules]
    broken = [f"{name} is {fields[name]!r}" for name in fields if name in rules and not rules[name](fields[name])]
    return missing + unknown + broken


def with_prefix(fields: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name.startswith(prefix)}


def is_scale(value: Any) -> bool:
    scalar = object_of({"type": one_of("scalar"), "scale": is_number}, {"offset": is_number})
    array = object_of({"type": one_of("array"), "array_name": is_text}, {"nodata": lambda _: True})
    return scalar(value) or array(value)


def is_full_depth_list(value: Any) -> bool:
    entry = object_of({"dimensions": is_count, "array": is_text}, {})
    return list_of(entry, 1)(value)


def geo_embedding_faults(metadata: Mapping[str, Any]) -> list[str]:
    """Return what in the metadata of a Zarr group breaks the geo-embeddings convention, version 1.

    `geoemb:depths` is not in version 1, which allows further fields; the rule is that of the stores that have it.
    """
    if metadata.get("node_type") != "group" or not isinstance(metadata.get("zarr_format"), int):
        return ["not a group"]
    attributes = metadata["attributes"]
    declared = [one for one in attributes["zarr_conventions"] if one.get("name") == "geoemb:"]
    base = "https://{}/geo-embeddings/embeddings-zarr-convention/{}"
    expected = {
        "schema_url": base.format("raw.githubusercontent.com", "refs/tags/v1/schema.json"),
        "spec_url": base.format("github.com", "blob/v1/README.md"),
        "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c",
        "name": "geoemb:",
        "description": "Geoembeddings convention for geospatial embedding arrays with model provenance",
    }
    required: dict[str, Rule] = {
        "geoemb:type": one_of("pixel", "chip"),
        "geoemb:dimensions": is_count,
        "geoemb:model": is_uri,
        "geoemb:source_data": list_of(is_uri, 1),
        "geoemb:data_type": is_text,
    }
    quantization = object_of(
        {"method": is_text, "original_dtype": is_text}, {"quantized_dtype": is_text, "scale": is_scale, "link": is_uri}
    )
    optional: dict[str, Rule] = {
        "geoemb:gsd": lambda value: is_number(value) and value > 0,
        "geoemb:quantization": quantization,
        "geoemb:spatial_layout": one_of("utm_zones", "global"),
        "geoemb:build_version": is_text,
        "geoemb:benchmark": list_of(is_uri),
        "geoemb:depths": is_full_depth_list,
    }
    found = faults(with_prefix(attributes, "geoemb:"), required, optional)
    return found + ([] if declared == [expected] else [f"declared as {declared}"])


IS_UNCERTAINTY = object_of({}, {"method": is_text, "description": is_text})


def embedding_collection_faults(collection: Mapping[str, Any]) -> list[str]:
    """Return what in a collection breaks the embedding extension 0.0.1 of STAC."""
    optional: dict[str, Rule] = {
        "emb:temporal_resolution": is_text,
        "emb:fit_for_use": list_of(is_text),
        "emb:uncertainty": IS_UNCERTAINTY,
    }
    found = faults(
        with_prefix(collection, "emb:"), {"emb:type": one_of("pixel", "chip"), "emb:dimensions": is_count}, optional
    )
    relations = [link["rel"] for link in collection["links"]]
    found += [f"no link {name}" for name in ("emb:model", "emb:source-data") if name not in relations]
    if collection.get("data_type") not in DATA_TYPES or not is_number(collection.get("gsd")):
        found.append("data_type or gsd")
    return found + _prefix_in_assets(collection.get("item_assets", {}))


def embedding_item_faults(item: Mapping[str, Any]) -> list[str]:
    """Return what in an item breaks the embedding extension 0.0.1 of STAC."""
    quantization = object_of(
        {"method": is_text, "original_dtype": one_of(*DATA_TYPES)},
        {"quantized_dtype": one_of(*DATA_TYPES), "scale": list_of(is_number), "offset": list_of(is_number)},
    )
    optional: dict[str, Rule] = {
        "emb:runtime_parameters": lambda value: isinstance(value, dict),
        "emb:uncertainty": IS_UNCERTAINTY,
        "emb:quantization": quantization,
    }
    found = faults(with_prefix(item["properties"], "emb:"), {}, optional)
    if "embeddings" not in item["assets"]:
        found.append("no asset embeddings")
    if "emb:uncertainty" in item["properties"] and not any(
        "uncertainty" in asset["roles"] for asset in item["assets"].values()
    ):
        found.append("no asset with the role uncertainty")
    return found + _prefix_in_assets(item["assets"])


def _prefix_in_assets(assets: Mapping[str, Any]) -> list[str]:
    return [f"{name} has a field emb:" for name, asset in assets.items() if with_prefix(asset, "emb:")]


PROCESSING: dict[str, Rule] = {
    "processing:software": lambda value: isinstance(value, dict) and all(map(is_text, value.values())),
    "processing:level": lambda value: re.fullmatch(r"RAW|L[0-4][A-C]?", value) is not None,
    "processing:lineage": is_text,
}


def processing_faults(collection_or_item: Mapping[str, Any]) -> list[str]:
    """Return what breaks the processing extension: item properties, or a provider of a collection that processed."""
    if collection_or_item["type"] == "Feature":
        fields = with_prefix(collection_or_item["properties"], "processing:")
        return faults(fields, {"processing:software": PROCESSING["processing:software"]}, PROCESSING)
    providers = [one for one in collection_or_item["providers"] if {"processor", "producer"} & set(one["roles"])]
    found = [] if providers else ["no provider processed"]
    for provider in providers:
        found += faults(with_prefix(provider, "processing:"), {}, PROCESSING)
    return found


def citation_faults(collection: Mapping[str, Any]) -> list[str]:
    """Return what in a collection breaks the scientific extension 1.0."""
    publication = object_of({}, {"doi": lambda value: DOI.fullmatch(value) is not None, "citation": is_text})
    return faults(with_prefix(collection, "sci:"), {"sci:publications": list_of(publication, 1)}, {})
