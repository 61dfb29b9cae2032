"""The profile shows the array's numbers, layer by layer; sums over layers are the scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import traitlets
import xarray as xr

from inflab.errors import SchemaError
from inflab.widgets.layer_profile import LayerProfile, Layers
from inflab.widgets.opening import open_source
from tests.widgets.synthetic import FakeInfluence, corpus, explanation

SCORES = FakeInfluence().score(corpus(2, "query"), by="layer")
NAMES = SCORES["layer"].to_numpy().tolist()


def _effects(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array([row["effect"] for row in rows], np.float64)


def test_alone_it_shows_one_pair_or_the_mean_and_says_so() -> None:
    one = LayerProfile(SCORES.isel(query=[1], train=[4]))._profile
    assert (one["label"], one["units"]) == ("Effect by layer", "nat per added copy")
    np.testing.assert_allclose(_effects(one["layers"]), SCORES["influence"][1, 4] / 40, rtol=1e-5)
    assert {**one["layers"][3], "effect": 0} == {
        "name": NAMES[3], "block": 1, "role": "mlp.c_proj", "kind": "Conv1D", "effect": 0,
    }  # fmt: skip
    many = LayerProfile(SCORES)._profile
    assert many["label"] == "Effect by layer, mean of 80 pairs"
    np.testing.assert_allclose(_effects(many["layers"]), SCORES["influence"].mean(["query", "train"]) / 40, rtol=1e-4)
    tokens = explanation(2)["top_tokens"].to_dataset().isel(query=0, rank=0)
    np.testing.assert_allclose(
        _effects(LayerProfile(tokens)._profile["layers"]), tokens["influence"].sum("token") / 40, rtol=1e-4
    )


def test_chosen_layers_are_names_in_the_order_of_the_network() -> None:
    profile = LayerProfile(SCORES)
    profile.layers = [NAMES[5], NAMES[1]]
    assert profile.layers == [NAMES[1], NAMES[5]]
    profile.set_state({"layers": ["<nobody>"]})
    assert "'<nobody>' is not one of the 8 layers" in profile.error
    with pytest.raises(traitlets.TraitError, match="nobody"):
        LayerProfile(SCORES, layers=["nobody"])


def test_elsewhere_it_is_an_escaped_table() -> None:
    renamed = SCORES.assign_coords(layer=["<b>&", *NAMES[1:]])
    data, _ = LayerProfile(renamed)._repr_mimebundle_()
    assert "&lt;b&gt;&amp;" in data["text/html"]
    assert "<b>" not in data["text/html"]
    assert data["text/plain"] == "LayerProfile(8 layers, all chosen)"


def test_answers_sum_to_the_scores() -> None:
    source = open_source(FakeInfluence(), corpus(2, "query"), 5)
    answer = Layers(source).answers()["layers.profile"]
    total = source.scores["influence"].isel(query=1) / 40
    found = answer(1, "t3")
    assert found["can_rank"]
    assert found["units"] == "nat per added copy"
    assert _effects(found["pair"]).sum() == pytest.approx(float(total.sel(train="t3")), rel=1e-4)
    assert _effects(found["positive"]).sum() == pytest.approx(float(total.where(total > 0).sum()), rel=1e-4)
    assert _effects(found["negative"]).sum() == pytest.approx(float(total.where(total < 0).sum()), rel=1e-4)
    assert found["counts"] == {"positive": int((total > 0).sum()), "negative": int((total < 0).sum())}
    assert answer(1)["pair"] is None


def test_saved_with_layers_summed_it_knows_the_pairs_alone() -> None:
    source = open_source(explanation(2, 40, 5), None, 5)
    train = source.ranked(0, "positive")["train"].to_numpy()[0]
    found = Layers(source).profile(0, train)
    assert not found["can_rank"]
    assert (found["positive"], found["negative"]) == (None, None)
    assert _effects(found["pair"]).sum() == pytest.approx(float(source.ranked(0, "positive")["effect"][0]), rel=1e-4)


def test_scores_that_predict_nothing_keep_their_units() -> None:
    alike = SCORES["influence"].assign_attrs(units="1", long_name="cosine similarity")
    assert LayerProfile(SCORES.assign(influence=alike))._profile["units"] == "1"


@pytest.mark.parametrize("arrays", [SCORES.sum("layer", keep_attrs=True), SCORES["influence"], xr.Dataset()])
def test_wrong_arrays_are_named(arrays: Any) -> None:
    with pytest.raises(SchemaError):
        LayerProfile(arrays)
