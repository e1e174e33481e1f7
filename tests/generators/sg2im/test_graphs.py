"""Scene graphs of layouts: rows, the whole image, and relations by geometry or given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthaug.generators.base import Layouts
from synthaug.generators.sg2im.config import GEOMETRIC
from synthaug.generators.sg2im.graphs import (
    centers,
    geometric_triples,
    relation_between,
    scene_graphs,
)
from tests.generators.sg2im.scenes import BOXES, graphs_of, layouts_of

SMALL = (0.4, 0.4, 0.6, 0.6)


@pytest.mark.parametrize(
    ("subject", "target", "relation"),
    [
        ((0.0, 0.4, 0.2, 0.6), SMALL, "left of"),
        ((0.8, 0.4, 1.0, 0.6), SMALL, "right of"),
        ((0.4, 0.0, 0.6, 0.2), SMALL, "above"),
        ((0.4, 0.8, 0.6, 1.0), SMALL, "below"),
        ((0.5, 0.5, 0.55, 0.55), SMALL, "inside"),
        ((0.0, 0.0, 1.0, 1.0), SMALL, "surrounding"),
        ((0.4, 0.4, 0.5, 0.5), SMALL, "left of"),  # touching edges is not inside; up and left
    ],
)
def test_relations_are_told_by_boxes_and_middles(
    subject: tuple[float, ...], target: tuple[float, ...], relation: str
) -> None:
    middles = centers(torch.tensor([subject, target]), None)
    told = relation_between(subject, target, *middles)
    if relation == "left of" and subject[1] == target[1]:
        assert told in ("left of", "above")  # on the diagonal
    else:
        assert relation == told


def test_the_middle_of_an_object_is_that_of_its_mask() -> None:
    mask = torch.zeros(2, 4, 4)
    mask[0, 0, 3] = 1  # the upper right corner
    box = torch.tensor([[0.0, 0.0, 0.5, 1.0]]).expand(2, 4)
    assert centers(box, mask) == [(0.5, 0.0), (0.25, 0.5)]  # an empty one has its box's


def test_every_object_has_a_relation_to_another_and_draws_which() -> None:
    boxes = BOXES.tolist()
    middles = centers(torch.from_numpy(BOXES), None)
    triples = geometric_triples(boxes, middles, [(0.0, 0.1), (0.9, 0.1), (0.6, 0.9)])
    assert [(s, o) for s, _, o in triples] == [(0, 1), (1, 2), (1, 2)]  # the last one turned
    for subject, relation, target in triples:
        told = relation_between(boxes[subject], boxes[target], middles[subject], middles[target])
        assert told == GEOMETRIC[relation]


def test_rows_are_the_objects_and_the_whole_image_of_every_image() -> None:
    graphs = graphs_of((3, 1, 0), masks=4)
    assert graphs.labels.tolist() == [1, 2, 3, 0, 1, 0, 0]
    assert graphs.image_of.tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert graphs.boxes[[3, 5, 6]].tolist() == [[0, 0, 1, 1]] * 3
    assert graphs.masks is not None
    assert graphs.masks[[3, 5, 6]].eq(1).all()
    in_image = [row for row in graphs.triples.tolist() if row[1] == 0]
    assert in_image == [[0, 0, 3], [1, 0, 3], [2, 0, 3], [4, 0, 5]]
    others = [row for row in graphs.triples.tolist() if row[1] > 0]
    assert len(others) == 3
    assert all(max(row[0], row[2]) < 3 for row in others)


def test_without_numbers_objects_are_related_to_their_image_alone() -> None:
    assert scene_graphs(layouts_of((2,))).triples.tolist() == [[0, 0, 2], [1, 0, 2]]


def test_given_relations_are_taken_without_their_padding() -> None:
    layouts = layouts_of((1, 3))
    relations = torch.tensor([[[0, 0, 0], [0, 0, 0]], [[0, 9, 2], [0, 0, 0]]])
    given = replace(layouts, relations=relations)
    for points in (lambda _, count: torch.rand(count, 2), None):
        graphs = scene_graphs(given, points)
        assert [row for row in graphs.triples.tolist() if row[1]] == [[2, 9, 4]]


def test_relations_are_padded_and_cut_with_the_rest() -> None:
    rows = [np.array([[0, 3, 1]]), np.zeros((0, 3), np.int64)]
    boxes = [BOXES[:2], BOXES[:1]]
    labels = [np.array([1, 2]), np.array([3])]
    scores = [np.ones(2, np.float32), np.ones(1, np.float32)]
    layouts = Layouts.collate(labels, boxes, scores, relations=rows)
    assert layouts.relations is not None
    assert layouts.relations.tolist() == [[[0, 3, 1]], [[0, 0, 0]]]
