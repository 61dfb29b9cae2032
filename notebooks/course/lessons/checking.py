"""Checks that say what is wrong, and questions that are answered before the result is seen.

A check hands back the learner's function when it is right, and ours when it is not yet, so that a lesson goes on:
nobody is stopped by one exercise. Its output carries the outcome as data, by which the solutions are tested.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
from IPython.display import display

__all__ = ["MIME", "Outcome", "check", "predict"]

MIME = "application/vnd.inflab.check+json"
_RIGHT, _OPEN = "#009e73", "#d55e00"  # Okabe and Ito 2008; said in words too
_GOES_ON = "The lesson goes on with our version until yours passes: change your function in this cell and run it again."


class Outcome:
    """What a check found: shown as a box, and as data.

    Args:
        exercise: its name.
        passed: whether the answer is right.
        words: what is right or wrong.
    """

    def __init__(self, exercise: str, passed: bool, words: str) -> None:
        self.exercise, self.passed, self.words = exercise, passed, words

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        head = f"{'✓' if self.passed else '○'} {self.exercise}: {'right' if self.passed else 'not yet'}"
        body = "" if self.passed else f"<div>{html.escape(_GOES_ON)}</div>"
        colour = _RIGHT if self.passed else _OPEN
        box = (
            f'<div style="border-left:4px solid {colour};padding:2px 10px;margin:4px 0"><b>{html.escape(head)}.</b> '
            f"{html.escape(self.words)}{body}</div>"
        )
        plain = f"{head}. {self.words}"
        return {MIME: {"exercise": self.exercise, "passed": self.passed}, "text/html": box, "text/plain": plain}


def check(
    exercise: str,
    answer: Any,
    ours: Callable[..., Any],
    cases: Sequence[tuple[Any, ...]],
    *,
    mistakes: Mapping[str, Callable[..., Any]] | None = None,
    right: str = "",
    rtol: float = 1e-6,
) -> Callable[..., Any]:
    """Hold a learner's function against ours, on several inputs, and say what differs.

    Args:
        exercise: its name.
        answer: the learner's function.
        ours: a right one.
        cases: the arguments of each call.
        mistakes: what to say -> a function that makes that mistake; said when the answer agrees with it everywhere.
        right: what to say when it is right.
        rtol: how close numbers must be, relative to the largest expected.

    Returns:
        `answer` when it is right, else `ours`.
    """
    words = _wrong(answer, ours, cases, mistakes or {}, rtol)
    display(Outcome(exercise, not words, words or right))
    return ours if words else answer


def predict(question: str, options: Sequence[str], answer: int, why: str) -> None:
    """Ask before the result is seen; the explanation comes with a choice.

    Args:
        question: with no answer in it.
        options: to choose from.
        answer: number of the right one, counted from 0.
        why: said after any choice.
    """
    choice = ipywidgets.RadioButtons(options=list(options), value=None, layout=ipywidgets.Layout(width="auto"))
    reply = ipywidgets.HTML()

    def reveal(change: Any) -> None:
        verdict = "Yes." if change["new"] == options[answer] else f"You expected: {change['new']}."
        reply.value = f"<p><b>{html.escape(verdict)}</b> {html.escape(why)}</p>"

    choice.observe(reveal, names="value")
    display(_Asked(question, options, why, [ipywidgets.HTML(f"<b>{html.escape(question)}</b>"), choice, reply]))


class _Asked(ipywidgets.VBox):
    """A question; on a page without a kernel, the explanation folds out."""

    def __init__(self, question: str, options: Sequence[str], why: str, children: list[Any]) -> None:
        super().__init__(children)
        self._still = (
            f"<p><b>{html.escape(question)}</b></p><ul>{''.join(f'<li>{html.escape(o)}</li>' for o in options)}</ul>"
            f"<details><summary>Decide first, then look</summary>{html.escape(why)}</details>"
        )
        self._plain = f"{question} ({'; '.join(options)})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        found = super()._repr_mimebundle_(**kwargs)
        data, *rest = found if isinstance(found, tuple) else (found,)
        bundle = {**(data or {}), "text/html": self._still, "text/plain": self._plain}
        return (bundle, *rest) if rest else bundle


def _wrong(
    answer: Any, ours: Callable[..., Any], cases: Sequence[tuple[Any, ...]], mistakes: Mapping[str, Any], rtol: float
) -> str:
    """What is wrong, in words; "" when nothing is."""
    if not callable(answer):
        return f"This check needs your function, and got {type(answer).__name__}. Write it above the check, in the same cell."
    pairs = []
    for case in cases:
        try:
            given = answer(*case)
        except NotImplementedError:
            return "Nothing is filled in yet."
        except Exception as error:
            return f"It stops with {type(error).__name__}: {error}."
        if given is None or given is ...:
            return "It returns nothing: does the last line say return?"
        pairs.append((given, ours(*case)))
    odd = next((said for given, expected in pairs if (said := _shape(given, expected))), "")
    if not odd and all(_close(given, expected, rtol) for given, expected in pairs):
        return ""
    for words, mistake in mistakes.items():
        try:
            if all(_close(given, mistake(*case), rtol) for (given, _), case in zip(pairs, cases, strict=True)):
                return words
        except Exception:  # a mistake that cannot be made with these inputs is not the one
            continue
    return odd or _numbers(pairs, cases, rtol)


def _shape(given: Any, expected: Any) -> str:
    try:
        got, want = np.asarray(given, float), np.asarray(expected, float)
    except (TypeError, ValueError):
        return f"It gives {type(given).__name__}; numbers are expected."
    if got.shape != want.shape:
        return f"It gives an array of shape {got.shape}; {want.shape} is expected."
    return "It gives NaN or infinity." if not np.isfinite(got).all() else ""


def _close(given: Any, expected: Any, rtol: float) -> bool:
    got, want = np.asarray(given, float), np.asarray(expected, float)
    return got.shape == want.shape and np.allclose(got, want, rtol=rtol, atol=rtol * float(np.abs(want).max(initial=0)))


def _numbers(pairs: list[tuple[Any, Any]], cases: Sequence[tuple[Any, ...]], rtol: float) -> str:
    """The sign, a common factor, or the first number that differs."""
    got = np.concatenate([np.ravel(np.asarray(given, float)) for given, _ in pairs])
    want = np.concatenate([np.ravel(np.asarray(expected, float)) for _, expected in pairs])
    if _close(got, -want, rtol):
        return "The size is right, the sign is turned round."
    if (want != 0).all() and _close(got / want, np.full(len(want), (got / want)[0]), rtol):
        return f"It is {(got / want)[0]:.4g} times too large everywhere: is a factor missing, or one too many?"
    for number, (given, expected) in enumerate(pairs, 1):
        if not _close(given, expected, rtol):
            off = np.ravel(np.abs(np.asarray(given, float) - np.asarray(expected, float)))
            at = int(off.argmax())
            mine, other = np.ravel(np.asarray(given, float))[at], np.ravel(np.asarray(expected, float))[at]
            where = f", at position {at} (the first is 0)" if off.size > 1 else ""
            held = f"Test {number} of {len(cases)}{where}"
            return f"{held}: yours gives {mine:.6g}, {other:.6g} is expected."
    return "Some numbers differ."
