"""Training of the in-filler: one regression, and averaged weights.

Those that held-out windows liked best. Small sets of images are memorized in the end. The loss on
windows of images that nothing is learned from shows when that begins, so the network to ship is the
averaged one at its minimum.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from synthaug.generators.base import Photo, PhotoBatch
from synthaug.generators.fill.config import Loop
from synthaug.generators.fill.drawing import draw_windows
from synthaug.generators.fill.flow import flow_loss, noise_for
from synthaug.generators.fill.network import FillNetwork
from synthaug.generators.fill.windows import Windows
from synthaug.generators.nn.precision import uses_bfloat16

LAST_SHARE = 0.05  # of the peak rate, at the last step
HELD_OUT_TIMES = 8  # times at which every held-out window is looked at, evenly spaced


class FlowTraining:
    """What the training loop drives: modules, optimizers, and one step."""

    def __init__(self, network: FillNetwork, loop: Loop, steps: int, seed: int) -> None:
        self.loop, self.steps, self.seed = loop, steps, seed
        device = next(network.parameters()).device
        self.bf16 = uses_bfloat16(loop.precision, device)
        self.network = network.to(memory_format=torch.channels_last).train()
        self.averaged = copy.deepcopy(network).eval()
        self.best = Best(self.averaged)
        self._optimizer = AdamW(
            network.parameters(), loop.lr, betas=(0.9, 0.99), weight_decay=loop.weight_decay
        )

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Return the network in training, its average and the best average so far."""
        return {"network": self.network, "averaged": self.averaged, "best": self.best}

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """Return the optimizer."""
        return {"network": self._optimizer}

    def step(self, index: int, batch: PhotoBatch) -> Mapping[str, Tensor]:
        """Do one update and return the losses.

        All chance derives from the seed and the index.
        """
        device = next(self.network.parameters()).device
        seed = self.seed * 1_000_003 + index
        groups = self._draw_windows(batch.photos, seed)
        rng = torch.Generator().manual_seed(seed)
        losses = []
        cards = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cards):
            torch.manual_seed(seed)  # of the dropout
            for windows in groups:
                losses.append(self._losses(windows.to(device), rng))
        loss = torch.cat(losses).mean()
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.loop.clip_grad)
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(index)
        self._optimizer.step()
        self._average(index)

        losses_by_name = {"flow": loss.detach()}
        if batch.held_out:
            held_out = self.held_out_loss(batch.held_out)
            self.best.offer(self.averaged, held_out)
            losses_by_name["held_out"] = held_out
        return losses_by_name

    def _losses(self, windows: Windows, rng: torch.Generator) -> Tensor:
        """Return the loss [B] of each window at a time of its own.

        Some are without their class.
        """
        device = windows.pixels.device
        noise = torch.randn(windows.pixels.shape, generator=rng).to(device)
        # logit-normal times: most of the steps where the velocity is hardest to tell (Esser et al.
        # 2024)
        drawn = torch.randn(len(windows), generator=rng)
        time = drawn.sigmoid().to(device)
        chance = torch.rand(len(windows), generator=rng)
        told_nothing = (chance < self.loop.class_dropout).to(device)
        told = windows.relabelled(self.network.num_classes + 1, told_nothing)
        with self._precision(device):
            return flow_loss(self.network, told, noise, time)

    def learning_rate(self, index: int) -> float:
        """Return the rate of a step: a linear rise, then a cosine down to a twentieth."""
        warmup = max(1, self.loop.warmup)
        rise = min(1.0, (index + 1) / warmup)
        fall = (1 + math.cos(math.pi * index / self.steps)) / 2
        share = LAST_SHARE + (1 - LAST_SHARE) * fall
        return self.loop.lr * rise * share

    @torch.no_grad()
    def held_out_loss(self, photos: Sequence[Photo]) -> Tensor:
        """Return the mean loss of the averaged network.

        The same windows, noise and times every time.
        """
        device = next(self.network.parameters()).device
        losses = []
        for windows in self._draw_windows(photos, self.seed):
            windows = windows.to(device)
            for number in range(HELD_OUT_TIMES):
                count = len(windows)
                seeds = [number * count + row for row in range(count)]
                side = windows.pixels.shape[-1]
                noise = noise_for(seeds, side).to(device)
                middle = (number + 0.5) / HELD_OUT_TIMES
                time = torch.full((count,), middle, device=device)
                with self._precision(device):
                    losses.append(flow_loss(self.averaged, windows, noise, time))
        return torch.cat(losses).mean()

    def generator(self) -> FillNetwork:
        """Return the network to ship.

        The best average, or the last where nothing was held out.
        """
        return self.best.network if self.best.was_offered else self.averaged

    def _draw_windows(self, photos: Sequence[Photo], seed: int) -> list[Windows]:
        network = self.network
        return draw_windows(photos, network.config, self.loop, network.num_classes, seed)

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bf16)

    @torch.no_grad()
    def _average(self, index: int) -> None:
        """Move the average towards the network; a short memory at first forgets the start."""
        decay = min(self.loop.ema, (1 + index) / (10 + index))
        averaged: list[Tensor] = list(self.averaged.parameters())
        current: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)


class Best(nn.Module):
    """The averaged network at the lowest held-out loss so far.

    Part of the saved state.
    """

    loss: Tensor

    def __init__(self, start: FillNetwork) -> None:
        super().__init__()
        self.network = copy.deepcopy(start).eval()
        self.register_buffer("loss", torch.tensor(math.inf))

    @property
    def was_offered(self) -> bool:
        """Tell whether any loss was measured."""
        return math.isfinite(float(self.loss))

    @torch.no_grad()
    def offer(self, network: FillNetwork, loss: Tensor) -> None:
        """Keep the network if its loss is the lowest."""
        if loss < self.loss:
            self.loss.copy_(loss)
            self.network.load_state_dict(network.state_dict())
