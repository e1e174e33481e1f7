"""Zoo files: arrays come out whole, and nothing that a pickle asks for is ever called."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthaug.detectors import detectron2_zoo as zoo
from synthaug.detectors.weights import read_tensors
from synthaug.published.pickles import PERMITTED
from tests.detectors.painted import needs


class Evil:
    """What, unpickled as usual, makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@given(
    protocol=st.integers(0, 5),
    kind=st.sampled_from(["f4", "f8", "<f2", ">f4", "i8", "u1", "?"]),
    shape=st.lists(st.integers(0, 4), max_size=4),
    order=st.sampled_from("CF"),
)
def test_arrays_of_every_kind_come_back_whatever_the_protocol(
    tmp_path_factory, protocol, kind, shape, order
):
    values = (np.random.default_rng(0).normal(0, 9, shape) % 7).astype(kind).copy(order)
    path = tmp_path_factory.mktemp("zoo") / "m.pkl"
    path.write_bytes(
        pickle.dumps({"model": {"a.weight": values, "n": 3}, "__author__": "x"}, protocol)
    )
    read = zoo.read_pickle(path)
    assert list(read) == ["a.weight"]
    np.testing.assert_array_equal(values, read["a.weight"].numpy())
    assert read["a.weight"].numpy().dtype == values.dtype.newbyteorder("=")


def hostile(touched: Path) -> dict[str, bytes]:
    """Pickles that call, import or write what they should not."""
    name = repr(str(touched)).encode()
    text = b"V" + str(touched).encode() + b"\n"
    return {
        "reduce": pickle.dumps({"model": {"w": Evil(touched)}}),
        "beside the arrays": pickle.dumps({"model": {"w": np.ones(2)}, "extra": [Evil(touched)]}),
        "system": b"cos\nsystem\n(S'touch " + name[1:-1] + b"'\ntR.",
        "eval": b"c__builtin__\neval\n(S'open(" + name.replace(b"'", b'"') + b', "w")' + b"'\ntR.",
        "getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
        "dotted": pickle.dumps(np.ones(2), 4).replace(b"ndarray", b"fromfil"),
        "inst": b"(S'touch " + name[1:-1] + b"'\nios\nsystem\n.",
        "numpy load": b"cnumpy\nload\n(" + text + b"tR.",
        "memmap": b"cnumpy\nmemmap\n(" + text + b"S'u1'\nS'w+'\nI0\n(I8\nttR.",
        "persistent": b"Pid\n.",
        "extension": b"\x82\x01.",
        "objects": pickle.dumps({"w": np.array([Evil(touched)], object)}),
        "state of a class": b"\x80\x02cnumpy\nndarray\n}U\x08__init__K\x01sb.",
        "slots of a class": b"\x80\x02cnumpy\ndtype\nN}U\x05dtypeK\x01s\x86b.",
        "slots of a dict": b"\x80\x02ccollections\nOrderedDict\nN}U\x03getK\x01s\x86b.",
        "slots of bytes": b"\x80\x02c_codecs\nencode\nN}U\x04joinK\x01s\x86b.",
        "too large": pickle.dumps({"w": np.ones(3, np.float32)}, 2).replace(
            b"K\x03\x85", b"K\xff\x85"
        ),
        "cut": pickle.dumps({"model": {"w": np.ones(30)}})[:-40],
        "no arrays": pickle.dumps({"model": {"w": 3}}),
        "a list": pickle.dumps([np.ones(3)]),
        "nothing": b"",
        "noise": bytes(range(256)),
    }


@pytest.mark.parametrize("case", sorted(hostile(Path("x"))))
def test_a_hostile_pickle_is_refused_in_one_sentence_and_does_nothing(tmp_path, case):
    touched, path = tmp_path / "touched", tmp_path / "evil.pkl"
    path.write_bytes(hostile(touched)[case])
    kinds = {kind: dict(vars(kind)) for kind in PERMITTED.values()}
    with pytest.raises(ValueError, match=r"evil\.pkl") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert not touched.exists()
    assert kinds == {kind: dict(vars(kind)) for kind in PERMITTED.values()}


@given(st.binary(max_size=200))
def test_noise_never_gets_past_the_reader(tmp_path_factory, noise):
    path = tmp_path_factory.mktemp("zoo") / "m.pkl"
    path.write_bytes(b"\x80\x04" + noise)
    with pytest.raises(ValueError, match=r"m\.pkl"):
        zoo.read_pickle(path)


def caffe2_names() -> list[str]:
    """The blobs of MSRA's ResNet-50 as Caffe2 has them."""
    names = ["conv1_w", "conv1_b", "res_conv1_bn_s", "res_conv1_bn_b", "fc1000_w", "fc1000_b"]
    for stage, blocks in zip(range(2, 6), (3, 4, 6, 3), strict=True):
        for block in range(blocks):
            branches = ["branch1"] * (block == 0) + ["branch2a", "branch2b", "branch2c"]
            names += [
                f"res{stage}_{block}_{b}_{part}" for b in branches for part in ("w", "bn_s", "bn_b")
            ]
    return names


def test_caffe2s_resnet_gets_detectron2s_names_and_a_neutral_variance():
    blobs = {name: torch.full((2,), float(i)) for i, name in enumerate(caffe2_names())}
    named = zoo.to_detectron2(blobs)
    assert (
        len(named) == 53 * 5
    )  # of each convolution the weights, and scale, shift, mean and variance
    assert torch.equal(
        blobs["res4_5_branch2c_bn_s"], named["backbone.bottom_up.res4.5.conv3.norm.weight"]
    )
    assert torch.equal(
        blobs["res2_0_branch1_w"], named["backbone.bottom_up.res2.0.shortcut.weight"]
    )
    assert torch.equal(blobs["conv1_w"], named["backbone.bottom_up.stem.conv1.weight"])
    for name in [n for n in named if n.endswith("running_var")]:
        assert torch.allclose(named[name] + 1e-5, torch.ones(2))


def test_its_names_are_those_detectron2_gives():
    needs("detectron2")
    convert = importlib.import_module(
        "detectron2.checkpoint.c2_model_loading"
    ).convert_c2_detectron_names
    theirs, _ = convert({name: torch.zeros(2) for name in caffe2_names()})
    ours = {
        name
        for name in zoo.to_detectron2({n: torch.zeros(2) for n in caffe2_names()})
        if "running" not in name
    }
    # Theirs keeps the classifier and conv1's bias, which its networks then ignore.
    assert {name.removeprefix("backbone.bottom_up.") for name in ours} == {
        name for name in theirs if not name.startswith(("fc1000", "stem.fc", "stem.conv1.bias"))
    }
