"""Official checkpoints.

Every model is recognised and fits key by key, and whatever is wrong with a file is one line.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synthaug.generators import checkpoint
from synthaug.generators import official as importing
from synthaug.generators.base import Layouts, SamplerOptions
from synthaug.generators.lostgan import network as lostgan

MODELS = [(1, 64), (1, 128), (2, 64), (2, 128), (2, 256), (2, 512)]
State = dict[str, Tensor]


def config_of(version: int, resolution: int, **sizes: Any) -> lostgan.Config:
    small = {"width": 2, "z_image": 8, "z_object": 6, "embedding": 5} | (
        {"mask_hidden": 7} if version == 2 else {}
    )
    return lostgan.Config(version=version, resolution=resolution, **small | sizes)


@functools.cache
def initial(config: lostgan.Config, labels: int) -> State:
    torch.manual_seed(0)
    return lostgan.LostGanGenerator(config, labels).state_dict()


def generator(config: lostgan.Config, labels: int = 12) -> State:
    return {key: value.clone() for key, value in initial(config, labels).items()}


def written(path: Path, state: Any, prefix: str = "module.") -> Path:
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, path)
    return path


def refused(path: Path, **options: Any) -> str:
    """The message of the refusal; asserts that it is one line and names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be a second line on the user's screen
        with pytest.raises(ValueError, match=path.name) as caught:
            importing.read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(expected: State, network: nn.Module) -> bool:
    actual = network.state_dict()
    return expected.keys() == actual.keys() and all(
        torch.equal(v, actual[k]) for k, v in expected.items()
    )


@pytest.mark.parametrize(("version", "resolution"), MODELS)
def test_every_generator_comes_back_from_an_official_file(
    version: int, resolution: int, tmp_path: Path
) -> None:
    config = config_of(version, resolution)
    state = generator(config)
    imported = importing.read(written(tmp_path / "netG.pth", state))
    assert config == imported.found.config
    assert str(imported).startswith(
        f"LostGAN version {version} at {resolution} pixels, width 2, 12 label rows: generator"
    )
    assert same(state, imported.network)
    assert imported.notes == ()


@pytest.mark.parametrize("resolution", [64, 128, 256, 512])
@pytest.mark.parametrize("prefix", ["", "obD.", "module.obD."])
def test_every_discriminator_comes_back(resolution: int, prefix: str, tmp_path: Path) -> None:
    state = lostgan.Discriminator(resolution, 2, 12).state_dict()
    imported = importing.read(written(tmp_path / "netD.pt", state, prefix))
    assert (resolution, 2, 12) == (
        imported.found.config.resolution,
        imported.found.config.width,
        imported.found.labels,
    )
    assert importing.write(imported, [f"c{i}" for i in range(11)], tmp_path / "d.safetensors")
    kept = load_file(tmp_path / "d.safetensors")
    assert kept.keys() == state.keys()
    assert all(torch.equal(value, kept[key]) for key, value in state.items())
    with pytest.raises(ValueError, match="not a generator checkpoint"):
        checkpoint.load(tmp_path / "d.safetensors")


def test_visual_genome_keeps_its_mask_heads_and_asks_for_its_background(tmp_path: Path) -> None:
    config = config_of(2, 128, mask_labels=184)
    path = written(tmp_path / "netG.pth", generator(config, 179))
    imported = importing.read(path)
    assert (config, 179) == (imported.found.config, imported.found.labels)
    assert "--background" in imported.notes[-1]
    told = importing.read(path, background=True)
    assert told.found.config.background
    assert told.notes == ()


@pytest.mark.parametrize("holder", ["state_dict", "model"])
def test_a_state_dict_may_lie_in_a_training_state(holder: str, tmp_path: Path) -> None:
    state = generator(config_of(2, 64))
    torch.save({"epoch": 3, holder: state}, tmp_path / "g.pt")
    assert same(state, importing.read(tmp_path / "g.pt").network)


def test_old_torch_files_and_safetensors_are_read(tmp_path: Path) -> None:
    state = generator(config_of(2, 64))
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(state, importing.read(tmp_path / "old.pth").network)
    save_file({f"module.{k}": v for k, v in state.items()}, tmp_path / "g.safetensors")
    assert same(state, importing.read(tmp_path / "g.safetensors").network)


def test_half_precision_becomes_single_and_is_said(tmp_path: Path) -> None:
    state = {
        k: v.half() if v.is_floating_point() else v for k, v in generator(config_of(2, 64)).items()
    }
    imported = importing.read(written(tmp_path / "g.pth", state))
    assert {v.dtype for v in imported.network.state_dict().values()} == {torch.float32, torch.int64}
    assert "float16" in imported.notes[0]


def test_unused_buffers_of_version_1_are_ignored_and_said(tmp_path: Path) -> None:
    state = generator(config_of(1, 64))
    extra = {
        f"res2.b{i}.{name}": torch.zeros(2)
        for i in (1, 2)
        for name in ("running_mean", "running_var")
    }
    counts = {f"res2.b{i}.num_batches_tracked": torch.tensor(0) for i in (1, 2)}
    imported = importing.read(written(tmp_path / "g.pth", state | extra | counts))
    assert same(state, imported.network)
    assert "ignored 6 buffers" in imported.notes[0]
    second = generator(config_of(2, 64)) | {"res2.b1.running_mean": torch.zeros(2)}
    assert "res2.b1.running_mean" in refused(written(tmp_path / "g2.pth", second))


def test_a_missing_weight_v_is_recomputed(tmp_path: Path) -> None:
    state = generator(config_of(2, 64))
    lacking = {k: v for k, v in state.items() if not k.endswith("weight_v")} | {
        "fc.weight": state["fc.weight_orig"]
    }
    imported = importing.read(written(tmp_path / "g.pth", lacking))
    v = imported.network.state_dict()["fc.weight_v"]
    expected = state["fc.weight_orig"].T @ state["fc.weight_u"]
    torch.testing.assert_close(v, expected / expected.norm())
    assert "recomputed" in imported.notes[0]


def test_names_of_the_newer_spectral_norm_are_translated(tmp_path: Path) -> None:
    """Not only names: a layer normalised by torch's newer interface gives the same numbers here."""
    state = generator(config_of(2, 64))
    names = {"weight_orig": "original", "weight_u": "0._u", "weight_v": "0._v"}
    newer = {}
    for key, value in state.items():
        stem, _, last = key.rpartition(".")
        newer[f"{stem}.parametrizations.weight.{names[last]}" if last in names else key] = value
    imported = importing.read(written(tmp_path / "g.pth", newer))
    assert same(state, imported.network)

    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(8, len(state["fc.bias"])))
    own = {k.removeprefix("fc."): v for k, v in newer.items() if k.startswith("fc.")}
    layer.load_state_dict(own)
    x = torch.randn(3, 8)
    torch.testing.assert_close(layer.eval()(x), imported.network.eval().get_submodule("fc")(x))


def test_production_runs_on_an_imported_generator(tmp_path: Path) -> None:
    imported = importing.read(written(tmp_path / "g.pth", generator(config_of(2, 64))))
    names = importing.class_names([], 12)
    assert importing.write(imported, names, tmp_path / "new" / "g.safetensors")
    system, network, header = checkpoint.load(tmp_path / "new" / "g.safetensors")
    layouts = Layouts.collate(
        [np.array([1, 11])],
        [np.array([[0, 0, 0.5, 0.5], [0.2, 0.2, 1, 1]], np.float32)],
        [np.ones(2, np.float32)],
    )
    made = system.sampler(network, SamplerOptions()).sample(layouts, [3])
    assert made.images.shape == (1, 64, 64, 3)
    assert header["classes"][0] == "class 1"
    assert header["source"]["file"] == "g.pth"
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["g.safetensors"]


def test_nothing_is_overwritten_but_the_same_may_be_written_again(tmp_path: Path) -> None:
    imported = importing.read(written(tmp_path / "g.pth", generator(config_of(2, 64))))
    out = tmp_path / "g.safetensors"
    assert importing.write(imported, importing.class_names([], 12), out)
    before = out.read_bytes()
    assert not importing.write(imported, importing.class_names([], 12), out)
    with pytest.raises(ValueError, match="another file"):
        importing.write(imported, [f"other {i}" for i in range(11)], out)
    assert before == out.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.pth", "g.safetensors"]
    assert "already" in refused(out)


SOME_KEYS = [
    "label_embedding.weight",
    "fc.weight_orig",
    "fc.weight_u",
    "fc.bias",
    "res1.conv1.weight_orig",
    "res2.b1.weight_proj.weight_orig",
    "res3.conv_mask.3.weight",
    "alpha2",
    "mask_regress.fc.weight_orig",
    "final.0.weight",
    "final.2.bias",
]


@pytest.mark.parametrize("key", SOME_KEYS)
def test_a_missing_or_misshapen_key_is_named(key: str, tmp_path: Path) -> None:
    state = generator(config_of(2, 64))
    lacking = {k: v for k, v in state.items() if k != key}
    assert f"'{key}'" in refused(written(tmp_path / "lacking.pth", lacking))
    misshapen = state | {key: torch.zeros(*state[key].shape, 2)}
    assert f"'{key}'" in refused(written(tmp_path / "misshapen.pth", misshapen))
    if key != "label_embedding.weight":  # its rows are the number of classes, whatever they are
        longer = state | {key: torch.cat([state[key], state[key]])}
        assert f"'{key}'" in refused(written(tmp_path / "longer.pth", longer))


@pytest.mark.parametrize("key", ["spare", "res9.conv1.bias", "fc.weight", "alpha4"])
def test_an_extra_key_is_named(key: str, tmp_path: Path) -> None:
    message = refused(
        written(tmp_path / "g.pth", generator(config_of(2, 64)) | {key: torch.zeros(2)})
    )
    assert f"'{key}'" in message or "blocks 'res*'" in message


def test_other_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for content, word in [
        (nn.Linear(2, 2).state_dict(), "'weight'"),
        ({}, "no state dict"),
        ([torch.zeros(2)], "no state dict"),
        ({"epoch": 3}, "'epoch'"),
        (torch.zeros(3), "no state dict"),
        ({"mask_regress.fc.bias": torch.zeros(2)}, "blocks"),
        ({"l_y.weight_orig": torch.zeros(2, 2)}, "image heads"),
    ]:
        torch.save(content, path)
        assert word in refused(path)
    path.write_bytes(b"")
    assert "the file is empty" in refused(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in refused(path)
    path.write_text("<html>404</html>")
    assert "a web page: the download failed" in refused(path)
    path.write_text("hello\nworld\n")
    refused(path)
    assert "no such file" in refused(tmp_path / "absent.pth")
    (tmp_path / "x.safetensors").write_text("{}")
    refused(tmp_path / "x.safetensors")
    save_file({}, tmp_path / "empty.safetensors")
    refused(tmp_path / "empty.safetensors")


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = generator(config_of(2, 64))
    state["res3.conv1.bias"][1] = float("nan")
    assert "'res3.conv1.bias'" in refused(written(tmp_path / "g.pth", state))
    state["res3.conv1.bias"] = torch.zeros(8, dtype=torch.int64)
    assert "'res3.conv1.bias'" in refused(written(tmp_path / "h.pth", state))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_one_line(zipped: bool, tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save(generator(config_of(2, 64)), whole, _use_new_zipfile_serialization=zipped)
    data = whole.getvalue()
    path = tmp_path / "cut.pth"
    for count in [
        1,
        2,
        5,
        50,
        300,
        5000,
        len(data) // 3,
        len(data) // 2,
        len(data) - 1000,
        len(data) - 1,
    ]:
        path.write_bytes(data[:count])
        refused(path)


class Bomb:
    """Unpickling this writes a file, where unpickling executes anything."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.trace, "executed"))


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "evil.pth"
    for zipped in (True, False):
        torch.save(
            {"state_dict": {"fc.weight": Bomb(trace)}}, path, _use_new_zipfile_serialization=zipped
        )
        assert "not executed" in refused(path)
    path.write_bytes(pickle.dumps(Bomb(trace)))
    refused(path)
    torch.save(nn.Linear(2, 2), path)  # a whole module is code too
    assert "save its state dict" in refused(path)
    assert not trace.exists()


def names_from(path: Path, content: Any, labels: int = 4) -> list[str]:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return importing.class_names([path], labels)


def test_class_names_come_in_several_forms(tmp_path: Path) -> None:
    path = tmp_path / "names"
    assert importing.class_names([], 3) == ["class 1", "class 2"]
    assert names_from(path, "cat\ndog \ntraffic light\n\n") == ["cat", "dog", "traffic light"]
    assert names_from(path, ["cat", "dog", "cow"]) == ["cat", "dog", "cow"]
    assert names_from(path, {"object_idx_to_name": ["__image__", "cat", "dog", "cow"]}) == [
        "cat",
        "dog",
        "cow",
    ]
    things = {"categories": [{"id": 3, "name": "cow"}, {"id": 1, "name": "cat"}], "images": []}
    assert names_from(path, things) == ["cat", "row 2", "cow"]
    stuff = tmp_path / "stuff.json"
    stuff.write_text(json.dumps({"categories": [{"id": 2, "name": "sky"}]}))
    assert importing.class_names([path, stuff], 4) == ["cat", "sky", "cow"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("cat\ndog\n", "2 names"),
        ("cat\ndog\ncat\n", "'cat'"),
        ("cat\n\ndog\n", "no list of names"),
        ({"names": []}, "no list of names"),
        ('{"categories": [', "no readable class names"),
        ({"categories": [{"id": 0, "name": "cat"}]}, "category id 0"),
        ({"categories": [{"id": 4, "name": "cat"}]}, "category id 4"),
        ({"categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]}, "category id 1"),
        ({"categories": [{"id": "1", "name": "cat"}]}, "no whole id"),
    ],
)
def test_class_names_that_do_not_fit_are_one_line(content: Any, word: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"names\.txt") as caught:
        names_from(tmp_path / "names.txt", content)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
