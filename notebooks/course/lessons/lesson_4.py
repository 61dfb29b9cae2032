"""Lesson 4: the curvature of one layer, exactly, as a Kronecker product, and corrected in its eigenbasis.

The layer takes I = 4 numbers (the last is the constant 1 of the bias) to P = 3 classes. Labels are not sampled but
enumerated: each example stands three times, once for each label, with the model's own probability as its weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lessons.checking import check, predict

__all__ = [
    "ask_eigenbasis", "ask_independent", "ask_size", "check_corrected", "check_covariances", "check_exact", "check_solve",
    "enumerated", "error", "picture",
]  # fmt: skip

INPUTS, CLASSES = 4, 3


def enumerated(sharpness: float = 0.5, n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations a (n, I), pseudo-gradients g (n, P), weights w (n,) that sum to 1; three rows an example.

    At sharpness 0 every class has the same probability, whatever the input: gradients do not depend on activations.
    """
    rng = np.random.default_rng(seed)
    x_ni = np.concatenate([rng.standard_t(4, size=(n, INPUTS - 1)) * [2.0, 1.0, 0.4], np.ones((n, 1))], axis=1)
    logit_np = sharpness * x_ni @ rng.normal(size=(INPUTS, CLASSES))
    p_np = np.exp(logit_np - logit_np.max(1, keepdims=True))
    p_np /= p_np.sum(1, keepdims=True)
    g_nyp = p_np[:, None, :] - np.eye(CLASSES)[None]
    return np.repeat(x_ni, CLASSES, 0), g_nyp.reshape(-1, CLASSES), (p_np / n).reshape(-1)


def _exact(a: np.ndarray, g: np.ndarray, w: np.ndarray) -> np.ndarray:
    flat = np.einsum("np,ni->npi", g, a).reshape(len(a), -1)
    return (flat * w[:, None]).T @ flat


def _covariances(a: np.ndarray, g: np.ndarray, w: np.ndarray) -> np.ndarray:
    """A and S, one after the other in a flat array, as the check compares them."""
    return np.concatenate([((a * w[:, None]).T @ a).ravel(), ((g * w[:, None]).T @ g).ravel()])


def _bases(a: np.ndarray, g: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.linalg.eigh((a * w[:, None]).T @ a)[1], np.linalg.eigh((g * w[:, None]).T @ g)[1]


def _corrected(a: np.ndarray, g: np.ndarray, w: np.ndarray, q_a: np.ndarray, q_s: np.ndarray) -> np.ndarray:
    return np.einsum("n,np,ni->pi", w, (g @ q_s) ** 2, (a @ q_a) ** 2)


def _solve(v: np.ndarray, q_a: np.ndarray, q_s: np.ndarray, eigenvalues: np.ndarray, damping: float) -> np.ndarray:
    return q_s @ ((q_s.T @ v @ q_a) / (eigenvalues + damping)) @ q_a.T


def _both(a: np.ndarray, g: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    q_a, q_s = _bases(a, g, w)
    basis = np.kron(q_s, q_a)
    kfac = np.kron((g * w[:, None]).T @ g, (a * w[:, None]).T @ a)
    return kfac, basis @ np.diag(_corrected(a, g, w, q_a, q_s).ravel()) @ basis.T


def error(approximation: np.ndarray, exact: np.ndarray) -> float:
    """Frobenius distance relative to the exact matrix."""
    return float(np.linalg.norm(approximation - exact) / np.linalg.norm(exact))


def picture(_x: np.ndarray, _y: np.ndarray, sharpness: float) -> dict[str, Any]:
    """Eigenvalues of the three matrices by the model's sharpness."""
    rows = enumerated(sharpness)
    exact = _exact(*rows)
    kfac, ekfac = _both(*rows)

    def spectrum(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.linalg.eigvalsh(matrix)[::-1]
        return np.arange(1, len(values) + 1), np.log10(np.maximum(values, 1e-6))

    lines = {"exact G": spectrum(exact), "EK-FAC": spectrum(ekfac), "K-FAC": spectrum(kfac)}
    said = f"relative error of K-FAC {error(kfac, exact):.3f}, of EK-FAC {error(ekfac, exact):.3f}"
    return {"lines": lines, "words": f"sharpness {sharpness:.2f}: {said}"}


def _cases() -> list[tuple[np.ndarray, ...]]:
    return [enumerated(1.0, 20, seed) for seed in (1, 2)]


def check_exact(answer: Any) -> Callable[..., Any]:
    """The layer's exact Gauss-Newton matrix."""
    return check(
        "the exact curvature of a layer", answer, _exact, _cases(),
        mistakes={
            "Every row has a weight w: it stands for the label's probability.": lambda a, g, w: (
                _exact(a, g, np.full(len(a), 1 / len(a)))
            ),
            "The order is turned round: flatten the matrix g a^T (outputs first), not a g^T.": lambda a, g, w: _exact(g, a, w),
            "The weight belongs there once, not squared.": lambda a, g, w: _exact(a, g, w**2),
        },
        right=f"{INPUTS * CLASSES} parameters, {INPUTS * CLASSES} x {INPUTS * CLASSES} numbers. For a layer of 4096 x 16384, nobody writes it down.",
    )  # fmt: skip


def check_covariances(answer: Any) -> Callable[..., Any]:
    """A and S."""

    def flat(function: Any) -> Any:
        def call(*rows: np.ndarray) -> Any:
            found = function(*rows)
            if found is None or found is ...:
                return found
            return np.concatenate([np.asarray(one, float).ravel() for one in found])

        return call if callable(function) else function

    kept = check(
        "the two covariances", flat(answer), _covariances, _cases(),
        mistakes={
            "A is not centred: it is the mean of a a^T, means included.": lambda a, g, w: np.concatenate([
                np.cov(a.T, aweights=w, bias=True).ravel(), ((g * w[:, None]).T @ g).ravel(),
            ]),
            "The weights w are missing.": lambda a, g, w: _covariances(a, g, np.full(len(a), 1 / len(a))),
            "They come in the other order: A first, then S.": lambda a, g, w: np.concatenate([
                ((g * w[:, None]).T @ g).ravel(), ((a * w[:, None]).T @ a).ravel(),
            ]),
        },
        right="Two small matrices instead of one that is huge.",
    )  # fmt: skip
    ours = lambda a, g, w: ((a * w[:, None]).T @ a, (g * w[:, None]).T @ g)  # noqa: E731
    return ours if kept is _covariances else answer


def check_corrected(answer: Any) -> Callable[..., Any]:
    """The corrected eigenvalues."""
    cases = [(*rows, *_bases(*rows)) for rows in _cases()]
    return check(
        "the corrected eigenvalues", answer, _corrected, cases,
        mistakes={
            "These are K-FAC's: the mean of squares times the mean of squares. Take the mean of the product.": (
                lambda a, g, w, qa, qs: np.outer(w @ (g @ qs) ** 2, w @ (a @ qa) ** 2)
            ),
            "The square is missing: the mean of the rotated gradient itself.": lambda a, g, w, qa, qs: (
                np.einsum("n,np,ni->pi", w, g @ qs, a @ qa)
            ),
            "The other way round: outputs are rows, inputs are columns.": lambda a, g, w, qa, qs: (
                _corrected(a, g, w, qa, qs).T
            ),
        },
        right="In this basis they are the diagonal of the exact matrix: the best diagonal there is.",
    )  # fmt: skip


def check_solve(answer: Any) -> Callable[..., Any]:
    """The product with the inverse."""
    rng = np.random.default_rng(0)
    cases = []
    for rows in _cases():
        q_a, q_s = _bases(*rows)
        cases.append((rng.normal(size=(CLASSES, INPUTS)), q_a, q_s, _corrected(*rows, q_a, q_s), 0.1))
    return check(
        "the product with the inverse", answer, _solve, cases,
        mistakes={
            "Rotate back at the end: Q_S (...) Q_A^T.": lambda v, qa, qs, e, d: (qs.T @ v @ qa) / (e + d),
            "The damping is missing.": lambda v, qa, qs, e, d: _solve(v, qa, qs, e, 0.0),
            "Rotate with the transposes first: Q_S^T V Q_A.": lambda v, qa, qs, e, d: (
                qs.T @ ((qs @ v @ qa.T) / (e + d)) @ qa
            ),
        },
        right="Four small products and a division: equation 21 of the paper.",
    )  # fmt: skip


def ask_size() -> None:
    """What does not fit."""
    predict(
        "A layer takes 4,096 numbers to 16,384. How many numbers has its exact curvature matrix?",
        ["67 million", "4.5 million million million", "4,500 million million"],
        2,
        "67 million parameters squared: 4.5e15. At 4 bytes each, 18,000 terabytes, for one layer of many.",
    )


def ask_independent() -> None:
    """When K-FAC is exact."""
    predict(
        "K-FAC multiplies a mean over activations with a mean over gradients. When is that exact?",
        ["never", "when gradients do not depend on activations", "when the layer is square"],
        1,
        "E[a a^T times g g^T] = E[a a^T] times E[g g^T] when the two are independent. Sharpness 0 makes them so.",
    )


def ask_eigenbasis() -> None:
    """What the correction can do."""
    predict(
        "EK-FAC keeps K-FAC's directions and corrects only the eigenvalues. Can its error be larger than K-FAC's?",
        ["yes, at times", "no, never"],
        1,
        "Among all diagonals in that basis, the exact matrix's own diagonal is nearest, and K-FAC's is one of them.",
    )
