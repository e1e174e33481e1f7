"""What is wrong with data sets, the most harmful first, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.source_files import OURS
from synthaug.pipeline.formats.validation import ROUNDED
from synthaug.pipeline.survey import look
from synthaug.pipeline.survey.tally import LABEL_LESS, Tally
from synthaug.pipeline.survey.twins import shared, twins

ERROR, WARNING, NOTE = "error", "warning", "note"
NO_IMAGE, NO_OBJECT = "data set without an image", "labelled data set without an object"
ALL_CROWDS = "crowds (ignore regions), and not one object to be learnt"
_MANY = 0.1  # of a set's images without an object: labels may be missing
_FEW = 10  # objects of a class


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one data set, or between two."""

    level: str  # ERROR | WARNING | NOTE
    count: int
    what: str  # after the count
    advice: str
    names: tuple[str, ...] = ()  # of all that have the fault, where they have names
    data: str = ""  # reference of the set; "" where it is between two


def findings(tallies: Sequence[Tally], wrong_stops: Sequence[bool]) -> list[Finding]:
    """Return all findings, by harm.

    `wrong_stops` says of each set whether its wrong records would stop a run.
    """
    found: list[Finding] = []
    for tally, stops in zip(tallies, wrong_stops, strict=True):
        found += _told_of(tally, _of_content(tally))
        found += _told_of(tally, _of_records(tally.skipped, stops))
    for first, second in combinations(tallies, 2):
        found += _between(first, second)
    for tally in tallies:
        found += _told_of(tally, _of_twins(tally))
        found += _told_of(tally, _of_oddities(tally))
        found += _told_of(tally, _of_classes(tally))
    levels = (ERROR, WARNING, NOTE)
    found.sort(key=lambda finding: levels.index(finding.level))  # stable: the order is that of harm
    return found


def _told_of(tally: Tally, found: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings with the set that they are of."""
    for finding in found:
        yield replace(finding, data=tally.reference)


def _of_content(tally: Tally) -> Iterator[Finding]:
    """Yield that nothing is there."""
    if not len(tally.table):
        yield Finding(ERROR, 1, NO_IMAGE, "name one that has images")
    elif tally.table.has_labels and not tally.num_objects:
        yield Finding(ERROR, 1, NO_OBJECT, "unlabelled images can be data.unlabelled")
    elif tally.table.has_labels and tally.crowds == tally.num_objects:
        yield Finding(ERROR, tally.crowds, ALL_CROWDS, "a run needs objects that are none")


def _of_records(skipped: Skipped, stops: bool) -> Iterator[Finding]:
    """Yield what the reader said of records: mistakes, what it mended, what it drops."""
    advice = "left out, as on_bad=skip says"
    level = WARNING
    if stops:
        level = ERROR
        advice = "correct it, read with on_bad=skip, or write the set without it: --fix FOLDER"
    for reason, count in sorted(skipped.items()):
        wrong = skipped.wrong[reason]
        names = tuple(skipped.names.get(reason, ()))
        if wrong:
            yield Finding(level, wrong, reason, advice, names)
        elif names and reason not in (ROUNDED, OURS):
            yield Finding(WARNING, count, reason, "is it meant?", names)
        else:
            yield Finding(NOTE, count, reason, "", names)
    for what, count in sorted(skipped.unread.items()):
        yield Finding(NOTE, count, f"times {what}, which is not kept", "")


def _between(first: Tally, second: Tally) -> Iterator[Finding]:
    pairs = shared(first, second)
    if pairs:
        names = []
        for place, other in pairs:
            names.append(f"{first.name_of(place)} = {second.name_of(other)}")
        yield Finding(
            WARNING,
            len(pairs),
            f"pictures in {first.reference} and in {second.reference}",
            "scores of one after training on the other mean nothing: take them out of one",
            tuple(names),
        )
    known = {category.name for category in first.table.categories}
    new = [c.name for c in second.table.categories if c.name not in known]
    if new and first.table.has_labels and second.table.has_labels:
        yield Finding(
            WARNING,
            len(new),
            f"classes of {second.reference} that {first.reference} does not know",
            "give both the same class names",
            tuple(new),
        )


def _of_twins(tally: Tally) -> Iterator[Finding]:
    differing: list[str] = []
    equal: list[str] = []
    for group in twins(tally):
        name = " = ".join(tally.name_of(place) for place in group.places)
        if group.same_labels:
            equal.append(name)
        else:
            differing.append(name)
    if differing:
        yield Finding(
            WARNING,
            len(differing),
            "pictures there several times, with different labels",
            "at most one of them is right: compare them",
            tuple(differing),
        )
    if equal:
        yield Finding(
            WARNING,
            len(equal),
            "pictures there several times, with the same labels",
            "they count more than others: --fix keeps one of each",
            tuple(equal),
        )


_ODDITIES = (  # kind, level, what, advice: by harm
    (
        look.MASK_ELSEWHERE,
        WARNING,
        f"masks whose own box has an IoU under {look.LEAST_MASK_IOU:g} with the object's",
        "one of the two is wrong, unless much of the object is hidden",
    ),
    (
        look.TWO_CLASSES,
        WARNING,
        "objects in the very place of one of another class",
        "one of the two is wrong",
    ),
    (look.TWICE, WARNING, "duplicate objects, same class and place", "--fix keeps one of each"),
    (
        look.TURNED,
        WARNING,
        "images that an EXIF tag turns",
        "read here as their labels count them, by other tools often not: --fix stores them upright",
    ),
    (
        look.THIN,
        WARNING,
        f"objects with a side under {look.LEAST_SIDE:g} pixels",
        "nothing can be learnt from them; --fix drops those under one pixel",
    ),
    (
        look.SEVERAL,
        WARNING,
        "files of several pages or frames",
        "the first one is read, the others are not: store each as an image",
    ),
    (look.ONE_COLOR, WARNING, "images of one single color", "is the picture itself lost?"),
    (look.WHOLE, NOTE, "objects whose box is the whole image", ""),
    (look.DEEP, NOTE, "images of more than 8 bits", "read as 8 bits (docs/data.md)"),
)


def _of_oddities(tally: Tally) -> Iterator[Finding]:
    odd = tally.oddities
    for kind, level, what, advice in _ODDITIES:
        if odd[kind]:
            yield Finding(level, odd[kind], what, advice, tuple(odd.names[kind]))
    empty = odd[LABEL_LESS]
    if empty and tally.table.has_labels:
        level = NOTE
        advice = "they teach what is background"
        if empty > _MANY * tally.images:
            level = WARNING
            advice = "are their labels missing? then all that they show is learnt as background"
        names = [image_at(tally, int(index)) for index in odd.names[LABEL_LESS]]
        yield Finding(level, empty, "images without an object", advice, tuple(names))


def image_at(tally: Tally, index: int) -> str:
    """Return the name of an image of a table."""
    return look.image_name(tally.table[index])


def _of_classes(tally: Tally) -> Iterator[Finding]:
    categories = tally.table.categories
    spelt: dict[str, str] = {}
    alike = []
    for category in categories:
        plain = " ".join(category.name.split()).casefold()
        other = spelt.setdefault(plain, category.name)
        if other != category.name:
            alike.append(f"{other} = {category.name}")
    if alike:
        yield Finding(
            WARNING,
            len(alike),
            "class names that differ in case or spaces only",
            "are they one class?",
            tuple(alike),
        )
    absent = [c.name for at, c in enumerate(categories) if not tally.objects[at]]
    rare = [c.name for at, c in enumerate(categories) if 0 < tally.objects[at] < _FEW]
    if absent and tally.table.has_labels:
        what = "classes without an object"
        yield Finding(NOTE, len(absent), what, "no detector learns them", tuple(absent))
    if rare:
        what = f"classes with under {_FEW} objects"
        yield Finding(NOTE, len(rare), what, "a score of these is chance", tuple(rare))
