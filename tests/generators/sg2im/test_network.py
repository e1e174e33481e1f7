"""sg2im's network against a direct evaluation of its equations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.sg2im.network import (
    FILLED,
    GraphConv,
    RefinementNetwork,
    Sg2ImGenerator,
)
from tests.generators.sg2im.scenes import graphs_of, network_of, noise_of


def test_an_object_takes_the_mean_of_its_candidates_in_both_roles() -> None:
    torch.manual_seed(0)
    layer = GraphConv(4, 7)
    objects, relations = torch.randn(4, 4), torch.randn(3, 4)
    triples = torch.tensor([[0, 1, 1], [2, 0, 1], [1, 2, 0]])
    made, made_relations = layer(objects, relations, triples)
    candidates: list[list[Tensor]] = [[] for _ in range(4)]
    for number, (subject, _, target) in enumerate(triples.tolist()):
        joined = torch.cat([objects[subject], relations[number], objects[target]])
        out = layer.net1(joined)
        candidates[subject].append(out[:7])
        candidates[target].append(out[11:])
        torch.testing.assert_close(made_relations[number], out[7:11])
    for number, own in enumerate(candidates):
        mean = torch.zeros(7) if not own else torch.stack(own).mean(0)
        torch.testing.assert_close(made[number], layer.net2(mean))


def pasted(values: Tensor, box: Tensor, side: int) -> Tensor:
    """Values [D, M, M] in a box, by the framework's sampling."""
    points = torch.linspace(0, 1, side)
    x = (points - box[0]) / (box[2] - box[0])
    y = (points - box[1]) / (box[3] - box[1])
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) * 2 - 1
    return F.grid_sample(values[None], grid[None], align_corners=True)[0]


def directly(network: Sg2ImGenerator, masks: Tensor | None) -> Tensor:
    """Images of graphs, one object and one level at a time."""
    graphs = graphs_of(masks=4)
    vectors = network.object_vectors(graphs)
    side = network.config.resolution
    noise = noise_of(network, 3)
    shapes = masks
    if shapes is None:
        shapes = torch.ones(len(vectors), FILLED, FILLED)
        if network.mask_net is not None:
            shapes = torch.sigmoid(network.mask_net(vectors[:, :, None, None])[:, 0])
    layout = torch.zeros(3, vectors.shape[1], side, side)
    for row, image in enumerate(graphs.image_of.tolist()):
        values = vectors[row][:, None, None] * shapes[row]
        layout[image] += pasted(values, graphs.boxes[row], side)
    layout = torch.cat([layout, noise], 1)
    cascade: RefinementNetwork = network.refinement_net
    out = torch.zeros(3, 1, 2, 2)
    for module in cascade.refinement_modules:
        out = out.repeat_interleave(2, 2).repeat_interleave(2, 3)
        pooled = F.adaptive_avg_pool2d(layout, out.shape[-1])
        out = module.net(torch.cat([pooled, out], 1))
    return cascade.output_conv(out)


def test_images_are_those_of_the_equations_with_given_predicted_and_filled_masks() -> None:
    graphs = graphs_of(masks=4)
    with torch.no_grad():
        for mask_side, masks in ((4, graphs.masks), (4, None), (0, None)):
            network = network_of(mask_side=mask_side)
            painted = network(graphs, noise_of(network, 3), graphs.boxes, masks)
            expected = directly(network, masks)
            torch.testing.assert_close(painted.images, expected, rtol=1e-4, atol=1e-5)


def test_masks_that_are_not_known_are_the_predicted_ones() -> None:
    network, graphs = network_of(mask_side=4), graphs_of(masks=4)
    assert graphs.masks is not None
    some = graphs.masks.clone()
    some[1] = torch.nan
    with torch.no_grad():
        mixed = network(graphs, noise_of(network, 3), graphs.boxes, some).placed
        given = network(graphs, noise_of(network, 3), graphs.boxes, graphs.masks).placed
        predicted = network(graphs, noise_of(network, 3), graphs.boxes).placed
    assert torch.equal(mixed[1], predicted[1])
    assert torch.equal(mixed[0], given[0])
    assert not torch.equal(given[1], predicted[1])


def test_norms_stay_frozen_in_training_once_they_are() -> None:
    network = network_of()
    assert network.train().refinement_net.training
    network.freeze_norms(True)
    assert not network.train().refinement_net.training
    network.freeze_norms(False)
    assert network.train().training


def test_published_sizes_have_the_published_number_of_parameters() -> None:
    """28,158,223 with COCO-Stuff's labels; 139,271 are of a classifier that is left out."""
    from synthaug.generators.sg2im.config import Config

    with torch.device("meta"):
        network = Sg2ImGenerator(Config(), 184)
    assert sum(p.numel() for p in network.parameters()) == 28_158_223 - 139_271
