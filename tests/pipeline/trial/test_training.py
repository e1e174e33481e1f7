"""A training of an arm is named by all that decides it, and does what its arm says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.trial import training as arm_training
from synthaug.pipeline.trial.arms import ARMS, Arm, arm_named
from synthaug.pipeline.trial.bench import Bench
from synthaug.pipeline.trial.stages import CONFIRMATION, SCREENING
from synthaug.pipeline.trial.tables import Sources
from synthaug.pipeline.trial.training import ArmTrainer, Training
from tests.fake_run import fake_run

REAL = Training(ARMS["real"], SCREENING, 0, 100)
DETECTOR = [
    *("detector.steps=2", "detector.batch=2", "detector.save_every=2", "detector.width=4"),
    *("detector.image_size=32", "detector.fpn_channels=8", "detector.box_head=8"),
    *("detector.proposals_train=8", "detector.proposals_test=8"),
]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return fake_run(
        tmp_path_factory.mktemp("run"), overrides=["trial.seeds=2", *DETECTOR], labelled=4, images=2
    )


def key(context: Context, training: Training, digests: dict[str, str] | None = None) -> str:
    bench = Bench.of(context)
    return replace(bench, digests=digests or {}).key(training)


def of(arm: Arm) -> Training:
    return replace(REAL, arm=arm)


def with_trial(context: Context, **keys: object) -> Context:
    return replace(context, job=replace(context.job, trial=Trial(**{"seeds": 2, **keys})))


def test_a_training_is_known_by_all_that_decides_it_and_not_by_its_name(context: Context) -> None:
    real = key(context, REAL)
    renamed = replace(ARMS["real"], name="other", description="x", role="control")
    assert key(context, of(renamed)) == real
    others = [
        *(of(ARMS[name]) for name in ("rfs", "irfs", "lsj", "synthetic", "real_half", "real_more")),
        of(replace(ARMS["rfs"], threshold=0.3)),
        of(replace(ARMS["synthetic"], fraction=0.5)),
        replace(REAL, stage=CONFIRMATION),
        replace(REAL, number=1),
        replace(REAL, steps=200),
    ]
    assert len({real, *(key(context, other) for other in others)}) == 1 + len(others)


def test_twice_the_steps_are_real_2x_whatever_they_are_called(context: Context) -> None:
    """So the search for the budget trains what an arm needs anyway."""
    twice = replace(REAL, arm=ARMS["real_2x"], steps=200)
    assert key(context, twice) == key(context, replace(REAL, steps=200))


def test_an_arm_is_trained_again_when_the_images_it_adds_are_others(context: Context) -> None:
    made = context.inputs["verify"]
    moved = replace(made, folder=Folder.at("/elsewhere/verify-123"))
    other = replace(context, inputs={**context.inputs, "verify": moved})
    for name in ("real", "synthetic", "placebo"):
        assert key(context, of(ARMS[name])) == key(other, of(ARMS[name]))
    assert key(context, of(ARMS["verified"])) != key(other, of(ARMS["verified"]))


def test_a_training_depends_on_the_data_sets_of_its_own(context: Context) -> None:
    bought, given = of(arm_named("external:bought")), of(arm_named("external:given"))
    one = {"trial.external.bought": "1", "trial.external.given": "1"}
    one |= {"trial.evaluation": "1", "trial.more": "1"}
    for name, training in (
        ("trial.external.bought", bought),
        ("trial.more", of(ARMS["real_more"])),
        ("trial.evaluation", replace(REAL, stage=CONFIRMATION)),
    ):
        other = {**one, name: "2"}
        assert key(context, training, one) != key(context, training, other)
        for unchanged in (REAL, given):
            assert key(context, unchanged, one) == key(context, unchanged, other)


def test_settings_of_copy_paste_matter_to_arms_that_paste(context: Context) -> None:
    paste = context.job.trial.copy_paste
    one = with_trial(context, copy_paste=paste)
    other = with_trial(context, copy_paste=replace(paste, most=7))
    assert key(one, REAL) == key(other, REAL)
    assert key(one, of(ARMS["copy_paste"])) != key(other, of(ARMS["copy_paste"]))


def test_keys_that_only_choose_train_nothing_again(context: Context) -> None:
    one = with_trial(context)
    for keys in ({"seeds": 9}, {"goal": "rare"}, {"gain": 0.1}, {"confirm_seeds": 0}):
        assert key(one, REAL) == key(with_trial(context, **keys), REAL)


def test_an_arm_trains_the_detector_that_it_asks_for(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own augmentation, the seed of its stage, and so many steps."""
    from synthaug.detectors import torchvision_rcnn

    seen = []
    build = torchvision_rcnn.build

    def recorded(config, num_classes, seed, device):
        seen.append((config.scale_jitter, config.detections_per_image, seed))
        return build(config, num_classes, seed=seed, device=device)

    monkeypatch.setattr(torchvision_rcnn, "build", recorded)
    bench = Bench.of(context)
    tables = {**bench.sources.tables, "validation": bench.sources.tables["real"]}
    trainer = ArmTrainer(replace(bench.sources, tables=tables))
    training = Training(ARMS["lsj"], SCREENING, 3, 1)
    row = trainer("lsj-3", (training, range(2)))
    assert seen == [(1.0, 1000, SCREENING.seed(context.job.seed, 3) % 2**31)]
    assert (row["arm"], row["stage"], row["seed"], row["steps"]) == ("lsj", "screening", 3, 1)
    assert row["rows"] == 2
    assert not (Path(bench.sources.folder) / "lsj-3" / "state.safetensors").exists()


class StopHereError(Exception):
    """Ends a training where it would begin."""


def test_arms_of_one_number_start_alike_and_draw_alike(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The comparison is paired: what differs between two arms is their images, not their luck."""
    drawn: list[tuple[int, int, list[list[int]]]] = []
    labelled = context.inputs["ingest"].folder.sub("labelled").uri
    sources = Sources(context.job, {"real": labelled, "validation": labelled}, str(tmp_path))

    class Backend:
        @staticmethod
        def build(config: object, num_classes: int, seed: int, device: str) -> object:
            class Detector:
                def training(self, steps: int, training_seed: int) -> tuple[int, int]:
                    return seed, training_seed

            return Detector()

    def record(seeds: tuple[int, int], batches: Any, *_: object) -> None:
        images = [[int(sample.image.sum()) for sample in batches(step)] for step in range(3)]
        drawn.append((*seeds, images))
        raise StopHereError

    monkeypatch.setattr(arm_training.importlib, "import_module", lambda _: Backend)
    monkeypatch.setattr(arm_training, "train", record)
    trainer = ArmTrainer(sources)
    twin = replace(ARMS["real"], name="the same by another name")
    for one in (REAL, replace(REAL, number=1), of(twin)):
        with pytest.raises(StopHereError):
            trainer._train(one, Folder.at(tmp_path / "arm"))
    first, other_number, other_arm = drawn
    assert first == other_arm
    assert first != other_number


def test_what_is_learned_of_added_images_matters_to_arms_that_add_some(context: Context) -> None:
    one = with_trial(context)
    for keys in ({"share": 0.25}, {"real_last": 0.1}, {"added_boxes": "agreed"}):
        other = with_trial(context, **keys)
        assert key(one, of(ARMS["synthetic"])) != key(other, of(ARMS["synthetic"]))
        assert key(one, REAL) == key(other, REAL)


def test_added_images_take_places_of_real_ones(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All arms learn from batches of one size."""
    labelled = context.inputs["ingest"].folder.sub("labelled").uri
    tables = dict.fromkeys(("real", "validation", "synthetic"), labelled)
    sizes: list[int] = []

    class Backend:
        @staticmethod
        def build(config: object, num_classes: int, seed: int, device: str) -> object:
            class Detector:
                def training(self, steps: int, training_seed: int) -> None:
                    return None

            return Detector()

    def record(_: object, batches: Any, *__: object) -> None:
        sizes.append(len(batches(0)))
        raise StopHereError

    monkeypatch.setattr(arm_training.importlib, "import_module", lambda _: Backend)
    monkeypatch.setattr(arm_training, "train", record)
    trainer = ArmTrainer(Sources(context.job, tables, str(tmp_path)))
    for name in ("real", "synthetic"):
        with pytest.raises(StopHereError):
            trainer._train(of(ARMS[name]), Folder.at(tmp_path / "arm"))
    assert sizes == [context.job.detector.training.batch] * 2


def test_soft_images_are_others_at_another_resolution(context: Context) -> None:
    one, other = with_trial(context), with_trial(context, soft_resolution=20)
    assert key(one, of(ARMS["soft"])) != key(other, of(ARMS["soft"]))
    assert key(one, REAL) == key(other, REAL)


def test_real_images_that_end_a_training_are_drawn_by_themselves(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else each would stand twice in its batch."""
    labelled = context.inputs["ingest"].folder.sub("labelled").uri
    tables = dict.fromkeys(("real", "validation", "synthetic"), labelled)
    twice: list[bool] = []

    class Backend:
        @staticmethod
        def build(config: object, num_classes: int, seed: int, device: str) -> object:
            class Detector:
                def training(self, steps: int, training_seed: int) -> None:
                    return None

            return Detector()

    def record(_: object, batches: Any, *__: object) -> None:
        for step in range(20):
            first, second = batches(step)
            twice.append(bool((first.image == second.image).all()))
        raise StopHereError

    monkeypatch.setattr(arm_training.importlib, "import_module", lambda _: Backend)
    monkeypatch.setattr(arm_training, "train", record)
    ended = with_trial(context, share=0.5, real_last=1.0)
    trainer = ArmTrainer(Sources(ended.job, tables, str(tmp_path)))
    with pytest.raises(StopHereError):
        trainer._train(of(ARMS["synthetic"]), Folder.at(tmp_path / "arm"))
    assert len(twice) == 20 and sum(twice) < 15
