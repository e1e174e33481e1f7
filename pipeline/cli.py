"""The command line: prints, and turns errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from synthaug.pipeline.core.errors import JobError, SynthaugError, one_line, printable, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from synthaug.pipeline.core.storage import Folder
    from synthaug.pipeline.display import Display
    from synthaug.pipeline.run import Console


PROGRESS = click.option(
    "--progress",
    type=click.Choice(["auto", "lines", "json"]),
    default="auto",
    help="auto (bars on a terminal, else lines), lines, or json: an event a line.",
)
USUAL_SEEDS = 4  # of a trial's screening
KEEPS = ("run", "trial", "plan")  # commands that go on where they were stopped


class Commands(click.Group):
    """A group of commands that never show a traceback.

    An error is one line and an exit code.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line; what stdout cannot take is an error too, also at the end."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main:
            before = signal.signal(signal.SIGTERM, _stop)
        try:
            return super().main(*args, **extra)
        except OSError as err:
            if not _may_be_stdout(err):
                raise
            _leave_stdout(err)
        finally:
            _flush()
            if is_main:
                signal.signal(signal.SIGTERM, before)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the words before the command; a stop meanwhile is as one of the command."""
        try:
            return super().make_context(*args, **extra)
        except (KeyboardInterrupt, _StoppedError) as err:
            _leave_stopped(err)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; any error becomes one line on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except SynthaugError as err:
            _complain(f"error: {printable(str(err))}")
            sys.exit(err.exit_code)
        except _StdoutError as err:
            _leave_stdout(err.err)
        except (KeyboardInterrupt, _StoppedError) as err:
            _leave_stopped(err, ctx.invoked_subcommand)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as err:
            if isinstance(err, OSError) and _may_be_stdout(err) and _stdout_is_gone():
                _leave_stdout(err)
            if isinstance(err, OSError) and err.errno in _FULL:
                place = f"{err.filename}: " if err.filename else ""
                _complain(f"error: {place}the disk is full ({one_line(err)}); {_ROOM}")
                sys.exit(1)
            if isinstance(err, FileNotFoundError) and "temporary directory" in str(err):
                _complain(f"error: {_NO_TMP}")
                sys.exit(2)
            _complain(f"error: {_unexpected(err)}")
            sys.exit(1)


_FULL = (errno.ENOSPC, errno.EDQUOT)
_ROOM = "make room, or name another place, and run the same command again"
_NO_TMP = "TMPDIR: no folder for temporary files can be written; set it to one that can"


class _StoppedError(BaseException):
    """The process was asked to end (SIGTERM)."""


class _StdoutError(BaseException):
    """A line could not be written to stdout.

    It is no OSError, so that a command which is writing files does not take it for one of theirs.
    """

    def __init__(self, err: OSError) -> None:
        super().__init__(str(err))
        self.err = err


def _stop(_signal: int, _frame: Any) -> None:
    raise _StoppedError


def _complain(line: str) -> None:
    """Write a line to stderr; where it is full or closed the exit code tells all."""
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def _unexpected(err: Exception) -> str:
    """Return one line on an unforeseen error; its traceback goes to a file."""
    line = f"{type(err).__name__}: {printable(one_line(err))}"
    log = logging.getLogger("synthaug")
    files = [handler for handler in log.handlers if isinstance(handler, logging.FileHandler)]
    if files:
        log.error("the command failed", exc_info=err)
        return f"{line}; the details are in {files[0].baseFilename}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="synthaug-error-", suffix=".log", delete=False
        ) as file:
            file.writelines(traceback.format_exception(err))
    except OSError:
        return f"{line}; its details could not be kept, set TMPDIR to a folder that can be written"
    return f"{line}; the details are in {file.name}"


def _leave_stopped(err: BaseException, command: str | None = None) -> NoReturn:
    """End after Ctrl-C or SIGTERM."""
    message = "stopped"
    if command in KEEPS:
        message += "; what was finished is kept: run the same command to go on"
    _complain(message)
    sys.exit(143 if isinstance(err, _StoppedError) else 130)


def _may_be_stdout(err: OSError) -> bool:
    """Return whether an error may come of stdout: full disk, or nobody reads."""
    return err.filename is None and err.errno in (errno.ENOSPC, errno.EPIPE, errno.EBADF)


def _stdout_is_gone() -> bool:
    """Return whether what stdout still holds cannot be written."""
    if sys.stdout is None:  # closed before we began: nothing was written to it
        return False
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _leave_stdout(err: OSError) -> NoReturn:
    """End after a failed write to stdout, without a second error at Python's exit."""
    if err.errno != errno.EPIPE:  # whoever closes a pipe knows it
        _complain(f"error: stdout: cannot be written ({one_line(err)})")
    _to_nothing()
    sys.exit(1)


def _flush() -> None:
    """Write what stdout still holds.

    A failure is an error now, not at the exit of Python.
    """
    if sys.stdout is None:  # closed before we began
        return
    try:
        sys.stdout.flush()
    except OSError as err:
        _leave_stdout(err)


def _to_nothing() -> None:
    """Let what stdout still holds go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="synthaug")
def main() -> None:
    """Make synthetic training data for long-tailed detection; learn what it is worth.

    Start with:  synthaug init YOUR_DATA, or without any:  synthaug run demo
    """


@main.command()
@click.argument("datasets", metavar="DATASET...", nargs=-1)
@click.option("--labelled", metavar="DATASET", default="", help="Images with labels to learn from.")
@click.option("--unlabelled", metavar="DATASET", default="", help="Images without labels.")
@click.option("--validation", metavar="DATASET", default="", help="Images to measure on.")
@click.option("--images", metavar="FOLDER", default="", help="Where annotation files' images are.")
@click.option(
    "--minutes", default=60.0, show_default=True, help="How long the run may take on this machine."
)
@click.option("--out", metavar="FILE", default="", help="The job to write (default: NAME.yaml).")
def init(**request: Any) -> None:
    """Write a commented job for your data: start here.

    E.g. `synthaug init data/aquarium` or `synthaug init train.json photos`. DATASET is a folder, a
    file, an archive or `format:path`; what lies there and what it is for is told from the files and
    their names (docs/init.md).
    """
    from synthaug.pipeline.commands.init import Request
    from synthaug.pipeline.commands.init import init as write_job

    with _display() as shown:
        for line in write_job(Request(**request), shown.show_progress):
            shown.tell(line)


@main.command()
@click.argument("job", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--output",
    metavar="FOLDER",
    help="Where results go (default: the job's `output` key, runs/<name>).",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check the job and all data, print the resolved job, train nothing.",
)
@PROGRESS
def run(
    job: Path, overrides: tuple[str, ...], output: str | None, dry_run: bool, progress: str
) -> None:
    """Run a job file.

    E.g. `synthaug run jobs/bccd.yaml data.root=../data plan.count=500`. The same command after an
    interruption goes on where it stopped.
    """
    from synthaug.pipeline.commands.next_steps import next_step
    from synthaug.pipeline.config.load import load_job
    from synthaug.pipeline.run import check
    from synthaug.pipeline.run import run as run_job

    loaded = load_job(job, list(overrides), output, _warn)
    words = _job_words(job, overrides, output)
    with _console(progress) as console:
        tell = console.tell
        if dry_run:
            check(loaded, console)
            tell(loaded.to_yaml())
            tell("dry run: the job and its data are in order; nothing was trained")
            tell(next_step(("run", *words)))
            return
        began = time.monotonic()
        _log_to(loaded.output)
        folder = run_job(loaded, console)
        tell(f"finished in {time.monotonic() - began:.0f} s")
        _tell_weak_links(folder, tell)
        _tell_advice(folder, tell)
        tell(f"report:  {folder.sub('report.html').uri}")
        coco = folder.sub("coco/instances.json")
        tell(f"data:    {folder.sub('data').uri} (Parquet), {coco.uri}")
        tell(f"numbers: {folder.sub('metrics.json').uri}")
        _tell_next(folder, words, tell)


@main.command()
@click.argument("job", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--output",
    metavar="FOLDER",
    help="Where results go (default: the job's `output` key, runs/<name>).",
)
@click.option(
    "--seeds", type=int, help="Trainings per arm in screening (default: trial.seeds, or 4)."
)
@click.option(
    "--confirm",
    type=int,
    metavar="SEEDS",
    help="Trainings per arm in confirmation (default: trial.confirm_seeds, 16; 0: none).",
)
@PROGRESS
def trial(
    job: Path,
    overrides: tuple[str, ...],
    output: str | None,
    seeds: int | None,
    confirm: int | None,
    progress: str,
) -> None:
    """Run a job and answer: does its synthetic data help the detector?

    Screens the arms of the job's `trial` section on the validation images, confirms the best one
    with fresh seeds on trial.evaluation, and says helps, hurts or cannot tell (docs/trial.md). In
    the output folder of an earlier run only what is missing is done.
    """
    from synthaug.pipeline.config.load import load_job
    from synthaug.pipeline.run import run as run_job

    chosen = list(overrides)
    for key, count in (("seeds", seeds), ("confirm_seeds", confirm)):
        if count is not None:
            chosen.append(f"trial.{key}={count}")
    loaded = load_job(job, chosen, output, _warn)
    if not loaded.trial.seeds:
        loaded = load_job(job, [*chosen, f"trial.seeds={USUAL_SEEDS}"], output)
    _log_to(loaded.output)
    with _console(progress) as console:
        folder = run_job(loaded, console)
        verdict = folder.read_json("metrics.json")["trial"]
        for line in verdict["says"]:
            console.tell(line)
        _tell_weak_links(folder, console.tell)
        _tell_advice(folder, console.tell)
        console.tell(f"report:  {folder.sub('report.html').uri}")
        console.tell(f"numbers: {folder.sub('metrics.json').uri}")
        _tell_next(folder, _job_words(job, overrides, output), console.tell)


@main.command()
@click.argument("job", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--output",
    metavar="FOLDER",
    help="Where results go (default: the job's `output` key, runs/<name>).",
)
def plan(job: Path, overrides: tuple[str, ...], output: str | None) -> None:
    """Show what a job lacks and what it would make, before any training.

    See docs/planner.md. Reads the labelled data and plans; `synthaug run` in the same folder goes
    on from there.
    """
    from synthaug.pipeline.commands.next_steps import next_step
    from synthaug.pipeline.commands.plan import plan as plan_job
    from synthaug.pipeline.config.load import load_job

    loaded = load_job(job, list(overrides), output, _warn)
    _log_to(loaded.output)
    with _console() as console:
        for line in plan_job(loaded, console):
            console.tell(line)
    _say(next_step(("run", *_job_words(job, overrides, output))))


@main.command()
@click.argument("run_folder", metavar="RUN")
def status(run_folder: str) -> None:
    """Show which steps of a run are done and how far the current one is."""
    from synthaug.pipeline.commands.status import lines

    for line in lines(run_folder):
        _say(line)


@main.command()
@click.argument("job", required=False, type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--weights",
    metavar="FOLDER",
    help="Where published networks are looked for (default: score.weights).",
)
def doctor(job: Path | None, overrides: tuple[str, ...], weights: str | None) -> None:
    """Say what this machine can do.

    Hardware, packages, Ray, weights, and which scores they allow. With a job file, e.g. `synthaug
    doctor jobs/bccd.yaml`, as that job would have it. Exit code 1 where something that every job
    needs is broken.
    """
    from synthaug.pipeline.commands.doctor import lines
    from synthaug.pipeline.config.load import load_job

    loaded = None
    if job:
        loaded = load_job(job, list(overrides), None, _warn)
    for line in lines(loaded, weights):
        _say(line)


@main.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The page (default: report.html in RUN, or comparison.html here).",
)
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Make the page of a run, or one that compares several runs.

    The page of one run is made from what is on disk, finished or not. See docs/report.md.
    """
    from synthaug.pipeline.commands.report import report as write_report

    for line in write_report(runs, out):
        _say(line)


@main.command()
@click.argument("real")
@click.argument("synthetic")
@click.option(
    "--train",
    metavar="DATASET",
    help="Labelled images: what real images teach, and what may be copied.",
)
@click.option(
    "--names", metavar="A,B", help="Scores to measure (default: every one that can be had)."
)
@click.option(
    "--detector",
    "--judge",  # its name in an earlier version
    "detector",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Checkpoint of the detector that labels are judged with.",
)
@click.option(
    "--weights",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where published networks are.",
)
@click.option(
    "--job",
    metavar="JOB",
    type=click.Path(path_type=Path),
    help="A job file whose score section is used.",
)
@click.option(
    "--output",
    metavar="FOLDER",
    default="runs/score",
    show_default=True,
    help="Where metrics.json and scores.html go.",
)
def score(**request: Any) -> None:
    """Score a data set of synthetic images against real ones, whoever made them.

    See docs/scores.md. E.g. `synthaug score coco:val.json?images=val parquet:runs/x/data --detector
    FILE`, where FILE is runs/x/checkpoints/detector.safetensors. Images belong together where a
    synthetic one names its source, or has the same image id.
    """
    from synthaug.pipeline.commands.score import Request
    from synthaug.pipeline.commands.score import score as measure

    with _console() as console:
        for line in measure(Request(**request), console):
            console.tell(line)


@main.command()
@click.argument("datasets", metavar="DATASET...", nargs=-1, required=True)
@click.option("--root", default=".", show_default=True, help="Folder relative paths start from.")
@click.option("--strict", is_flag=True, help="Exit code 1 where there are warnings.")
@click.option("--json", metavar="FILE", default="", help="Write all that was found as JSON.")
@click.option("--html", metavar="FILE", default="", help="Write it as a page with pictures.")
@click.option(
    "--fix",
    metavar="FOLDER",
    default="",
    help="Write the mended data set (COCO) into a new folder; the source stays as it is.",
)
def validate(**request: Any) -> None:
    """Check data sets: what is there, and what is wrong, the most harmful first.

    E.g. `synthaug validate coco:train.json?images=images` or `parquet:runs/x/data`. Reads every
    annotation and decodes every image on all cores; of several sets, says which pictures they share
    (docs/data.md). Exit code 0: in order; 1: warnings, with --strict; 2: something is wrong.
    """
    from synthaug.pipeline.commands.validate import Request
    from synthaug.pipeline.commands.validate import validate as survey

    with _display() as shown:
        for line in survey(Request(**request), shown.show_progress):
            shown.tell(line)


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("layout")
@click.option(
    "--image",
    metavar="ID",
    help="Which image of a data set: its position from 0, or id:ID (COCO file: its id).",
)
@click.option(
    "--sheet",
    metavar="NAME",
    help="samples, style, object-style, layout, interpolate, masks or all.",
)
@click.option("--seed", type=int, help="Seed of the first sample (default: 0).")
@click.option("--count", type=int, help="Samples of the layout (default: 5).")
@click.option(
    "--edits",
    metavar="FILE",
    help="JSON list of the layout sheet's edits (default: the usual ones).",
)
@click.option(
    "--output",
    "--out",
    metavar="FOLDER",
    default="generated",
    show_default=True,
    help="Where pictures go.",
)
def generate(checkpoint: Path, layout: str, output: str, **request: Any) -> None:
    """Paint one layout in many ways.

    E.g. `synthaug generate runs/x layout.json --sheet all`. CHECKPOINT is a generator's file or a
    run folder; LAYOUT a JSON file, an earlier sheet.json, a COCO file, or a data set `format:path`
    (docs/control.md).
    """
    from synthaug.pipeline.commands.generate import Request
    from synthaug.pipeline.commands.generate import generate as paint

    for line in paint(checkpoint, layout, Request(**request), output):
        _say(line)


@main.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--port", type=int, default=0, show_default=True, help="Port on 127.0.0.1; 0 = any free one."
)
def studio(run_folder: Path, port: int) -> None:
    """Paint and change layouts by hand, in the browser.

    Serves a page on this machine alone, under an address with a token that it prints. RUN is the
    folder of a finished run; layouts that are saved go to RUN/studio (docs/studio.md). Needs
    Starlette and uvicorn (`pip install starlette uvicorn`).
    """
    from synthaug.pipeline.commands.studio import studio as serve

    serve(run_folder, port, _say)


@main.command()
@click.argument("source")
@click.option(
    "--to",
    metavar="FORMAT",
    default="",
    help="coco, lvis, yolo, voc, hf, or another that can be written.",
)
@click.option(
    "--out",
    "--output",
    metavar="FOLDER",
    default="",
    help="What to make; must not be there yet, or be empty.",
)
@click.option(
    "--parts",
    default="",
    help="Of a run: labelled, pseudo, synthetic, validation [all but pseudo].",
)
@click.option(
    "--with",
    "added",
    metavar="DATASET",
    multiple=True,
    help="Training images to merge in, also several times.",
)
@click.option("--val", metavar="DATASET", default="", help="Validation images; they stay apart.")
@click.option("--root", default=".", show_default=True, help="Folder relative paths start from.")
def export(**request: Any) -> None:
    """Write a run, or any data set, for other tools.

    E.g. `synthaug export runs/x --to yolo --out handover`. Of a run that is labelled and synthetic
    images to train on and its validation images; a folder with a README.md appears when all is
    written (docs/handover.md).
    """
    from synthaug.pipeline.commands.export import export as hand_over
    from synthaug.pipeline.commands.export_sources import Request

    with _display() as shown:
        for line in hand_over(Request(**request), shown.show_progress):
            shown.tell(line)


@main.command(name="import-checkpoint")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What to write (default: FILE.safetensors).",
)
@click.option(
    "--classes",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Names of the label rows: lines, JSON list, or COCO annotations (also two: things and "
    "stuff).",
)
@click.option(
    "--background",
    is_flag=True,
    help="The model was trained with a whole-image object (Visual Genome).",
)
def import_checkpoint(
    file: Path, out: Path | None, classes: tuple[Path, ...], background: bool
) -> None:
    """Turn an official LostGAN or SPADE checkpoint into one of this program.

    It is a .pth, .pt or .safetensors file; jobs and commands use the result. Which model it is, is
    told from its keys and shapes; nothing in the file is executed.
    """
    from synthaug.generators import official as importing

    target = out or file.with_suffix(".safetensors")
    try:
        imported = importing.read(file, background)
        names = importing.class_names(classes, imported.found.labels)
        fresh = importing.write(imported, names, target)
    except ValueError as err:
        raise JobError(str(err)) from err
    state = f"{target}: there already, the same"
    if fresh:
        state = f"wrote {target}"
    for line in (imported, *imported.notes, state):
        _say(str(line))


@main.command(name="list")
def list_components() -> None:
    """List what a job file can name: generators, detectors, formats, scores and steps."""
    from synthaug.detectors import DETECTORS
    from synthaug.generators import GENERATORS
    from synthaug.pipeline.formats import FORMATS
    from synthaug.pipeline.scores import SCORES
    from synthaug.pipeline.steps import STEPS

    rooms = {
        "generators": GENERATORS,
        "detectors": DETECTORS,
        "formats": FORMATS,
        "scores": SCORES,
        "steps": STEPS,
    }
    for room, names in rooms.items():
        click.echo(f"{room + ':':<12} {', '.join(names)}")


def _say(text: str) -> None:
    try:
        click.echo(visible(text))
    except OSError as err:
        raise _StdoutError(err) from err


def _warn(text: str) -> None:
    click.echo(f"warning: {visible(text)}", err=True)


def _tell_advice(folder: Folder, tell: Callable[[str], None]) -> None:
    """Say whether the run's images are to be added, as far as its trial shows."""
    from synthaug.pipeline.trial.recommendation import recommendation

    trial = folder.read_json("metrics.json").get("trial", {})
    tell(f"advice:  {recommendation(trial)}")


def _job_words(job: Path, overrides: tuple[str, ...], output: str | None) -> tuple[str, ...]:
    """Return the words of a command line that name a job as it was run."""
    words = (str(job), *overrides)
    return (*words, "--output", output) if output else words


def _tell_next(folder: Folder, job: tuple[str, ...], tell: Callable[[str], None]) -> None:
    """Say which command comes after a finished run."""
    from synthaug.pipeline.commands.next_steps import after_run

    trial = folder.read_json("metrics.json").get("trial", {})
    for line in after_run(trial, job, folder.uri):
        tell(line)


def _tell_weak_links(folder: Folder, tell: Callable[[str], None]) -> None:
    """Print the weak links of a finished run."""
    from synthaug.pipeline.core.links import Link, weak

    links = [Link(**link) for link in folder.read_json("metrics.json")["links"]]
    for link in weak(links):
        tell(f"weak:    {link.line}")


@contextlib.contextmanager
def _display(kind: str = "auto") -> Iterator[Display]:
    """Give a display, and leave nothing but lines of it."""
    from synthaug.pipeline.display import display

    shown = display(kind, _say)
    try:
        yield shown
    finally:
        shown.close()


@contextlib.contextmanager
def _console(kind: str = "auto") -> Iterator[Console]:
    """Give what a run tells to, on a display."""
    from synthaug.pipeline.run import Console

    with _display(kind) as shown:
        yield Console(shown.tell, shown.show_progress, shown.show_states)


def _log_to(output: str) -> None:
    """Send details, such as tracebacks, to run.log in the output folder."""
    from synthaug.pipeline.core.storage import Folder, check_writable

    check_writable(output)
    folder = Folder.at(output)
    if folder.is_local:
        handler = logging.FileHandler(folder.local_path("run.log"), delay=True)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logging.getLogger("synthaug").addHandler(handler)
        logging.getLogger("synthaug").propagate = False


if __name__ == "__main__":
    try:
        main()
    except JobError as err:  # raised while click parses, before a command runs
        click.echo(f"error: {err}", err=True)
        sys.exit(err.exit_code)
