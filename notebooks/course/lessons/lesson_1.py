"""Lesson 1: what one point does to a mean, a median, a line. Data, right answers, and the mistakes that are often made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lessons.checking import check, predict

__all__ = [
    "HOURS", "SCORE", "ask_arm", "ask_both", "ask_mean", "check_cook", "check_influence", "check_leverage", "check_pull",
    "fit", "line_picture", "line_without", "mean_without",
]  # fmt: skip

#: Hours of practice and points in a test, of twelve invented people; the last one practised long before.
HOURS = np.array([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 11.0])
SCORE = np.array([2.1, 2.9, 2.6, 3.8, 3.5, 4.6, 4.2, 5.3, 5.1, 6.2, 5.8, 6.4])


def fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of the least-squares line."""
    slope, start = np.polyfit(x, y, 1)
    return float(start), float(slope)


def mean_without(y: np.ndarray, i: int) -> float:
    """The mean of all numbers but one, computed again."""
    return float(np.delete(y, i).mean())


def line_without(x: np.ndarray, y: np.ndarray, i: int) -> tuple[float, float]:
    """The line through all points but one, computed again."""
    return fit(np.delete(x, i), np.delete(y, i))


def _design(x: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x], axis=1)


def _pull(y: np.ndarray) -> np.ndarray:
    return (y.mean() - y) / (len(y) - 1)


def _leverage(x: np.ndarray) -> np.ndarray:
    design = _design(x)
    return np.einsum("ni,ni->n", design, np.linalg.solve(design.T @ design, design.T).T)


def _influence(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    design = _design(x)
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return (np.linalg.inv(design.T @ design) @ (design * residual[:, None]).T)[1]


def _cook(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    design, h = _design(x), _leverage(x)
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    spread = residual @ residual / (len(x) - 2)
    return residual**2 * h / (2 * spread * (1 - h) ** 2)


def _spread(x: np.ndarray, y: np.ndarray) -> float:
    residual = y - _design(x) @ np.linalg.lstsq(_design(x), y, rcond=None)[0]
    return float(residual @ residual / (len(x) - 2))


def line_picture(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """The line through the points, each with its Cook's distance: what the playground draws."""
    start, slope = fit(x, y)
    ends = np.array([-1.0, 15.0])
    residual, cook = y - start - slope * x, _cook(x, y)
    marks = [
        f"leverage {h:.2f}, residual {r:+.2f}, Cook's distance {d:.2f}"
        for h, r, d in zip(_leverage(x), residual, cook, strict=True)
    ]
    said = f"slope {slope:.3f} points an hour, largest Cook's distance {cook.max():.2f} (the largest disc)"
    return {"lines": {"least squares": (ends, start + slope * ends)}, "sizes": cook, "marks": marks, "words": said}


def ask_mean() -> None:
    """What one point does to a mean."""
    predict(
        "One of the twelve scores is raised by 6. How much does their mean rise?",
        ["not at all", "by 0.5", "by 6"],
        1,
        "Every number has a share of 1/n in a mean: 6 / 12 = 0.5, whoever it is. A median cares only about the order.",
    )


def ask_arm() -> None:
    """Where a residual turns a line most."""
    predict(
        "Whose removal changes the slope more?",
        ["the one in the middle", "the one at the far end", "both the same"],
        1,
        "A line turns about the centre of the points. Far from it there is a long arm: the same residual turns more.",
    )


def ask_both() -> None:
    """Leverage without a residual."""
    predict(
        "A point has the largest leverage of all and lies exactly on the line. Its Cook's distance is ...",
        ["the largest", "zero", "one"],
        1,
        "Its residual is 0, and so is its pull: it agrees with what the others say already. Leverage is what it could do.",
    )


_XS = [HOURS, np.array([0.0, 1.0, 3.0, 4.0, 9.0])]
_CASES = [(HOURS, SCORE), (np.array([0.0, 1.0, 3.0, 4.0, 9.0]), np.array([1.0, -2.0, 0.5, 4.0, 3.0]))]


def check_pull(answer: Any) -> Callable[..., Any]:
    """How the mean changes when each number is left out."""
    return check(
        "the pull on a mean", answer, _pull, [(SCORE,), (np.array([3.0, -1.0, 10.0, 0.0]),)],
        mistakes={
            "That is how far each number lies from the mean; how much does the mean itself move when it leaves?": lambda y: (
                y.mean() - y
            ),
            "That is the mean of the others; subtract the mean of all.": lambda y: (y.sum() - y) / (len(y) - 1),
            "The other way round, and how far each number lies from the mean; how much does the mean itself move?": lambda y: (
                y - y.mean()
            ),
            "You divide by n. After one number has left, n - 1 are there to share the difference.": lambda y: (
                (y.mean() - y) / len(y)
            ),
        },
        right="No refitting, and exact. With n below instead of n - 1 it would be the influence, to which this lesson comes.",
    )  # fmt: skip


def check_leverage(answer: Any) -> Callable[..., Any]:
    """The diagonal of the hat matrix of a line with intercept."""
    return check(
        "leverage", answer, _leverage, [(x,) for x in _XS],
        mistakes={
            "The column of ones is missing: this is the leverage of a line through the origin.": lambda x: x**2 / (x @ x),
            "Almost: 1/n, the part of the intercept, is missing.": lambda x: (x - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum(),
        },
        right=f"It depends on x alone. The person at {HOURS[-1]:g} hours has {_leverage(HOURS)[-1]:.2f}; the mean is 2/n.",
    )  # fmt: skip


def check_influence(answer: Any) -> Callable[..., Any]:
    """Predicted pull of each point on the slope: inverse Hessian times gradient."""
    return check(
        "influence on the slope", answer, _influence, _CASES,
        mistakes={
            "This is the intercept's row; the slope is the second one.": lambda x, y: (
                np.linalg.inv(_design(x).T @ _design(x))
                @ (_design(x) * (y - _design(x) @ np.linalg.lstsq(_design(x), y, rcond=None)[0])[:, None]).T
            )[0],
            "The residual of each point is missing.": lambda x, y: (
                np.linalg.inv(_design(x).T @ _design(x)) @ _design(x).T
            )[1],
            "H is the Hessian of the sum: do not divide it by n.": lambda x, y: _influence(x, y) * len(x),
            "The inverse Hessian is missing: this is only each point's gradient.": lambda x, y: (
                x * (y - _design(x) @ np.linalg.lstsq(_design(x), y, rcond=None)[0])
            ),
        },
        right="One solve for all points, no refit. Their sum is 0: at the optimum, the pulls are in balance.",
    )  # fmt: skip


def check_cook(answer: Any) -> Callable[..., Any]:
    """Cook's distance."""
    return check(
        "Cook's distance", answer, _cook, _CASES,
        mistakes={
            "The square of 1 - h is missing below: it stands for refitting without the point.": lambda x, y: (
                _cook(x, y) * (1 - _leverage(x))
            ),
            "Divide by the number of parameters, 2, as well.": lambda x, y: 2 * _cook(x, y),
            "Divide by s squared, not by s.": lambda x, y: _cook(x, y) * np.sqrt(_spread(x, y)),
            "Divide by 2 and by s squared: a / 2 * b multiplies by b.": lambda x, y: _cook(x, y) * _spread(x, y) ** 2,
            "s squared divides by n - 2: two parameters were fitted.": lambda x, y: _cook(x, y) * len(x) / (len(x) - 2),
        },
        right="Leverage times residual, squared: a point needs both to pull a line.",
    )  # fmt: skip
