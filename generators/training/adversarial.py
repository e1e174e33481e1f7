"""The adversarial training that all systems with a discriminator share.

The caller owns data, loop, checkpoints and resume.

Everything that changes from step to step is in `modules` and `optimizers`; all randomness derives
from (seed, step), so a training restored from these at step k continues bit for bit.

A batch that is too large for the memory is learned from in parts (`accumulate`): one update of each
network, by the gradient of the whole batch. Terms that are means over images count alike in every
part, terms that are means over objects by the part's share of the objects. All parts of a phase
start from the same buffers, so their spectral norms are those of the undivided batch; only batch
norm differs: it normalises each part by the part's own statistics, and its running statistics move
once a step, by their mean over the parts. To hold the graph of one part at a time, G makes its
fakes twice, without a graph for D's phase and once more, the same ones, for its own: a third pass
of G is what memory costs.

Where G learns first (`generator_first`, as in SPADE), D learns on fakes that the updated G makes
anew, with latents of their own, and every network sees the batch twice a step, parts or no parts;
or on those that G learned from, made before its update (`same_fakes`, as in sg2im). Where D learns
first, G may make other fakes for its own phase, too (`same_fakes=False`, as in Layout2Im).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from synthaug.generators.base import AnyBatch, AnyBatch_contra
from synthaug.generators.nn.parallel import rank_and_world
from synthaug.generators.nn.precision import PRECISIONS, uses_bfloat16
from synthaug.generators.training.losses import Loss
from synthaug.generators.training.updates import average_gradients, move_average, rate_factor
from synthaug.ranges import at_least, from_0_to_below_1


@dataclass(frozen=True)
class Config:
    """Optimiser settings; the defaults are LostGAN's (paper section 2.2.7)."""

    lr_g: float = 1e-4  # Adam
    lr_d: float = 1e-4
    beta1: float = 0.0
    beta2: float = 0.999
    # parts of the batch, one after the other: less memory, more time; norms see a part each
    accumulate: int = 1
    ema: float = 0.0  # decay of the averaged generator that is shipped; 0 = the last one is shipped
    # share of the steps after which the rates fall to 0 linearly; 1 = never
    decay_from: float = 1.0
    precision: str = "float32"  # float32 | bfloat16 | auto (bfloat16 where the hardware has it)

    def __post_init__(self) -> None:
        at_least(1, self, "accumulate")
        from_0_to_below_1(self, "ema")
        if not 0 < self.decay_from <= 1:
            raise ValueError(f"decay_from: {self.decay_from} is not in (0, 1]")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: '{self.precision}' is not one of {', '.join(PRECISIONS)}")
        if min(self.lr_g, self.lr_d) <= 0:
            raise ValueError("lr_g and lr_d must be positive")


@dataclass(frozen=True)
class Fakes:
    """Images of G, with graph."""

    images: Tensor  # [B, 3, H, W], of the kind that the objective's D sees
    losses: Mapping[str, Loss] = field(default_factory=dict)  # terms of G's loss known without D


class Objective(Protocol[AnyBatch_contra]):
    """The networks of a system and their losses."""

    networks: Mapping[str, nn.Module]  # "G" and "D"; any other one learns with G

    def generate(self, batch: AnyBatch_contra, rng: torch.Generator) -> Fakes:
        """Return fakes for the conditions of a batch, latents drawn from `rng`."""
        ...

    def discriminator_losses(self, batch: AnyBatch_contra, fake: Tensor) -> dict[str, Loss]:
        """Return the terms of D's loss."""
        ...

    def generator_losses(self, batch: AnyBatch_contra, fake: Tensor) -> dict[str, Loss]:
        """Return the terms of G's loss, without those that came with the fakes."""
        ...


AnyObjective = TypeVar("AnyObjective", bound=Objective[Any])


def adversarial_training(
    make_objective: Callable[[], Objective[AnyBatch]],
    config: Config,
    steps: int,
    seed: int,
    device: torch.device | str,
    generator_first: bool = False,
) -> AdversarialTraining[AnyBatch]:
    """Return a training on a device whose networks are initialised by the seed."""
    objective = seeded_objective(make_objective, seed, device)
    return AdversarialTraining(objective, config, steps, seed, generator_first)


def seeded_objective(
    make_objective: Callable[[], AnyObjective], seed: int, device: torch.device | str
) -> AnyObjective:
    """Return an objective on a device whose networks are initialised by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective = make_objective()
    for network in objective.networks.values():
        # channels last is the faster layout for convolutions, on CPUs and on GPUs alike
        network.to(device).to(memory_format=torch.channels_last)
    return objective


@dataclass(frozen=True)
class _Part(Generic[AnyBatch]):
    """Some images of a step's batch.

    With the seed of their latents, and their share in the means over the batch.
    """

    batch: AnyBatch
    seed: int
    images: float = 1.0  # of the images of the batch
    objects: float | Tensor = 1.0  # of the objects of the batch

    def latents(self) -> torch.Generator:
        """Return the stream that the latents of this part are drawn from, at its start."""
        return torch.Generator().manual_seed(self.seed)

    def weigh(self, loss: Loss) -> Tensor:
        """Return this part's addend of a term of the whole batch."""
        if loss.mean_over == "sum":
            return loss.value
        if loss.mean_over == "objects":
            return loss.value * self.objects
        return loss.value * self.images


class AdversarialTraining(Generic[AnyBatch]):
    """An objective with its optimisers (generators.base.Training).

    A step updates D once and G once.
    """

    def __init__(
        self,
        objective: Objective[AnyBatch],
        config: Config,
        steps: int,
        seed: int,
        generator_first: bool = False,
        same_fakes: bool | None = None,
    ) -> None:
        self.objective = objective
        self.config = config
        self.steps = steps
        self.seed = seed
        self.generator_first = generator_first
        # whether both learn from the same fakes: by default where D learns first
        self.same_fakes = not generator_first if same_fakes is None else same_fakes
        g = objective.networks["G"]
        d = objective.networks["D"]
        device = next(g.parameters()).device
        self.bf16 = uses_bfloat16(config.precision, device)
        self.modules: dict[str, nn.Module] = dict(objective.networks)
        if config.ema:
            averaged = copy.deepcopy(g).eval()
            self.modules["G_ema"] = averaged.requires_grad_(False)
        # the networks that each optimiser updates: D, and G with whatever learns with it
        others = []
        for name, network in objective.networks.items():
            if name not in ("G", "D"):
                others.append(network)
        generators = nn.ModuleList([g, *others])
        self.learners = {"G": generators, "D": nn.ModuleList([d])}
        self.rates = {"G": config.lr_g, "D": config.lr_d}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        for name, learner in self.learners.items():
            self.optimizers[name] = torch.optim.Adam(
                learner.parameters(),
                lr=self.rates[name],
                betas=(config.beta1, config.beta2),
                fused=True,
            )

    def generator(self) -> nn.Module:
        """Return the network to sample from: the averaged one where there is one."""
        return self.modules.get("G_ema", self.modules["G"])

    def step(self, index: int, batch: AnyBatch) -> dict[str, Tensor]:
        """Do step `index`; return the terms of both losses, detached."""
        parts = self._cut(index, batch)
        device = batch.images.device
        gpus = [device] if device.type == "cuda" else []
        for learner in self.learners.values():
            learner.train()
        losses: dict[str, Tensor] = {}
        with torch.random.fork_rng(gpus):
            if self.generator_first:
                self._generator_first(index, parts, losses)
            else:
                self._discriminator_first(index, parts, losses)
        if self.config.ema:
            move_average(self.modules["G_ema"], self.modules["G"], self.config.ema, index)
        return losses

    def _cut(self, index: int, batch: AnyBatch) -> list[_Part[AnyBatch]]:
        """Cut the batch; a part draws its latents as if it were a worker of its own."""
        rank, _ = rank_and_world()
        count = self.config.accumulate
        first_seed = (self.seed * 1_000_003 + index) * 4099 + rank * count
        if count == 1:
            return [_Part(batch, first_seed)]
        total = batch.num_objects().clamp_min(1)
        parts = []
        for i, piece in enumerate(batch.parts(count)):
            objects = piece.num_objects() / total
            part = _Part(piece, first_seed + i, 1 / count, objects)
            parts.append(part)
        return parts

    def _discriminator_first(
        self, index: int, parts: list[_Part[AnyBatch]], losses: dict[str, Tensor]
    ) -> None:
        """Update D on real images and fakes, then G on the same fakes or new ones.

        G learns against the updated D.
        """
        g = self.learners["G"]
        d = self.learners["D"]
        # of a single part the fakes are made once, with their graph; of several they are made
        # again, from the same buffers
        single = len(parts) == 1 and self.same_fakes
        g_buffers = [] if single else _buffers(g)
        # new fakes go on where the latents of D's phase ended
        streams = [part.latents() for part in parts]

        # D's phase
        self.optimizers["D"].zero_grad(set_to_none=True)
        starts = _from_one_start(parts, g, d)
        for part, rng in zip(starts, streams, strict=True):
            with torch.set_grad_enabled(single):
                fakes = self._generate(part, rng)
            self._add_discriminator_gradients(part, fakes.images.detach(), losses)
        self._update("D", index)

        # G's phase; D's weights are only read: no gradients for them, which also saves their half
        # of the backward
        d.requires_grad_(False)
        self.optimizers["G"].zero_grad(set_to_none=True)
        if self.same_fakes:
            streams = [part.latents() for part in parts]
            if not single:
                _restore(g, g_buffers)
        starts = _from_one_start(parts, g, d)
        for part, rng in zip(starts, streams, strict=True):
            if not single:
                fakes = self._generate(part, rng)
            self._add_generator_gradients(part, fakes, losses)
        self._update("G", index)
        d.requires_grad_(True)

    def _generator_first(
        self, index: int, parts: list[_Part[AnyBatch]], losses: dict[str, Tensor]
    ) -> None:
        """Update G against D as it is, then D on real images and fakes.

        The fakes are new ones of the updated G, or those that G learned from.
        """
        g = self.learners["G"]
        d = self.learners["D"]
        # D's fakes go on where the latents of G's phase ended
        streams = [part.latents() for part in parts]

        # G's phase
        d.requires_grad_(False)
        self.optimizers["G"].zero_grad(set_to_none=True)
        seen: list[Tensor] = []
        starts = _from_one_start(parts, g, d)
        for part, rng in zip(starts, streams, strict=True):
            fakes = self._generate(part, rng)
            self._add_generator_gradients(part, fakes, losses)
            seen.append(fakes.images.detach())
        self._update("G", index)
        d.requires_grad_(True)

        # D's phase
        self.optimizers["D"].zero_grad(set_to_none=True)
        starts = _from_one_start(parts, g, d)
        for i, part in enumerate(starts):
            images = seen[i]
            if not self.same_fakes:
                with torch.no_grad():
                    images = self._generate(part, streams[i]).images
            self._add_discriminator_gradients(part, images, losses)
        self._update("D", index)

    def _generate(self, part: _Part[AnyBatch], rng: torch.Generator) -> Fakes:
        """Return fakes of a part; inside `fork_rng`.

        The same whenever they are made at a step from the same stream.
        """
        # dropout draws from the global stream: seeded, and unlike the stream of the latents
        torch.manual_seed(~part.seed)
        with self._autocast(part):
            return self.objective.generate(part.batch, rng)

    def _add_discriminator_gradients(
        self, part: _Part[AnyBatch], fake: Tensor, losses: dict[str, Tensor]
    ) -> None:
        with self._autocast(part):
            terms = self.objective.discriminator_losses(part.batch, fake)
        _add_gradients(part, terms, losses)

    def _add_generator_gradients(
        self, part: _Part[AnyBatch], fakes: Fakes, losses: dict[str, Tensor]
    ) -> None:
        with self._autocast(part):
            terms = self.objective.generator_losses(part.batch, fakes.images)
        _add_gradients(part, {**terms, **fakes.losses}, losses)

    def _autocast(self, part: _Part[AnyBatch]) -> torch.autocast:
        device = part.batch.images.device
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bf16)

    def _update(self, name: str, index: int) -> None:
        """Move the weights of a learner by its gradients, averaged over all workers."""
        average_gradients(self.learners[name])
        optimizer = self.optimizers[name]
        factor = rate_factor(index, self.steps, self.config.decay_from)
        for group in optimizer.param_groups:
            # a group may learn at a share of the rate
            group["lr"] = self.rates[name] * group.get("share", 1.0) * factor
        optimizer.step()


def _add_gradients(
    part: _Part[AnyBatch], terms: Mapping[str, Loss], losses: dict[str, Tensor]
) -> None:
    """Add the gradients of a part's terms to those of the parameters.

    The terms are added to the losses of the step.
    """
    weighed = {name: part.weigh(loss) for name, loss in terms.items()}
    values = [term.float() for term in weighed.values()]
    total = torch.stack(values).sum()
    torch.autograd.backward(total)
    for name, term in weighed.items():
        value = term.detach()
        losses[name] = losses[name] + value if name in losses else value


def _from_one_start(
    parts: list[_Part[AnyBatch]], *networks: nn.Module
) -> Iterator[_Part[AnyBatch]]:
    """Yield the parts, the networks' buffers each time as before the first.

    Leave behind their mean over the parts.
    """
    if len(parts) == 1:
        yield parts[0]
        return
    together = nn.ModuleList(networks)
    start = _buffers(together)
    means = _buffers(together)
    for number, part in enumerate(parts, start=1):
        _restore(together, start)
        yield part
        for mean, buffer in zip(means, together.buffers(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(buffer, 1 / number)
            else:  # a counter, the same after every part
                mean.copy_(buffer)
    _restore(together, means)


def _buffers(network: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in network.buffers()]


def _restore(network: nn.Module, values: Iterable[Tensor]) -> None:
    for buffer, value in zip(network.buffers(), values, strict=True):
        buffer.copy_(value)
