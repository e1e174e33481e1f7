"""Numbers as text.

What is unknown is never shown as a number, and what is small keeps its digits.
"""

import pytest

from synthaug.pipeline.report.frame import FILTERS
from synthaug.pipeline.report.number_text import (
    ap,
    ap_difference,
    count,
    num,
    p_value,
    percent,
    plain,
    share,
)


def test_what_is_unknown_is_never_a_number():
    for text in (num, count, plain, percent, share, ap):
        assert text(None) == "n/a", text
    assert share(3, None) == "n/a"
    assert share(0, 0) == "n/a"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234567, "1,234,567"),
        (0.0, "0.000"),
        (0.04, "0.040"),
        (0.00012, "0.00012"),
        (-0.5, "-0.500"),
        (123.456, "123.5"),
        (12.0, "12"),
        (3.0, "3.000"),
    ],
)
def test_any_number_keeps_the_digits_that_tell_it_from_its_neighbours(value, text):
    assert plain(value) == text


def test_a_small_share_keeps_a_decimal():
    assert percent(0.0123) == "1.2 %"
    assert percent(0.099999) == "10.0 %"
    assert percent(0.123) == "12 %"


def test_a_share_is_of_a_total_and_of_one_where_none_is_named():
    assert share(1, 3) == "33 %"
    assert share(0.25) == "25 %"
    assert share(0, 3) == "0 %"


def test_differences_of_ap_are_in_points_with_their_signs():
    assert ap(0.3456) == "34.6"
    difference = {"mean": 0.0123, "low": -0.001, "high": 0.03}
    assert ap_difference(difference) == "+1.2 [-0.1, +3.0]"


def test_a_p_value_is_never_shown_as_zero():
    assert p_value(0.0004) == "<0.001"
    assert p_value(0.001) == "0.001"
    assert p_value(0.0499) == "0.050"


def test_every_function_of_the_file_is_a_filter():
    functions = (num, count, plain, percent, share, ap, ap_difference, p_value)
    assert set(functions) == set(FILTERS)
