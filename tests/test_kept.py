"""Tokens kept between the passes of a fit: fewer passes, the same factors, within the budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from inflab import EKFAC, Influence
from inflab.capture import Capture
from inflab.layer import select_layers
from inflab.run import fitting
from inflab.run.fit import covariance_sums, square_sums
from inflab.run.kept import Kept
from inflab.run.local import Pass
from tests import tiny


def factors(influence: Influence) -> np.ndarray:
    return np.concatenate([node["eigenvalues"].to_numpy().ravel() for node in influence.factors.children.values()])


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of examples of each batch that the model ran."""
    seen: list[int] = []
    run = Capture.run

    def count(self: Capture, arrays: Any, *args: Any, **more: Any) -> Any:
        seen.append(len(arrays["token_id"]))
        return run(self, arrays, *args, **more)

    monkeypatch.setattr(Capture, "run", count)
    return seen


@pytest.mark.parametrize("model", [tiny.gpt2, tiny.llama], ids=["gpt2", "llama"])
@pytest.mark.parametrize(("budget", "passes"), [(10**9, 6), (0, 12), (70_000, None)], ids=["all", "none", "some"])
def test_what_is_kept_is_not_passed_over_again(
    model: Any, budget: int, passes: int | None, examples: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = tiny.language_problem(model())
    monkeypatch.setattr(fitting, "kept_budget", lambda *_: 0)
    expected = factors(tiny.fit(problem, EKFAC(layers="*"), batch_size=2))
    examples.clear()
    monkeypatch.setattr(fitting, "kept_budget", lambda *_: budget)
    tiny.agree(factors(tiny.fit(problem, EKFAC(layers="*"), batch_size=2)), expected, 1e-5)
    assert sum(examples) == passes if passes is not None else 6 < sum(examples) < 12


def test_the_budget_holds_and_a_batch_is_kept_whole_or_not_at_all() -> None:
    problem = tiny.language_problem()
    run = Pass(problem, select_layers(problem.model), batch_size=2, progress=False)
    positions = np.arange(6)
    whole = Kept(10**9)
    covariance_sums(run, "loss", positions, whole)
    assert [len(held) for _, held in whole.batches] == [len(run.layers)] * 3
    some = Kept(int(whole.size * 0.7))
    covariance_sums(run, "loss", positions, some)
    assert 0 < len(some.batches) < 3
    assert all(len(held) == len(run.layers) for _, held in some.batches)
    assert some.size <= some.budget
    held = {id(t.gradient): t.gradient for _, batch in some.batches for t in batch.values()}
    held |= {id(t.activation): t.activation for _, batch in some.batches for t in batch.values()}
    assert sum(value.untyped_storage().nbytes() for value in held.values()) == some.size
    square_sums(run, "loss", positions, None, some)
    assert some.batches == []


@pytest.mark.filterwarnings("ignore:out of memory")
def test_a_batch_that_was_halved_half_way_is_not_kept_in_part() -> None:
    problem = tiny.language_problem()
    layers = select_layers(problem.model)
    run = Pass(problem, layers, progress=False)
    kept = Kept(10**9)
    offer = kept.offer

    def crowded(index: np.ndarray, layer: Any, tokens: Any) -> None:
        if layer.name == layers[0].name and len(index) > 2:
            raise torch.OutOfMemoryError("full")
        offer(index, layer, tokens)

    kept.offer = crowded  # type: ignore[method-assign]
    covariance_sums(run, "loss", np.arange(6), kept)
    found = square_sums(run, "loss", np.arange(6), None, kept)
    expected = square_sums(run, "loss", np.arange(6), None)
    for name, value in expected.items():
        tiny.agree(found[name], value, 1e-5)


def test_layers_that_share_an_input_share_a_covariance_and_its_eigenbasis() -> None:
    problem = tiny.language_problem(tiny.llama())
    fitted = tiny.fit(problem, EKFAC(layers="*"))
    shared = {str(name): node.attrs["shares_input_with"] for name, node in fitted.factors.children.items()}
    block = "model.layers.0."
    assert shared[f"{block}self_attn.k_proj"] == shared[f"{block}self_attn.v_proj"] == f"{block}self_attn.q_proj"
    assert shared[f"{block}mlp.up_proj"] == f"{block}mlp.gate_proj"
    assert shared[f"{block}mlp.down_proj"] == f"{block}mlp.down_proj"
    alone = tiny.fit(problem, EKFAC(layers=[f"{block}mlp.up_proj"]))
    found, expected = (fit.factors[f"{block}mlp.up_proj"]["activation_eigenvalues"] for fit in (fitted, alone))
    tiny.agree(found, expected, 1e-5)
