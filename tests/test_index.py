"""An index orders sequences as exact scores do, is labelled as they are, and never reads the training data again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from torch import nn

import inflab
from inflab import EKFAC, KFAC, Diagonal, Identity
from inflab.capture import Capture
from inflab.errors import CorpusError, SettingError, StoreError
from inflab.index import Index
from tests import tiny

WHOLE = 0.25  # 8 bits for every coordinate


def indexed(path: Path, influence: Any = None, size: float = WHOLE, **settings: Any) -> Index:
    found: Index = (influence or tiny.fitted()).index(path / "index", size=size, progress=False, **settings)
    return found


def asked(index: Index, **settings: Any) -> xr.Dataset:
    return index.score(tiny.queries(), progress=False, **settings)


# --- what a result is ---------------------------------------------------------------------------------------------


def test_at_eight_bits_scores_are_nearly_exact(tmp_path: Path) -> None:
    tiny.agree(asked(indexed(tmp_path))["influence"], tiny.scored()["influence"], 5e-3)


@pytest.mark.parametrize("method", [KFAC(), Diagonal()], ids=repr)
def test_other_curvatures_have_an_index_too(method: Any, tmp_path: Path) -> None:
    fitted = tiny.fit(tiny.language_problem(), method)
    expected = fitted.score(tiny.queries(), progress=False)["influence"]
    tiny.agree(asked(indexed(tmp_path, fitted))["influence"], expected, 5e-3)


def test_a_table_has_an_index_too(tmp_path: Path) -> None:
    model = tiny.seeded(nn.Sequential(nn.Linear(3, 40), nn.Tanh(), nn.Linear(40, 4)))
    fitted = tiny.fit(tiny.table_problem(model), EKFAC(layers="*"))
    queries = tiny.table(3, dim="query", seed=1)
    found = indexed(tmp_path, fitted).score(queries, progress=False)["influence"]
    tiny.agree(found, fitted.score(queries, progress=False)["influence"], 2e-2)


@pytest.mark.parametrize("by", ["layer", ()])
def test_scores_are_labelled_as_exact_ones_are(by: Any, tmp_path: Path) -> None:
    train = tiny.corpus(source=list("uvwxyz"), kind=list("uvwxyz"), ids=list("abcdef"))
    fitted = tiny.fit(tiny.language_problem(train=train))
    queries = tiny.queries(ids=["q", "r"], topic=["who", "where"])
    found = indexed(tmp_path, fitted).score(queries, by=by, progress=False)
    exact = fitted.score(queries, by=by, progress=False)
    assert found["influence"].dims == exact["influence"].dims
    assert found.drop_attrs().coords.to_dataset().identical(exact.drop_attrs().coords.to_dataset())
    inflab.validate(found)
    assert {name: found.attrs[name] for name in exact.attrs if name != "created_at"} == {
        name: value for name, value in exact.attrs.items() if name != "created_at"
    }
    assert "approximate" in found["influence"].attrs["description"]
    assert found.attrs["index"] == str(tmp_path / "index")
    assert inflab.top(found, 2)["source"].dims == ("query", "rank")


def test_other_sequences_than_the_corpus_can_be_indexed(tmp_path: Path) -> None:
    other = tiny.corpus(["The sea is wide.", "Tea is grown in Gleem.", "Zorald Pfaff ran."], ids=["x", "y", "z"])
    index = indexed(tmp_path, train=other)
    exact = tiny.fitted().score(tiny.queries(), train=other, progress=False)
    for found in (asked(index), asked(tiny.fitted().open_index(tmp_path / "index"))):
        assert found.drop_attrs().coords.to_dataset().identical(exact.drop_attrs().coords.to_dataset())
        tiny.agree(found["influence"], exact["influence"], 2e-2)
    with pytest.raises(StoreError, match="train_fingerprint"):
        indexed(tmp_path)


def test_layers_sum_to_the_total_and_are_those_of_exact_scores(tmp_path: Path) -> None:
    index = indexed(tmp_path)
    found = asked(index, by="layer")["influence"]
    tiny.agree(found.sum("layer"), asked(index)["influence"], 1e-5)
    tiny.agree(found, tiny.fitted().score(tiny.queries(), by="layer", progress=False)["influence"], 5e-3)


def test_one_query_is_scored_as_it_is_among_others(tmp_path: Path) -> None:
    index = indexed(tmp_path)
    for q in range(2):
        one = index.score(tiny.queries().isel(query=[q]), progress=False)["influence"]
        tiny.agree(one, asked(index)["influence"].isel(query=[q]), 1e-5)


def test_an_index_can_be_read_as_a_dataset_and_is_valid(tmp_path: Path) -> None:
    index = indexed(tmp_path)
    arrays = inflab.load(tmp_path / "index")
    assert isinstance(arrays, xr.Dataset)
    inflab.validate(arrays)
    assert arrays["text"].values.tolist() == list(tiny.TEXTS)
    assert set(arrays["index_group_layer"].values.tolist()) == set(tiny.fitted().factors.children)
    assert len(arrays["index_coordinate_place"]) == sum(len(group.place) for group in index.groups)


# --- size and fidelity --------------------------------------------------------------------------------------------


def test_more_bytes_keep_more_and_lose_less(tmp_path: Path) -> None:
    exact = tiny.scored()["influence"].to_numpy()
    found = []
    for number, size in enumerate((0.02, 0.06, 0.12, WHOLE)):
        index = indexed(tmp_path / str(number), size=size)
        own = index.attrs
        error = np.abs(asked(index)["influence"].to_numpy() - exact).max() / np.abs(exact).max()
        found.append((own["size"], own["kept_energy"], own["fidelity"], -own["expected_error"], -error))
        assert own["wanted_size"] == size
        assert own["size"] == pytest.approx(size, rel=0.1)
    assert (np.diff(found, axis=0) >= 0).all()
    assert found[0][1] < 0.95 < found[-1][1]


def test_the_bytes_of_a_sequence_are_those_that_the_size_says(tmp_path: Path) -> None:
    index = indexed(tmp_path, size=0.06)
    row = index._arrays[["index_code", "index_scale"]].isel(train=[0])
    dense = sum(node.attrs["parameters"] for node in tiny.fitted().factors.children.values())
    n_bytes = row["index_code"].nbytes + row["index_scale"].nbytes
    assert index.attrs["size"] == pytest.approx(n_bytes / (4 * dense), rel=1e-12)


def test_the_measured_fidelity_is_that_of_training_sequences_as_queries(tmp_path: Path) -> None:
    """With six sequences each is in the sample; its influences are those of self-influence's pairs."""
    index = indexed(tmp_path, size=0.04)
    exact = tiny.fitted().score(tiny.corpus().rename(train="query"), progress=False)["influence"].to_numpy()
    own = index._arrays
    assert own["index_sample"].values.tolist() == list(range(6))
    tiny.agree(own["index_exact"].T, exact, 1e-5)
    found = index.score(tiny.corpus().rename(train="query"), progress=False)["influence"].to_numpy()
    tiny.agree(own["index_sketched"].T, found, 1e-5)


def test_the_smallest_size_of_a_wanted_fidelity_is_chosen(tmp_path: Path) -> None:
    made = [tiny.fitted().index(tmp_path / str(wanted), fidelity=wanted, progress=False) for wanted in (0.5, 0.99)]
    for index, wanted in zip(made, (0.5, 0.99), strict=True):
        assert index.attrs["fidelity"] >= wanted  # the sample is the whole corpus
    assert made[0].attrs["size"] < made[1].attrs["size"]


# --- what must not matter -----------------------------------------------------------------------------------------


def test_order_batches_and_shards_do_not_matter(tmp_path: Path) -> None:
    expected = asked(indexed(tmp_path / "whole"))["influence"]
    by_one = indexed(tmp_path / "one", batch_size=1, shard_size=2)
    tiny.agree(asked(by_one)["influence"], expected, 1e-3)
    assert by_one.attrs["shards_computed"] == 3
    problem = tiny.language_problem(tiny.fitted().problem.model, tiny.corpus().isel(train=[4, 2, 0, 5, 1, 3]))
    turned = indexed(tmp_path / "turned", with_problem(problem))
    tiny.agree(asked(turned)["influence"].sortby("train"), expected, 1e-3)


def with_problem(problem: inflab.Problem) -> inflab.Influence:
    """The shared factors, with another problem: factors of the same sequences in another order round differently."""
    return inflab.Influence(tiny.fitted()._tree, problem)


def test_codes_that_do_not_fit_the_memory_are_read_in_pieces(tmp_path: Path) -> None:
    expected = asked(indexed(tmp_path))["influence"]
    index = tiny.fitted().open_index(tmp_path / "index", memory="2KB")
    tiny.agree(asked(index)["influence"], expected, 1e-5)
    assert index._codes.held is None


def test_asking_makes_no_pass_over_the_training_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = indexed(tmp_path)
    passes: list[tuple[str, int]] = []
    run = Capture.run

    def counted(self: Capture, arrays: Any, quantity: Any, *rest: Any, **more: Any) -> Any:
        passes.append((quantity, len(more["ids"])))
        return run(self, arrays, quantity, *rest, **more)

    monkeypatch.setattr(Capture, "run", counted)
    asked(index)
    assert {quantity for quantity, _ in passes} == {"measurement"}
    assert sum(n for _, n in passes) == 2


def test_a_finished_index_is_opened_and_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = indexed(tmp_path)
    monkeypatch.setattr(Capture, "run", None)
    again = indexed(tmp_path)
    assert again.attrs["shards_computed"] == 0
    assert again.groups[0].place.tolist() == first.groups[0].place.tolist()


# --- another damping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("damping", "kind"), [(0.01, None), (3.0, None), (1e-4, "absolute"), (0.2, "absolute")])
def test_under_another_damping_scores_are_those_of_the_fit_under_it(damping: float, kind: Any, tmp_path: Path) -> None:
    index = indexed(tmp_path).with_damping(damping, kind)
    fitted = tiny.fitted().with_damping(damping, kind)
    for by in ("layer", ()):
        exact = fitted.score(tiny.queries(), by=by, progress=False)
        found = asked(index, by=by)
        tiny.agree(found["influence"], exact["influence"], 1e-2)
        assert found.drop_attrs().coords.to_dataset().identical(exact.drop_attrs().coords.to_dataset())
        assert found.attrs["settings"] == exact.attrs["settings"]
    assert np.abs(asked(index)["influence"] - tiny.scored()["influence"]).max() > 0.05 * abs(found["influence"]).max()


def test_the_same_damping_is_the_same_to_the_bit(tmp_path: Path) -> None:
    index = indexed(tmp_path)
    expected = asked(index)
    for same in (index.with_damping(0.1), index.with_damping(7).with_damping(0.1, "relative")):
        found = asked(same)
        assert found.drop_attrs().identical(expected.drop_attrs())
        assert found["influence"].attrs == expected["influence"].attrs
        assert same.attrs == index.attrs and repr(same) == repr(index)


def test_another_damping_says_what_was_measured_and_where(tmp_path: Path) -> None:
    index = indexed(tmp_path, size=0.06)
    smaller, larger = index.with_damping(0.001), index.with_damping(10)
    for other, damping in ((smaller, 0.001), (larger, 10)):
        assert (other.attrs["damping"], other.attrs["made_with_damping"]) == (damping, 0.1)
        assert (other.attrs["damping_kind"], other.attrs["made_with_damping_kind"]) == ("relative", "relative")
        assert np.isnan([other.attrs["fidelity"], other.attrs["top_overlap"]]).all()
        assert other.attrs["size"] == index.attrs["size"]
        assert "not measured at damping" in repr(other)
        scores = asked(other)
        assert "chosen at damping 0.1 (relative), and fidelity was measured there alone" in str(
            scores["influence"].attrs
        )
        inflab.save(scores, tmp_path / f"scores {damping}")
        assert np.isnan(inflab.load(tmp_path / f"scores {damping}").attrs["fidelity"])
    energies = [one.attrs["kept_energy"] for one in (smaller, index, larger)]
    errors = [one.attrs["expected_error"] for one in (smaller, index, larger)]
    assert energies == sorted(energies) and errors == sorted(errors, reverse=True)
    assert index.attrs["made_with_damping"] == 0.1 and index.attrs["fidelity"] > 0


def test_energies_under_another_damping_are_those_of_an_index_made_there(tmp_path: Path) -> None:
    """With every coordinate in 8 bits, what is kept does not depend on where it was chosen."""
    other = indexed(tmp_path / "a").with_damping(2)
    made = indexed(tmp_path / "b", tiny.fitted().with_damping(2))
    for name in ("kept_energy", "expected_error"):
        assert other.attrs[name] == pytest.approx(made.attrs[name], rel=0.05)


def test_codes_are_read_once_for_all_dampings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = indexed(tmp_path)
    asked(index.with_damping(1))
    monkeypatch.setattr("inflab.run.indexing.Codes._read", None)
    asked(index)
    asked(index.with_damping(2))
    assert index._codes.held is not None


def test_a_damping_outside_its_domain_is_refused(tmp_path: Path) -> None:
    index = indexed(tmp_path)
    with pytest.raises(SettingError, match="damping=-1 must be a finite number, zero or more"):
        index.with_damping(-1)
    with pytest.raises(SettingError, match="damping_kind='mean'"):
        index.with_damping(1, "mean")  # type: ignore[arg-type]


# --- refusals -----------------------------------------------------------------------------------------------------


def test_another_model_corpus_damping_or_fit_is_refused(tmp_path: Path) -> None:
    fitted = tiny.fitted()
    indexed(tmp_path)
    path = tmp_path / "index"
    others = {
        "model": tiny.fit(tiny.language_problem(tiny.gpt2(seed=1))),
        "corpus": tiny.fit(tiny.language_problem(train=tiny.corpus().isel(train=slice(5)))),
        "damping 0.1, influence has 0.3": fitted.with_damping(0.3),
        "damping_kind": fitted.with_damping(0.1, "absolute"),
        "factors": tiny.fit(tiny.language_problem(), seed=1),
    }
    for named, other in others.items():
        with pytest.raises(StoreError, match=named):
            other.open_index(path)
        with pytest.raises(StoreError, match="was begun with"):
            indexed(tmp_path, other)
    assert re.match(r"Index\(6 sequences, 2[45]\.\d+% of", repr(fitted.open_index(path)))


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    tiny.fitted().save(tmp_path / "factors")
    with pytest.raises(StoreError, match="holds 'factors', no index"):
        tiny.fitted().open_index(tmp_path / "factors")
    with pytest.raises(StoreError, match="does not exist"):
        tiny.fitted().open_index(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give exactly one"),
        ({"size": 0.1, "fidelity": 0.9}, "give exactly one"),
        ({"size": 0.3}, "at most 0.25, 8 bits for every coordinate"),
        ({"size": 0}, "size=0 must be above 0"),
        ({"size": float("nan")}, "size=nan"),
        ({"size": "0.1"}, "size='0.1'"),
        ({"size": 1e-5}, "no room for a single coordinate"),
        ({"fidelity": 1.1}, "fidelity=1.1 must be above 0 and at most 1.0, a rank correlation"),
        ({"fidelity": True}, "fidelity=True"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        tiny.fitted().index(tmp_path / "index", progress=False, **settings)
    assert not list(tmp_path.iterdir())


def test_bad_questions_are_refused(tmp_path: Path) -> None:
    index = indexed(tmp_path)
    with pytest.raises(SettingError, match="by=\\['block'\\] is not known"):
        asked(index, by="block")
    with pytest.raises(CorpusError, match="dim='query'"):
        index.score(tiny.corpus(), progress=False)


def test_without_eigenvalues_or_without_an_order_there_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="has no eigenvalues"):
        indexed(tmp_path, tiny.fit(tiny.language_problem(), Identity()))
    with pytest.raises(CorpusError, match="needs at least 3"):
        indexed(tmp_path, tiny.fit(tiny.language_problem(train=tiny.corpus().isel(train=slice(2)))))
    tiny.fitted().save(tmp_path / "saved")
    alone = inflab.load(tmp_path / "saved")
    assert isinstance(alone, inflab.Influence)
    with pytest.raises(StoreError, match="without its problem"):
        alone.index(tmp_path / "index", size=0.1)
