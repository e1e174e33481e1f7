"""SPADE against the recorded outputs of the official networks, through the import of official
checkpoints.
"""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthaug.generators.base import Maps
from synthaug.generators.nn.perceptual import PerceptualLoss
from synthaug.generators.spade import network as spade
from synthaug.generators.spade.discriminator import Discriminator
from synthaug.generators.spade.fast import FastGenerator
from synthaug.generators.spade.losses import (
    GAN_MODES,
    discriminator_loss,
    feature_matching,
    generator_loss,
    kl_divergence,
)
from synthaug.generators.spade.semantics import Semantics, boundaries, semantics
from tests.parity.comparison import Array, BrokenFileError, Row, compare, read_arrays
from tests.parity.lostgan_fixtures import through_a_file
from tests.parity.weights import read_keys, rebuild

ROUNDS = {"raw": 0, "power": 50}  # of the power method
FAULTS = (ValueError, RuntimeError, LookupError, FileNotFoundError, AssertionError)


@dataclass(frozen=True)
class Fixture:
    """One .npz file with its meta file, and the folder with its keys."""

    folder: Path
    name: str
    arrays: dict[str, Array]
    meta: dict[str, Any]

    def weights(self) -> dict[str, Tensor]:
        """Rebuild the weights by the fixture's rule."""
        path = self.folder / f"{self.name}.keys.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path.name} is missing, so its weights cannot be rebuilt")
        return rebuild(read_keys(path), ROUNDS[self.meta.get("sn", "raw")])

    def config(self) -> spade.Config:
        """Return the official options as our settings."""
        opt = self.meta["opt"]
        return spade.Config(
            resolution=opt["crop_size"],
            aspect_ratio=opt["aspect_ratio"],
            upsampling=opt["num_upsampling_layers"],
            width=opt["ngf"],
            width_d=opt["ndf"],
            dont_care=opt["contain_dontcare_label"],
            edges=not opt["no_instance"],
            vae=opt["use_vae"],
            z=opt["z_dim"],
            num_scales=opt["num_D"],
            num_layers=opt["n_layers_D"],
            lambda_features=0.0 if opt["no_ganFeat_loss"] else opt.get("lambda_feat", 10.0),
            fast_modulation=False,
        )

    def semantics(self) -> Semantics:
        """Return what networks see of the recorded maps."""
        return semantics(self.maps(), self.config().dont_care, self.config().edges)

    def maps(self) -> Maps:
        """Return the recorded maps [B, H, W]."""
        label, inst = (
            torch.from_numpy(self.arrays[name].astype(np.int64)) for name in ("label", "inst")
        )
        label, inst = (x if x.ndim == 3 else x[None] for x in (label, inst))
        return Maps(label, inst, self.meta["opt"]["label_nc"])


def run(folder: Path, tolerance: float) -> Iterator[Row]:
    """Yield the rows of every SPADE fixture of a folder.

    ValueError, one line, for a file that is broken.
    """
    from tests.parity.spade_step import step_rows

    kinds: dict[str, Callable[[Fixture, float], Iterator[Row]]] = {
        "generator": generator_rows,
        "discriminator": discriminator_rows,
        "encoder": encoder_rows,
        "losses": loss_rows,
        "vgg": vgg_rows,
        "train_step": step_rows,
    }
    for path in sorted(folder.glob("*.meta.json")):
        try:
            meta = json.loads(path.read_text())
        except ValueError as err:
            raise BrokenFileError(f"{path}: no readable JSON ({err})") from err
        name = path.name.removesuffix(".meta.json")
        if not isinstance(meta, dict) or meta.get("kind") not in kinds:
            continue
        fixture = Fixture(folder, name, read_arrays(folder / f"{name}.npz"), meta)
        try:
            yield from kinds[meta["kind"]](fixture, tolerance)
        except BrokenFileError:
            raise
        except FAULTS as err:
            reason = " ".join(str(err).split())[:300] or type(err).__name__
            yield Row(name, "", detail=f"cannot be compared: {reason}", fault=True)


def recorded_image(name: str, height: int, width: int) -> Tensor:
    """A real or fake image of the fixtures: [1, 3, H, W] in [-1, 1]."""
    pixels = np.random.default_rng(zlib.crc32(name.encode())).integers(
        0, 256, (1, 3, height, width), dtype=np.uint8
    )
    return torch.from_numpy(((pixels.astype(np.float64) / 255 - 0.5) / 0.5).astype(np.float32))


def rest(fixture: Fixture, done: set[str]) -> Iterator[Row]:
    """Name every array that was not compared."""
    for name in sorted(fixture.arrays.keys() - done):
        yield Row(fixture.name, name, detail="not compared: unknown array")


def sampled(
    fixture: Fixture, kind: str, name: str, value: Tensor, tolerance: float
) -> Iterator[Row]:
    """Compare every k-th value, the shape and the mean magnitude of a tensor.

    `kind` is tap or feat.
    """
    recorded, info = fixture.arrays[f"{kind}/{name}"], fixture.arrays[f"{kind}info/{name}"].tolist()
    if list(value.shape) != info[:-1]:
        yield Row(
            fixture.name,
            f"{kind}info/{name}",
            detail=f"{list(value.shape)}, recorded {info[:-1]}",
            fault=True,
        )
        return
    flat = value.detach().reshape(-1)[:: info[-1]][: len(recorded)]
    yield compare(fixture.name, f"{kind}/{name}", recorded, flat.numpy(), tolerance)
    magnitude = f"{kind}abs/{name}"
    if magnitude in fixture.arrays:
        mean = value.detach().double().abs().mean()
        yield compare(fixture.name, magnitude, fixture.arrays[magnitude], mean.numpy(), tolerance)


def generator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """The image, what tanh was given and every tap; the image also by windows and in production."""
    imported = through_a_file(fixture.weights())
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    config, classes = fixture.config(), fixture.meta["opt"]["label_nc"]
    network = spade.SpadeGenerator(config, classes)
    network.load_state_dict(imported.network.state_dict())
    network.eval()
    seen = fixture.semantics()
    z = torch.from_numpy(fixture.arrays["z"]) if "z" in fixture.arrays else None
    taps = [name.removeprefix("tap/") for name in fixture.arrays if name.startswith("tap/")]
    with torch.inference_mode():
        image, made = traced(network, ["conv_img", *taps], lambda: network(seen, z))
        made["image"], made["pretanh"] = image[..., ::2, ::2], made.pop("conv_img")[..., ::2, ::2]
    done = {"label", "inst", "z"}
    for name in ("image", "pretanh"):
        done |= {name}
        yield compare(fixture.name, name, fixture.arrays[name], made[name].numpy(), tolerance)
    whole = {
        "image_full_absmean": image.double().abs().mean(),
        "image_full_sum": image.double().sum(),
    }
    for name in whole.keys() & fixture.arrays.keys():
        done |= {name}
        yield compare(fixture.name, name, fixture.arrays[name], whole[name].numpy(), tolerance)
    for name in taps:
        done |= {f"{kind}/{name}" for kind in ("tap", "tapinfo", "tapabs")}
        yield from sampled(fixture, "tap", name, made[name], tolerance)
    yield from rest(fixture, done)
    with torch.inference_mode():
        fast = FastGenerator(network)(seen, z)
        for norm in network.modules():
            if isinstance(norm, spade.SpadeNorm):
                norm.by_windows = True
        windows = network(seen, z)
    for how, other in (("by windows", windows), ("in production", fast)):
        yield compare(
            fixture.name,
            f"image {how}",
            fixture.arrays["image"],
            other[..., ::2, ::2].numpy(),
            tolerance,
        )


def traced(
    network: nn.Module, names: list[str], call: Callable[[], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Result of a call, and the outputs of modules during it."""
    made: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: made.__setitem__(name, output)

    handles = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    out = call()
    for handle in handles:
        handle.remove()
    return out, made


def discriminator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Scores, features and the losses of one fake and one real image."""
    imported = through_a_file(fixture.weights())
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    network = imported.network.eval()
    assert isinstance(network, Discriminator)
    semantic = fixture.semantics().dense
    height, width = semantic.shape[2:]
    images = torch.cat(
        [recorded_image(f"{name}_{height}x{width}", height, width) for name in ("fake", "real")]
    )
    with torch.inference_mode():
        scales = network(semantic.expand(2, -1, -1, -1), images)
    fakes, reals = ([[x[i : i + 1] for x in scale] for scale in scales] for i in (0, 1))
    done = {"label", "inst"}
    for k, scale in enumerate(scales):
        done |= {f"pred/{k}"}
        yield compare(
            fixture.name, f"pred/{k}", fixture.arrays[f"pred/{k}"], scale[-1].numpy(), tolerance
        )
        for j, features in enumerate(scale):
            done |= {f"{kind}/{k}/{j}" for kind in ("feat", "featinfo", "featabs")}
            yield from sampled(fixture, "feat", f"{k}/{j}", features, tolerance)
    real, fake = discriminator_loss(reals, fakes, "hinge")
    made = {"loss/D_Fake": fake, "loss/D_real": real, "loss/GAN": generator_loss(fakes, "hinge")}
    made["loss/GAN_Feat"] = 10 * feature_matching(fakes, reals)
    for name in made.keys() & fixture.arrays.keys():
        done |= {name}
        yield compare(fixture.name, name, fixture.arrays[name], made[name].numpy(), tolerance)
    yield from rest(fixture, done)


def encoder_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """mu and logvar of an image of the encoder's size and of one that it resizes."""
    imported = through_a_file(fixture.weights())
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    network = imported.network.eval()
    done = set[str]()
    for suffix, size in (("", (256, 256)), ("_resized", (128, 192))):
        name = "enc_256" if not suffix else "enc_128x192"
        with torch.inference_mode():
            codes = network(recorded_image(name, *size))
        for what, code in zip(("mu", "logvar"), codes, strict=True):
            done |= {f"{what}{suffix}"}
            yield compare(
                fixture.name,
                f"{what}{suffix}",
                fixture.arrays[f"{what}{suffix}"],
                code.numpy(),
                tolerance,
            )
    yield from rest(fixture, done)


def loss_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Every adversarial loss, feature matching, KL and boundaries, on recorded inputs."""
    arrays = {name: torch.from_numpy(np.asarray(value)) for name, value in fixture.arrays.items()}
    places = sorted({tuple(name.split("/")[2:]) for name in arrays if name.startswith("in/fake/")})
    numbers = sorted({place[0] for place in places})
    fakes, reals = (
        [[arrays[f"in/{kind}/{k}/{j}"] for at, j in places if at == k] for k in numbers]
        for kind in ("fake", "real")
    )
    made: dict[str, Tensor] = {}
    for mode in GAN_MODES:
        made[f"{mode}/D_real"], made[f"{mode}/D_fake"] = discriminator_loss(reals, fakes, mode)
        made[f"{mode}/G"] = generator_loss(fakes, mode)
    made["feat_lambda10"] = 10 * feature_matching(fakes, reals)
    made["kld_unweighted"] = kl_divergence(arrays["in/mu"], arrays["in/logvar"])
    made["edges"] = boundaries(arrays["in/inst"][:, 0])[:, None]
    for name in made.keys() & arrays.keys():
        yield compare(fixture.name, name, fixture.arrays[name], made[name].numpy(), tolerance)
    yield from rest(fixture, made.keys() | {name for name in arrays if name.startswith("in/")})


def vgg_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """The perceptual term with rebuilt weights: its taps, its differences per tap and their sum."""
    state = {f"features.{key.partition('.')[2]}": value for key, value in fixture.weights().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vgg19.pth"
        torch.save(state, path)
        loss = PerceptualLoss(path)
    side = fixture.arrays["tapinfo/0"].tolist()[2]
    one, other = (recorded_image(name, side, side) for name in ("vgg_a", "vgg_b"))
    with torch.inference_mode():
        taps = [loss.outputs(x) for x in (one, other)]
        total = loss(one, other)
    done = {"vggloss_unweighted"}
    for i, (ours, theirs) in enumerate(zip(*taps, strict=True)):
        done |= {f"{kind}/{i}" for kind in ("tap", "tapinfo", "l1")}
        yield from sampled(fixture, "tap", str(i), ours, tolerance)
        apart = (ours - theirs).abs().mean()
        yield compare(fixture.name, f"l1/{i}", fixture.arrays[f"l1/{i}"], apart.numpy(), tolerance)
    yield compare(
        fixture.name,
        "vggloss_unweighted",
        fixture.arrays["vggloss_unweighted"],
        total.numpy(),
        tolerance,
    )
    yield from rest(fixture, done)
