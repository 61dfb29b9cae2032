"""The playground's Python half: what follows from points and sliders, bad input, the picture without a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import traitlets

from inflab.errors import SettingError
from inflab.widgets import Playground

X, Y = np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0])


def line(x: np.ndarray, y: np.ndarray, **values: float) -> dict[str, Any]:
    slope, start = np.polyfit(x, y, 1)
    said = f"slope {slope:.2f}" + "".join(f", {name} {value:g}" for name, value in values.items())
    return {"lines": {"fit": start + slope * x}, "sizes": abs(x), "words": said}


def test_what_follows_is_computed_at_once_and_again() -> None:
    shown = Playground(X, Y, line)
    assert shown._drawn["words"] == "slope 2.00"
    assert shown._drawn["sizes"] == [0.0, 0.5, 1.0]
    assert shown._drawn["lines"] == [{"name": "fit", "look": "data", "x": [0, 1, 2], "y": pytest.approx([1, 3, 5])}]
    shown.points = [[0, 1], [1, 3], [2, 8]]
    assert shown._drawn["words"] == "slope 3.50"


def test_sliders_come_by_name_and_long_ranges_are_logarithmic() -> None:
    shown = Playground(X, Y, line, sliders={"damping": (1e-4, 1, 0.1), "k": (0, 10, 3)}, move="none")
    assert [row["isLog"] for row in shown._plane["sliders"]] == [True, False]
    shown.values = {"damping": 0.5, "k": 4}
    assert shown._drawn["words"] == "slope 2.00, damping 0.5, k 4"


def test_what_fails_in_a_browser_is_said_and_the_next_change_works() -> None:
    def picky(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        if y[0] > 5:
            raise ValueError("too high")
        return line(x, y)

    shown = Playground(X, Y, picky)
    shown.set_state({"points": [[0, 9], [1, 3], [2, 5]]})
    assert shown.error == "ValueError: too high"
    shown.set_state({"points": [[0, 2], [1, 3], [2, 4]]})
    assert (shown.error, shown._drawn["words"]) == ("", "slope 1.00")


def test_without_a_kernel_it_is_a_picture_with_its_words() -> None:
    data = Playground(
        X, Y, lambda x, y: {"lines": {"<b>": (x, y)}, "words": "<script>", "marks": "abc"}
    )._repr_mimebundle_()
    html = data[0]["text/html"]
    assert "<svg" in html and "&lt;b&gt;" in html and "&lt;script&gt;" in html and "<script>" not in html
    assert data[0]["text/plain"].startswith("Playground(3 points)")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"y": Y[:2]}, "shape"), ({"x": [], "y": []}, "x is empty"),
        ({"y": np.array([1, np.nan, 2])}, "NaN"), ({"move": "up"}, "not one of"),
        ({"sliders": {"k": (0, 1, 2)}}, "sliders"), ({"x_domain": (1, 1)}, "x_domain"),
        ({"follow": lambda x, y: {"line": x}}, "follow"), ({"follow": lambda x, y: None}, "follow"),
        ({"follow": lambda x, y: {"sizes": [1]}}, "sizes"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        Playground(**{"x": X, "y": Y, "follow": line, **given})


def test_lines_alone_need_no_point() -> None:
    shown = Playground(
        [], [], lambda x, y, k: {"lines": {"a": (np.arange(3), k * np.arange(3))}}, sliders={"k": (0, 1, 0.5)},
        move="none", x_domain=(0, 2), y_domain=(0, 2),
    )  # fmt: skip
    assert shown._drawn["lines"][0]["y"] == [0, 0.5, 1]
    assert "<svg" in shown._repr_mimebundle_()[0]["text/html"]


def test_points_and_values_keep_their_number() -> None:
    shown = Playground(X, Y, line, sliders={"k": (0, 1, 0)})
    with pytest.raises(traitlets.TraitError, match="3 are drawn"):
        shown.points = [[0, 1]]
    with pytest.raises(traitlets.TraitError, match="sliders are"):
        shown.values = {"q": 1}
