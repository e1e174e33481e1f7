"""Whose boxes are to be learned: a person's always, others by a rule."""

from __future__ import annotations

from typing import Literal

import numpy as np

from synthaug.pipeline.core.arrays import Flags
from synthaug.pipeline.core.scene import Objects

# least IoU of an object's box with the judge's for `agreed`: it is tight then
AGREED_IOU = 0.8

BoxRule = Literal["all", "agreed", "none"]


def learned_boxes(objects: Objects, synthetic: BoxRule, pseudo: BoxRule) -> Flags:
    """Return the objects [N] whose boxes are learned.

    The rules differ for synthetic objects and for pseudo-labels. The judge agrees with a box when
    the detection that its verdict rests on has an IoU of AGREED_IOU with it; with one that it did
    not judge it does not agree.
    """
    agreed = objects.verdict_iou >= AGREED_IOU  # NaN, not judged: False
    learned = np.ones(len(objects), bool)
    rules = {"synthetic": synthetic, "pseudo": pseudo}
    for source, rule in rules.items():
        is_own = [name == source for name in objects.source]
        own = np.array(is_own, bool)
        if rule == "none":
            learned &= ~own
        elif rule == "agreed":
            learned &= ~own | agreed
    return learned
