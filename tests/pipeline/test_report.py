"""The report of small fake runs: complete, harmless, self-contained, the same bytes each time."""

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pipeline import masks, report_pictures, report_scores
from pipeline.cluster import SerialExecutor
from pipeline.context import Context, Output
from pipeline.formats import parquet, toy
from pipeline.images import encode
from pipeline.job import load_job
from pipeline.report_tables import LONG, Run, fold
from pipeline.scene import Category, ImageRef, Objects, Provenance, Scene
from pipeline.scores.card import Metric
from pipeline.scores.detection import frequency_groups
from pipeline.steps import report
from pipeline.storage import Folder

BASE = Path(__file__).resolve().parents[2] / "jobs" / "base.yaml"
HOSTILE = "<script>alert(1)</script>"
QUOTES = "\"' onload=x 🐄 https://evil.example/"


class Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self, data):
        super().__init__()
        self.tags, self.links, self.alts = Counter(), [], []
        self.handlers = []
        self.feed(data.decode())

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action")]
        self.alts += [value for name, value in attrs if name == "alt"]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def synthetic(scene, index, job):
    """A toy scene as if it had been planned and drawn: its largest stuff gone, its pixels blurred by a pixel."""
    objects = scene.objects
    made = Provenance(
        index,
        "lostgan",
        "c0ffee",
        scene.image_id,
        "balanced: +windmill -tree" if index % 2 else "natural: as in the source",
    )
    n = len(objects)
    drawn = replace(
        objects,
        source=("synthetic",) * n,
        layout_boxes=objects.boxes + np.float32(1.5),
        id=index * 10_000 + 1 + np.arange(n),
    )
    pixels = report.decode(scene)
    blurred = ((pixels.astype(int) + np.roll(pixels, 1, 0) + np.roll(pixels, 1, 1)) // 3).astype(np.uint8)
    name = f"{job.name}-{index:08d}"
    layout = Scene(
        name,
        scene.height,
        scene.width,
        ImageRef(),
        replace(drawn, boxes=drawn.layout_boxes, rle=(None,) * n),
        None,
        made,
    )
    return layout, Scene(
        name,
        scene.height,
        scene.width,
        ImageRef(encode(blurred, "png"), name),
        drawn.select(np.arange(n) != n - 1),
        None,
        made,
    )


def tables(root, job, categories, labelled=24, images=16, empty=False):
    """Write scene tables `labelled`, `plan` and `synthesize`; return objects per class in labelled and synthetic."""
    source = toy.read(toy.Config("train"), Path())
    real = [source[i] for i in range(labelled)]
    if empty:
        real = [scene.with_objects(Objects.build([], [])) for scene in real]
    pairs = [synthetic(real[i % labelled], i, job) for i in range(images)]
    kept = {"ingest/labelled": real, "plan": [a for a, _ in pairs], "synthesize": [b for _, b in pairs]}
    for name, scenes in {**kept, "pseudo_label": pseudo_labelled(real)}.items():
        with parquet.ShardWriter(Folder.at(root / name), "part-00000.parquet", categories) as writer:
            writer.write(scenes)
    return [
        Counter(categories[c].name for s in scenes for c in s.objects.category.tolist()) for scenes in kept.values()
    ]


def pseudo_labelled(scenes):
    """The scenes as if a detector had labelled them: the scores go from 0.3 to 0.9 through the table."""
    total, n, out = max(1, sum(len(s.objects) for s in scenes)), 0, []
    for scene in scenes:
        size = len(scene.objects)
        score = 0.3 + 0.6 * (n + np.arange(size)) / total
        n += size
        objects = replace(scene.objects, score=score.astype(np.float32), source=("pseudo",) * size)
        out.append(scene.with_objects(objects))
    return out


def learnt(names):
    """What `calibrate` says: rule f1 is better than fixed; the last class had no objects of its own."""
    numbers = {"precision": 0.8, "recall": 0.7, "f1": 0.7467, "truth": 20, "found": 18}
    rules = {
        rule: {"all": {**numbers, "f1": f1}, "macro_f1": f1 - 0.1, "classes": dict.fromkeys(names, numbers)}
        for rule, f1 in (("fixed", 0.6123), ("precision", 0.5), ("f1", 0.7234))
    }
    trust = {"brier": 0.1, "bins": [[0.05, 0.1, 60], [0.55, 0.7, 10], [0.95, 0.9, 9]]}
    held = {"folds": 5, "rules": rules, "raw": {**trust, "ece": 0.0912}, "calibrated": {**trust, "ece": 0.0178}}
    entry = {"truths": 20, "found": 30, "curve": {"slope": 1.0, "offset": 0.0}, "thresholds": {}}
    return {"images": 24, "classes": dict.fromkeys(names, entry), "pooled": {}, "held_out": held}


def metric_dap(categories, counts):
    groups = frequency_groups([counts[c.name] for c in categories])
    numbers = {
        "AP": 0.2,
        "AP50": 0.4321,
        "AP75": None,
        "AR100": 0.5,
        "AP_tail": None,
        "AP50_tail": 0.111,
        "AP50_head": 0.6,
    }
    per_class = {
        c.name: {
            "AP": 0.1,
            "AP50": 0.05 * k,
            "AP75": None,
            "AR100": 0.3,
            "gt": 7,
            "gt_images": 5,
            "real_AP50": 0.08 * k,
            "real_AP": None,
        }
        for k, c in enumerate(categories)
        if c.isthing
    }
    controls = {"real": {**numbers, "AP50": 0.8765}, "shuffled": {"AP": 0.01, "AP50": 0.0234}}
    card = {"protocol": "as made", "groups": {g: [categories[i].name for i in ids] for g, ids in groups.items()}}
    return Metric("dap", 0.4321, numbers, per_class, card, controls).to_json()


def metric_cas(categories):
    names = [c.name for c in categories if c.isthing]
    per_class = {n: {"accuracy": 0.4, "test_crops": 9, "train_crops": 40, "real_accuracy": None} for n in names}
    values = {"top1": 0.3456, "balanced": 0.3, "chance": 1 / len(names), "majority": 0.25}
    card = {"network": "small", "confusion": (np.eye(len(names), dtype=int) * 9).tolist()}
    return Metric("cas", 0.3456, values, per_class, card, {"real": {"top1": 0.7654, "balanced": 0.6}}).to_json()


def write_logs(root):
    steps = np.arange(5, 401, 5)
    decay = np.exp(-steps / 120)
    for name, losses in (
        ("train_detector", {"loss_classifier": decay, "total": 2 * decay + 0.3}),
        (
            "train_generator",
            {"d_object": 1 + decay, "d_image": 0.2 * decay, "g_object": -decay, "g_image": decay, "g_l1": 0.4 * decay},
        ),
    ):
        rows = [
            {"step": int(s), "steps": 400, "steps_per_s": 3.2, **{k: float(v[i]) for k, v in losses.items()}}
            for i, s in enumerate(steps)
        ]
        Folder.at(root / name).write_bytes("log.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def fake_run(root, categories=toy.CATEGORIES, overrides=(), **sizes):
    """Return the context of a report step after a run that never happened; change its manifests before running."""
    job = load_job(BASE, ["name=fake", *overrides], str(root))
    labelled, planned, made = tables(root, job, categories, **sizes)
    write_logs(root)
    images, names = sizes.get("images", 16), [c.name for c in categories]
    classes = [{"id": c.id, "name": c.name, "isthing": c.isthing} for c in categories]
    split = {"images": sizes.get("labelled", 24), "objects": dict(labelled), "skipped": {}}
    splits = {"labelled": split, "validation": split, "unlabelled": {**split, "images": 1234, "objects": {}}}
    per_class = {name: {"precision": 0.9, "recall": None, "truth": 12, "found": 10} for name in names}
    quality = {"all": {"precision": 0.9123, "recall": 0.8321, "truth": 99, "found": 90}, "classes": per_class}
    targets = {n: {"natural": 9.0, "target": float(planned[n]), "planned": planned[n]} for n in names}
    scores = {"dap": metric_dap(categories, labelled), "cas": metric_cas(categories)}
    manifests = {
        "ingest": {"splits": splits, "classes": classes},
        "train_detector": {"sha256": "d" * 64, "weights": "detector.safetensors", "last": {}},
        "self_train": {"steps": 0, "kept": "supervised", "weights": "labeller.safetensors", "sha256": "d" * 64},
        "calibrate": learnt(names),
        "pseudo_label": {
            "images": 1234,
            "objects": dict.fromkeys(names, 10),
            "found": dict.fromkeys(names, 31),
            "bins": {name: [12, 9, 0, 10] for name in names},
            "thresholds": {name: {"score": 0.4, "least": 0.4567, "basis": "class"} for name in names},
            "quality": quality,
        },
        "train_generator": {"sha256": "e" * 64, "used": {"labelled": 24}, "left_out": {"labelled": 0}, "last": {}},
        "plan": {"images": images, "sources": 20, "classes": targets},
        "synthesize": {"images": images, "objects": dict(made), "dropped": {}, "pixels": {}},
        "verify": {"enabled": False, "images": {"verified": images}, "objects": dict(made)},
        "export": {"images": images, "annotations": sum(made.values())},
        "score": {"scores": scores, "validation": {"used": 24, "left_out": 0}},
        "trial": {"seeds": 0},
    }
    inputs = {}
    for number, (name, manifest) in enumerate(manifests.items()):
        extra = {"step": name, "key": f"{number:012x}", "seconds": 1.5 + number, "versions": {"torch": "2.15.0"}}
        inputs[name] = Output(Folder.at(root / name), {**manifest, **extra})
    return Context(job, Folder.at(root / "report"), inputs, SerialExecutor(), lambda _: None, lambda *_: None)


def change(context, step, **content):
    """The same context with other manifest content of a step."""
    old = context.inputs[step]
    return replace(context, inputs={**context.inputs, step: Output(old.folder, {**old.manifest, **content})})


def written(context):
    """Run the step; return the page's bytes."""
    manifest = report.run(context)
    data = context.folder.read_bytes(manifest["file"])
    assert len(data) == manifest["bytes"]
    return data


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return fake_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(context):
    return written(context)


def text_of(data):
    """The page's words, tags removed and white space joined."""
    body = data.decode().split("</style>")[1]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_tables_named_in_needs_are_the_steps_before_it():
    """Every step but the report itself is an input."""
    from pipeline.steps import STEPS

    assert tuple(STEPS)[:-1] == report.NEEDS


def test_page_asks_nothing_of_the_network_and_runs_no_code(page):
    """One file: pictures inside it, links within it, a policy that forbids the rest."""
    parsed = Page(page)
    assert 50 < parsed.tags["img"]
    assert [] == [link for link in parsed.links if not link.startswith(("data:image/webp;base64,", "#"))]
    assert parsed.tags["img"] == sum(link.startswith("data:") for link in parsed.links)
    assert 0 == sum(parsed.tags[tag] for tag in ("script", "link", "iframe", "object", "embed", "form", "base"))
    assert b"default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert not re.search(rb"url\(|@import", page)
    assert [] == parsed.handlers


def test_every_picture_says_in_words_what_it_shows(page):
    alts = Page(page).alts
    assert Page(page).tags["img"] == len(alts)
    assert all(alts)
    assert any(re.fullmatch(r"Synthetic image fake-\d{8}: \d tree.*", alt) for alt in alts)


def test_numbers_stand_on_the_page_with_their_ceiling_and_floor(page):
    words = text_of(page)
    for number in ("0.876", "0.432", "0.023", "0.346", "0.765", "0.912 / 0.832", "0.111", "49 % of the ceiling"):
        assert number in words, number
    assert "1,234 unlabelled" in words
    assert "n/a" in words
    assert "None" not in words
    assert "nan" not in words.lower().split()


def test_page_says_what_scores_do_not_say(page):
    assert "What these numbers do not say: whether this data makes your detector better." in text_of(page)


def test_same_run_gives_the_same_bytes_and_no_path_of_the_machine(context, page):
    again = written(replace(context, folder=context.folder.sub("again")))
    assert page == again
    assert context.job.output.encode() not in page


def test_page_is_small(page):
    assert 100_000 < len(page) < 2_000_000


def test_hostile_names_are_text(tmp_path):
    """Neither a tag, nor an attribute, nor a link comes out of a class name, a title or an image's name."""
    names = [HOSTILE, QUOTES, "{{ 7*7 }}", "]]></svg><img src=x onerror=alert(1)>"]
    categories = tuple(replace(c, name=names[k] if k < len(names) else c.name) for k, c in enumerate(toy.CATEGORIES))
    context = fake_run(tmp_path, categories, labelled=12, images=6)
    title = replace(context.job, report=replace(context.job.report, title=f"</title>{HOSTILE}"))
    data = written(replace(change(context, "synthesize", dropped={HOSTILE: 2}), job=title))
    parsed = Page(data)
    assert 0 == parsed.tags["script"]
    assert [] == parsed.handlers
    assert all(link.startswith(("data:", "#")) for link in parsed.links)
    assert data.count(b"&lt;script&gt;alert(1)&lt;/script&gt;") > 5
    assert "🐄" in data.decode()
    assert b"{{ 7*7 }}" in data


def test_images_without_objects_are_shown(tmp_path):
    context = fake_run(tmp_path, labelled=5, images=4, empty=True)
    data = written(context)
    assert 8 == Page(data).tags["img"]
    assert "no objects" in Page(data).alts[0]
    assert "No examples to show" in text_of(data)


def test_run_without_pseudo_labels_scores_and_logs_says_so(tmp_path):
    context = fake_run(tmp_path, labelled=8, images=4)
    context = change(context, "pseudo_label", images=0, objects={}, quality=None)
    context = change(context, "score", scores={}, validation={"used": 0, "left_out": 24})
    for name in ("train_detector", "train_generator"):
        context.inputs[name].folder.delete("log.jsonl")
    words = text_of(written(context))
    assert "None: there were no unlabelled images." in words
    assert "DAP was not measured" in words
    assert "CAS was not measured" in words
    assert "No training left a log." in words
    assert "scores, validation images outside generator.min_objects, max_objects or min_area 24" in words


def test_the_page_says_what_self_training_did_and_which_detector_labelled(context):
    told = {"steps": 40, "before": {"AP50": 0.6111, "AP": 0.3}, "after": {"AP50": 0.5999, "AP": None}}
    for kept, said in (("supervised", "trained on labels alone was kept"), ("last", "chosen on validation")):
        changed = change(context, "self_train", **told, kept=kept)
        words = text_of(written(replace(changed, folder=context.folder.sub(kept))))
        assert "0.611 before and 0.600 after, AP 0.300 and n/a" in words
        assert said in words
    assert "mean teacher" not in text_of(written(replace(context, folder=context.folder.sub("off"))))


def test_unknown_truth_of_pseudo_labels_is_said(context):
    words = text_of(written(replace(change(context, "pseudo_label", quality=None), folder=context.folder.sub("truth"))))
    assert "Their truth is not known" in words


def test_thresholds_their_worth_and_trust_stand_on_the_page(page):
    """What was kept from which score on, held-out numbers of every rule, calibration errors, a diagram."""
    words = text_of(page)
    assert "130 of 403 detections in 1,234 unlabelled images became labels" in words
    for told in ("0.457 its own objects", "highest F1 per class used", "0.723", "0.612", "0.091 as scored, 0.018"):
        assert told in words, told
    diagram = page.decode().split("<title>Reliability</title>")[1].split("</svg>")[0]
    assert 3 == diagram.count("<polyline")


def test_both_ends_of_certainty_are_shown(page):
    """Twelve labels each, scores as they are, and the most certain above the least."""
    section = page.decode().split('<section id="pseudo">')[1].split("</section>")[0]
    scores = [float(s) for s in re.findall(r"<figcaption>.*? (\d\.\d+)<br>", section)]
    assert 24 == len(scores) == section.count("data:image/webp")
    assert min(scores[:5]) > max(scores[12:17])
    assert 0.85 < max(scores) < 0.9
    assert 0.3 <= min(scores) < 0.35


def test_rule_that_keeps_nothing_and_no_held_out_images_are_said(tmp_path):
    context = fake_run(tmp_path, labelled=8, images=4)
    names = list(context.inputs["pseudo_label"].manifest["objects"])
    none = {name: {"score": None, "least": None, "basis": "unreached"} for name in names}
    context = change(context, "pseudo_label", thresholds=none, objects={}, quality=None)
    data = written(change(context, "calibrate", held_out=None))
    words = text_of(data)
    assert "n/a precision not reached: none kept" in words
    assert "What the choice of thresholds is worth" not in words
    assert b"<title>Reliability</title>" not in data


def test_no_samples_means_no_pictures(tmp_path):
    data = written(fake_run(tmp_path, overrides=["report.samples=0"], labelled=4, images=2))
    assert 0 == Page(data).tags["img"]
    assert "report.samples is 0" in text_of(data)


def test_many_classes_are_capped_and_the_rarest_are_shown(tmp_path):
    """What is not shown is counted, and long tables are folded with all rows still there."""
    extra = tuple(Category(100 + k, f"extra {k}") for k in range(158))
    context = fake_run(tmp_path, toy.CATEGORIES + extra, ["report.samples=3"], labelled=24, images=8)
    data = written(context)
    shown = re.findall(r'<div class="class"><div><h3>(.*?)</h3>', data.decode())
    counts = context.inputs["ingest"].manifest["splits"]["labelled"]["objects"]
    things = {c.name for c in toy.CATEGORIES if c.isthing} & counts.keys()
    assert 3 == len(shown)
    assert max(counts[name] for name in shown) <= min(counts[name] for name in things - set(shown))
    assert f"{len(things) - 3} more classes are not shown" in text_of(data)
    assert 167 - 50 == fold(range(167)).hidden
    assert "extra 120" in text_of(data)
    assert len(data) < 3_000_000


def test_budget_keeps_the_page_small_and_the_rest_is_counted(context, monkeypatch):
    monkeypatch.setattr(report, "BUDGET", 400_000)
    data = written(replace(context, folder=context.folder.sub("budget")))
    assert len(data) < 700_000
    assert "more classes are not shown" in text_of(data)


def test_losses_are_listed_and_their_absence_is_said(context):
    clean = text_of(written(context))
    assert "Nothing: every image was read and used, every planned object became visible." in clean
    splits = {**context.inputs["ingest"].manifest["splits"]}
    splits["labelled"] = {**splits["labelled"], "skipped": {"unreadable image": 4321}}
    plan = {**context.inputs["plan"].manifest["classes"]}
    plan["tree"] = {**plan["tree"], "target": plan["tree"]["planned"] + 1000.0}
    lossy = change(change(context, "ingest", splits=splits), "plan", classes=plan)
    lossy = change(
        change(lossy, "synthesize", dropped={"car": 77}), "train_generator", left_out={"pseudo_labelled": 55}
    )
    words = text_of(written(replace(lossy, folder=context.folder.sub("lossy"))))
    assert "labelled set unreadable image 4,321" in words
    assert "generator training, pseudo-labelled images outside" in words
    assert "synthesis “car” without a visible mask 77" in words
    assert "-1000" in words


def test_sources_are_found_and_dropped_objects_drawn(context):
    """The real half of a pair is the image the layout came from; what the plan had more is marked as dropped."""
    folders = {name: out.folder.uri for name, out in context.inputs.items()}
    spec = report.Spec(context.job, {n: dict(o.manifest) for n, o in context.inputs.items()}, folders, "")
    told = Run(context.job, spec.manifests, {})
    shown = report.gallery(spec, told)
    assert 12 == len(shown.pairs)
    for pair in shown.pairs:
        assert f"Real image {pair.source}:" in pair.real.alt
        assert pair.planned == pair.visible + 1
        kinds = Counter(shape.kind for shape in pair.made.shapes)
        assert kinds["asked"] == kinds["thing"]
    for samples in shown.classes:
        name = toy.CATEGORIES[samples.index].name
        assert 1 <= len(samples.real) <= report.EXAMPLES
        assert {name} == {shape.name for picture in (*samples.made, *samples.real) for shape in picture.shapes}


def test_dropped_things_are_marked():
    planned = Objects.build([0, 1], [[2, 2, 10, 10], [20, 20, 30, 30]], id=[7, 8])
    scene = Scene("a", 32, 64, ImageRef(), planned.select([0]), None, Provenance(1, "", "", "b", ""))
    picture = report_pictures.whole(scene, np.zeros((32, 64, 3), np.uint8), toy.CATEGORIES, 128, planned)
    assert (128, 64) == (picture.width, picture.height)
    assert [("thing", "tree"), ("asked", "tree"), ("dropped", "car")] == [(s.kind, s.name) for s in picture.shapes]
    assert (40, 40, 20, 20) == tuple(getattr(picture.shapes[2], k) for k in ("x", "y", "width", "height"))


@pytest.mark.parametrize("hole", [False, True])
def test_outline_covers_the_mask(hole):
    """Filled again with the even-odd rule the path gives the enlarged mask back, holes and all."""
    import cv2

    mask = np.zeros((24, 32), bool)
    mask[4:20, 6:30] = True
    mask[8:14, 12:20] = not hole
    path = report_pictures.outline(mask, (96, 128))
    rings = [np.array([int(v) for v in ring.split()]).reshape(-1, 2) for ring in re.findall(r"M([\d ]+)Z", path)]
    canvas = np.zeros((96, 128), np.uint8)
    cv2.fillPoly(canvas, rings, 1)
    wanted = np.kron(mask, np.ones((4, 4), bool))
    assert 1 + hole == len(rings)
    assert (canvas.astype(bool) != wanted).mean() < 0.02


def test_crowds_are_not_outlined():
    crowd = Objects.build([0], [[0, 0, 8, 8]], iscrowd=[True], rle=masks.encode(np.ones((1, 16, 16), bool)))
    picture = report_pictures.whole(
        Scene("a", 16, 16, ImageRef(), crowd), np.zeros((16, 16, 3), np.uint8), toy.CATEGORIES, 64
    )
    assert () == picture.shapes


def test_crop_stays_inside_the_image():
    objects = Objects.build([0], [[50, 2, 62, 60]])
    scene = Scene("a", 64, 64, ImageRef(), objects)
    picture = report_pictures.single(scene, np.zeros((64, 64, 3), np.uint8), toy.CATEGORIES, 192, 0, crop=True)
    assert (192, 192) == (picture.width, picture.height)
    shape = picture.shapes[0]
    assert 0 <= shape.x < shape.x + shape.width <= 192


def confused(job, names):
    """A run with a confusion matrix of which row k holds k + 1 crops, all answered with the first class."""
    matrix = [[k + 1] + [0] * (len(names) - 1) for k in range(len(names))]
    metric = {"per_class": {name: {} for name in sorted(names)}, "card": {"confusion": matrix}}
    classes = [{"name": name} for name in ["sky", *names]]
    return Run(job, {"score": {"scores": {"cas": metric}}, "ingest": {"classes": classes}}, {})


def test_confusion_matrix_keeps_the_order_of_the_classes(context):
    """A manifest's keys come back sorted by name, the matrix does not."""
    table = report_scores.confusion(confused(context.job, ["tree", "car", "bus"]))
    assert [("tree", [1, 0, 0]), ("car", [2, 0, 0]), ("bus", [3, 0, 0])] == [
        (n, [c for c, _ in row]) for n, row in table
    ]


def test_confusion_matrix_of_many_classes_is_left_out(context):
    run = confused(context.job, [f"c{k}" for k in range(report_scores.CONFUSED + 1)])
    assert [] == report_scores.confusion(run)


def test_tables_of_up_to_a_page_are_whole():
    assert list(range(LONG)) == list(fold(range(LONG)).first)
    assert 0 == fold(range(LONG)).hidden


def test_page_begins_with_its_doctype(page):
    """Without it first a browser falls back to the quirks of another age."""
    assert page.startswith(b"<!doctype html>")
