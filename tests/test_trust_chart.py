"""The chart of a trust report draws its numbers, says its units and its sentences, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

from inflab import plot
from inflab.errors import SchemaError, SettingError
from tests import tiny


def report(**settings: Any) -> xr.Dataset:
    given = {"k": 3, "seeds": 2, "splits": 1, "progress": False, **settings}
    found: xr.Dataset = tiny.fitted().trust(tiny.queries(), **given)
    return found


def measured() -> xr.Dataset:
    found = report()
    value = ("query", np.array([-1.5, 0.5]), {"units": "nat"})
    return found.assign(measured=value, measured_se=("query", np.array([0.25, np.nan])))


def rows(chart: Any) -> dict[str, list[dict[str, Any]]]:
    """The charts' data by the name of a column that only one has."""
    sets = chart.to_dict()["datasets"].values()
    marks = {"share": "stability", "error": "removal", "interval": "intervals"}
    return {name: data for data in sets for column, name in marks.items() if column in data[0]}


def test_the_numbers_are_those_of_the_report() -> None:
    found = measured()
    drawn = rows(plot.trust(found))
    shares = {row["query"][0]: row["share"] for row in drawn["stability"] if row["by"] == "BM25"}
    assert list(shares.values()) == pytest.approx(found["lexical_overlap"].values)
    means = [row["share"] for row in drawn["stability"] if row["by"] == "other fits, mean"]
    assert means == pytest.approx(found["stability"].values)
    assert sum(row["by"] == "one other fit" for row in drawn["stability"]) == 2 * 3
    effects = [row["effect"] for row in drawn["removal"]]
    assert effects == pytest.approx([*found["predicted"].values, -1.5, 0.5])
    assert [row["high"] - row["low"] for row in drawn["removal"]] == pytest.approx([0, 0, 1.0, 0])
    given = [row for row in drawn["intervals"] if row["is_given"]]
    for name, of in (
        ("effect", found["effect"].isel(fit=0)),
        ("low", found["effect_low"]),
        ("high", found["effect_high"]),
    ):
        assert [row[name] for row in given] == pytest.approx(of.values.ravel())
    assert {row["interval"] for row in given if row["low"] > 0} <= {"above 0"}
    assert len(drawn["intervals"]) == found["influence"].size


@pytest.mark.parametrize("dark", [False, True])
def test_it_says_units_and_describes_itself_by_its_sentences(dark: bool) -> None:
    found = measured()
    chart = plot.trust(found)
    svg = plot.to_svg(chart, dark=dark)
    for text in (
        "nat per added copy",
        "95% interval",
        "predicted",
        "measured",
        "BM25",
        "share of the list",
        "other fits",
    ):
        assert text in svg
    assert ("#333333" in svg) is not dark
    assert "href=" not in svg
    assert all(sentence in chart.to_dict()["description"] for sentence in found["sentence"].values)


def test_it_draws_what_there_is() -> None:
    whole = report()
    alone = report(seeds=1, splits=0, lexical=False)
    nothing = whole.assign(is_ranked=xr.zeros_like(whole["is_ranked"]))
    similar = whole.drop_vars(["effect", "effect_low", "effect_high", "predicted", "predicted_percent"])
    for found in (alone, nothing, similar):
        assert plot.to_svg(plot.trust(found)).startswith("<svg")
    assert "left out" not in plot.to_svg(plot.trust(similar))
    assert "nat per unit weight" in plot.to_svg(plot.trust(similar))


def test_ranks_stay_in_order_beyond_nine() -> None:
    more = xr.concat(
        [report(k=6).assign_coords(rank=np.arange(1, 7) + 8 * part) for part in range(2)], "rank", data_vars="minimal"
    )
    svg = plot.to_svg(plot.trust(more.isel(query=[0])))
    found = [int(rank) for rank in re.findall(r">(\d+)\. \d+</text>", svg)]
    assert found == sorted(found) and max(found) > 9


def test_texts_are_text() -> None:
    hostile = report().assign_coords(query_text=("query", ["<script>alert(1)</script>", "a\nb"]))
    svg = plot.to_svg(plot.trust(hostile))
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(SchemaError, match="make the report with Influence.trust"):
        plot.trust(tiny.scored())
    found = report()
    with pytest.raises(SettingError, match="report has 14 queries, at most 12"):
        plot.trust(xr.concat([found] * 7, "query", data_vars="minimal"))
