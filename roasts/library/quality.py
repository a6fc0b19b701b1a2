"""The words in which a roast is tasted and judged. Pure."""

from __future__ import annotations

#: What a cupper marks from 0 to 10.
ATTRIBUTES = (
    "fragrance", "flavour", "aftertaste", "acidity", "body", "balance", "sweetness", "clean_cup", "uniformity",
)  # fmt: skip
#: What can be wrong with a roast (the predecessor's list, reference "sim-corp" §1.1).
DEFECTS = (
    "baked", "scorched", "underdeveloped", "tipped", "quakers", "smoky", "astringent", "bitter", "sour", "flat",
)  # fmt: skip
LOWEST, HIGHEST = 0.0, 10.0
HIGHEST_SCORE = 100.0
