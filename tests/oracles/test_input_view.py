"""Oracle 10, the input view: what a relative change of a token's embedding does to an influence (GB23 eqs. 37, 38).

Central differences of whole scores: the embedding of one training token is multiplied by `1 + eps`, and all that a
score rests on is computed again. And what follows from the order of the text: a token that nothing is predicted from
counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from inflab import CG, EKFAC, CausalLM, Checkpoint, Influence, Problem, TracIn, ensemble
from inflab.errors import ModelError, SettingError

from .builders import VOCABULARY, double, text_corpus, tiny_lm, token_rows
from .references import assert_close, relative_error
from .test_sums import RecurrentLM

# torch compiles its forward-mode rules on first use, and warns of its own compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")

LENGTHS = (3, 6, 4, 2, 5)
STEP = 1e-4


def problem(model: nn.Module, **settings: Any) -> Problem:
    return Problem(model, CausalLM(), text_corpus(token_rows(LENGTHS), prompts=(0, 2, 0, 1, 0)), **settings)


def fitted(family: str, method: Any = None, attention: str = "sdpa", **config: Any) -> Influence:
    return (method or EKFAC(layers="*")).fit(problem(tiny_lm(family, attention, **config)), progress=False)


def asked(side: str = "left") -> xr.Dataset:
    return text_corpus(token_rows((5, 3), seed=6), "query", side, prompts=(3, 1))


def others(side: str = "right") -> xr.Dataset:
    """Sequences that no fit has seen: a change of their embeddings changes their own gradients alone."""
    return text_corpus(token_rows((4, 6, 2), seed=8), side=side, prompts=(0, 3, 0), ids=["a", "b", "c"])


def slopes(influence: Influence, queries: xr.Dataset, train: xr.Dataset, **settings: Any) -> xr.Dataset:
    """The view of every pair, ranks in the order of `train`."""
    shape = (queries.sizes["query"], train.sizes["train"])
    pairs = xr.Dataset(
        coords={
            "query": queries["query"].to_numpy(),
            "rank": np.arange(1, shape[1] + 1),
            "train": (("query", "rank"), np.broadcast_to(train["train"].to_numpy(), shape)),
        }
    )
    return influence.attribute(queries, pairs, train=train, view="input", progress=False, **settings)


@contextmanager
def scaled(embedding: nn.Module, text: Tensor, factor_t: Tensor) -> Iterator[None]:
    """The embeddings of one text, wherever it runs, times a number for each token."""

    def scale(module: nn.Module, given: Any, out: Tensor) -> Tensor:
        return out * factor_t[:, None] if torch.equal(given[0], text) else out

    handle = embedding.register_forward_hook(scale)
    yield
    handle.remove()


def differences(influence: Influence, queries: xr.Dataset, train: xr.Dataset) -> np.ndarray:
    """`(score(1 + h) - score(1 - h)) / 2 h` for each pair and token, `(query, train, token)`."""
    model: Any = influence.problem.model
    train = train.isel(token=train["is_text"].any("train").to_numpy())
    is_text = train["is_text"].to_numpy()
    found = np.zeros((queries.sizes["query"], *is_text.shape))
    for row, column in zip(*np.nonzero(is_text), strict=True):
        columns = np.flatnonzero(is_text[row])
        text = torch.from_numpy(train["token_id"].to_numpy()[row, columns].astype(np.int64))[None]
        for sign in (1, -1):
            factor_t = 1 + sign * STEP * torch.from_numpy(columns == column).double()
            with scaled(model.get_input_embeddings(), text, factor_t):
                scores = influence.score(queries, train=train.isel(train=[row]), progress=False)
            found[:, row, column] += sign * scores["influence"].to_numpy()[:, 0] / (2 * STEP)
    return found


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_it_is_the_difference_of_scores(family: str, side: str) -> None:
    influence, queries, train = fitted(family), asked(), others(side)
    found = slopes(influence, queries, train)
    assert found["influence"].dims == ("query", "rank", "token")
    assert_close(found["influence"], differences(influence, queries, train), 1e-6)
    assert not found["influence"].where(~found["is_text"], 0.0).any()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_head_that_is_tied_to_the_embedding_is_left_as_it_is(family: str) -> None:
    influence, queries, train = fitted(family, tie_word_embeddings=True), asked(), others()
    assert_close(slopes(influence, queries, train)["influence"], differences(influence, queries, train), 1e-6)


def test_a_joint_solver_answers_too() -> None:
    influence, queries, train = fitted("gpt2", CG(damping=10)), asked(), others().isel(train=[2])
    assert_close(slopes(influence, queries, train)["influence"], differences(influence, queries, train), 1e-6)


def test_it_is_a_slope_and_says_so() -> None:
    influence, queries, train = fitted("gpt2"), asked(), others()
    found = slopes(influence, queries, train)
    scores = influence.score(queries, train=train, progress=False)["influence"]
    assert relative_error(found["influence"].sum("token"), scores) > 0.1
    assert found.attrs["view"] == "input"
    assert found["influence"].attrs["units"] == "nat per unit weight"
    assert "do not sum" in found["influence"].attrs["description"]
    assert "embedding" in found["influence"].attrs["sign"]


def test_only_what_a_target_comes_after_counts() -> None:
    """The last token is predicted and predicts nothing; after the last target nothing matters; a prompt does."""
    train = text_corpus([token_rows((6,), seed=3)[0]], ids=["a"])
    until = train.assign(is_target=train["is_target"] & (train["token"] == 3))
    influence = fitted("gpt2")
    for corpus, last in ((train, 5), (until, 3)):
        found = slopes(influence, asked(), corpus)["influence"].to_numpy()[:, 0]
        assert (found[:, :last] != 0).all()
        assert (found[:, last:] == 0).all()


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_batches_sides_and_memory_do_not_matter(family: str) -> None:
    for attention in ("sdpa", "eager"):
        influence = fitted(family, attention=attention)
        expected = slopes(influence, asked("right"), others("right"), batch_size=1)["influence"]
        for side in ("right", "left"):
            for settings in ({}, {"batch_size": 2}, {"memory": "1KB"}):
                found = slopes(influence, asked(side), others(side), **settings)
                for query, rank in np.ndindex(2, 3):
                    one = found.isel(query=query, rank=rank)
                    there = one["influence"].to_numpy()[one["is_text"].to_numpy()]
                    assert_close(there, expected[query, rank, : len(there)])


def test_it_is_linear_in_what_is_combined() -> None:
    """Checkpoints are summed with their rates, members are averaged: so are slopes."""
    queries, train = asked(), others()
    states = [dict(tiny_lm("gpt2").state_dict()), {n: 0.9 * w for n, w in tiny_lm("gpt2").state_dict().items()}]
    along = TracIn().fit(
        problem(
            tiny_lm("gpt2"), checkpoints=[Checkpoint(s, rate, 1) for s, rate in zip(states, (0.1, 0.3), strict=True)]
        ),
        progress=False,
    )
    assert_close(slopes(along, queries, train)["influence"], differences(along, queries, train), 1e-6)
    both = [fitted("gpt2"), fitted("gpt2", EKFAC(layers="*", damping=1))]
    mean = sum(slopes(one, queries, train)["influence"] for one in both) / 2
    assert_close(slopes(ensemble(both), queries, train)["influence"], mean)


class Detached(RecurrentLM):
    """A model that names embeddings which it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Embedding(VOCABULARY, 4)

    def get_input_embeddings(self) -> nn.Module:
        return self.spare


def test_models_without_embeddings_are_refused() -> None:
    recurrent = EKFAC(layers="*").fit(problem(double(RecurrentLM())), progress=False)
    with pytest.raises(SettingError, match="RecurrentLM says not where they are.*get_input_embeddings"):
        slopes(recurrent, asked(), others())
    spare = EKFAC(layers=["mix", "head"]).fit(problem(double(Detached())), progress=False)
    with pytest.raises(ModelError, match="of the Embedding that get_input_embeddings.* to reach the loss"):
        slopes(spare, asked("right"), others())
