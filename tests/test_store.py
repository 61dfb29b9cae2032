"""A store is whole or refused; what cannot be written leaves nothing; a saved fit answers as before, for its model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import inflab
from inflab import EKFAC, Influence, top
from inflab.errors import SchemaError, SettingError, StoreError
from tests import tiny


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "scores"
    inflab.save(tiny.scored(), path)
    return path


# --- writing ----------------------------------------------------------------------------------------------------


def test_a_store_is_zarr_that_others_can_read(store: Path) -> None:
    assert listing(store.parent)[0] == "scores"
    assert len(list(store.parent.iterdir())) == 1, "no temporary folder is left"
    assert json.loads((store / "zarr.json").read_text())["zarr_format"] == 3
    with xr.open_zarr(store, consolidated=False) as found:
        assert np.array_equal(found["influence"], tiny.scored()["influence"])


def test_folders_above_are_made(tmp_path: Path) -> None:
    inflab.save(tiny.scored(), str(tmp_path / "new" / "deep" / "scores"))
    assert inflab.load(tmp_path / "new" / "deep" / "scores").identical(tiny.scored())


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    inflab.save(tiny.scored(), "~/scores")
    assert inflab.load("~/scores").identical(tiny.scored())


def test_training_sequences_are_chunked_alone(tmp_path: Path) -> None:
    many = tiny.scored().isel(train=np.arange(6000) % 6).assign_coords(train=np.arange(6000))
    inflab.save(many, tmp_path / "many")
    shape = json.loads((tmp_path / "many" / "influence" / "zarr.json").read_text())
    assert shape["chunk_grid"]["configuration"]["chunk_shape"] == [2, 4096]
    assert inflab.load(tmp_path / "many").equals(many)


def test_a_chunk_of_zeros_is_no_missing_chunk(tmp_path: Path) -> None:
    nothing = tiny.scored().copy(deep=True)
    nothing["influence"].values[:] = 0
    inflab.save(nothing, tmp_path / "zeros")
    assert inflab.load(tmp_path / "zeros").identical(nothing)


def _folder_in_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("mine")
    return tmp_path / "file" / "scores"


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a file": (lambda p: _folder_in_a_file(p).parent, "exists; choose another path, or remove it first"),
    "a folder": (lambda p: p, "exists; choose another path, or remove it first"),
    "inside a file": (_folder_in_a_file, "cannot be made .*choose another folder"),
    "deep inside a file": (lambda p: _folder_in_a_file(p) / "deep" / "x", "cannot be made .*choose another folder"),
    "where nothing can be made": (lambda p: Path("/proc/inflab/scores"), ".*choose another"),
}  # fmt: skip


@pytest.mark.parametrize(("where", "says"), REFUSED.values(), ids=REFUSED)
def test_where_nothing_can_be_written_nothing_changes(
    where: Callable[[Path], Path], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = where(tmp_path)
    before = listing(tmp_path)
    for save in (lambda: inflab.save(tiny.scored(), path), lambda: tiny.fitted().save(path)):
        with pytest.raises(StoreError, match=f"path='{path}' {says}"):
            save()
    assert listing(tmp_path) == before


def test_a_store_is_never_overwritten(store: Path) -> None:
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="exists"):
        inflab.save(top(tiny.scored(), 1), store)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_a_full_disk_is_known_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=100, used=90, free=10))
    with pytest.raises(StoreError, match=r"needs [\d,]+ bytes at most, 10 are free; choose another disk"):
        inflab.save(tiny.scored(), tmp_path / "new" / "scores")
    assert listing(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_write_that_breaks_off_leaves_nothing(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path, nodes: list[str]) -> None:
        assert listing(folder), "arrays are there, their manifest is not"
        raise error

    monkeypatch.setattr("inflab.store._write_manifest", fail)
    expected = StoreError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        inflab.save(tiny.scored(), tmp_path / "scores")
    assert listing(tmp_path) == []
    if expected is StoreError:
        assert "could not be written ([Errno 28] No space left" in str(caught.value)


def test_arrays_that_break_the_schema_are_not_written(tmp_path: Path) -> None:
    for arrays in (tiny.scored().drop_attrs(), tiny.scored()["influence"], tiny.fitted(), None):
        with pytest.raises(SchemaError):
            inflab.save(arrays, tmp_path / "arrays")
    assert listing(tmp_path) == []


# --- damage -----------------------------------------------------------------------------------------------------


def _root(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        metadata = json.loads((path / "zarr.json").read_text())
        change(metadata["attributes"])
        (path / "zarr.json").write_text(json.dumps(metadata))

    return damage


def _chunk(path: Path) -> Path:
    return next(file for file in (path / "influence").rglob("*") if file.is_file() and file.name != "zarr.json")


HALF = "is not an inflab store, or it is half written"
BROKEN = "is damaged: 1 of .* files are missing or of the wrong size, the first is 'influence/.*; write it again"
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a chunk is gone": (lambda p: _chunk(p).unlink(), BROKEN),
    "a chunk is cut": (lambda p: _chunk(p).write_bytes(_chunk(p).read_bytes()[:-1]), BROKEN),
    "a chunk is empty": (lambda p: _chunk(p).write_bytes(b""), BROKEN),
    "a variable's metadata is gone": (lambda p: (p / "influence" / "zarr.json").unlink(), BROKEN),
    "the root's metadata is gone": (lambda p: (p / "zarr.json").unlink(), HALF),
    "the root's metadata is cut": (lambda p: (p / "zarr.json").write_text("{"), HALF),
    "the root's metadata is no text": (lambda p: (p / "zarr.json").write_bytes(b"\xff\xfe"), HALF),
    "the root's metadata is a list": (lambda p: (p / "zarr.json").write_text("[]"), HALF),
    "the manifest is gone": (_root(lambda a: a.pop("manifest")), HALF),
    "the manifest is a number": (_root(lambda a: a.update(manifest="3")), HALF),
    "everything is gone": (lambda p: [shutil.rmtree(p), p.mkdir()], HALF),
    "it is a file": (lambda p: [shutil.rmtree(p), p.write_text("x")], HALF),
    "it is not there": (shutil.rmtree, "does not exist"),
    "a later version": (_root(lambda a: a.update(schema_version=2)), "has schema version 2, this inflab reads 1"),
    "no version": (_root(lambda a: a.pop("schema_version")), HALF),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "says"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_store_is_refused(damage: Callable[[Path], Any], says: str, store: Path) -> None:
    inflab.load(store)
    damage(store)
    with pytest.raises(StoreError, match=f"path='{store}' {says}"):
        inflab.load(store)


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    xr.Dataset({"a": ("x", [1, 2])}).to_zarr(tmp_path / "other", consolidated=False)
    with pytest.raises(StoreError, match=HALF):
        inflab.load(tmp_path / "other")


def test_a_store_of_an_unknown_kind_is_refused_by_the_schema(store: Path) -> None:
    _root(lambda attrs: attrs.update(kind="poem"))(store)
    with pytest.raises(SchemaError, match="kind is 'poem', expected one of"):
        inflab.load(store)


# --- a saved fit ------------------------------------------------------------------------------------------------

METHODS = [EKFAC(), inflab.KFAC(layers=["*"]), inflab.Diagonal(fisher="empirical"), inflab.Identity()]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_saved_fit_answers_as_before(method: Any, tmp_path: Path) -> None:
    problem = tiny.language_problem()
    fitted = tiny.fit(problem, method, seed=3)
    fitted.save(tmp_path / "fit")
    back = inflab.load(tmp_path / "fit", problem)
    assert isinstance(back, Influence)
    assert back.attrs == fitted.attrs
    assert back.factors.identical(fitted.factors)
    assert list(back.factors.children) == list(fitted.factors.children), "the model's order"
    expected = fitted.score(tiny.queries(), by="layer", progress=False)
    found = back.score(tiny.queries(), by="layer", progress=False)
    assert found.drop_attrs().identical(expected.drop_attrs())
    assert back.self_influence(progress=False).equals(fitted.self_influence(progress=False))


def test_a_saved_fit_answers_under_another_damping(tmp_path: Path) -> None:
    problem = tiny.language_problem()
    tiny.fit(problem).save(tmp_path / "fit")
    back = inflab.load(tmp_path / "fit", problem)
    assert isinstance(back, Influence)
    back.with_damping(0.5).save(tmp_path / "again")
    again = inflab.load(tmp_path / "again", problem)
    assert isinstance(again, Influence)
    expected = tiny.scores(problem, tiny.queries(), EKFAC(damping=0.5))
    tiny.agree(again.score(tiny.queries(), progress=False)["influence"], expected, 1e-6)


def test_a_fit_without_its_problem_can_be_read_but_not_asked(tmp_path: Path) -> None:
    tiny.fitted().save(tmp_path / "fit")
    back = inflab.load(tmp_path / "fit")
    assert isinstance(back, Influence)
    assert back.with_damping(1).factors["transformer.h.0.mlp.c_fc"].attrs["damping"] > 0
    assert "no problem attached" in repr(back)
    asks = [back.self_influence, lambda: back.score(tiny.queries()), lambda: back.explain(tiny.queries())]
    for ask in [*asks, lambda: back.attribute(tiny.queries(), top(tiny.scored(), 1))]:
        with pytest.raises(StoreError, match=r"without its problem; use inflab.load\(path, problem=...\)"):
            ask()


OTHERS = {
    "model": lambda: tiny.language_problem(tiny.gpt2(seed=1)),
    "corpus": lambda: tiny.language_problem(train=tiny.corpus(tiny.TEXTS[::-1])),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_model_or_corpus_is_refused_with_both_fingerprints(what: str, tmp_path: Path) -> None:
    problem, other = tiny.fitted().problem, OTHERS[what]()
    tiny.fitted().save(tmp_path / "fit")
    inflab.save(tiny.scored(), tmp_path / "scores")
    mine, its = (getattr(p, f"{what}_fingerprint")() for p in (problem, other))
    assert mine != its
    for path in ("fit", "scores"):
        with pytest.raises(StoreError, match=f"{what} with fingerprint {mine}, problem has {its}; give the same"):
            inflab.load(tmp_path / path, other)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "one bit of a weight": lambda m: m.transformer.ln_f.bias.data[0].add_(1e-6),
    "dtype": lambda m: m.double(),
    "a buffer": lambda m: m.register_buffer("more", torch.zeros(1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_models_fingerprint_changes_with_its_state(change: Callable[[Any], Any]) -> None:
    model = tiny.gpt2()
    before = tiny.language_problem(model).model_fingerprint()
    assert tiny.language_problem(tiny.gpt2()).model_fingerprint() == before
    change(model)
    assert tiny.language_problem(model).model_fingerprint() != before


def test_modes_and_gradients_do_not_change_a_models_fingerprint() -> None:
    model = tiny.gpt2()
    before = tiny.language_problem(model).model_fingerprint()
    model.train().requires_grad_(False)
    assert tiny.language_problem(model).model_fingerprint() == before


def test_a_problem_that_is_none_is_refused(tmp_path: Path) -> None:
    tiny.fitted().save(tmp_path / "fit")
    with pytest.raises(SettingError, match="problem is a GPT2LMHeadModel; expected an inflab.Problem"):
        inflab.load(tmp_path / "fit", tiny.gpt2())


def test_a_top_list_from_disk_is_as_good_as_a_fresh_one(tmp_path: Path) -> None:
    problem = tiny.language_problem(train=tiny.corpus(ids=list("abcdef")))
    fitted = tiny.fit(problem)
    asked = tiny.queries(ids=["x", "y"])
    chosen = top(fitted.score(asked, progress=False), 2)
    inflab.save(chosen, tmp_path / "top")
    back = inflab.load(tmp_path / "top")
    expected = fitted.attribute(asked, chosen, progress=False)
    assert fitted.attribute(asked, back, progress=False).drop_attrs().equals(expected.drop_attrs())


def test_a_corpus_from_disk_is_as_good_as_a_fresh_one(tmp_path: Path) -> None:
    inflab.save(tiny.corpus(source=list("abcdef")), tmp_path / "train")
    inflab.save(tiny.queries(), tmp_path / "queries")
    problem = tiny.language_problem(train=inflab.load(tmp_path / "train"))
    assert problem.corpus_fingerprint() == tiny.fitted().problem.corpus_fingerprint()
    tiny.agree(tiny.scores(problem, inflab.load(tmp_path / "queries")), tiny.scored()["influence"], 1e-6)


def test_opening_array_results_imports_no_torch(tmp_path: Path) -> None:
    inflab.save(tiny.fitted().explain(tiny.queries(), 2, progress=False), tmp_path / "explanation")
    inflab.save(tiny.scored(), tmp_path / "scores")
    tiny.fitted().save(tmp_path / "fit")
    code = (
        "import sys, inflab\n"
        "tree, scores = inflab.load('explanation'), inflab.load('scores')\n"
        "inflab.validate(tree), tree['top_tokens/influence'].sum().item()\n"
        "inflab.effect(inflab.top(scores, 2)).load()\n"
        "inflab.load('fit').with_damping(1).save('again')\n"
        "inflab.save(inflab.top(scores, 2), 'top')\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(inflab.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
