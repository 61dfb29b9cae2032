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
from inflab.run.replay import Replays, keeper
from inflab.sections import sections
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


@pytest.mark.parametrize("cover", ["auto", "*"])
@pytest.mark.parametrize("model", [tiny.gpt2, tiny.llama, tiny.neox], ids=["gpt2", "llama", "neox"])
def test_modules_run_again_give_the_tokens_of_the_pass(model: Any, cover: str, examples: list[int]) -> None:
    problem = tiny.language_problem(model())
    run = Pass(problem, select_layers(problem.model, cover), batch_size=2, progress=False)
    positions = np.arange(6)
    expected = square_sums(run, "loss", positions, None)
    kept = Replays(run, 10**9, sections(problem.model, run.layers))
    assert [section.name.rpartition(".")[2] for section in kept.sections] == ["mlp"] * 2
    examples.clear()
    with tiny.untouched(problem.model):
        covariance_sums(run, "loss", positions, kept)
        assert 0 < kept.size <= kept.budget
        assert len(kept.rest(positions)) == 0
        found = square_sums(run, "loss", positions, None, kept)
    assert sum(examples) == 6, "one pass, no second"
    assert not kept.batches and not any(module._forward_hooks for module in problem.model.modules())
    for name, value in expected.items():
        tiny.agree(found[name], value, 1e-5)


def test_what_modules_run_again_from_takes_a_fraction_of_their_tokens_and_holds_the_budget() -> None:
    problem = tiny.language_problem()
    run = Pass(problem, select_layers(problem.model), batch_size=2, progress=False)
    tokens, ends = Kept(run.layers, 10**9), Replays(run, 10**9, sections(problem.model, run.layers))
    for kept in (tokens, ends):
        covariance_sums(run, "loss", np.arange(6), kept)
    assert ends.size < 0.3 * tokens.size
    some = Replays(run, int(0.7 * ends.size), ends.sections)
    covariance_sums(run, "loss", np.arange(6), some)
    assert 0 < some.size <= some.budget
    assert len(some.rest(np.arange(6))) == 2
    found = square_sums(run, "loss", np.arange(6), None, some)
    for name, value in square_sums(run, "loss", np.arange(6), None).items():
        tiny.agree(found[name], value, 1e-5)


def test_a_module_that_depends_on_more_than_its_input_is_found_out_and_passed_over_again() -> None:
    problem = tiny.language_problem(tiny.llama())
    model: Any = problem.model
    mlp = model.model.layers[0].mlp
    run = Pass(problem, select_layers(model), batch_size=2, progress=False)

    class Varying(type(mlp)):  # type: ignore[misc]
        scale = 1.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = super().forward(x * type(self).scale)
            return found

    expected = square_sums(run, "loss", np.arange(6), None)
    mlp.__class__ = Varying
    kept = Replays(run, 10**9, sections(model, run.layers))
    covariance_sums(run, "loss", np.arange(6), kept)
    Varying.scale = 1.5  # what a module that looks elsewhere may find changed
    again = kept.feed

    def later(sink: Any, done: Any) -> None:
        try:
            again(sink, done)
        finally:
            Varying.scale = 1.0

    kept.feed = later  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match=r"'model.layers.0.mlp' gave other activations.*second pass"):
        found = square_sums(run, "loss", np.arange(6), None, kept)
    for name, value in expected.items():
        tiny.agree(found[name], value, 1e-5)


def test_modules_run_again_only_where_tokens_do_not_fit() -> None:
    problem = tiny.language_problem()
    run = Pass(problem, select_layers(problem.model), batch_size=2, progress=False)
    assert isinstance(keeper(run, np.arange(6), 10**9), Kept)
    assert isinstance(keeper(run, np.arange(6), 10**4), Replays)
    alone = Pass(problem, run.layers[:1], batch_size=2, progress=False)
    assert isinstance(keeper(alone, np.arange(6), 10), Kept), "one layer is no cheaper as a module"


class _Twice(torch.nn.Module):
    """A layer used two times in one module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.outer(torch.tanh(self.inner(torch.tanh(self.inner(value)))))
        return found


def test_a_layer_that_runs_twice_in_a_module_has_all_its_tokens() -> None:
    model: Any = tiny.llama()
    model.model.layers[1].mlp = tiny.seeded(_Twice())
    problem = tiny.language_problem(model)
    run = Pass(problem, select_layers(model), batch_size=2, progress=False)
    kept = Replays(run, 10**9, sections(model, run.layers))
    assert [len(section.layers) for section in kept.sections] == [3, 2]
    covariance_sums(run, "loss", np.arange(6), kept)
    assert len(kept.rest(np.arange(6))) == 0
    found = square_sums(run, "loss", np.arange(6), None, kept)
    for name, value in square_sums(run, "loss", np.arange(6), None).items():
        tiny.agree(found[name], value, 1e-5)


def test_a_module_that_runs_twice_is_not_replayed() -> None:
    problem = tiny.language_problem(tiny.llama())
    model: Any = problem.model
    model.model.layers[1].mlp = model.model.layers[0].mlp
    run = Pass(problem, select_layers(model), batch_size=2, progress=False)
    kept = Replays(run, 10**9, sections(model, run.layers))
    covariance_sums(run, "loss", np.arange(6), kept)
    assert len(kept.rest(np.arange(6))) == 6


def test_the_budget_holds_and_a_batch_is_kept_whole_or_not_at_all() -> None:
    problem = tiny.language_problem()
    run = Pass(problem, select_layers(problem.model), batch_size=2, progress=False)
    positions = np.arange(6)
    whole = Kept(run.layers, 10**9)
    covariance_sums(run, "loss", positions, whole)
    assert [len(held) for _, held in whole.batches] == [len(run.layers)] * 3
    some = Kept(run.layers, int(whole.size * 0.7))
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
    kept = Kept(run.layers, 10**9)
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
