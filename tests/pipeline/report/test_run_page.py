"""The report of small fake runs: complete, harmless, self-contained, the same bytes each time."""

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.report import gallery as report_gallery
from synthaug.pipeline.report.tables import fold
from synthaug.pipeline.steps import report
from tests.fake_run import change, fake_run, written
from tests.trial_runs import whole_trial

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
        self.links += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "srcset", "action")
        ]
        self.alts += [value for name, value in attrs if name == "alt"]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


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
    from synthaug.pipeline.steps import STEPS

    assert tuple(STEPS)[:-1] == report.NEEDS


def test_the_verdict_of_the_trial_is_the_first_thing_on_the_page(context):
    """Before links and tiles, with its advice; and the page no longer says that it is open."""
    gains = {"real": 0.0, "real_half": -0.05, "rfs": 0.01, "stack": 0.01, "synthetic": 0.06}
    trial = whole_trial(gains)
    text = text_of(written(change(context, "trial", **trial)))
    places = [
        text.index(trial["verdict"]["sentence"].split(":")[0]),
        text.index("Advice: add them"),
    ]
    places.append(text.index("Detector AP50 on real images"))
    assert places == sorted(places)
    assert "Only a trial answers" not in text
    assert "Only a trial answers" in text_of(written(context))


def test_a_trial_that_found_no_gain_says_on_the_first_screen_that_nothing_is_to_be_added(context):
    gains = {"real": 0.0, "real_half": -0.05, "rfs": 0.01, "stack": 0.01, "synthetic": -0.1}
    text = text_of(written(change(context, "trial", **whole_trial(gains, confirmed=False))))
    assert text.index("Advice: do not add them") < text.index("Detector AP50 on real images")
    assert "Advice: add them" not in text


def test_page_asks_nothing_of_the_network_and_runs_one_script(page):
    """One file.

    Pictures inside it, links within it, a policy that allows its own script and forbids the rest.
    """
    parsed = Page(page)
    assert 50 < parsed.tags["img"]
    assert [] == [
        link for link in parsed.links if not link.startswith(("data:image/webp;base64,", "#"))
    ]
    assert parsed.tags["img"] == sum(link.startswith("data:") for link in parsed.links)
    assert 0 == sum(parsed.tags[tag] for tag in ("link", "iframe", "object", "embed", "base"))
    scripts = re.findall(r"<script>(.*?)</script>", page.decode(), re.S)
    assert (
        2
        == parsed.tags["script"]
        == len(scripts) + page.count(b'<script type="application/json" id="gallery-data">')
    )
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
        f"'sha256-{digest}'"
    )
    assert f'content="{policy}; base-uri' in page.decode()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|fetch\(|import\(",
        scripts[0],
    )
    assert not re.search(rb"url\(|@import", page)
    assert [] == parsed.handlers


def test_every_picture_says_in_words_what_it_shows(page):
    alts = Page(page).alts
    assert Page(page).tags["img"] == len(alts)
    assert all(alts)
    assert any(re.fullmatch(r"Synthetic image fake-\d{8}: \d tree.*", alt) for alt in alts)


def test_numbers_stand_on_the_page_with_their_ceiling_and_floor(page):
    words = text_of(page)
    for number in (
        "0.876",
        "0.432",
        "0.023",
        "0.346",
        "0.765",
        "0.912 / 0.832",
        "0.111",
        "49 % of the ceiling",
    ):
        assert number in words, number
    assert "1,234 unlabelled" in words
    assert "n/a" in words
    assert "None" not in words
    assert "nan" not in words.lower().split()


def test_page_says_what_scores_do_not_say(page):
    assert (
        "What these numbers do not say: whether this data makes your detector better."
        in text_of(page)
    )


def test_same_run_gives_the_same_bytes_and_no_path_of_the_machine(context, page):
    again = written(replace(context, folder=context.folder.sub("again")))
    assert page == again
    assert context.job.output.encode() not in page


def test_page_is_small(page):
    assert 100_000 < len(page) < 2_000_000


def test_hostile_names_are_text(tmp_path):
    """Neither a tag, nor an attribute, nor a link comes out of a class name, a title or an image's
    name.
    """
    names = [HOSTILE, QUOTES, "{{ 7*7 }}", "]]></svg><img src=x onerror=alert(1)>"]
    categories = tuple(
        replace(c, name=names[k] if k < len(names) else c.name)
        for k, c in enumerate(toy.CATEGORIES)
    )
    context = fake_run(tmp_path, categories, labelled=12, images=6)
    title = replace(context.job, report=replace(context.job.report, title=f"</title>{HOSTILE}"))
    data = written(replace(change(context, "synthesize", dropped={HOSTILE: 2}), job=title))
    parsed = Page(data)
    assert 2 == parsed.tags["script"]
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
    assert (
        "scores, validation images outside generator.min_objects, max_objects or min_area 24"
        in words
    )


def test_the_page_says_what_self_training_did_and_which_detector_labelled(context):
    told = {
        "steps": 40,
        "before": {"AP50": 0.6111, "AP": 0.3},
        "after": {"AP50": 0.5999, "AP": None},
    }
    for kept, said in (
        ("supervised", "trained on labels alone was kept"),
        ("last", "chosen on validation"),
    ):
        changed = change(context, "self_train", **told, kept=kept)
        words = text_of(written(replace(changed, folder=context.folder.sub(kept))))
        assert "0.611 before and 0.600 after, AP 0.300 and n/a" in words
        assert said in words
    assert "mean teacher" not in text_of(
        written(replace(context, folder=context.folder.sub("off")))
    )


def test_unknown_truth_of_pseudo_labels_is_said(context):
    words = text_of(
        written(
            replace(
                change(context, "pseudo_label", quality=None), folder=context.folder.sub("truth")
            )
        )
    )
    assert "Their truth is not known" in words


def test_thresholds_their_worth_and_trust_stand_on_the_page(page):
    """What was kept from which score on, held-out numbers of every rule, calibration errors, a
    diagram.
    """
    words = text_of(page)
    assert "130 of 403 detections in 1,234 unlabelled images became labels" in words
    for told in (
        "0.457 its own objects",
        "highest F1 per class used",
        "0.723",
        "0.612",
        "0.091 as scored, 0.018",
    ):
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
    context = fake_run(
        tmp_path, toy.CATEGORIES + extra, ["report.samples=3"], labelled=24, images=8
    )
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
    monkeypatch.setattr(report, "BUDGET", 200_000)
    monkeypatch.setattr(report_gallery, "BUDGET", 30_000)
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
        change(lossy, "synthesize", dropped={"car": 77}),
        "train_generator",
        left_out={"pseudo_labelled": 55},
    )
    words = text_of(written(replace(lossy, folder=context.folder.sub("lossy"))))
    assert "labelled set unreadable image 4,321" in words
    assert "generator training, pseudo-labelled images outside" in words
    assert "synthesis “car” without a visible mask 77" in words
    assert "-1000" in words


def test_sources_are_found_and_dropped_objects_drawn(context):
    """The real half of a pair is the image the layout came from.

    What the plan had more is marked as dropped.
    """
    folders = {name: out.folder.uri for name, out in context.inputs.items()}
    spec = report.Spec(
        context.job, {n: dict(o.manifest) for n, o in context.inputs.items()}, folders, ""
    )
    shown = report.pictures(spec, spec.run())
    assert 12 == len(shown.pairs)
    for pair in shown.pairs:
        assert f"Real image {pair.source}:" in pair.real.alt
        assert pair.planned == pair.visible + 1
        kinds = Counter(shape.kind for shape in pair.synthetic.shapes)
        assert kinds["asked"] == kinds["thing"]
    for samples in shown.classes:
        name = toy.CATEGORIES[samples.index].name
        assert 1 <= len(samples.real) <= report.EXAMPLES
        assert {name} == {
            shape.name
            for picture in (*samples.synthetic, *samples.real)
            for shape in picture.shapes
        }


def test_page_begins_with_its_doctype(page):
    """Without it first a browser falls back to the quirks of another age."""
    assert page.startswith(b"<!doctype html>")


def test_the_links_come_before_everything_else_and_a_weak_one_says_what_to_do(tmp_path):
    floor = {
        "images": 24,
        "margin": 0.05,
        "AP50": 0.013,
        "constant": 0.044,
        "shuffled": 0.01,
        "floor": "constant",
        "gain": -0.031,
        "low": -0.05,
        "high": -0.01,
    }
    context = fake_run(tmp_path, overrides=["report.samples=0", "report.title=Aquarium"])
    text = text_of(written(change(context, "train_detector", floor=floor)))
    start = text.index("Aquarium Links detector weak AP50 0.013 on 24 validation images")
    assert text.index("train longer (detector.steps)") < text.index("labelled images")
    assert start < text.index("Detector AP50 on real images")
