"""Tokenizers of the bundled texts: byte-level BPE, trained on the data set itself.

Byte-level for every text, also for the invented facts: a reader types names of their own into a query, and a
word-level vocabulary would answer each with the same unknown token. A small vocabulary also splits names into
pieces that other names share, as in a real model. Training counts pairs and breaks ties by id, so the same texts
give the same tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from inflab.errors import SettingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["END_OF_TEXT", "train_bpe", "wrap"]

END_OF_TEXT = "<|endoftext|>"


def train_bpe(texts: Sequence[str], vocabulary: int) -> str:
    """Train a byte-level BPE tokenizer whose only special token, id 0, is the end of text.

    Args:
        texts: what to learn the merges from.
        vocabulary: the most tokens, special token and 256 bytes included; fewer when no pair is left to merge.

    Returns:
        The tokenizer as JSON text, in the format of the `tokenizers` library.

    Raises:
        SettingError: when `vocabulary` cannot hold the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocabulary < 257:
        raise SettingError(f"vocabulary={vocabulary} cannot hold the 256 bytes and the end of text; give at least 257")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


def wrap(trained: str) -> PreTrainedTokenizerFast:
    """A `transformers` tokenizer of JSON text; it ends, begins and pads with the end of text, and adds nothing."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(trained),
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
