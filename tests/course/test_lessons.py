"""Every lesson: its mistakes are told in their words, solutions pass, stubs do not, and nobody needs a gigabyte."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import nbformat
import numpy as np
import pytest
import xarray as xr
from nbclient import NotebookClient

from tests.course.conftest import COURSE

SOURCES = sorted(path.stem for path in (COURSE / "source").glob("*.py"))
MIME = "application/vnd.inflab.check+json"
PEAK = "import pathlib, re; print(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])"


@pytest.fixture(params=[name.split("-")[0] for name in SOURCES])
def exercises(request: pytest.FixtureRequest, lessons: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What every `check_...` of a lesson hands to `check`, without an answer."""
    lesson = importlib.import_module(f"lessons.lesson_{request.param}")
    caught: list[Any] = []

    def spy(exercise: str, answer: Any, ours: Any, cases: Any, **options: Any) -> Any:
        caught.append((exercise, ours, cases, options))
        return ours

    monkeypatch.setattr(lesson, "check", spy)
    for name in sorted(vars(lesson)):
        if name.startswith("check_"):
            getattr(lesson, name)(None)
    yield caught


def test_right_answers_pass_and_each_mistake_is_told(exercises: list[Any]) -> None:
    from lessons.checking import _wrong

    assert len(exercises) >= 3
    for exercise, ours, cases, options in exercises:
        rtol, mistakes = options.get("rtol", 1e-6), options.get("mistakes") or {}
        assert _wrong(ours, ours, cases, mistakes, rtol) == "", exercise
        assert len(cases) >= 2, exercise
        for words, mistake in mistakes.items():
            assert _wrong(mistake, ours, cases, mistakes, rtol) == words, exercise


def test_lesson_1_agrees_with_fitting_again(lessons: None) -> None:
    from lessons import lesson_1 as lesson

    x, y = lesson.HOURS, lesson.SCORE
    n = len(x)
    slope = np.polyfit(x, y, 1)[0]
    h = lesson._leverage(x)
    for i in range(n):
        assert lesson._pull(y)[i] == pytest.approx(np.delete(y, i).mean() - y.mean())
        again = np.polyfit(np.delete(x, i), np.delete(y, i), 1)
        assert -lesson._influence(x, y)[i] / (1 - h[i]) == pytest.approx(again[0] - slope)
        moved = np.polyval(again, x) - np.polyval(np.polyfit(x, y, 1), x)
        spread = ((y - np.polyval(np.polyfit(x, y, 1), x)) ** 2).sum() / (n - 2)
        assert lesson._cook(x, y)[i] == pytest.approx((moved**2).sum() / (2 * spread))
    assert h.sum() == pytest.approx(2)


def test_lesson_2_agrees_with_fitting_again_and_with_differences(lessons: None) -> None:
    from lessons import lesson_2 as lesson

    x, y = lesson.points()
    query = np.ones(x.shape[1])
    again = [query @ (lesson.without(x, y, i) - lesson.ridge(x, y)) for i in range(len(x))]
    np.testing.assert_allclose(lesson._exact(x, y, query), again, rtol=1e-9)
    step = 0.01
    moved = (lesson._minimum(step) - lesson._minimum(-step)) / (2 * step)
    assert lesson._ift(1.0, 1.5 / (1 + np.exp(-1.2))) == pytest.approx(moved, abs=0.01)
    cx, cy = lesson.classes()
    theta = lesson.logistic(cx, cy)
    gradient = cx.T @ (1 / (1 + np.exp(-cx @ theta)) - cy) + lesson.MU * theta
    assert np.abs(gradient).max() < 1e-9
    once = [np.ones(3) @ (lesson.logistic_without(cx, cy, i) - theta) for i in range(len(cx))]
    assert np.corrcoef(-lesson._logistic_effects(cx, cy, np.ones(3)), once)[0, 1] > 0.99


def test_lesson_3_agrees_with_differences_and_with_the_response(lessons: None) -> None:
    from lessons import lesson_3 as lesson

    x, y = lesson.data()
    theta = lesson.trained(400)
    step = 1e-6
    moved = [
        (lesson.net(theta + step * e, x) - lesson.net(theta - step * e, x)) / (2 * step) for e in np.eye(len(theta))
    ]
    jac = lesson.jacobian(theta, x)
    np.testing.assert_allclose(jac, np.transpose(moved), atol=1e-8)
    query, residual = lesson.jacobian(theta, np.array([0.5]))[0], y - lesson.net(theta, x)
    said = lesson._influence(jac, residual, query, 0.05)
    for i in (0, 11, 23):
        there = lesson.respond(theta, x, y, i, 1e-4, 0.05)
        true = (lesson.net(there, np.array([0.5])) - lesson.net(theta, np.array([0.5])))[0] / 1e-4
        assert said[i] == pytest.approx(true, rel=0.01)


def test_lesson_4_agrees_with_the_dense_algebra(lessons: None) -> None:
    from lessons import lesson_4 as lesson

    a, g, w = lesson.enumerated(1.3, 50)
    exact = sum(w[n] * np.outer(np.outer(g[n], a[n]), np.outer(g[n], a[n])) for n in range(len(a)))
    np.testing.assert_allclose(lesson._exact(a, g, w), exact, atol=1e-12)
    q_a, q_s = lesson._bases(a, g, w)
    basis = np.kron(q_s, q_a)
    values = lesson._corrected(a, g, w, q_a, q_s)
    np.testing.assert_allclose(values.ravel(), np.diag(basis.T @ exact @ basis), atol=1e-12)
    kfac, ekfac = lesson._both(a, g, w)
    assert lesson.error(ekfac, exact) <= lesson.error(kfac, exact)
    v = np.random.default_rng(0).normal(size=(3, 4))
    dense = np.linalg.solve(ekfac + 0.2 * np.eye(12), v.ravel()).reshape(3, 4)
    np.testing.assert_allclose(lesson._solve(v, q_a, q_s, values, 0.2), dense, rtol=1e-9)
    still = lesson.enumerated(0.0, 50)  # gradients that know nothing of the activations: K-FAC is exact
    np.testing.assert_allclose(lesson._both(*still)[0], lesson._exact(*still), atol=1e-12)


def test_lesson_8_agrees_with_the_library_and_scipy(lessons: None) -> None:
    from lessons import lesson_8 as lesson
    from scipy.stats import spearmanr

    import inflab

    bank = lesson.bank().isel(query=slice(8))
    rng = np.random.default_rng(0)
    influence = rng.normal(size=(8, bank.sizes["train"]))
    coords = {"query": bank["query"], "train": bank["train"]}
    made = xr.Dataset({"influence": (("query", "train"), influence)}, coords=coords)
    predicted = lesson._predicted(bank["is_member"].to_numpy(), influence)
    measured = bank["measurement"].mean("seed").transpose("query", "subset").to_numpy()
    ours = inflab.lds(made, bank, resamples=2)
    assert lesson._lds(predicted, measured) == pytest.approx(float(ours["lds"][0]))
    assert lesson._lds(predicted, measured) == pytest.approx(
        np.mean([spearmanr(a, b).statistic for a, b in zip(predicted, measured, strict=True)])
    )
    one = bank["measurement"].transpose("seed", "query", "subset").to_numpy()
    pairs = [lesson._lds(one[i], one[j]) for i in range(len(one)) for j in range(i)]
    assert lesson._ceiling(float(np.mean(pairs)), len(one)) == pytest.approx(float(ours["ceiling"]), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("is_solved", [True, False], ids=["solved", "stubs"])
@pytest.mark.parametrize("name", SOURCES)
def test_a_lesson_runs_from_top_to_bottom(name: str, is_solved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = COURSE / "solutions" if is_solved else COURSE
    notebook = nbformat.read(folder / f"{name}.ipynb", 4)
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    outcomes = [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]
    assert len(outcomes) >= 3
    assert {one["passed"] for one in outcomes} == {is_solved}, outcomes
    said = "".join(output["text"] for output in notebook.cells[-1].outputs)  # a line may come in two pieces
    peak = int(re.findall(r"\d+", said)[0])
    assert peak <= 1_000_000, f"{name} held {peak / 1e6:.2f} GB"
