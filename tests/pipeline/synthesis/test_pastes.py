"""Pasting into real images.

From the plan to the table, a background is its source and labels are those asked for.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.run import Console, run_some
from synthaug.pipeline.synthesis.conditioning import conditioning_of
from tests import paths

REPOSITORY = paths.ROOT


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    output = tmp_path_factory.mktemp("pasted")
    overrides = [
        "generator.system=copy_paste",
        "cluster.executor=serial",
        "plan.target=counts",
        "plan.counts={balloon: 30, bus: 20, tree: 0}",
        "plan.count=24",
        "plan.natural_share=0",
        "data.unlabelled=",
        "detector.steps=1",
        "score.names=[dap]",
    ]
    job = load_job(REPOSITORY / "jobs" / "smoke.yaml", overrides, str(output))
    told: list[str] = []
    names = (
        "ingest",
        "train_detector",
        "self_train",
        "calibrate",
        "pseudo_label",
        "train_generator",
        "plan",
        "synthesize",
        "score",
    )
    done = run_some(job, Console(told.append, lambda *_: None), names)
    assert any("nothing is trained: copy_paste" in line for line in told)
    assert any("takes nothing away" in line for line in told)
    assert done["train_generator"].manifest["trained"] is False
    return {name: Path(out.folder.path) for name, out in done.items()} | {"manifests": output}


def test_a_job_makes_a_data_set_with_the_planned_objects(made: dict[str, Path]) -> None:
    table = parquet.open_table(str(made["synthesize"]))
    plan = parquet.open_table(str(made["plan"]))
    real = parquet.open_table(str(made["ingest"] / "labelled"))
    by_id = {real[i].image_id: real[i] for i in range(len(real))}
    names = [c.name for c in table.categories]
    asked: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    turned = set()
    for i in range(24):
        scene, planned = table[i], plan[i]
        shown = masks.decode_all(scene.objects, (64, 64))
        assert shown.sum(0).max() <= 1 and (masks.tight_boxes(shown) == scene.objects.boxes).all()
        assert set(scene.objects.id.tolist()) <= set(planned.objects.id.tolist())
        for count, objects in ((asked, planned.objects), (seen, scene.objects)):
            count.update(
                names[c]
                for c, s in zip(objects.category, objects.source, strict=True)
                if s == "synthetic"
            )
        assert scene.provenance is not None
        source = by_id[scene.provenance.source_image]
        mine, theirs = decode(scene), decode(source)
        besides = ~shown[[s == "synthetic" for s in scene.objects.source]].any(0)
        same = [(mine == way)[besides].all(1).mean() for way in (theirs, theirs[:, ::-1])]
        assert max(same) > 0.7, "the background is the source image, mirrored or not"
        turned.add(int(np.argmax(same)))
    assert turned == {0, 1}
    assert set(asked) <= {"balloon", "bus"} and asked["balloon"] > 15 and asked["bus"] > 3
    assert seen.total() >= 0.8 * asked.total()


def test_samples_of_validation_layouts_show_what_was_asked_for(made: dict[str, Path]) -> None:
    """Validation images are no backgrounds.

    Nothing is cut from them, and what else a background shows is no label.
    """
    twins = parquet.open_table(str(made["score"] / "twins"))
    real = parquet.open_table(str(made["ingest"] / "validation"))
    by_id = {real[i].image_id: real[i] for i in range(len(real))}
    assert len(twins) == len(real)
    pasted = 0
    for i in range(len(twins)):
        scene = twins[i]
        assert scene.provenance is not None
        asked = by_id[scene.provenance.source_image].objects
        assert scene.objects.category.tolist() == asked.category.tolist()
        pasted += int((scene.objects.area > 0).sum())
    assert pasted > len(twins)


def test_what_pasting_cannot_do_is_refused_before_any_work() -> None:
    for override in ("synthesize.size=generator", "synthesize.compiled=true"):
        job = load_job(
            REPOSITORY / "jobs" / "smoke.yaml", ["generator.system=copy_paste", override], None
        )
        with pytest.raises(JobError, match=override.split("=")[0]):
            conditioning_of(job).check()
