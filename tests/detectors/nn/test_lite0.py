"""EfficientNet-Lite0: the published network's answers, its maps, and which of its weights learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from synthaug.detectors.nn import lite0, lite0_weights

# Logits of the published PyTorch port (efficientnet-lite-pytorch 0.1.0, efficientnet-lite0) on
# `picture`.
TOP_FIVE = {417: 11.10423, 619: 6.91727, 854: 6.81662, 714: 6.07546, 418: 5.9663}
EVERY_HUNDREDTH = [
    *(-0.46231, -1.17955, 0.99987, -1.0377, -0.22105),
    *(-1.24891, -0.4743, -1.40702, 0.33109, 5.85939),
]


def picture() -> Tensor:
    """A disc on stripes [1, 3, 224, 224], as the network wants its pixels."""
    y, x = np.mgrid[:224, :224]
    red = (5 * x + 3 * y) % 256
    green = 255 * ((x - 112) ** 2 + (y - 100) ** 2 < 70**2)
    blue = (x * y // 64) % 256
    pixels = torch.from_numpy(np.stack([red, green, blue]).astype(np.float32)) / 255
    mean, std = torch.tensor(lite0.MEAN), torch.tensor(lite0.STD)
    normalized: Tensor = (pixels - mean[:, None, None]) / std[:, None, None]
    return normalized[None]


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return lite0_weights.read_published()[1]


def body_of(published: dict[str, Tensor], strides: tuple[int, ...] = (32,)) -> lite0.Lite0Body:
    body = lite0.Lite0Body(strides)
    names = lite0_weights.body_names(published)
    missing, unexpected = body.load_state_dict(names, strict=False)
    counters = all(name.endswith("num_batches_tracked") for name in unexpected)
    assert not missing
    assert counters
    return body.eval()


@torch.no_grad()
def test_the_published_weights_give_the_published_logits(published: dict[str, Tensor]) -> None:
    """The body's last map, through the file's own head, says what the other implementation says."""
    (last,) = body_of(published)(picture()).values()
    head = F.conv2d(last, published["_conv_head.weight"])
    statistics = [published[f"_bn1.{name}"] for name in ("running_mean", "running_var")]
    affine = [published[f"_bn1.{name}"] for name in ("weight", "bias")]
    head = F.relu6(F.batch_norm(head, *statistics, *affine, eps=lite0.EPS))
    logits = F.linear(head.mean((2, 3)), published["_fc.weight"], published["_fc.bias"])[0]
    values, classes = logits.topk(5)
    assert classes.tolist() == list(TOP_FIVE)
    np.testing.assert_allclose(values, list(TOP_FIVE.values()), atol=1e-3)
    np.testing.assert_allclose(logits[::100], EVERY_HUNDREDTH, atol=1e-3)


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8, 16, 32), (8, 16)])
def test_maps_come_finest_first_with_the_strides_asked_for(strides: tuple[int, ...]) -> None:
    body = lite0.Lite0Body(strides)
    maps = body(torch.rand(2, 3, 64, 96))
    channels = {4: 24, 8: 40, 16: 112, 32: 320}
    assert body.out_channels == [channels[stride] for stride in strides]
    expected = [(2, channels[stride], 64 // stride, 96 // stride) for stride in strides]
    assert [tuple(level.shape) for level in maps.values()] == expected
    assert list(maps) == [str(i) for i in range(len(strides))]


def test_a_convolution_with_its_norm_is_the_two_one_after_the_other() -> None:
    torch.manual_seed(0)
    layer = lite0.ConvNorm(4, 4, 5, 2, groups=4)
    for buffer in layer.norm.buffers():
        torch.nn.init.uniform_(buffer, 0.5, 1.5)
    x = torch.randn(2, 4, 8, 6)
    same = F.pad(x, (1, 2, 1, 2))  # as TensorFlow pads: less before than behind
    convolved = F.conv2d(same, layer.conv.weight, stride=2, groups=4)
    torch.testing.assert_close(layer(x), F.relu6(layer.norm(convolved)))


def test_the_coarsest_parts_learn_but_no_norm_and_no_depthwise_kernel() -> None:
    with torch.device("meta"):
        body = lite0.Lite0Body((8, 16, 32), learning_parts=2)
        whole = lite0.Lite0Body((8, 16, 32))
    learned = [name for name, p in body.named_parameters() if p.requires_grad]
    blocks = {int(name.split(".")[1]) for name in learned}
    assert blocks == set(range(5, 16))  # strides 16 and 32
    assert {name.split(".")[2] for name in learned} == {"expand", "project"}
    fixed = {name for name, p in whole.named_parameters() if not p.requires_grad}
    assert all(".depthwise." in name for name in fixed)
    assert len(fixed) == 16


def test_gradients_in_bfloat16_are_near_those_in_full_precision() -> None:
    """Those of the strided depthwise convolutions too, which are taken in full precision."""
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        body = lite0.Lite0Body((16,), learning_parts=4)
        images = torch.rand(1, 3, 64, 64)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            (level,) = body(images).values()
        level.float().square().sum().backward()
        weight = body.get_parameter("blocks.1.project.conv.weight")
        assert weight.grad is not None
        gradients.append(weight.grad.flatten())
    exact, rounded = gradients
    assert not torch.equal(exact, rounded)
    assert float(F.cosine_similarity(exact, rounded, dim=0)) > 0.98
