"""The recipe beside an exported data set.

The keys by which added images are to be learned, and their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.trial.recipe import Recipe
from synthaug.pipeline.trial.recommendation import recommendation

REAL = "real"  # the set of labelled images


def recipe_record(metrics: Mapping[str, Any], images: Mapping[str, int]) -> Json:
    """Return the content of recipe.json for a run's metrics.

    With the number of training images of each set.

    The keys are those of the trial's recipe, and usual ones where the run had no trial. An image of
    a set is drawn by its weight: the added sets fill `share` of what is drawn, each an equal part
    of it; real images have 1.
    """
    trial = metrics.get("trial", {})
    recipe = Recipe(**trial.get("recipe_keys", {}))
    added = [name for name, count in images.items() if name != REAL and count]
    weights = dict.fromkeys(images, 1.0)
    if images.get(REAL) and added and recipe.share < 1:
        share = recipe.share / len(added)
        for name in added:
            odds = share / (1 - recipe.share)
            weights[name] = round(odds * images[REAL] / images[name], 6)
    return {"advice": recommendation(trial), "recipe": asdict(recipe), "weights": weights}
