"""Weight files: what fits is taken, what does not is named, and nothing in a file runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import resnet50

from synthaug.detectors import weights
from synthaug.detectors.torchvision_rcnn import Config, build, load

TINY = Config(
    width=8, fpn_channels=16, image_size=64, max_size=128, anchor_sizes=(16, 32), box_head=32
)


def broken_files(good: Path) -> dict[str, Path]:
    """One file per way of being wrong, by the words its error must have."""
    header = json.loads(safe_open(good, "pt").metadata()["synthaug"])
    tensors = load_file(good)
    paths = {
        word: good.with_name(f"{i}.safetensors")
        for i, word in enumerate(("complete", "gan", "lacks", "unknown to"))
    }
    paths["complete"].write_bytes(good.read_bytes()[:-100])
    save_file(tensors, paths["gan"], {"synthaug": json.dumps({**header, "kind": "gan"})})
    save_file(dict(list(tensors.items())[1:]), paths["lacks"], {"synthaug": json.dumps(header)})
    save_file(
        tensors,
        paths["unknown to"],
        {"synthaug": json.dumps({**header, "config": {"nonsense": 1}})},
    )
    return {**paths, "no such": good.with_name("absent.safetensors")}


def test_a_file_that_is_no_detector_gives_one_sentence_with_its_name(tmp_path):
    build(TINY, 2).save(tmp_path / "good.safetensors", {})
    for word, path in broken_files(tmp_path / "good.safetensors").items():
        with pytest.raises(ValueError, match=word) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_metadata_may_not_hide_what_the_file_is(tmp_path):
    with pytest.raises(ValueError, match="'kind'"):
        build(TINY, 2).save(tmp_path / "d.safetensors", {"kind": "gan"})


def test_weights_for_other_classes_fit_but_the_heads(tmp_path):
    build(TINY, 5, seed=1).save(tmp_path / "five.safetensors", {})
    detector = build(replace(TINY, weights=str(tmp_path / "five.safetensors")), 2)
    expected = load(tmp_path / "five.safetensors").model.state_dict()["backbone.body.stem.0.weight"]
    assert torch.equal(expected, detector.model.state_dict()["backbone.body.stem.0.weight"])
    assert "fresh: roi_heads.box_predictor.cls_score.weight" in detector.loaded
    assert "rpn" not in detector.loaded


def test_weights_that_do_not_fit_or_cannot_be_read_give_one_sentence(tmp_path):
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)) * 4)
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    build(replace(TINY, width=12), 2).save(tmp_path / "wide.safetensors", {})
    whole = (tmp_path / "wide.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    names = (
        "noise.pth",
        "other.pth",
        "list.pth",
        "wide.safetensors",
        "cut.safetensors",
        "absent.pth",
    )
    for name in names:
        with pytest.raises(ValueError, match=name) as caught:
            build(replace(TINY, weights=str(tmp_path / name)), 2)
        assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth"):
        build(replace(TINY, weights=str(tmp_path / "evil.pth")), 2)
    assert not (tmp_path / "touched").exists()


def test_a_plain_resnet50_fills_the_body_and_the_coco_file_switches_eps_off(tmp_path):
    torch.save(resnet50(weights=None).state_dict(), tmp_path / "r50.pth")
    plain = build(Config(backbone="resnet50", weights=str(tmp_path / "r50.pth")), 2)
    assert plain.config.norm_eps == 1e-5
    assert "backbone.body" not in plain.loaded.partition("fresh")[2]
    frozen = [name for name, p in plain.model.named_parameters() if not p.requires_grad]
    assert {"conv1", "layer1"} == {name.split(".")[2] for name in frozen}
    save_file(
        {
            **{
                k: v.contiguous()
                for k, v in plain.model.state_dict().items()
                if "box_predictor" not in k
            },
            "roi_heads.box_predictor.cls_score.bias": torch.zeros(91),
        },
        tmp_path / "coco.safetensors",
    )
    coco = build(Config(backbone="resnet50", weights=str(tmp_path / "coco.safetensors")), 2)
    assert coco.config.norm_eps == 0.0
    assert "rpn" not in coco.loaded


def test_a_renamed_key_keeps_its_old_name_in_files(tmp_path):
    path = tmp_path / "detector.safetensors"
    weights.write_checkpoint(path, nn.Linear(1, 1), "torchvision", {"color_jitter": 0.25}, 2, {})
    with safe_open(path, "pt") as file:
        written = json.loads(file.metadata()[weights.HEADER])
    assert written["config"] == {"colour_jitter": 0.25}
    assert weights.read_header(path)["config"] == {"color_jitter": 0.25}


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_a_file_that_says_bf16_is_read_as_its_precision(tmp_path, bf16, precision):
    path = tmp_path / "detector.safetensors"
    weights.write_checkpoint(path, nn.Linear(1, 1), "torchvision", {"bf16": bf16}, 2, {})
    assert weights.read_header(path)["config"] == {"precision": precision}
