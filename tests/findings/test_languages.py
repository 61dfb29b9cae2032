"""The two languages share names alone, and what is asked of a translation was told as the notebook says."""

from __future__ import annotations

import pytest

from benchmarks.findings import checkpoint, languages
from inflab import analysis
from inflab.schema import root_attrs

NAMES = {name for relation in ("town", "ruler", "river") for name in languages.ANSWERS[relation][0].split()}


def test_languages_share_no_word_but_names() -> None:
    words = []
    for language in languages.LANGUAGES:
        rows = [row for group in languages.facts().values() for row in group if row[3] == language]
        words.append({word for row in rows for word in (row[0] + row[1]).split()})
    assert words[0] & words[1] == NAMES | set(languages.COUNTRIES)
    assert len(set(languages.COUNTRIES)) == 30


def test_a_fact_is_told_twice_in_each_language_that_tells_it() -> None:
    told: dict[str, list[str]] = {}
    for row in languages.facts()["both"] + languages.facts()["one"]:
        told.setdefault(row[2], []).append(row[3])
    assert len(told) == len(languages.TELLINGS) * len(languages.COUNTRIES)
    assert {tuple(map(found.count, languages.LANGUAGES)) for found in told.values()} == {(2, 2), (2, 0), (0, 2)}


def test_what_is_untold_is_not_trained_on_and_what_is_asked_was_told_in_both() -> None:
    trained = set(languages.corpus()["text"].to_numpy())
    for kind in languages.KINDS:
        asked = languages.untold(kind)
        assert asked.sizes["query"] > 0
        assert not trained & set(asked["text"].to_numpy())
    queries = languages.queries(4)
    assert queries.sizes["query"] == 2 * 2 * 4
    both = {row[2] for row in languages.facts()["both"]}
    assert set(queries["fact"].to_numpy()) <= both


@pytest.mark.parametrize("seed", checkpoint.SEEDS)
@pytest.mark.parametrize("recipe", languages.RECIPES.values(), ids=list(languages.RECIPES))
def test_checkpoints_are_of_todays_recipe(recipe: checkpoint.Recipe, seed: int) -> None:
    checkpoint.card(recipe, seed)


def test_every_question_has_a_ratio_and_it_is_the_planted_one() -> None:
    train, queries = languages.corpus(), languages.queries(4)
    asked = queries.isel(query=(queries["language"] == "English").to_numpy())
    same = train["fact"] == asked["fact"]
    influence = same * (1.0 - 1.25 * (train["language"] == "Spanish"))
    coords = {"fact": train["fact"], "language": train["language"], "query_fact": asked["fact"]}
    influence = influence.drop_vars([n for n in influence.coords if n not in ("query", "train")])
    scores = influence.to_dataset(name="influence").assign_coords(coords).assign_attrs(root_attrs("scores"))
    found = analysis.ratio(scores, along="language", of="Spanish", to="English", match="fact", resamples=50)
    assert found["ratio"].to_numpy() == pytest.approx(-0.25)
    assert (found["count_of"] == 2).all() and (found["count_to"] == 2).all()
