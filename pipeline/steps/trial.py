"""Ask whether the synthetic data helps the detector.

Budget and headroom first, then screening on validation, then confirmation elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Job, Trial, section_dict
from synthaug.pipeline.core.errors import JobError, suggest
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.core.scene import class_counts
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.planning.targets import chosen_classes
from synthaug.pipeline.report.trial import text as report_text
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import Inputs
from synthaug.pipeline.trial.arms import ARMS, BEST, EXTERNAL, Arm, arm_named, on_top_of
from synthaug.pipeline.trial.bench import Bench
from synthaug.pipeline.trial.budget import Budget, budget_line, find_budget, first_steps
from synthaug.pipeline.trial.conclusions import arm_rows, confirm, screen
from synthaug.pipeline.trial.confirmation import Use, remember
from synthaug.pipeline.trial.headroom import HALF, MORE, NONE, conclude_headroom, headroom_line
from synthaug.pipeline.trial.learned import too_little
from synthaug.pipeline.trial.paired_tests import SCREENED
from synthaug.pipeline.trial.recipe import Recipe
from synthaug.pipeline.trial.recommendation import recommendation
from synthaug.pipeline.trial.runs import GOAL_WORDS, Runs, TrialClasses, values_of, with_goal
from synthaug.pipeline.trial.screening import (
    arm_to_beat,
    best_threshold,
    choose_candidate,
    gained,
    ingredients,
    mean_of,
    whole_stack,
    with_thresholds,
)
from synthaug.pipeline.trial.stages import CONFIRMATION, SCREENING
from synthaug.pipeline.trial.tables import EVALUATION, fingerprints, own_tables
from synthaug.pipeline.trial.training import Training
from synthaug.pipeline.trial.verdict import beats_stack, lines, verdict

NEEDS = ("ingest", "pseudo_label", "synthesize", "verify")
VERSION = 7
TEXT = "trial.md"
PUBLISHES = (Published(TEXT),)


def settings(job: Job) -> Json:
    """Return the trial section, the detector, and the content of the trial's data."""
    if not job.trial.seeds:
        return {"seeds": 0}
    return {
        "trial": section_dict(job, "trial"),
        "detector": section_dict(job, "detector"),
        "seed": job.seed,
        "fingerprints": fingerprints(job),
    }


def check(job: Job) -> None:
    """Raise JobError for an arm that is unknown, or that the job cannot have."""
    trial = job.trial
    if not trial.seeds:
        return
    known = [name for name, arm in ARMS.items() if arm.role != "headroom"] + [BEST]
    for name in trial.arms:
        if name not in known:
            raise JobError(f"trial.arms: '{name}' is no arm{suggest(name, known)}")
    if "pseudo" in trial.arms and not job.data.unlabelled:
        raise JobError(
            "trial.arms: 'pseudo' needs unlabelled images; "
            "name them in data.unlabelled or leave the arm out"
        )
    if "verified" in trial.arms and not job.verify.enabled:
        raise JobError(
            "trial.arms: 'verified' needs verified images; "
            "set verify.enabled to true or leave the arm out"
        )
    detector_keys = {field.name for field in fields(job.detector.config)}
    for arm in _arms(trial):
        for key, _ in arm.detector:
            if key not in detector_keys:
                raise JobError(
                    f"trial.arms: '{arm.name}' changes detector.{key}, which "
                    f"{job.detector.backend} does not have; leave the arm out"
                )


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError for a data set of the trial that it must not take.

    It has other classes, or is to confirm on and screening sees it. Also for a class to be pasted
    that is not there.
    """
    if not job.trial.seeds:
        return
    ones = np.ones(len(inputs.categories), np.int64)
    pasted = job.trial.copy_paste.classes
    chosen_classes(pasted, ones, inputs.categories, "trial.copy_paste.classes")
    classes = [category.name for category in inputs.categories]
    for key, table in own_tables(job).items():
        if [category.name for category in table.categories] != classes:
            raise JobError(
                f"{key}: its classes differ from data.labelled's; "
                "use the same categories in every file"
            )
        if key == EVALUATION and table.fingerprint() == inputs.splits["validation"].fingerprint():
            raise JobError(
                f"{key}: these are the validation images, on which screening chooses; "
                "name images that nothing else sees, or none for screening only"
            )


def metrics(manifest: Manifest) -> Json:
    """Return the arms, their comparisons and the conclusions."""
    return {"trial": dict(manifest)}


def links(manifest: Manifest) -> list[Link]:
    """Return whether the trial could tell anything.

    Its detectors learned something, and no placebo seems to gain.
    """
    if not manifest.get("seeds"):
        return [Link("trial", "untested", "no trial was run: whether this data helps is not known")]
    if "verdict" not in manifest:  # of an earlier version
        return []
    verdict_word = manifest["verdict"]["word"]
    figure = f"{manifest['verdict']['stage']}: {verdict_word}"
    unlearned = too_little(manifest)
    if unlearned:
        advice = "train the arms longer (trial.steps; plateau finds how long)"
        return [Link("trial", "weak", f"{figure}; {unlearned}", advice)]
    placebos = [arm["name"] for arm in manifest["arms"] if arm["role"] == "placebo"]
    words = {name: manifest["comparisons"][name]["word"] for name in placebos}
    gaining = [name for name, word in words.items() if word == SCREENED["helps"]]
    if gaining:
        text = f"{', '.join(gaining)} seems to gain, which a placebo cannot"
        advice = "trust no arm of it; measure on more validation images"
        return [Link("trial", "weak", text, advice)]
    if verdict_word == "cannot tell":
        advice = "more seeds (trial.seeds, trial.confirm_seeds) or more images to measure on"
        return [Link("trial", "weak", figure, advice)]
    return [Link("trial", "ok", figure)]


# ---- The trial ----


@dataclass(frozen=True)
class Screened:
    """The outcome of screening: runs, arms, the stack to beat, the recipe to confirm."""

    runs: Runs
    arms: Sequence[Arm]
    controls: Sequence[Arm]
    parts: Sequence[Arm]  # controls that gained
    stack: Arm
    recipe: Arm | None  # None where no candidate was trained
    thresholds: Sequence[Mapping[str, Any]]


Train = Callable[..., Runs]  # arms, number of seeds -> runs on the validation images


def run(context: Context) -> Json:
    """Train the arms that are not trained yet, compare them and conclude."""
    if not context.job.trial.seeds:
        context.tell("  no trial: trial.seeds is 0")
        return {"seeds": 0}
    return conduct(context, Bench.of(context))


def conduct(context: Context, bench: Bench) -> Json:
    """Conduct the trial on a bench: budget, headroom, screening, confirmation."""
    trial = context.job.trial
    classes = _classes(context)
    with_goal([], trial.goal, classes)  # that it can be told is known before anything is trained
    budget = _budget(context, bench)

    def train(arms: Sequence[Arm], seeds: int = trial.seeds) -> Runs:
        runs = bench.train(arms, SCREENING, range(seeds), budget.steps)
        return with_goal(runs, trial.goal, classes)

    found: Json = {
        "seeds": trial.seeds,
        "goal": GOAL_WORDS[trial.goal],
        "images": bench.num_images(SCREENING),
        "budget": budget.to_json(),
        "groups": classes.group_names(),
        "grouped_by": classes.rule,
        "margin": trial.margin,
    }
    headroom_arms = _headroom_arms(trial)
    headroom_runs = train(headroom_arms)
    headroom = None
    if trial.headroom != "off":
        headroom = conclude_headroom(headroom_runs, bool(trial.more))
        context.tell(f"  {headroom_line(headroom, found['goal'])}")
    found["headroom"] = headroom
    if headroom and headroom["word"] == NONE and trial.headroom == "stop":
        return _finish(context, {**found, **_nothing_judged(headroom_runs, headroom_arms, classes)})

    arms, left_out = _with_labels(context, _arms(trial))
    screened = _screen(trial, train, arms, headroom_arms, headroom_runs)
    synthetic_images = int(context.inputs["synthesize"].manifest["images"])
    found |= screen(screened.runs, screened.arms, trial, classes, synthetic_images)
    found["says"] += left_out
    found["stack"] = screened.stack.description
    found["ingredients"] = ingredients(screened.runs, screened.controls, screened.parts)
    found["thresholds"] = list(screened.thresholds)
    found["recipe"] = screened.recipe.name if screened.recipe else None
    changes = dict(screened.recipe.recipe) if screened.recipe else {}
    found["recipe_keys"] = asdict(Recipe.of(trial, changes))
    found["confirmation"] = _confirm(context, bench, found, screened, classes)
    return _finish(context, found)


def _budget(context: Context, bench: Bench) -> Budget:
    """Return the steps of the arms: the job's, or those of real data's plateau."""
    trial = context.job.trial
    plan = context.job.detector.training
    if trial.steps != "plateau":
        budget = Budget(trial.steps or plan.steps)
    else:

        def measure(steps: int) -> float:
            runs = bench.train([ARMS["real"]], SCREENING, range(1), steps)
            (value,) = values_of(runs, "real")
            context.tell(f"  real data alone after {steps} steps: AP {100 * value:.1f}")
            return value

        budget = find_budget(measure, first_steps(trial, plan), trial.plateau, trial.doublings)
    context.tell(f"  {budget_line(budget.to_json())}")
    return budget


def _headroom_arms(trial: Trial) -> list[Arm]:
    """Return the arms that are trained before all others."""
    names = ["real"]
    if trial.headroom != "off":
        names.append(HALF)
        if trial.more:
            names.append(MORE)
    return [ARMS[name] for name in names]


def _nothing_judged(runs: Runs, arms: Sequence[Arm], classes: TrialClasses) -> Json:
    """Return what a trial that ends at its headroom has in place of screening."""
    return {
        "detectable": None,
        "arms": arm_rows(runs, arms, classes),
        "comparisons": {},
        "controls": {},
        "curve": [],
        "says": [],
        "stack": "",
        "ingredients": [],
        "thresholds": [],
        "recipe": None,
        "recipe_keys": {},
        "confirmation": None,
    }


def _arms(trial: Trial) -> list[Arm]:
    """Return the arms that the job names, but not the one of the best candidate."""
    arms = [arm_named(name) for name in trial.arms if name != BEST]
    arms += [arm_named(f"{EXTERNAL}{name}") for name in trial.external]
    for part in trial.curve:
        arms.append(replace(ARMS["synthetic"], name=f"synthetic_{part:g}", fraction=part))
    return arms


def _with_labels(context: Context, arms: list[Arm]) -> tuple[list[Arm], list[str]]:
    """Return the arms that have labels, and a line for each that is left out.

    Arms of pseudo-labels are left out where no class has any. Images in which nothing is labelled
    would teach that all of it is background.
    """
    if context.inputs["pseudo_label"].manifest["objects"]:
        return arms, []
    kept = [arm for arm in arms if "pseudo" not in arm.added]
    lines = []
    for arm in arms:
        if arm not in kept:
            lines.append(f"arm {arm.name} was left out: no class has pseudo-labels")
    return kept, lines


def _screen(
    trial: Trial, train: Train, named: Sequence[Arm], first_arms: Sequence[Arm], first_runs: Runs
) -> Screened:
    """Train controls, their stack, candidates and placebos, and choose a recipe."""
    real = ARMS["real"]
    controls = []
    thresholds = []
    for arm in named:
        if arm.role == "control":
            chosen, rows = _tuned(trial, train, arm)
            controls.append(chosen)
            thresholds += rows
    runs = [*first_runs, *train(controls)]

    parts = gained(runs, controls, trial.gain)
    whole = whole_stack(parts, real)
    runs += train([whole])
    stack = arm_to_beat(runs, whole, parts, real)
    runs += train([stack])

    candidates = [arm for arm in named if arm.role == "candidate"]
    placebos = [arm for arm in named if arm.role == "placebo"]
    runs += train([*candidates, *placebos])
    entire = [arm for arm in candidates if arm.fraction == 1]  # the curve's parts ask for an amount
    if BEST in trial.arms:
        best = choose_candidate(runs, entire) if entire else ARMS["synthetic"]
        on_top = on_top_of(stack, best)
        runs += train([on_top])
        candidates.append(on_top)
        entire.append(on_top)
    recipe = choose_candidate(runs, entire) if entire else None
    arms = [*first_arms, *controls, stack, *candidates, *placebos]
    return Screened(runs, arms, controls, parts, stack, recipe, thresholds)


def _tuned(trial: Trial, train: Train, arm: Arm) -> tuple[Arm, list[Json]]:
    """Return an arm with its best threshold, and the value of each that was tried."""
    variants = with_thresholds(arm, trial.repeat_thresholds)
    if len(variants) == 1:
        return variants[0], []
    runs = train(variants, min(trial.tune_seeds, trial.seeds))
    rows = []
    for variant in variants:
        value = mean_of(runs, variant.name)
        rows.append({"arm": arm.name, "threshold": variant.threshold, "value": value})
    return best_threshold(runs, arm, variants), rows


def _confirm(
    context: Context,
    bench: Bench,
    found: Mapping[str, Any],
    screened: Screened,
    classes: TrialClasses,
) -> Json | None:
    """Train real data, stack and recipe with fresh seeds, measured on fresh images.

    None where there are no such images, or where no recipe was above the stack on validation.
    """
    trial = context.job.trial
    recipe = screened.recipe
    stack = screened.stack
    if recipe is None or not trial.evaluation or not trial.confirm_seeds:
        return None
    if not beats_stack(found):
        return None
    usual_steps = found["budget"]["steps"]
    arms = [ARMS["real"], recipe]
    if screened.parts:
        arms.insert(1, stack)
    keys = []
    for arm in arms:
        steps = round(usual_steps * arm.steps)
        keys.append(bench.key(Training(arm, CONFIRMATION, 0, steps)))
    images = bench.digests[EVALUATION]
    use = Use(images, recipe.name, tuple(keys), trial.confirm_seeds)
    before = [asdict(entry) for entry in remember(Folder.at(context.job.output), use)]

    trained = bench.train(arms, CONFIRMATION, range(trial.confirm_seeds), usual_steps)
    runs = with_goal(trained, trial.goal, classes)
    conclusion = confirm(runs, arms, recipe, stack, trial, classes)
    count = bench.num_images(CONFIRMATION)
    return {**conclusion, "images": count, "before": before}


def _finish(context: Context, found: Json) -> Json:
    """Return the manifest with verdict and lines, told and written as Markdown."""
    trial = context.job.trial
    why_not = "nothing is confirmed, because trial.confirm_seeds is 0"
    if not trial.evaluation:
        why_not = "nothing is confirmed, because trial.evaluation names no images"
    manifest = {**found, "verdict": verdict(found, trial.headroom == "stop", why_not)}
    manifest["says"] = lines(manifest)
    manifest["advice"] = recommendation(manifest)
    for line in manifest["says"]:
        context.tell(f"  {line}")
    context.folder.write_bytes(TEXT, report_text.markdown(manifest).encode())
    return manifest


def _classes(context: Context) -> TrialClasses:
    """Return the thing classes, and the labelled objects and images of each."""
    job = context.job
    ingest = context.inputs["ingest"]
    classes = ingest.manifest["classes"]
    index = [label for label, category in enumerate(classes) if category["isthing"]]
    names = [classes[label]["name"] for label in index]
    counts = ingest.manifest["splits"]["labelled"]["objects"]
    table = parquet.open_table(ingest.folder.sub("labelled"), pixels=False)
    images = np.zeros(len(table.categories), np.int64)  # with an object of the class
    for scene in table:
        images += class_counts([scene], len(table.categories)) > 0
    rule = job.trial.groups
    if rule == "auto":
        references = [part.strip() for part in job.data.labelled.split(" + ")]
        is_lvis = any(reference.startswith("lvis:") for reference in references)
        rule = "lvis" if is_lvis else "relative"
    objects = [counts.get(name, 0) for name in names]
    return TrialClasses(names, index, objects, images[index].tolist(), rule)
