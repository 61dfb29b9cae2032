"""Each chart draws, offline, the numbers of its array, in nats per added copy, with sign in words."""

from __future__ import annotations

import subprocess
import sys

import altair as alt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from inflab import plot
from inflab.errors import SchemaError, SettingError
from tests.widgets.synthetic import explanation

TREE = explanation(3, 40, 5)
SCORES, TOP, BOTTOM = (TREE[name].to_dataset() for name in ("scores", "top", "bottom"))
TOKENS = TREE["top_tokens"].to_dataset()
PAIR = TOKENS.isel(query=[0], rank=[0])


def _frame(chart: plot.Chart) -> pd.DataFrame:
    assert isinstance(chart.data, pd.DataFrame)
    return chart.data


def test_layer_profile_sums_tokens() -> None:
    frame = _frame(plot.layer_profile(PAIR)).set_index("layer")["effect"]
    expected = PAIR["influence"].sum("token").squeeze() / 40
    np.testing.assert_allclose(frame.loc[expected["layer"].to_numpy()], expected, rtol=1e-6)


def test_layer_profile_of_many_pairs_is_their_mean_and_says_so() -> None:
    chart = plot.layer_profile(TOKENS)
    expected = TOKENS["influence"].sum("token").mean(["query", "rank"]) / 40
    np.testing.assert_allclose(_frame(chart)["effect"], expected, rtol=1e-5)
    assert "mean of 15 pairs" in plot.to_svg(chart)


def test_layer_profile_leaves_out_pairs_that_do_not_exist() -> None:
    missing = TOKENS.assign(influence=TOKENS["influence"].where(TOKENS["rank"] < 5))
    chart = plot.layer_profile(missing)
    expected = TOKENS["influence"].isel(rank=slice(4)).sum("token").mean(["query", "rank"]) / 40
    np.testing.assert_allclose(_frame(chart)["effect"], expected, rtol=1e-5)
    assert "mean of 12 pairs" in plot.to_svg(chart)


def test_layer_profile_of_layers_outside_blocks_goes_by_name() -> None:
    svg = plot.to_svg(plot.layer_profile(PAIR.assign_coords(block=("layer", np.full(8, -1)))))
    assert "transformer.h.3.mlp.c_proj" in svg
    assert ">block<" not in svg


@pytest.mark.parametrize("chosen", [TOP, BOTTOM])
def test_top_bar_shows_one_list(chosen: xr.Dataset) -> None:
    chart = plot.top_bar(chosen.isel(query=[1]))
    frame = _frame(chart)
    np.testing.assert_allclose(frame["effect"], chosen["effect"].isel(query=1))
    assert set(frame["sign"]) == {"more likely" if chosen is TOP else "less likely"}
    assert frame["label"][0] == f"1. {chosen['train'].to_numpy()[1, 0]}"


def test_tokens_draws_layers_apart_or_summed() -> None:
    apart, summed = (
        _frame(plot.tokens(PAIR)),
        _frame(
            plot.tokens(
                PAIR.sum("layer", keep_attrs=True).assign(token_text=PAIR["token_text"], is_text=PAIR["is_text"])
            )
        ),
    )
    n_token = int(PAIR["is_text"].sum())
    assert len(apart) == 8 * n_token
    assert len(summed) == n_token
    np.testing.assert_allclose(apart.groupby("token", sort=False)["effect"].sum(), summed["effect"], rtol=1e-4)
    assert "9 ⏎" in set(apart["token"])


def test_tail_keeps_ends_and_thins_the_middle() -> None:
    rng = np.random.default_rng(0)
    scores = xr.Dataset(
        {"influence": (("query", "train"), rng.pareto(1, (2, 20_000)) * rng.choice([-1, 1], (2, 20_000)))},
        coords={"query": [0, 1], "train": range(20_000)}, attrs={"n_train": 20_000},
    )  # fmt: skip
    frame = _frame(plot.tail(scores))
    first = frame[frame["query"] == "0"]
    positive = scores["influence"].to_numpy()[0]
    assert len(frame) <= 400
    assert first["effect"].max() == positive.max() / 20_000
    assert first["rank"].max() == (positive > 0).sum()


@pytest.mark.parametrize(
    "chart",
    [plot.layer_profile(PAIR), plot.top_bar(TOP.isel(query=[0])), plot.tokens(PAIR), plot.tail(SCORES)],
    ids=["layer_profile", "top_bar", "tokens", "tail"],
)
@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_says_units_and_describes_itself(chart: plot.Chart, dark: bool) -> None:
    svg = plot.to_svg(chart, dark=dark)
    assert svg.startswith("<svg")
    assert "nat per added copy" in svg
    assert ("#333333" in svg) is not dark
    spec = chart.to_dict()
    assert spec["title"] in spec["description"]
    assert "href=" not in svg


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: plot.layer_profile(SCORES), SchemaError, "layer"),
        (lambda: plot.layer_profile(PAIR["influence"]), SchemaError, "DataArray"),
        (lambda: plot.layer_profile(PAIR.drop_attrs()), SchemaError, "n_train"),
        (lambda: plot.top_bar(TOP), SettingError, "3"),
        (lambda: plot.top_bar(SCORES), SchemaError, "share"),
        (lambda: plot.tokens(TOKENS.isel(query=[0])), SettingError, "rank"),
        (lambda: plot.tokens(SCORES), SchemaError, "token_text"),
        (lambda: plot.tail(xr.concat([SCORES] * 7, "query")), SettingError, "at most 20"),
    ],
)
def test_wrong_arrays_are_named(call: object, error: type[Exception], words: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("values", [np.nan, 0.0])
def test_numbers_that_say_nothing_still_draw(values: float) -> None:
    blank = PAIR.assign(influence=PAIR["influence"] * values)
    assert plot.to_svg(plot.layer_profile(blank)).startswith("<svg")
    assert plot.to_svg(plot.tokens(blank)).startswith("<svg")


def test_importing_plot_leaves_altair_as_it_was() -> None:
    code = (
        "import altair as alt; before = (alt.renderers.active, alt.data_transformers.active, alt.theme.active)\n"
        "import inflab.plot; print(before == (alt.renderers.active, alt.data_transformers.active, alt.theme.active))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
    assert alt.Chart is not None
