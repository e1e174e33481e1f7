"""The three-player training: detector, generator and discriminator in one loop.

The future work of LostGAN-V2's section 3.3 ("Remarks"); docs/joint.md says who learns what of whom.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.lostgan.recognized import RecognizedObjective
from synthaug.generators.nn.pixels import to_pixels
from synthaug.generators.training.adversarial import AdversarialTraining, seeded_objective
from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import Draw, draw_for
from synthaug.pipeline.batches.joint import JointBatch, Unlabelled, unlabelled_images
from synthaug.pipeline.config.schema import Job, Joint
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.joint.labels import LabelRules, joined, pseudo_labelled, samples_of

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from synthaug.detectors.base import Detector, Sample
    from synthaug.pipeline.core.scene import Dataset


class JointTraining:
    """Steps of all three players (pipeline.execution.training.Training).

    A step: the detector labels the unlabelled images, D and G learn from them and from the labelled
    ones, and the detector learns from labelled images and from G's. The detector that labels and
    recognizes has its averaged weights, those that `finish` leaves.
    """

    def __init__(self, job: Job, detector: Detector, rules: LabelRules, seed: int) -> None:
        self.config: Joint = job.joint
        self.steps = job.generator.training.steps
        self.seed = seed
        self.rules = rules
        self.detector = detector
        self._labeller = detector
        if not self.config.relabel:
            # as it was before, also after a restart: its weights are no part of the state
            self._labeller = copy.deepcopy(detector)
        device = next(detector.model.parameters()).device

        def objective() -> RecognizedObjective:
            weight = self.config.recognition
            labels = detector.num_classes + 1
            return RecognizedObjective(job.generator.config, labels, self.recognition, weight)

        self._objective = seeded_objective(objective, seed, device)
        self._gan = AdversarialTraining(self._objective, job.train_generator, self.steps, seed)
        self._detection = detector.training(self.steps, seed)
        self.modules: dict[str, nn.Module] = dict(self._gan.modules)
        self.optimizers: dict[str, Optimizer] = dict(self._gan.optimizers)
        for name, module in self._detection.modules.items():
            self.modules[f"detector_{name}"] = module
        for name, optimizer in self._detection.optimizers.items():
            self.optimizers[f"detector_{name}"] = optimizer

    def generator(self) -> nn.Module:
        """Return the network to sample from: the averaged one where there is one."""
        return self._gan.generator()

    def finish(self) -> None:
        """Give the detector its averaged weights, after the last step; repeatable."""
        self._detection.finish()

    def step(self, index: int, batch: JointBatch) -> Mapping[str, Tensor]:
        """Do step `index`; return the losses of all players and counts of the labels."""
        images = batch.labelled
        counts = {"pseudo_images": 0.0, "pseudo_objects": 0.0}
        with self._detection.averaged():
            labelled = self._label(batch.unlabelled)
            if labelled is not None:
                share = len(labelled.images) / len(batch.unlabelled)
                objects = labelled.num_objects() / len(batch.unlabelled)
                counts = {"pseudo_images": share, "pseudo_objects": float(objects)}
                images = joined(images, labelled)
            losses = self._gan.step(index, images)
        synthetic = self._synthesize(index, images)
        of_detector = self._detection.step(index, [*batch.samples, *synthetic])
        for name, value in of_detector.items():
            losses[f"detector_{name}"] = value
        for name, count in counts.items():
            losses[name] = torch.tensor(count)
        return losses

    def recognition(self, images: Tensor, layouts: Layouts) -> Tensor:
        """Return the detector's losses on images [B, 3, R, R] in [-1, 1], with graph."""
        samples = samples_of(to_pixels(images.detach().float()), layouts)
        levels = (images.float() + 1) * 127.5
        device = images.device.type
        with torch.autocast(device, enabled=False), frozen(self.detector.model):
            losses = self.detector.image_losses(list(levels), samples)
        return torch.stack(list(losses.values())).sum()

    def _label(self, unlabelled: Sequence[Unlabelled]) -> TrainingBatch | None:
        """Return the unlabelled images with the detector's labels; None without any."""
        if not unlabelled:
            return None
        detections = self._labeller.predict([image.image for image in unlabelled])
        return pseudo_labelled(unlabelled, detections, self.rules)

    def _synthesize(self, index: int, batch: TrainingBatch) -> list[Sample]:
        """Return images of G for some layouts of the batch, for the detector."""
        first = round(self.config.synthetic_from * self.steps)
        count = min(self.config.synthetic, len(batch.images))
        if index < first or not count:
            return []
        chosen = torch.arange(count) * len(batch.images) // count  # evenly spaced in the batch
        layouts = batch.layouts
        some = Layouts(layouts.labels[chosen], layouts.boxes[chosen], layouts.scores[chosen])
        rng = torch.Generator().manual_seed(seed_for(self.seed, "synthetic", index))
        network = self.generator().eval()
        with torch.no_grad():
            conditions = TrainingBatch(batch.images[chosen], some)
            images = self._objective.paint(network, conditions, rng)
        return samples_of(to_pixels(images.float()), some)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let no graph lead to the weights of a network meanwhile."""
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)


def joint_batches(
    job: Job,
    labelled: Dataset,
    unlabelled: Dataset | None,
    of_generator: Callable[[int], TrainingBatch],
    seed: int,
) -> Callable[[int], JointBatch]:
    """Return step -> the images of all players.

    Those of the GAN as without a detector, those of the detector as `train_detector` draws them,
    and unlabelled ones in uniform epochs.
    """
    plan = job.detector.training
    of_detector = seed_for(seed, "detector")
    draw = draw_for([labelled], job.joint.batch, of_detector, plan.sampling, plan.repeat_threshold)
    samples = detector_batches(labelled, draw, masks=job.detector.config.masks)
    read = None
    if unlabelled is not None:
        of_unlabelled = seed_for(seed, "unlabelled")
        uniform = Draw(len(unlabelled), job.joint.unlabelled_batch, of_unlabelled)
        flip = job.generator.training.flip
        read = unlabelled_images(unlabelled, uniform, job.generator.config.size, flip)

    def batch(step: int) -> JointBatch:
        images = [] if read is None else read(step)
        return JointBatch(of_generator(step), images, samples(step))

    return batch
