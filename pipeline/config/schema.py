"""The sections of a job.

Frozen dataclasses with every key, default, unit and range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from synthaug.pipeline.core.json_values import Json, json_digest
from synthaug.ranges import above, at_least, from_0_to_1, of_a_batch

OUTSIDE = ("name", "seed", "output", "checks", "cluster")  # of every section's content
EXECUTION = {
    "synthesize": ("workers",),
    "data": ("leaks",),
    "score": ("missing",),
    "report": ("track",),
}  # keys that change who works or what is refused, no result
# keys of the section plan for generators that edit real images
EDIT_KEYS = ("into", "most_edits", "natural_share", "uses", "empties", "surface")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Sampling = Literal["uniform", "repeat_factor", "class_balanced"]


@dataclass(frozen=True)
class Data:
    """Data sets, as references `format:path?option=value`."""

    labelled: str  # images with human labels
    root: str = "."  # folder that relative paths in references are joined to
    # images to be pseudo-labelled; labels it has are never used but to judge those; "" = none
    unlabelled: str = ""
    validation: str = ""  # "" = hold out a part of the labelled images
    validation_fraction: float = 0.15  # share of the labelled images held out when validation is ""
    max_pixels: int = 50_000_000  # height x width of one image; larger ones are bad
    # a bad image or annotation: stop | skip (counted and reported)
    on_bad: Literal["stop", "skip"] = "stop"
    # an image that is measured on is trained on too (docs/leaks.md): stop | report
    leaks: Literal["stop", "report"] = "stop"

    def __post_init__(self) -> None:
        if not self.labelled:
            raise ValueError(
                "labelled: names no data set; write for example "
                "coco:data/train.json?images=data/images"
            )
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction: {self.validation_fraction} is not between 0 and 1, both "
                "excluded"
            )
        at_least(1, self, "max_pixels")


@dataclass(frozen=True)
class DetectorJob:
    """Training of the detector."""

    steps: int = 0  # optimiser steps; 0 = by the number of labelled images, 600 for toy-sized ones
    batch: int = 16  # images per step
    save_every: int = 100  # steps between checkpoints; at most this much work is lost by a crash
    # uniform | repeat_factor (images of rare classes come more often) | class_balanced
    sampling: Sampling = "repeat_factor"
    # repeat_factor only: share of images; classes in fewer are repeated
    repeat_threshold: float = 0.01
    threads: int = 0  # CPU threads per worker; 0 = all cores
    # processes that train together, each on a part of the batch; one that dies is done without
    workers: int = 1
    # steps between measurements on the validation images; 0 = only at the end
    evaluate_every: int = 0
    evaluation_images: int = 0  # validation images used for them, evenly spaced; 0 = all
    # last | best (by AP50 on the validation images): the weights that go on
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        of_a_batch(self, "batch")
        at_least(1, self, "save_every", "workers")
        at_least(0, self, "steps", "threads", "evaluate_every", "evaluation_images")
        from_0_to_1(self, "repeat_threshold")
        if self.workers > self.batch:
            raise ValueError(
                f"workers: {self.workers} is more than the {self.batch} images of a batch"
            )
        if self.keep == "best" and not self.evaluate_every:
            raise ValueError(
                "keep: 'best' needs more than one measurement; set evaluate_every, for example to "
                "save_every"
            )


@dataclass(frozen=True)
class SelfTrainJob:
    """Further training of the detector, on unlabelled images too."""

    steps: int = 0  # optimiser steps; 0 = off, the detector stays as it is
    batch: int = 16  # labelled images per step
    unlabelled_batch: int = 16  # unlabelled images per step
    save_every: int = 100  # steps between checkpoints
    lr: float = 0.0  # at its peak, then as detector.warmup says; 0 = the detector's own
    # the same per class: class name -> score; others take `threshold`
    thresholds: dict[str, float] = field(default_factory=dict)
    # better (of both, by AP50 on validation) | last (always the self-trained detector)
    keep: Literal["better", "last"] = "better"

    def __post_init__(self) -> None:
        of_a_batch(self, "batch", "unlabelled_batch")
        at_least(1, self, "save_every")
        at_least(0, self, "steps", "lr")
        for name, score in self.thresholds.items():
            if not 0 <= score <= 1:
                raise ValueError(f"thresholds.{name}: {score} is not between 0 and 1")


@dataclass(frozen=True)
class GeneratorJob:
    """Training of the generator, and the objects it learns from."""

    steps: int = 2000  # optimiser steps
    batch: int = 16  # images per step
    save_every: int = 200  # steps between checkpoints
    # uniform | repeat_factor | class_balanced (each class equally often)
    sampling: Sampling = "uniform"
    # repeat_factor only: share of images; classes in fewer are repeated
    repeat_threshold: float = 0.01
    threads: int = 0  # CPU threads; 0 = all cores
    workers: int = 1  # processes that train together
    min_area: float = 0.0  # share of the image; smaller objects are left out of layouts
    min_objects: int = 1  # per layout; images with fewer are left out
    max_objects: int = 8  # per layout; images with more are left out, as in the paper
    flip: bool = True  # mirror half of the images in training
    use_pseudo: bool = True  # learn from the pseudo-labelled images too

    def __post_init__(self) -> None:
        of_a_batch(self, "batch")
        at_least(1, self, "steps", "save_every", "workers", "max_objects")
        at_least(0, self, "threads", "min_objects")
        from_0_to_1(self, "repeat_threshold", "min_area")
        if self.min_objects > self.max_objects:
            raise ValueError(
                f"min_objects: {self.min_objects} is more than max_objects {self.max_objects}"
            )


@dataclass(frozen=True)
class DetectorSection:
    """`detector:`, one mapping in YAML.

    The back-end, its training, and the keys of the back-end's own Config.
    """

    backend: str
    training: DetectorJob
    config: Any


@dataclass(frozen=True)
class SelfTrainSection:
    """`self_train:`, one mapping in YAML.

    The loop, and the keys of mean teacher's own Config.
    """

    training: SelfTrainJob
    config: Any


@dataclass(frozen=True)
class GeneratorSection:
    """`generator:`, one mapping in YAML.

    The system, its training, and the keys of the system's own Config.
    """

    system: str
    training: GeneratorJob
    config: Any


@dataclass(frozen=True)
class NoTraining:
    """`train_generator:` of a system that is not trained here."""


@dataclass(frozen=True)
class PseudoLabel:
    """Labels of the unlabelled images.

    Which detections, and the meaning of their scores.
    """

    # least score of a class: fixed (threshold) | precision (is reached) | f1 (is highest)
    rule: Literal["fixed", "precision", "f1"] = "f1"
    threshold: float = 0.5  # rule fixed: score from which on a detection becomes a label, 0 to 1
    precision: float = 0.9  # rule precision: share of a class's labels that are to be right
    # validation objects; classes with fewer take the threshold of all classes together
    min_truths: int = 10
    # least share of right ones that held-out validation images must show (95 % sure) of the
    # labels of a class; other classes get none; 0 = labels of any worth
    min_precision: float = 0.5
    # score of a label (its weight in eq. 15): probability that it is right; false = network's
    calibrate: bool = True
    folds: int = 5  # parts of the validation images that take turns in judging the thresholds
    flip: bool = True  # look at the mirror image too; false where detector.flip is false
    # look at these sizes too, e.g. [0.8, 1.25]; each costs another pass
    scales: tuple[float, ...] = ()
    batch: int = 16  # images per detector call

    def __post_init__(self) -> None:
        from_0_to_1(self, "threshold", "min_precision")
        of_a_batch(self, "batch")
        at_least(1, self, "min_truths")
        at_least(2, self, "folds")
        if not 0 < self.precision < 1:
            raise ValueError(f"precision: {self.precision} is not between 0 and 1, both excluded")
        for scale in self.scales:
            if not 0.1 <= scale <= 10:
                raise ValueError(f"scales: {scale:g} is not between 0.1 and 10 times the image")


@dataclass(frozen=True)
class Joint:
    """Detector and LostGAN trained together; each of three lessons has a key."""

    # the step train_generator trains the detector on, along with generator and discriminator
    enabled: bool = False
    # unlabelled images per step, beside generator.batch labelled ones; the detector labels them
    unlabelled_batch: int = 4
    batch: int = 8  # labelled images per step of the detector
    # by the detector as it is at that step; false = by the one before the training
    relabel: bool = True
    # weight of the detector's loss on the generator's images, in the generator's own; 0 = none
    recognition: float = 0.1
    # synthetic images per step of the detector, beside the labelled ones; 0 = none
    synthetic: int = 4
    # share of the steps before the first of them: what is not recognizable is no example
    synthetic_from: float = 0.5

    def __post_init__(self) -> None:
        of_a_batch(self, "batch", "unlabelled_batch")
        at_least(0, self, "recognition", "synthetic")
        from_0_to_1(self, "synthetic_from")


@dataclass(frozen=True)
class Plan:
    """Number of images and target counts of classes."""

    count: int = 1000  # images to synthesise; 0 = as many as target deficit needs
    # class distribution: natural | sqrt | balanced | counts | deficit | weak (docs/planner.md)
    target: Literal["natural", "sqrt", "balanced", "counts", "deficit", "weak"] = "balanced"
    # only with target counts: class name -> objects, names such as 'no' in quotes
    counts: dict[str, int] = field(default_factory=dict)
    # only with target weak: class name -> what it lacks, 0 to 1; {} = as validation AP says
    weakness: dict[str, float] = field(default_factory=dict)
    # with target deficit: objects each thing class is to have, labelled and synthetic
    objects_per_class: int = 200
    # layouts that added objects go to: uniform (any) | natural (where companions are)
    placement: Literal["natural", "uniform"] = "uniform"
    # generators of layouts: images (are made whole) | photos (objects are laid into real images)
    into: Literal["images", "photos"] = "images"
    # generators that edit real images (docs/fill.md): edits of an image, 1 to this many
    most_edits: int = 3
    natural_share: float = 0.5  # of them, rounded down: classes as they occur, not as target asks
    # use -> share of images: insert | ring | redraw | erase | empty; {} = insert alone
    uses: dict[str, float] = field(default_factory=dict)
    empties: float = 0.0  # places painted with background, unlabelled, per object added
    # where stuff has masks, objects come to: seen (stuff that their class is seen on) | any
    surface: Literal["seen", "any"] = "seen"
    jitter: float = 0.05  # how far boxes move, share of their size, 0 to 1
    # generators driven by maps: share of things that move sideways and are perhaps mirrored
    rearrange: float = 0.0
    flip: float = 0.5  # probability that a layout is mirrored
    # file of layouts drawn by hand, planned besides (synthaug studio, docs/studio.md); "" = none
    drawn: str = ""
    shard: int = 64  # images per shard, the unit of work, retry and resume

    def __post_init__(self) -> None:
        at_least(1, self, "shard", "objects_per_class", "most_edits")
        at_least(0, self, "count", "empties")
        from_0_to_1(self, "jitter", "flip", "rearrange", "natural_share")
        if self.uses and not sum(self.uses.values()):
            raise ValueError("uses: all shares are 0; give one more than 0")
        for name, share in self.uses.items():
            if share < 0:
                raise ValueError(f"uses: the share {share:g} of '{name}' is less than 0")
        if not self.count and self.target != "deficit":
            raise ValueError(
                "count: 0 images, as many as are needed, belongs to target 'deficit' only; give a "
                "number"
            )
        if (self.target == "counts") != bool(self.counts):
            raise ValueError(
                "counts: class names with numbers of objects belong to target 'counts', and only "
                "to it"
            )
        for name, number in self.counts.items():
            if number < 0:
                raise ValueError(f"counts: {number} objects of '{name}' is less than 0")
        self._check_weakness()

    def _check_weakness(self) -> None:
        if not self.weakness:
            return
        if self.target != "weak":
            raise ValueError("weakness: what classes lack belongs to target 'weak' only")
        for name, lacks in self.weakness.items():
            if not 0 <= lacks <= 1:
                raise ValueError(f"weakness: {lacks:g} of '{name}' is not between 0 and 1")
        if not any(self.weakness.values()):
            raise ValueError("weakness: all classes lack 0; give one more than 0")

    @property
    def asks_the_detector(self) -> bool:
        """Whether the detector of the run is to say which classes are weak."""
        return self.target == "weak" and not self.weakness


@dataclass(frozen=True)
class Synthesize:
    """Production of images."""

    batch: int = 16  # images per generator call; changes the last bits of the results
    # of the images: source (of the planned layout) | generator (its resolution)
    size: Literal["source", "generator"] = "source"
    format: Literal["png", "jpeg"] = "png"  # png (lossless) | jpeg
    workers: int = 0  # processes; 0 = one per core; never changes the results
    threads: int = 1  # CPU threads per worker
    truncation: float = 2.0  # latents are redrawn until |z| is at most this; 0 = no truncation
    # of the generator: float32 | bfloat16 (faster, the last grey levels differ) | auto
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    # torch.compile: faster after a minute or more of compilation; for large productions
    compiled: bool = False
    min_mask_area: int = 16  # pixels; objects with fewer visible are dropped and counted
    # real objects that painted ones may look like: labelled | all (those pseudo-labelled ones that
    # the detector is surest of, too)
    examples: Literal["labelled", "all"] = "labelled"
    # lostgan: refine the masks in so many stages of the trained network (Table 8 of its paper);
    # -1 = all, -2 = as it was trained
    refine_stages: int = -2

    def __post_init__(self) -> None:
        of_a_batch(self, "batch")
        at_least(1, self, "threads")
        at_least(-2, self, "refine_stages")
        at_least(0, self, "workers", "truncation", "min_mask_area")


Policy = Literal["keep", "drop", "ignore"]


@dataclass(frozen=True)
class Verify:
    """Verification of synthetic objects, and the policy for each verdict."""

    enabled: bool = True  # false = the synthetic data goes on as it was made
    # checkpoint of the verifying detector; "" = one is trained on the labelled images
    detector: str = ""
    steps: int = 0  # optimiser steps of that training; 0 = detector.steps
    # share of a class's true objects (in the validation images) that is to pass
    recall: float = 0.95
    # classes of which the detector finds a smaller share at all are not judged
    min_recall: float = 0.8
    # validation objects; classes with fewer take the thresholds of all classes together
    min_truths: int = 10
    precision: float = 0.9  # share of right ones among the detections that count as extra things
    # of the area of a class's smallest labelled boxes; smaller objects are too small
    small: float = 0.5
    # what becomes of an object with this verdict: keep | drop | ignore (ignore region)
    missing: Policy = "drop"
    swapped: Policy = "ignore"  # another class is at its place
    misplaced: Policy = "ignore"  # it is there, but not where its box is
    duplicate: Policy = "ignore"  # what is there is another object's
    # the detector sees it, but not as surely as real ones, or it is hidden by another of its class
    doubtful: Policy = "ignore"
    too_small: Policy = "drop"  # it covers too little of its image
    # where a thing is found that no label explains: keep (as it is) | ignore
    extra: Literal["keep", "ignore"] = "ignore"
    # share of an image's judged objects; with more failed it is dropped; 1 = never
    max_failed: float = 0.5
    batch: int = 16  # images per detector call

    def __post_init__(self) -> None:
        of_a_batch(self, "batch")
        at_least(1, self, "min_truths")
        at_least(0, self, "steps", "small")
        from_0_to_1(self, "min_recall", "max_failed")
        for name in ("recall", "precision"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: {getattr(self, name)} is not between 0 and 1, both excluded"
                )


@dataclass(frozen=True)
class Export:
    """Files for other tools besides the Parquet table and the COCO file."""

    images: bool = True  # image files next to the COCO file


@dataclass(frozen=True)
class Score:
    """Scores to measure; `settings` has the Config of each."""

    # scores to measure (docs/scores.md); usual = those of them that can be had
    names: tuple[str, ...]
    settings: Json
    # checkpoint of the reference detector, so that runs compare; "" = the run's own
    detector: str = ""
    # folder of published networks, which fid, kid, inception_score, prdc and diversity need;
    # nothing is downloaded
    weights: str = ""
    # what becomes of a score that the job names and whose published network is not there:
    # stop (before the run) | report (it is not measured, and the report says why)
    missing: Literal["stop", "report"] = "stop"
    # of the images that are measured, real and synthetic alike: source (of the validation images) |
    # generator (its resolution, as in the papers)
    size: Literal["source", "generator"] = "source"
    # images whose layouts are painted: validation | labelled (mask_iou alone, as in its paper)
    layouts: Literal["validation", "labelled"] = "validation"

    @property
    def asked(self) -> tuple[str, ...]:
        """Return the scores that the job names itself.

        To lack something is an error for them.
        """
        if self.missing == "report":
            return ()
        return tuple(name for name in self.names if name != "usual")


@dataclass(frozen=True)
class Trial:
    """Does the synthetic data help the detector?

    Arms trained alike, with paired seeds, on different images.
    """

    # trainings per arm in screening, paired across arms; 0 = no trial, 4 is usual
    seeds: int = 0
    # the same in confirmation: of real data, the stack and the chosen recipe; 0 = screening only
    confirm_seeds: int = 16
    # also rfs and real_2x (docs/trial.md)
    arms: tuple[str, ...] = (
        "real",
        "irfs",
        "lsj",
        "copy_paste",
        "pseudo",
        "synthetic",
        "verified",
        "synthetic_best",
        "placebo",
    )
    # name -> data set format:path, each an arm of its own
    external: dict[str, str] = field(default_factory=dict)
    # data set that nothing else sees, to confirm on; "" = screening on the validation images only
    evaluation: str = ""
    # labelled images whose true labels show what more data would bring (real_more); "" = none
    more: str = ""
    goal: Literal["all", "rare"] = "all"  # classes whose mean AP decides: all | rare
    # optimiser steps of each arm: a number (0 = detector.steps) | plateau (found on validation)
    steps: int | Literal["plateau"] = "plateau"
    start_steps: int = 0  # plateau only: to begin with; 0 = a quarter of detector.steps
    plateau: float = 0.01  # plateau only: AP; the steps are enough when twice as many bring less
    doublings: int = 3  # plateau only: of start_steps, at most
    # real data that are not shown to beat half of them: stop | report (and go on) | off
    headroom: Literal["stop", "report", "off"] = "stop"
    share: float = 0.5  # of each batch that added images fill
    real_last: float = 0.0  # last part of the steps, with real images only in place of added ones
    # boxes of synthetic objects that are learned, beside their classes:
    # all | agreed (the judge's box has an IoU of 0.8 with it; arm verified) | none
    added_boxes: Literal["all", "agreed", "none"] = "all"
    pseudo_boxes: Literal["all", "none"] = "none"  # the same of pseudo-labels: all | none
    # of synthetic images, away from their objects: learn | ignore (nothing to learn)
    added_background: Literal["learn", "ignore"] = "learn"
    soft_resolution: int = 128  # shorter side that the images of arm soft are brought to, pixels
    # data set of real images with places painted over that show no object, for arm empties
    empties: str = ""
    # parts of the synthetic images, 0 to 1, that are arms of their own: the budget curve
    curve: tuple[float, ...] = ()
    # shares of images or instances; rfs and irfs repeat classes in less: the best one is taken
    repeat_thresholds: tuple[float, ...] = (0.1, 0.3, 0.7)
    tune_seeds: int = 2  # trainings of each threshold to choose it by
    gain: float = 0.005  # AP over real data alone that brings a control into the stack
    # rare, common, frequent: relative (to the largest class) | lvis (images) | auto
    groups: Literal["auto", "relative", "lvis"] = "auto"
    margin: float = 0.01  # AP that frequent classes may lose at most (non-inferiority)
    worthwhile: float = 0.005  # AP that a further step of the curve must be able to bring
    copy_paste: Any = None  # how that arm cuts and pastes (docs/copy_paste.md)

    def __post_init__(self) -> None:
        at_least(0, self, "seeds", "confirm_seeds", "start_steps", "margin", "worthwhile", "gain")
        at_least(1, self, "doublings", "tune_seeds", "soft_resolution")
        self._check_placebos()
        from_0_to_1(self, "share", "real_last")
        self._check_budget()
        for name, usual in (("seeds", 4), ("confirm_seeds", 16)):
            if getattr(self, name) == 1:
                raise ValueError(
                    f"{name}: 1 training per arm has no spread; give 0 for none, or 2 and more "
                    f"({usual} is usual)"
                )
        if any(not 0 < part < 1 for part in self.curve):
            raise ValueError(
                "curve: parts of the synthetic images lie between 0 and 1, both excluded"
            )
        if "real" not in self.arms:
            raise ValueError("arms: 'real' is missing; everything is compared with it")
        if len(set(self.arms)) < len(self.arms):
            raise ValueError("arms: an arm is named twice")

    def _check_placebos(self) -> None:
        if "diluted" in self.arms and self.share == 1:
            raise ValueError("share: 1 leaves arm diluted nothing to learn; give less")
        if "empties" in self.arms and not self.empties:
            raise ValueError(
                "empties: arm empties needs a data set; name the data of a run with "
                "plan.uses {empty: 1}, such as parquet:runs/empties/data"
            )

    def _check_budget(self) -> None:
        if self.steps != "plateau":
            at_least(0, self, "steps")
        from_0_to_1(self, "plateau")
        if not self.plateau:
            raise ValueError("plateau: 0 AP is no bound; give a little more, such as 0.01")
        thresholds = self.repeat_thresholds
        if not thresholds or any(not 0 < threshold <= 1 for threshold in thresholds):
            raise ValueError(
                "repeat_thresholds: give one or more shares above 0 and at most 1, such as [0.1, "
                "0.3]"
            )


@dataclass(frozen=True)
class Report:
    """Content of the HTML page."""

    # synthetic images in the gallery, evenly spaced; with their real sources; 0 = no pictures
    samples: int = 200
    title: str = ""  # "" = the job's name
    # losses, rates and AP over steps go, while they are measured, to: off | tensorboard (event
    # files in the run's folder) | mlflow | wandb (docs/report.md)
    track: Literal["off", "tensorboard", "mlflow", "wandb"] = "off"

    def __post_init__(self) -> None:
        at_least(0, self, "samples")


@dataclass(frozen=True)
class Cluster:
    """Place of the work; never a reason for other results."""

    executor: Literal["ray", "serial"] = "ray"  # ray | serial (everything in one process)
    address: str = ""  # of a running Ray; "" = start a local one
    workers: int = 0  # at most; 0 = as many as cores, here or in the joined Ray
    # workers that share a GPU, where there are any; 0 = as many as its memory has room for (it is
    # measured how much the first one takes), at most 4. A training has whole ones
    workers_per_gpu: int = 0
    # beside other jobs on the same Ray: one of 2 gets twice the workers of one of 1
    priority: float = 1.0
    memory_mb: int = 512  # object store of the local Ray, MB
    # of the local Ray's workers, as `nice` has it: 0 = as other programs, 19 = only when they rest.
    # At Ray's own 15 a run beside other work takes twice as long
    niceness: int = 5

    def __post_init__(self) -> None:
        at_least(0, self, "workers", "workers_per_gpu")
        at_least(1, self, "memory_mb")
        above(0, self, "priority")
        if not 0 <= self.niceness <= 19:
            raise ValueError(f"niceness: {self.niceness} is not between 0 and 19")


@dataclass(frozen=True)
class Job:
    """Everything a run needs to know; made by `load_job`."""

    name: str  # of the run, and first part of every synthetic image_id; "" = the job file's name
    seed: int  # all randomness derives from it
    output: str  # folder of the run; "" = runs/<name>; --output beats it
    # a weak link of the chain, such as a detector that learnt nothing (docs/report.md):
    # stop (before anything is built on it) | report (go on, and say so)
    checks: Literal["stop", "report"]
    data: Data  # data sets as references format:path?option=value
    detector: DetectorSection  # of the run, trained on the labelled images (docs/detectors.md)
    # mean teacher: go on with labelled and unlabelled images (docs/self_training.md)
    self_train: SelfTrainSection
    # thresholds and probabilities are learnt on the validation images (docs/pseudo_labels.md)
    pseudo_label: PseudoLabel
    # of the synthetic images; its system and on which objects it learns
    generator: GeneratorSection
    train_generator: Any  # optimisers and precision of the training, which is of the chosen system
    joint: Joint  # the detector learns along with a LostGAN (docs/joint.md)
    plan: Plan  # how many images, and which classes they show (docs/planner.md)
    synthesize: Synthesize  # how images are produced
    verify: Verify  # a detector that made none of the objects looks for each (docs/verification.md)
    export: Export  # what is written besides the Parquet table
    score: Score  # which scores are measured (docs/scores.md)
    trial: Trial  # does the synthetic data help the detector? (docs/trial.md)
    report: Report  # the HTML page
    cluster: Cluster  # where the work is done; never changes the results

    def __post_init__(self) -> None:
        at_least(0, self, "seed")
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name: '{self.name}' may have only letters, digits, '.', '_' and '-', and at most "
                "100"
            )
        if self.pseudo_label.flip and not self.detector.config.flip:
            raise ValueError(
                "pseudo_label.flip: the detector is not to learn mirror images (detector.flip is "
                "false), so it cannot be asked about them; set pseudo_label.flip to false too"
            )
        if self.self_train.training.steps and not self.data.unlabelled:
            raise ValueError(
                "self_train.steps: there are no unlabelled images; name some in data.unlabelled, "
                "or set it to 0"
            )
        parts = self.num_parts
        plan = self.generator.training
        if parts > 1 and plan.batch % (parts * plan.workers):
            raise ValueError(
                f"train_generator.accumulate: {parts} parts for each of {plan.workers} workers "
                f"(generator.workers) cannot be equal with {plan.batch} images (generator.batch); "
                f"make the batch a multiple of {parts * plan.workers}"
            )

    @property
    def num_parts(self) -> int:
        """Return the parts in which a worker learns from its batch.

        1 where the generator's training has no such key.
        """
        return int(vars(self.train_generator).get("accumulate", 1))

    def to_yaml(self) -> str:
        """Return the resolved job as a file that `load_job` reads back as an equal job."""
        from omegaconf import OmegaConf

        text = OmegaConf.to_yaml(OmegaConf.create(_plain(self)))
        return _quoted(_plain(self)) if set(text) & set("\x85\u2028\u2029") else text

    def sha256(self) -> str:
        """Return the hex digest of what decides the results.

        Not of the output folder, the cluster or the workers.
        """
        content: Json = {}
        for section in fields(self):
            if section.name not in OUTSIDE:
                content[section.name] = section_dict(self, section.name)
        content["name"] = self.name
        content["seed"] = self.seed
        return json_digest(content)


def _quoted(content: Any) -> str:
    """Return YAML with every text in double quotes and escaped.

    Plain style loses the rarer line separators.
    """
    import yaml

    class Quoting(yaml.SafeDumper):
        pass

    Quoting.add_representer(
        str, lambda d, text: d.represent_scalar("tag:yaml.org,2002:str", text, style='"')
    )
    return yaml.dump(content, Dumper=Quoting, allow_unicode=False, sort_keys=False)


def section_dict(job: Job, section: str) -> Json:
    """Return one section as plain JSON-able data, to be hashed.

    Without the keys that only say who does the work.
    """
    assert section not in OUTSIDE, f"{section} decides no step's result"
    content = _plain(getattr(job, section))
    return {key: value for key, value in content.items() if key not in EXECUTION.get(section, ())}


def _plain(value: Any) -> Any:
    """Return dataclasses, tuples and dicts as YAML knows them.

    Component sections as the one mapping they came from.
    """
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
            "missing": value.missing,
            "size": value.size,
            "layouts": value.layouts,
            **_plain(value.settings),
        }
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value
