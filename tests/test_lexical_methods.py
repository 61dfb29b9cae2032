"""BM25 and embeddings behind the interface of influence: against bm25s and loops by hand; what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from inflab import BM25, Embedding, Problem, Regression, adapters, filter_candidates, load, save, top, validate
from inflab.errors import CorpusError, InflabError, ModelError, NumericsError, SettingError, StoreError
from tests import tiny


def asked(method: Any, problem: Problem | None = None, **settings: Any) -> xr.Dataset:
    found: xr.Dataset = tiny.fit(problem or tiny.language_problem(), method).score(
        tiny.queries(), progress=False, **settings
    )
    return found


def tokens(corpus: xr.Dataset) -> list[list[str]]:
    rows = zip(corpus["token_id"].to_numpy(), corpus["is_text"].to_numpy(), strict=True)
    return [[str(i) for i in row[mask]] for row, mask in rows]


@pytest.mark.peer
@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.2)])
def test_bm25_is_that_of_bm25s(k1: float, b: float) -> None:
    bm25s = pytest.importorskip("bm25s", reason="needs bm25s")
    peer = bm25s.BM25(method="lucene", k1=k1, b=b)
    peer.index(tokens(tiny.corpus()), show_progress=False)
    # Its "lucene" leaves out the factor k1 + 1.
    expected = np.stack([(k1 + 1) * peer.get_scores(row) for row in tokens(tiny.queries())])
    found = asked(BM25(k1=k1, b=b))["influence"]
    tiny.agree(found, expected, 1e-5)
    assert (found == 0).any(), "a corpus that shares a term everywhere would not test the zeros"


def test_words_are_compared_too() -> None:
    found = asked(BM25(on="words"))
    expected = filter_candidates(tiny.queries(), tiny.corpus(), 6, on="words", progress=False)
    assert found["influence"].argmax("train").to_numpy().tolist() == expected["train"][:, 0].to_numpy().tolist()
    assert np.array_equal(found["influence"].max("train"), expected["similarity"][:, 0])
    assert float(found["influence"].min()) == 0


def hand(problem: Problem, corpus: xr.Dataset) -> np.ndarray:
    """Mean of the last hidden state over each text alone, by transformers' own means."""
    rows = []
    for row in tokens(corpus):
        ids = torch.tensor([[int(token) for token in row]])
        with torch.no_grad():
            rows.append(problem.model(ids, output_hidden_states=True).hidden_states[-1][0].mean(0).double().numpy())
    return np.stack(rows)


def cosines(query: np.ndarray, train: np.ndarray) -> np.ndarray:
    return np.array([[q @ t / np.sqrt((q @ q) * (t @ t)) for t in train] for q in query])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", [tiny.gpt2, tiny.llama, tiny.neox])
def test_embeddings_are_mean_hidden_states(family: Any, side: Any) -> None:
    problem = tiny.language_problem(family(), tiny.corpus(padding_side=side))
    expected = cosines(hand(problem, tiny.queries()), hand(problem, problem.corpus))
    with tiny.untouched(problem.model):
        found = asked(Embedding(), problem)["influence"]
    tiny.agree(found, expected, 1e-5)
    tiny.agree(asked(Embedding(), problem, batch_size=1)["influence"], expected, 1e-5)
    assert np.abs(expected).min() < 0.9, "hidden states that are all alike would test nothing"


def test_tables_are_embedded_by_the_input_of_the_last_layer() -> None:
    problem, queries = tiny.table_problem(), tiny.table(3, "query", 1)
    found = tiny.fit(problem, Embedding()).score(queries, progress=False)["influence"]
    body = problem.model[:2]
    with torch.no_grad():
        q, t = (body(torch.tensor(c["input"].to_numpy())).double().numpy() for c in (queries, problem.corpus))
    tiny.agree(found, cosines(q, t), 1e-5)
    assert (found < 0).any()


def lengths(corpus: xr.Dataset) -> np.ndarray:
    return np.stack(
        [corpus["is_text"].sum("token"), np.arange(corpus.sizes["token"])[: len(corpus["is_text"])]], axis=1
    )


def test_an_encoder_of_ones_own(tmp_path: Path) -> None:
    problem = tiny.language_problem()
    influence = tiny.fit(problem, Embedding(encoder=lengths))
    found = influence.score(tiny.queries(), progress=False)["influence"]
    tiny.agree(found, cosines(lengths(tiny.queries()).astype(float), lengths(tiny.corpus()).astype(float)), 1e-5)
    influence.save(tmp_path / "fit")
    with pytest.raises(SettingError, match="functions are not saved"):
        load(tmp_path / "fit", problem)


@pytest.mark.parametrize("method", [BM25(on="words", k1=1.0), Embedding()])
def test_a_fit_is_kept_and_opened(method: Any, tmp_path: Path) -> None:
    influence = tiny.fit(tiny.language_problem(), method)
    scores = influence.score(tiny.queries(), progress=False)
    validate(scores)
    assert list(influence.factors.children) == []
    assert scores.attrs["method"] == type(method).__name__
    assert scores["influence"].attrs["units"] == "1" and "resembles" in scores["influence"].attrs["sign"]
    assert top(scores, 2)["train"].sizes == {"query": 2, "rank": 2}
    influence.save(tmp_path / "fit")
    opened: Any = load(tmp_path / "fit", tiny.language_problem())
    assert opened.method == method and type(method).__name__ in repr(opened)
    assert np.array_equal(opened.score(tiny.queries(), progress=False)["influence"], scores["influence"])
    first = tiny.fit(tiny.language_problem(), method, store=tmp_path / "store")
    again = tiny.fit(tiny.language_problem(), method, store=tmp_path / "store")
    assert again.attrs["created_at"] == load(tmp_path / "store").attrs["created_at"]
    assert np.array_equal(
        again.score(tiny.queries(), progress=False)["influence"],
        first.score(tiny.queries(), progress=False)["influence"],
    )
    with pytest.raises(StoreError, match="model_fingerprint"):
        tiny.fit(tiny.language_problem(tiny.gpt2(1)), method, store=tmp_path / "store")


def test_other_sequences_and_candidates() -> None:
    few = filter_candidates(tiny.queries(), tiny.corpus(), 2, progress=False)
    part = tiny.corpus().isel(train=[3, 0])
    for method in (BM25(), Embedding()):
        whole = asked(method)["influence"]
        chosen = asked(method, candidates=few)
        assert np.array_equal(chosen["influence"].isnull(), ~chosen["is_candidate"])
        if isinstance(method, Embedding):
            tiny.agree(asked(method, train=part)["influence"], whole.isel(train=[3, 0]), 1e-6)


class Headless(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, 4))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value @ self.weight


@pytest.mark.parametrize("method", [BM25(), Embedding()], ids=repr)
def test_an_explanation_has_lists_and_no_tokens(method: Any, tmp_path: Path) -> None:
    tree = fit(method).explain(tiny.queries(), 2, progress=False)
    save(tree, tmp_path / "explanation")
    back = load(tmp_path / "explanation")
    validate(back)
    assert list(back.children) == ["scores", "top", "bottom"]
    scores = asked(method)
    for sign, name in (("positive", "top"), ("negative", "bottom")):
        assert back[name].to_dataset().drop_attrs().equals(top(scores, 2, sign=sign).drop_attrs())
        assert back[name]["influence"].attrs["units"] == "1"
        assert "effect" not in back[name]


class Flat(torch.nn.Module):
    """Runs its head on all positions of all examples as one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, 1)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.head(value.reshape(-1, 3)).reshape(len(value), -1)


def flat() -> Problem:
    return Problem(Flat().eval(), Regression(), adapters.from_arrays(np.ones((4, 2, 3), np.float32), np.ones((4, 2))))


def fit(method: Any, problem: Problem | None = None) -> Any:
    return tiny.fit(problem or tiny.language_problem(), method)


def encoder(value: Any) -> Embedding:
    return Embedding(encoder=lambda corpus: value)


BAD: dict[str, tuple[Any, type[InflabError], str]] = {
    "BM25 of a table": (lambda: fit(BM25(), tiny.table_problem()), CorpusError, "compares texts"),
    "words of a table": (lambda: fit(BM25(on="words"), tiny.table_problem()), CorpusError, "coordinate 'text'"),
    "on": (lambda: BM25(on="lines"), SettingError, "on='lines'"),  # type: ignore[arg-type]
    "k1": (lambda: BM25(k1=-1), SettingError, "k1=-1"),
    "b": (lambda: BM25(b=2), SettingError, "b=2"),
    "a name": (lambda: Embedding(encoder="bert"), SettingError, "encoder='bert'"),  # type: ignore[arg-type]
    "no problem": (lambda: BM25().fit(tiny.gpt2()), SettingError, "expected an inflab.Problem"),
    "by layer": (lambda: asked(BM25(), by="layer"), SettingError, "by='layer'"),
    "rank": (lambda: asked(Embedding(), rank=2), SettingError, "rank=2"),
    "store": (lambda: asked(BM25(), store="x"), SettingError, "store='x'"),
    "self-influence": (lambda: fit(BM25()).self_influence(), SettingError, "no gradients"),
    "attribution": (lambda: fit(BM25()).attribute(tiny.queries(), top(tiny.scored(), 1)), SettingError, "no gradients"),
    "explanation by layer": (lambda: fit(BM25()).explain(tiny.queries(), 2, by="layer"), SettingError, "by='layer'"),
    "explanation of nothing": (lambda: fit(Embedding()).explain(tiny.queries(), 0), SettingError, "k=0"),
    "damping": (lambda: fit(BM25()).with_damping(1), SettingError, "no gradients"),
    "index": (lambda: fit(BM25()).index("x", size=0.1), SettingError, "no gradients"),
    "plan": (lambda: fit(BM25()).plan(tiny.queries()), SettingError, "no gradients"),
    "no Linear layer": (
        lambda: fit(Embedding(), tiny.table_problem(tiny.seeded(Headless()))),
        ModelError,
        "runs no Linear layer",
    ),
    "positions as examples": (lambda: fit(Embedding(), flat()), ModelError, "give encoder="),
    "too few rows": (lambda: fit(encoder(np.ones((2, 3)))), CorpusError, r"shape \(2, 3\)"),
    "words for numbers": (lambda: fit(encoder(np.full((6, 2), "a"))), CorpusError, "real numbers"),
    "NaN": (lambda: fit(encoder(np.full((6, 2), np.nan))), NumericsError, "not finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, error, message = BAD[name]
    with pytest.raises(error, match=message):
        make()


def test_columns_must_agree() -> None:
    influence = fit(Embedding(encoder=lambda c: np.ones((len(c["is_text"]), 2 + ("query" in c.dims)))))
    with pytest.raises(CorpusError, match="must agree"):
        influence.score(tiny.queries(), progress=False)
