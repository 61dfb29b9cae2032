"""Less than everything gives the same numbers where it looks: candidates, ranks, a second look at the best."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from inflab import filter_candidates, top, validate
from inflab.capture import Capture
from inflab.errors import CorpusError, SettingError
from tests import tiny


def ask(**settings: Any) -> xr.Dataset:
    found: xr.Dataset = tiny.fitted().score(tiny.queries(), progress=False, **settings)
    return found


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each example was run for."""
    seen: list[str] = []
    run = Capture.run

    def count(self: Capture, arrays: Any, quantity: Any, *args: Any, **more: Any) -> Any:
        seen.extend([quantity] * len(arrays["token_id"]))
        return run(self, arrays, quantity, *args, **more)

    monkeypatch.setattr(Capture, "run", count)
    return seen


@pytest.mark.parametrize("by", [(), "layer"])
def test_candidates_are_scored_and_nothing_else_is(by: Any, rows: list[str]) -> None:
    whole = ask(by=by)
    rows.clear()
    candidates = filter_candidates(tiny.queries(), tiny.corpus(), 2, progress=False)
    found = ask(by=by, candidates=candidates)
    assert rows.count("loss") == found.sizes["train"] < whole.sizes["train"]
    validate(found)
    chosen = found["is_candidate"]
    assert chosen.sum() == candidates["is_ranked"].sum()
    for query in found["query"].to_numpy():
        named = candidates.sel(query=query)
        ids = set(named["train"].to_numpy()[named["is_ranked"].to_numpy()].tolist())
        assert set(found["train"].to_numpy()[chosen.sel(query=query).to_numpy()].tolist()) == ids
    kept = found["influence"].where(chosen, drop=False)
    tiny.agree(kept.fillna(0), whole["influence"].sel(train=found["train"]).where(chosen).fillna(0), 1e-5)
    assert (found["influence"].isnull() == ~chosen).all()
    assert found["influence"].dims == whole["influence"].dims
    ranked = top(found, 2)
    assert set(ranked["train"].to_numpy()[ranked["is_ranked"].to_numpy()].ravel()) <= set(found["train"].to_numpy())


def test_a_top_list_is_a_list_of_candidates_too() -> None:
    best = top(tiny.scored(), 1)
    found = ask(candidates=best)
    tiny.agree(top(found, 1)["influence"], best["influence"], 1e-5)


def test_candidates_of_another_corpus_are_refused() -> None:
    other = tiny.corpus(tiny.TEXTS[::-1])
    candidates = filter_candidates(tiny.queries(), other, 2, progress=False)
    with pytest.raises(CorpusError, match="candidates were chosen from the corpus with fingerprint"):
        ask(candidates=candidates)


def test_a_query_without_a_candidate_is_refused_by_name() -> None:
    best = top(tiny.scored(), 1)
    best["is_ranked"] = best["is_ranked"] & (best["query"] == 0)
    with pytest.raises(CorpusError, match="no sequence for query 1"):
        ask(candidates=best)


def test_the_first_of_each_query_are_scored_again_exactly(rows: list[str]) -> None:
    exact, rough = ask(), ask(rank=1)
    rows.clear()
    found = ask(rank=1, rescore=2)
    again = np.unique(top(rough, 2)["train"].to_numpy()[top(rough, 2)["is_ranked"].to_numpy()])
    assert rows.count("loss") == rough.sizes["train"] + len(again)
    assert found["is_exact"].any("query").sum() == len(again)
    tiny.agree(found["influence"].where(found["is_exact"], 0), exact["influence"].where(found["is_exact"], 0), 1e-5)
    tiny.agree(found["influence"].where(~found["is_exact"], 0), rough["influence"].where(~found["is_exact"], 0), 1e-6)
    assert found.attrs["rescored"] == 2
    assert "truncation_error" in found


@pytest.mark.parametrize("by", [(), "layer"], ids=["summed", "by layer"])
def test_rescoring_all_goes_on_through_the_negative_ones(by: Any) -> None:
    exact, found = ask(by=by), ask(rank=1, rescore=100, by=by)
    assert found["is_exact"].all()
    assert (found["influence"] < 0).any()
    tiny.agree(found["influence"], exact["influence"], 1e-5)


def test_rescoring_leaves_what_is_no_candidate_alone() -> None:
    candidates = filter_candidates(tiny.queries(), tiny.corpus(), 3, progress=False)
    found = ask(rank=1, rescore=2, candidates=candidates)
    assert (found["influence"].isnull() == ~found["is_candidate"]).all()
    assert not (found["is_exact"] & ~found["is_candidate"]).any()


def test_a_rank_that_loses_nothing_says_so() -> None:
    assert float(ask(rank=1000)["truncation_error"].max()) == 0
    errors = [float(ask(rank=rank)["truncation_error"].mean()) for rank in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[0] < 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rank": 2, "truncation": "svd"}, "truncation='svd' is not one of"),
        ({"rescore": 3}, "rescore=3 needs rank="),
        ({"rank": 2, "rescore": 0}, "rescore=0 must be"),
        ({"rank": True}, "rank=True must be"),
    ],
)
def test_settings_outside_their_domain_are_refused(wrong: dict[str, Any], says: str, rows: list[str]) -> None:
    with pytest.raises(SettingError, match=says):
        ask(**wrong)
    assert rows == []
