"""Charts of analyses draw, offline, the numbers of their arrays; a sign is never told by colour alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest

import inflab
from inflab import analysis, plot
from inflab.errors import SchemaError, SettingError
from tests.analysis import made

RNG = np.random.default_rng(0)
KINDS = ["rule", "quote", "rule", "quote"]
COORDS: dict[str, Any] = {
    "query_kind": ("query", KINDS),
    "query_text": ("query", [f"A question about number {i}, <b>long</b> enough" for i in range(4)]),
}
SCORES = made.layered(RNG.standard_t(3, (4, 30, 6)), [0, 0, 1, 1, 2, 2], **COORDS)
DEPTH, CORRELATION = analysis.depth(SCORES), analysis.correlation(SCORES)


def _frames(chart: plot.Chart) -> list[pd.DataFrame]:
    assert isinstance(chart, alt.LayerChart)
    return [one.data for one in (chart, *chart.layer) if isinstance(one.data, pd.DataFrame)]


def _with(chart: plot.Chart, column: str) -> pd.DataFrame:
    return next(frame for frame in _frames(chart) if column in frame)


def test_depth_draws_the_mean_of_each_group() -> None:
    chart = plot.depth(DEPTH, by="kind")
    lines = _with(chart, "low")
    for kind in ("rule", "quote"):
        chosen = np.array(KINDS) == kind
        mine = lines[lines["group"] == f"{kind} (2 queries)"]
        mass = DEPTH["mass"].to_numpy()[chosen]
        np.testing.assert_allclose(mine["share"], mass.mean(0))
        half = 2 * mass.std(0, ddof=1) / np.sqrt(2)
        np.testing.assert_allclose(mine["high"], mass.mean(0) + half)
        np.testing.assert_allclose(mine["low"], np.maximum(0, mass.mean(0) - half))
        assert f"mean depth {DEPTH['depth'].to_numpy()[chosen].mean():.2f}" in chart.to_dict()["description"]
    rules = _with(chart, "depth")
    np.testing.assert_allclose(rules["at"], 2 * rules["depth"])
    assert float(next(f for f in _frames(chart) if "words" in f)["share"].iloc[0]) == pytest.approx(1 / 3)


def test_depth_without_groups_is_one_line_and_leaves_out_who_has_none() -> None:
    holed = DEPTH.copy(deep=True)
    holed["mass"][0], holed["depth"][0] = np.nan, np.nan
    lines = _with(plot.depth(holed), "low")
    assert set(lines["group"]) == {"all queries (3 queries)"}
    np.testing.assert_allclose(lines["share"], DEPTH["mass"].to_numpy()[1:].mean(0))
    alone = plot.depth(DEPTH.isel(query=[0]))
    assert "all queries (1 query)" in plot.to_svg(alone)
    assert plot.to_svg(plot.depth(DEPTH * np.nan, by="kind")).startswith("<svg")


def test_depth_says_which_part_it_counts() -> None:
    assert "influence, by size" in plot.to_svg(plot.depth(DEPTH))
    assert "negative influence" in plot.to_svg(plot.depth(analysis.depth(SCORES, sign="negative")))


def test_correlation_writes_each_number_with_its_sign() -> None:
    chart = plot.correlation(CORRELATION, by="kind")
    frame = _with(chart, "correlation")
    order = [1, 3, 0, 2]  # quote before rule
    r = CORRELATION["correlation"].to_numpy()[np.ix_(order, order)]
    np.testing.assert_allclose(frame["correlation"], r.ravel())
    assert frame["text"].tolist() == [f"{value:+.2f}".replace("-", "−") for value in r.ravel()]
    assert frame["query"].iloc[0].startswith("quote · q1: A question about")
    svg = plot.to_svg(chart)
    assert "+1.00" in svg and "<b>" not in svg


def test_correlation_of_many_marks_what_is_negative() -> None:
    many = analysis.correlation(made.scores(RNG.standard_normal((20, 50))))
    frame = _with(plot.correlation(many["correlation"]), "correlation")
    assert ((frame["text"] == "−") == (frame["correlation"] <= -0.1)).all()
    assert (frame["text"] == "−").any()


def test_correlation_that_is_not_there_still_draws() -> None:
    flat = analysis.correlation(made.scores(np.ones((3, 5))))
    assert "none" in plot.to_svg(plot.correlation(flat))
    assert "no two correlated" in plot.correlation(flat).to_dict()["description"]


@pytest.mark.parametrize("chart", [plot.depth(DEPTH, by="kind"), plot.correlation(CORRELATION)], ids=["depth", "map"])
@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_describes_itself_and_fetches_nothing(chart: plot.Chart, dark: bool) -> None:
    svg = plot.to_svg(chart, dark=dark)
    assert svg.startswith("<svg") and "href=" not in svg
    assert ("#333333" in svg) is not dark
    spec = chart.to_dict()
    assert spec["title"] in spec["description"]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: plot.depth(SCORES), SchemaError, "'mass' over .* analysis.depth"),
        (lambda: plot.depth(DEPTH["depth"]), SchemaError, "analysis.depth"),
        (lambda: plot.depth(DEPTH, by="tone"), SchemaError, "by='tone' .*query_kind"),
        (lambda: plot.depth(analysis.depth(_many(7)), by="query"), SettingError, "7 groups, at most 6"),
        (lambda: plot.correlation(SCORES), SchemaError, "analysis.correlation"),
        (lambda: plot.correlation(CORRELATION, by="tone"), SchemaError, "by='tone'"),
        (lambda: plot.correlation(analysis.correlation(_many(61))), SettingError, "61 queries, at most 60"),
    ],
)
def test_wrong_arrays_are_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def _many(n: int) -> Any:
    return made.layered(RNG.standard_normal((n, 5, 2)), [0, 1])


def test_analysis_is_public_loads_on_first_use_and_loads_no_torch() -> None:
    assert inflab.analysis is analysis and "analysis" in inflab.__all__
    assert all(callable(getattr(analysis, name)) for name in analysis.__all__)
    code = (
        "import sys, inflab; before = 'scipy' in sys.modules\n"
        "inflab.analysis.depth; print(before, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False []", done.stderr
