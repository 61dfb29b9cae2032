"""Every weight is covered or said why not; patterns find what they name, and near names when they do not."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from inflab import layers
from inflab.errors import LayerError
from inflab.layer import select_layers
from tests import tiny


def names(model: nn.Module, pattern: Any = "auto") -> list[str]:
    return [layer.name for layer in select_layers(model, pattern)]


def conv() -> nn.Module:
    return tiny.seeded(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)))


# --- auto -------------------------------------------------------------------------------------------------------

GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
AUTO = {
    "GPT-2": (tiny.gpt2, [f"transformer.h.{b}.mlp.{m}" for b in (0, 1) for m in ("c_fc", "c_proj")]),
    "Llama": (tiny.llama, [f"model.layers.{b}.{m}" for b in (0, 1) for m in GATED]),
    "GPT-NeoX": (tiny.neox, [f"gpt_neox.layers.{b}.mlp.dense_{m}" for b in (0, 1) for m in ("h_to_4h", "4h_to_h")]),
    "BERT": (tiny.bert, [f"bert.encoder.layer.{b}.{m}.dense" for b in (0, 1) for m in ("intermediate", "output")]),
    "MLP": (tiny.mlp, ["0", "2"]),
    "CNN": (conv, ["0", "3"]),
}


@pytest.mark.parametrize(("make", "expected"), AUTO.values(), ids=AUTO)
def test_auto_takes_the_mlp_of_a_transformer_and_all_of_another_network(make: Any, expected: list[str]) -> None:
    assert names(make()) == expected


def test_auto_is_the_two_matrices_of_opt_too() -> None:
    config = transformers.OPTConfig(
        vocab_size=50, hidden_size=8, ffn_dim=12, num_hidden_layers=1, num_attention_heads=2, word_embed_proj_dim=8
    )
    assert names(transformers.OPTForCausalLM(config)) == [f"model.decoder.layers.0.fc{i}" for i in (1, 2)]


@pytest.mark.parametrize("make", [tiny.gpt2, tiny.llama, tiny.neox, tiny.bert])
def test_auto_never_takes_the_output_head(make: Any) -> None:
    model = make()
    assert not any(layer.outputs == model.config.vocab_size for layer in select_layers(model, "auto"))


def test_auto_says_so_when_a_transformer_has_no_mlp() -> None:
    model = tiny.gpt2()
    model.transformer.h = nn.ModuleList()
    with pytest.raises(LayerError, match="'auto' found no MLP matrix in GPT2LMHeadModel; choose from transformer.wpe"):
        names(model)


# --- patterns ---------------------------------------------------------------------------------------------------

PATTERNS: dict[str, tuple[Any, list[str]]] = {
    "a glob": ("*.h.0.mlp.*", ["transformer.h.0.mlp.c_fc", "transformer.h.0.mlp.c_proj"]),
    "a name": ("transformer.wpe", ["transformer.wpe"]),
    "several": (["*.1.mlp.c_proj", "*.wpe"], ["transformer.wpe", "transformer.h.1.mlp.c_proj"]),  # in the model's order
    "one layer named twice": (["*.wpe", "transformer.wpe"], ["transformer.wpe"]),
    "a tuple": (("transformer.wpe",), ["transformer.wpe"]),
    "a predicate": (lambda name, module: isinstance(module, nn.Embedding), ["transformer.wpe"]),
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS.values(), ids=PATTERNS)
def test_a_pattern_finds_what_it_names(pattern: Any, expected: list[str]) -> None:
    assert names(tiny.gpt2(), pattern) == expected


NEAR = "near names: transformer.h.0.mlp.c_fc"
UNMATCHED: dict[str, tuple[Any, str]] = {
    "a misspelt name": ("transformer.h.0.mlp.c_fcc", f"layers='transformer.h.0.mlp.c_fcc' matches no .*{NEAR}"),
    "one of a list": (["*.mlp.*", "transformer.h.0.mpl.c_fc"], f"layers='.*h.0.mpl.c_fc' matches no .*{NEAR}"),
    "an empty list": ([], r"layers=\[\] matches no supported layer; there are: transformer"),
    "a predicate": (lambda name, module: False, "layers=<lambda> matches no supported layer; there are: transformer"),
    "a norm by name": ("transformer.ln_f", "'transformer.ln_f' cannot be covered: LayerNorm is not supported"),
    "None": (None, "layers=None is not 'auto', a glob, a list of names or globs, or a predicate"),
    "a number": (42, "layers=42 is not 'auto', a glob"),
    "a module": ([nn.Linear(1, 1)], "is not 'auto', a glob"),
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "says"), UNMATCHED.values(), ids=UNMATCHED)
def test_a_pattern_that_finds_nothing_names_what_is_near(pattern: Any, says: str) -> None:
    for ask in (select_layers, layers):
        with pytest.raises(LayerError, match=says):
            ask(tiny.gpt2(), pattern)


# --- the table --------------------------------------------------------------------------------------------------


def test_the_table_lists_every_module_with_parameters_and_why_it_is_left_out() -> None:
    model = tiny.llama()
    table = layers(model, "*.mlp.*")
    owners = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    assert table.index.tolist() == owners
    assert ((table["why_not"] == "") == table["covered"]).all()
    assert table.loc["model.layers.0.mlp.up_proj", "shape"] == "24 x 16"
    assert table.loc["model.layers.0.mlp.up_proj", "kind"] == "Linear"
    assert table.loc["model.norm", "why_not"].startswith("LlamaRMSNorm is not supported (Linear, Conv1D, ")
    assert table.loc["lm_head", "why_not"] == "not matched by layers='*.mlp.*'"
    assert layers(tiny.gpt2()).loc["transformer.h.0.mlp.c_fc", "shape"] == "64 x 17", "the bias is a column"


def test_the_share_is_that_of_the_models_parameters() -> None:
    model = tiny.gpt2()
    table = layers(model, "auto")
    covered = sum(p.numel() for name, p in model.named_parameters() if ".mlp." in name)
    total = sum(p.numel() for p in model.parameters())
    assert table.attrs == {"parameters": total, "covered": covered, "share": covered / total}
    assert table.loc[table["covered"], "parameters"].sum() == covered
    assert layers(tiny.mlp()).attrs["share"] == 1


def test_a_problem_is_as_good_as_its_model() -> None:
    assert layers(tiny.table_problem()).equals(layers(tiny.mlp()))


def test_a_predicate_is_shown_by_its_name() -> None:
    def only_first(name: str, module: nn.Module) -> bool:
        return name == "0"

    assert layers(tiny.mlp(), only_first).loc["2", "why_not"] == "not matched by layers=only_first"


# --- weights that are shared ------------------------------------------------------------------------------------


def test_a_head_tied_to_the_embedding_is_explained_on_both_sides() -> None:
    table = layers(tiny.gpt2())
    assert "shares its weight with 'transformer.wte', which uses it in another way" in table.loc["lm_head", "why_not"]
    assert "shares its weight with 'lm_head', which uses it in another way" in table.loc["transformer.wte", "why_not"]
    with pytest.raises(LayerError, match="'lm_head' cannot be covered: shares its weight with 'transformer.wte'"):
        names(tiny.gpt2(), ["*.mlp.*", "lm_head"])
    assert "lm_head" in names(tiny.gpt2(tie_word_embeddings=False), "*")


class Twice(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=bias), nn.Linear(3, 3, bias=bias)
        self.second.weight = self.first.weight

    def forward(self, value: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(value)))


def test_two_modules_with_one_weight_are_one_layer() -> None:
    (layer,) = select_layers(Twice(bias=False), "*")
    assert (layer.name, layer.modules, layer.parameters) == ("first", ("first", "second"), 9)
    table = layers(Twice(bias=False))
    assert table.loc["second", "why_not"] == "shares its weight with 'first', which covers both uses"
    assert table.attrs["share"] == 1


def test_one_weight_under_two_biases_is_not_covered() -> None:
    with pytest.raises(LayerError, match="cannot be covered: shares its weight"):
        names(Twice(bias=True), "first")


class Head(nn.Module):
    """A head of the user's own, which holds the embedding's weight."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.matrix = weight

    def forward(self, value: Tensor) -> Tensor:
        return value @ self.matrix.T


def test_a_weight_shared_with_a_module_that_is_not_supported_is_not_covered() -> None:
    embedding = nn.Embedding(5, 3)
    model = nn.Sequential(embedding, nn.Linear(3, 3), Head(embedding.weight))
    assert names(model) == ["1"], "half of the embedding's gradient would be missing"
    assert layers(model).loc["0", "why_not"] == "shares its weight with '2', which is not supported"


# --- modules that look alike ------------------------------------------------------------------------------------


class Masked(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear
        return nn.functional.linear(input, self.weight.tril(), self.bias)


class Renamed(nn.Linear):
    """The same computation."""


def test_a_linear_with_a_forward_of_its_own_is_not_covered() -> None:
    model = nn.Sequential(Masked(3, 3), Renamed(3, 3))
    assert names(model) == ["1"]
    assert "overrides the forward of Linear" in layers(model).loc["0", "why_not"]


def test_attention_of_torch_is_left_out_and_explained() -> None:
    model = nn.TransformerEncoderLayer(4, 2, 8)
    assert names(model) == ["linear1", "linear2"]
    assert "nn.MultiheadAttention reads its weight" in layers(model).loc["self_attn.out_proj", "why_not"]


def test_a_model_that_is_one_layer_says_how_to_wrap_it() -> None:
    for ask in (select_layers, layers):
        with pytest.raises(LayerError, match=re.escape("wrap it: torch.nn.Sequential(model)")):
            ask(nn.Linear(3, 2), "auto")


def test_a_model_without_a_supported_layer_says_so() -> None:
    with pytest.raises(LayerError, match="has no supported layer"):
        names(nn.Sequential(nn.LayerNorm(3)), "*")


# --- what a name tells ------------------------------------------------------------------------------------------

PARTS = {
    "transformer.h.11.mlp.c_fc": (11, "mlp.c_fc"),
    "model.layers.0.mlp.up_proj": (0, "mlp.up_proj"),
    "lm_head": (-1, "lm_head"),
    "0": (0, "0"),
    "blocks.3.experts.7.up": (3, "experts.7.up"),
}


@pytest.mark.parametrize(("name", "expected"), PARTS.items())
def test_block_and_role_are_read_from_the_name(name: str, expected: tuple[int, str]) -> None:
    from inflab.layer import Layer

    layer = Layer(name, (name,), "Linear", 1, 1, False, 1)
    assert (layer.block, layer.role) == expected
