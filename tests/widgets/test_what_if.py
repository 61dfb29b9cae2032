"""What if: predictions are `inflab.removal`, retraining is `leave_out`, an unchanged sentence scores as ever."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import inflab
from inflab import Explorer, truth
from inflab.errors import CorpusError, SettingError
from tests import tiny
from tests.truth import small
from tests.widgets.synthetic import FakeInfluence, corpus, explanation

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")


def test_a_removal_is_that_of_the_scores() -> None:
    explorer = Explorer(FakeInfluence(), corpus(4, "query"))
    trains = ["t3", "t0", "t9"]
    found = explorer._panels.what_if.removal(2, trains)
    expected = inflab.removal(explorer.scores, [trains]).isel(group=0)
    assert found["effect"] == pytest.approx(float(expected["effect"].isel(query=2)), rel=1e-5)
    assert found["percent"] == pytest.approx(float(expected["percent"].isel(query=2)), rel=1e-5)
    sizes = [abs(row["effect"]) for row in found["batch"]]
    assert sizes == sorted(sizes, reverse=True)
    saved = Explorer(explanation())._panels.what_if
    assert saved.removal(0, ["t3"])["effect"] == pytest.approx(
        float(inflab.removal(explanation()["scores"].to_dataset(), [["t3"]])["effect"].isel(query=0, group=0)), rel=1e-5
    )
    with pytest.raises(CorpusError, match="no training sequence has the id 'x'"):
        saved.removal(0, ["x"])
    assert saved.start(0)["why_not"]["retrain"]
    with pytest.raises(SettingError, match="saved"):
        saved.retrain(0, ["t3"])


def test_an_edit_is_scored_under_the_same_curvature(facts: SimpleNamespace) -> None:
    explorer = Explorer(facts.influence, facts.queries, tokenizer=facts.tokenizer)
    what_if = explorer._panels.what_if
    train = explorer.selected["train"]
    text = str(facts.corpus["text"].sel(train=train).item())
    with tiny.untouched(facts.model):
        same = what_if.edit(0, train, text)
        flipped = what_if.edit(0, train, " ".join(reversed(text.split())))
    assert same["edited"] == pytest.approx(same["original"], rel=1e-4)
    assert same["original"] == pytest.approx(explorer._item["effect"], rel=1e-3)
    again = inflab.encode([flipped["text"]], facts.tokenizer)
    expected = facts.influence.score(facts.queries.isel(query=[0]), train=again, progress=False)["influence"]
    assert flipped["edited"] * facts.corpus.sizes["train"] == pytest.approx(float(expected.squeeze()), rel=1e-3)
    # Of a question that was typed, too.
    place = explorer._panels.asking.score("The capital of Astrobia is", " Zorald.")["position"]
    assert what_if.edit(place, train, text)["edited"] == pytest.approx(what_if.edit(place, train, text)["original"])
    with pytest.raises(CorpusError, match="empty"):
        what_if.edit(0, train, "  ")


def test_retraining_is_leave_out() -> None:
    recipe = small.recipe()
    train, queries = small.classes(), small.classes(3, "query", seed=1)
    problem = inflab.Problem(recipe.train(train, seed=0, progress=False).model, recipe.task, train)
    influence = inflab.EKFAC().fit(problem, progress=False)
    explorer = Explorer(influence, queries, recipe=recipe)
    gone = train["train"].to_numpy()[[2, 5]].tolist()
    found = explorer._panels.what_if.retrain(1, gone, seeds=2)
    expected = truth.leave_out(recipe, train, queries, [gone], seeds=2, progress=False)
    assert found["measured"] == pytest.approx(float(expected["change"].isel(group=0, query=1)), rel=1e-6)
    assert found["effect"] == pytest.approx(
        float(inflab.removal(explorer.scores, [gone])["effect"].isel(query=1, group=0)), rel=1e-5
    )
    assert np.isfinite(found["measured_se"])
