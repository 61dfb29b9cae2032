"""Lesson 2: how an optimum moves when its loss changes a little, and what leaving out really does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lessons.checking import check, predict

__all__ = [
    "ask_group", "ask_logistic", "ask_steep", "check_exact", "check_ift", "check_logistic", "check_ridge", "classes",
    "logistic", "logistic_without", "points", "ridge", "valley", "without",
]  # fmt: skip

MU = 1.0  # of the ridge


def points(n: int = 40, dims: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n examples of a noisy linear rule, a few of them far from the others."""
    rng = np.random.default_rng(seed)
    x_nd = rng.normal(size=(n, dims)) * np.where(rng.random(n) < 0.15, 3.0, 1.0)[:, None]
    return x_nd, x_nd @ rng.normal(size=dims) + rng.normal(size=n)


def classes(n: int = 60, dims: int = 3, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """n examples of two classes, 0 and 1, that overlap."""
    x_nd, score = points(n, dims, seed)
    return x_nd, (score + np.random.default_rng(seed + 1).normal(size=n) > 0).astype(float)


def ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The minimum of sum_i (y_i - x_i theta)^2 / 2 + MU |theta|^2 / 2."""
    return np.linalg.solve(x.T @ x + MU * np.eye(x.shape[1]), x.T @ y)


def without(x: np.ndarray, y: np.ndarray, i: int) -> np.ndarray:
    """The same, fitted again without example i."""
    return ridge(np.delete(x, i, 0), np.delete(y, i))


def logistic(x: np.ndarray, y: np.ndarray, steps: int = 50) -> np.ndarray:
    """Logistic regression with the same ridge, by Newton's method to the last digit."""
    theta = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-x @ theta))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + MU * np.eye(len(theta))
        theta = theta - np.linalg.solve(hessian, x.T @ (p - y) + MU * theta)
    return theta


def logistic_without(x: np.ndarray, y: np.ndarray, i: int | np.ndarray) -> np.ndarray:
    """The same, fitted again without some examples."""
    return logistic(np.delete(x, i, 0), np.delete(y, i))


# A loss of one parameter that is no parabola, and what one more example adds to it.
def _loss(t: np.ndarray) -> np.ndarray:
    return 0.5 * (t - 1) ** 2 + 0.1 * (t - 1) ** 4


def _example(t: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(1.5 * (t - 0.2)))


def _minimum(weight: float) -> float:
    grid = np.linspace(-4, 4, 160_001)
    return float(grid[np.argmin(_loss(grid) + weight * _example(grid))])


def valley(x: np.ndarray, y: np.ndarray, weight: float) -> dict[str, Any]:
    """The loss, the loss with the example's weight, the true minimum and the predicted one: what the playground draws."""
    t = np.linspace(-2.5, 3, 200)
    slope = 1.5 / (1 + np.exp(-1.5 * 0.8))  # of the example at the minimum, 1
    true, said = _minimum(weight), 1 - slope * weight
    low = float(_loss(np.array(true)) + weight * _example(np.array(true)))
    return {
        "lines": {
            "loss, with the example's weight": (t, _loss(t) + weight * _example(t)),
            "loss without it": (t, _loss(t)),
            "minimum predicted by one derivative": (np.array([said, said]), np.array([low - 0.4, low + 1.5])),
        },
        "words": f"weight {weight:+.2f}: minimum at {true:.3f}, predicted {said:.3f}",
    }


def _ift(loss_second: float, example_first: float) -> float:
    return -example_first / loss_second


def _ridge_effects(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    residual = y - x @ ridge(x, y)
    return (query @ np.linalg.solve(x.T @ x + MU * np.eye(x.shape[1]), x.T)) * residual


def _leverage(x: np.ndarray) -> np.ndarray:
    return np.einsum("ni,ni->n", x, np.linalg.solve(x.T @ x + MU * np.eye(x.shape[1]), x.T).T)


def _exact(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    return -_ridge_effects(x, y, query) / (1 - _leverage(x))


def _logistic_effects(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-x @ logistic(x, y)))
    hessian = (x * (p * (1 - p))[:, None]).T @ x + MU * np.eye(x.shape[1])
    return (query @ np.linalg.solve(hessian, x.T)) * (y - p)


def _cases() -> list[tuple[np.ndarray, ...]]:
    return [(*points(12, 3, seed), np.array([1.0, -0.5, 2.0])) for seed in (3, 4)]


def check_ift(answer: Any) -> Callable[..., Any]:
    """d theta / d weight of one parameter."""
    return check(
        "how the minimum moves", answer, _ift, [(2.0, 0.5), (0.5, -3.0)],
        mistakes={
            "The curvature multiplies in your answer. A steep valley gives way less, not more: divide.": lambda c, g: -g * c,
        },
        right="One derivative and one curvature at the old minimum; nothing is minimised again.",
    )  # fmt: skip


def check_ridge(answer: Any) -> Callable[..., Any]:
    """Influence of every example on a prediction."""
    return check(
        "influence on a prediction", answer, _ridge_effects, _cases(),
        mistakes={
            "The ridge is missing in the Hessian: add MU times the identity.": lambda x, y, q: (
                (q @ np.linalg.solve(x.T @ x, x.T)) * (y - x @ ridge(x, y))
            ),
            "The Hessian is missing: this is the dot product of the query with each example's gradient.": lambda x, y, q: (
                (x @ q) * (y - x @ ridge(x, y))
            ),
            "The residuals are missing: an example that is predicted perfectly has no gradient.": lambda x, y, q: (
                q @ np.linalg.solve(x.T @ x + MU * np.eye(x.shape[1]), x.T)
            ),
        },
        right="All examples at once, from one solve.",
    )  # fmt: skip


def check_exact(answer: Any) -> Callable[..., Any]:
    """What leaving each example out does to a prediction, exactly."""
    return check(
        "exact leave-one-out", answer, _exact, _cases(),
        mistakes={
            "You multiply by 1 - h. Leaving out does more than the derivative says: divide.": lambda x, y, q: (
                -_ridge_effects(x, y, q) * (1 - _leverage(x))
            ),
            "This is the change when each example is added once more by the derivative alone: turn the sign, divide by 1 - h.": (
                _ridge_effects
            ),
            "This is still the derivative: divide by 1 - h.": lambda x, y, q: -_ridge_effects(x, y, q),
            "The leverage must know of the ridge: use the same Hessian.": lambda x, y, q: (
                -_ridge_effects(x, y, q) / (1 - np.einsum("ni,ni->n", x, np.linalg.solve(x.T @ x, x.T).T))
            ),
        },
        right="No refit, to the last digit (Sherman and Morrison 1950): for a quadratic loss, leaving out is solved.",
    )  # fmt: skip


def check_logistic(answer: Any) -> Callable[..., Any]:
    """The same for logistic regression."""
    cases = [(*classes(20, 3, seed), np.array([1.0, -0.5, 2.0])) for seed in (3, 4)]
    return check(
        "influence in logistic regression", answer, _logistic_effects, cases, rtol=1e-5,
        mistakes={
            "The curvature of each example, p (1 - p), is missing in the Hessian.": lambda x, y, q: (
                (q @ np.linalg.solve(x.T @ x + MU * np.eye(x.shape[1]), x.T)) * (y - 1 / (1 + np.exp(-x @ logistic(x, y))))
            ),
            "The ridge is missing in the Hessian.": lambda x, y, q: (
                (q @ np.linalg.solve((x * _curvature(x, y)[:, None]).T @ x, x.T)) * (y - 1 / (1 + np.exp(-x @ logistic(x, y))))
            ),
        },
        right="The same two ingredients; only the Hessian now depends on where the optimum is.",
    )  # fmt: skip


def _curvature(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-x @ logistic(x, y)))
    return p * (1 - p)


def ask_steep() -> None:
    """Curvature against movement."""
    predict(
        "Two losses get the same extra term. One has a narrow valley, the other a wide one. Whose minimum moves more?",
        ["the narrow one's", "the wide one's", "both the same"],
        1,
        "The extra term pushes with the same slope; the narrow valley's walls push back sooner. Movement = slope / curvature.",
    )


def ask_logistic() -> None:
    """Whether the gap stays exact."""
    predict(
        "In logistic regression, is predicted / (1 - h) still exactly what leaving out does?",
        ["yes, always", "nearly", "no, it is far off"],
        1,
        "The Hessian itself changes when an example leaves. With one example of many it changes little, so nearly.",
    )


def ask_group() -> None:
    """Adding up influences."""
    predict(
        "Leave out the 10 most helpful examples together. The true change, against the sum of their 10 predictions, is ...",
        ["about the same size", "larger", "smaller"],
        1,
        "Helpful examples share directions. When one has left, less holds the fit there, and the next one matters more.",
    )
