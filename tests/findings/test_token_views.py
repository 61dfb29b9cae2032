"""Token views: the parts of a sequence are where they are said to be, and shares and peaks are counted right."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import inflab
from benchmarks.findings import checkpoint, token_views

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")


def test_each_fact_is_told_three_times_beside_sentences_about_nothing_of_it() -> None:
    facts, rows = token_views.facts(), token_views.parts()
    assert facts[0].answer == "Zorald Pfaff"
    assert len({fact.subject for fact in facts}) == len(facts) == 40
    assert [row[:2] for row in rows] == [(number, place) for number in range(len(facts)) for place in range(3)]
    for number, place, texts in rows:
        fact, beside = facts[number], "".join(text for i, text in enumerate(texts) if i != place)
        assert texts[place] == f" {fact.sentence('forward')}"
        assert not {fact.subject, *fact.answer.split()} & set(beside.replace(".", " ").split())


@pytest.mark.parametrize("place", [0, 1, 2])
def test_regions_name_the_tokens_that_they_say(place: int) -> None:
    tokenizer, corpus = token_views.tokenizer(), token_views.corpus()
    for number, fact in enumerate(token_views.facts()):
        row = 3 * number + place
        ids = corpus["token_id"].to_numpy()[row][corpus["is_text"].to_numpy()[row]]
        parts, words = token_views.regions(number, place), [tokenizer.decode([i]) for i in ids]
        assert len(parts) == len(words)

        def said(region: str, parts: list[str] = parts, words: list[str] = words) -> str:
            return "".join(word for part, word in zip(parts, words, strict=True) if part == region)

        assert said("answer") == f" {fact.answer}"
        assert said("subject") == f" {fact.subject}"
        assert said("full stop") == "."
        assert fact.question("forward")[0].endswith(said("last of the prompt"))
        texts = token_views.parts()[row][2]
        assert said("sentence before") == "".join(texts[:place])
        assert said("sentence after") == "".join(texts[place + 1 :])


def _made_up(values: list[list[float]]) -> xr.Dataset:
    region = ["sentence before", "subject", "last of the prompt", "answer", ""]
    return xr.Dataset(
        {"influence": (("query", "rank", "token"), np.array(values)[:, None])},
        coords={"query": ["a", "b"], "region": (("query", "token"), [region] * 2)},
    )


def test_shares_are_of_the_positive_mass_and_padding_has_none() -> None:
    one = _made_up([[1, 0, 3, -9, np.nan], [-1, 2, 0, 6, np.nan]])
    found = token_views.shares({"update": one, "output": one})
    assert found.sum("region").to_numpy() == pytest.approx(np.ones((2, 2)))
    row = found.isel(view=0)
    assert row.sel(region="last of the prompt").to_numpy() == pytest.approx([0.75, 0])
    assert row.sel(region="answer").to_numpy() == pytest.approx([0, 0.75])
    assert row.sel(region="sentence after").to_numpy() == pytest.approx([0, 0])


def test_peaks_are_counted_from_the_answers_first_token() -> None:
    found = token_views.peaks({"update": _made_up([[1, 0, 3, -9, np.nan], [-1, 2, 0, 6, np.nan]])})
    assert found["region"].to_numpy()[:, 0].tolist() == ["last of the prompt", "answer"]
    assert found["offset"].to_numpy()[:, 0].tolist() == [-1, 0]


@pytest.mark.parametrize("seed", checkpoint.SEEDS)
def test_checkpoints_are_of_the_recipe(seed: int) -> None:
    assert checkpoint.card(token_views.RECIPES["facts"], seed)["parameters"] < 200_000


def test_update_and_output_sum_to_the_influence_of_the_pair() -> None:
    recipe, asked = token_views.RECIPES["facts"], token_views.queries(3)
    problem = inflab.Problem(checkpoint.load(recipe), inflab.CausalLM(), token_views.corpus())
    influence = inflab.Identity(layers="*.mlp.*").fit(problem, progress=False)
    views = token_views.attributed(influence, asked)
    scores = influence.score(asked, progress=False)["influence"]
    ids = token_views.taught_by(asked)["train"].to_numpy()[:, 0]
    own = [float(scores.sel(query=q, train=t)) for q, t in zip(asked["query"].to_numpy(), ids, strict=True)]
    for view in ("update", "output"):
        assert views[view]["influence"].sum("token").to_numpy()[:, 0] == pytest.approx(own, rel=1e-3)
