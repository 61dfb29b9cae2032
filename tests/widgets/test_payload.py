"""What travels is small, JSON, in nats per added copy, and the numbers of the arrays."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from inflab import plot
from inflab.widgets import payload


def test_widget_and_charts_speak_of_the_same_units() -> None:
    assert payload.UNITS == plot.UNITS


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (np.float32(0.1), 0.1), (float("nan"), None), (np.float64("inf"), None), (np.int64(3), 3),
        (np.bool_(True), True), (np.str_("a"), "a"), ("a\ud800b", "a\ufffdb"), ("😀", "😀"),
        (np.datetime64("2020-01-02"), "2020-01-02"), (None, "None"),
    ],
)  # fmt: skip
def test_values_become_plain_json(value: object, sent: object) -> None:
    assert payload.plain(value) == sent
    json.dumps(payload.plain(value), allow_nan=False).encode("utf-8")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.5, "+1.50"), (-0.12345, "−0.123"), (0.0, "0"), (100.0, "+100"), (1234.0, "+1.23×10³"),
        (-4.5e-6, "−4.50×10⁻⁶"), (0.0001, "+0.000100"), (math.nan, "–"), (None, "–"),
    ],
)  # fmt: skip
def test_numbers_read_as_in_the_front_end(number: float | None, text: str) -> None:
    assert payload.signed(number) == text
