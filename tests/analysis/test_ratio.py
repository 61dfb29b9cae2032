"""Ratios of kinds: known numbers, sums before division, and no number where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from inflab import analysis, effect, validate
from inflab.errors import CorpusError, NumericsError, SchemaError, SettingError
from tests.analysis import made

#: Two facts, told in order (twice) and flipped.
COORDS: dict[str, Any] = {
    "form": ("train", ["same", "same", "flip", "same", "same", "flip"]),
    "fact": ("train", ["x", "x", "x", "y", "y", "y"]),
    "query_fact": ("query", ["x", "y"]),
}
VALUE = [[10.0, 30.0, 1.0, 5.0, 5.0, 5.0], [2.0, 2.0, 2.0, 100.0, 300.0, -4.0]]
SCORES = made.scores(VALUE, **COORDS)
FLIPPED: dict[str, Any] = {"along": "form", "of": "flip", "to": "same"}


def test_known_numbers() -> None:
    found = analysis.ratio(SCORES, **FLIPPED, match="fact")
    validate(found)
    assert found["numerator"].to_numpy().tolist() == [1, -4]
    assert found["denominator"].to_numpy().tolist() == [20, 200]
    np.testing.assert_allclose(found["ratio"], [1 / 20, -4 / 200])
    assert float(found["pooled"]) == pytest.approx(-3 / 220)
    assert found["count_of"].to_numpy().tolist() == [1, 1]
    assert found["count_to"].to_numpy().tolist() == [2, 2]
    low, high = found["pooled_interval"].to_numpy()
    assert (low, high) == pytest.approx((-0.02, 0.05))  # two queries: either alone, or both
    everything = analysis.ratio(SCORES, **FLIPPED, statistic="sum")
    np.testing.assert_allclose(everything["ratio"], [6 / 50, -2 / 404])


def test_layers_are_summed_and_effects_have_the_same_ratio() -> None:
    one = analysis.ratio(SCORES, **FLIPPED, match="fact")
    split = made.layered(np.stack([0.25 * np.array(VALUE), 0.75 * np.array(VALUE)], -1), [0, 1], **COORDS)
    xr.testing.assert_allclose(analysis.ratio(split, **FLIPPED, match="fact")["ratio"], one["ratio"])
    per_copy = analysis.ratio(effect(SCORES), **FLIPPED, match="fact")
    xr.testing.assert_allclose(per_copy["pooled"], one["pooled"])
    assert per_copy["numerator"].attrs["units"] == "nat"


@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_order_and_scale_change_nothing(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    order_q = rng.permutation(2)
    mixed = SCORES.isel(train=rng.permutation(6), query=order_q)
    mixed = mixed.assign(influence=mixed["influence"] * scale)
    one = analysis.ratio(SCORES, **FLIPPED, match="fact", resamples=20)
    two = analysis.ratio(mixed, **FLIPPED, match="fact", resamples=20)
    np.testing.assert_allclose(two["ratio"], one["ratio"][order_q])
    np.testing.assert_allclose(two["pooled"], one["pooled"])


def test_the_interval_covers_and_one_query_has_none() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(100):
        below = rng.gamma(4, 1, 40)
        above = 0.3 * below + rng.normal(0, 0.3, 40)
        scores = made.scores(np.stack([above, below], 1), form=("train", ["flip", "same"]))
        low, high = analysis.ratio(scores, **FLIPPED, resamples=199, seed=trial)["pooled_interval"].to_numpy()
        hits += low < 0.3 < high
    assert 85 <= hits <= 100
    assert analysis.ratio(SCORES.isel(query=[0]), **FLIPPED)["pooled_interval"].isnull().all()


def test_a_denominator_of_zero_gives_nan() -> None:
    scores = made.scores([[1.0, 0.0], [1.0, 2.0], [1.0, 2.0]], form=("train", ["flip", "same"]))
    found = analysis.ratio(scores, **FLIPPED)
    assert found["ratio"].isnull().to_numpy().tolist() == [True, False, False]
    assert float(found["pooled"]) == pytest.approx(3 / 4)
    assert found["pooled_interval"].isnull().all()  # a resample may hold the first query alone
    nothing = analysis.ratio(scores.isel(query=[0]), **FLIPPED)
    assert np.isnan(float(nothing["pooled"]))
    validate(nothing)


HOLED = made.scores([[1.0, np.nan]], form=("train", ["flip", "same"]))
ALONE = SCORES.assign_coords(query_fact=("query", made.text(["x", "z"])))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: analysis.ratio(HOLED, **FLIPPED), NumericsError, "'q0' hold NaN or infinity; score every"),
        (
            lambda: analysis.ratio(ALONE, **FLIPPED, match="fact"),
            CorpusError,
            "'q1' has no .* fact='z' and form='flip'",
        ),
        (
            lambda: analysis.ratio(SCORES, along="form", of="turned", to="same"),
            SettingError,
            "of='turned' .*'flip', 'same'",
        ),
        (lambda: analysis.ratio(SCORES, along="form", of="same", to="same"), SettingError, "the same kind"),
        (lambda: analysis.ratio(SCORES, along="shape", of="a", to="b"), SchemaError, "'shape' over .*'form'"),
        (lambda: analysis.ratio(SCORES, **FLIPPED, match="form"), SchemaError, "'form' over .*query_fact"),
        (lambda: analysis.ratio(SCORES, **FLIPPED, statistic="median"), SettingError, "statistic='median'"),  # type: ignore[arg-type]
        (lambda: analysis.ratio(SCORES, **FLIPPED, resamples=1.5), SettingError, "resamples=1.5"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
