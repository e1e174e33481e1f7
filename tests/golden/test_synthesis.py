"""Finished scenes of every conditioning: what the network painted becomes labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.generators import checkpoint, load_system
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.synthesis.conditioning import CONDITIONINGS, conditioning_of
from tests.golden import test_samples
from tests.golden.recorded import hold
from tests.golden.scenes import described, painted
from tests.pipeline.synthesis.test_conditioning import NAMES, WORDS, job_of

PLANNED = 5
BARE = [
    *("plan.target=balanced", "plan.jitter=0.1", "generator.max_objects=20"),
    "synthesize.min_mask_area=9",
]
MORE = {  # conditioning -> further words of its job
    "edit": ["plan.uses={insert: 1, ring: 1, redraw: 1, erase: 1, empty: 1}", "plan.empties=0.5"],
    "paste": ["plan.uses={}"],
    "map": ["plan.rearrange=0.3", "plan.jitter=0"],
}


@pytest.mark.parametrize("name", list(CONDITIONINGS))
def test_finished_scenes_are_what_they_were(name: str, tmp_path: Path) -> None:
    words = [*WORDS[name], *BARE, *MORE.get(name, [])]
    if name == "layout, then map":
        words += parts(tmp_path)
    conditioning = conditioning_of(job_of(name, *words))
    labelled = tmp_path / "steps" / "ingest-0" / "labelled"
    parquet.write(painted(), Folder.at(str(labelled)))
    trained = Folder.at(str(tmp_path / "steps" / "train_generator-0"))
    for file, content in conditioning.files([str(labelled)]).items():
        trained.write_json(file, content)
    network = test_samples.drawn(conditioning.system, conditioning.job.generator.config, len(NAMES))
    synthesizer = conditioning.synthesizer(network, "cpu", trained)
    planner = conditioning.planner(painted())
    planned = [planner.scene(index) for index in range(PLANNED)]
    rows = {}
    for number, finished in enumerate(synthesizer(planned, toy.CATEGORIES, "f" * 64)):
        rows[f"scene {number}"] = described(finished.scene, painted())
        rows[f"scene {number}: lost"] = dict(sorted(finished.lost.items()))
    hold(f"finished_{name.replace(', ', '_').replace(' ', '_')}", rows, rel=1e-2, least=3e-3)


def parts(folder: Path) -> list[str]:
    """Write the two networks of a system in two stages; return the words that name them."""
    words = []
    tiny = {
        "lostgan": {
            **{"resolution": 64, "width": 2, "z_image": 4, "z_object": 4},
            **{"embedding": 4, "mask_hidden": 4},
        },
        "panoptic": {"resolution": 32, "width": 2, "width_d": 2},
    }
    for key, name in (("layouts", "lostgan"), ("maps", "panoptic")):
        system = load_system(name)
        config = system.Config(**tiny[name])
        path = folder / f"{name}.safetensors"
        network = test_samples.drawn(system, config, len(NAMES))
        checkpoint.save(path, network, name, config, NAMES, {})
        words.append(f"generator.{key}='{path}'")
    return words
