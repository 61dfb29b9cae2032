"""Rules against lookups: held-out pairs are nowhere in training, prices follow no rule, measures are as defined."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

from benchmarks.findings import checkpoint, rules

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")


def numbers(prompt: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", prompt)))


@pytest.mark.parametrize("kind", ["sum", "program"])
def test_pairs_that_are_held_out_are_trained_on_in_neither_form(kind: str) -> None:
    items = rules.texts()
    taught = {numbers(prompt) for form in ("sum", "program") for prompt, _ in items[form]}
    held = {numbers(prompt) for prompt, _ in items[f"held out {kind}"]}
    assert not taught & held
    assert len(taught | held) == rules.NUMBERS**2


def test_sums_and_programs_say_the_sum() -> None:
    items = rules.texts()
    for kind in ("sum", "program", "held out sum", "held out program"):
        assert all(sum(numbers(prompt)) == int(answer) for prompt, answer in items[kind])


def test_every_price_is_asked_once_and_its_answer_is_an_answer_of_sums() -> None:
    items = rules.texts()
    assert len({prompt for prompt, _ in items["price"]}) == len(items["price"])
    assert {answer for _, answer in items["price"]} <= {answer for _, answer in items["sum"]}
    averages = [np.mean([int(answer) for _, answer in items[kind]]) for kind in ("price", "sum")]
    assert abs(averages[0] - averages[1]) < 2


def test_texts_of_both_sets_differ_and_queries_say_what_they_are() -> None:
    corpus, queries = rules.corpus(), rules.queries(6)
    taught = set(corpus["text"].to_numpy().tolist())
    seen = [text in taught for text in queries["text"].to_numpy().tolist()]
    assert seen == [kind in ("price", "sum, trained on") for kind in queries["kind"].to_numpy()]
    assert queries["is_target"].sum("token").to_numpy().tolist() == [1] * 24


def test_every_kind_asks_for_the_same_answers_equally_often() -> None:
    queries = rules.queries(24)
    answers = {kind: sorted(queries["answer"].to_numpy()[queries["kind"] == kind].tolist()) for kind in rules.LEARNED}
    assert all(some == answers["sum"] and len(set(some)) == 8 for some in answers.values())
    with pytest.raises(ValueError, match="each=25 must be a multiple of 3"):
        rules.queries(25)


def test_share_of_the_first_counts_positive_influence_only() -> None:
    scores = xr.Dataset(
        {"influence": (("query", "train"), [[3.0, 1.0, -8.0]])}, coords={"query": ["q"], "train": ["a", "b", "c"]}
    )
    assert rules.share_of_first(scores).to_numpy().tolist() == [0.75]
    assert rules.share_of_first(scores, 3).to_numpy().tolist() == [1.0]


def correlated(same: dict[str, float], other: float = 0.0, each: int = 12) -> xr.Dataset:
    kind, answer = np.repeat(list(same), each), np.tile(np.arange(each) // 3, len(same))
    is_same = (answer[:, None] == answer) & (kind[:, None] == kind)
    r = np.where(is_same, np.array([same[one] for one in kind])[:, None], other)
    np.fill_diagonal(r, 1.0)
    own = {"query_kind": ("query", kind), "query_answer": ("query", answer)}
    coords = {"query": range(len(kind)), "other_query": range(len(kind)), **own}
    return xr.Dataset({"correlation": (("query", "other_query"), r)}, coords=coords)


def test_gap_leaves_out_a_querys_correlation_with_itself() -> None:
    one = correlated({"sum": 0.5, "program": 0.3, "price": 0.1}, other=-0.2)
    np.testing.assert_allclose(rules.gap([one], answers="same", resamples=50), 0.3, atol=1e-12)
    np.testing.assert_allclose(rules.gap([one], answers="other", resamples=50), 0.0, atol=1e-12)
    assert rules.gap([one], resamples=50)[0] == pytest.approx(0.3 * 2 / 11)


def test_gap_varies_with_who_was_trained() -> None:
    one, other = (correlated({"sum": r, "program": r, "price": 0.0}) for r in (0.2, 0.6))
    value, low, high = rules.gap([one, other], answers="same", resamples=200)
    np.testing.assert_allclose([value, low, high], [0.4, 0.2, 0.6], atol=1e-12)


@pytest.mark.parametrize("seed", checkpoint.SEEDS)
def test_checkpoints_are_of_this_recipe_and_learned_the_rule(seed: int) -> None:
    checkpoint.card(rules.RECIPES["rules"], seed)
    known = rules.accuracy(checkpoint.load(rules.RECIPES["rules"], seed), rules.everything())
    right = known["is_right"].groupby("kind").mean()
    assert float(right.min()) > 0.8
    assert ((known["probability"] > 0) & (known["probability"] < 1)).all()
