"""Text becomes token ids with the right masks on either side, readable pieces, and a fingerprint of what is seen."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from inflab import encode, validate
from inflab.corpus import batch, fingerprint
from inflab.errors import CorpusError
from inflab.pieces import readable_pieces
from tests import tiny

TOKENIZERS = [tiny.byte_level, tiny.sentence_piece, tiny.word_piece]


def pieces(corpus: Any, row: int = 0) -> list[str]:
    """Readable tokens of one text, looked up as a reader of the arrays does."""
    known = dict(zip(corpus["vocabulary"].values.tolist(), corpus["vocabulary_text"].values.tolist(), strict=True))
    example = corpus.isel({dim: row for dim in ("train", "query") if dim in corpus.dims})
    return [
        known[i] for i, is_text in zip(example["token_id"].values, example["is_text"].values, strict=True) if is_text
    ]


def test_a_corpus_holds_ids_masks_and_what_travels_with_them() -> None:
    corpus = tiny.corpus(ids=list("abcdef"), source=["web", "book"] * 3)
    validate(corpus)
    assert corpus["token_id"].dims == ("train", "token")
    assert corpus["token_id"].dtype == np.int32
    assert corpus["is_text"].dtype == corpus["is_target"].dtype == bool
    assert corpus["train"].values.tolist() == list("abcdef")
    assert corpus["text"].values.tolist() == list(tiny.TEXTS)
    assert corpus["source"].values.tolist() == ["web", "book"] * 3
    expected = tiny.byte_level()(list(tiny.TEXTS))["input_ids"]
    found = [row.values[mask.values].tolist() for row, mask in zip(corpus["token_id"], corpus["is_text"], strict=True)]
    assert found == expected


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_token_but_the_first_of_each_text_is_a_target(side: str) -> None:
    corpus = tiny.corpus(padding_side=side)
    assert not corpus["is_text"].values.all(), "a corpus without padding tests nothing"
    for is_text, is_target in zip(corpus["is_text"].values, corpus["is_target"].values, strict=True):
        first = int(is_text.argmax())
        expected = is_text.copy()
        expected[first] = False
        assert is_target.tolist() == expected.tolist()


def test_padding_goes_to_the_side_that_is_asked_for() -> None:
    left, right = (tiny.corpus(padding_side=side)["is_text"].values for side in ("left", "right"))
    assert left[:, -1].all()
    assert right[:, 0].all()
    assert (left[:, ::-1] == right).all()


@pytest.mark.parametrize("make", TOKENIZERS, ids=lambda make: make.__name__)
def test_only_the_tokens_of_the_completion_are_targets(make: Any) -> None:
    tokenizer = make()
    prompt, completion = "the river", " runs the sea"
    asked = encode([prompt], tokenizer, completions=[completion], dim="query")
    found = asked["token_id"].values[0][asked["is_target"].values[0]].tolist()
    whole = tokenizer(prompt + completion, return_offsets_mapping=True)
    ends = [end for _, end in whole["offset_mapping"]]
    expected = [i for i, end in zip(whole["input_ids"], ends, strict=True) if end > len(prompt)]
    assert found == expected != []
    assert asked["token_id"].values[0].tolist() == whole["input_ids"], "prompt and completion are one text"
    assert [asked[name].item() for name in ("text", "prompt", "completion")] == [
        prompt + completion,
        prompt,
        completion,
    ]


def test_a_token_that_straddles_the_border_counts_as_completion() -> None:
    whole, tokenizer = tiny.TEXTS[0], tiny.byte_level()
    offsets = tokenizer(whole, return_offsets_mapping=True)["offset_mapping"]
    wide = next(i for i, (start, end) in enumerate(offsets) if i > 1 and end - start > 2)
    border = offsets[wide][0] + 1
    asked = encode([whole[:border]], tokenizer, completions=[whole[border:]], dim="query")
    assert np.flatnonzero(asked["is_target"].values[0]).tolist() == list(range(wide, len(offsets)))


def test_an_empty_prompt_leaves_all_but_the_first_token_as_targets() -> None:
    asked = encode([""], tiny.byte_level(), completions=["the river runs"], dim="query")
    assert asked["is_target"].values[0].tolist() == [False] + [True] * (asked.sizes["token"] - 1)


def test_a_longer_text_is_cut_and_named() -> None:
    lengths = tiny.corpus()["is_text"].sum("token").values
    limit = int(np.median(lengths))
    with pytest.warns(
        UserWarning, match=rf"max_length={limit}: texts cut in train (\w, )*\w \(coordinate is_truncated\)"
    ) as w:
        corpus = tiny.corpus(max_length=limit, ids=list("abcdef"))
    cut = [label for label, length in zip("abcdef", lengths, strict=True) if length > limit]
    assert cut
    assert cut != list("abcdef")
    assert f"train {', '.join(cut)} (" in str(w[0].message)
    assert corpus["train"].values[corpus["is_truncated"].values].tolist() == cut
    assert corpus["is_text"].sum("token").values.tolist() == np.minimum(lengths, limit).tolist()


def test_nothing_is_cut_without_being_asked() -> None:
    corpus = tiny.corpus([tiny.TEXTS[0] * 20])
    assert "is_truncated" not in corpus.coords
    assert corpus.sizes["token"] > 200


# --- readable pieces --------------------------------------------------------------------------------------------

EXOTIC = "the river 😀\tمرحبا\nnaïve"


def test_byte_level_pieces_read_as_text() -> None:
    found = pieces(encode([EXOTIC], tiny.byte_level()))
    assert not set("".join(found)) & set("ĠĊĉ")
    assert "\t" in found
    assert "\n" in found
    assert " river" in found
    assert {"<0xF0>", "<0x9F>", "<0x98>", "<0x80>"} <= set(found), "an emoji cut into bytes shows its bytes"


def _bytes(shown: str) -> bytes:
    return b"".join(
        bytes([int(part[3:5], 16)]) if part.startswith("<0x") else part.encode()
        for part in re.findall(r"<0x[0-9A-F]{2}>|.", shown, flags=re.DOTALL)
    )


@given(st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_byte_level_pieces_hold_every_byte_of_the_text(text: str) -> None:
    assert b"".join(map(_bytes, pieces(encode([text], tiny.byte_level())))) == text.encode()


def test_a_whole_character_of_several_bytes_reads_as_itself() -> None:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(["😀 مرحبا"] * 5, trainers.BpeTrainer(vocab_size=400, show_progress=False))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    assert pieces(encode(["😀 مرحبا"], tokenizer)) == ["😀", " مرحبا"]


def test_sentence_pieces_read_as_text() -> None:
    found = pieces(encode(["the river 😀"], tiny.sentence_piece()))
    assert found == ["<s>", " the", " river", " ", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>"]


def test_word_pieces_read_as_text() -> None:
    found = pieces(encode(["Running rivers"], tiny.word_piece()))
    assert found == ["[CLS]", "run", "ning", "river", "s", "[SEP]"]


def test_special_tokens_keep_their_names() -> None:
    tokenizer = tiny.byte_level()
    assert readable_pieces(tokenizer, [tokenizer.pad_token_id, tokenizer.eos_token_id]) == ["<pad>", "<eos>"]


# --- batches and fingerprints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_drops_columns_that_are_padding_in_all_of_its_rows(side: str) -> None:
    corpus = tiny.corpus(padding_side=side)
    rows = np.argsort(corpus["is_text"].sum("token").values)[:2]
    found = batch(corpus, rows)
    assert set(found) == {"token_id", "is_text", "is_target"}
    assert found["is_text"].shape == (2, corpus["is_text"].values[rows].sum(1).max())
    assert found["is_text"].any(axis=0).all()
    for place, row in enumerate(rows):
        one = corpus.isel(train=row)
        assert (
            found["token_id"][place][found["is_text"][place]].tolist()
            == one["token_id"].values[one["is_text"]].tolist()
        )


def test_the_order_of_dims_does_not_matter() -> None:
    corpus, turned = tiny.corpus(), tiny.corpus().transpose()
    assert turned["token_id"].dims == ("token", "train")
    for name, value in batch(corpus, np.array([1, 4])).items():
        assert np.array_equal(value, batch(turned, np.array([1, 4]))[name])
    assert fingerprint(corpus) == fingerprint(turned)
    expected = tiny.scored()["influence"]
    found = tiny.scores(tiny.language_problem(train=turned), tiny.queries().transpose())
    tiny.agree(found, expected)


CHANGES = {
    "ids": lambda c: c.assign_coords(train=c["train"] + 1),
    "tokens": lambda c: c.assign(token_id=c["token_id"] + 1),
    "targets": lambda c: c.assign(is_target=c["is_target"] & (c["token"] > 2)),
    "text mask": lambda c: c.assign(is_text=c["is_text"] & (c["token"] < 9)),
    "order": lambda c: c.isel(train=slice(None, None, -1)),
    "fewer": lambda c: c.isel(train=slice(1, None)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_changes_with_what_a_model_sees(change: Any) -> None:
    assert fingerprint(change(tiny.corpus())) != fingerprint(tiny.corpus())


def test_the_fingerprint_does_not_change_with_what_only_people_see() -> None:
    other = tiny.corpus(source=list("abcdef")).assign_coords(text=("train", list("abcdef"))).assign_attrs(title="x")
    assert fingerprint(other) == fingerprint(tiny.corpus())


# --- bad input --------------------------------------------------------------------------------------------------


class _WithoutOffsets:
    """A tokenizer written in Python: it cannot say where a token lies in the text."""

    pad_token_id = None

    def __call__(self, texts: list[str], return_offsets_mapping: bool = False, **settings: Any) -> dict[str, Any]:
        if return_offsets_mapping:
            raise NotImplementedError("no offsets")
        return dict(tiny.byte_level()(texts))


BAD = {
    "no text": (lambda: tiny.corpus([]), "texts is empty"),
    "an empty text": (lambda: tiny.corpus(["a river", "", "the sea", ""]), "no token in train 1, 3; remove"),
    "one string": (lambda: tiny.corpus("the river"), "texts"),
    "something else than text": (lambda: tiny.corpus(["a river", None]), "texts"),
    "a number": (lambda: tiny.corpus(["a river", 3]), "texts"),
    "a dim of its own": (lambda: tiny.corpus(dim="test"), "dim='test' is not 'train' or 'query'"),
    "double ids": (lambda: tiny.corpus(ids=list("abbcde")), "duplicate ids in train: b; ids must be unique"),
    "too few ids": (lambda: tiny.corpus(ids=[1, 2]), "train has 2 values, the corpus has 6"),
    "a short coordinate": (lambda: tiny.corpus(source=["web"]), "source has 1 values, the corpus has 6"),
    "a wide coordinate": (lambda: tiny.corpus(source=np.zeros((6, 2))), "source has shape"),
    "one string for all": (lambda: tiny.corpus(source="abcdef"), "source"),
    "one number for all": (lambda: tiny.corpus(source=3), "source"),
    "a coordinate named token": (lambda: tiny.corpus(token=list("abcdef")), "token"),
    "a coordinate named token_id": (lambda: tiny.corpus(token_id=list("abcdef")), "token_id"),
    "a coordinate named vocabulary": (lambda: tiny.corpus(vocabulary=list("abcdef")), "vocabulary"),
    "a coordinate named layer": (lambda: tiny.corpus(layer=list("abcdef")), "layer"),
    "a coordinate named rank": (lambda: tiny.corpus(rank=list("abcdef")), "rank"),
    "a name of the queries in results": (lambda: tiny.corpus(query_text=list("abcdef")), "query_text"),
    "a prompt beside prompts": (lambda: tiny.queries(prompt=["a", "b"]), "prompt"),
    "no room": (lambda: tiny.corpus(max_length=0), "max_length=0"),
    "a third side": (lambda: tiny.corpus(padding_side="centre"), "padding_side='centre'"),
    "no completion": (lambda: tiny.queries(["a", "b"], [" c", ""]), "completions: empty at positions 1"),
    "no completion at all": (lambda: tiny.queries(["a", "b"], [" c", None]), "completions: empty at positions 1"),
    "too few completions": (lambda: tiny.queries(["a", "b"], [" c"]), "completions has 1 entries, texts has 2"),
    "one string of completions": (lambda: tiny.queries(["a", "b"], "cd"), "completions"),
    "nothing to predict": (lambda: tiny.queries([""], ["a"], ids=["q7"]), "no token left to predict in query q7"),
    "a completion that would be cut": (lambda: tiny.queries(max_length=5), "completion would be cut in query 0, 1"),
    "no offsets": (lambda: encode(["a"], _WithoutOffsets(), completions=[" b"]), "tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_by_name(make: Any, says: str) -> None:
    with pytest.raises(CorpusError, match=re.escape(says)):
        make()
