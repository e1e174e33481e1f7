"""Generators: layouts in, images and masks out. One paper system per module, imported when a job chooses it.

A generator module has GUIDE (what drives it: "boxes", "maps", "pastes" or "posthoc"), a frozen dataclass `Config`,
`build(config, num_classes) -> nn.Module` (fresh weights), `producer(network, device, ...)`, which for boxes returns a
Generator and for maps something that paints them (spade_production.Spade), and, where it can be trained,
`trainee(config, num_classes) -> Trainee`.
"""

from __future__ import annotations

GENERATORS = {
    "lostgan": "synthaug.generators.lostgan",
    "boxes": "synthaug.generators.boxes",
    "spade": "synthaug.generators.spade",
    "panoptic": "synthaug.generators.panoptic",
    "copy_paste": "synthaug.generators.copy_paste",
    "posthoc": "synthaug.generators.posthoc",
}
