"""The job for photos runs to its end on a sample, with other sizes only.

Objects are painted into the real images.
"""

from __future__ import annotations

import json
from pathlib import Path

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.run import Console, run
from tests.paper_jobs import THREE_THINGS
from tests.pipeline.formats.samples import sample_table, write_sample

SIZES = (
    "cluster.executor=serial",
    "checks=report",  # a detector of one step has learned nothing
    "data.leaks=report",  # all splits are the same few images
    *("detector.backbone=small", "detector.width=4", "detector.fpn_channels=8"),
    *("detector.box_head=8", "detector.image_size=32", "detector.steps=1", "detector.batch=2"),
    *("generator.resolutions=[16]", "generator.width=4", "generator.embedding=8"),
    *("generator.steps=2", "generator.batch=2", "generator.flow_steps=1"),
    *("plan.count=3", "verify.steps=1", "report.samples=1"),
    *("score.cas.steps=1", "score.cas.width=8", "score.cas.batch=4"),
    *("score.dap.samples_per_layout=1", "score.dap.resamples=2"),
    "synthesize.min_mask_area=1",
)


def test_photos_get_painted_objects_beside_their_own(tmp_path: Path) -> None:
    table = sample_table(*[THREE_THINGS] * 3)
    reference = write_sample("coco", table, tmp_path / "photos")
    splits = ("labelled", "unlabelled", "validation")
    keys = [f"data.root='{tmp_path / 'photos'}'"]
    keys += [f"data.{split}='{reference}'" for split in splits]
    job = load_job(Path("photos"), [*keys, *SIZES], str(tmp_path / "run"))
    told: list[str] = []
    output = run(job, Console(told.append, lambda *_: None))

    metrics = json.loads(output.read_bytes("metrics.json"))
    asked = set(job.score.settings)
    assert asked == set(metrics["scores"]) | set(metrics["scores_unavailable"])
    coco = tmp_path / "run" / "coco"
    made = open_dataset("coco:instances.json?images=images", coco, key="made")
    # a judge of one step may find nothing of what was painted, and an image goes with it
    images = metrics["verified"]["images"]
    assert len(made) == images["verified"] > 0
    assert sum(images.values()) == 3
    ids = {scene.image_id for scene in table}
    reasons = []
    for scene in (
        made
    ):  # what a person labelled is still there; what so small a network paints may not be seen
        assert len(scene.objects) >= len(THREE_THINGS)
        assert scene.provenance is not None
        assert scene.provenance.source_image in ids
        reasons.append(scene.provenance.reason)
    assert any(reason.startswith("balanced: +") for reason in reasons)
