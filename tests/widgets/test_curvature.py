"""Another damping gives the scores of the method under it, by the shortest way, once; a spectrum is thin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import traitlets
import xarray as xr

import inflab
from inflab.errors import SettingError
from inflab.widgets.curvature import Curvature, CurvaturePanel
from inflab.widgets.opening import open_source
from tests.widgets.synthetic import FakeInfluence, corpus, explanation


class WithFactors(FakeInfluence):
    """Has two layers of known spectra, and other scores under another damping; counts the dampings asked for."""

    def __init__(self, damping: float | None = None, asked: list[Any] | None = None) -> None:
        super().__init__()
        self.damping = damping
        self.dampings: list[Any] = [] if asked is None else asked
        value = np.geomspace(1, 1e-8, 40 * 50).reshape(40, 50)
        lowest = float(0.1 * value.mean())
        nodes = {
            name: xr.Dataset(
                {"eigenvalues": (("gradient_eigen", "activation_eigen"), value * factor)},
                attrs={"damping": lowest * factor},
            )
            for name, factor in (("h.0", 1.0), ("h.1", 0.5))
        }
        self.factors = xr.DataTree.from_dict({f"/{name}": node for name, node in nodes.items()})

    def with_damping(self, damping: float, damping_kind: str | None = None) -> WithFactors:
        assert damping_kind == "relative"
        if self.fails:
            raise ValueError(self.fails)
        other = WithFactors(damping, self.dampings)
        other.seed = self.seed
        return other

    def score(self, queries: xr.Dataset, **settings: Any) -> xr.Dataset:
        found = super().score(queries, **settings)
        found.attrs["settings"] = '{"damping": 0.1, "damping_kind": "relative"}'
        if self.damping is None:
            return found
        self.dampings.append((self.damping, str(queries["query"].to_numpy()[0])))
        bent = np.sign(found["influence"]) * abs(found["influence"]) ** (1 + self.damping)
        return found.assign(influence=bent.astype(np.float32).assign_attrs(found["influence"].attrs))


def _open(**more: Any) -> tuple[WithFactors, Curvature, list[Any]]:
    influence, told = WithFactors(), []
    source = open_source(influence, corpus(3, "query"), 5)
    for name, value in more.items():
        setattr(source, name, value)
    return influence, Curvature(source, lambda *scores: told.append(scores)), told


def test_rescoring_asks_once_per_query_and_damping() -> None:
    influence, curvature, told = _open()
    first = curvature.rescore(1, 0.5)
    again = curvature.rescore(1, 0.5)
    assert influence.dampings == [(0.5, "q1")]
    assert (first["source"], first["agreement"], first["overlap"], first["top"]) == ("pass", 1.0, 10, 10)
    assert again["seconds"] < 1
    assert [(position, damping) for position, damping, _ in told] == [(1, 0.5)] * 2
    fitted = influence.score(corpus(3, "query"))["influence"].isel(query=1).to_numpy()
    np.testing.assert_allclose(told[0][2], np.sign(fitted) * abs(fitted) ** 1.5, rtol=1e-5)
    for damping in (0.1, None):  # as fitted
        assert curvature.rescore(1, damping)["source"] == "fitted"
    assert told[-1][1] is None
    np.testing.assert_array_equal(told[-1][2], fitted)
    assert influence.dampings == [(0.5, "q1")]


def test_an_index_is_asked_before_the_training_data() -> None:
    index = WithFactors()
    influence, curvature, _ = _open(index=index)
    index.seed = 3  # an index is not exact; it is compared with itself
    answer = curvature.rescore(0, 2.0)
    assert (answer["source"], answer["overlap"]) == ("index", 10)
    assert (index.dampings, influence.dampings) == ([(2.0, "q0")], [])


def test_a_spectrum_is_thin_and_says_what_lies_below() -> None:
    _, curvature, _ = _open()
    first, second = curvature.spectrum(), curvature.spectrum("h.1")
    assert (first["layers"], first["layer"], first["fitted"]) == (["h.0", "h.1"], "h.0", 0.1)
    assert len(first["rank"]) == len(first["value"]) <= 300
    assert first["size"] == 2000
    value = np.geomspace(1, 1e-8, 2000)
    assert first["below"] == pytest.approx((value < 0.1 * value.mean()).mean())
    assert second["below"] == pytest.approx(first["below"])
    np.testing.assert_allclose(second["value"], first["value"] / 2)


def test_what_has_no_curvature_says_so() -> None:
    saved = Curvature(open_source(explanation(), None, 5))
    assert "Saved arrays hold no factors" in saved.spectrum()["note"]
    assert saved.rescore(0, None)["source"] == "fitted"
    with pytest.raises(SettingError, match="one damping"):
        saved.rescore(0, 0.3)
    fake = Curvature(open_source(FakeInfluence(), corpus(1, "query"), 5))
    assert fake.spectrum()["note"] == "EKFAC uses no curvature: there is no spectrum and no damping."


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan"), "0.1"])
def test_a_damping_must_be_a_positive_number(damping: Any) -> None:
    with pytest.raises(SettingError, match="positive number"):
        _open()[1].rescore(0, damping)


def test_alone_it_keeps_the_scores_of_the_query_shown() -> None:
    panel = CurvaturePanel(WithFactors(), corpus(2, "query"), position=1)
    fitted = panel.scores
    panel._curvature.rescore(1, 3.0)
    assert (panel.scores != fitted).any()
    panel.position = 0
    assert panel.scores["query"] == "q0"
    with pytest.raises(traitlets.TraitError, match="position=2"):
        panel.position = 2
    data, _ = panel._repr_mimebundle_()
    assert "lies below lambda" in data["text/html"]


def test_on_a_fitted_model_it_is_the_score_under_that_damping() -> None:
    corpus_, (model, tokenizer) = inflab.datasets.load("facts"), inflab.models.load("facts-gpt")
    influence = inflab.EKFAC().fit(inflab.Problem(model, inflab.CausalLM(), corpus_), progress=False)
    queries = inflab.datasets.fact_queries(corpus_, tokenizer=tokenizer).isel(query=[0])
    told: list[Any] = []
    curvature = Curvature(open_source(influence, queries, 5), lambda *scores: told.append(scores))
    answer = curvature.rescore(0, 1.0)
    expected = influence.with_damping(1.0).score(queries, progress=False)["influence"].isel(query=0)
    np.testing.assert_allclose(told[0][2], expected, rtol=1e-5)
    assert 0.5 < answer["agreement"] < 1
    assert curvature.spectrum()["below"] > 0.5
