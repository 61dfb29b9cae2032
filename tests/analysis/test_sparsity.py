"""One token is as sparse as can be, an even text not at all; padding counts for nothing; what is dropped is listed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import inflab
from inflab import analysis, top, validate
from inflab.errors import CorpusError, SchemaError, SettingError
from tests.analysis import made


@pytest.mark.parametrize("n", [2, 7, 64])
@pytest.mark.parametrize("scale", [1e-200, -3.0, 1e200])
def test_the_two_ends(n: int, scale: float) -> None:
    one, even = np.zeros(n), np.full(n, scale)
    one[n // 2] = scale
    found = analysis.sparsity(made.tokens([[one, even * (-1) ** np.arange(n)]]))
    validate(found)
    for name, ends in {"largest": [1, 1 / n], "effective": [1, n], "hoyer": [1, 0]}.items():
        np.testing.assert_allclose(found[name][0], ends, atol=1e-12)
    assert int(found["position"][0, 0]) == n // 2
    assert found["token_text"].to_numpy()[0, 0] == f" w{n // 2}"


def test_padding_is_ignored_on_either_side() -> None:
    value = [[[9.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, np.nan], [1.0, 2.0, 3.0, 0.0]]]
    is_text = [[[False, True, True, True], [True, True, True, False], [True, True, True, False]]]
    found = analysis.sparsity(made.tokens(value, is_text))
    for name, expected in {"largest": 0.5, "effective": 36 / 14}.items():
        np.testing.assert_allclose(found[name][0], expected)
    hoyer = (np.sqrt(3) - 6 / np.sqrt(14)) / (np.sqrt(3) - 1)
    np.testing.assert_allclose(found["hoyer"][0], hoyer)
    assert found["position"].to_numpy().tolist() == [[3, 2, 2]]


def test_layers_and_query_tokens_are_summed_first() -> None:
    whole = made.tokens([[[1.0, -2.0, 4.0]]])
    split = whole.assign(
        influence=whole["influence"].expand_dims(layer=["a", "b"], query_token=[0, 1])
        * xr.DataArray([[3.0, -2.5], [0.25, 0.25]], dims=("layer", "query_token"))
    )
    one, two = analysis.sparsity(whole), analysis.sparsity(split)
    xr.testing.assert_allclose(one[["largest", "effective", "hoyer"]], two[["largest", "effective", "hoyer"]])


def test_a_text_of_one_token_and_a_pair_without_influence() -> None:
    is_text = [[[True, False], [True, True], [False, False], [True, True]]]
    found = analysis.sparsity(made.tokens([[[2.0, 0.0], [0.0, 0.0], [5.0, 5.0], [np.nan, np.nan]]], is_text))
    for name in ("largest", "effective", "hoyer"):
        np.testing.assert_array_equal(found[name][0], [1, np.nan, np.nan, np.nan])
    assert found["position"].to_numpy().tolist() == [[0, -1, -1, -1]]
    assert found["token_text"].to_numpy().tolist() == [[" w0", "", "", ""]]


@given(
    value=hnp.arrays(np.float64, 6, elements=st.floats(0.01, 100)),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 1000),
)
def test_order_sign_and_scale_do_not_matter(value: np.ndarray, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(value) * rng.choice([-scale, scale], 6)
    found = analysis.sparsity(made.tokens([[value, mixed]]))
    for name in ("largest", "effective", "hoyer"):
        one, two = found[name].to_numpy()[0]
        assert one == pytest.approx(two, rel=1e-9, abs=1e-9)
    assert 1 / 6 - 1e-9 <= float(found["largest"][0, 0]) <= 1
    assert 1 <= float(found["effective"][0, 0]) <= 6 + 1e-9
    assert 0 <= float(found["hoyer"][0, 0]) <= 1


SCORES = made.scores(np.random.default_rng(0).random((2, 9)))
BEST = top(SCORES, 4)
EVEN, ONE = np.ones(5), np.array([0.01, 8.0, 0.01, 0.01, 0.01])
TOKENS = made.tokens([[EVEN, ONE, EVEN, EVEN], [EVEN, EVEN, ONE, ONE]], trains=BEST["train"].to_numpy())


def test_what_is_dropped_is_gone_from_the_list_and_listed() -> None:
    kept, dropped = analysis.drop_sparse(BEST, TOKENS, hoyer=0.9)
    validate(kept)
    validate(dropped)
    is_sparse = np.array([[False, True, False, False], [False, False, True, True]])
    np.testing.assert_array_equal(kept["is_ranked"], BEST["is_ranked"] & ~is_sparse)
    for name in ("influence", "effect", "share"):
        np.testing.assert_array_equal(kept[name], np.where(is_sparse, np.nan, BEST[name]))
        assert kept[name].attrs == BEST[name].attrs
    np.testing.assert_array_equal(kept["train"], BEST["train"])
    listed = list(
        zip(dropped["query"].to_numpy(), dropped["rank"].to_numpy(), dropped["train"].to_numpy(), strict=True)
    )
    assert listed == [
        (f"q{q}", r + 1, BEST["train"].to_numpy()[q, r]) for q, r in zip(*np.nonzero(is_sparse), strict=True)
    ]
    np.testing.assert_array_equal(dropped["influence"], BEST["influence"].to_numpy()[is_sparse])
    assert (dropped["hoyer"] >= 0.9).all()
    assert (dropped["token_text"] == " w1").all()
    assert BEST["is_ranked"].all()  # as it was


def test_either_threshold_and_nothing_to_drop() -> None:
    _, dropped = analysis.drop_sparse(BEST, TOKENS, largest=0.95)
    assert dropped.sizes["pair"] == 3
    kept, dropped = analysis.drop_sparse(BEST, TOKENS, hoyer=1)
    assert dropped.sizes["pair"] == 0
    validate(dropped)
    xr.testing.assert_equal(kept, BEST)


def test_order_does_not_matter_and_what_was_not_ranked_is_not_dropped_again() -> None:
    mixed = TOKENS.isel(query=[1, 0], rank=[3, 2, 1, 0])
    one, two = (analysis.drop_sparse(BEST, tokens, hoyer=0.9) for tokens in (TOKENS, mixed))
    xr.testing.assert_equal(one[0], two[0])
    again, dropped = analysis.drop_sparse(one[0], TOKENS, hoyer=0.9)
    xr.testing.assert_equal(again, one[0])
    assert dropped.sizes["pair"] == 0


def test_a_store_keeps_the_list_of_what_was_dropped(tmp_path: Any) -> None:
    _, dropped = analysis.drop_sparse(BEST, TOKENS, hoyer=0.9)
    inflab.save(dropped, tmp_path / "dropped")
    assert dropped.identical(inflab.load(tmp_path / "dropped"))


OTHER = TOKENS.assign_coords(train=(("query", "rank"), BEST["train"].to_numpy()[:, ::-1]))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: analysis.sparsity(BEST), SchemaError, "token"),
        (lambda: analysis.drop_sparse(BEST, TOKENS), SettingError, "hoyer=None and largest=None; give one"),
        (lambda: analysis.drop_sparse(BEST, TOKENS, hoyer=0.5, largest=0.5), SettingError, "give one of them"),
        (lambda: analysis.drop_sparse(BEST, TOKENS, hoyer=1.5), SettingError, "hoyer=1.5 must lie"),
        (lambda: analysis.drop_sparse(BEST, TOKENS, largest=0), SettingError, "largest=0 must lie"),
        (lambda: analysis.drop_sparse(BEST, TOKENS.isel(rank=[0]), hoyer=0.5), CorpusError, "no rank 2 of best"),
        (lambda: analysis.drop_sparse(BEST, TOKENS.isel(query=[0]), hoyer=0.5), CorpusError, "no query 'q1' of best"),
        (lambda: analysis.drop_sparse(BEST, OTHER, hoyer=0.5), CorpusError, "another list"),
        (lambda: analysis.drop_sparse(SCORES, TOKENS, hoyer=0.5), SchemaError, "is_ranked"),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
