"""What is said of the speed of work."""

from __future__ import annotations

from synthaug.pipeline.execution.progress import Progress, clock


def test_work_that_was_begun_earlier_is_measured_from_where_it_goes_on() -> None:
    progress = Progress()
    assert progress.line(300, 600, "steps", 1000.0) == "300/600 steps, 0.0/s"
    assert progress.line(320, 600, "steps", 1010.0) == "320/600 steps, 2.0/s, 2:20 left"


def test_a_second_training_of_as_many_steps_has_a_speed_of_its_own() -> None:
    """A judge is trained with the steps of the detector, an hour later."""
    progress = Progress()
    progress.line(0, 1000, "steps", 0.0)
    progress.line(1000, 1000, "steps", 100.0)
    progress.line(2, 1000, "steps", 4000.0)
    assert progress.line(22, 1000, "steps", 4010.0) == "22/1000 steps, 2.0/s, 8:09 left"


def test_other_work_in_between_does_not_lend_its_time() -> None:
    progress = Progress()
    progress.line(0, 10, "images", 0.0)
    progress.line(0, 10, "layouts", 50.0)
    assert progress.line(0, 10, "images", 100.0) == "0/10 images, 0.0/s"
    assert progress.line(5, 10, "images", 105.0) == "5/10 images, 1.0/s, 0:05 left"


def test_hours_are_said_as_hours() -> None:
    assert [clock(s) for s in (0, 59.6, 3599, 3661)] == ["0:00", "1:00", "59:59", "1:01:01"]
