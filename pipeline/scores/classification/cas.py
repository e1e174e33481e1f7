"""CAS, classification accuracy score: do synthetic objects teach real ones?

Ravuri & Vinyals 2019; LostGAN-V2, section 3. A classifier learns from object crops of synthetic
images alone and is tested on object crops of real validation images. The same classifier trained on
real crops is the ceiling; guessing a class is the floor. The paper's classifier is ResNet-101 in
its CIFAR form on 32x32 crops, five samples per layout; the default here is a small one for a CPU,
and the card says so.

Legend: N crops, S crop side, B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.core.json_values import Json, json_digest
from synthaug.pipeline.core.scene import Category, Dataset
from synthaug.pipeline.scores.base import (
    Extractor,
    MetricInputs,
    TrainingSpec,
    layout_objects,
    missing_input,
)
from synthaug.pipeline.scores.card import (
    Metric,
    comparability,
    deviations,
    full_card,
    versions,
)
from synthaug.pipeline.scores.classification.cifar_resnet import PAPER_DEPTH, network
from synthaug.pipeline.scores.classification.classifier import (
    Accuracy,
    ClassifierTraining,
    Config,
    accuracy,
    mean_accuracy,
)
from synthaug.pipeline.scores.classification.crops import (
    PAPER_SIZE,
    CropExtractor,
    CropSet,
    CropTable,
    crop_row,
    in_image,
)

if TYPE_CHECKING:
    from torch import nn

# LostGAN-V2, section 3: ResNet-101 of CIFAR's form on all crops of 32 pixels, five images of each
# layout
PUBLISHED = Config(
    depth=PAPER_DEPTH,
    width=64,
    size=PAPER_SIZE,
    crops_per_class_max=0,
    sampling="uniform",
    samples_per_layout=5,
    classes="all",
)
# The paper gives no schedule; a seed, threads and several trainings change no protocol.
UNSTATED = (
    "steps",
    "batch",
    "lr",
    "momentum",
    "weight_decay",
    "flip",
    "shift",
    "seed",
    "repeats",
    "threads",
)
FEW = 30  # test crops of a class; with fewer its accuracy is chance


@dataclass(frozen=True)
class CropClassifier:
    """The classifier that learns from the crops of one table."""

    table: str  # train | synthetic
    config: Config  # of one training

    @property
    def name(self) -> str:
        """The name of its folder."""
        digest = json_digest(asdict(self.config))
        return f"cas-{self.table}-{digest[:10]}"

    def training_spec(self, inputs: MetricInputs) -> TrainingSpec:
        """Return its training on all crops of the table, up to the cap of each class."""
        crops = collect(inputs, self.config, self.table)
        num_classes = len(self.config.selected(inputs.categories))
        training = ClassifierTraining(self.config, crops, num_classes, inputs.resources.device)
        return TrainingSpec(training, training.batch, self.config.steps, self.config.threads)


def collect(inputs: MetricInputs, config: Config, table: str, cap: int | None = None) -> CropSet:
    """Return the crops of one table; `cap` as in CropTable."""
    crops = CropTable(config, config.selected(inputs.categories), cap)
    (extractor,) = extractors(config)
    for record in inputs.extracted(extractor, table):
        crops.add(crop_row(record))
    return crops.result()


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the extractor of crops from all three tables."""
    tables = ("train", "real", "synthetic")
    return (CropExtractor(tables, config.samples_per_layout, size=config.size),)


def available(inputs: MetricInputs, config: Config) -> str | None:
    """Return None where the images have objects that can be cut out.

    Without labelled images there is no ceiling.
    """
    missing = missing_input(inputs)
    if missing:
        return missing
    selected = config.selected(inputs.categories)
    for name in ("real", "synthetic", "train"):
        if name in inputs.tables and not _has_crop(inputs.tables[name], selected):
            return (
                f"the {name} images have no object of a pixel or more of the classes to tell apart "
                f"(cas.classes: {config.classes})"
            )
    return None


def _has_crop(table: Dataset, selected: Sequence[int]) -> bool:
    for scene in table:
        objects = layout_objects(scene)
        _, has_pixel = in_image(objects.boxes, scene.size)
        if (np.isin(objects.category, selected) & has_pixel).any():
            return True
    return False


def check(config: Config, categories: Sequence[Category]) -> None:
    """Build the classifier."""
    num_classes = max(1, len(config.selected(categories)))
    network(config.depth, config.width, num_classes, config.seed)


def auxiliary_models(inputs: MetricInputs, config: Config) -> tuple[CropClassifier, ...]:
    """Return classifiers of synthetic and, for the ceiling, of real crops."""
    models = []
    for table in ("synthetic", "train"):
        if table in inputs.tables:
            for number in range(config.repeats):
                once = replace(config, seed=config.seed + number, repeats=1)
                models.append(CropClassifier(table, once))
    return tuple(models)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return CAS from the crops and the trained classifiers."""
    (extractor,) = extractors(config)
    classifiers: dict[str, list[nn.Module]] = {}
    for model in auxiliary_models(inputs, config):
        name = "real" if model.table == "train" else model.table
        classifiers.setdefault(name, []).append(inputs.trained(model)["classifier"])
    train = collect(inputs, config, "synthetic")
    # all test crops, because a cap per class would change the class shares and with them top-1
    test = collect(inputs, config, "real", cap=0)
    card = full_card(
        inputs,
        extractor,
        protocol="classifier trained on synthetic object crops only, tested on real validation "
        "crops",
        headline_key="top1",
        resize=f"box to {config.size}x{config.size}: cv2 INTER_AREA when shrinking, else "
        "INTER_LINEAR",
        network=f"CIFAR-form ResNet-{config.depth}, width {config.width}, weights drawn from seed "
        f"{config.seed}",
        network_sha256=f"none: trained here, {config.steps} steps of {config.batch} crops",
        versions=versions("torch", "opencv-python-headless", "numpy"),
    )
    return cas(classifiers, train, test, inputs.categories, config, card)


def cas(
    classifiers: Mapping[str, Sequence[nn.Module]],
    train: CropSet,
    test: CropSet,
    categories: Sequence[Category],
    config: Config,
    card: Mapping[str, Any],
) -> Metric:
    """Return CAS: top-1 accuracy on real crops `test`.

    That of `classifiers["synthetic"]`, trained on crops `train`. `classifiers["real"]`, if there,
    were trained on real crops and give the ceiling. `card` has what only the caller knows.
    """
    accuracies: dict[str, list[Accuracy]] = {}
    for name, models in classifiers.items():
        accuracies[name] = [accuracy(model, test.crops, test.labels) for model in models]
    synthetic = mean_accuracy(accuracies["synthetic"])
    values = {**_numbers(accuracies["synthetic"]), **synthetic.floor}
    controls = {"floor": {**synthetic.floor, "top1": synthetic.floor["chance"]}}
    columns = {
        "accuracy": synthetic.per_class,
        "test_crops": accuracies["synthetic"][0].confusion.sum(axis=1).tolist(),
        "train_crops": train.num_seen.tolist(),
    }
    if "real" in accuracies:
        controls["real"] = _numbers(accuracies["real"])
        columns["real_accuracy"] = mean_accuracy(accuracies["real"]).per_class
    names = [categories[c].name for c in config.selected(categories)]
    per_class = {}
    for k, name in enumerate(names):
        per_class[name] = {key: column[k] for key, column in columns.items()}
    protocol = _protocol(train, test, names, config)
    return Metric(
        name="cas",
        value=synthetic.top1,
        values=values,
        per_class=per_class,
        card={**card, **protocol, "confusion": synthetic.confusion},
        controls=controls,
    )


def _numbers(accuracies: Sequence[Accuracy]) -> dict[str, float | None]:
    """Return the mean accuracies and, of several trainings, their standard deviations."""
    mean = mean_accuracy(accuracies)
    numbers = {"top1": mean.top1, "balanced": mean.balanced}
    if len(accuracies) < 2 or mean.top1 is None:
        return numbers
    top1 = np.array([one.top1 for one in accuracies], float)
    balanced = np.array([one.balanced for one in accuracies], float)
    numbers["top1_std"] = float(np.std(top1, ddof=1))
    numbers["balanced_std"] = float(np.std(balanced, ddof=1))
    return numbers


def _protocol(train: CropSet, test: CropSet, names: Sequence[str], config: Config) -> Json:
    """Return the entries of the card that come from the crops and the settings."""
    differences = deviations("cas", config, PUBLISHED, UNSTATED)
    comparison = comparability(differences, "LostGAN-V2's CAS")
    warnings = []
    few = [name for name, count in zip(names, test.num_seen, strict=True) if 0 < count < FEW]
    if few:
        warnings.append(f"fewer than {FEW} real crops of {', '.join(few)} to test on")
    return {
        "warnings": warnings,
        "comparability": f"{comparison}; the training schedule is ours (the paper gives none)",
        "training": f"SGD, {config.steps} steps of {config.batch}, drawn {config.sampling}, peak "
        f"rate {config.lr}",
        "trainings": config.repeats,
        "classes": len(names),
        "classes_without_training_crops": _without_crops(names, train),
        "classes_without_test_crops": _without_crops(names, test),
        "train_crops": _counts(train),
        "test_crops": _counts(test),
        "samples_per_layout": config.samples_per_layout,
    }


def _without_crops(names: Sequence[str], crops: CropSet) -> list[str]:
    return [name for name, count in zip(names, crops.num_seen, strict=True) if not count]


def _counts(crops: CropSet) -> dict[str, int]:
    return {
        "found": int(crops.num_seen.sum()),
        "used": len(crops.labels),
        "skipped": crops.skipped,
    }
