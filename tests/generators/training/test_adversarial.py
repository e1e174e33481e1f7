"""Training over several workers equals training on the joined batch, and so does training on a
batch in parts.
"""

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
from synthaug.generators.training import adversarial
from synthaug.generators.training.adversarial import (
    AdversarialTraining,
    Config,
    Fakes,
    adversarial_training,
)
from synthaug.generators.training.losses import Loss, hinge_fake, hinge_real
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.errors import JobError
from tests import paths

ROOT = paths.ROOT
WORKER = """
import sys, torch, torch.distributed as dist
from synthaug.generators.nn.layers import BatchNorm2d
from synthaug.generators.training.updates import average_gradients
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
data = torch.load(f"{folder}/data.pt", weights_only=True)
norm = BatchNorm2d(3)
x = data["x"][rank::2].clone().requires_grad_()
out = norm(x)
loss = (out * data["w"][rank::2]).mean()
loss.backward()
average_gradients(norm)
found = {"out": out.detach(), "grad": x.grad / 2}
found |= {"weight": norm.weight.grad, "var": norm.running_var}
torch.save(found, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_workers_normalise_over_the_joined_batch(tmp_path: Path) -> None:
    """Outputs, input gradients, averaged weight gradients and running variance, against torch's own
    batch norm.
    """
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
    """Paints an image from the mean of its boxes and a latent.

    The norms are batch norm and dropout, or none.
    """

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
    """An objective with the terms of a layout GAN.

    It remembers the fakes that its losses were asked about.
    """

    def __init__(self, norms: bool = False) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.networks = {"G": Painter(norms), "D": Judge()}
        self.norms = norms
        self.seen: dict[str, list[Tensor]] = {"D": [], "G": []}

    def generate(self, batch: TrainingBatch, rng: torch.Generator) -> Fakes:
        # without norms without latents too: which latents are drawn is the one thing that parts may
        # change
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
    """Without batch norm.

    Losses, gradients of D and G, and the power iterations, whoever has the objects.
    """
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
    """With batch norm, dropout and latents.

    Each part by its own statistics, the running ones by their mean.
    """
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
    """Whatever the global random stream is at.

    Dropout draws from a stream of the step's own, and leaves the other be.
    """
    batch = toy_batch((2, 1, 0, 3, 1, 1))
    one = after_a_step(Toy(norms=True), accumulate, batch)
    torch.rand(3)
    before = torch.get_rng_state()
    other = after_a_step(Toy(norms=True), accumulate, batch)
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_batch_that_cannot_be_cut_is_refused_by_batch_and_job() -> None:
    """By the batch when it is cut.

    By the job, with key and remedy, before anything runs; each worker has its share.
    """
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


def train_some_steps(config: Config, steps: int, generator_first: bool = False) -> Toy:
    """Train a toy with norms for so many of ten steps; return it."""
    toy = Toy(norms=True)
    training = AdversarialTraining(toy, config, 10, 5, generator_first)
    for index in range(steps):
        training.step(index, toy_batch((2, 1, 0)))
    return toy


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_the_averaged_generator_follows_the_live_one_with_the_scheduled_decay() -> None:
    """In float64.

    Decay min(ema, (1 + k) / (10 + k)) at step k, for weights and running statistics.
    """
    toy = Toy(norms=True)
    training = AdversarialTraining(toy, Config(ema=0.15, lr_g=0.05), 10, 5)
    averaged = {name: value.double() for name, value in state_of(toy.networks["G"]).items()}
    for index, decay in enumerate((0.1, 0.15, 0.15)):
        training.step(index, toy_batch((2, 1, 0)))
        for name, value in state_of(toy.networks["G"]).items():
            averaged[name] = decay * averaged[name] + (1 - decay) * value.double()
    own = training.modules["G_ema"].state_dict()
    for name in ("fc.weight_orig", "fc.bias", "conv.weight_orig", "norms.0.running_mean"):
        torch.testing.assert_close(own[name].double(), averaged[name], rtol=1e-5, atol=1e-6)
    live = toy.networks["G"].state_dict()["fc.weight_orig"]
    assert not torch.allclose(own["fc.weight_orig"], live, rtol=0, atol=1e-4)


def test_power_iterations_and_counters_are_copied_into_the_average() -> None:
    toy = Toy(norms=True)
    training = AdversarialTraining(toy, Config(ema=0.9, lr_g=0.05), 10, 5)
    for index in range(3):
        training.step(index, toy_batch((2, 1, 0)))
    live = toy.networks["G"].state_dict()
    averaged = training.modules["G_ema"].state_dict()
    for name in ("fc.weight_u", "fc.weight_v", "conv.weight_u", "norms.0.num_batches_tracked"):
        assert torch.equal(averaged[name], live[name])
    assert live["norms.0.num_batches_tracked"] == 3


def test_the_averaged_generator_is_shipped_where_there_is_one_and_never_learns_itself() -> None:
    training = AdversarialTraining(Toy(), Config(ema=0.9), 10, 5)
    shipped = training.generator()
    assert shipped is training.modules["G_ema"]
    training.step(0, toy_batch((1, 1)))
    assert not shipped.training
    assert not any(parameter.requires_grad for parameter in shipped.parameters())
    plain = AdversarialTraining(Toy(), Config(), 10, 5)
    assert plain.generator() is plain.modules["G"]
    assert plain.modules.keys() == {"G", "D"}


def test_rates_fall_linearly_to_zero_from_the_given_share_of_the_steps() -> None:
    config = Config(lr_g=0.01, lr_d=0.03, decay_from=0.5)
    training = AdversarialTraining(Toy(), config, 10, 5)
    factors = [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    for index, factor in enumerate(factors):
        training.step(index, toy_batch((1, 1)))
        (group_g,) = training.optimizers["G"].param_groups
        (group_d,) = training.optimizers["D"].param_groups
        assert group_g["lr"] == pytest.approx(0.01 * factor)
        assert group_d["lr"] == pytest.approx(0.03 * factor)


def test_by_default_rates_stay_as_they_are_to_the_last_step() -> None:
    training = AdversarialTraining(Toy(), Config(lr_g=0.01), 10, 5)
    training.step(9, toy_batch((1, 1)))
    assert training.optimizers["G"].param_groups[0]["lr"] == 0.01


def test_a_network_moves_by_adams_first_step_of_its_own_rate() -> None:
    """Adam's first step is the rate times the sign of the gradient, whatever the betas."""
    toy = Toy()
    before = {name: state_of(network) for name, network in toy.networks.items()}
    AdversarialTraining(toy, Config(lr_g=0.01, lr_d=0.03), 10, 5).step(0, toy_batch((2, 2)))
    for name, rate in (("G", 0.01), ("D", 0.03)):
        network = toy.networks[name]
        bias = network.get_parameter("conv.bias")
        assert bias.grad is not None
        expected = before[name]["conv.bias"] - rate * bias.grad.sign()
        torch.testing.assert_close(bias.detach(), expected, rtol=0, atol=1e-5)


def test_optimizers_have_the_betas_of_the_settings() -> None:
    training = AdversarialTraining(Toy(), Config(beta1=0.3, beta2=0.8), 10, 5)
    for optimizer in training.optimizers.values():
        assert optimizer.param_groups[0]["betas"] == (0.3, 0.8)
    assert (Config().beta1, Config().beta2, Config().lr_g, Config().lr_d) == (0, 0.999, 1e-4, 1e-4)


def scores_by(judge: nn.Module, images: Tensor, layouts: Layouts) -> Tensor:
    with torch.no_grad():
        scores: Tensor = judge.eval()(images, layouts)[0]
    return scores


def test_the_generator_learns_against_the_updated_discriminator() -> None:
    toy, batch = Toy(), toy_batch((2, 1))
    first = Toy().networks["D"]
    losses = AdversarialTraining(toy, Config(lr_d=0.1), 10, 5).step(0, batch)
    (fake,) = toy.seen["G"]
    updated = -scores_by(toy.networks["D"], fake, batch.layouts).mean()
    torch.testing.assert_close(losses["g_image"], updated, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(updated, -scores_by(first, fake, batch.layouts).mean(), atol=1e-3)


def test_where_the_generator_is_first_the_discriminator_sees_fakes_of_the_updated_one() -> None:
    toy, batch = Toy(), toy_batch((2, 1))
    AdversarialTraining(toy, Config(lr_g=0.1), 10, 5, generator_first=True).step(0, batch)
    generator = toy.networks["G"].eval()
    with torch.no_grad():
        updated = generator(batch.layouts.boxes, torch.zeros(2, 4))
    torch.testing.assert_close(toy.seen["D"][0], updated, rtol=0, atol=1e-5)
    assert not torch.allclose(toy.seen["G"][0], updated, rtol=0, atol=1e-3)


def test_where_the_generator_is_first_it_learns_against_the_discriminator_as_it_is() -> None:
    toy, batch = Toy(), toy_batch((2, 1))
    judge = Toy().networks["D"].train()
    losses = AdversarialTraining(toy, Config(lr_d=0.1), 10, 5, generator_first=True).step(0, batch)
    with torch.no_grad():
        scores, _ = judge(toy.seen["G"][0], batch.layouts)
    torch.testing.assert_close(losses["g_image"], -scores.mean(), rtol=1e-5, atol=1e-6)


class Latents(Toy):
    """A toy that remembers the latents it could draw."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[list[float]] = []

    def generate(self, batch: TrainingBatch, rng: torch.Generator) -> Fakes:
        self.drawn.append(torch.randn(2, generator=rng).tolist())
        return super().generate(batch, rng)


def latents_of_a_step(
    index: int, seed: int, accumulate: int = 1, generator_first: bool = False
) -> list[list[float]]:
    toy = Latents()
    config = Config(accumulate=accumulate)
    AdversarialTraining(toy, config, 10, seed, generator_first).step(index, toy_batch((1, 1)))
    return toy.drawn


def test_latents_differ_between_steps_seeds_and_parts() -> None:
    base = latents_of_a_step(3, seed=5)
    assert len(base) == 1
    assert base == latents_of_a_step(3, seed=5)
    assert base != latents_of_a_step(4, seed=5)
    assert base != latents_of_a_step(3, seed=6)
    first, second, first_again, second_again = latents_of_a_step(3, seed=5, accumulate=2)
    assert first != second
    assert (first, second) == (first_again, second_again)


class Chance(Toy):
    """Remembers a number of the stream that dropout draws from."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def generate(self, batch: TrainingBatch, rng: torch.Generator) -> Fakes:
        self.drawn.append(float(torch.rand(())))
        return super().generate(batch, rng)


def test_dropout_differs_between_steps_seeds_and_parts_and_is_alike_in_both_phases() -> None:
    drawn = {}
    for index, seed in ((3, 5), (4, 5), (3, 6)):
        toy = Chance()
        training = AdversarialTraining(toy, Config(accumulate=2), 10, seed)
        training.step(index, toy_batch((1, 1)))
        first, second, *again = toy.drawn
        assert [first, second] == again
        drawn[index, seed] = {first, second}
    assert len(set.union(*drawn.values())) == 6


def test_workers_and_parts_draw_latents_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    for rank in range(3):
        monkeypatch.setattr(adversarial, "rank_and_world", lambda rank=rank: (rank, 3))
        training = AdversarialTraining(Toy(), Config(accumulate=2), 10, seed=5)
        seeds += [part.seed for part in training._cut(3, toy_batch((1, 1)))]
    assert 6 == len(set(seeds))


class Watcher(Toy):
    """Notes whether what it computes may be in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.lowered: list[bool] = []

    def generate(self, batch: TrainingBatch, rng: torch.Generator) -> Fakes:
        self.lowered.append(torch.is_autocast_enabled("cpu"))
        return super().generate(batch, rng)

    def discriminator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        self.lowered.append(torch.is_autocast_enabled("cpu"))
        return super().discriminator_losses(batch, fake)

    def generator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        self.lowered.append(torch.is_autocast_enabled("cpu"))
        return super().generator_losses(batch, fake)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_and_losses_have_the_precision_of_the_settings(precision: str) -> None:
    toy = Watcher()
    AdversarialTraining(toy, Config(precision=precision), 10, seed=5).step(0, toy_batch((1, 1)))
    assert [precision == "bfloat16"] * 3 == toy.lowered
    assert all(p.dtype == torch.float32 for p in toy.networks["G"].parameters())


def test_where_the_generator_is_first_both_phases_draw_latents_of_their_own() -> None:
    of_g, of_d = latents_of_a_step(3, seed=5, generator_first=True)
    rng = torch.Generator().manual_seed((5 * 1_000_003 + 3) * 4099)
    assert torch.randn(2, generator=rng).tolist() == of_g
    torch.randn(2, 4, generator=rng)  # of the toy itself
    assert torch.randn(2, generator=rng).tolist() == of_d


@pytest.mark.parametrize("generator_first", [False, True])
def test_discriminator_losses_leave_no_gradient_in_the_generator(generator_first: bool) -> None:
    """With terms of G that are zero, G stays where it was, though D learns on its fakes."""

    class Idle(Toy):
        def generator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
            return {"g_image": Loss(0 * fake.sum())}

    toy = Idle()
    weight = toy.networks["G"].get_parameter("fc.weight_orig").detach().clone()
    judge = toy.networks["D"].get_parameter("conv.weight_orig").detach().clone()
    AdversarialTraining(toy, Config(lr_g=1.0), 10, 5, generator_first).step(0, toy_batch((1, 2)))
    assert torch.equal(toy.networks["G"].get_parameter("fc.weight_orig"), weight)
    assert not torch.equal(toy.networks["D"].get_parameter("conv.weight_orig"), judge)


@pytest.mark.parametrize("generator_first", [False, True])
def test_generator_losses_leave_no_gradient_in_the_discriminator(generator_first: bool) -> None:
    class Idle(Toy):
        def discriminator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
            scores, _ = self.networks["D"](fake, batch.layouts)
            return {"d_image": Loss(0 * scores.sum())}

    toy = Idle()
    judge = toy.networks["D"].get_parameter("conv.weight_orig").detach().clone()
    AdversarialTraining(toy, Config(lr_d=1.0), 10, 5, generator_first).step(0, toy_batch((1, 2)))
    assert torch.equal(toy.networks["D"].get_parameter("conv.weight_orig"), judge)
    assert all(parameter.requires_grad for parameter in toy.networks["D"].parameters())


class WithEncoder(Toy):
    """A toy with a third network, whose term comes with the fakes and is a sum over images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.networks["E"] = SNLinear(4, 1)

    def generate(self, batch: TrainingBatch, rng: torch.Generator) -> Fakes:
        fakes = super().generate(batch, rng)
        codes = self.networks["E"](batch.layouts.boxes.mean(1))
        return Fakes(fakes.images, {"kl": Loss(codes.square().sum(), mean_over="sum")})


@pytest.mark.parametrize("generator_first", [False, True])
def test_a_third_network_learns_with_the_generator_from_terms_of_the_fakes(
    generator_first: bool,
) -> None:
    toy = WithEncoder()
    weight = toy.networks["E"].get_parameter("weight_orig")
    before = weight.detach().clone()
    training = AdversarialTraining(toy, Config(lr_g=0.01), 10, 5, generator_first)
    losses = training.step(0, toy_batch((1, 2)))
    assert losses["kl"] > 0
    assert weight.grad is not None
    torch.testing.assert_close(
        weight.detach(), before - 0.01 * weight.grad.sign(), atol=1e-5, rtol=0
    )


def test_a_sum_over_images_is_not_weighed_by_the_parts() -> None:
    together, left = after_a_step(WithEncoder(), 1, toy_batch((1, 2, 1, 1)))
    in_parts, left_in_parts = after_a_step(WithEncoder(), 2, toy_batch((1, 2, 1, 1)))
    torch.testing.assert_close(in_parts["kl"], together["kl"])
    torch.testing.assert_close(left_in_parts["E.weight_orig"], left["E.weight_orig"])


def test_losses_are_detached_scalars_of_both_networks() -> None:
    losses = AdversarialTraining(Toy(), Config(), 10, 5).step(0, toy_batch((1, 2)))
    assert {"d_object", "d_image", "g_object", "g_image", "g_l1"} == losses.keys()
    for value in losses.values():
        assert value.shape == ()
        assert not value.requires_grad


def test_a_training_starts_from_the_weights_of_its_seed() -> None:
    """And leaves the global random stream as it was."""

    def weights(seed: int) -> Tensor:
        training = adversarial_training(make, Config(), 10, seed, "cpu")
        return training.modules["G"].get_parameter("weight").detach()

    class Pair(Toy):
        def __init__(self) -> None:
            self.networks = {"G": nn.Conv2d(3, 4, 3), "D": nn.Conv2d(3, 4, 3)}

    def make() -> Pair:
        return Pair()

    before = torch.get_rng_state()
    one, same, other = weights(1), weights(1), weights(2)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.is_contiguous(memory_format=torch.channels_last)


def test_the_discriminator_trains_in_training_mode_even_after_a_look_in_eval_mode() -> None:
    toy = Toy(norms=True)
    training = AdversarialTraining(toy, Config(), 10, 5)
    for network in toy.networks.values():
        network.eval()
    training.step(0, toy_batch((1, 2)))
    assert toy.networks["G"].get_buffer("norms.0.num_batches_tracked") == 1
    assert all(network.training for network in toy.networks.values())


@pytest.mark.parametrize("generator_first", [False, True])
def test_a_training_restored_between_steps_goes_on_bit_for_bit(generator_first: bool) -> None:
    config = Config(ema=0.9, decay_from=0.3, lr_g=0.01)
    straight = train_some_steps(config, 3, generator_first)

    toy = Toy(norms=True)
    training = AdversarialTraining(toy, config, 10, 5, generator_first)
    for index in range(2):
        training.step(index, toy_batch((2, 1, 0)))
    fresh = Toy(norms=True)
    restored = AdversarialTraining(fresh, config, 10, 5, generator_first)
    for name, module in restored.modules.items():
        module.load_state_dict(training.modules[name].state_dict())
    for name, optimizer in restored.optimizers.items():
        optimizer.load_state_dict(training.optimizers[name].state_dict())
    restored.step(2, toy_batch((2, 1, 0)))
    for name, network in straight.networks.items():
        own = fresh.networks[name].state_dict()
        for key, value in network.state_dict().items():
            assert torch.equal(own[key], value), key


def test_objects_of_a_part_weigh_by_their_share_of_the_batch() -> None:
    """Parts with 3 and 1 objects: the mean over objects of the batch is 3/4 and 1/4 of theirs."""
    training = AdversarialTraining(Toy(), Config(accumulate=2), 10, 5)
    first, second = training._cut(0, toy_batch((2, 1, 1, 0)))
    term = Loss(torch.tensor(8.0), mean_over="objects")
    assert (float(first.weigh(term)), float(second.weigh(term))) == (6.0, 2.0)
    image_term = Loss(torch.tensor(8.0))
    assert (float(first.weigh(image_term)), float(second.weigh(image_term))) == (4.0, 4.0)
    sum_term = Loss(torch.tensor(8.0), mean_over="sum")
    assert (float(first.weigh(sum_term)), float(second.weigh(sum_term))) == (8.0, 8.0)
