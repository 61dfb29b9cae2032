"""The charts of measures draw the numbers of their arrays, intervals and all, and say what they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from inflab import plot
from inflab.errors import SchemaError, SettingError

BOUND = np.array(["low", "high"], dtype=object)


def around(value: np.ndarray, by: float = 0.05) -> np.ndarray:
    return np.stack([value - by, value + 2 * by], axis=-1)


def agreement(ceiling: float = 0.8) -> xr.Dataset:
    value = np.array([0.2, 0.47, -0.01])
    return xr.Dataset(
        {
            "lds": ("estimator", value),
            "interval": (("bound", "estimator"), around(value).T),
            "ceiling": ((), ceiling),
            "ceiling_interval": ("bound", [ceiling - 0.03, ceiling + 0.02]),
        },
        coords={"estimator": ["Identity", "EKFAC", "BM25"], "bound": BOUND},
        attrs={"level": 0.9},
    )


def removal(names: tuple[str, ...] = ("EKFAC", "random")) -> xr.Dataset:
    value = np.outer(np.arange(len(names), 0, -1), [0.1, 0.2, 0.4])
    return xr.Dataset(
        {"rise": (("estimator", "share"), value), "interval": (("estimator", "share", "bound"), around(value))},
        coords={"estimator": list(names), "share": [0.01, 0.05, 0.2], "bound": BOUND},
        attrs={"level": 0.95},
    )


def mislabels() -> xr.Dataset:
    place = np.linspace(0, 1, 11)
    found = np.minimum(1, 5 * place)
    return xr.Dataset(
        {
            "found": ("inspected", found), "interval": (("inspected", "bound"), around(found)),
            "best": ("inspected", np.minimum(1, 10 * place)), "found_at_10_percent": ((), 0.5),
        },
        coords={"inspected": place, "bound": BOUND},
        attrs={"level": 0.95, "method": "EKFAC"},
    )  # fmt: skip


def correlations(names: tuple[str, ...] = ("EKFAC", "LiSSA", "Identity")) -> xr.Dataset:
    value = np.linspace(0.1, 0.9, 2 * len(names)).reshape(2, -1)
    return xr.Dataset(
        {
            "correlation": (("case", "estimator"), value),
            "interval": (("case", "estimator", "bound"), around(value)),
        },
        coords={"case": ["Concrete", "Digits"], "estimator": list(names), "bound": BOUND},
        attrs={"level": 0.95},
    )


def drawn(chart: Any, column: str) -> pd.DataFrame:
    """The rows of the chart that have a column."""
    frames = [pd.DataFrame(rows) for rows in chart.to_dict()["datasets"].values()]
    return next(frame for frame in frames if column in frame)


def test_agreement_is_sorted_and_has_its_ceiling() -> None:
    chart = plot.agreement(agreement())
    frame = drawn(chart, "estimator")
    assert frame["estimator"].tolist() == ["EKFAC", "Identity", "BM25"]
    np.testing.assert_allclose(
        frame[["lds", "low", "high"]], [[0.47, 0.42, 0.57], [0.2, 0.15, 0.3], [-0.01, -0.06, 0.09]]
    )
    np.testing.assert_allclose(drawn(chart, "ceiling")[["low", "ceiling", "high"]], [[0.77, 0.8, 0.82]])
    assert "Best: EKFAC, 0.47 (0.42 to 0.57). Noise ceiling 0.80." in chart.to_dict()["description"]
    assert "90% interval" in plot.to_svg(chart)


def test_agreement_without_a_ceiling_draws_none() -> None:
    chart = plot.agreement(agreement(np.nan))
    assert "ceiling" not in plot.to_svg(chart)
    assert len(chart.to_dict()["datasets"]) == 1


def test_removal_draws_every_share_and_tells_random_apart() -> None:
    chart = plot.removal(removal(("EKFAC", "Identity", "random")))
    frame = drawn(chart, "estimator").set_index(["estimator", "share"])
    np.testing.assert_allclose(frame.loc[("EKFAC", 0.2), ["rise", "low", "high"]].astype(float), [1.2, 1.15, 1.3])
    np.testing.assert_allclose(frame.loc[("random", 0.01), ["rise", "low", "high"]].astype(float), [0.1, 0.05, 0.2])
    # Beside one another, never in another's place.
    assert frame["place"].is_unique
    np.testing.assert_allclose(frame["place"], frame.index.get_level_values("share"), rtol=0.05)
    assert "EKFAC +1.2 nat" in chart.to_dict()["description"]
    svg = plot.to_svg(chart)
    assert 'stroke-dasharray="4,3"' in svg and ">20%<" in svg


def test_mislabels_of_one_and_of_several() -> None:
    one = plot.mislabels(mislabels())
    frame = drawn(one, "low")
    np.testing.assert_allclose(frame["found"], mislabels()["found"])
    assert set(frame["estimator"]) == {"EKFAC"}
    guides = drawn(one, "order")
    np.testing.assert_allclose(guides.loc[guides["order"] == "random order", "found"], np.linspace(0, 1, 11))
    both = plot.mislabels({"EKFAC": mislabels(), "Identity": mislabels()})
    assert "Found in the first 10%: EKFAC 50%, Identity 50%." in both.to_dict()["description"]
    assert ">Identity<" in plot.to_svg(both)


def test_pbrf_draws_each_pair() -> None:
    chart = plot.pbrf(correlations())
    frame = drawn(chart, "case").set_index(["case", "estimator"])
    np.testing.assert_allclose(
        frame.loc[("Digits", "EKFAC"), ["correlation", "low", "high"]].astype(float), [0.58, 0.53, 0.68]
    )
    assert len(frame) == 6
    assert "Concrete: Identity 0.42" in chart.to_dict()["description"]


@pytest.mark.parametrize(
    ("chart", "units"),
    [
        (plot.agreement(agreement()), "LDS"),
        (plot.removal(removal()), "nat"),
        (plot.mislabels(mislabels()), "share of flipped labels found"),
        (plot.pbrf(correlations()), "correlation"),
    ],
    ids=["agreement", "removal", "mislabels", "pbrf"],
)
@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_says_units_and_describes_itself(chart: plot.Chart, units: str, dark: bool) -> None:
    svg = plot.to_svg(chart, dark=dark)
    assert units in svg and "interval" in svg
    assert ("#333333" in svg) is not dark
    spec = chart.to_dict()
    assert spec["title"] in spec["description"]
    assert "href=" not in svg


def test_methods_have_shapes_as_well_as_colours() -> None:
    encodings = [layer.get("encoding", {}) for layer in plot.pbrf(correlations()).to_dict()["layer"]]
    shapes = next(found["shape"]["scale"]["range"] for found in encodings if "shape" in found)
    assert len(set(shapes)) == 3


SEVEN = tuple("abcdefg")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: plot.agreement(agreement()["lds"]), SchemaError, "DataArray"),
        (lambda: plot.agreement(agreement().drop_vars("interval")), SchemaError, "'interval' is missing"),
        (lambda: plot.removal(agreement()), SchemaError, "'rise' is missing"),
        (lambda: plot.removal(removal(SEVEN)), SettingError, "7 methods"),
        (lambda: plot.mislabels({}), SettingError, "empty"),
        (lambda: plot.mislabels(removal()), SchemaError, "'found' is missing"),
        (lambda: plot.pbrf(correlations().rename(case="data")), SchemaError, "dim 'case'"),
        (lambda: plot.pbrf(correlations(SEVEN)), SettingError, "7 methods"),
    ],
)
def test_wrong_arrays_are_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_six_methods_and_random_can_be_told_apart() -> None:
    assert plot.to_svg(plot.removal(removal((*SEVEN[:6], "random")))).startswith("<svg")
