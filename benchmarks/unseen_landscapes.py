"""Simulated landscapes that no model was trained on."""

UNSEEN = (
    (901, "temperate"),
    (902, "continental"),
    (903, "mediterranean"),
    (904, "semiarid"),
    (905, "boreal"),
    (906, "humid_tropical"),
    (907, "temperate"),
    (908, "continental"),
    (909, "mediterranean"),
    (910, "semiarid"),
    (911, "boreal"),
    (912, "humid_tropical"),
)
"""Seed and climate of each landscape; two of every climate."""
