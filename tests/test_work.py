"""With a store, work goes on where it was broken off: the same arrays, nothing twice, nothing mixed, nothing silent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import inflab
from inflab import EKFAC, KFAC, Classification, Diagonal, Identity, Influence, Problem, top
from inflab.capture import Capture
from inflab.errors import SettingError, StoreError
from inflab.run import asking, fitting, rows
from inflab.run.work import cut
from tests import tiny
from tests.test_ledger import longest_file

SHARD = 2
N = 12
SHARDS = N // SHARD


@pytest.fixture
def problem() -> Problem:
    return tiny.table_problem()


def asked(n: int = 3, seed: int = 1) -> xr.Dataset:
    return tiny.table(n, "query", seed)


def fit(problem: Problem, method: Any = None, **more: Any) -> Influence:
    found: Influence = (method or EKFAC()).fit(problem, progress=False, **{"shard_size": SHARD, **more})
    return found


def score(fitted: Influence, **more: Any) -> xr.Dataset:
    return fitted.score(more.pop("queries", asked()), progress=False, **{"shard_size": SHARD, **more})


def counts(found: Any) -> tuple[int, int]:
    return found.attrs["shards_computed"], found.attrs["shards_resumed"]


def same(a: Influence, b: Influence) -> None:
    """The same factors, to the last bit."""
    assert list(a.factors.children) == list(b.factors.children)
    for name, node in a.factors.children.items():
        assert node.to_dataset().identical(b.factors[name].to_dataset())


class Broken(Exception):
    """What ends a run in these tests."""


@contextmanager
def breaking(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException | None = None) -> Iterator[list[Any]]:
    """Passes over training shards end with an error after so many; those that began are listed."""
    begun: list[Any] = []

    def breaks(function: Any) -> Any:
        def run(*args: Any, **more: Any) -> Any:
            if len(begun) == after:
                raise error or Broken
            positions = next(a for a in args if getattr(a, "dtype", None) == np.int64)
            begun.append((function.__name__, positions.tolist()))
            return function(*args, **more)

        return run

    with monkeypatch.context() as patch:
        for room, names in (
            (fitting, ("covariance_sums", "square_sums")),
            (asking.score, ("score_rows", "self_influence")),
        ):
            for name in names:
                patch.setattr(room, name, breaks(getattr(room, name)))
        yield begun


# --- shards -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "tokens", "shards", "size"),
    [(5, 1, 1, 5), (256, 128, 8, 32), (10_000, 128, 64, 157), (10**6, 512, 3907, 256), (10**4, 10**6, 313, 32)],
)
def test_the_cut_depends_on_the_corpus_alone(n: int, tokens: int, shards: int, size: int) -> None:
    found = cut(np.arange(n), tokens, None)
    assert (len(found), len(found[0].positions)) == (shards, size)
    assert np.array_equal(np.concatenate([shard.positions for shard in found]), np.arange(n))
    assert [shard.index for shard in found] == list(range(shards))


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_a_shard_of_no_size_is_refused(size: Any, problem: Problem, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=f"shard_size={size!r} must be a whole number, at least 1, or None"):
        fit(problem, shard_size=size, store=tmp_path / "s")
    assert not list(tmp_path.iterdir())


def test_shards_without_anywhere_to_keep_them_are_refused(problem: Problem) -> None:
    with pytest.raises(SettingError, match="shard_size=2 needs store= or client="):
        fit(problem)


def test_without_a_store_nothing_is_said_of_shards(problem: Problem) -> None:
    fitted = fit(problem, shard_size=None)
    for found in (fitted, score(fitted, shard_size=None), fitted.self_influence(progress=False)):
        assert not {"shards_computed", "shards_resumed"} & set(found.attrs)


# --- a fit ------------------------------------------------------------------------------------------------------

METHODS = {"EKFAC": EKFAC(), "blocks": EKFAC(blocks=2), "KFAC": KFAC(), "Diagonal": Diagonal(), "Identity": Identity()}
GOING_ON = [("EKFAC", 0), ("EKFAC", 3), ("EKFAC", 6), ("EKFAC", 8), ("blocks", 11), ("KFAC", 3), ("Diagonal", 5)]


@pytest.mark.parametrize(("name", "after"), GOING_ON)
def test_a_fit_goes_on(
    name: str, after: int, problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, passes = METHODS[name], 2 if isinstance(METHODS[name], EKFAC) else 1
    whole = fit(problem, method, store=tmp_path / "whole")
    assert counts(whole) == (passes * SHARDS, 0)
    with breaking(monkeypatch, after) as before, pytest.raises(Broken):
        fit(problem, method, store=tmp_path / "s")
    assert not (tmp_path / "s").exists()
    with breaking(monkeypatch, 1000) as now:
        again = fit(problem, method, store=tmp_path / "s")
    assert counts(again) == (passes * SHARDS - after, after)
    assert not set(map(repr, before)) & set(map(repr, now)), "a finished shard was computed again"
    assert len(before) + len(now) == passes * SHARDS
    same(again, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "whole"], "no working files are left"


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_fit_in_shards_is_the_fit(method: Any, problem: Problem, tmp_path: Path) -> None:
    problem.model.double()
    expected = tiny.scores(problem, asked(), method)
    fitted = fit(problem, method, store=tmp_path / "s")
    tiny.agree(score(fitted, shard_size=None)["influence"], expected, 1e-9)
    found = inflab.load(tmp_path / "s", problem)
    assert isinstance(found, Influence)
    tiny.agree(score(found, store=tmp_path / "scores")["influence"], expected, 1e-9)


def test_layers_that_share_an_input_share_it_in_a_store(tmp_path: Path) -> None:
    problem = tiny.language_problem(tiny.llama().double())
    method = EKFAC(layers="*proj", fisher="empirical")
    expected = tiny.fit(problem, method)
    found = fit(problem, method, store=tmp_path / "s")
    for name, node in expected.factors.children.items():
        tiny.agree(found.factors[name]["activation_eigenvalues"], node["activation_eigenvalues"], 1e-9)
    tiny.agree(found.score(tiny.queries(), progress=False)["influence"],
               expected.score(tiny.queries(), progress=False)["influence"], 1e-8)  # fmt: skip


def test_a_store_of_a_fit_is_what_save_writes(problem: Problem, tmp_path: Path) -> None:
    fitted = fit(problem, store=tmp_path / "fit")
    fitted.save(tmp_path / "saved")
    names = [sorted(p.relative_to(r).as_posix() for p in r.rglob("*")) for r in (tmp_path / "fit", tmp_path / "saved")]
    assert names[0] == names[1]
    a, b = inflab.load(tmp_path / "fit", problem), inflab.load(tmp_path / "saved", problem)
    assert isinstance(a, Influence) and isinstance(b, Influence)
    same(a, b)
    assert "shards_computed" not in a.attrs


def test_a_finished_fit_is_reopened_and_says_so(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit(problem, store=tmp_path / "s")
    monkeypatch.setattr(Capture, "run", None)  # no pass can be made
    again = fit(problem, store=tmp_path / "s")
    assert counts(again) == (0, 2 * SHARDS)
    same(first, again)


def test_a_fit_on_some_examples_goes_on(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = EKFAC(max_examples=7)
    whole = fit(problem, method, store=tmp_path / "whole")
    with breaking(monkeypatch, 3), pytest.raises(Broken):
        fit(problem, method, store=tmp_path / "s")
    again = fit(problem, method, store=tmp_path / "s")
    assert counts(again) == (5, 3)
    same(again, whole)


# --- scores -----------------------------------------------------------------------------------------------------


def ask_scores(fitted: Influence, **more: Any) -> xr.Dataset:
    return score(fitted, by="layer", **more)


def ask_itself(fitted: Influence, **more: Any) -> xr.Dataset:
    return fitted.self_influence(progress=False, **{"shard_size": SHARD, **more})


ASKS = {"scores": ask_scores, "self-influence": ask_itself}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("after", [0, 1, 5])
def test_scores_go_on(
    ask: Callable[..., xr.Dataset], after: int, problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = tiny.fit(problem)
    whole = ask(fitted, store=tmp_path / "whole")
    assert counts(whole) == (SHARDS, 0)
    tiny.agree(whole["influence"], ask(fitted, shard_size=None)["influence"], 1e-5)
    with breaking(monkeypatch, after) as before, pytest.raises(Broken):
        ask(fitted, store=tmp_path / "s")
    with breaking(monkeypatch, 1000) as now:
        again = ask(fitted, store=tmp_path / "s")
    assert counts(again) == (SHARDS - after, after)
    assert [positions for _, positions in before + now] == [[2 * i, 2 * i + 1] for i in range(SHARDS)]
    assert again.drop_attrs().identical(whole.drop_attrs())
    assert inflab.load(tmp_path / "s").drop_attrs().identical(again.drop_attrs())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "whole"]


def test_results_of_a_store_are_lazy_and_labelled_like_others(tmp_path: Path) -> None:
    fitted, queries = tiny.fitted(), tiny.queries(source=["a", "b"])
    plain = fitted.score(queries, by="layer", progress=False)
    found = fitted.score(queries, by="layer", store=tmp_path / "s", shard_size=4, progress=False)
    assert found["influence"].chunks == ((2,), (4, 2), (4,))
    tiny.agree(found["influence"], plain["influence"], 1e-5)
    assert found.coords.to_dataset().drop_attrs().identical(plain.coords.to_dataset().drop_attrs())
    assert found["influence"].attrs == plain["influence"].attrs
    inflab.validate(found)
    assert {**found.attrs, "created_at": ""} == {
        **plain.attrs, "created_at": "", "shards_computed": 2, "shards_resumed": 0,
    }  # fmt: skip
    chosen, expected = (top(scores, 2).drop_attrs() for scores in (found, plain))
    assert np.array_equal(chosen["train"], expected["train"])


def test_a_fits_counts_do_not_travel_into_its_scores(problem: Problem, tmp_path: Path) -> None:
    fitted = fit(problem, store=tmp_path / "fit")
    assert "shards_computed" in fitted.attrs
    assert "shards_computed" not in score(fitted, shard_size=None).attrs


def test_blocks_of_queries_go_on_in_the_blocks_they_began_in(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = tiny.fit(problem)
    monkeypatch.setattr(asking, "query_block", lambda *args: 2)
    whole = score(fitted, store=tmp_path / "whole")
    assert counts(whole) == (2 * SHARDS, 0)
    with breaking(monkeypatch, SHARDS + 1), pytest.raises(Broken):
        score(fitted, store=tmp_path / "s")
    monkeypatch.setattr(asking, "query_block", lambda *args: 3)
    again = score(fitted, store=tmp_path / "s")
    assert counts(again) == (SHARDS - 1, SHARDS + 1)
    assert np.array_equal(again["influence"], whole["influence"])
    tiny.agree(whole["influence"], score(fitted, shard_size=None)["influence"], 1e-5)


def test_a_chunk_of_zeros_is_no_missing_chunk(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = tiny.fit(problem)
    monkeypatch.setattr(asking.score, "score_rows", lambda *a, **k: np.zeros((3, SHARD), np.float32))
    assert not score(fitted, store=tmp_path / "s")["influence"].any()
    next(path for path in (tmp_path / "s" / "influence" / "c").rglob("*") if path.is_file()).unlink()
    with pytest.raises(StoreError, match="is damaged: 1 of"):
        inflab.load(tmp_path / "s")


# --- what is not finished ---------------------------------------------------------------------------------------


@pytest.fixture
def broken_off(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of scores with 4 of 6 shards."""
    fitted = tiny.fit(problem)
    with breaking(monkeypatch, 4), pytest.raises(Broken):
        score(fitted, store=tmp_path / "s")
    return tmp_path / "s"


def test_an_unfinished_store_says_how_far_it_is(broken_off: Path) -> None:
    with pytest.raises(
        StoreError, match="is not finished: 4 of 6 shards of its scores are done; go on with the same call"
    ):
        inflab.load(broken_off)


def test_what_is_done_can_be_opened_and_used(broken_off: Path, problem: Problem) -> None:
    part = inflab.load(broken_off, problem, partial=True)
    whole = score(tiny.fit(problem), shard_size=None)
    assert part["train"].to_numpy().tolist() == list(range(8))
    tiny.agree(part["influence"], whole["influence"][:, :8], 1e-5)
    assert (part.attrs["shards_done"], part.attrs["shards"]) == (4, 6)
    best = top(part, 3)
    assert best["train"].shape == (3, 3)
    inflab.validate(part)
    with pytest.raises(StoreError, match="model with fingerprint"):
        inflab.load(broken_off, tiny.table_problem(tiny.mlp(1)), partial=True)


def test_the_part_of_a_finished_store_is_all_of_it(problem: Problem, tmp_path: Path) -> None:
    found = score(tiny.fit(problem), store=tmp_path / "s")
    assert inflab.load(tmp_path / "s", partial=True).drop_attrs().identical(found.drop_attrs())


def test_a_fit_has_no_part_to_open(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with breaking(monkeypatch, 4), pytest.raises(Broken):
        fit(problem, store=tmp_path / "s")
    for partial in (False, True):
        with pytest.raises(StoreError, match="is not finished: a fit over 6 shards is under way; go on with the same"):
            inflab.load(tmp_path / "s", problem, partial=partial)


def test_an_interrupt_leaves_the_model_as_it_was(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = tiny.fit(problem)
    calls = 0
    backward = torch.Tensor.backward

    def interrupted(self: torch.Tensor, *args: Any, **more: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        backward(self, *args, **more)

    monkeypatch.setattr(torch.Tensor, "backward", interrupted)
    with tiny.untouched(problem.model), pytest.raises(KeyboardInterrupt):
        score(fitted, store=tmp_path / "s")
    done = inflab.load(tmp_path / "s", partial=True).attrs["shards_done"]
    assert done == 3  # the queries were the first of the four passes
    assert counts(score(fitted, store=tmp_path / "s")) == (3, 3)


# --- damage -----------------------------------------------------------------------------------------------------


def _chunks(path: Path) -> list[Path]:
    return sorted(file for file in (path / "influence" / "c").rglob("*") if file.is_file())


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(p.read_bytes()[:-1]), lambda p: p.unlink()])
def test_a_damaged_chunk_is_computed_again(damage: Any, broken_off: Path, problem: Problem) -> None:
    damage(_chunks(broken_off.with_name("s.unfinished") / "arrays")[1])
    part = inflab.load(broken_off, partial=True)
    assert part["train"].to_numpy().tolist() == [0, 1, 4, 5, 6, 7]
    again = score(tiny.fit(problem), store=broken_off)
    assert counts(again) == (3, 3)
    tiny.agree(again["influence"], score(tiny.fit(problem), shard_size=None)["influence"], 1e-5)


def test_a_damaged_label_costs_everything_but_is_found(broken_off: Path, problem: Problem) -> None:
    (broken_off.with_name("s.unfinished") / "arrays" / "train" / "zarr.json").unlink()
    again = score(tiny.fit(problem), store=broken_off)
    assert counts(again) == (6, 0)
    tiny.agree(again["influence"], score(tiny.fit(problem), shard_size=None)["influence"], 1e-5)


def test_damaged_sums_are_computed_again(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(problem, store=tmp_path / "whole")
    with breaking(monkeypatch, 5), pytest.raises(Broken):
        fit(problem, store=tmp_path / "s")
    four = tmp_path / "s.unfinished" / "covariances.0-4.safetensors"
    four.write_bytes(four.read_bytes()[:-1])
    again = fit(problem, store=tmp_path / "s")
    assert counts(again) == (11, 1)
    same(again, whole)


def test_a_finished_store_that_was_damaged_is_refused(problem: Problem, tmp_path: Path) -> None:
    fitted = tiny.fit(problem)
    score(fitted, store=tmp_path / "s")
    _chunks(tmp_path / "s")[2].write_bytes(b"")
    for look in (lambda: inflab.load(tmp_path / "s"), lambda: score(fitted, store=tmp_path / "s")):
        with pytest.raises(StoreError, match="is damaged: 1 of .* files"):
            look()


# --- a disk that takes no more ----------------------------------------------------------------------------------


@pytest.mark.parametrize("job", ["fit", "scores"])
def test_a_full_disk_costs_what_was_being_written(job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = tiny.table_problem(train=tiny.table(N * 40))
    fitted = tiny.fit(problem)

    def work(store: Path) -> Any:
        more: dict[str, Any] = {"shard_size": 80, "store": store}
        return fit(problem, **more) if job == "fit" else score(fitted, queries=asked(20), **more)

    whole = work(tmp_path / "whole")
    with breaking(monkeypatch, 3), pytest.raises(Broken):
        work(tmp_path / "s")
    with (
        longest_file(300 if job == "fit" else 3000),
        pytest.raises(StoreError, match="could not be written .*make room"),
    ):
        work(tmp_path / "s")
    again = work(tmp_path / "s")
    assert again.attrs["shards_resumed"] == 3
    if job == "fit":
        same(again, whole)
    else:
        assert np.array_equal(again["influence"], whole["influence"])


def test_a_read_only_disk_costs_what_was_being_written(
    broken_off: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(30, "Read-only file system")

    fitted = tiny.fit(problem)
    with monkeypatch.context() as patch:
        patch.setattr(rows.store, "write_region", refuse)
        with pytest.raises(StoreError, match="Read-only file system.*what was finished is kept"):
            score(fitted, store=broken_off)
    assert counts(score(fitted, store=broken_off)) == (2, 4)


# --- whose it is ------------------------------------------------------------------------------------------------


def _other_model() -> Problem:
    return tiny.table_problem(tiny.mlp(1))


def _other_corpus() -> Problem:
    return tiny.table_problem(train=tiny.table(N, seed=5))


OTHER_FITS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "model": (lambda s: fit(_other_model(), store=s), "model_fingerprint"),
    "corpus": (lambda s: fit(_other_corpus(), store=s), "corpus_fingerprint"),
    "method": (lambda s: fit(tiny.table_problem(), KFAC(), store=s), "method"),
    "damping": (lambda s: fit(tiny.table_problem(), EKFAC(damping=0.2), store=s), "settings.damping"),
    "layers": (lambda s: fit(tiny.table_problem(), EKFAC(layers="2"), store=s), "settings.layers"),
    "seed": (lambda s: fit(tiny.table_problem(), seed=1, store=s), "seed"),
    "shards": (lambda s: fit(tiny.table_problem(), shard_size=3, store=s), "shards"),
    "task": (lambda s: fit(Problem(tiny.mlp(), Classification(measurement="margin"), tiny.table()), store=s), "task"),
    "scores": (lambda s: score(tiny.fit(tiny.table_problem()), store=s), "what"),
}  # fmt: skip


@pytest.mark.parametrize("is_finished", [True, False], ids=["finished", "begun"])
@pytest.mark.parametrize(("other", "name"), OTHER_FITS.values(), ids=OTHER_FITS)
def test_the_fit_of_something_else_is_refused(
    other: Callable[[Path], Any],
    name: str,
    is_finished: bool,
    problem: Problem,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if is_finished:
        fit(problem, store=tmp_path / "s")
    else:
        with breaking(monkeypatch, 3), pytest.raises(Broken):
            fit(problem, store=tmp_path / "s")
    with pytest.raises(StoreError, match=f"was begun with {name} .*, this run has .*; go on with the same, or choose"):
        other(tmp_path / "s")
    assert counts(fit(problem, store=tmp_path / "s"))[1] == (12 if is_finished else 3)


OTHER_SCORES: dict[str, tuple[Callable[[Influence], dict[str, Any]], str]] = {
    "queries": (lambda f: {"queries": asked(3, 2)}, "queries_fingerprint"),
    "train": (lambda f: {"train": tiny.table(N, seed=5)}, "train_fingerprint"),
    "rank": (lambda f: {"rank": 1}, "rank"),
    "layers": (lambda f: {"by": "layer"}, "by_layer"),
    "damping": (lambda f: {"of": f.with_damping(1.0)}, "settings.damping"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "name"), OTHER_SCORES.values(), ids=OTHER_SCORES)
def test_scores_of_something_else_are_refused(change: Any, name: str, broken_off: Path, problem: Problem) -> None:
    fitted = tiny.fit(problem)
    more = change(fitted)
    with pytest.raises(StoreError, match=f"was begun with {name} .*, this run has "):
        score(more.pop("of", fitted), store=broken_off, **more)
    assert counts(score(fitted, store=broken_off)) == (2, 4)


def test_a_model_that_changed_meanwhile_is_refused(broken_off: Path, problem: Problem) -> None:
    with torch.no_grad():
        problem.model[0].weight[0, 0] += 1
    fitted = tiny.fit(problem)
    with pytest.raises(StoreError, match="was begun with model_fingerprint"):
        score(fitted, store=broken_off)


def test_what_save_wrote_is_not_written_over(problem: Problem, tmp_path: Path) -> None:
    fitted = tiny.fit(problem)
    fitted.save(tmp_path / "s")
    with pytest.raises(StoreError, match="was written by save; choose another path"):
        fit(problem, store=tmp_path / "s")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="exists and is no complete store"):
        fit(problem, store=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_store_that_was_moved_goes_on(broken_off: Path, problem: Problem, tmp_path: Path) -> None:
    shutil.move(broken_off.with_name("s.unfinished"), tmp_path / "t.unfinished")
    assert counts(score(tiny.fit(problem), store=tmp_path / "t")) == (2, 4)
