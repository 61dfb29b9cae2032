"""Scores, lists and token views agree with each other, whatever the batch, the budget or the corpus."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import inflab
from inflab import EKFAC, KFAC, Cosine, Diagonal, Identity, TracIn, effect, top
from inflab.capture import Capture
from inflab.errors import CorpusError, LayerError, NumericsError, SettingError
from tests import tiny

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")


def asks(**settings: Any) -> np.ndarray:
    found: np.ndarray = tiny.fitted().score(tiny.queries(), progress=False, **settings)["influence"].to_numpy()
    return found


# --- what a result carries --------------------------------------------------------------------------------------


def test_scores_carry_the_coordinates_of_both_corpora() -> None:
    problem = tiny.language_problem(train=tiny.corpus(source=list("uvwxyz"), ids=list("abcdef")))
    scores = tiny.fit(problem).score(tiny.queries(ids=["q", "r"], topic=["who", "where"]), progress=False)
    assert scores["influence"].dims == ("query", "train")
    assert scores["train"].values.tolist() == list("abcdef")
    assert scores["source"].values.tolist() == list("uvwxyz")
    assert scores["text"].values.tolist() == list(tiny.TEXTS)
    assert scores["query"].values.tolist() == ["q", "r"]
    assert scores["query_topic"].values.tolist() == ["who", "where"]
    assert scores["query_prompt"].values.tolist() == list(tiny.PROMPTS)
    assert scores["query_completion"].values.tolist() == list(tiny.COMPLETIONS)


def test_layers_carry_block_and_role() -> None:
    scores = tiny.fitted().score(tiny.queries(), by="layer", progress=False)
    assert scores["layer"].values.tolist() == [f"transformer.h.{b}.mlp.{m}" for b in (0, 1) for m in ("c_fc", "c_proj")]
    assert scores["block"].values.tolist() == [0, 0, 1, 1]
    assert scores["role"].values.tolist() == ["mlp.c_fc", "mlp.c_proj"] * 2
    by_block = scores["influence"].groupby("block").sum()
    tiny.agree(by_block.sum("block").transpose("query", "train"), tiny.scored()["influence"], 1e-5)


def test_the_kind_of_a_text_is_not_lost_to_the_kind_of_a_layer() -> None:
    fitted = tiny.fit(tiny.language_problem(train=tiny.corpus(kind=list("uvwxyz"))))
    scores = fitted.score(tiny.queries(), by="layer", progress=False)
    assert scores["kind"].values.tolist() == ["Conv1D"] * 4
    assert scores["train_kind"].values.tolist() == list("uvwxyz")
    assert top(scores, 2)["train_kind"].dims == ("query", "rank")
    chosen = top(fitted.score(tiny.queries(), progress=False), 2)
    assert chosen["kind"].dims == ("query", "rank")
    tokens = fitted.attribute(tiny.queries(), chosen, progress=False)
    assert np.array_equal(tokens["train_kind"], chosen["kind"])


def test_token_influence_carries_the_text_and_the_pair() -> None:
    problem = tiny.language_problem(train=tiny.corpus(source=list("uvwxyz")))
    fitted = tiny.fit(problem)
    chosen = top(fitted.score(tiny.queries(), progress=False), 2)
    tokens = fitted.attribute(tiny.queries(), chosen, progress=False)
    assert tokens["influence"].dims == ("query", "rank", "layer", "token")
    assert np.array_equal(tokens["train"], chosen["train"])
    assert np.array_equal(tokens["source"], chosen["source"])
    for q in range(2):
        for r in range(2):
            shown = tokens["token_text"].values[q, r][tokens["is_text"].values[q, r]]
            assert "".join(shown) == chosen["text"].values[q, r]
            assert (tokens["token_text"].values[q, r][~tokens["is_text"].values[q, r]] == "").all()
            assert (tokens["influence"].values[q, r][:, ~tokens["is_text"].values[q, r]] == 0).all()


def test_the_query_side_of_token_pairs_is_labelled_too() -> None:
    tokens = tiny.fitted().attribute(tiny.queries(), top(tiny.scored(), 1), pairs=True, progress=False)
    assert tokens["influence"].dims == ("query", "rank", "layer", "token", "query_token")
    for q in range(2):
        shown = tokens["query_token_text"].values[q][tokens["is_query_text"].values[q]]
        assert "".join(shown) == tiny.PROMPTS[q] + tiny.COMPLETIONS[q]


def test_settings_are_told() -> None:
    fitted = tiny.fit(tiny.language_problem(), EKFAC(layers=["*.c_fc"], damping=0.3, fisher="empirical"), seed=7)
    assert json.loads(fitted.attrs["settings"]) == {
        "layers": ["*.c_fc"], "damping": 0.3, "damping_kind": "relative", "fisher": "empirical",
        "max_examples": None, "dtype": None, "blocks": 1,
    }  # fmt: skip
    assert fitted.attrs["seed"] == 7
    by_predicate = tiny.fit(tiny.table_problem(), Identity(layers=lambda name, module: name == "2"))
    assert json.loads(by_predicate.attrs["settings"])["layers"] == ["2"]
    assert repr(fitted).startswith("Influence(EKFAC, 2 layers, damping=0.3 relative, n_train=6, model ")


# --- agreement --------------------------------------------------------------------------------------------------


def test_sums_over_layers_and_tokens_are_the_scores() -> None:
    scores, queries, fitted = tiny.scored(), tiny.queries(), tiny.fitted()
    chosen = top(scores, 3, sign="absolute")
    expected = chosen["influence"]
    tiny.agree(fitted.score(queries, by="layer", progress=False)["influence"].sum("layer"), scores["influence"], 1e-5)
    for settings, dims in (
        ({}, ["layer", "token"]),
        ({"pairs": True}, ["layer", "token", "query_token"]),
        ({"view": "output"}, ["token"]),
    ):
        found = fitted.attribute(queries, chosen, progress=False, **settings)["influence"]
        tiny.agree(found.sum(dims), expected, 1e-4)


def test_self_influence_is_the_diagonal() -> None:
    train = tiny.corpus()
    scores = tiny.fitted().score(train.rename(train="query"), progress=False)["influence"]
    found = tiny.fitted().self_influence(progress=False)["influence"]
    tiny.agree(found, np.diag(scores), 1e-5)
    assert (found > 0).all()
    tiny.agree(tiny.fitted().self_influence(by="layer", progress=False)["influence"].sum("layer"), found, 1e-5)


def test_an_explanation_holds_what_its_parts_give() -> None:
    fitted, queries = tiny.fitted(), tiny.queries()
    tree = fitted.explain(queries, 2, progress=False)
    assert list(tree.children) == ["scores", "top", "bottom", "top_tokens", "bottom_tokens"]
    assert tree["scores"].to_dataset().equals(tiny.scored())
    assert tree["top"].to_dataset().equals(top(tiny.scored(), 2))
    assert tree["bottom"].to_dataset().equals(top(tiny.scored(), 2, sign="negative"))
    for name in ("top", "bottom"):
        expected = fitted.attribute(queries, tree[name].to_dataset(), progress=False)
        found = tree[f"{name}_tokens"].to_dataset()
        # Both lists are attributed in one pass, whose batches are others: nothing but the last digits may differ.
        xr.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(abs(expected["influence"]).max()))
        assert found.drop_vars("influence").identical(expected.drop_vars("influence").assign_attrs(found.attrs))
        assert found["influence"].attrs == expected["influence"].attrs


def test_an_explanation_by_layer_keeps_the_layers_of_its_scores_alone() -> None:
    fitted, queries = tiny.fitted(), tiny.queries()
    tree, summed = (fitted.explain(queries, 2, by=by, progress=False) for by in ("layer", ()))
    inflab.validate(tree)
    by_layer = fitted.score(queries, by="layer", progress=False)
    assert tree["scores"].to_dataset().drop_attrs().equals(by_layer.drop_attrs())
    for name in ("top", "bottom"):
        assert tree[name].to_dataset()["train"].equals(summed[name].to_dataset()["train"])
        found, expected = (one[f"{name}_tokens"]["influence"].fillna(0) for one in (tree, summed))
        tiny.agree(found, expected, 1e-5)


def test_an_explanation_passes_over_the_queries_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for scores, once for the tokens of both lists: a joint solver solves as often."""
    passes: list[str] = []
    run = Capture.run

    def counted(self: Capture, arrays: Any, quantity: Any, *rest: Any, **more: Any) -> Any:
        passes.extend([quantity] * len(more["ids"]))
        return run(self, arrays, quantity, *rest, **more)

    fitted = tiny.fitted()
    monkeypatch.setattr(Capture, "run", counted)
    fitted.explain(tiny.queries(), 2, progress=False)
    assert passes.count("measurement") == 2 * 2


@pytest.mark.parametrize("method", [Cosine(), TracIn()], ids=["Cosine", "TracIn"])
def test_methods_that_predict_no_nats_are_explained_in_their_own_units(method: Any, tmp_path: Path) -> None:
    problem = tiny.language_problem()
    if isinstance(method, TracIn):
        state = {name: 0.9 * value for name, value in problem.model.state_dict().items()}
        problem = inflab.Problem(
            problem.model, problem.task, problem.corpus, checkpoints=[inflab.Checkpoint(state, 0.1, 3)]
        )
    fitted = tiny.fit(problem, method)
    tree = fitted.explain(tiny.queries(), 2, by="layer", progress=False)
    inflab.save(tree, tmp_path / "explanation")
    assert isinstance(inflab.load(tmp_path / "explanation"), xr.DataTree)
    units = fitted.attrs["units"]
    for name in ("top", "bottom"):
        assert {tree[child]["influence"].attrs["units"] for child in ("scores", name, f"{name}_tokens")} == {units}
        assert "effect" not in tree[name]
        tokens, ranked = tree[f"{name}_tokens"]["influence"], tree[name]["influence"]
        total = tokens.sum(["layer", "token"], skipna=False)
        tiny.agree(total.fillna(0), ranked.fillna(0), 1e-4)


@pytest.mark.parametrize("view", ["output", "input"])
def test_views_leave_the_model_as_it_was_and_are_what_each_pair_alone_gives(view: Any) -> None:
    problem = tiny.language_problem(tiny.llama())
    fitted, queries = tiny.fit(problem), tiny.queries()
    chosen = top(fitted.score(queries, progress=False), 4, sign="absolute")
    with tiny.untouched(problem.model), torch.inference_mode():
        found = fitted.attribute(queries, chosen, view=view, progress=False)
    assert found["influence"].dtype == np.float32
    for query in range(2):
        for rank in range(4):
            pair = chosen.isel(query=[query], rank=[rank])
            alone = fitted.attribute(queries, pair, view=view, batch_size=1, progress=False)["influence"]
            same = found["influence"].isel(query=[query], rank=[rank]).sel(token=alone["token"])
            tiny.agree(same, alone, 1e-4)


def test_one_sequence_may_stand_at_two_ranks() -> None:
    chosen = top(tiny.scored(), 2)
    twice = chosen.assign_coords(train=chosen["train"].isel(rank=[0, 0]).assign_coords(rank=[1, 2]))
    for view in ("update", "output", "input"):
        found = tiny.fitted().attribute(tiny.queries(), twice, view=view, progress=False)["influence"]
        assert np.array_equal(found.isel(rank=0), found.isel(rank=1), equal_nan=True)
        assert found.notnull().all()


@pytest.mark.parametrize("view", ["output", "input"])
def test_views_of_a_model_of_narrow_weights_are_near_those_of_a_wide_one(view: Any) -> None:
    model = tiny.gpt2()
    wide, narrow = (tiny.fit(tiny.language_problem(m)) for m in (model, copy.deepcopy(model).bfloat16()))
    chosen = top(tiny.scored(), 2)
    found, expected = (
        one.attribute(tiny.queries(), chosen, view=view, progress=False)["influence"] for one in (narrow, wide)
    )
    assert np.corrcoef(found.to_numpy().ravel(), expected.to_numpy().ravel())[0, 1] > 0.95


def test_ranks_that_do_not_exist_have_no_tokens() -> None:
    chosen = top(tiny.scored(), 6, sign="negative")
    assert not chosen["is_ranked"].all()
    found = tiny.fitted().attribute(tiny.queries(), chosen, progress=False)["influence"]
    assert (found.isnull().all(["layer", "token"]) == ~chosen["is_ranked"]).all()
    assert (found.notnull().all(["layer", "token"]) == chosen["is_ranked"]).all()


# --- invariance -------------------------------------------------------------------------------------------------

BUDGETS = [{"memory": m} for m in ("1B", "1 KB", "100kb", "0.001 GiB", ".5MB", 10**9, 2e6)] + [{"batch_size": 1}]


@pytest.mark.parametrize("settings", BUDGETS, ids=str)
def test_memory_and_batch_size_change_nothing(settings: Any) -> None:
    tiny.agree(asks(**settings), tiny.scored()["influence"], 1e-5)
    tiny.agree(tiny.scores(tiny.language_problem(), tiny.queries(), **settings), tiny.scored()["influence"], 1e-5)
    chosen = top(tiny.scored(), 2)
    expected = tiny.fitted().attribute(tiny.queries(), chosen, progress=False)["influence"]
    tiny.agree(tiny.fitted().attribute(tiny.queries(), chosen, progress=False, **settings)["influence"], expected, 1e-5)


@pytest.mark.parametrize(("memory", "blocks"), [("1GB", 1), ("1B", 2)])
def test_one_pass_serves_all_queries_that_fit_the_budget(
    memory: str, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    run = Capture.run

    def count(self: Capture, arrays: Any, quantity: Any, *rest: Any, **more: Any) -> Any:
        seen.extend([quantity] * len(more["ids"]))
        return run(self, arrays, quantity, *rest, **more)

    monkeypatch.setattr(Capture, "run", count)
    asks(memory=memory)
    assert (seen.count("measurement"), seen.count("loss")) == (2, 6 * blocks)


@pytest.mark.parametrize("side", ["left", "right"])
def test_order_and_padding_change_nothing(side: Any) -> None:
    back = slice(None, None, -1)
    problem = tiny.language_problem(train=tiny.corpus(padding_side=side).isel(train=back))
    found = tiny.fit(problem).score(tiny.queries(padding_side=side).isel(query=back), progress=False)
    tiny.agree(found["influence"][back, back], tiny.scored()["influence"], 1e-5)


def test_one_query_at_a_time_gives_the_same() -> None:
    for q in range(2):
        found = tiny.fitted().score(tiny.queries().isel(query=[q]), progress=False)["influence"]
        tiny.agree(found, tiny.scored()["influence"].isel(query=[q]), 1e-5)


def test_a_seed_gives_the_same_arrays_and_another_seed_others() -> None:
    problem = tiny.language_problem()
    first, again, other = (tiny.fit(problem, seed=seed).factors for seed in (5, 5, 6))
    assert first.identical(again)
    assert not first.equals(other)


def test_tied_scores_of_copies_are_listed_by_position() -> None:
    problem = tiny.language_problem(train=tiny.corpus(tiny.TEXTS + tiny.TEXTS[:2]))
    scores = tiny.fit(problem, EKFAC(fisher="empirical")).score(tiny.queries(), progress=False)
    tiny.agree(scores["influence"][:, 6:], scores["influence"][:, :2], 1e-6)


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [EKFAC, KFAC, Diagonal])
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_with_damping_is_a_fit_with_that_damping(method: Any, kind: Any) -> None:
    problem = tiny.language_problem()
    expected = tiny.fit(problem, method(damping=0.7, damping_kind=kind))
    found = tiny.fit(problem, method()).with_damping(0.7, kind)
    assert found.factors.identical(expected.factors)
    assert {k: v for k, v in found.attrs.items() if k != "created_at"} == {
        k: v for k, v in expected.attrs.items() if k != "created_at"
    }
    scores = [one.score(tiny.queries(), progress=False) for one in (found, expected)]
    assert scores[0].equals(scores[1])


def test_with_damping_leaves_the_fit_it_came_from() -> None:
    fitted = tiny.fit(tiny.table_problem())
    before = fitted.factors.copy(deep=True)
    fitted.with_damping(3)
    assert fitted.factors.identical(before)
    assert json.loads(fitted.attrs["settings"])["damping"] == 0.1


def test_damping_is_relative_to_the_mean_eigenvalue_unless_absolute() -> None:
    for name, node in tiny.fitted().factors.children.items():
        assert node.attrs["damping"] == pytest.approx(0.1 * node["eigenvalues"].mean().item(), rel=1e-5), name
    for node in tiny.fitted().with_damping(0.3, "absolute").factors.children.values():
        assert node.attrs["damping"] == 0.3


def test_much_damping_makes_it_a_dot_product() -> None:
    dot = tiny.scores(tiny.language_problem(), tiny.queries(), Identity())
    found = tiny.fitted().with_damping(1e8, "absolute").score(tiny.queries(), progress=False)["influence"]
    tiny.agree(1e8 * found, dot, 1e-3)


def test_max_examples_fits_on_a_part_drawn_by_the_seed() -> None:
    problem, queries = tiny.table_problem(train=tiny.table(40)), tiny.table(2, "query")
    asked = ((7, 0), (7, 0), (7, 1), (40, 0), (99, 0))
    fits = [tiny.fit(problem, EKFAC(max_examples=k), seed=seed) for k, seed in asked]
    counts = [fit.factors["0"].attrs["examples"] for fit in fits]
    assert counts == [7, 7, 7, 40, 40]
    assert fits[0].factors.identical(fits[1].factors)
    assert not fits[0].factors.equals(fits[2].factors)
    assert fits[3].factors.identical(tiny.fit(problem).factors)
    assert fits[4].factors.identical(fits[3].factors)
    scores = fits[0].score(queries, progress=False)
    assert scores.sizes["train"] == 40, "all are scored"
    assert fits[0].attrs["n_train"] == 40


def test_a_chosen_part_is_the_whole_of_a_smaller_corpus() -> None:
    corpus = tiny.table(40)
    places = np.sort(np.random.default_rng(3).choice(40, 7, replace=False))
    found = tiny.fit(tiny.table_problem(train=corpus), EKFAC(max_examples=7), seed=3)
    expected = tiny.fit(tiny.table_problem(train=corpus.isel(train=places)), seed=3)
    assert found.factors.identical(expected.factors)


def test_full_rank_is_exact_and_low_rank_is_less() -> None:
    tiny.agree(asks(rank=1000), tiny.scored()["influence"], 1e-6)
    one, four = (np.abs(asks(rank=r) - asks()).max() for r in (1, 4))
    assert one > four > 0


def test_other_sequences_can_be_scored() -> None:
    some = tiny.corpus().isel(train=[4, 1])
    found = tiny.fitted().score(tiny.queries(), train=some, progress=False)
    assert found["train"].values.tolist() == [4, 1]
    tiny.agree(found["influence"], tiny.scored()["influence"].sel(train=[4, 1]), 1e-5)
    assert found.attrs["n_train"] == 6, "an added copy counts against the corpus of the fit"
    chosen = top(found, 1)
    tokens = tiny.fitted().attribute(tiny.queries(), chosen, train=some, progress=False)["influence"]
    tiny.agree(tokens.sum(["layer", "token"]), chosen["influence"], 1e-4)
    tiny.agree(tiny.fitted().self_influence(train=some, progress=False)["influence"], _self()[[4, 1]], 1e-5)


def _self() -> np.ndarray:
    found: np.ndarray = tiny.fitted().self_influence(progress=False)["influence"].to_numpy()
    return found


def test_queries_may_come_in_another_order_than_in_the_list() -> None:
    chosen = top(tiny.scored(), 2)
    expected = tiny.fitted().attribute(tiny.queries(), chosen, progress=False)
    found = tiny.fitted().attribute(tiny.queries(), chosen.isel(query=[1, 0]), progress=False)
    tiny.agree(found["influence"], expected["influence"].isel(query=[1, 0]), 1e-5)
    one = tiny.fitted().attribute(tiny.queries(), chosen.isel(query=[1]), progress=False)
    tiny.agree(one["influence"].sum("token"), expected["influence"].isel(query=[1]).sum("token"), 1e-5)


def test_progress_is_shown_when_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    fitted = EKFAC().fit(tiny.table_problem())
    fitted.score(tiny.table(2, "query"))
    shown = capsys.readouterr().err
    for what in ("covariances", "eigenbases", "eigenvalues", "queries", "scores"):
        assert what in shown
    tiny.fit(tiny.table_problem()).score(tiny.table(2, "query"), progress=False)
    assert capsys.readouterr() == ("", "")


# --- bad input --------------------------------------------------------------------------------------------------


def _scores(**settings: Any) -> xr.Dataset:
    return tiny.fitted().score(tiny.queries(), **{"progress": False, **settings})


SETTINGS: dict[str, tuple[Any, str]] = {
    "rank 0": (lambda: _scores(rank=0), "rank=0 must be"),
    "half a rank": (lambda: _scores(rank=2.5), "rank=2.5 must be"),
    "by token": (lambda: _scores(by="token"), "by=['token'] is not known; use by='layer' or by=()"),
    "by two": (lambda: _scores(by=["layer", "train"]), "use by='layer' or by=()"),
    "memory in words": (lambda: _scores(memory="lots"), "memory='lots' is not a size; write '3GB'"),
    "memory with two points": (lambda: _scores(memory="1.2.3GB"), "memory='1.2.3GB' is not a size"),
    "memory of three bytes": (lambda: _scores(memory="3"), "memory='3' is not a size; write '3GB'"),
    "memory of a point": (lambda: _scores(memory="."), "memory='.' is not a size"),
    "no memory": (lambda: _scores(memory="0GB"), "memory=0 must be positive"),
    "less than no memory": (lambda: _scores(memory=-1), "memory=-1 must be positive"),
    "infinite memory": (lambda: _scores(memory=float("inf")), "memory=inf must be"),
    "memory that is no number": (lambda: _scores(memory=float("nan")), "memory=nan must be"),
    "memory in a list": (lambda: _scores(memory=[1]), "memory=[1] must be"),
    "no batch": (lambda: _scores(batch_size=0), "batch_size=0 must be a whole number, at least 1"),
    "half a batch": (lambda: _scores(batch_size=2.5), "batch_size=2.5 must be a whole number"),
    "another view": (
        lambda: tiny.fitted().attribute(tiny.queries(), top(tiny.scored(), 1), view="embedding"),
        "view='embedding' is not one of 'update', 'output', 'input'",
    ),
    "pairs of outputs": (
        lambda: tiny.fitted().attribute(tiny.queries(), top(tiny.scored(), 1), view="output", pairs=True),
        "pairs=True needs view='update'",
    ),
    "pairs of inputs": (
        lambda: tiny.fitted().attribute(tiny.queries(), top(tiny.scored(), 1), view="input", pairs=True),
        "pairs=True needs view='update', got view='input'",
    ),
    "an explanation by token": (
        lambda: tiny.fitted().explain(tiny.queries(), 2, by="token"), "by=['token'] is not known"
    ),
    "longer lists than there are sequences": (lambda: tiny.fitted().explain(tiny.queries(), 7), "k=7 must lie between"),
    "lists of nothing": (lambda: tiny.fitted().explain(tiny.queries(), 0), "k=0 must be"),
    "negative damping": (lambda: tiny.fitted().with_damping(-0.1), "damping=-0.1 must be a finite number, zero"),
    "infinite damping": (lambda: tiny.fitted().with_damping(np.inf), "damping=inf must be a finite number"),
    "another damping kind": (lambda: tiny.fitted().with_damping(1, "mean"), "damping_kind='mean' is not one of"),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "says"), SETTINGS.values(), ids=SETTINGS)
def test_settings_outside_their_domain_are_refused_before_any_pass(
    ask: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.scored()
    monkeypatch.setattr("inflab.capture.Capture.run", _no_pass)
    with pytest.raises(SettingError, match=re.escape(says)):
        ask()


def _no_pass(*args: Any, **more: Any) -> None:
    pytest.fail("a pass ran before the error")


CORPORA: dict[str, tuple[Any, str]] = {
    "texts": (lambda: tiny.fitted().score(["a river"]), "query corpus is a list; make an xr.Dataset"),
    "a training corpus": (lambda: tiny.fitted().score(tiny.corpus()), "runs over 'train'; make it with dim='query'"),
    "queries to train on": (lambda: _scores(train=tiny.queries()), "runs over 'query'; make it with dim='train'"),
    "no query": (lambda: tiny.fitted().score(tiny.queries().isel(query=[])), "query has length 0"),
    "queries twice": (
        lambda: tiny.fitted().score(tiny.queries().isel(query=[0, 0])), "duplicate ids in query: 0; ids must be unique"
    ),
    "scores as a list": (
        lambda: tiny.fitted().attribute(tiny.queries(), tiny.scored()), "top needs `train (query, rank)`"
    ),
    "a list of other sequences": (
        lambda: tiny.fitted().attribute(
            tiny.queries(), top(tiny.scored(), 1).assign_coords(train=(("query", "rank"), [[9], [9]]))
        ),
        "top names train 9, which is not in the corpus",
    ),
    "a list with ids of another type": (
        lambda: tiny.fitted().attribute(
            tiny.queries(), top(tiny.scored(), 1).assign_coords(train=(("query", "rank"), [["a"], ["b"]]))
        ),
        "top names train 'a', which is not in the corpus",
    ),
    "a list of other queries": (
        lambda: tiny.fitted().attribute(tiny.queries(ids=["x", "y"]), top(tiny.scored(), 1)),
        "top names query 0, which is not in the corpus",
    ),
    "tokens of a table": (
        lambda: tiny.fit(tiny.table_problem()).explain(tiny.table(2, "query"), 2), "attribute needs a text corpus"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CORPORA)
def test_corpora_that_do_not_fit_are_refused_before_any_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, says = CORPORA[name]
    tiny.scored()
    monkeypatch.setattr("inflab.influence.Influence._prepare", _no_pass)
    with pytest.raises(CorpusError, match=re.escape(says)):
        ask()


def test_a_model_that_lost_a_fitted_layer_is_refused() -> None:
    problem = tiny.table_problem()
    fitted = tiny.fit(problem)
    problem.model = nn.Sequential(nn.Linear(3, 4)).eval()
    with pytest.raises(LayerError, match="the model has no layer '2', which was fitted; use the model of the fit"):
        fitted.score(tiny.table(2, "query"))


def test_effect_and_influence_differ_by_the_number_of_training_examples() -> None:
    assert tiny.scored().attrs["n_train"] == 6
    tiny.agree(effect(tiny.scored())["effect"] * 6, tiny.scored()["influence"], 1e-6)


def test_no_damping_on_a_singular_layer_is_refused() -> None:
    for ask in (lambda: tiny.fit(tiny.language_problem(), EKFAC(damping=0)), lambda: tiny.fitted().with_damping(0)):
        with pytest.raises(
            NumericsError, match=r"layer 'transformer.h.0.mlp.c_fc' is singular.*use a positive damping"
        ):
            ask()
