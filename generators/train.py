"""One adversarial training step, for every system: the caller owns the data, the loop, the checkpoints and the resume.

Everything that changes from step to step is in `modules` and `optimizers`; all randomness derives from (seed, step), so a
training restored from these at step k continues bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from generators.base import Trainee, TrainingBatch


@dataclass(frozen=True)
class Config:
    """Optimiser settings; the defaults are LostGAN's (paper section 2.2.7)."""

    lr_g: float = 1e-4
    lr_d: float = 1e-4
    beta1: float = 0.0
    beta2: float = 0.999
    ema: float = 0.0  # decay of the averaged generator; 0 switches it off
    decay_from: float = 1.0  # share of the steps after which both learning rates fall linearly to zero; 1 = constant
    precision: str = (
        "float32"  # float32 | bfloat16 (autocast of the networks) | auto: bfloat16 where the hardware has it
    )

    def __post_init__(self) -> None:
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: {self.ema} is not in [0, 1)")
        if not 0 < self.decay_from <= 1:
            raise ValueError(f"decay_from: {self.decay_from} is not in (0, 1]")
        if self.precision not in ("float32", "bfloat16", "auto"):
            raise ValueError(f"precision: '{self.precision}' is not one of float32, bfloat16, auto")
        if min(self.lr_g, self.lr_d) <= 0:
            raise ValueError("lr_g and lr_d must be positive")


class AdversarialTraining:
    """A trainee with its optimisers; `step` does one D step and one G step."""

    def __init__(self, trainee: Trainee, config: Config, steps: int, seed: int) -> None:
        self.trainee, self.config, self.steps, self.seed = trainee, config, steps, seed
        g, d = trainee.networks["G"], trainee.networks["D"]
        self.bf16 = config.precision == "bfloat16" or (
            config.precision == "auto" and has_bf16(next(g.parameters()).device)
        )
        self.modules: dict[str, nn.Module] = {"G": g, "D": d}
        if config.ema:
            self.modules["G_ema"] = copy.deepcopy(g).eval().requires_grad_(False)
        betas = (config.beta1, config.beta2)
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "G": torch.optim.Adam(g.parameters(), lr=config.lr_g, betas=betas, fused=True),
            "D": torch.optim.Adam(d.parameters(), lr=config.lr_d, betas=betas, fused=True),
        }

    def step(self, index: int, batch: TrainingBatch) -> dict[str, Tensor]:
        """Do step `index`: D learns on real and fake, then G on the same fake against the updated D."""
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        rng = torch.Generator().manual_seed((self.seed * 1_000_003 + index) * 4099 + rank)
        device = batch.images.device.type
        g, d = self.trainee.networks["G"].train(), self.trainee.networks["D"].train()

        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            fake = self.trainee.forward(batch, rng)
            d_losses = self.trainee.discriminator_losses(batch, fake.detach())
        self._update("D", index, d_losses.values())

        # D's weights are only read in G's phase: no gradients for them, which also saves their half of the backward
        d.requires_grad_(False)
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            g_losses = self.trainee.generator_losses(batch, fake)
        self._update("G", index, g_losses.values())
        d.requires_grad_(True)

        if self.config.ema:
            self._average(g, index)
        return {name: value.detach() for name, value in {**d_losses, **g_losses}.items()}

    def generator(self) -> nn.Module:
        """The network to ship: the averaged one where there is one."""
        return self.modules.get("G_ema", self.modules["G"])

    def _update(self, name: str, index: int, losses: Iterable[Tensor]) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack([loss.float() for loss in losses]).sum())
        _average_gradients(self.modules[name])
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
        mixed = [n for n, v in now.items() if v.is_floating_point() and not n.endswith(("weight_u", "weight_v"))]
        torch._foreach_lerp_([averaged[n] for n in mixed], [now[n] for n in mixed], 1 - decay)
        for name in now.keys() - set(mixed):  # counters and power iterations are states, not averages
            averaged[name].copy_(now[name])


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
