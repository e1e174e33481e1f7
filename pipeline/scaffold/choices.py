"""The keys of a job for some data, machine and time, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from synthaug.pipeline.config.schema import Data, Job
from synthaug.pipeline.leaks.pairs import EVALUATION, Pair
from synthaug.pipeline.scaffold.detector_keys import derived_job, detector_keys
from synthaug.pipeline.scaffold.duration import Amounts, Sizes, fitted, seconds, window_pixels
from synthaug.pipeline.scaffold.generator_keys import (
    FILL_BATCH,
    FILL_STEPS,
    MAP_BATCH,
    MAP_STEPS,
    generator_keys,
    map_size,
    resolutions_met,
    training_keys,
)
from synthaug.pipeline.scaffold.given import MAPS, Given, Key, Section, groups_of

IMAGES = (60, 400)  # to make: the fewest, and as in jobs/photos.yaml
IMAGES_PER_PHOTO = 20  # at most: more of one photo show the same surroundings again
LEAST_SHARE = 5  # of the detector's steps: one in so many are the fewest
FEWEST_STEPS = 100
EDITS = 2  # objects that are added to an image, on average


@dataclass(frozen=True)
class Choices:
    """The sections of a job, and how long each part of its run takes."""

    sections: tuple[Section, ...]
    seconds: Mapping[str, float]  # {} = not known on this machine
    groups: Mapping[str, Sequence[int]]  # head, middle, tail, unseen -> things
    notes: tuple[str, ...]  # what a user should know of the data


def choose(given: Given) -> Choices:
    """Return every key that a job for this data should have."""
    groups = groups_of(given.labelled)
    derived = derived_job(given)
    amounts, times = amounts_of(given, derived)
    verified = "of the detector that checks each object: half of the other's"
    sections = [
        Section("", (Key("name", given.name),)),
        Section("data", tuple(_data(given))),
        Section("detector", tuple(detector_keys(given, derived, amounts.detector_steps))),
        Section("pseudo_label", tuple(_pseudo_label(given))),
        Section("generator", tuple(generator_keys(given, amounts.generator_steps))),
        Section("train_generator", tuple(training_keys(given))),
        Section("plan", tuple(_plan(given, amounts))),
        Section("synthesize", tuple(_synthesize(given))),
        Section("verify", (Key("steps", amounts.verify_steps, verified),)),
        Section("score", (_scores(given),)),
        Section("trial", tuple(_trial(given, groups["tail"]))),
    ]
    kept = tuple(section for section in sections if section.keys)
    notes = tuple(note for note in (wrong_records(given), leaks_note(given)) if note)
    return Choices(kept, times, groups, notes)


# --- data ---


def _data(given: Given) -> list[Key]:
    roles = given.roles
    counted = given.labelled.told()
    keys = [
        Key("root", given.root, "folder that the paths below start from"),
        Key("labelled", roles.labelled.reference, _told(counted, roles.labelled.why)),
    ]
    if roles.unlabelled.reference:
        why = _told(f"{given.facts['unlabelled'].num_images} images", roles.unlabelled.why)
    else:
        why = "none was found, so nothing is pseudo-labelled; name some, such as images:FOLDER"
    keys.append(Key("unlabelled", roles.unlabelled.reference, why))
    counted = given.facts["validation"].told()
    if roles.validation.reference:
        why = _told(counted, roles.validation.why)
        keys.append(Key("validation", roles.validation.reference, why))
    else:
        keys.append(Key("validation", "", "none was found: labelled images are held out,"))
        share = Data.validation_fraction
        keys.append(Key("validation_fraction", share, f"this part of them, fixed: {counted}"))
    if wrong_records(given):
        keys.append(Key("on_bad", "skip", wrong_records(given)))
    if leaks_note(given):
        keys.append(Key("leaks", "report", leaks_note(given)))
    return keys


def _told(counted: str, why: str) -> str:
    return f"{counted}; {why}" if why else counted


def wrong_records(given: Given) -> str:
    """Return a line about records that are wrong, "" where none is."""
    count = 0
    names: list[str] = []
    for facts in given.facts.values():
        for reason, number in facts.skipped.wrong.items():
            count += number
            if number:
                names += facts.skipped.names.get(reason, [])
    if not count:
        return ""
    first = f", such as {names[0]}" if names else ""
    return f"records that are wrong and left out: {count}{first} (synthaug validate names all)"


def leaks_note(given: Given) -> str:
    """Return a line about images that are measured on and trained on, "" without any."""
    leaks = [pair for pair in given.copies or () if pair.kind == "leak"]
    if not leaks:
        return ""
    first, second = _named(leaks[0])
    pairs = "pair" if len(leaks) == 1 else "pairs"
    return (
        f"images that are in two splits, or nearly so: {len(leaks)} {pairs}, such as {first} and "
        f"{second}; scores are too good by what they give away: better take one of each out"
    )


def _named(pair: Pair) -> tuple[str, str]:
    """Return the names of two images with their splits."""
    names = []
    for (split, image_id), file in zip((pair.first, pair.second), pair.files, strict=True):
        names.append(f"{file or image_id} ({split})")
    return names[0], names[1]


# --- pseudo-labels, plan, production, scores ---


def _pseudo_label(given: Given) -> list[Key]:
    """Return the rule that an in-filler wants: it learns of plain photos as well."""
    if given.system == MAPS or not given.roles.unlabelled.reference:
        return []
    why = "a wrong label teaches the in-filler a wrong thing, a missing one nothing"
    return [Key("rule", "precision", why)]


def _plan(given: Given, amounts: Amounts) -> list[Key]:
    counts = given.counts
    if given.has_tail:
        target = "balanced"
        why = f"things have {counts[0]} to {counts[-1]} objects a class: the tail is filled up"
    elif len(counts) > 1:
        target = "natural"
        why = f"things have {counts[0]} to {counts[-1]} objects a class: there is no tail to fill"
    else:
        target = "natural"
        why = "there is one class of things"
    return [Key("count", amounts.images, "images to make"), Key("target", target, why)]


def _synthesize(given: Given) -> list[Key]:
    keys = [Key("precision", "auto", "bfloat16 where the hardware has it")]
    if given.labelled.jpegs > 0.5:
        why = "as the real images, so that compression tells nothing"
        keys.append(Key("format", "jpeg", why))
    return keys


def _scores(given: Given) -> Key:
    names: tuple[str, ...] = ("cas", "dap", "real_or_made", "spectrum", "memorizing")
    if given.system == MAPS:
        names = ("usual", "segmentation")
    return Key("names", names, "docs/scores.md")


def _trial(given: Given, tail: Sequence[int]) -> list[Key]:
    keys = []
    test = given.roles.test
    if test.reference:
        counted = f"{given.facts[EVALUATION].num_images} images that synthaug trial alone looks at"
        keys.append(Key("evaluation", test.reference, _told(counted, test.why)))
    if tail:
        keys.append(Key("goal", "rare", "the mean AP of the rare classes decides"))
    return keys


# --- time ---


def amounts_of(given: Given, derived: Job) -> tuple[Amounts, dict[str, float]]:
    """Return steps and images for the time given, and how long each part takes."""
    steps = derived.detector.training.steps
    fewest = max(steps // LEAST_SHARE, min(steps, FEWEST_STEPS))
    few, usual = MAP_STEPS if given.system == MAPS else FILL_STEPS
    images = min(IMAGES[1], IMAGES_PER_PHOTO * given.labelled.num_images)
    full = Amounts(steps, math.ceil(steps / 2), usual, images)
    least = Amounts(fewest, math.ceil(fewest / 2), few, min(IMAGES[0], images))
    if not given.machine.is_measured:
        return full, {}
    sizes = _sizes_of(given, derived)
    chosen = fitted(sizes, full, least, given.machine, 60 * given.minutes)
    chosen = replace(chosen, verify_steps=math.ceil(chosen.detector_steps / 2))
    return chosen, seconds(sizes, chosen, given.machine)


def _sizes_of(given: Given, derived: Job) -> Sizes:
    config = derived.detector.config.resolved()
    height, width = given.labelled.median_size
    scale = config.image_size / max(min(height, width), 1)
    scale = min(scale, config.max_size / max(height, width, 1))
    looked_at = given.facts["validation"].num_images
    if given.roles.unlabelled.reference:
        looked_at += given.facts["unlabelled"].num_images
    sizes = Sizes(
        backbone=config.backbone,
        detector_batch=derived.detector.training.batch,
        detector_pixels=height * width * scale**2,
        images_looked_at=looked_at,
        system=given.system,
    )
    if given.system == MAPS:
        side, aspect = map_size(given)
        return replace(
            sizes,
            generator_batch=MAP_BATCH,
            pixels=side * side / aspect,
            paintings=1,
            scored=given.facts["validation"].num_images,
        )
    validation = given.facts["validation"]
    return replace(
        sizes,
        generator_batch=FILL_BATCH,
        pixels=window_pixels(resolutions_met(given)),
        paintings=EDITS,
        scored=sum(validation.objects[at] for at in validation.things),
    )
