"""The steps of a run, in the order data flows. One file each, with

NEEDS       names of the steps whose outputs it reads
VERSION     raised when the step's code changes what it writes
PUBLISHES   files of its folder that appear in the output folder
settings    (job) -> plain content; together with NEEDS and VERSION it names the output folder
run         (context) -> manifest content, written when everything else is

and, where there is something to say,

check       (job): raises JobError for what can be known from the job and the files it names
check_data  (job, inputs): raises JobError or DatasetError for what the data sets show
explain     (job, inputs) -> lines of a dry run on what the step would do
metrics     (manifest) -> content of metrics.json
provenance  (manifest) -> content that the manifests of all later steps repeat
links       (manifest) -> links of the chain and whether they hold (core/links.py)
further_needs   (job) -> names of the steps whose outputs it reads for this job, besides NEEDS
AS_ASKED    True where it sees the job without what derives from its data
derived     (job, manifest) -> the job with what its data decides, and a line for the user
"""

from __future__ import annotations

STEPS = {
    "ingest": "synthaug.pipeline.steps.ingest",
    "leaks": "synthaug.pipeline.steps.leaks",
    "train_detector": "synthaug.pipeline.steps.train_detector",
    "self_train": "synthaug.pipeline.steps.self_train",
    "calibrate": "synthaug.pipeline.steps.calibrate",
    "pseudo_label": "synthaug.pipeline.steps.pseudo_label",
    "train_generator": "synthaug.pipeline.steps.train_generator",
    "plan": "synthaug.pipeline.steps.plan",
    "synthesize": "synthaug.pipeline.steps.synthesize",
    "copies": "synthaug.pipeline.steps.copies",
    "verify": "synthaug.pipeline.steps.verify",
    "export": "synthaug.pipeline.steps.export",
    "score": "synthaug.pipeline.steps.score",
    "trial": "synthaug.pipeline.steps.trial",
    "report": "synthaug.pipeline.steps.report",
}
