"""Readable pieces of tokens: no "Ġ", no "▁", no "##", bytes shown as bytes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

__all__ = ["readable_pieces"]


def readable_pieces(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """The text each token id stands for, as a person would read it.

    Args:
        tokenizer: a `transformers` tokenizer.
        ids: token ids.

    Returns:
        One string an id. Byte-level pieces that are no whole character read `<0xE2>`.
    """
    tokens = tokenizer.convert_ids_to_tokens([int(i) for i in ids])
    special = set(tokenizer.all_special_tokens)
    is_byte_level = _is_byte_level(tokenizer)
    return [t if t in special else _readable(str(t), is_byte_level) for t in tokens]


def _readable(token: str, is_byte_level: bool) -> str:
    if is_byte_level:
        table = _byte_of_character()
        if all(character in table for character in token):
            raw = bytes(table[character] for character in token)
            try:
                return raw.decode("utf-8")
            except UnicodeDecodeError:
                return "".join(chr(b) if b < 128 else f"<0x{b:02X}>" for b in raw)
        return token
    return token.removeprefix("##").replace("▁", " ")


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in repr(getattr(backend, "decoder", None)) + repr(
        getattr(backend, "pre_tokenizer", None)
    )


@cache
def _byte_of_character() -> dict[str, int]:
    """The printable alphabet that byte-level BPE (GPT-2) writes bytes in, inverted."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    table = {chr(b): b for b in printable}
    others = (b for b in range(256) if b not in set(printable))
    table.update({chr(256 + n): b for n, b in enumerate(others)})
    return table
