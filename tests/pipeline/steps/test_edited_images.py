"""A small run of an in-filler with every use.

The same bytes however it is worked on, labels that can be checked.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.planning.edit_planner import USES, use_of
from synthaug.pipeline.run import Console, run_some
from tests import paths

COUNT = 20
SHARES = dict.fromkeys(USES, 1.0)
WORDS = [
    *("cluster.executor=serial", "detector.steps=1", "data.unlabelled=", "seed=3"),
    *("generator.system=fill", "generator.steps=2", "generator.batch=2"),
    *("generator.resolutions=[16,32]", "generator.width=8", "generator.embedding=16"),
    *("generator.flow_steps=1", "generator.min_objects=0", "plan.target=balanced"),
    *(f"plan.count={COUNT}", "plan.empties=0.5", "plan.shard=7", "synthesize.workers=1"),
    f"plan.uses={{{', '.join(f'{use}: 1' for use in USES)}}}",
    "data.labelled=toy:train?count=10&size=48",
    *("synthesize.min_mask_area=1", "trial.seeds=0"),
]


def made(output: Path, *words: str) -> dict[str, Path]:
    job = load_job(paths.JOBS / "smoke.yaml", [*WORDS, *words], str(output))
    names = ("ingest", "train_detector", "self_train", "calibrate", "pseudo_label")
    done = run_some(
        job,
        Console(lambda _: None, lambda *_: None),
        (*names, "train_generator", "plan", "synthesize"),
    )
    return {name: Path(out.folder.path) for name, out in done.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return made(tmp_path_factory.mktemp("edited"))


def test_every_use_changes_pixels_and_labels_as_it_says(run: dict[str, Path]) -> None:
    planned = parquet.open_table(str(run["plan"]))
    table = parquet.open_table(str(run["synthesize"]))
    real = parquet.open_table(str(run["ingest"] / "labelled"))
    by_id = {scene.image_id: scene for scene in real}
    seen: Counter[str] = Counter()
    for before, after in zip(planned, table, strict=True):
        assert after.provenance is not None
        use = use_of(after.provenance.seed, SHARES)
        source = by_id[after.provenance.source_image]
        synthetic = [name == "synthetic" for name in after.objects.source]
        asked = [name == "synthetic" for name in before.objects.source]
        things = int((~source.objects.iscrowd).sum())
        if use in ("insert", "ring"):
            assert len(after.objects) <= things + sum(asked)
        elif use == "erase":
            assert not any(synthetic) and len(after.objects) <= things - sum(asked)
        elif use == "empty":
            assert not any(synthetic) and len(after.objects) <= things
        else:
            assert sum(synthetic) <= sum(asked) and len(after.objects) <= things
        pixels, original = decode(after), decode(source)
        mirrored = original[:, ::-1]
        changed = min((pixels != way).any(2).mean() for way in (original, mirrored))
        if any(asked):
            assert changed > 0
            seen[use] += 1
        assert changed < 0.9
    assert set(USES) == set(seen)


def test_masks_are_disjoint_and_boxes_theirs(run: dict[str, Path]) -> None:
    for scene in parquet.open_table(str(run["synthesize"])):
        shown = masks.decode_all(scene.objects, scene.size)
        assert shown.sum(0).max() <= 1
        np.testing.assert_array_equal(masks.tight_boxes(shown), scene.objects.boxes)
        assert len(set(scene.objects.id.tolist())) == len(scene.objects)


def test_batches_and_shards_change_nothing(run: dict[str, Path], tmp_path: Path) -> None:
    """Images made one by one in one shard are those made in shards of seven."""
    again = made(tmp_path, "plan.shard=32", "synthesize.batch=1")
    first = parquet.open_table(str(run["synthesize"]))
    second = parquet.open_table(str(again["synthesize"]))
    for one, other in zip(first, second, strict=True):
        assert one.image_id == other.image_id
        difference = decode(one).astype(int) - decode(other)
        assert np.abs(difference).max() <= 1
        assert one.objects.category.tolist() == other.objects.category.tolist()
