"""What is on disk is whole, of one identity, and written by one process; sums are added in an order of their own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inflab.errors import StoreError
from inflab.run import tree
from inflab.run.ledger import Ledger, opened, unfinished

IDENTITY = {"what": "fit", "settings": {"damping": 0.1}, "seed": 0, "shards": 4}


@contextmanager
def begun(path: Path, **changed: Any) -> Iterator[Ledger]:
    with opened(path, IDENTITY | changed, {"memory": 5}, 0) as ledger:
        yield ledger


def part(value: float = 1.0) -> dict[str, np.ndarray]:
    return {"a/sum": np.full((3, 2), value), "a/tokens": np.array(7)}


# --- parts ------------------------------------------------------------------------------------------------------


def test_a_part_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    kept = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array(3), "c": np.float32([1e-45])}
    with begun(tmp_path / "s") as ledger:
        ledger.keep("one", kept)
        found = ledger.read("one")
    assert found is not None
    for name, value in kept.items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value)
    assert ledger.names() == {"one"}


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "longer": lambda p: p.write_bytes(p.read_bytes() + b"x"),
    "empty": lambda p: p.write_bytes(b""),
    "header cut": lambda p: p.write_bytes(p.read_bytes()[:20]),
    "other bytes": lambda p: p.write_bytes(b"\xff" * 100),
    "gone": lambda p: p.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_part_is_one_that_is_not_there(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    with begun(tmp_path / "s") as ledger:
        for name in ("one", "two"):
            ledger.keep(name, part())
            damage(ledger.folder / f"{name}.safetensors")
        assert not ledger.is_whole("one")
        assert ledger.read("two") is None
        assert ledger.names() == set()


def test_a_mark_knows_the_length_of_its_files(tmp_path: Path) -> None:
    with begun(tmp_path / "s") as ledger:
        ledger.arrays.mkdir()
        for name in ("a", "b", "c"):
            (ledger.arrays / name).write_bytes(b"1234")
            ledger.mark(name, [ledger.arrays / name])
        (ledger.arrays / "a").write_bytes(b"123")
        (ledger.arrays / "b").unlink()
        assert ledger.marked() == {"c"}
        (ledger.folder / "c.mark.json").write_text('{"c": ')
        assert ledger.marked() == set()


# --- whose it is ------------------------------------------------------------------------------------------------

OTHERS = {
    "what": {"what": "scores"},
    "settings.damping": {"settings": {"damping": 0.2}},
    "seed": {"seed": 1},
    "shards": {"shards": 5},
    "more": {"more": "x"},
}


@pytest.mark.parametrize(("name", "changed"), OTHERS.items(), ids=OTHERS)
def test_another_identity_is_refused_with_both_values(name: str, changed: dict[str, Any], tmp_path: Path) -> None:
    with begun(tmp_path / "s") as ledger:
        ledger.keep("one", part())
    before = {path: path.read_bytes() for path in ledger.folder.iterdir()}
    with pytest.raises(StoreError, match=f"was begun with {name} .*, this run has .*; go on with the same, or"):
        with begun(tmp_path / "s", **changed):
            pass
    assert {path: path.read_bytes() for path in ledger.folder.iterdir()} == before


def test_what_was_settled_first_holds(tmp_path: Path) -> None:
    with begun(tmp_path / "s"):
        pass
    with opened(tmp_path / "s", IDENTITY, {"memory": 9}, 0) as ledger:
        assert ledger.settled == {"memory": 5}


def test_a_broken_ledger_says_what_to_do(tmp_path: Path) -> None:
    with begun(tmp_path / "s") as ledger:
        (ledger.folder / "ledger.json").write_text("{")
    with pytest.raises(StoreError, match="has no readable ledger .*; remove the folder and begin again"):
        with begun(tmp_path / "s"):
            pass


def test_nothing_unfinished_where_nothing_was_begun(tmp_path: Path) -> None:
    assert unfinished(tmp_path / "s") is None
    with begun(tmp_path / "s"):
        found = unfinished(tmp_path / "s")
    assert found is not None
    assert found[0]["identity"] == IDENTITY


def test_a_path_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(StoreError, match="exists and is no complete store; choose another path, or remove it"):
        with begun(tmp_path / "s"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


# --- two writers ------------------------------------------------------------------------------------------------


def test_two_writers_in_one_process(tmp_path: Path) -> None:
    with begun(tmp_path / "s") as ledger:
        ledger.keep("one", part())
        with pytest.raises(StoreError, match=f"store='{tmp_path}/s' is being written by another process; wait"):
            with begun(tmp_path / "s"):
                pass
        assert ledger.read("one") is not None
    with begun(tmp_path / "s") as ledger:
        assert ledger.read("one") is not None


HOLD = """
import sys, pathlib
from inflab.run.ledger import opened
with opened(pathlib.Path(sys.argv[1]), {"what": "fit"}, {"memory": 7}, 0):
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_a_writer_that_is_killed_gives_the_store_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "s")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"begun\n"
        with pytest.raises(StoreError, match="is being written by another process"):
            with opened(tmp_path / "s", {"what": "fit"}, {}, 0):
                pass
        other.kill()
    with opened(tmp_path / "s", {"what": "fit"}, {}, 0) as ledger:
        assert ledger.settled == {"memory": 7}


# --- a disk that takes no more ----------------------------------------------------------------------------------


@contextmanager
def longest_file(n_bytes: int) -> Iterator[None]:
    """Files cannot grow beyond this: writing on fails as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_only_the_part_that_was_being_written(tmp_path: Path) -> None:
    with begun(tmp_path / "s") as ledger:
        ledger.keep("one", part())
        with longest_file(1000), pytest.raises(StoreError, match="could not be written .*make room.*call again"):
            ledger.keep("two", {"a": np.zeros(1000)})
        assert ledger.names() == {"one"}
        assert not list(ledger.folder.glob("*partial*"))
        ledger.keep("two", {"a": np.zeros(1000)})
        assert ledger.names() == {"one", "two"}


def test_too_little_room_is_known_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"needs [\d,]+ bytes at most, [\d,]+ are free; choose another disk"):
        with opened(tmp_path / "s", IDENTITY, {}, 10**18):
            pass


@pytest.mark.parametrize("place", ["file/s", "/proc/inflab/s"])
def test_where_nothing_can_be_written(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="could not be written .*make the folder writable"):
        with begun(tmp_path / place):
            pass


# --- the tree ---------------------------------------------------------------------------------------------------


@given(count=st.integers(1, 40))
def test_the_tree_covers_every_shard_once(count: int) -> None:
    def leaves(span: tree.Span) -> list[int]:
        if span[1] - span[0] == 1:
            return [span[0]]
        left, right = tree.halves(span)
        size = left[1] - left[0]
        assert size & (size - 1) == 0
        assert size >= right[1] - right[0] > 0
        return leaves(left) + leaves(right)

    assert leaves((0, count)) == list(range(count))


@given(st.data())
def test_the_total_is_the_same_bits_in_any_order_and_after_any_loss(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    shards = [{"x": np.random.default_rng(i).standard_normal(5).astype(np.float32)} for i in range(count)]
    order = data.draw(st.permutations(range(count)))
    lost = data.draw(st.integers(0, count))
    with tempfile.TemporaryDirectory() as folder:
        with begun(Path(folder) / "s") as ledger:
            for step, index in enumerate(order):
                tree.keep(ledger, "sum", count, index, shards[index])
                assert len(ledger.names()) <= step + 1
                if step == lost and ledger.names():
                    name = sorted(ledger.names())[0]
                    (ledger.folder / f"{name}.safetensors").write_bytes(b"broken")
            for index in tree.missing(ledger, "sum", count):
                tree.keep(ledger, "sum", count, index, shards[index])
            assert tree.missing(ledger, "sum", count) == []
            found = tree.total(ledger, "sum", count)["x"]

    def expected(span: tree.Span) -> np.ndarray:
        if span[1] - span[0] == 1:
            return shards[span[0]]["x"]
        left, right = tree.halves(span)
        return np.asarray(expected(left) + expected(right))

    assert np.array_equal(found, expected((0, count)))


def test_few_sums_stand_on_the_disk_at_a_time(tmp_path: Path) -> None:
    with begun(tmp_path / "s") as ledger:
        for index in range(64):
            tree.keep(ledger, "sum", 64, index, part())
            assert len(ledger.names()) == (index + 1).bit_count()
        assert tree.total(ledger, "sum", 64)["a/sum"][0, 0] == 64


def test_both_halves_left_by_two_processes_are_added_later(tmp_path: Path) -> None:
    with begun(tmp_path / "s") as ledger:
        ledger.keep("sum.0-1", part(1))
        ledger.keep("sum.1-2", part(2))
        ledger.keep("sum.2-3", part(4))
        assert tree.missing(ledger, "sum", 3) == []
        assert tree.total(ledger, "sum", 3)["a/sum"][0, 0] == 7
        assert ledger.names() == {"sum.0-3"}
        assert json.loads((ledger.folder / "ledger.json").read_text())["identity"] == IDENTITY


def test_halves_left_behind_by_their_sum_are_not_added_again(tmp_path: Path) -> None:
    with begun(tmp_path / "s") as ledger:
        ledger.keep("sum.0-2", part(3))
        ledger.keep("sum.0-1", part(1))
        assert tree.missing(ledger, "sum", 4) == [2, 3]
        assert ledger.names() == {"sum.0-2"}
