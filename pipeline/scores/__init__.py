"""Scores: one module each; a score looks at images, reduces what it saw to named numbers with a card, and does no more.

A score module has

    Config                               frozen dataclass: all that can be chosen, with defaults and checks
    looks(config) -> tuple[Look, ...]    what is observed in each image (`base.Look`), and of how many images per layout
    available(material, config)          None, or in one line why this score cannot be had; cheap, no pixel is decoded
    score(material, config) -> Metric    from `material.seen(look, table)`, in flat memory: number, controls, card
    files(config) -> tuple[str, ...]     optional: names of published networks, looked for in the folder of weights
    lacks(folder, config)                optional: None, or why this machine cannot have it, whatever the data
    pictures(material, metric)           optional: files to look at, name -> bytes, drawn when the metric is there
    pupils(material, config) -> tuple    optional: networks (`base.Pupil`) trained on the records, between looks and `score`

`base.py` tells what a look, a record, a pupil and the material are; `full_card` there makes a complete card. The pipeline
paints the synthetic twins, runs the looks on the pool, trains the pupils, and calls `score`; `synthaug score` does the same
with any two data sets. Looks that are equal are done once, so scores that read the same features share them.

A new score is a new file and a line in SCORES; tests/pipeline/scores/test_score_contract.py then tests it. USUAL are those
that a job measures, where they can be had, when it does not name any.
"""

from __future__ import annotations

SCORES = {
    "dap": "synthaug.pipeline.scores.detection.dap",
    "cas": "synthaug.pipeline.scores.classification.cas",
    "mask_iou": "synthaug.pipeline.scores.segmentation.mask_iou",
    "segmentation": "synthaug.pipeline.scores.segmentation.segmentation",
    "detector_features": "synthaug.pipeline.scores.features.detector_features",
    "nearest": "synthaug.pipeline.scores.features.nearest",
    "fid": "synthaug.pipeline.scores.features.fid",
    "kid": "synthaug.pipeline.scores.features.kid",
    "inception_score": "synthaug.pipeline.scores.features.inception_score",
    "prdc": "synthaug.pipeline.scores.features.prdc",
    "diversity": "synthaug.pipeline.scores.features.diversity",
}
USUAL = ("dap", "cas", "mask_iou", "detector_features", "nearest")
