"""CAS, classification accuracy score (Ravuri & Vinyals; LostGAN-V2, section 3): do synthetic objects teach real ones?

A classifier learns from object crops of synthetic images alone and is tested on object crops of real validation images.
The same classifier trained on real crops is the ceiling; guessing a class is the floor. The paper's classifier is
ResNet-101 in its CIFAR form on 32x32 crops, five samples per layout; the default here is a small one for a CPU, and the
card says so.

Legend: N crops, S crop side, B batch, C classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores.base import (
    Extractor,
    MetricInputs,
    TrainingSpec,
    layout_objects,
    missing_input,
)
from synthaug.pipeline.scores.card import Metric, full_card, versions
from synthaug.pipeline.scores.classification.cifar_resnet import PAPER_DEPTH
from synthaug.pipeline.scores.classification.classifier import (
    Accuracy,
    ClassifierTraining,
    Config,
    accuracy,
    together,
)
from synthaug.pipeline.scores.classification.crops import (
    PAPER_SIZE,
    CropExtractor,
    CropSet,
    CropTable,
    crop_row,
)

if TYPE_CHECKING:
    from torch import nn

PAPER_WIDTH, PAPER_SAMPLES = 64, 5
FEW = 30  # test crops of a class; with fewer its accuracy is chance


@dataclass(frozen=True)
class CropClassifier:
    """The classifier that learns from the crops of one table."""

    table: str  # train | synthetic
    config: Config  # of one training

    @property
    def name(self) -> str:
        """Its folder."""
        content = hashlib.sha256(
            json.dumps(asdict(self.config), sort_keys=True).encode()
        ).hexdigest()
        return f"cas-{self.table}-{content[:10]}"

    def training_spec(self, inputs: MetricInputs) -> TrainingSpec:
        """Return its training, the crops among it."""
        crops = collect(inputs, self.config, self.table)
        training = ClassifierTraining(
            self.config,
            crops,
            len(self.config.selected(inputs.categories)),
            inputs.resources.device,
        )
        return TrainingSpec(training, training.batch, self.config.steps, self.config.threads)


def collect(inputs: MetricInputs, config: Config, table: str, cap: int | None = None) -> CropSet:
    """Return the crops of one table; `cap` as in CropTable."""
    found = CropTable(config, config.selected(inputs.categories), cap)
    (extractor,) = extractors(config)
    for record in inputs.extracted(extractor, table):
        found.add(crop_row(record))
    return found.result()


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Scissors in all three tables."""
    return (
        CropExtractor(("train", "real", "synthetic"), config.samples_per_layout, size=config.size),
    )


def available(inputs: MetricInputs, config: Config) -> str | None:
    """It needs objects in real and synthetic images; without labelled ones it has no ceiling."""
    missing = missing_input(inputs)
    if missing:
        return missing
    selected = config.selected(inputs.categories)
    for name in ("real", "synthetic"):
        table = inputs.tables[name]
        if not any(np.isin(layout_objects(scene).category, selected).any() for scene in table):
            return f"the {name} images have no object of the classes to tell apart (cas.classes: {config.classes})"
    return None


def auxiliary_models(inputs: MetricInputs, config: Config) -> tuple[CropClassifier, ...]:
    """Classifiers on synthetic and, for the ceiling, on real crops."""
    tables = [name for name in ("synthetic", "train") if name in inputs.tables]
    once = [
        replace(config, seed=config.seed + number, repeats=1) for number in range(config.repeats)
    ]
    return tuple(CropClassifier(name, one) for name in tables for one in once)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return CAS from the crops and the trained classifiers."""
    (extractor,) = extractors(config)
    train = collect(inputs, config, "synthetic")
    models: dict[str, list[nn.Module]] = {}
    for student in auxiliary_models(inputs, config):
        name = "real" if student.table == "train" else student.table
        models.setdefault(name, []).append(inputs.trained(student)["classifier"])
    # all test crops, because a cap per class would change the class shares and with them top-1
    test = collect(inputs, config, "real", cap=0)
    card = full_card(
        inputs,
        extractor,
        protocol="classifier trained on synthetic object crops only, tested on real validation crops",
        headline_key="top1",
        resize=f"box to {config.size}x{config.size}: cv2 INTER_AREA when shrinking, else INTER_LINEAR",
        network=f"CIFAR-form ResNet-{config.depth}, width {config.width}, weights drawn from seed {config.seed}",
        network_sha256=f"none: trained here, {config.steps} steps of {config.batch} crops",
        versions=versions("torch", "opencv-python-headless", "numpy"),
    )
    return measured(models, train, test, inputs.categories, config, card)


def measured(
    models: Mapping[str, Sequence[nn.Module]],
    train: CropSet,
    test: CropSet,
    categories: Sequence[Category],
    config: Config,
    card: Mapping[str, Any],
) -> Metric:
    """Return CAS: top-1 accuracy on real crops `test` of `models["synthetic"]`, classifiers trained on crops `train`.

    `models["real"]`, if there, were trained on real crops and give the ceiling. `card` is what only the caller knows.
    """
    names = [categories[c].name for c in config.selected(categories)]
    each = {
        name: [accuracy(m, test.crops, test.labels) for m in trained]
        for name, trained in models.items()
    }
    found = {name: together(several) for name, several in each.items()}
    synthetic = found["synthetic"]
    tested = each["synthetic"][0].confusion.sum(axis=1)
    columns = {
        "accuracy": synthetic.per_class,
        "test_crops": tested.tolist(),
        "train_crops": train.found.tolist(),
    }
    if "real" in found:
        columns["real_accuracy"] = found["real"].per_class
    controls = {"floor": {**synthetic.floor, "top1": synthetic.floor["chance"]}}
    told = {
        name: {"top1": a.top1, "balanced": a.balanced, **_spread(each[name])}
        for name, a in found.items()
    }
    controls |= {name: numbers for name, numbers in told.items() if name != "synthetic"}
    return Metric(
        name="cas",
        value=synthetic.top1,
        values={**told["synthetic"], **synthetic.floor},
        per_class={
            name: {key: column[k] for key, column in columns.items()}
            for k, name in enumerate(names)
        },
        card={**card, **_protocol(train, test, names, config), "confusion": synthetic.confusion},
        controls=controls,
    )


def _spread(found: Sequence[Accuracy]) -> dict[str, float | None]:
    """Standard deviations over trainings, where there are several."""
    if len(found) < 2 or found[0].top1 is None:
        return {}
    pairs = {"top1": [one.top1 for one in found], "balanced": [one.balanced for one in found]}
    return {
        f"{key}_std": float(np.std(np.array(values, float), ddof=1))
        for key, values in pairs.items()
    }


def deviations(config: Config) -> list[str]:
    """Return in words where the settings differ from LostGAN-V2's CAS; empty for the paper's network and crops."""
    pairs = (
        ("ResNet-{} instead of ResNet-{}", config.depth, PAPER_DEPTH),
        ("first stage {} channels wide instead of {}", config.width, PAPER_WIDTH),
        ("crops of {} pixels instead of {}", config.size, PAPER_SIZE),
        ("{} samples per layout instead of {}", config.samples_per_layout, PAPER_SAMPLES),
        ("{} classes instead of {}", config.classes, "all"),
    )
    return [words.format(ours, theirs) for words, ours, theirs in pairs if ours != theirs]


def _protocol(
    train: CropSet, test: CropSet, names: Sequence[str], config: Config
) -> dict[str, Any]:
    differs = deviations(config)
    comparable = (
        f"not comparable with published CAS: {'; '.join(differs)}"
        if differs
        else "the paper's network and crops"
    )
    few = [n for n, count in zip(names, test.found, strict=True) if 0 < count < FEW]
    return {
        "warnings": [f"fewer than {FEW} real crops of {', '.join(few)} to test on"] if few else [],
        "comparability": f"{comparable}; the training schedule is ours (the paper gives none)",
        "training": f"SGD, {config.steps} steps of {config.batch}, classes equally likely, peak rate {config.lr}",
        "trainings": config.repeats,
        "classes": len(names),
        "classes_without_training_crops": [
            n for n, count in zip(names, train.found, strict=True) if not count
        ],
        "classes_without_test_crops": [
            n for n, count in zip(names, test.found, strict=True) if not count
        ],
        "train_crops": {
            "found": int(train.found.sum()),
            "used": len(train.labels),
            "skipped": train.skipped,
        },
        "test_crops": {
            "found": int(test.found.sum()),
            "used": len(test.labels),
            "skipped": test.skipped,
        },
        "samples_per_layout": config.samples_per_layout,
    }
