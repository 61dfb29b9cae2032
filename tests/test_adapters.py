"""Map-style torch and Hugging Face datasets and plain arrays give the corpus that `encode` or a person would make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from inflab import Classification, Problem, validate
from inflab.adapters import from_arrays, from_dataset
from inflab.errors import CorpusError
from tests import tiny

INPUT = np.arange(12, dtype=np.float32).reshape(4, 3)
TARGET = np.array([0, 1, 3, 2])


class Columns:
    """A Hugging Face dataset, as far as its readers see it: columns, rows by number, a length."""

    def __init__(self, **columns: Any) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, i: int) -> Mapping[str, Any]:
        return {name: values[i] for name, values in self.columns.items()}


PAIRS = {
    "TensorDataset": torch.utils.data.TensorDataset(torch.tensor(INPUT), torch.tensor(TARGET)),
    "Subset": torch.utils.data.Subset(
        torch.utils.data.TensorDataset(torch.tensor(INPUT), torch.tensor(TARGET)), range(4)
    ),
    "bfloat16, with gradient": torch.utils.data.TensorDataset(
        torch.tensor(INPUT).bfloat16().requires_grad_(), torch.tensor(TARGET)
    ),
    "list of pairs": list(zip(INPUT, TARGET.tolist(), strict=True)),
    "list of dicts": [{"input": a, "target": b} for a, b in zip(INPUT.tolist(), TARGET, strict=True)],
    "Hugging Face": Columns(input=INPUT.tolist(), target=TARGET.tolist()),
}


@pytest.mark.parametrize("dataset", PAIRS.values(), ids=PAIRS)
def test_pairs_of_input_and_target_become_a_corpus(dataset: Any) -> None:
    corpus = from_dataset(dataset)
    validate(corpus)
    assert corpus["input"].dims == ("train", "feature")
    assert np.array_equal(corpus["input"], INPUT)
    assert corpus["target"].values.tolist() == TARGET.tolist()
    assert corpus["train"].values.tolist() == [0, 1, 2, 3]


def test_a_problem_takes_a_dataset_as_it_is() -> None:
    asked = tiny.table(2, "query")
    found = tiny.scores(Problem(tiny.mlp(), Classification(), PAIRS["TensorDataset"]), asked)
    tiny.agree(found, tiny.scores(Problem(tiny.mlp(), Classification(), from_arrays(INPUT, TARGET)), asked))


def test_scalar_entries_of_a_dict_travel_as_coordinates() -> None:
    corpus = from_dataset(
        Columns(input=INPUT, target=TARGET, source=list("abcd"), weight=[0.5, 1, 2, 4], extra=INPUT), dim="query"
    )
    assert corpus["source"].values.tolist() == list("abcd")
    assert corpus["weight"].values.tolist() == [0.5, 1, 2, 4]
    assert "extra" not in corpus.coords
    assert "query" in corpus.dims


def _tokens(**more: Any) -> Columns:
    rows = tiny.byte_level()(list(tiny.TEXTS))["input_ids"]
    return Columns(input_ids=rows, **more)


def test_token_ids_give_the_corpus_that_encode_gives() -> None:
    found = from_dataset(_tokens(text=list(tiny.TEXTS), source=list("abcdef")), tokenizer=tiny.byte_level())
    expected = tiny.corpus(source=list("abcdef"))
    validate(found)
    for name in ("is_text", "is_target", "text", "source", "vocabulary_text"):
        assert np.array_equal(found[name], expected[name]), name
    assert np.array_equal(
        found["token_id"].where(found["is_text"], 0), expected["token_id"].where(expected["is_text"], 0)
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_masks_and_labels_say_what_is_text_and_what_is_target(side: str) -> None:
    ids, mask = [7, 8, 9, 10], [1, 1, 1, 0]
    labels, target = [-100, -100, 9, -100], [False, False, True, False]
    if side == "left":
        mask, labels, target = [0, 1, 1, 1], [-100, -100, -100, 10], [False, False, False, True]
    corpus = from_dataset([{"input_ids": ids, "attention_mask": mask, "labels": labels}])
    assert corpus["is_text"].values[0].tolist() == [bool(m) for m in mask]
    assert corpus["is_target"].values[0].tolist() == target


def test_without_labels_every_token_of_text_but_the_first_is_a_target() -> None:
    corpus = from_dataset([{"input_ids": torch.tensor([5, 6, 7]), "attention_mask": torch.tensor([0, 1, 1])}])
    assert corpus["is_target"].values[0].tolist() == [False, False, True]


def test_without_a_tokenizer_tokens_show_their_ids() -> None:
    assert from_dataset([{"input_ids": [5, 9]}])["vocabulary_text"].values.tolist() == ["[5]", "[9]"]


def test_with_a_tokenizer_but_no_text_the_text_is_decoded() -> None:
    assert from_dataset(_tokens(), tokenizer=tiny.byte_level())["text"].values.tolist() == list(tiny.TEXTS)


def test_images_keep_their_axes() -> None:
    corpus = from_arrays(np.zeros((2, 3, 4, 5)), [0, 1], ids=["a", "b"], source=["x", "y"])
    assert corpus["input"].dims == ("train", "channel", "height", "width")
    assert corpus["source"].dims == corpus["target"].dims == ("train",)
    validate(corpus)


ROW = {"input_ids": [3, 4]}
BAD = {
    "nothing": ([], "dataset is empty"),
    "an iterator": (iter([ROW]), "list_iterator"),
    "a loader": (torch.utils.data.DataLoader([ROW]), "DataLoader"),
    "a dict of columns": ({"input": INPUT, "target": TARGET}, "dict has no item [0]"),
    "a table": (pd.DataFrame({"input": [1]}), "DataFrame has no item [0]"),
    "triples": ([(1, 2, 3)], "items of type tuple are not understood"),
    "texts": (["the river"], "items of type str are not understood"),
    "ragged inputs": ([(np.zeros(3), 0), (np.zeros(2), 1)], "input of item 0 has shape (3,), of item 1 (2,)"),
    "ragged targets": ([(np.zeros(3), [0, 1]), (np.zeros(3), [1])], "target of item 0"),
    "a missing key": ([{"input": 1, "target": 2}, {"input": 1}], "items 0 and 1 differ in their keys ['target']"),
    "a missing coordinate": ([ROW | {"source": "web"}, ROW], "items 0 and 1 differ in their keys ['source']"),
    "other labels": ([ROW | {"labels": [3, 5]}], "labels of item 0 differ from its input_ids"),
    "long labels": ([ROW | {"labels": [3, 4, 5]}], "labels of item 0 has shape (3,)"),
    "a long mask": ([ROW | {"attention_mask": [1, 1, 1]}], "attention_mask of item 0 has shape (3,)"),
    "a batch as an item": ([{"input_ids": [[3, 4]]}], "input_ids of item 0 has shape (1, 2)"),
    "double ids": ([ROW | {"train": "a"}] * 2, "duplicate ids in train: a"),
    "a column named token": ([ROW | {"token": "a"}], "coordinate 'token' has a name of the schema"),
    "a column named layer": (
        [{"input": [1.0], "target": 1, "layer": 3}],
        "coordinate 'layer' has a name of the schema",
    ),
}


@pytest.mark.parametrize(("dataset", "says"), BAD.values(), ids=BAD)
def test_other_datasets_are_refused_by_name(dataset: Any, says: str) -> None:
    with pytest.raises(CorpusError, match=re.escape(says)):
        from_dataset(dataset)


BAD_ARRAYS = {
    "nothing": ((np.zeros((0, 3)), np.zeros(0)), {}, "input is empty"),
    "a number": ((3, 4), {}, "one entry an example"),
    "unequal lengths": ((INPUT, TARGET[:2]), {}, "input has 4 examples, target has 2"),
    "double ids": ((INPUT, TARGET), {"ids": [0, 1, 1, 1]}, "duplicate ids in train: 1"),
    "a coordinate named as an axis": ((INPUT, TARGET), {"feature": TARGET}, "coordinate 'feature' has a name of the"),
    "a short coordinate": ((INPUT, TARGET), {"source": ["a"]}, "source has 1 values, the corpus has 4"),
}


@pytest.mark.parametrize(("arrays", "more", "says"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_other_arrays_are_refused_by_name(arrays: Any, more: Any, says: str) -> None:
    with pytest.raises(CorpusError, match=re.escape(says)):
        from_arrays(*arrays, **more)


def test_a_dataset_that_breaks_halfway_says_so_itself() -> None:
    class Broken(Columns):
        def __getitem__(self, i: int) -> Mapping[str, Any]:
            if i == 2:
                raise KeyError("file 2 is gone")
            return super().__getitem__(i)

    with pytest.raises(KeyError, match="file 2 is gone"):
        from_dataset(Broken(input=INPUT, target=TARGET))


def test_an_xarray_dataset_that_is_no_corpus_is_refused() -> None:
    with pytest.raises(CorpusError, match="exactly one of 'train' and 'query'"):
        Problem(tiny.mlp(), Classification(), xr.Dataset({"input": ("row", [1.0])}))
