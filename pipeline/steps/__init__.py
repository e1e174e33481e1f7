"""The steps of a run, in the order data flows. One file each, with

NEEDS     names of the steps whose outputs it reads
VERSION   raised when the step's code changes what it writes
settings  (job) -> plain content; together with NEEDS and VERSION it names the output folder
run       (context) -> manifest content, written when everything else is
"""

from __future__ import annotations

STEPS = {
    "ingest": "pipeline.steps.ingest",
    "leaks": "pipeline.steps.leaks",
    "train_detector": "pipeline.steps.train_detector",
    "self_train": "pipeline.steps.self_train",
    "calibrate": "pipeline.steps.calibrate",
    "pseudo_label": "pipeline.steps.pseudo_label",
    "train_generator": "pipeline.steps.train_generator",
    "plan": "pipeline.steps.plan",
    "synthesize": "pipeline.steps.synthesize",
    "copies": "pipeline.steps.copies",
    "verify": "pipeline.steps.verify",
    "export": "pipeline.steps.export",
    "score": "pipeline.steps.score",
    "trial": "pipeline.steps.trial",
    "report": "pipeline.steps.report",
}
