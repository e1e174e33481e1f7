"""Generators: layouts in, images and masks out. One paper system per module, imported when a job chooses it.

A generator module has a frozen dataclass `Config`, `build(config, num_classes) -> nn.Module` (fresh weights),
`producer(network, device, truncation) -> Generator` and, where it can be trained, `trainee(config, num_classes) -> Trainee`.
"""

from __future__ import annotations

GENERATORS = {
    "lostgan": "generators.lostgan",
    "boxes": "generators.boxes",
    "spade": "generators.spade",
}
