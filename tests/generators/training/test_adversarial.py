"""Training over several workers equals training on the joined batch, and so does training on a batch in parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.nn.layers import BatchNorm2d, SNConv2d, SNLinear
from synthaug.generators.training.adversarial import AdversarialTraining, Config, Fakes
from synthaug.generators.training.losses import Loss, hinge_fake, hinge_real
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.errors import JobError
from tests import paths

ROOT = paths.ROOT
WORKER = """
import sys, torch, torch.distributed as dist
from synthaug.generators.nn.layers import BatchNorm2d
from synthaug.generators.training.adversarial import _average_gradients
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
data = torch.load(f"{folder}/data.pt", weights_only=True)
norm = BatchNorm2d(3)
x = data["x"][rank::2].clone().requires_grad_()
out = norm(x)
loss = (out * data["w"][rank::2]).mean()
loss.backward()
_average_gradients(norm)
found = {"out": out.detach(), "grad": x.grad / 2, "weight": norm.weight.grad, "var": norm.running_var}
torch.save(found, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_workers_normalise_over_the_joined_batch(tmp_path: Path) -> None:
    """Outputs, input gradients, averaged weight gradients and running variance, against torch's own batch norm."""
    torch.manual_seed(0)
    data = {"x": torch.randn(6, 3, 5, 5) * 3 + 2, "w": torch.randn(6, 3, 5, 5)}
    torch.save(data, tmp_path / "data.pt")
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(tmp_path)], cwd=ROOT)
        for rank in range(2)
    ]
    assert [worker.wait(timeout=100) for worker in workers] == [0, 0]
    norm = torch.nn.BatchNorm2d(3).double()
    x = data["x"].double().requires_grad_()
    out = norm(x)
    torch.autograd.backward((out * data["w"]).mean())
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert x.grad is not None
        assert norm.weight.grad is not None
        assert norm.running_var is not None
        torch.testing.assert_close(found["out"].double(), out.detach()[rank::2], rtol=0, atol=1e-5)
        torch.testing.assert_close(found["grad"].double(), x.grad[rank::2], rtol=0, atol=1e-6)
        torch.testing.assert_close(found["weight"].double(), norm.weight.grad, rtol=0, atol=1e-5)
        torch.testing.assert_close(found["var"].double(), norm.running_var, rtol=1e-5, atol=0)


def test_alone_it_is_torchs_batch_norm() -> None:
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(BatchNorm2d(3)(x), torch.nn.BatchNorm2d(3)(x))


@pytest.mark.parametrize(
    ("key", "value"),
    [("ema", 1.0), ("decay_from", 0.0), ("precision", "float16"), ("lr_g", 0.0), ("accumulate", 0)],
)
def test_impossible_settings_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        Config(**{key: value})  # type: ignore[arg-type]


class Painter(nn.Module):
    """Paints an image from the mean of its boxes and a latent; the norms are batch norm and dropout, or none."""

    def __init__(self, norms: bool) -> None:
        super().__init__()
        self.fc, self.conv = SNLinear(4, 3 * 64), SNConv2d(3, 3, 3)
        self.norms = nn.Sequential(BatchNorm2d(3), nn.Dropout2d(0.3)) if norms else nn.Identity()

    def forward(self, boxes: Tensor, z: Tensor) -> Tensor:
        return torch.tanh(self.conv(self.norms(self.fc(boxes.mean(1) + z).view(-1, 3, 8, 8))))


class Judge(nn.Module):
    """Scores images [B] and their objects [n]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.image, self.object = SNConv2d(3, 6, 3), SNLinear(6, 1), SNLinear(4, 6)

    def forward(self, images: Tensor, layouts: Layouts) -> tuple[Tensor, Tensor]:
        features = F.relu(self.conv(images)).mean((2, 3))  # [B, 6]
        keep = layouts.labels > 0
        return self.image(features)[:, 0], (
            self.object(layouts.boxes[keep]) * features[keep.nonzero()[:, 0]]
        ).sum(1)


class Toy:
    """An objective with the terms of a layout GAN; it remembers the fakes that its losses were asked about."""

    def __init__(self, norms: bool = False) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.networks = {"G": Painter(norms), "D": Judge()}
        self.norms = norms
        self.seen: dict[str, list[Tensor]] = {"D": [], "G": []}

    def generate(self, batch: TrainingBatch, rng: torch.Generator) -> Fakes:
        # without norms without latents too: which latents are drawn is the one thing that parts may change
        z = torch.randn(len(batch.layouts), 4, generator=rng) * self.norms
        return Fakes(self.networks["G"](batch.layouts.boxes, z))

    def discriminator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        self.seen["D"].append(fake.detach())
        real, real_objects = self.networks["D"](batch.images, batch.layouts)
        image, objects = self.networks["D"](fake, batch.layouts)
        weights = batch.layouts.scores[batch.layouts.labels > 0]
        d_object = hinge_real(real_objects, weights) + hinge_fake(objects, weights)
        d_image = hinge_real(real) + hinge_fake(image)
        return {"d_object": Loss(d_object, mean_over="objects"), "d_image": Loss(d_image)}

    def generator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        self.seen["G"].append(fake.detach())
        image, objects = self.networks["D"](fake, batch.layouts)
        g_object = -objects.mean() if len(objects) else objects.sum()
        return {
            "g_object": Loss(g_object, mean_over="objects"),
            "g_image": Loss(-image.mean()),
            "g_l1": Loss(F.l1_loss(fake, batch.images)),
        }


def toy_batch(counts: tuple[int, ...]) -> TrainingBatch:
    """One image per number of objects."""
    rng = torch.Generator().manual_seed(7)
    slots = max(1, *counts)
    labels = (torch.arange(slots) < torch.tensor(counts)[:, None]).long()
    low = torch.rand(len(counts), slots, 2, generator=rng) * 0.5
    layouts = Layouts(
        labels, torch.cat([low, low + 0.3], -1), torch.rand(len(counts), slots, generator=rng)
    )
    return TrainingBatch(torch.rand(len(counts), 3, 8, 8, generator=rng) * 2 - 1, layouts)


def after_a_step(
    toy: Toy, accumulate: int, batch: TrainingBatch
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a first step tells, and the gradients and buffers it leaves."""
    training = AdversarialTraining(toy, Config(accumulate=accumulate), 10, seed=5)
    told = training.step(0, batch)
    left = {f"{n}.{k}": v for n, net in toy.networks.items() for k, v in net.named_buffers()}
    for n, net in toy.networks.items():
        left |= {f"{n}.{k}": v.grad for k, v in net.named_parameters() if v.grad is not None}
    return told, left


@pytest.mark.parametrize("counts", [(2, 2, 2, 2), (3, 0, 1, 2), (0, 0, 3, 1), (0, 0, 0, 0)])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    counts: tuple[int, ...], accumulate: int
) -> None:
    """Without batch norm: losses, gradients of D and G, and the power iterations, whoever has the objects."""
    told, left = after_a_step(Toy(), 1, toy_batch(counts))
    told_in_parts, left_in_parts = after_a_step(Toy(), accumulate, toy_batch(counts))
    assert {"d_object", "d_image", "g_object", "g_image", "g_l1"} == told.keys()
    assert {
        "G.fc.weight_u",
        "G.fc.weight_orig",
        "D.object.weight_orig",
        "D.conv.bias",
    } <= left.keys()
    torch.testing.assert_close(told_in_parts, told, rtol=0, atol=1e-5)
    torch.testing.assert_close(left_in_parts, left, rtol=0, atol=1e-5)
    assert left["D.conv.weight_orig"].abs().max() > 0.01


def test_both_phases_see_the_same_fakes_and_running_statistics_move_once() -> None:
    """With batch norm, dropout and latents; each part by its own statistics, the running ones by their mean."""
    batch, toy = toy_batch((2, 1, 0, 3, 1, 1)), Toy(norms=True)
    _, left = after_a_step(toy, 3, batch)
    assert [2, 2, 2] == [len(fake) for fake in toy.seen["D"]]
    assert all(torch.equal(d, g) for d, g in zip(toy.seen["D"], toy.seen["G"], strict=True))
    assert left["G.norms.0.num_batches_tracked"] == 1
    means = []
    for i, part in enumerate(batch.parts(3)):
        fresh = Toy(norms=True).networks["G"]
        z = torch.randn(2, 4, generator=torch.Generator().manual_seed(5 * 1_000_003 * 4099 + i))
        fresh(part.layouts.boxes, z)
        means.append(fresh.get_buffer("norms.0.running_mean"))
    torch.testing.assert_close(
        left["G.norms.0.running_mean"], torch.stack(means).mean(0), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_depends_on_nothing_but_state_batch_and_index(accumulate: int) -> None:
    """Whatever the global random stream is at: dropout draws from a stream of the step's own, and leaves the other be."""
    batch = toy_batch((2, 1, 0, 3, 1, 1))
    one = after_a_step(Toy(norms=True), accumulate, batch)
    torch.rand(3)
    before = torch.get_rng_state()
    other = after_a_step(Toy(norms=True), accumulate, batch)
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_batch_that_cannot_be_cut_is_refused_by_batch_and_job() -> None:
    """By the batch when it is cut; by the job, with key and remedy, before anything runs; each worker has its share."""
    with pytest.raises(ValueError, match="a batch of 4 images cannot be cut into 3 equal parts"):
        toy_batch((1, 1, 1, 1)).parts(3)
    base = ROOT / "jobs" / "base.yaml"
    assert load_job(base, ["train_generator.accumulate=4"]).train_generator.accumulate == 4
    for overrides in (
        ["train_generator.accumulate=3"],
        ["train_generator.accumulate=8", "generator.workers=4"],
    ):
        with pytest.raises(
            JobError, match=r"train_generator\.accumulate: .*generator\.batch"
        ) as caught:
            load_job(base, overrides)
        assert "\n" not in str(caught.value)
