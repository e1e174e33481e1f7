"""Seeds of a trial's stages: paired within a stage, fresh in the next."""

from __future__ import annotations

from synthaug.pipeline.trial.stages import CONFIRMATION, SCREENING


def test_no_seed_of_confirmation_was_one_of_screening() -> None:
    screened = {SCREENING.seed(0, number) for number in range(200)}
    confirmed = {CONFIRMATION.seed(0, number) for number in range(200)}
    assert 400 == len(screened | confirmed)


def test_seeds_are_those_of_the_job_and_the_number() -> None:
    assert SCREENING.seed(3, 1) == SCREENING.seed(3, 1)
    assert len({SCREENING.seed(job, number) for job in (3, 4) for number in (1, 2)}) == 4


def test_the_stages_are_measured_on_images_of_their_own() -> None:
    assert SCREENING.images != CONFIRMATION.images
