"""The tiny models: which architecture, trained on which data set, how.

Sizes and rates of the facts models were chosen so that training stops where facts are known (a mean loss of a few
hundredths of a nat for the whole answer) yet not driven to certainty: when the probability of every answer is one,
gradients vanish and no method of this family can tell who taught it. Weight decay holds that balance whatever the
seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A model that is trained on first use.

    Args:
        name: what `inflab.models.load` calls it.
        title: what it is, in words.
        dataset: name in `inflab.datasets`.
        family: "gpt2" has Conv1D layers with bias; "llama" has Linear layers without, and a gated MLP.
        config: arguments of the family's config, without the vocabulary.
        training: arguments of `train`.
    """

    name: str
    title: str
    dataset: str
    family: Literal["gpt2", "llama"]
    config: dict[str, Any]
    training: dict[str, Any]

    def build_config(self, vocabulary: int, end_of_text: int) -> Any:
        """The `transformers` config."""
        from transformers import GPT2Config, LlamaConfig

        family = {"gpt2": GPT2Config, "llama": LlamaConfig}[self.family]
        return family(vocab_size=vocabulary, bos_token_id=end_of_text, eos_token_id=end_of_text, **self.config)


_NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="facts-gpt",
            title="GPT-2 of 3 blocks, width 128, that knows the invented facts",
            dataset="facts",
            family="gpt2",
            config={"n_positions": 64, "n_embd": 128, "n_layer": 3, "n_head": 4, **_NO_DROPOUT},
            training={"epochs": 70, "batch_size": 16, "threads": 1, "learning_rate": 3e-3, "weight_decay": 0.8},
        ),
        Recipe(
            name="facts-llama",
            title="Llama of 3 blocks, width 128, that knows the invented facts",
            dataset="facts",
            family="llama",
            config={
                "max_position_embeddings": 64,
                "hidden_size": 128,
                "intermediate_size": 384,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "tie_word_embeddings": True,
            },
            training={"epochs": 70, "batch_size": 16, "threads": 1, "learning_rate": 3e-3, "weight_decay": 0.8},
        ),
        Recipe(
            name="genesis-gpt",
            title="GPT-2 of 4 blocks, width 64, that has read Genesis in English and Spanish",
            dataset="genesis",
            family="gpt2",
            config={"n_positions": 128, "n_embd": 64, "n_layer": 4, "n_head": 4, **_NO_DROPOUT},
            training={"epochs": 4, "batch_size": 16, "threads": 1, "learning_rate": 3e-3, "weight_decay": 0.1},
        ),
    )
}
