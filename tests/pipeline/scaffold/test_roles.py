"""Each data set gets the role that its name and its family say, or the user."""

from __future__ import annotations

import pytest

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.formats.recognize import FoundSet, split_of
from synthaug.pipeline.scaffold.roles import Roles, choose_roles


def coco(name: str, labels: bool = True, kind: str = "coco") -> FoundSet:
    """Return the set of a file in the folder `annotations`."""
    told, rest = split_of(name.removesuffix(".json"))
    place = f"annotations/{name}"
    return FoundSet(f"{kind}:{place}", place, told, f"{kind}:annotations/{rest}", labels)


def panoptic(name: str) -> FoundSet:
    return coco(name, kind="coco_panoptic")


def references(roles: Roles) -> tuple[str, ...]:
    """Return the names of the files of the four roles."""
    chosen = (roles.labelled, roles.unlabelled, roles.validation, roles.test)
    return tuple(role.reference.rpartition("/")[2] for role in chosen)


def test_names_tell_the_roles() -> None:
    found = [coco("train.json"), coco("val.json"), coco("test.json")]
    roles = choose_roles(found, {})
    assert ("train.json", "", "val.json", "test.json") == references(roles)
    assert "its name says train" == roles.labelled.why
    assert () == roles.unused


def test_the_only_labelled_set_is_that_whatever_its_name() -> None:
    roles = choose_roles([coco("val.json"), coco("more.json", labels=False)], {})
    assert ("val.json", "more.json", "", "") == references(roles)
    assert "the only set with labels" == roles.labelled.why
    assert "it has no labels" == roles.unlabelled.why


def test_halves_with_and_without_labels_come_before_the_whole_and_its_maps() -> None:
    halves = [coco("train_labelled.json"), coco("train_unlabelled.json", labels=False)]
    found = [panoptic("panoptic_train.json"), coco("train.json"), *halves, coco("val.json")]
    roles = choose_roles(found, {})
    assert ("train_labelled.json", "train_unlabelled.json", "val.json", "") == references(roles)
    assert ("coco_panoptic:annotations/panoptic_train.json", "coco:annotations/train.json") == (
        roles.unused
    )


def test_maps_come_before_boxes_and_validation_is_of_the_same_family() -> None:
    found = [coco("instances_train.json"), coco("instances_val.json")]
    found += [panoptic("panoptic_train.json"), panoptic("panoptic_val.json")]
    roles = choose_roles(found, {})
    assert ("panoptic_train.json", "", "panoptic_val.json", "") == references(roles)


def test_what_could_be_either_is_asked() -> None:
    found = [coco("cats.json"), coco("dogs.json")]
    with pytest.raises(JobError, match=r"could be the labelled images .*cats.*dogs.*--labelled"):
        choose_roles(found, {})
    roles = choose_roles(found, {"labelled": "coco:annotations/dogs.json"})
    assert "dogs.json" == references(roles)[0]
    assert "as --labelled says" == roles.labelled.why
    both = [coco("train.json"), coco("a_val.json"), coco("b_val.json")]
    with pytest.raises(JobError, match=r"could be the validation images .*--validation"):
        choose_roles(both, {})
    tests = [coco("train.json"), coco("a_test.json"), coco("b_test.json")]
    assert ("train.json", "", "", "") == references(choose_roles(tests, {}))


def test_a_set_without_any_label_is_no_start() -> None:
    with pytest.raises(JobError, match=r"a\.json has no labels; name a labelled set"):
        choose_roles([coco("a.json", labels=False)], {})


def test_nothing_is_learned_from_images_of_a_test_without_labels() -> None:
    roles = choose_roles([coco("train.json"), coco("test.json", labels=False)], {})
    assert ("train.json", "", "", "") == references(roles)
    assert ("coco:annotations/test.json",) == roles.unused


def test_several_sets_without_labels_are_one() -> None:
    bare = [coco("a.json", labels=False), coco("b.json", labels=False)]
    roles = choose_roles([coco("train.json"), *bare], {})
    assert "coco:annotations/a.json + coco:annotations/b.json" == roles.unlabelled.reference
