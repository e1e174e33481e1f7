"""The training of systems without a discriminator: one network, one optimizer.

The caller owns data, loop, checkpoints and resume. Everything that changes from step to step is in
`modules` and `optimizers`; all randomness derives from (seed, step), so a training restored from
these at step k continues bit for bit. With `accumulate` a batch is learned from in parts: one
update, by the gradient of the whole batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from synthaug.generators.base import AnyBatch, AnyBatch_contra
from synthaug.generators.nn.parallel import rank_and_world
from synthaug.generators.nn.precision import PRECISIONS, uses_bfloat16
from synthaug.generators.training.losses import Loss
from synthaug.generators.training.updates import average_gradients, move_average, rate_factor
from synthaug.ranges import above, at_least, from_0_to_below_1


@dataclass(frozen=True)
class Config:
    """Optimiser settings; the defaults are CRN's."""

    lr: float = 1e-4  # Adam
    beta1: float = 0.9
    beta2: float = 0.999
    # parts of the batch, one after the other: less memory, more time
    accumulate: int = 1
    ema: float = 0.0  # decay of the averaged generator that is shipped; 0 = the last one is shipped
    # share of the steps after which the rate falls to 0 linearly; 1 = never
    decay_from: float = 1.0
    precision: str = "float32"  # float32 | bfloat16 | auto (bfloat16 where the hardware has it)

    def __post_init__(self) -> None:
        at_least(1, self, "accumulate")
        from_0_to_below_1(self, "beta1", "beta2", "ema")
        above(0, self, "lr")
        if not 0 < self.decay_from <= 1:
            raise ValueError(f"decay_from: {self.decay_from} is not in (0, 1]")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: '{self.precision}' is not one of {', '.join(PRECISIONS)}")


class Objective(Protocol[AnyBatch_contra]):
    """A network and its loss."""

    networks: Mapping[str, nn.Module]  # "G", and whatever learns with it

    def losses(self, batch: AnyBatch_contra, rng: torch.Generator) -> dict[str, Loss]:
        """Return the terms of the loss, latents drawn from `rng`."""
        ...


class RegressionTraining(Generic[AnyBatch]):
    """An objective with its optimizer (generators.base.Training)."""

    def __init__(
        self, objective: Objective[AnyBatch], config: Config, steps: int, seed: int
    ) -> None:
        self.objective = objective
        self.config = config
        self.steps = steps
        self.seed = seed
        self.learner = nn.ModuleList(objective.networks.values())
        device = next(self.learner.parameters()).device
        self.bf16 = uses_bfloat16(config.precision, device)
        self.modules: dict[str, nn.Module] = dict(objective.networks)
        if config.ema:
            averaged = copy.deepcopy(objective.networks["G"]).eval()
            self.modules["G_ema"] = averaged.requires_grad_(False)
        optimizer = torch.optim.Adam(
            self.parameter_groups(),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
        self.optimizers: dict[str, torch.optim.Optimizer] = {"G": optimizer}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the weights that learn at a rate of their own; one group here."""
        return [{"params": list(self.learner.parameters())}]

    def rate(self, group: dict[str, Any], factor: float, index: int) -> float:
        """Return a group's rate at a step, `factor` of the full one (`rate_factor`)."""
        del group, index  # of trainings whose groups differ
        return self.config.lr * factor

    def generator(self) -> nn.Module:
        """Return the network to sample from: the averaged one where there is one."""
        return self.modules.get("G_ema", self.modules["G"])

    def step(self, index: int, batch: AnyBatch) -> dict[str, Tensor]:
        """Do step `index`; return the terms of the loss, detached."""
        device = batch.images.device
        gpus = [device] if device.type == "cuda" else []
        self.learner.train()
        optimizer = self.optimizers["G"]
        optimizer.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        with torch.random.fork_rng(gpus):
            self._add_all_gradients(index, batch, losses)
        average_gradients(self.learner)
        factor = rate_factor(index, self.steps, self.config.decay_from)
        for group in optimizer.param_groups:
            group["lr"] = self.rate(group, factor, index)
        optimizer.step()
        if self.config.ema:
            move_average(self.modules["G_ema"], self.modules["G"], self.config.ema, index)
        return losses

    def _add_all_gradients(self, index: int, batch: AnyBatch, losses: dict[str, Tensor]) -> None:
        """Add the gradients of every part of the batch.

        A part draws its latents as if it were a worker of its own.
        """
        rank, _ = rank_and_world()
        count = self.config.accumulate
        first_seed = (self.seed * 1_000_003 + index) * 4099 + rank * count
        parts = [batch] if count == 1 else batch.parts(count)
        total = batch.num_objects().clamp_min(1)
        for number, part in enumerate(parts):
            seed = first_seed + number
            torch.manual_seed(~seed)  # of dropout, unlike the stream of the latents
            rng = torch.Generator().manual_seed(seed)
            shares: dict[str, float | Tensor] = {"images": 1 / count, "sum": 1.0}
            shares["objects"] = part.num_objects() / total
            with torch.autocast(part.images.device.type, torch.bfloat16, enabled=self.bf16):
                terms = self.objective.losses(part, rng)
            weighed = {name: loss.value * shares[loss.mean_over] for name, loss in terms.items()}
            values = [term.float() for term in weighed.values()]
            torch.autograd.backward(torch.stack(values).sum())
            for name, term in weighed.items():
                value = term.detach()
                losses[name] = losses[name] + value if name in losses else value


def regression_training(
    make_objective: Callable[[], Objective[AnyBatch]],
    config: Config,
    steps: int,
    seed: int,
    device: torch.device | str,
) -> RegressionTraining[AnyBatch]:
    """Return a training on a device whose network is initialised by the seed."""
    objective = on_device(make_objective, seed, device)
    return RegressionTraining(objective, config, steps, seed)


AnyObjective = TypeVar("AnyObjective", bound=Objective[Any])


def on_device(
    make_objective: Callable[[], AnyObjective], seed: int, device: torch.device | str
) -> AnyObjective:
    """Return an objective whose networks are on a device, initialised by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective = make_objective()
    for network in objective.networks.values():
        network.to(device).to(memory_format=torch.channels_last)
    return objective
