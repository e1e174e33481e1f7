"""The kinds of conditioning, by name; a system's module says which is its own.

A new kind is a file beside this one, with a `Conditioning` and its synthesizer, and a line in
CONDITIONINGS; the contract test (tests/pipeline/synthesis/test_conditioning.py) asks for a small
job of it.
"""

from __future__ import annotations

from synthaug.generators import System, load_system
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.synthesis.base import Conditioning
from synthaug.pipeline.synthesis.edits import EditConditioning
from synthaug.pipeline.synthesis.into_photos import IntoPhotosConditioning
from synthaug.pipeline.synthesis.layouts import LayoutConditioning
from synthaug.pipeline.synthesis.maps import MapConditioning
from synthaug.pipeline.synthesis.pastes import PasteConditioning
from synthaug.pipeline.synthesis.posthoc import PosthocConditioning

CONDITIONINGS: dict[str, type[Conditioning]] = {
    "layout": LayoutConditioning,
    "map": MapConditioning,
    "edit": EditConditioning,
    "paste": PasteConditioning,
    "layout, then map": PosthocConditioning,
    "layout, into photos": IntoPhotosConditioning,
}
INTO_PHOTOS = ", into photos"


def conditioning_of(job: Job) -> Conditioning:
    """Return the conditioning of a job's generator.

    JobError where its objects cannot be laid into photos.
    """
    system = load_system(job.generator.system)
    name = name_of(system)
    if job.plan.into == "photos":
        name += INTO_PHOTOS
        if name not in CONDITIONINGS:
            raise JobError(
                "plan.into: photos is for generators of layouts with masks, not for "
                f"{job.generator.system}; set it to images"
            )
    return CONDITIONINGS[name](job, system)


def name_of(system: System) -> str:
    """Return the name of a system's conditioning."""
    if system.TWO_STAGE:
        return f"{system.CONDITION}, then map"
    return system.CONDITION
