"""What a job may say: one frozen dataclass per section, with every key, its default, its unit and its range."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

OUTSIDE = ("name", "seed", "output", "cluster")  # of every section's content
EXECUTION = {
    "synthesize": ("workers",),
    "data": ("leaks",),
}  # keys that change who works or what is refused, no result
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Sampling = Literal["uniform", "repeat_factor", "class_balanced"]


def _at_least(low: float, section: Any, *names: str) -> None:
    for name in names:
        if getattr(section, name) < low:
            raise ValueError(f"{name}: {getattr(section, name)} is less than {low}")


def _between_0_and_1(section: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(section, name) <= 1:
            raise ValueError(f"{name}: {getattr(section, name)} is not between 0 and 1")


@dataclass(frozen=True)
class Data:
    """Which data sets, as references `format:path?option=value`; relative paths are joined to `root`."""

    labelled: str
    root: str = "."
    unlabelled: str = ""  # "" = no pseudo-labels; labels it may have only judge the pseudo-labels
    validation: str = ""  # "" = hold out a part of `labelled`
    validation_fraction: float = 0.15  # of the labelled images
    max_pixels: int = 50_000_000  # H * W of one image
    on_bad: Literal["stop", "skip"] = "stop"
    leaks: Literal["stop", "report"] = (
        "stop"  # an image that is measured on is also in a split that is trained on
    )

    def __post_init__(self) -> None:
        if not self.labelled:
            raise ValueError(
                "labelled: names no data set; write for example coco:data/train.json?images=data/images"
            )
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction: {self.validation_fraction} is not between 0 and 1, both excluded"
            )
        _at_least(1, self, "max_pixels")


@dataclass(frozen=True)
class DetectorJob:
    """How the detector is trained."""

    steps: int = 600
    batch: int = 16  # images
    save_every: int = 100  # steps
    sampling: Sampling = "repeat_factor"
    repeat_threshold: float = 0.01  # classes in a smaller share of the images are repeated
    threads: int = 0  # per worker; 0 = all cores
    workers: int = 1
    evaluate_every: int = (
        0  # steps between measurements on the validation images; 0 = only at the end
    )
    evaluation_images: int = 0  # 0 = all of them
    keep: Literal["last", "best"] = "last"  # best: by AP50 on the validation images

    def __post_init__(self) -> None:
        _at_least(1, self, "steps", "batch", "save_every", "workers")
        _at_least(0, self, "threads", "evaluate_every", "evaluation_images")
        _between_0_and_1(self, "repeat_threshold")
        if self.workers > self.batch:
            raise ValueError(
                f"workers: {self.workers} is more than the {self.batch} images of a batch"
            )
        if self.keep == "best" and not self.evaluate_every:
            raise ValueError(
                "keep: 'best' needs more than one measurement; set evaluate_every, for example to save_every"
            )


@dataclass(frozen=True)
class SelfTrainJob:
    """How the trained detector goes on learning, from unlabelled images too."""

    steps: int = 0  # optimiser steps; 0 = the detector stays as it is
    batch: int = 16  # labelled images per step
    unlabelled_batch: int = 16  # unlabelled images per step
    save_every: int = 100  # steps
    lr: float = 0.0  # at its peak; 0 = the detector's own
    thresholds: dict[str, float] = field(
        default_factory=dict
    )  # class name -> score, instead of `threshold`
    keep: Literal["better", "last"] = "better"  # which detector labels the unlabelled images

    def __post_init__(self) -> None:
        _at_least(1, self, "batch", "unlabelled_batch", "save_every")
        _at_least(0, self, "steps", "lr")
        for name, score in self.thresholds.items():
            if not 0 <= score <= 1:
                raise ValueError(f"thresholds.{name}: {score} is not between 0 and 1")


@dataclass(frozen=True)
class GeneratorJob:
    """How the generator is trained, and on which objects."""

    steps: int = 2000
    batch: int = 16  # images
    save_every: int = 200  # steps
    sampling: Sampling = "uniform"
    repeat_threshold: float = 0.01
    threads: int = 0  # 0 = all cores
    workers: int = 1
    min_area: float = 0.0  # share of the image below which an object is left out
    min_objects: int = 1  # images with fewer are left out
    max_objects: int = 8  # images with more are left out
    flip: bool = True  # half of the images mirrored
    use_pseudo: bool = (
        True  # learn from pseudo-labelled images too; False is setting (i) of LostGAN-V2's Table 5
    )

    def __post_init__(self) -> None:
        _at_least(1, self, "steps", "batch", "save_every", "workers", "max_objects")
        _at_least(0, self, "threads", "min_objects")
        _between_0_and_1(self, "repeat_threshold", "min_area")
        if self.min_objects > self.max_objects:
            raise ValueError(
                f"min_objects: {self.min_objects} is more than max_objects {self.max_objects}"
            )


@dataclass(frozen=True)
class DetectorSection:
    """`detector:`, one mapping in YAML: the back-end, its training, and the keys of the back-end's own Config."""

    backend: str
    training: DetectorJob
    config: Any


@dataclass(frozen=True)
class SelfTrainSection:
    """`self_train:`, one mapping in YAML: the loop, and the keys of mean teacher's own Config."""

    training: SelfTrainJob
    config: Any


@dataclass(frozen=True)
class GeneratorSection:
    """`generator:`, one mapping in YAML: the system, its training, and the keys of the system's own Config."""

    system: str
    training: GeneratorJob
    config: Any


@dataclass(frozen=True)
class PseudoLabel:
    """Which detections become labels of the unlabelled images, and what their scores mean."""

    rule: Literal["fixed", "precision", "f1"] = "f1"  # how the least score of a class is chosen
    threshold: float = 0.5  # rule fixed: the least score, of every class
    precision: float = 0.9  # rule precision: share of a class's labels that are to be right
    min_truths: int = (
        10  # validation objects; a class with fewer takes the threshold of all classes together
    )
    calibrate: bool = (
        True  # store as score the probability that the label is right, not what the network said
    )
    folds: int = 5  # parts of the validation images that take turns in judging the thresholds
    flip: bool = True  # look at the mirror image too
    scales: tuple[float, ...] = ()  # sizes to look at besides 1.0
    batch: int = 16  # images

    def __post_init__(self) -> None:
        _between_0_and_1(self, "threshold")
        _at_least(1, self, "batch", "min_truths")
        _at_least(2, self, "folds")
        if not 0 < self.precision < 1:
            raise ValueError(f"precision: {self.precision} is not between 0 and 1, both excluded")
        for scale in self.scales:
            if not 0.1 <= scale <= 10:
                raise ValueError(f"scales: {scale:g} is not between 0.1 and 10 times the image")


@dataclass(frozen=True)
class Plan:
    """How many images, and which classes they show."""

    count: int = 1000  # images; 0 = as many as target "deficit" needs
    target: Literal["natural", "sqrt", "balanced", "counts", "deficit"] = "balanced"
    counts: dict[str, int] = field(
        default_factory=dict
    )  # class name -> objects, for target "counts"
    objects_per_class: int = 200  # labelled and synthetic ones together, for target "deficit"
    placement: Literal["natural", "uniform"] = "uniform"  # of added objects among the layouts
    jitter: float = 0.05  # how far boxes move, share of their size
    rearrange: float = (
        0.0  # of maps: probability that a thing moves sideways, and is perhaps mirrored
    )
    flip: float = 0.5  # probability that a layout is mirrored
    shard: int = 64  # images per shard

    def __post_init__(self) -> None:
        _at_least(1, self, "shard", "objects_per_class")
        _at_least(0, self, "count")
        _between_0_and_1(self, "jitter", "flip", "rearrange")
        if not self.count and self.target != "deficit":
            raise ValueError(
                "count: 0 images, as many as are needed, belongs to target 'deficit' only; give a number"
            )
        if (self.target == "counts") != bool(self.counts):
            raise ValueError(
                "counts: class names with numbers of objects belong to target 'counts', and only to it"
            )
        for name, number in self.counts.items():
            if number < 0:
                raise ValueError(f"counts: {number} objects of '{name}' is less than 0")


@dataclass(frozen=True)
class Synthesize:
    """How images are produced."""

    batch: int = 16  # images; fixed, because the batch changes the last bits of floats
    size: Literal["source", "generator"] = "source"
    format: Literal["png", "jpeg"] = "png"
    workers: int = 0  # 0 = one per core
    threads: int = 1  # per worker
    truncation: float = 2.0  # latents are redrawn until |z| is at most this; 0 = no truncation
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    compiled: bool = False  # torch.compile
    min_mask_area: int = 16  # pixels

    def __post_init__(self) -> None:
        _at_least(1, self, "batch", "threads")
        _at_least(0, self, "workers", "truncation", "min_mask_area")


Policy = Literal["keep", "drop", "ignore"]


@dataclass(frozen=True)
class Verify:
    """Which synthetic objects a detector that had no part in making them finds, and what becomes of the others."""

    enabled: bool = True
    detector: str = ""  # a detector's checkpoint; "" = one is trained on the labelled images
    steps: int = 0  # of that training; 0 = detector.steps
    recall: float = 0.95  # share of true objects of a class that is to pass
    min_recall: float = 0.8  # classes of which the judge finds less are not judged
    min_truths: int = (
        10  # validation objects; a class with fewer takes the bars of all classes together
    )
    precision: float = 0.9  # share of right ones among the detections that count as extra things
    small: float = 0.5  # of the area of the smallest labelled boxes of the class; less is too small
    missing: Policy = "drop"
    swapped: Policy = "ignore"
    misplaced: Policy = "ignore"
    duplicate: Policy = "ignore"
    doubtful: Policy = "ignore"
    too_small: Policy = "drop"
    extra: Literal["keep", "ignore"] = "ignore"  # things found that no label explains
    max_failed: float = (
        0.5  # share of an image's judged objects above which the whole image is dropped; 1 = never
    )
    batch: int = 16  # images per detector call

    def __post_init__(self) -> None:
        _at_least(1, self, "batch", "min_truths")
        _at_least(0, self, "steps", "small")
        _between_0_and_1(self, "min_recall", "max_failed")
        for name in ("recall", "precision"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: {getattr(self, name)} is not between 0 and 1, both excluded"
                )


@dataclass(frozen=True)
class Export:
    """What is written for others besides the Parquet table and the COCO file."""

    images: bool = True


@dataclass(frozen=True)
class Score:
    """Which scores are measured; `settings` has the Config of each."""

    names: tuple[
        str, ...
    ]  # as the job has them: "usual" stands for those of pipeline.scores.USUAL that can be had
    settings: dict[str, Any]
    detector: str = ""  # a detector's checkpoint; "" = the detector of the run
    weights: str = ""  # folder of published networks; nothing is ever downloaded

    @property
    def asked(self) -> tuple[str, ...]:
        """The scores the job names itself, so that what they lack is an error where it is known in time."""
        return tuple(name for name in self.names if name != "usual")


@dataclass(frozen=True)
class Trial:
    """Does the synthetic data help the detector? Arms trained alike, with paired seeds, on different images."""

    seeds: int = 0  # trainings per arm; 0 = no trial
    arms: tuple[str, ...] = (
        "real",
        "rfs",
        "irfs",
        "copy_paste",
        "pseudo",
        "synthetic",
        "verified",
        "synthetic_best",
        "placebo",
    )
    external: dict[str, str] = field(
        default_factory=dict
    )  # name -> data set `format:path`, each an arm of its own
    evaluation: str = ""  # data set the arms are measured on; "" = the validation images
    steps: int = 0  # optimiser steps of each arm; 0 = detector.steps
    share: float = 0.5  # of each batch that added images fill
    curve: tuple[
        float, ...
    ] = ()  # parts of the synthetic images that are arms of their own, for the budget curve
    repeat_threshold: float = 0.1  # of the arms rfs and irfs
    groups: Literal["auto", "relative", "lvis"] = (
        "auto"  # auto: LVIS's bounds where the labelled data is LVIS
    )
    margin: float = 0.01  # AP that frequent classes may lose at most (non-inferiority)
    worthwhile: float = 0.005  # AP that a further step of the curve must be able to bring
    copy_paste: Any = (
        None  # Config of generators/copy_paste.py, how the arm of that name cuts and pastes
    )

    def __post_init__(self) -> None:
        _at_least(0, self, "seeds", "steps", "margin", "worthwhile")
        _between_0_and_1(self, "share", "repeat_threshold")
        if self.seeds == 1:
            raise ValueError(
                "seeds: 1 training per arm has no spread; give 0 for no trial, or 2 and more (5 is usual)"
            )
        if any(not 0 < part < 1 for part in self.curve):
            raise ValueError(
                "curve: parts of the synthetic images lie between 0 and 1, both excluded"
            )
        if "real" not in self.arms:
            raise ValueError("arms: 'real' is missing; everything is compared with it")
        if len(set(self.arms)) < len(self.arms):
            raise ValueError("arms: an arm is named twice")


@dataclass(frozen=True)
class Report:
    """What the HTML page shows."""

    samples: int = 200  # synthetic images in the gallery; their real sources and a quarter as many pseudo-labelled ones too
    title: str = ""  # "" = the job's name

    def __post_init__(self) -> None:
        _at_least(0, self, "samples")


@dataclass(frozen=True)
class Cluster:
    """Where the work is done; never a reason for other results."""

    executor: Literal["ray", "serial"] = "ray"
    address: str = ""  # "" = start a local Ray
    workers: int = 0  # 0 = number of cores
    memory_mb: int = 512  # object store of the local Ray

    def __post_init__(self) -> None:
        _at_least(0, self, "workers")
        _at_least(1, self, "memory_mb")


@dataclass(frozen=True)
class Job:
    """Everything a run needs to know; made by `load_job`."""

    name: str
    seed: int
    output: str
    data: Data
    detector: DetectorSection
    self_train: SelfTrainSection
    pseudo_label: PseudoLabel
    generator: GeneratorSection
    train_generator: Any  # Config of the adversarial loop: the optimisers' settings
    plan: Plan
    synthesize: Synthesize
    verify: Verify
    export: Export
    score: Score
    trial: Trial
    report: Report
    cluster: Cluster

    def __post_init__(self) -> None:
        _at_least(0, self, "seed")
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name: '{self.name}' may have only letters, digits, '.', '_' and '-', and at most 100"
            )
        if self.pseudo_label.flip and not getattr(self.detector.config, "flip", True):
            raise ValueError(
                "pseudo_label.flip: the detector is not to learn mirror images (detector.flip is false), so it cannot be "
                "asked about them; set pseudo_label.flip to false too"
            )
        if self.self_train.training.steps and not self.data.unlabelled:
            raise ValueError(
                "self_train.steps: there are no unlabelled images; name some in data.unlabelled, or set it to 0"
            )
        parts, plan = getattr(self.train_generator, "accumulate", 1), self.generator.training
        if parts > 1 and plan.batch % (parts * plan.workers):
            raise ValueError(
                f"train_generator.accumulate: {parts} parts for each of {plan.workers} workers (generator.workers) cannot "
                f"be equal with {plan.batch} images (generator.batch); make the batch a multiple of {parts * plan.workers}"
            )

    def to_yaml(self) -> str:
        """Return the resolved job as a file that `load_job` reads back as an equal job."""
        from omegaconf import OmegaConf

        text = OmegaConf.to_yaml(OmegaConf.create(_plain(self)))
        return _quoted(_plain(self)) if set(text) & set("\x85\u2028\u2029") else text

    def sha256(self) -> str:
        """Return the hex digest of what decides the results: not of the output folder, the cluster or the workers."""
        content: dict[str, Any] = {
            f.name: section_dict(self, f.name) for f in fields(self) if f.name not in OUTSIDE
        }
        text = json.dumps({**content, "name": self.name, "seed": self.seed}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _quoted(content: Any) -> str:
    """Return YAML with every text in double quotes and escaped: plain style loses the rarer line separators."""
    import yaml

    class Quoting(yaml.SafeDumper):
        pass

    Quoting.add_representer(
        str, lambda d, text: d.represent_scalar("tag:yaml.org,2002:str", text, style='"')
    )
    return yaml.dump(content, Dumper=Quoting, allow_unicode=False, sort_keys=False)


def section_dict(job: Job, section: str) -> dict[str, Any]:
    """Return one section as plain JSON-able data, to be hashed; without the keys that only say who does the work."""
    assert section not in OUTSIDE, f"{section} decides no step's result"
    content = _plain(getattr(job, section))
    return {key: value for key, value in content.items() if key not in EXECUTION.get(section, ())}


def _plain(value: Any) -> Any:
    """Return dataclasses, tuples and dicts as YAML knows them; component sections as the one mapping they came from."""
    if isinstance(value, DetectorSection):
        return {"backend": value.backend, **_plain(value.training), **_plain(value.config)}
    if isinstance(value, SelfTrainSection):
        return {**_plain(value.training), **_plain(value.config)}
    if isinstance(value, GeneratorSection):
        return {"system": value.system, **_plain(value.training), **_plain(value.config)}
    if isinstance(value, Score):
        return {
            "names": list(value.names),
            "detector": value.detector,
            "weights": value.weights,
            **_plain(value.settings),
        }
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value
