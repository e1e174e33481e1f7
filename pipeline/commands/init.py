"""Write a commented job for data sets: `synthaug init`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from synthaug.pipeline.commands.next_steps import next_step
from synthaug.pipeline.config.build import build
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import DatasetError, JobError, one_line, printable
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.formats import FORMATS, load_format
from synthaug.pipeline.formats.merge import with_classes
from synthaug.pipeline.formats.recognize import (
    LABELLED,
    UNLABELLED,
    VALIDATION,
    FoundSet,
    recognize,
    split_of,
)
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.leaks.pairs import EVALUATION
from synthaug.pipeline.scaffold.choices import Choices, choose
from synthaug.pipeline.scaffold.given import Given
from synthaug.pipeline.scaffold.job_text import LATE, classes_text, duration_text, job_text
from synthaug.pipeline.scaffold.measure import SplitFacts, copies, look_at_splits
from synthaug.pipeline.scaffold.rates import this_machine
from synthaug.pipeline.scaffold.roles import Role, Roles, choose_roles
from synthaug.pipeline.steps.contract import load_steps
from synthaug.pipeline.steps.inputs import Inputs, check_split, open_inputs

Progress = Callable[[int, int, str], None]
ROLES = (LABELLED, UNLABELLED, VALIDATION)


@dataclass(frozen=True)
class Request:
    """Words of the command line."""

    datasets: tuple[str, ...]
    labelled: str = ""
    unlabelled: str = ""
    validation: str = ""
    images: str = ""  # folder
    minutes: float = 60.0
    out: str = ""  # file

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise JobError(f"--minutes: {self.minutes:g} is no time; give more than 0")
        if not self.datasets and not self.labelled:
            raise JobError("DATASET: none is named; name a folder or file of labelled images")


def init(request: Request, progress: Progress) -> Iterator[str]:
    """Write the job and yield what was found and decided, and the next command.

    Raises JobError or DatasetError, and writes nothing, where no job can be made of the data.
    """
    root, names = _root(request)
    name = _name(request)
    out = _out_file(request, name)
    roles = _roles(request, names, Path(root))
    yield from _told(roles)
    draft, inputs = _opened(name, root, roles)
    test, roles = _test_table(roles, inputs, Path(root))
    facts = _looked_at(draft, inputs, test, progress)
    given = Given(name, root, roles, facts, copies(facts), this_machine(), request.minutes)
    choices = choose(given)
    text = job_text(given, choices, str(out))
    _check(text, name, inputs)
    _write(out, text)
    if roles.test.why and not roles.test.reference:
        yield f"{'note:':<12}test: {printable(roles.test.why)}"
    yield from _summary(given, choices)
    yield f"wrote {printable(str(out))}: every value with its reason, to be changed as you like"
    yield next_step(("run", str(out), "--dry-run"))


# --- words of the command line ---


def _root(request: Request) -> tuple[str, tuple[str, ...]]:
    """Return the folder that paths start from, and the data sets from there.

    It is the folder of the one data set, else the current one.
    """
    told = (request.labelled, request.unlabelled, request.validation, request.images)
    if len(request.datasets) == 1 and not any(_is_path(word) for word in told):
        folder = request.datasets[0]
        if not _is_reference(folder) and Path(folder).is_dir():
            return folder.rstrip("/") or folder, (".",)
    return ".", request.datasets


def _is_path(word: str) -> bool:
    return bool(word) and not _is_reference(word) and Path(word).exists()


def _is_reference(word: str) -> bool:
    """Whether a word is `format:path`, and no file is called so."""
    name, colon, _ = word.partition(":")
    return bool(colon) and name in FORMATS and not Path(word).exists()


def _name(request: Request) -> str:
    """Return a name for the job: that of the first data set's folder or file."""
    word = (*request.datasets, request.labelled)[0]
    if _is_reference(word):
        word = word.partition(":")[2].partition("?")[0]
    path = Path(word).absolute()
    stem = path.name if path.is_dir() else path.stem
    told, rest = split_of(stem)
    if told and not rest and len(path.parts) > 2:  # train.json is of a set that its folder names
        home = path.parent
        stem = home.parent.name if home.name == "annotations" else home.name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:60]
    return "mine" if plain in ("", "base") else plain


def _out_file(request: Request, name: str) -> Path:
    """Return the file to write, which must not be there."""
    out = Path(request.out or f"{name}.yaml")
    if out.suffix != ".yaml":
        raise JobError(f"--out: {out} is no job file: its name must end in .yaml")
    if out.exists():
        raise JobError(f"--out: {out} is there already; name another file with --out")
    if not out.parent.is_dir():
        raise JobError(f"--out: there is no folder {out.parent}; make it, or name another file")
    return out


# --- roles ---


def _roles(request: Request, names: tuple[str, ...], root: Path) -> Roles:
    found: list[FoundSet] = []
    for word in names:
        found += _found(word, root)
    told = {}
    for role in ROLES:
        word = str(vars(request)[role])
        if word:
            told[role] = _meant(word, role, found, root)
    images = request.images
    if not images:
        found, images = _without_image_folder(found, root)
    roles = choose_roles(found, told)
    return _completed(roles, images, root)


def _found(word: str, root: Path) -> list[FoundSet]:
    if not _is_reference(word):
        return recognize(word, root)
    kind, _, rest = word.partition(":")
    place, _, options = rest.partition("?")
    told, _ = split_of(f"{Path(place).stem} {options}")
    table = open_dataset(word, root, "DATASET", {"on_bad": "skip", "annotations": "optional"})
    return [FoundSet(word, place, told, f"{kind}:{Path(place).parent}", table.has_labels)]


def _meant(word: str, role: str, found: list[FoundSet], root: Path) -> str:
    """Return the reference that a word of an option means."""
    if _is_reference(word):
        return word
    named = [one.reference for one in found if _is_called(one, word)]
    if not named:
        sets = recognize(word, root)
        named = [one.reference for one in sets]
        if len(named) > 1:
            named = [one.reference for one in sets if one.split == role] or named
    if len(named) > 1:
        raise JobError(
            f"--{role}: {word} holds several sets ({', '.join(named)}); name one of them"
        )
    return named[0]


def _is_called(one: FoundSet, word: str) -> bool:
    return one.place == word or one.place.endswith(f"/{word}")


def _without_image_folder(found: list[FoundSet], root: Path) -> tuple[list[FoundSet], str]:
    """Return the sets without the folder of images of one of them, and that folder."""
    folders = [one for one in found if one.format == "images"]
    for folder in folders:
        for one in found:
            if one.has_labels and _images_are_in(one, folder.place, root):
                return [other for other in found if other is not folder], folder.place
    return found, ""


def _images_are_in(one: FoundSet, folder: str, root: Path) -> bool:
    """Whether the images of a set are in a folder."""
    if not _takes_images(one.reference):
        return False
    reference = _with_option(one.reference, "images", folder)
    try:
        table = open_dataset(reference, root, "DATASET", {"on_bad": "skip"})
    except DatasetError:
        return False
    return len(table) > 0


def _takes_images(reference: str) -> bool:
    kind = reference.partition(":")[0]
    options = {field.name for field in fields(load_format(kind).Config)}
    return "images" in options


def _with_option(reference: str, option: str, value: str) -> str:
    sign = "&" if "?" in reference else "?"
    return f"{reference}{sign}{option}={value}"


def _completed(roles: Roles, images: str, root: Path) -> Roles:
    """Return the roles with the options that their references need to be read."""
    changed = {}
    for field in fields(Roles):
        role = vars(roles)[field.name]
        if field.name == "unused" or not role.reference:
            continue
        reference = role.reference
        has_images = "images=" in reference.partition("?")[2]
        if images and not has_images and _takes_images(reference):
            reference = _with_option(reference, "images", images)
        if reference.startswith("visual_genome:"):
            reference = _with_counts(reference, root)
        changed[field.name] = replace(role, reference=reference)
    return replace(roles, **changed)


VG_IMAGES = 108_077  # of the whole Visual Genome, for which the published counts are
VG_COUNTS = {"min_count": 2000, "min_predicate": 500}


def _with_counts(reference: str, root: Path) -> str:
    """Return a reference to a part of Visual Genome with its counts in proportion."""
    from synthaug.pipeline.formats.json_files import load_json
    from synthaug.pipeline.formats.visual_genome.files import IMAGES, RELATIONS

    folder = root / reference.partition(":")[2].partition("?")[0]
    records, _ = load_json(folder / IMAGES)
    share = len(records) / VG_IMAGES
    if share > 0.5:
        return reference
    for option, published in VG_COUNTS.items():
        is_needed = option == "min_count" or (folder / RELATIONS).is_file()
        if is_needed and f"{option}=" not in reference:
            reference = _with_option(reference, option, str(max(2, round(share * published))))
    return reference


def _told(roles: Roles) -> Iterator[str]:
    named = {
        "labelled": roles.labelled,
        "unlabelled": roles.unlabelled,
        "validation": roles.validation,
        "test": roles.test,
    }
    for name, role in named.items():
        text = role.reference or "none found"
        if name == "validation" and not role.reference:
            text = "none found: a part of the labelled images is held out"
        why = f" ({role.why})" if role.why else ""
        yield f"{name + ':':<12}{printable(text)}{why}"
    if roles.unused:
        yield f"{'not used:':<12}{printable(', '.join(roles.unused))}"


# --- what the data holds ---


def _opened(name: str, root: str, roles: Roles) -> tuple[Job, Inputs]:
    """Open the splits as a run of the job would."""
    data = {
        "root": root,
        "labelled": roles.labelled.reference,
        "unlabelled": roles.unlabelled.reference,
        "validation": roles.validation.reference,
        "on_bad": "skip",
    }
    draft = build({"name": name, "data": data}, name)
    return draft, open_inputs(draft)


def _test_table(roles: Roles, inputs: Inputs, root: Path) -> tuple[Dataset | None, Roles]:
    """Return the images of the test, and the roles without it where it cannot be used.

    A job can do without them: those of benchmarks have no labels, or none of these classes.
    """
    reference = roles.test.reference
    if not reference:
        return None, roles
    key = EVALUATION
    why = "its labels hold no object"
    try:
        table = open_dataset(reference, root, key, {"on_bad": "skip"})
        table = with_classes(table, inputs.categories, key, "data.labelled")
        if any(len(scene.objects.without_crowds()) for scene in table):
            return table, roles
    except DatasetError as err:
        why = str(err)
    return None, replace(roles, test=Role("", f"{reference} cannot be used: {why}"))


def _looked_at(
    draft: Job, inputs: Inputs, test: Dataset | None, progress: Progress
) -> dict[str, SplitFacts]:
    """Look at every image; DatasetError for a split without an image or object."""
    splits: dict[str, Dataset] = dict(inputs.splits)
    if test is not None:
        splits[EVALUATION] = test
    facts = look_at_splits(splits, progress)
    for split, table in inputs.splits.items():
        if split != "unlabelled":
            found = facts[split]
            _check_readable(split, found)
            check_split(draft, split, table, found.num_images, found.num_objects)
    return facts


def _check_readable(split: str, facts: SplitFacts) -> None:
    """Raise DatasetError for a split of which not one image can be read."""
    named = [
        names[0] for reason, names in facts.skipped.names.items() if facts.skipped.wrong[reason]
    ]
    if named and not facts.num_images:
        raise DatasetError(f"data.{split}: not one image can be read; the first: {named[0]}")


def _check(text: str, name: str, inputs: Inputs) -> Job:
    """Return the job of a text, checked as a dry run does; its images were looked at."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / f"{name}.yaml"
        file.write_text(text, "utf-8")
        job = load_job(file)
    for step in load_steps().values():
        step.check(job)
        step.check_data(job, inputs)
    return job


def _write(out: Path, text: str) -> None:
    """Write a file that is not there yet."""
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as err:
        raise JobError(f"--out: {out} is there already; name another file with --out") from err
    except OSError as err:
        raise JobError(f"--out: cannot write {out} ({one_line(err)}); name another file") from err


def _summary(given: Given, choices: Choices) -> Iterator[str]:
    facts = given.labelled
    rare = choices.groups["tail"]
    if rare:
        yield f"{'rare:':<12}{classes_text(facts, rare)}, of {facts.num_objects} labelled objects"
    for note in choices.notes:
        yield f"{'note:':<12}{printable(note)}"
    machine = str(given.machine)
    if choices.seconds:
        yield f"{'time:':<12}{duration_text(choices.seconds)} on this machine, {machine}"
        if sum(choices.seconds.values()) > LATE * 60 * given.minutes:
            yield f"{'':<12}in {given.minutes:g} minutes nothing useful would be learned"
    else:
        yield f"{'time:':<12}not known: no rates were measured on a GPU ({machine})"
