"""The two links that verification measures.

The generator's objects are recognised; the judge tells right from wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthaug.pipeline.core.json_values import Manifest
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.detection.proportions import wilson
from synthaug.pipeline.verification.policy import NOT_JUDGED
from synthaug.pipeline.verification.verdicts import EXTRA, FAILED, KEPT

# Of a generator's objects as many must be recognised, above chance, as this share of real ones.
LEAST_RECOGNISED = 0.25
# Of the verifying detector: share of accepted true labels less that of accepted false ones.
LEAST_GAIN = 0.5


def links(manifest: Manifest) -> list[Link]:
    """Return both links; untested where nothing was verified."""
    if not manifest.get("enabled"):
        off = "not verified (verify.enabled is false)"
        generator = Link("generator", "untested", off)
        return [generator, Link("verification", "untested", off)]
    if "recognised" not in manifest:
        return []
    return [generator_link(manifest), verification_link(manifest)]


def generator_link(manifest: Manifest) -> Link:
    """Return whether the detector recognises enough synthetic objects.

    Above chance, beside real ones. With the shares m of synthetic objects (its lower 95 % bound), r
    of real ones and c of objects asked for in another image, it is weak where m - c <
    LEAST_RECOGNISED (r - c).
    """
    name = "generator"
    recognised = manifest["recognised"]
    made, made_of = recognised["made"]
    real, real_of = recognised["real"]
    chance, chance_of = recognised["chance"]
    if not made_of or not real_of:
        return Link(
            name, "untested", "no synthetic object is of a class that the verifying detector knows"
        )
    real_share = real / real_of
    chance_share = chance / chance_of if chance_of else 0.0
    least = chance_share + LEAST_RECOGNISED * max(0.0, real_share - chance_share)
    figure = (
        f"{100 * made / made_of:.0f} % of {made_of} synthetic objects are recognised, "
        f"{100 * real_share:.0f} % of real ones, {100 * chance_share:.0f} % by chance"
    )
    lower, _ = wilson(made, made_of)
    if lower >= least:
        return Link(name, "ok", figure)
    figure = f"{figure}; at least {100 * least:.0f} % must be, with certainty"
    advice = (
        "train the generator longer (generator.steps), choose one that edits real images "
        "(generator.system), or lower its resolution"
    )
    return Link(name, "weak", figure, advice, stops=True)


def verification_link(manifest: Manifest) -> Link:
    """Return whether there is a judge for the classes that were made.

    And whether it tells true from false labels.
    """
    name = "verification"
    judged = []
    unjudged = []
    for label in manifest["things"]:
        if not any(manifest[key].get(label) for key in (KEPT, *FAILED, NOT_JUDGED)):
            continue
        if manifest["bars"][label]["judge"]:
            judged.append(label)
        else:
            unjudged.append(label)
    rejected, accepted = rates(manifest["errors"])
    if unjudged and not judged:
        figure = "no class has a judge: the detector finds too few real objects"
        advice = (
            "train the verifying detector longer (verify.steps), name one (verify.detector), "
            "or do without (verify.enabled=false)"
        )
        return Link(name, "weak", figure, advice, stops=True)
    figure = f"{len(judged)} of {len(judged) + len(unjudged)} classes are judged"
    if unjudged:
        figure = f"{figure} (not {', '.join(unjudged)})"
    if rejected is None or accepted is None:
        return Link(name, "untested", f"{figure}; no label errors could be planted")
    figure = (
        f"{figure}; {100 * rejected:.0f} % of true labels are rejected, "
        f"{100 * accepted:.0f} % of false ones accepted"
    )
    if 1 - rejected - accepted >= LEAST_GAIN:
        return Link(name, "ok", figure)
    advice = (
        "train the verifying detector longer (verify.steps) or name a better one (verify.detector)"
    )
    return Link(name, "weak", figure, advice)


def rates(errors: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the share of true objects rejected, and of false labels accepted.

    The latter were injected; None without any.
    """
    num_true = 0
    num_kept = 0
    for counts in errors["true"].values():
        num_true += sum(counts.values())
        num_kept += counts[KEPT]
    num_false = 0
    num_accepted = 0
    for kind, counts in errors["planted"].items():
        if kind != EXTRA:
            num_false += counts["planted"]
            num_accepted += counts["accepted"]
    rejected = accepted = None
    if num_true:
        rejected = 1 - num_kept / num_true
    if num_false:
        accepted = num_accepted / num_false
    return rejected, accepted
