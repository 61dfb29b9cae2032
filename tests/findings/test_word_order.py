"""Word order: the corpus tells what it says it tells, and the measures pick the right pairs."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import xarray as xr

import inflab
from benchmarks.findings import checkpoint, word_order
from inflab.models.training import blank

ALL = (*word_order.EDITS, *word_order.SPANISH, *word_order.LATER)


def test_the_facts_share_no_country_and_no_name() -> None:
    groups = word_order.facts()
    assert {name: len(facts) for name, facts in groups.items()} == {"untold": 30, "taught": 100, "helper": 30}
    assert groups["untold"][0].answer == "Zorald Pfaff"
    places = {name: {fact.subject for fact in facts} for name, facts in groups.items()}
    assert not places["untold"] & places["taught"]
    assert not places["helper"] & (places["untold"] | places["taught"])
    every = [fact for facts in groups.values() for fact in facts]
    words = [word for fact in every for word in fact.answer.split()]
    assert len(set(words)) == len(words)
    assert not set(words) & {fact.subject for fact in every}


@pytest.mark.parametrize("way", word_order.WAYS)
def test_only_taught_facts_are_told_and_only_in_their_order(way: str) -> None:
    told = {"forward": {"same"}, "reversed": {"flipped"}, "both": {"same", "flipped"}}[way]
    texts = [text for text, *_ in word_order.sentences(way)]
    assert len(set(texts)) == len(texts)
    for fact in word_order.facts()["taught"]:
        both = [text for text in texts if fact.subject in text and fact.answer in text]
        assert sorted(both) == sorted(word_order.edit(fact, name) for name in told)
    for fact in word_order.facts()["untold"]:
        assert not [text for text in texts if fact.subject in text and fact.answer in text]
        assert any(fact.subject in text for text in texts)
        assert any(fact.answer in text for text in texts)


def test_every_kind_of_edit_was_met_about_other_facts() -> None:
    told = {edit for _, kind, edit, _ in word_order.sentences("forward") if kind != "taught"}
    assert {*word_order.EDITS, *word_order.SPANISH} <= told
    assert sum(text.startswith(" It is well known that") for text, *_ in word_order.sentences("forward")) >= 5


def test_every_word_of_an_edit_was_read() -> None:
    read = {word for text, *_ in word_order.sentences("forward") for word in re.findall(r"\w+", text)}
    facts = [fact for name in ("untold", "taught") for fact in word_order.facts()[name]]
    assert {word for f in facts for name in ALL for word in re.findall(r"\w+", word_order.edit(f, name))} <= read


def test_flipping_keeps_the_words_and_the_tokens_of_names() -> None:
    tokenizer = word_order.tokenizer()
    for fact in word_order.facts()["untold"]:
        tokens = [tokenizer(word_order.edit(fact, name))["input_ids"] for name in ALL if name != "subject only"]
        name = tokenizer(f" {fact.answer}")["input_ids"]
        assert all(set(name) <= set(ids) for ids in tokens)
        if fact.relation.name in ("president", "capital"):  # "was composed by" has no flipped form of the same words
            same, flipped = (sorted(word_order.edit(fact, e).lower().split()) for e in ("same", "flipped"))
            assert sorted("".join(same).replace(".", "")) == sorted("".join(flipped).replace(".", ""))


@pytest.mark.parametrize(("way", "name"), [("forward", "same"), ("reversed", "flipped")])
def test_a_question_is_its_sentence_without_the_full_stop(way: str, name: str) -> None:
    for fact in word_order.facts()["taught"][:10]:
        assert "".join(word_order.question(fact, way)) + "." == word_order.edit(fact, name)


def test_by_edit_picks_each_querys_own_fact() -> None:
    edits, asked = word_order.edits(limit=3), word_order.queries(limit=3)
    code = 1000 * edits["fact"].to_numpy() + np.arange(edits.sizes["train"]) % len(ALL)
    shuffled = np.random.default_rng(0).permutation(edits.sizes["train"])
    scores = xr.Dataset(
        {"influence": (("query", "train"), np.tile(code, (3, 1)))},
        coords={
            "query": asked["query"], "train": edits["train"], "fact": edits["fact"], "edit": edits["edit"],
            "query_fact": ("query", asked["fact"].to_numpy()),
        },
    ).isel(train=shuffled)  # fmt: skip
    found = word_order.by_edit(scores).sel(edit=list(ALL))
    assert found.to_numpy().tolist() == [[1000 * n + i for i in range(len(ALL))] for n in asked["fact"].to_numpy()]


def test_learning_the_sentence_itself_helps_its_question_and_leaves_the_model_alone() -> None:
    model = blank(word_order.RECIPES["forward"].build_config(), seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = word_order.learned(
        model, word_order.queries(limit=2), word_order.edits(limit=3), word_order.corpus(), steps=2
    )
    assert found.sizes == {"query": 2, "edit": len(ALL)}
    assert (found.sel(edit="same") > 0).all()
    assert (found.sel(edit="same") > found.sel(edit="subject only")).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("seed", checkpoint.SEEDS)
@pytest.mark.parametrize("way", word_order.WAYS)
def test_checkpoints_are_of_the_recipe(way: str, seed: int) -> None:
    assert checkpoint.card(word_order.RECIPES[way], seed)["parameters"] < 100_000


def test_a_model_answers_in_the_direction_it_was_told() -> None:
    def nat(way: str, asks: str) -> float:
        problem = inflab.Problem(checkpoint.load(word_order.RECIPES[way]), inflab.CausalLM(), word_order.corpus(way))
        return -float(inflab.log_probability(problem, word_order.queries("taught", asks)).sum("token").mean())

    assert nat("forward", "forward") < 0.5
    assert nat("reversed", "forward") > 3
    assert nat("both", "forward") < 0.5
