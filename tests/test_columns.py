"""What a corpus refuses before it becomes wrong numbers: near misses, tables, names of results, other ids' texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import inflab
from inflab.columns import _RESULTS
from inflab.errors import CorpusError, ModelError
from tests import tiny


@pytest.mark.parametrize("name", ["completion", "prompt", "prompts", "id"])
def test_what_is_nearly_an_argument_is_no_column(name: str) -> None:
    with pytest.raises(
        CorpusError, match=f"{name}= would be a column of your own; did you mean (completions|texts|ids)="
    ):
        inflab.encode(["It is"], tiny.byte_level(), **{name: [" so"]})


@pytest.mark.parametrize("name", _RESULTS)
def test_names_of_results_are_refused_before_the_work(name: str) -> None:
    with pytest.raises(CorpusError, match=f"coordinate '{name}' has a name of the schema"):
        inflab.encode(["It is"], tiny.byte_level(), **{name: [1]})


@pytest.mark.parametrize("texts", [pd.DataFrame({"text": ["a"], "source": ["b"]}), {"text": ["a"]}, 3], ids=repr)
def test_a_table_is_no_list_of_texts(texts: Any) -> None:
    with pytest.raises(CorpusError, match=f"texts is a {type(texts).__name__}; give a list of strings"):
        inflab.encode(texts, tiny.byte_level())


def test_columns_of_a_table_are_texts() -> None:
    table = pd.DataFrame({"text": ["the sea", "a lake"], "source": ["b", "c"]})
    found = inflab.encode(table["text"], tiny.byte_level(), source=table["source"])
    assert found["text"].values.tolist() == ["the sea", "a lake"]
    assert found["source"].values.tolist() == ["b", "c"]


@pytest.mark.parametrize("tokenizer", ["gpt2", None])
def test_what_cannot_be_called_is_no_tokenizer(tokenizer: Any) -> None:
    with pytest.raises(
        CorpusError, match=f"tokenizer is a {type(tokenizer).__name__}, which cannot be called on texts"
    ):
        inflab.encode(["It is"], tokenizer)


def test_ids_that_stand_for_other_pieces_are_refused() -> None:
    problem, queries = tiny.language_problem(), tiny.queries()
    tiny.fit(problem).score(queries, progress=False)
    other = queries.assign(vocabulary_text=queries["vocabulary_text"].copy())
    other["vocabulary_text"][1] = "another piece"
    with pytest.raises(CorpusError, match="is 'another piece' in these texts and .* made with different tokenizers"):
        tiny.fit(problem).score(other, progress=False)


def test_a_list_of_other_texts_with_the_same_ids_is_refused() -> None:
    fitted, queries = tiny.fit(tiny.language_problem()), tiny.queries()
    chosen = inflab.top(fitted.score(queries, progress=False), 2)
    turned = queries.isel(query=slice(None, None, -1)).assign_coords(query=queries["query"].values)
    with pytest.raises(CorpusError, match="top says that query .* use the query corpus it was made from"):
        fitted.attribute(turned, chosen, progress=False)
    corpus = fitted.problem.corpus
    other = corpus.isel(train=slice(None, None, -1)).assign_coords(train=corpus["train"].values)
    with pytest.raises(CorpusError, match="top says that train .* use the train corpus it was made from"):
        fitted.attribute(queries, chosen, train=other, progress=False)
    with pytest.raises(CorpusError, match="candidates is a list; give what inflab.filter_candidates"):
        fitted.score(queries, candidates=[1, 2], progress=False)


@pytest.mark.parametrize("change", [lambda w: w.add_(0.1), lambda w: w.data.mul_(1.5)], ids=["in place", "its data"])
def test_a_model_that_was_trained_on_since_the_fit_is_refused(change: Any) -> None:
    problem, queries = tiny.language_problem(), tiny.queries()
    fitted = tiny.fit(problem)
    before = fitted.score(queries, progress=False)["influence"].to_numpy()
    weight = problem.model.transformer.h[0].mlp.c_fc.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        change(weight)
    for ask in (fitted, fitted.with_damping(0.5)):
        with pytest.raises(
            ModelError, match=r"the model has changed since it was fitted \(fingerprint \w+ then, \w+ now"
        ):
            ask.score(queries, progress=False)
    with torch.no_grad():
        weight.copy_(kept)
    np.testing.assert_array_equal(fitted.score(queries, progress=False)["influence"].to_numpy(), before)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model is a str; give a torch.nn.Module or a Problem"):
        inflab.layers("gpt2")  # type: ignore[arg-type]
