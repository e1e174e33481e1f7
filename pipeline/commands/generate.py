"""Pictures of one layout from a trained generator.

Sheets that change one thing at a time, and how to make them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.errors import DatasetError, JobError, suggest
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.storage import Folder, check_writable
from synthaug.pipeline.execution.training import device
from synthaug.pipeline.formats.json_files import load_json
from synthaug.pipeline.formats.validation import RecordError, is_int
from synthaug.pipeline.studio import drawing
from synthaug.pipeline.studio.edits import Edit, read_edits, usual_edits
from synthaug.pipeline.studio.layout_files import SHEET, GivenLayout, read_layout
from synthaug.pipeline.studio.sheets import CONTRAST, SHEETS, Cell, Row, Subject

if TYPE_CHECKING:
    from synthaug.generators.lostgan.control import Controlled, Rendered, Studio

RECORD = "sheet.json"
MOST = 64  # samples of a layout


@dataclass(frozen=True)
class Request:
    """Words of the command line; None where a sheet.json may decide."""

    image: str | None = None
    seed: int | None = None
    count: int | None = None
    sheet: str | None = None  # one of SHEETS, or all
    edits: str | None = None  # a JSON file


def generate(checkpoint: Path, reference: str, request: Request, output: str) -> Iterator[str]:
    """Write the sheets, every single picture and sheet.json; say what was written.

    Raises JobError or DatasetError in one line for what is wrong with the checkpoint, the layout,
    the edits or the output.
    """
    layout = read_layout(reference, request.image)
    wanted = _wanted(layout, request)
    file = _weights(checkpoint)
    studio = _open(file)
    subject = _subject(studio, layout, wanted)
    check_writable(output)
    folder = Folder.at(output)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    made_with = layout.options.get("checkpoint")
    if isinstance(made_with, dict) and made_with.get("sha256") != digest:
        yield f"note: {layout.origin} was made with another checkpoint; the pictures will differ"
    pictures = []
    for name in wanted.sheets:
        pictures += _write_sheet(folder, name, wanted.title, studio, subject)
        yield folder.sub(f"{name}.png").uri
    recipe = {
        "layout": layout.record(),
        "title": wanted.title,
        "seed": wanted.seed,
        "count": wanted.count,
        "sheets": list(wanted.sheets),
        "edits": [edit.record() for edit in subject.edits],
        "checkpoint": {"file": file.name, "sha256": digest},
        "truncation": studio.codebook.truncation,
    }
    folder.write_json(RECORD, {SHEET: recipe, "pictures": pictures})
    images = folder.sub("images")
    yield f"{folder.sub(RECORD).uri} and {len(pictures)} pictures in {images.uri}"


@dataclass(frozen=True)
class Wanted:
    """A request with everything decided."""

    title: str
    seed: int
    count: int
    sheets: tuple[str, ...]
    edits: tuple[Edit, ...] | None  # None = the usual ones


def _wanted(layout: GivenLayout, request: Request) -> Wanted:
    """The command line, then what a sheet.json says, then the usual."""
    options = layout.options

    def pick(given: int | None, key: str, usual: int, low: int, high: int) -> int:
        value = given
        if value is None:
            value = options.get(key, usual)
        if not is_int(value) or not low <= value <= high:
            raise JobError(f"{key}: {value!r} is not a whole number from {low} to {high}")
        return int(value)

    sheets = options.get("sheets", ["samples"])
    if request.sheet is not None:
        sheets = [request.sheet]
    if sheets == ["all"]:
        sheets = list(SHEETS)
    if not isinstance(sheets, list) or not sheets:
        raise DatasetError(f"{layout.origin}: 'sheets' must be a list of names")
    for name in sheets:
        if name not in SHEETS:
            raise JobError(
                f"sheet: there is no sheet '{name}'{suggest(str(name), [*SHEETS, 'all'])}"
            )
    if not layout.names and set(sheets) - {"samples", "style", "masks"}:
        raise JobError(
            f"{layout.origin}: the layout has no objects to change; ask for the samples sheet"
        )
    if request.edits is not None and "layout" not in sheets:
        raise JobError("--edits: only the layout sheet has edits; add --sheet layout")
    seed = pick(request.seed, "seed", 0, 0, 2**62)
    count = pick(request.count, "count", 5, 1, MOST)
    return Wanted(
        str(options.get("title", layout.origin)),
        seed,
        count,
        tuple(sheets),
        _edits(layout, request.edits),
    )


def _edits(layout: GivenLayout, file: str | None) -> tuple[Edit, ...] | None:
    listed = layout.options.get("edits") or None
    origin = layout.origin
    if file is not None:
        origin = file
        listed, _ = load_json(Path(file))
    if listed is None:
        return None
    try:
        return read_edits(listed)
    except RecordError as bad:
        raise DatasetError(f"{origin}: {bad.detail}; correct the file") from bad


def _weights(checkpoint: Path) -> Path:
    """Return the generator's file: the one named, or that of a run folder."""
    if not checkpoint.is_dir():
        if not checkpoint.is_file():
            raise JobError(
                f"CHECKPOINT: no such file {checkpoint}; give a generator's safetensors file or a "
                "run folder"
            )
        return checkpoint
    file = checkpoint / "checkpoints" / "generator.safetensors"
    if not file.is_file():
        raise JobError(
            f"CHECKPOINT: {checkpoint} has no checkpoints/{file.name}; give the folder of a "
            "finished run"
        )
    return file


def _open(file: Path) -> Studio:
    from synthaug.generators.lostgan.control import Studio

    try:
        return Studio.open(file, device())
    except ValueError as err:
        raise JobError(f"CHECKPOINT: {err}") from err


def _subject(studio: Studio, layout: GivenLayout, wanted: Wanted) -> Subject:
    """All that sheets are made of.

    Every box, name and edit is tried before anything is painted.
    """
    objects = layout.objects()
    try:
        samples = tuple(studio.scene(objects, wanted.seed + k) for k in range(wanted.count))
    except ValueError as err:
        raise DatasetError(f"{layout.origin}: {err}") from err
    if "layout" not in wanted.sheets:
        return Subject(layout, samples, (), studio.stages)
    edits = wanted.edits
    if edits is None:
        edits = usual_edits(layout, studio.codebook.classes)
    scene = samples[0]
    for place, edit in enumerate(edits):
        try:
            scene = edit.apply(scene, layout.size or (1, 1))
        except ValueError as err:
            raise DatasetError(f"edit {place} ({edit.action}): {err}") from err
    return Subject(layout, samples, edits, studio.stages)


def _write_sheet(
    folder: Folder, name: str, title: str, studio: Studio, subject: Subject
) -> list[Json]:
    """Paint a sheet row by row and write it, its pictures first.

    Return what sheet.json says of the pictures.
    """
    size = drawing.picture_size(studio.resolution, subject.layout.size)
    strips = []
    said = []
    for number, row in enumerate(SHEETS[name](subject)):
        marks = _marks(row)
        head = ""
        if row.caption:
            head = "layout"
        shown = [(head, drawing.layout_picture(marks, size))]
        for column, pixels in enumerate(_paint(studio, row)):
            cell = row.cells[column]
            file = f"images/{name}-{number:02d}-{column:02d}.png"
            folder.write_bytes(file, encode(pixels, "png"), durable=False)
            picture = drawing.fit(pixels, size, smooth=cell.stage is None)
            shown.append((cell.caption, picture))
            said.append(
                {
                    "file": file,
                    "row": row.caption,
                    "caption": cell.caption,
                    "kind": _kind(cell),
                    "changed": cell.scene.changes(_unchanged(cell.scene, subject)),
                    "scene": cell.scene.record(),
                }
            )
        caption = row.caption
        if row.caption and not row.marked:
            names = drawing.legend(marks)
            if names:
                caption = f"{row.caption}: {names}"
        strips.append(drawing.Strip(caption, shown))
    sheet = drawing.sheet(f"{name}: {title}", strips)
    folder.write_bytes(f"{name}.png", encode(sheet, "png"))
    return said


def _kind(cell: Cell) -> str:
    if cell.stage is not None:
        return "masks"
    if cell.others:
        return "difference"
    return "image"


def _unchanged(scene: Controlled, subject: Subject) -> Controlled:
    """Return the sample whose seed a scene has."""
    return next(sample for sample in subject.samples if sample.seed == scene.seed)


def _paint(studio: Studio, row: Row) -> list[Bytes]:
    """The pictures of a row [S, S, 3], each scene painted once.

    A mask map has the side of its stage.
    """
    place_of: dict[Controlled, int] = {}
    for cell in row.cells:
        for scene in (cell.scene, *cell.others):
            place_of.setdefault(scene, len(place_of))
    made = studio.render(list(place_of))
    return [_picture(cell, made, place_of) for cell in row.cells]


def _picture(cell: Cell, made: Rendered, places: dict[Controlled, int]) -> Bytes:
    place = places[cell.scene]
    if cell.stage is not None:
        return drawing.mask_map(
            made.stages[cell.stage][place], [thing.number for thing in cell.scene.objects]
        )
    if cell.others:
        return drawing.difference(
            made.images[place], made.images[[places[s] for s in cell.others]], CONTRAST
        )
    image: Bytes = made.images[place]
    return image


def _marks(row: Row) -> list[drawing.Mark]:
    return [
        drawing.Mark(o.number, o.label, o.box, bool(row.marked) and o.number not in row.marked)
        for o in row.layout.objects
    ]
