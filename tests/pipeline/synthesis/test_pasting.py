"""Copy-paste on scenes: labels of what is covered, what is never cut, the trial's table, and the job from plan to table."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.generators.copy_paste import Config, Frame
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.run import Screen, run_some
from synthaug.pipeline.synthesis.conditioning import conditioning_of
from synthaug.pipeline.synthesis.copy_paste_table import CopyPasteTable, random_part
from synthaug.pipeline.synthesis.object_bank import Bank, extent_of, pasteable, piece_of
from synthaug.pipeline.synthesis.pasting import Canvas, Labels, paste, paste_layout
from tests import paths

CLASSES = (Category(1, "cat"), Category(2, "dog"), Category(3, "sky", "", False))
HARD = Config(blend="none", feather=0.0)
REPOSITORY = paths.ROOT


def toy_table(count: int) -> Dataset:
    return open_dataset(f"toy:train?count={count}", Path())


def scene(
    boxes: list[list[float]], category: list[int], masked: bool, name: str = "a", **columns: object
) -> Scene:
    """A noise image of 20 x 20 whose objects fill their boxes."""
    shown = np.zeros((len(boxes), 20, 20), bool)
    for mask, (x0, y0, x1, y1) in zip(shown, np.array(boxes, int).reshape(-1, 4), strict=True):
        mask[y0:y1, x0:x1] = True
    rle = tuple(masks.encode(shown)) if masked else (None,) * len(boxes)
    columns.setdefault("isthing", np.array([CLASSES[c].isthing for c in category], bool))
    objects = Objects.build(category, boxes, rle=rle, **columns)
    pixels = np.random.default_rng(len(boxes)).integers(0, 256, (20, 20, 3), np.uint8)
    return Scene(name, 20, 20, ImageRef(encode(pixels, "png")), objects)


def covered(there: Scene, box: list[float], config: Config = HARD) -> tuple[Objects, Counter[str]]:
    """Paste a whole image over an xyxy box of a scene."""
    canvas = Canvas.of(there, decode(there), Frame.still((20, 20)))
    giver = scene([[0, 0, 20, 20]], [1], masked=False)
    one = piece_of(decode(giver), extent_of(giver, 0), np.array(box, np.float32), False, config)
    ids = np.arange(1, len(there.objects) + 2)
    labels = Labels(ids, np.array([box], np.float32), np.array([1]), 1.0)
    picture = paste(canvas, [one], labels, config, CLASSES)
    return picture.objects, picture.lost


@pytest.mark.parametrize("masked", [True, False])
def test_a_covered_object_becomes_its_visible_part(masked: bool) -> None:
    objects, lost = covered(
        scene([[2, 2, 12, 12], [14, 14, 18, 18]], [0, 0], masked), [7, 0, 20, 13]
    )
    assert not lost and objects.category.tolist() == [0, 0, 1]
    assert objects.boxes[:2].tolist() == [[2, 2, 7, 12], [14, 14, 18, 18]]
    assert objects.area[:2].tolist() == [50, 16]
    assert [rle is not None for rle in objects.rle] == [masked, masked, False]
    if masked:
        assert masks.area(objects.rle[0] or "") == 50
    assert objects.boxes[2].tolist() == [7, 0, 20, 13] and objects.source == (
        "human",
        "human",
        "synthetic",
    )


@pytest.mark.parametrize("masked", [True, False])
def test_a_hidden_object_is_removed_and_counted(masked: bool) -> None:
    there = scene([[2, 2, 12, 12], [5, 5, 7, 7]], [0, 1], masked)
    objects, lost = covered(there, [4, 4, 9, 9])
    assert lost == {"dog": 1} and objects.id.tolist() == [1, 3]
    assert objects.boxes[0].tolist() == [2, 2, 12, 12], (
        "a hole in the middle leaves the box as it was"
    )
    objects, lost = covered(there, [0, 0, 12, 11.0])
    assert lost == {"dog": 1}, "a tenth of the cat is seen"
    _, lost = covered(there, [0, 0, 12, 11.0], replace(HARD, min_visible=0.2))
    assert lost == {"dog": 1, "cat": 1}


def test_ignore_regions_stay_until_nothing_is_left_and_are_never_cut() -> None:
    crowd = np.array([True, False])
    there = scene([[0, 0, 20, 20], [1, 1, 5, 5]], [0, 0], True, iscrowd=crowd)
    assert pasteable(there.objects) == [1]
    objects, lost = covered(there, [0, 0, 20, 19])
    assert (
        objects.iscrowd.tolist() == [True, False] and objects.area[0] == 20 and lost == {"cat": 1}
    )
    objects, lost = covered(there, [0, 0, 20, 20])
    assert len(objects) == 1 and lost == {"cat": 1}
    stuff = scene([[0, 0, 20, 20], [1, 1, 5, 5]], [2, 0], True, source=("human", "pseudo"))
    assert pasteable(stuff.objects) == [], "neither stuff nor what a detector labelled"


def test_a_box_that_nothing_touches_keeps_its_fractions() -> None:
    objects, _ = covered(scene([[2.25, 2.5, 6.75, 6]], [0], False), [10, 10, 18, 18])
    assert objects.boxes[0].tolist() == [2.25, 2.5, 6.75, 6]


def test_the_trials_table_is_a_function_of_seed_and_index() -> None:
    table = toy_table(12)
    one, again, other = (CopyPasteTable(table, Config(), seed, 40) for seed in (5, 5, 6))
    order = [7, 0, 31]
    first = {i: one.entry(i) for i in order}
    for i in reversed(order):
        found, pixels = again.entry(i)
        np.testing.assert_array_equal(pixels, first[i][1])
        np.testing.assert_array_equal(found.objects.boxes, first[i][0].objects.boxes)
        np.testing.assert_array_equal(decode(again[i]), pixels)
    assert any((other.entry(i)[1] != first[i][1]).any() for i in order)


def test_labels_of_the_trials_table_are_those_of_its_pixels() -> None:
    """Masks are disjoint, boxes tight, areas counted, something is pasted; with masks and with boxes only."""
    table = toy_table(20)
    bare = SceneList(table.categories, [
        replace(s, objects=replace(s.objects.select(s.objects.isthing), rle=(None,) * int(s.objects.isthing.sum())))
        for s in map(table.__getitem__, range(20))
    ])  # fmt: skip
    for source in (table, bare):
        pasted = CopyPasteTable(source, Config(zoom="large"), 3, 30)
        for i in range(30):
            found = pasted[i]
            objects, size = found.objects, (found.height, found.width)
            assert len(set(objects.id.tolist())) == len(objects)
            assert (objects.boxes >= 0).all() and (objects.boxes <= size[1]).all()
            assert (objects.boxes[:, 2:] > objects.boxes[:, :2]).all()
            if source is table:
                shown = masks.decode_all(objects, size)
                assert shown.sum(0).max() <= 1
                np.testing.assert_array_equal(masks.tight_boxes(shown), objects.boxes)
                np.testing.assert_array_equal(shown.sum((1, 2)), objects.area)
        assert sum("synthetic" in pasted[i].objects.source for i in range(30)) > 20


def test_a_part_is_drawn_and_never_empty() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_part([3, 5, 9], 0.5, rng) for _ in range(400)]
    assert min(map(len, drawn)) == 1 and Counter(k for row in drawn for k in row).total() > 580
    assert random_part([], 0.5, rng) == [] and random_part([4], 0.0, rng) == [4]


def test_objects_cut_by_the_border_are_taken_only_where_there_are_no_others() -> None:
    table = SceneList(
        CLASSES,
        [
            scene([[0, 4, 6, 10], [8, 8, 14, 14]], [0, 0], False),
            scene([[0, 4, 6, 10]], [1], False, "b"),
        ],
    )
    bank = Bank.of(table, table, HARD)
    box = np.array([3, 3, 9, 9], np.float32)
    whole = decode(table[0])[8:14, 8:14]
    for seed in range(5):
        one = bank.piece(0, box, np.random.default_rng(seed))
        assert one is not None
        seen = one.pixels[one.core].reshape(6, 6, 3)
        assert (seen == whole).all() or (seen[:, ::-1] == whole).all()
    assert bank.piece(1, box, np.random.default_rng(0)) is not None
    assert bank.piece(2, box, np.random.default_rng(0)) is None


def test_a_layout_gets_its_things_on_a_background_that_shows_little_else() -> None:
    table = SceneList(
        CLASSES, [scene([[0, 0, 19, 19]], [0], False), scene([[2, 2, 8, 8]], [0], False, "b")]
    )
    bank = Bank.of(table, table, HARD)
    asked = scene([[2, 2, 8, 8]], [0], False)
    objects = paste_layout(bank, asked, CLASSES).objects
    assert objects.source.count("synthetic") == 1 and len(objects) == 1, (
        "the cat of the background lies under the other"
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    output = tmp_path_factory.mktemp("pasted")
    overrides = [
        "generator.system=copy_paste",
        "cluster.executor=serial",
        "plan.target=counts",
        "plan.counts={balloon: 30, bus: 20, tree: 0}",
        "plan.count=24",
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
    done = run_some(job, Screen(told.append, lambda *_: None), names)
    assert any("nothing is trained: copy_paste" in line for line in told)
    assert any("takes nothing away" in line for line in told)
    assert done["train_generator"].manifest["trained"] is False
    return {name: Path(out.folder.path) for name, out in done.items()} | {"manifests": output}


def test_a_job_makes_a_data_set_with_the_planned_objects(made: dict[str, Path]) -> None:
    table = parquet.read(parquet.Config(str(made["synthesize"])))
    plan = parquet.read(parquet.Config(str(made["plan"])))
    real = parquet.read(parquet.Config(str(made["ingest"] / "labelled")))
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
    assert set(asked) <= {"balloon", "bus"} and asked["balloon"] > 15 and asked["bus"] > 8
    assert seen.total() >= 0.8 * asked.total()


def test_twins_of_validation_layouts_show_what_was_asked_for(made: dict[str, Path]) -> None:
    """Validation images are no backgrounds: nothing is cut from them, and what else a background shows is no label."""
    twins = parquet.read(parquet.Config(str(made["score"] / "twins")))
    real = parquet.read(parquet.Config(str(made["ingest"] / "validation")))
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
