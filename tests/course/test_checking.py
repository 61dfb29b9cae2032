"""Checks say what is wrong, hand back what the lesson can go on with, and questions show no answer beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

X = np.array([1.0, 2.0, 4.0])


def ours(x: np.ndarray) -> np.ndarray:
    return x**2


def stub(x: np.ndarray) -> np.ndarray:
    raise NotImplementedError("fill this in")


@pytest.fixture
def told(lessons: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any]]:
    from lessons import checking

    def ask(answer: Any, **options: Any) -> tuple[Any, Any]:
        shown: list[Any] = []
        monkeypatch.setattr(checking, "display", shown.append)
        kept = checking.check("squares", answer, ours, [(X,), (X + 1,)], **options)
        return kept, shown[0]

    return ask


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (stub, "Nothing is filled in"), (lambda x: None, "returns nothing"), (lambda x: ..., "returns nothing"),
        (lambda x: x[:2], r"shape \(2,\)"), (lambda x: "no", "str"), (lambda x: x * np.nan, "NaN"),
        (lambda x: 1 / 0, "ZeroDivisionError"), (lambda x: -(x**2), "sign is turned"),
        (lambda x: 3 * x**2, "3 times too large"),
        (lambda x: x**3, "Cubed"),
        (lambda x: x**2 + (x > 4), r"Test 2 of 2, at position 2 .the first is 0.: yours gives 26, 25"),
        (7, "needs your function"), (lambda: 3, "TypeError"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_ours_comes_back(told: Any, answer: Any, words: str) -> None:
    import re

    kept, outcome = told(answer, mistakes={"Cubed instead of squared.": lambda x: x**3})
    assert kept is ours and not outcome.passed
    assert re.search(words, outcome.words), outcome.words


def test_a_right_answer_comes_back_itself(told: Any) -> None:
    answer = lambda x: x * x * (1 + 1e-12)  # noqa: E731
    kept, outcome = told(answer, right="That is it.")
    assert kept is answer and outcome.passed and outcome.words == "That is it."
    data = outcome._repr_mimebundle_()
    assert data["application/vnd.inflab.check+json"] == {"exercise": "squares", "passed": True}


def test_words_are_escaped(told: Any) -> None:
    def bad(x: Any) -> Any:
        raise ValueError("<script>")

    assert "<script>" not in told(bad)[1]._repr_mimebundle_()["text/html"]


def test_a_question_hides_its_answer_until_one_chooses(lessons: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from lessons import checking

    shown: list[Any] = []
    monkeypatch.setattr(checking, "display", shown.append)
    checking.predict("Which is larger?", ["the mean", "the median"], 0, "Because <it> is.")
    _, choice, reply = shown[0].children
    assert choice.value is None and reply.value == ""
    choice.value = "the median"
    assert "You expected: the median" in reply.value and "Because &lt;it&gt; is." in reply.value
    still = shown[0]._repr_mimebundle_()["text/html"]
    assert "<details>" in still
