"""Questions that are typed get the answers of `Influence.score`, join the batch, and leave the model as it was."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import inflab
from inflab import Explorer
from inflab.errors import CorpusError, SettingError
from inflab.widgets.ask import Asking, AskPanel
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
    rounding = 1e-5 * float(abs(expected).max())  # of float32: two queries together, and one after the other
    np.testing.assert_allclose(explorer.scores["influence"].isel(query=place), expected, rtol=1e-3, atol=rounding)
    np.testing.assert_allclose(explorer._source.by_layer(place).sum("layer"), expected, rtol=1e-3, atol=rounding)
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
    said = facts.model.generate(**given, max_new_tokens=4, do_sample=False, pad_token_id=facts.tokenizer.pad_token_id)[
        0, given["input_ids"].shape[1] :
    ]
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
    for source, words in (
        (Explorer(FakeInfluence(), corpus(1, "query"))._source, "needs a tokenizer; pass tokenizer="),
        (Explorer(explanation())._source, "this is a saved explanation; open an Influence"),
    ):
        asking = Asking(source)
        assert words in asking.start()["why_not"]
        for ask in (asking.complete, lambda prompt: asking.score(prompt, COMPLETION)):  # noqa: B023
            with pytest.raises(SettingError, match=words):
                ask(PROMPT)
    with pytest.raises(SettingError, match="give a fitted Influence"):
        AskPanel(explanation(), None)
    with pytest.raises(SettingError, match="needs a tokenizer"):
        AskPanel(FakeInfluence(), None)


def test_only_an_answer_that_was_waited_for_joins(facts: SimpleNamespace) -> None:
    panel = AskPanel(facts.influence, facts.tokenizer)
    asking = panel._asking
    given_up, wanted = (asking.score(PROMPT, COMPLETION, keep=False) for _ in range(2))
    assert given_up["id"] != wanted["id"]
    assert panel.asked == []
    assert asking.keep(wanted["id"]) == {"id": wanted["id"], "position": 0}
    ((queries, scores, where),) = panel.asked
    assert (queries["query"].item(), scores["query"].item(), where) == (wanted["id"], wanted["id"], "pass")
    np.testing.assert_allclose(scores["influence"].isel(query=0), _score(facts, COMPLETION), rtol=1e-5)
    with pytest.raises(SettingError, match="ask it again"):
        asking.keep(wanted["id"])


def test_chosen_tokens_are_asked_after_what_was_written_before_them(explorer: Explorer, facts: SimpleNamespace) -> None:
    """As the panel does: what comes before the chosen tokens goes to the prompt."""
    asking = explorer._panels.asking
    tokens = asking.complete(PROMPT, n_tokens=3)["tokens"]
    before, chosen = tokens[0]["text"], "".join(token["text"] for token in tokens[1:])
    answer = asking.score(PROMPT + before, chosen)
    said = answer["completions"][0]
    assert said["log_probability"] == pytest.approx(sum(t["log_probability"] for t in tokens[1:]), abs=1e-4)
    # Log-probabilities add up, and so do influences on them.
    whole = _score(facts, before + chosen)
    first = _score(facts, before)
    np.testing.assert_allclose(
        explorer.scores["influence"].isel(query=answer["position"]),
        whole - first,
        rtol=1e-2,
        atol=1e-2 * abs(whole).max(),
    )


def test_two_similarities_are_not_subtracted(facts: SimpleNamespace) -> None:
    asking = AskPanel(inflab.BM25().fit(facts.problem, progress=False), facts.tokenizer)._asking
    assert asking.score(PROMPT, COMPLETION)["is_effect"] is False
    with pytest.raises(SettingError, match="ask each completion alone"):
        asking.contrast(PROMPT, COMPLETION, " Mira Quell.")
    with pytest.raises(SettingError, match="both completions are the same"):
        asking.contrast(PROMPT, COMPLETION, COMPLETION)


@pytest.mark.parametrize(
    "text", ["<script>window.pwned = 1</script>", "\ud800 alone", "\u0000\u001b[31m", "👩‍👩‍👧 مرحبا"]
)
def test_any_text_is_text(explorer: Explorer, text: str) -> None:
    heard: list[Any] = []
    explorer.send = lambda content, buffers=None: heard.append(content)  # type: ignore[method-assign]
    explorer._on_question(explorer, {"id": 1, "kind": "ask.score", "args": {"prompt": text, "completion": text}}, [])
    answer = heard[-1]["answer"]
    assert answer["position"] == 4
    json.dumps(answer, allow_nan=False).encode()
