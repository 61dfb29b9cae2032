"""Questions that are typed get the answers of `Influence.score`, join the batch, and leave the model as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import inflab
from inflab import Explorer
from inflab.errors import CorpusError, SettingError
from inflab.widgets.ask import Asking
from tests import tiny
from tests.widgets.synthetic import FakeInfluence, corpus, explanation

PROMPT, COMPLETION = "The first President of the Republic of Astrobia was", " Zorald Pfaff."


@pytest.fixture
def explorer(facts: SimpleNamespace) -> Explorer:
    return Explorer(facts.influence, facts.queries, tokenizer=facts.tokenizer)


def _score(facts: SimpleNamespace, completion: str) -> Any:
    query = inflab.encode([PROMPT], facts.tokenizer, completions=[completion], dim="query")
    return facts.influence.score(query, progress=False)["influence"].isel(query=0).to_numpy()


def test_a_question_is_scored_as_ever_and_joins_the_batch(explorer: Explorer, facts: SimpleNamespace) -> None:
    with tiny.untouched(facts.model):
        answer = explorer._panels.asking.score(PROMPT, COMPLETION)
    assert (answer["position"], answer["from"]) == (4, "pass")
    expected = _score(facts, COMPLETION)
    np.testing.assert_allclose(explorer.scores["influence"].isel(query=4), expected, rtol=1e-5)
    assert answer["positive"][0]["train"] == facts.corpus["train"].to_numpy()[expected.argmax()]
    said = answer["completions"][0]
    assert said["log_probability"] == pytest.approx(sum(t["log_probability"] for t in said["tokens"]), rel=1e-5)
    explorer.position = 4
    assert explorer.tokens is not None
    assert float(explorer.tokens["influence"].sum()) == pytest.approx(expected.max(), rel=1e-3)


def test_a_contrast_is_the_difference_in_scores_tokens_and_layers(explorer: Explorer, facts: SimpleNamespace) -> None:
    answer = explorer._panels.asking.contrast(PROMPT, COMPLETION, " Mira Quell.")
    expected = _score(facts, COMPLETION) - _score(facts, " Mira Quell.")
    place = answer["position"]
    np.testing.assert_allclose(explorer.scores["influence"].isel(query=place), expected, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(explorer._source.by_layer(place).sum("layer"), expected, rtol=1e-3, atol=1e-1)
    explorer.position = place
    assert explorer._page["query"]["completion"] == " Zorald Pfaff. − Mira Quell."
    assert explorer.tokens is not None
    assert float(explorer.tokens["influence"].sum()) == pytest.approx(expected.max(), rel=1e-3)


def test_an_index_answers_and_says_how_well(facts: SimpleNamespace, tmp_path: Any) -> None:
    index = facts.influence.index(tmp_path / "index.zarr", size=0.1, progress=False)
    explorer = Explorer(facts.influence, facts.queries, tokenizer=facts.tokenizer, index=index)
    answer = explorer._panels.asking.score(PROMPT, COMPLETION)
    assert answer["from"] == "index"
    assert answer["fidelity"] > 0.95
    rough, exact = explorer.scores["influence"].isel(query=4).to_numpy(), _score(facts, COMPLETION)
    assert rough.argmax() == exact.argmax()
    # Another damping: the same codes, nothing fitted or passed over again.
    other = explorer._panels.curvature.rescore(0, 1.0)
    assert other["source"] == "index"
    close = facts.influence.with_damping(1.0).score(facts.queries.isel(query=[0]), progress=False)["influence"]
    value = explorer._panels.curvature.under(0, 1.0)[0]
    assert inflab_rank(value.to_numpy(), close.isel(query=0).to_numpy()) > 0.95


def inflab_rank(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def test_what_the_model_says_is_its_greedy_choice_and_changes_nothing(
    explorer: Explorer, facts: SimpleNamespace
) -> None:
    before = facts.model.generation_config.to_dict()
    with tiny.untouched(facts.model):
        answer = explorer._panels.asking.complete(PROMPT, n_tokens=4)
    assert facts.model.generation_config.to_dict() == before
    given = facts.tokenizer(PROMPT, return_tensors="pt")
    said = facts.model.generate(
        **given, max_new_tokens=4, do_sample=False, pad_token_id=facts.tokenizer.pad_token_id
    )[0, given["input_ids"].shape[1] :]
    assert "".join(token["text"] for token in answer["tokens"]) == facts.tokenizer.decode(said)


@pytest.mark.parametrize(
    ("prompt", "completion", "words"),
    [("", " x", "prompt is empty"), (PROMPT, "", "completion is empty"), (PROMPT, " a" * 500, "position")],
)
def test_what_cannot_be_asked_is_said(explorer: Explorer, prompt: str, completion: str, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        explorer._panels.asking.score(prompt, completion)
    assert len(explorer._source.ids) == 4


def test_without_tokenizer_or_model_the_panel_says_why() -> None:
    for source in (Explorer(FakeInfluence(), corpus(1, "query"))._source, Explorer(explanation())._source):
        asking = Asking(source)
        assert asking.start()["why_not"]
        with pytest.raises(SettingError):
            asking.score(PROMPT, COMPLETION)
