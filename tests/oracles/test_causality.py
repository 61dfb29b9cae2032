"""Oracle 13: a later token changes the gradient at an earlier position, and not the activation there.

Hence "this position's update mixes the past, through a, and all later losses, through Ds".
"""

from __future__ import annotations

import pytest
import torch

from inflab import CausalLM, Problem

from .builders import text_corpus, tiny_lm
from .references import assert_close, captured, relative_error

ROW = [3, 1, 4, 1, 5, 9]
CHANGED = 4  # position of the token that changes
MLP = {
    "gpt2": ("transformer.h.{}.mlp.c_fc", "transformer.h.{}.mlp.c_proj"),
    "llama": ("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.down_proj"),
}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", MLP)
def test_a_later_token_changes_the_gradient_and_not_the_activation(family: str, attention: str) -> None:
    problem = Problem(tiny_lm(family, attention), CausalLM(), text_corpus([ROW]))
    other = text_corpus([[*ROW[:CHANGED], ROW[CHANGED] + 1, *ROW[CHANGED + 1 :]]])
    before, after = captured(problem), captured(problem, corpus=other)
    for name, (tokens,) in before.items():
        (changed,) = after[name]
        assert torch.equal(tokens.activation[0, :CHANGED], changed.activation[0, :CHANGED]), name

    for first, last in zip(*([name.format(block) for name in MLP[family]] for block in (0, 1)), strict=True):
        for position in range(CHANGED):
            gradients = before[first][0].gradient[0, position], after[first][0].gradient[0, position]
            assert relative_error(*gradients) > 1e-6, "attention carries every later loss back to block 0"
        # Above the last attention a position knows its own prediction alone: that of the token that changed.
        last_before, last_after = (found[last][0].gradient[0] for found in (before, after))
        assert relative_error(last_before[CHANGED - 1], last_after[CHANGED - 1]) > 1e-6
        assert_close(last_before[: CHANGED - 1], last_after[: CHANGED - 1])
        assert not torch.equal(before[last][0].activation[0, CHANGED], after[last][0].activation[0, CHANGED])
