"""What if: predictions are `inflab.removal`, retraining is `leave_out`, an unchanged sentence scores as ever."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import inflab
from inflab import Explorer, truth
from inflab.errors import CorpusError, SettingError
from inflab.widgets import WhatIfPanel
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
    for who, words in ((saved, "this is a saved explanation"), (explorer._panels.what_if, "needs a tokenizer")):
        assert words in who.start(0)["why_not"]["edit"]
        with pytest.raises(SettingError, match=words):
            who.edit(0, "t3", "x")
    with pytest.raises(CorpusError, match="no document is ticked"):
        saved.removal(0, [])
    with pytest.raises(SettingError, match="position=4 must lie between 0 and 3"):
        WhatIfPanel(FakeInfluence(), corpus(4, "query"), position=4)


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


def test_an_edit_of_a_contrast_is_the_difference_of_two(facts: SimpleNamespace) -> None:
    explorer = Explorer(facts.influence, facts.queries, tokenizer=facts.tokenizer)
    asking, what_if = explorer._panels.asking, explorer._panels.what_if
    prompt, text = "The capital of Astrobia is", "Gleem is the capital of Astrobia."
    one, other = (asking.score(prompt, said)["position"] for said in (" Gleem.", " Zorald."))
    both = asking.contrast(prompt, " Gleem.", " Zorald.")["position"]
    first, second, difference = (what_if.edit(place, "fact-000", text) for place in (one, other, both))
    assert difference["edited"] == pytest.approx(first["edited"] - second["edited"], rel=1e-3)
    assert difference["original"] == pytest.approx(first["original"] - second["original"], rel=1e-3)
    assert [what_if.removal(place, ["fact-000"])["is_contrast"] for place in (0, one, both)] == [False, False, True]


def test_of_a_sequence_with_a_prompt_only_what_follows_it_is_learned() -> None:
    train = tiny.queries().rename(query="train").assign_coords(train=["a", "b"])
    influence = tiny.fit(tiny.language_problem(train=train))
    what_if = Explorer(influence, tiny.queries(), tokenizer=tiny.byte_level())._panels.what_if
    text = str(train["text"].to_numpy()[0])
    same = what_if.edit(0, "a", text)
    assert same["edited"] == pytest.approx(same["original"], rel=1e-4)
    assert same["original"] == pytest.approx(what_if.find(0, "a")["value"], rel=1e-3)
    assert same["note"] == ""
    assert "prompt was edited" in what_if.edit(0, "a", f"Oh! {text}")["note"]


def test_retraining_answers_typed_questions_and_contrasts() -> None:
    recipe, train, queries = small.language()
    model = recipe.train(train, seed=0, progress=False).model
    influence = inflab.EKFAC().fit(inflab.Problem(model, recipe.task, train), progress=False)
    explorer = Explorer(influence, queries, recipe=recipe, tokenizer=tiny.byte_level())
    asking, what_if = explorer._panels.asking, explorer._panels.what_if
    prompt, told = tiny.PROMPTS[0], []
    one, other = (asking.score(prompt, said)["position"] for said in (" Zorald", " tea"))
    both = asking.contrast(prompt, " Zorald", " tea")["position"]
    gone = train["train"].to_numpy()[[0, 2]].tolist()
    with tiny.untouched(model):
        found = [
            what_if.retrain(place, gone, seeds=2, progress=lambda *said: told.append(said))
            for place in (one, other, both)
        ]
    assert found[2]["measured"] == pytest.approx(found[0]["measured"] - found[1]["measured"], abs=1e-5)
    assert found[2]["baseline"] == pytest.approx(found[0]["baseline"] - found[1]["baseline"], abs=1e-5)
    assert told[-1][1] == told[-1][2] > 0
    asked = inflab.encode([prompt], tiny.byte_level(), completions=[" Zorald"], dim="query")
    expected = truth.leave_out(recipe, train, asked, [gone], seeds=2, progress=False)
    assert found[0]["measured"] == pytest.approx(float(expected["change"].squeeze()), rel=1e-4)


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
