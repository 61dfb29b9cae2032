"""Lesson 3: a small net of one input, its curvature, damping, and the response that influence approximates.

The net is f(x) = sum_k v_k tanh(w_k x + b_k) + c, with K hidden units: 3 K + 1 parameters, theta = (w, b, v, c).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from lessons.checking import check, predict

__all__ = [
    "UNITS", "ask_damping", "ask_hessian", "ask_retraining", "check_gauss_newton", "check_influence", "check_proximal",
    "data", "hessian", "jacobian", "net", "picture", "respond", "retrained", "trained",
]  # fmt: skip

UNITS = 8
START = 0.02  # of the descent's learning rate


def data(n: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A bent curve with noise."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-3, 3, n))
    return x, np.sin(1.3 * x) + 0.3 * x + rng.normal(scale=0.25, size=n)


def net(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """f(x) for each x."""
    w, b, v = theta[:-1].reshape(3, UNITS)
    return np.tanh(np.outer(x, w) + b) @ v + theta[-1]


def jacobian(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """d f(x_n) / d theta: (n, parameters)."""
    w, b, v = theta[:-1].reshape(3, UNITS)
    a_nk = np.tanh(np.outer(x, w) + b)
    back_nk = (1 - a_nk**2) * v
    return np.concatenate([back_nk * x[:, None], back_nk, a_nk, np.ones((len(x), 1))], axis=1)


@lru_cache(maxsize=64)
def _trained(steps: int, seed: int, left_out: int) -> np.ndarray:
    x, y = data()
    if left_out >= 0:
        x, y = np.delete(x, left_out), np.delete(y, left_out)
    rng = np.random.default_rng(seed)
    theta = np.concatenate([rng.normal(size=UNITS), rng.normal(size=UNITS), rng.normal(size=UNITS) / 3, [0.0]])
    speed = np.zeros_like(theta)
    for _ in range(steps):  # gradient descent with momentum, stopped before its end as networks are
        speed = 0.9 * speed - START * jacobian(theta, x).T @ (net(theta, x) - y) / len(x)
        theta = theta + speed
    return theta


def trained(steps: int = 3000, seed: int = 0) -> np.ndarray:
    """A trained net."""
    return _trained(steps, seed, -1).copy()


def retrained(i: int, steps: int = 3000, seed: int = 0) -> np.ndarray:
    """The same training without example i."""
    return _trained(steps, seed, i).copy()


def hessian(theta: np.ndarray, x: np.ndarray, y: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Of the mean loss (1/n) sum (f - y)^2 / 2, by central differences of its gradient."""

    def gradient(at: np.ndarray) -> np.ndarray:
        return jacobian(at, x).T @ (net(at, x) - y) / len(x)

    moved = [gradient(theta + step * e) - gradient(theta - step * e) for e in np.eye(len(theta))]
    found = np.array(moved) / (2 * step)
    return (found + found.T) / 2


def respond(theta: np.ndarray, x: np.ndarray, y: np.ndarray, i: int, weight: float, damping: float) -> np.ndarray:
    """Where the proximal objective has its minimum, for a weight of at least 0: a sum of squares, solved from theta."""
    before, n = net(theta, x), len(x)

    def parts(at: np.ndarray) -> np.ndarray:
        near = (net(at, x) - before) / np.sqrt(n)
        push = np.sqrt(weight) * (net(at, x[[i]]) - y[i])
        return np.concatenate([near, push, np.sqrt(damping) * (at - theta)])

    return least_squares(parts, theta, xtol=1e-12, ftol=1e-12).x


def _gauss_newton(jac: np.ndarray) -> np.ndarray:
    return jac.T @ jac / len(jac)


def _influence(jac: np.ndarray, residual: np.ndarray, query: np.ndarray, damping: float) -> np.ndarray:
    curve = _gauss_newton(jac) + damping * np.eye(jac.shape[1])
    return (query @ np.linalg.solve(curve, jac.T)) * residual


def _proximal(
    now: np.ndarray, before: np.ndarray, loss: float, moved: np.ndarray, weight: float, damping: float
) -> float:
    return float(((now - before) ** 2).mean() / 2 + weight * loss + damping / 2 * moved @ moved)


def picture(theta: np.ndarray, i: int) -> Callable[..., dict[str, Any]]:
    """The net, its response to more weight on example i, and the response predicted by influence."""
    x, y = data()
    grid = np.linspace(-3.4, 3.4, 120)
    jac, wide = jacobian(theta, x), jacobian(theta, grid)
    residual = y - net(theta, x)

    def follow(_x: np.ndarray, _y: np.ndarray, weight: float, damping: float) -> dict[str, Any]:
        true = net(respond(theta, x, y, i, weight, damping), grid)
        curve = _gauss_newton(jac) + damping * np.eye(len(theta))
        said = net(theta, grid) + weight * wide @ np.linalg.solve(curve, jac[i]) * residual[i]
        at = int(np.abs(grid - x[i]).argmin())
        before = net(theta, grid)[at]
        return {
            "lines": {"the trained net": (grid, net(theta, grid)), "predicted": (grid, said), "its response": (grid, true)},
            "sizes": np.where(np.arange(len(x)) == i, 1.0, 0.15),
            "words": f"at the large point: moved by {true[at] - before:+.3f}, predicted {said[at] - before:+.3f}",
        }  # fmt: skip

    return follow


def _case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = data(seed=seed)
    theta = trained(300, seed)
    return jacobian(theta, x), y - net(theta, x), jacobian(theta, np.array([0.7]))[0]


def check_gauss_newton(answer: Any) -> Callable[..., Any]:
    """The Gauss-Newton matrix."""
    return check(
        "the Gauss-Newton matrix", answer, _gauss_newton, [(_case(seed)[0],) for seed in (0, 1)],
        mistakes={
            "This is the sum over the examples; the loss is their mean.": lambda j: j.T @ j,
            "The sides are turned round: one row and column for each parameter, not for each example.": lambda j: j @ j.T / len(j),
        },
        right="It has no negative eigenvalue, whatever the net: it is a sum of squares.",
    )  # fmt: skip


def check_influence(answer: Any) -> Callable[..., Any]:
    """Damped influence of every example on a query."""
    # More examples than parameters: then G has an inverse, and what is forgotten shows in numbers of its own.
    rng = np.random.default_rng(3)
    cases = [(rng.normal(size=(9, 4)), rng.normal(size=9), rng.normal(size=4), damping) for damping in (0.5, 0.1)]
    return check(
        "damped influence", answer, _influence, cases,
        mistakes={
            "The damping is missing.": lambda j, r, q, d: (q @ np.linalg.solve(_gauss_newton(j), j.T)) * r,
            "The residual of each example is missing.": lambda j, r, q, d: _influence(j, np.ones_like(r), q, d),
            "G is a mean over the examples: divide by n.": lambda j, r, q, d: _influence(j, r, q, d / len(j)) / len(j),
            "Without the inverse it is a dot product of gradients.": lambda j, r, q, d: (j @ q) * r,
            "The damping belongs on the diagonal alone: d times the identity.": lambda j, r, q, d: (
                (q @ np.linalg.solve(_gauss_newton(j) + d, j.T)) * r
            ),
        },
        right="With a large damping it turns into the dot product, divided by the damping.",
    )  # fmt: skip


def check_proximal(answer: Any) -> Callable[..., Any]:
    """The proximal Bregman objective of squared loss."""
    rng = np.random.default_rng(0)
    cases = [(rng.normal(size=6), rng.normal(size=6), 0.7, rng.normal(size=4), 0.3, 0.2) for _ in range(3)]
    return check(
        "the proximal objective", answer, _proximal, cases,
        mistakes={
            "The factor 1/2 of the first term is missing.": lambda now, b, loss, m, w, d: _proximal(now, b, loss, m, w, d)
            + float(((now - b) ** 2).mean() / 2),
            "The factor 1/2 of the last term is missing.": lambda now, b, loss, m, w, d: _proximal(now, b, loss, m, w, d)
            + d / 2 * float(m @ m),
            "The example's loss needs its weight.": lambda now, b, loss, m, w, d: _proximal(now, b, loss, m, 1.0, d),
            "The first term is a mean over the examples, as the loss is.": lambda now, b, loss, m, w, d: (
                _proximal(now, b, loss, m, w, d) + float(((now - b) ** 2).sum() / 2 - ((now - b) ** 2).mean() / 2)
            ),
        },
        right="Stay near in outputs, stay near in weights, and yield to one example: its minimum is what influence predicts.",
    )  # fmt: skip


def ask_hessian() -> None:
    """What an inverse does with a negative eigenvalue."""
    predict(
        "The Hessian at the end of training has a negative eigenvalue. What does its inverse do with a gradient there?",
        ["it moves downhill as it should", "it moves uphill", "nothing"],
        1,
        "Dividing by a negative curvature turns the direction round: the formula walks to a maximum.",
    )


def ask_damping() -> None:
    """What more damping does."""
    predict(
        "You make the damping ten times larger. The response to the same example becomes ...",
        ["larger", "smaller and smoother", "the same"],
        1,
        "Every direction is held by a spring of that strength. Weak directions, which wiggle, are held most.",
    )


def ask_retraining() -> None:
    """Response against retraining."""
    predict(
        "Suppose influence agrees with the response for a small weight. Will it agree as well with training again without the example?",
        ["yes", "less well"],
        1,
        "Training again starts from the beginning and may end elsewhere. The response asks a local question of this net.",
    )
