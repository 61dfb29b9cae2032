"""Tokenizers of texts that are written by a grammar: a token is a word with the space before it.

A made-up text of a few hundred words needs no pieces, and a small model learns it in seconds. A word that the texts do
not hold is refused when it is met: an unknown token would answer every such word alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["words_of"]

_END = "<|endoftext|>"
#: A word with the space before it, else one mark of punctuation with the space before it, else white space.
_PIECE = r" ?[\p{L}\p{N}_]+| ?[^\s\p{L}\p{N}_]|\s"


def words_of(texts: Iterable[str], *, also: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the words of some texts, each with the space before it.

    Args:
        texts: all that will be encoded: the corpus, the queries (prompt and completion joined).
        also: further pieces, such as " Pfaff", that a reader may want to type.

    Returns:
        A fast `transformers` tokenizer; id 0 ends, begins and pads a text. It raises on a word it does not know.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
    pieces = {piece for text in texts for piece, _ in split.pre_tokenize_str(text)} | set(also)
    known = {piece: number for number, piece in enumerate([_END, *sorted(pieces - {_END})])}
    tokenizer = Tokenizer(models.WordLevel(known))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_END,
        bos_token=_END,
        pad_token=_END,
        clean_up_tokenization_spaces=False,
    )
