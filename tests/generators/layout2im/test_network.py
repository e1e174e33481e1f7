"""Layout2Im's network against a direct evaluation, one object and one image at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.layout2im.config import Config
from synthaug.generators.layout2im.network import ClassNorm, ConvLstm, Layout2ImGenerator
from synthaug.generators.layout2im.rows import rasters
from tests.generators.layout2im.scenes import inputs_of, network_of


def test_gains_and_biases_belong_to_the_class() -> None:
    torch.manual_seed(0)
    norm = ClassNorm(3, 5).eval()
    x, labels = torch.randn(2, 3, 4, 4), torch.tensor([4, 1])
    made = norm(x, labels)
    for row, label in enumerate(labels.tolist()):
        gain, bias = norm.embed.weight[label].chunk(2)
        expected = norm.bn(x)[row] * gain[:, None, None] + bias[:, None, None]
        torch.testing.assert_close(made[row], expected)


def walked(lstm: ConvLstm, steps: Tensor) -> Tensor:
    """The last hidden map of one image's objects [T, C, H, W], cell by cell."""
    inputs = list(steps)
    hidden = steps.new_zeros(0)
    for cell in lstm.cell_list:
        hidden = steps.new_zeros(cell.width, *steps.shape[2:])
        memory = hidden
        outputs = []
        for x in inputs:
            gates = cell.conv(torch.cat([x, hidden])[None])[0]
            write, keep, show, value = gates.chunk(4)
            memory = torch.sigmoid(keep) * memory + torch.sigmoid(write) * torch.tanh(value)
            hidden = torch.sigmoid(show) * torch.tanh(memory)
            outputs.append(hidden)
        inputs = outputs
    return hidden


def test_the_lstm_is_read_at_the_last_object_of_each_image() -> None:
    torch.manual_seed(0)
    lstm = ConvLstm(5, (4, 3))
    counts = torch.tensor([1, 3, 0, 2])
    steps = torch.randn(4, 3, 5, 4, 4)
    with torch.no_grad():
        made = lstm(steps, counts)
        for image, count in enumerate(counts.tolist()):
            if count:
                expected = walked(lstm, steps[image, :count])
                torch.testing.assert_close(made[image], expected, rtol=1e-5, atol=1e-6)
    assert not made[2].any()
    assert not lstm(torch.zeros(2, 0, 5, 4, 4), torch.zeros(2, dtype=torch.int64)).any()


def directly(network: Layout2ImGenerator, counts: tuple[int, ...]) -> Tensor:
    """Images, each alone and object by object."""
    rows, z = inputs_of(network, counts)
    encoder, decoder = network.layout_encoder, network.decoder
    masks = rasters(rows.boxes, 64)
    maps = []
    for row in range(len(z)):
        label = rows.labels[row : row + 1]
        vector = torch.cat([encoder.embedding(label)[0], z[row]])
        x = (vector[:, None, None] * masks[row])[None]
        for conv, norm in ((encoder.c1, encoder.bn1), (encoder.c2, encoder.bn2)):
            x = F.relu(norm(conv(x), label))
        x = F.relu(encoder.bn3(encoder.c3(x), label))
        maps.append(encoder.bn4(encoder.c4(x), label)[0])
    images = []
    first = 0
    for count in counts:
        own = maps[first : first + count]
        hidden = torch.zeros(network.config.width, 8, 8)
        if own:
            hidden = walked(encoder.clstm, torch.stack(own))
        images.append(decoder(encoder.residual(hidden[None]))[0])
        first += count
    return torch.stack(images)


def test_images_are_those_of_the_equations() -> None:
    network = network_of()
    counts = (1, 3, 2, 0)  # from most to fewest they are not where they were, nor there and back
    rows, z = inputs_of(network, counts)
    with torch.no_grad():
        made = network(rows, z).images
        torch.testing.assert_close(made, directly(network, counts), rtol=1e-4, atol=1e-5)


def test_the_first_convolution_makes_66_pixels_of_64() -> None:
    network = network_of()
    sides = []
    network.layout_encoder.c1.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
    rows, z = inputs_of(network, (2,))
    assert network(rows, z).images.shape == (1, 3, 64, 64)
    assert sides == [66]


def test_the_order_of_objects_matters_and_images_do_not_meet() -> None:
    network = network_of()
    rows, z = inputs_of(network, (2, 2))
    with torch.no_grad():
        images = network(rows, z).images
        swapped = z.clone()
        swapped[[0, 1]] = z[[1, 0]]
        other = network(rows, swapped).images
    assert (images[0] - other[0]).abs().max() > 1e-3
    torch.testing.assert_close(images[1], other[1], rtol=0, atol=1e-6)


def test_with_object_wise_attention_vectors_fill_masks_of_their_own() -> None:
    network = network_of(owa=True)
    rows, z = inputs_of(network, (2,))
    with torch.no_grad():
        masks = network(rows, z).masks
        others = network(rows, z + 1).masks
    assert 0 < masks.max() < 1
    assert not masks[1, :4].any()  # far above its box
    assert (masks - others).abs().max() > 1e-3


def test_published_sizes_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = Layout2ImGenerator(Config(), 184)
    counts = []
    for part in (network.crop_encoder, network.layout_encoder, network.decoder):
        counts.append(sum(p.numel() for p in part.parameters()))
    assert counts == [12_011_840, 13_810_688, 1_862_211]
