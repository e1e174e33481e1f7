"""What each data set is for: to learn, to label, to measure or to confirm on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.formats.recognize import (
    LABELLED,
    TEST,
    TRAIN,
    UNLABELLED,
    UNTOLD,
    VALIDATION,
    FoundSet,
)

_WITH_MAPS = ("coco_panoptic", "cityscapes", "coco_stuff_maps")
_MEASURED = (VALIDATION, TEST)  # nothing is learned from their images, labels or not
_USUAL_NAME = "instances"  # of COCO's files of things, beside those of captions and key points


@dataclass(frozen=True)
class Role:
    """The data set of one role, and why it is that."""

    reference: str = ""  # "" = none
    why: str = ""


@dataclass(frozen=True)
class Roles:
    """The data sets of a job."""

    labelled: Role
    unlabelled: Role = Role()
    validation: Role = Role()
    test: Role = Role()
    unused: tuple[str, ...] = field(default=())  # references


def choose_roles(found: Sequence[FoundSet], told: dict[str, str]) -> Roles:
    """Return the role of each set: as the user told, else as their names do.

    `told` has references by role. Raises JobError where the labelled one cannot be told.
    """
    labelled = told.get(LABELLED)
    if labelled is None:
        chosen = _labelled(found)
        why = "the only set with labels"
        if sum(one.has_labels for one in found) > 1:
            why = _why(chosen)
        role = Role(chosen.reference, why)
    else:
        chosen = next((one for one in found if one.reference == labelled), FoundSet("", "", "", ""))
        role = Role(labelled, "as --labelled says")
    others = [one for one in found if one.reference != role.reference]
    roles = {}
    for split in (UNLABELLED, VALIDATION, TEST):
        if split in told:
            roles[split] = Role(told[split], f"as --{split} says")
        else:
            roles[split] = _of_split(others, split, chosen)
    used = {role.reference, *(one.reference for one in roles.values())}
    unused = tuple(one.reference for one in found if one.reference not in used)
    return Roles(role, roles[UNLABELLED], roles[VALIDATION], roles[TEST], unused)


def _labelled(found: Sequence[FoundSet]) -> FoundSet:
    """Return the set to learn from."""
    with_labels = [one for one in found if one.has_labels]
    if not with_labels:
        raise JobError(f"DATASET: {_names(found)} has no labels; name a labelled set too")
    if len(with_labels) == 1:
        return with_labels[0]
    wanted = [one for one in with_labels if one.split in (LABELLED, TRAIN, UNTOLD)]
    wanted = wanted or with_labels
    best = min(_rank(one, found) for one in wanted)
    first = [one for one in wanted if _rank(one, found) == best]
    if len(first) > 1:
        raise _ambiguous(first)
    return first[0]


def _ambiguous(found: Iterable[FoundSet]) -> JobError:
    return JobError(
        f"DATASET: several sets could be the labelled images ({_names(found)}); "
        "say which with --labelled"
    )


def _rank(one: FoundSet, found: Sequence[FoundSet]) -> tuple[bool, ...]:
    """Return what decides between sets to learn from; the lowest is taken.

    A set that says which images are without labels means what it says; maps tell more than boxes.
    """
    family = {other.split for other in found if other.family == one.family}
    is_half = one.split == LABELLED and UNLABELLED in family
    return (
        not is_half,
        one.format not in _WITH_MAPS,
        one.format != "coco_stuff",
        not one.place.rpartition("/")[2].startswith(_USUAL_NAME),
        VALIDATION not in family,
        one.split == UNTOLD,
        one.split != LABELLED,
    )


def _of_split(others: Sequence[FoundSet], split: str, labelled: FoundSet) -> Role:
    """Return the set of a split that belongs to the labelled one, if there is one."""
    needs_labels = split != UNLABELLED
    able = [one for one in others if one.has_labels or not needs_labels]
    named = [one for one in able if one.split == split]
    for wanted in ("family", "format", "any"):
        fitting = [one for one in named if _fits(one, labelled, wanted)]
        if len(fitting) == 1:
            return Role(fitting[0].reference, _why(fitting[0]))
        if fitting and split == TEST:
            return Role()  # a job can do without it
        if fitting:
            raise JobError(
                f"DATASET: several sets could be the {split} images ({_names(fitting)}); "
                f"say which with --{split}"
            )
    if not needs_labels:
        bare = [one for one in others if not one.has_labels and one.split not in _MEASURED]
        if len(bare) == 1:
            return Role(bare[0].reference, "it has no labels")
        if bare:
            return Role(" + ".join(one.reference for one in bare), "they have no labels")
    return Role()


def _names(found: Iterable[FoundSet]) -> str:
    return ", ".join(one.reference for one in found)


def _fits(one: FoundSet, labelled: FoundSet, wanted: str) -> bool:
    if wanted == "family":
        return one.family == labelled.family
    if wanted == "format":
        return one.format == labelled.format
    return True


def _why(chosen: FoundSet) -> str:
    return f"its name says {chosen.split}" if chosen.split != UNTOLD else ""
