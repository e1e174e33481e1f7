"""One adversarial training step, for every system: the caller owns the data, the loop, the checkpoints and the resume.

Everything that changes from step to step is in `modules` and `optimizers`; all randomness derives from (seed, step), so a
training restored from these at step k continues bit for bit.

A batch that is too large for the memory is learned from in parts (`accumulate`): one update of each network, by the
gradient of the whole batch. Terms that are means over images count alike in every part, terms that are means over objects
by the part's share of the objects. All parts of a phase start from the same buffers, so their spectral norms are those of
the undivided batch; only batch norm differs: it normalises each part by the part's own statistics, and its running
statistics move once a step, by their mean over the parts. To hold the graph of one part at a time, G makes its fakes
twice, without a graph for D's phase and once more, the same ones, for its own: a third pass of G is what memory costs.

A trainee may say that G learns first (`generator_first`, as in SPADE): then D learns on fakes that the updated G makes anew,
with latents of their own, and every network sees the batch twice a step, parts or no parts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic

import torch
import torch.distributed as dist
from torch import Tensor, nn

from synthaug.generators.base import AnyBatch, Trainee


@dataclass(frozen=True)
class Config:
    """Optimiser settings; the defaults are LostGAN's (paper section 2.2.7)."""

    lr_g: float = 1e-4
    lr_d: float = 1e-4
    beta1: float = 0.0
    beta2: float = 0.999
    accumulate: int = 1  # equal parts of each worker's batch, one after the other; more need less memory and more time
    ema: float = 0.0  # decay of the averaged generator; 0 switches it off
    decay_from: float = 1.0  # share of the steps after which both learning rates fall linearly to zero; 1 = constant
    precision: str = "float32"  # float32 | bfloat16 (autocast of the networks) | auto: bfloat16 where hardware has it

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate: {self.accumulate} is less than 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: {self.ema} is not in [0, 1)")
        if not 0 < self.decay_from <= 1:
            raise ValueError(f"decay_from: {self.decay_from} is not in (0, 1]")
        if self.precision not in ("float32", "bfloat16", "auto"):
            raise ValueError(f"precision: '{self.precision}' is not one of float32, bfloat16, auto")
        if min(self.lr_g, self.lr_d) <= 0:
            raise ValueError("lr_g and lr_d must be positive")


@dataclass(frozen=True)
class _Part(Generic[AnyBatch]):
    """Some images of a step's batch: what their latents derive from, and how much of the batch's means they make up."""

    batch: AnyBatch
    seed: int
    images: float = 1.0  # of the whole batch
    objects: float | Tensor = 1.0  # of the whole batch

    def latents(self) -> torch.Generator:
        """Return the stream that the latents of this part are drawn from, at its start."""
        return torch.Generator().manual_seed(self.seed)

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this part's addends of the terms of the whole batch (generators.base.Trainee names them)."""
        shares = {
            name: self.objects if name.endswith("_object") else self.images for name in losses
        }
        return {
            name: loss if name.endswith("_sum") else loss * shares[name]
            for name, loss in losses.items()
        }


class AdversarialTraining(Generic[AnyBatch]):
    """A trainee with its optimisers; `step` does one D step and one G step."""

    def __init__(self, trainee: Trainee[AnyBatch], config: Config, steps: int, seed: int) -> None:
        self.trainee, self.config, self.steps, self.seed = trainee, config, steps, seed
        g, d = trainee.networks["G"], trainee.networks["D"]
        self.bf16 = config.precision == "bfloat16" or (
            config.precision == "auto" and has_bf16(next(g.parameters()).device)
        )
        self.modules: dict[str, nn.Module] = dict(trainee.networks)
        # what each optimiser moves: D, and G with whatever learns with it
        self.learners = {
            "G": nn.ModuleList(
                [
                    g,
                    *(
                        network
                        for name, network in trainee.networks.items()
                        if name not in ("G", "D")
                    ),
                ]
            ),
            "D": nn.ModuleList([d]),
        }
        if config.ema:
            self.modules["G_ema"] = copy.deepcopy(g).eval().requires_grad_(False)
        betas, rates = (config.beta1, config.beta2), {"G": config.lr_g, "D": config.lr_d}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(learner.parameters(), lr=rates[name], betas=betas, fused=True)
            for name, learner in self.learners.items()
        }

    def step(self, index: int, batch: AnyBatch) -> dict[str, Tensor]:
        """Do step `index`; return the terms of both losses."""
        parts = self._cut(index, batch)
        device = batch.images.device
        for learner in self.learners.values():
            learner.train()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            if getattr(self.trainee, "generator_first", False):
                losses = self._generator_first(index, parts)
            else:
                losses = self._discriminator_first(index, parts)
        if self.config.ema:
            self._average(self.modules["G"], index)
        return losses

    def _discriminator_first(self, index: int, parts: list[_Part[AnyBatch]]) -> dict[str, Tensor]:
        """D learns on real and fake, then G on the same fake against the updated D."""
        g, d = self.learners["G"], self.learners["D"]
        alone = len(parts) == 1
        losses: dict[str, Tensor] = {}
        before = [] if alone else _buffers(g)

        self.optimizers["D"].zero_grad(set_to_none=True)
        for part in _from_one_start(parts, g, d):
            with torch.set_grad_enabled(alone):
                fake = self._forward(part, part.latents())
            self._learn_discriminator(part, fake.detach(), losses)
        self._update("D", index)

        # D's weights are only read in G's phase: no gradients for them, which also saves their half of the backward
        d.requires_grad_(False)
        self.optimizers["G"].zero_grad(set_to_none=True)
        if (
            not alone
        ):  # each part goes through G as in D's phase, to the same fakes and the same buffers
            _restore(g, before)
        for part in _from_one_start(parts, g, d):
            fake = fake if alone else self._forward(part, part.latents())
            self._learn_generator(part, fake, losses)
        self._update("G", index)
        d.requires_grad_(True)
        return losses

    def _generator_first(self, index: int, parts: list[_Part[AnyBatch]]) -> dict[str, Tensor]:
        """G learns against D as it is, then D on real images and on fresh fakes of the updated G."""
        g, d = self.learners["G"], self.learners["D"]
        losses: dict[str, Tensor] = {}
        streams = [
            part.latents() for part in parts
        ]  # D's fakes go on where the latents of G's phase ended

        d.requires_grad_(False)
        self.optimizers["G"].zero_grad(set_to_none=True)
        for part, rng in zip(_from_one_start(parts, g, d), streams, strict=True):
            self._learn_generator(part, self._forward(part, rng), losses)
        self._update("G", index)
        d.requires_grad_(True)

        self.optimizers["D"].zero_grad(set_to_none=True)
        for part, rng in zip(_from_one_start(parts, g, d), streams, strict=True):
            with torch.no_grad():
                fake = self._forward(part, rng)
            self._learn_discriminator(part, fake, losses)
        self._update("D", index)
        return losses

    def _learn_discriminator(
        self, part: _Part[AnyBatch], fake: Tensor, told: dict[str, Tensor]
    ) -> None:
        with self._precision(fake.device):
            terms = self.trainee.discriminator_losses(part.batch, fake)
        _learn(part.weigh(terms), told)

    def _learn_generator(
        self, part: _Part[AnyBatch], fake: Tensor, told: dict[str, Tensor]
    ) -> None:
        with self._precision(fake.device):
            terms = self.trainee.generator_losses(part.batch, fake)
        _learn(part.weigh(terms), told)

    def generator(self) -> nn.Module:
        """The network to ship: the averaged one where there is one."""
        return self.modules.get("G_ema", self.modules["G"])

    def _cut(self, index: int, batch: AnyBatch) -> list[_Part[AnyBatch]]:
        """Cut the batch; a part draws its latents as if it were a worker of its own."""
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        count = self.config.accumulate
        first = (self.seed * 1_000_003 + index) * 4099 + rank * count
        if count == 1:
            return [_Part(batch, first)]
        total = batch.num_objects().clamp_min(1)
        parts = batch.parts(count)
        objects = [part.num_objects() / total for part in parts]
        return [_Part(part, first + i, 1 / count, objects[i]) for i, part in enumerate(parts)]

    def _forward(self, part: _Part[AnyBatch], rng: torch.Generator) -> Tensor:
        """Fake images of a part, the same whenever they are asked for at a step with the same stream; inside `fork_rng`."""
        # dropout draws from the global stream: seeded, and unlike the stream of the latents
        torch.manual_seed(~part.seed)
        with self._precision(part.batch.images.device):
            return self.trainee.forward(part.batch, rng)

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bf16)

    def _update(self, name: str, index: int) -> None:
        optimizer = self.optimizers[name]
        _average_gradients(self.learners[name])
        start = self.config.decay_from * self.steps
        fall = min(1.0, (self.steps - index) / max(1.0, self.steps - start))
        lr = self.config.lr_g if name == "G" else self.config.lr_d
        for group in optimizer.param_groups:
            group["lr"] = lr * fall
        optimizer.step()

    @torch.no_grad()
    def _average(self, live: nn.Module, index: int) -> None:
        """Move the averaged generator towards the live one; a short memory at first, so that it forgets the start."""
        decay = min(self.config.ema, (1 + index) / (10 + index))
        averaged, now = self.modules["G_ema"].state_dict(), live.state_dict()
        mixed = [
            n
            for n, v in now.items()
            if v.is_floating_point() and not n.endswith(("weight_u", "weight_v"))
        ]
        torch._foreach_lerp_([averaged[n] for n in mixed], [now[n] for n in mixed], 1 - decay)
        for name in now.keys() - set(
            mixed
        ):  # counters and power iterations are states, not averages
            averaged[name].copy_(now[name])


def _learn(terms: Mapping[str, Tensor], told: dict[str, Tensor]) -> None:
    """Add the gradients of the sum of the terms to the parameters', and the terms to what is told."""
    torch.autograd.backward(torch.stack([term.float() for term in terms.values()]).sum())
    for name, term in terms.items():
        told[name] = told[name] + term.detach() if name in told else term.detach()


def _from_one_start(
    parts: list[_Part[AnyBatch]], *networks: nn.Module
) -> Iterator[_Part[AnyBatch]]:
    """Yield the parts; each finds the networks' buffers as the first did, and their mean over the parts is left behind."""
    if len(parts) == 1:
        yield parts[0]
        return
    both = nn.ModuleList(networks)
    start, means = _buffers(both), _buffers(both)
    for number, part in enumerate(parts, start=1):
        _restore(both, start)
        yield part
        for mean, buffer in zip(means, both.buffers(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(buffer, 1 / number)
            else:  # a counter, the same after every part
                mean.copy_(buffer)
    _restore(both, means)


def _buffers(network: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in network.buffers()]


def _restore(network: nn.Module, values: Iterable[Tensor]) -> None:
    for buffer, value in zip(network.buffers(), values, strict=True):
        buffer.copy_(value)


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is a format of the hardware; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def _average_gradients(module: nn.Module) -> None:
    """Average gradients over all training workers; nothing to do when there is one."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for grad, part in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
        grad.copy_(part.view_as(grad))
