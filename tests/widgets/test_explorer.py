"""The Python half of the Explorer: state seen and set from Python, errors in words, a static twin, no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from traitlets import TraitError

import inflab
from inflab import Explorer
from inflab.errors import MissingDependencyError, SettingError
from inflab.widgets.assets import asset_path
from tests.widgets.synthetic import FakeInfluence, corpus, explanation

FIRST = {"query": "q0", "train": "t0", "rank": 1, "sign": "positive"}


@pytest.fixture
def influence() -> FakeInfluence:
    return FakeInfluence()


@pytest.fixture
def explorer(influence: FakeInfluence) -> Explorer:
    return Explorer(influence, corpus(4, "query"), k=5)


def test_it_opens_on_the_first_query_and_its_strongest_sequence(explorer: Explorer) -> None:
    assert explorer.position == 0
    assert explorer.selected == FIRST
    assert {name: explorer._tokens[name] for name in FIRST} == FIRST
    assert explorer.tokens is not None
    assert dict(explorer.tokens.sizes) == {"layer": 8, "token": 10}


def test_a_step_from_the_browser_brings_page_and_tokens(explorer: Explorer) -> None:
    explorer.set_state({"position": 2})
    assert explorer._page["query"]["id"] == "q2"
    assert explorer.selected["query"] == explorer._tokens["query"] == "q2"
    assert explorer.error == ""


def test_the_profile_is_drawn_when_asked_for_and_only_of_what_is_shown(explorer: Explorer) -> None:
    assert explorer._profile == {}
    explorer.set_state({"_asked": FIRST})
    assert {name: explorer._profile[name] for name in FIRST} == FIRST
    explorer.set_state({"position": 1})
    second = explorer.selected
    explorer.set_state({"_asked": {**second, "query": "q0"}})
    assert explorer._profile["query"] == "q0"
    explorer.set_state({"_asked": {**second, "turn": 1}})
    assert explorer._profile["query"] == "q1"
    # A question that came too late is asked again when the reader comes back.
    explorer.set_state({"position": 2, "_asked": {**second, "turn": 2}})
    explorer._profile = {}
    explorer.set_state({"position": 1})
    explorer.set_state({"_asked": {**second, "turn": 3}})
    assert explorer._profile["query"] == "q1"
    assert explorer.error == ""


def test_a_pick_from_the_browser_brings_its_tokens(explorer: Explorer, influence: FakeInfluence) -> None:
    item = explorer._page["negative"][2]
    explorer.set_state({"selected": {"query": "q0", "train": item["train"], "rank": 3, "sign": "negative"}})
    assert explorer._tokens["train"] == explorer.selected["train"] == item["train"]
    assert [len(ranks) for _, ranks in influence.attributed] == [5, 5]


def test_the_place_in_each_query_is_kept(explorer: Explorer, influence: FakeInfluence) -> None:
    explorer.selected = {"sign": "negative", "rank": 2}
    picked = explorer.selected
    explorer.position = 1
    assert explorer.selected["query"] == "q1"
    asked = len(influence.attributed)
    explorer.position = 0
    assert explorer.selected == picked == {**picked, "query": "q0", "sign": "negative", "rank": 2}
    assert explorer._tokens["train"] == picked["train"]
    assert len(influence.attributed) == asked


def test_picking_in_another_query_steps_there(explorer: Explorer) -> None:
    explorer.selected = {"query": "q3", "sign": "positive", "rank": 2}
    assert explorer.position == 3
    assert explorer._tokens["query"] == "q3"
    assert explorer._tokens["rank"] == explorer.selected["rank"] == 2


def test_a_step_overtakes_a_pick_that_travels_with_it(explorer: Explorer) -> None:
    explorer.set_state({"position": 1, "selected": {**FIRST, "rank": 2}})
    assert explorer.position == 1
    assert explorer.selected["query"] == "q1"
    assert explorer.error == ""


@pytest.mark.parametrize("position", [-1, 4, 100])
def test_a_position_outside_the_batch_is_refused(explorer: Explorer, position: int) -> None:
    with pytest.raises(TraitError, match="between 0 and 3"):
        explorer.position = position
    assert explorer.position == 0
    with pytest.raises(TraitError):
        Explorer(explanation(), position=position + 4 if position < 0 else position)
    explorer.set_state({"position": position})
    assert "between 0 and 3" in explorer.error
    assert explorer.position == 0


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"sign": "both", "rank": 1}, "sign='both'"),
        ({"sign": "positive", "rank": 6}, "rank=6"),
        ({"sign": "positive"}, "rank=None"),
        ({**FIRST, "query": "q9"}, "query='q9'"),
        ({**FIRST, "train": "t39"}, "train='t39'"),
    ],
)
def test_a_pick_that_is_not_there_is_refused(explorer: Explorer, wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(TraitError, match=words):
        explorer.selected = wanted
    assert explorer.selected == FIRST


def test_an_error_is_said_in_the_widget_which_goes_on(explorer: Explorer, influence: FakeInfluence) -> None:
    influence.fails = "layer h.0 gives NaN"
    explorer.set_state({"position": 1})
    assert explorer.error == "ValueError: layer h.0 gives NaN"
    assert explorer._page["query"]["id"] == "q1"
    explorer.set_state({"_asked": {**FIRST, "turn": 9}})  # a question from before the step hides nothing
    assert explorer.error == "ValueError: layer h.0 gives NaN"
    with pytest.raises(ValueError, match=r"h\.0"):
        explorer.position = 2
    influence.fails = ""
    explorer.set_state({"position": 3})
    assert explorer.error == ""
    assert explorer._tokens["query"] == "q3"


def test_a_query_without_lists_shows_nothing_and_breaks_nothing() -> None:
    def empty(node: xr.Dataset) -> xr.Dataset:
        return node.assign(influence=node["influence"] * float("nan")) if "rank" in node.dims else node

    explorer = Explorer(explanation(2).map_over_datasets(empty))
    explorer.set_state({"_asked": {}})
    assert (explorer.selected, explorer._tokens, explorer.tokens) == ({}, {}, None)
    assert "none" in explorer._repr_mimebundle_()[0]["text/html"]


def test_unknown_keywords_and_sources_raise() -> None:
    with pytest.raises(TypeError, match="colour"):
        Explorer(explanation(), colour="red")  # type: ignore[call-arg]
    with pytest.raises(SettingError):
        Explorer(3)


def test_first_paint_is_light() -> None:
    explorer = Explorer(explanation(100, 400, 100), k=100)
    state = explorer.get_state()
    front_end = sum(len(state.pop(name)) for name in ("_esm", "_css"))
    assert len(json.dumps(state)) < 100_000
    assert front_end < 60_000


def test_the_static_view_is_escaped_and_the_text_stable() -> None:
    def poison(node: xr.Dataset) -> xr.Dataset:
        if "text" not in node.coords:
            return node
        return node.assign_coords(
            text=node["text"] + "<script>alert(1)</script>", query_prompt=node["query_prompt"] + "<img src=x>"
        )

    data, _ = Explorer(explanation(30).map_over_datasets(poison))._repr_mimebundle_()
    assert data["text/plain"] == "Explorer(30 queries, 40 training sequences, k=10)"
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"]
    html = data["text/html"]
    assert "&lt;script&gt;" in html
    assert "&lt;img" in html
    assert "<script" not in html
    assert "<img" not in html
    assert "first 20 of 30 queries" in html
    assert html.count("<tr>") == 21


def test_every_trait_the_browser_sees_is_described() -> None:
    source = Path(sys.modules[Explorer.__module__].__file__ or "").read_text("utf-8")
    names = [name for name in ("position", "selected", "error", "_summary", "_page", "_tokens", "_profile", "_asked")]
    assert set(names) == set(Explorer.class_own_traits(sync=True)) - {"_esm", "_css"}
    for name in names:
        assert f"    {name} = traitlets." in source
        assert source.split(f"    {name} = traitlets.")[1].split("\n")[1].startswith('    """'), name


def test_a_missing_asset_names_both_places() -> None:
    with pytest.raises(MissingDependencyError) as error:
        asset_path("no-such.js")
    assert "static" in str(error.value)
    assert "widgets" in str(error.value)


def test_opening_saved_arrays_loads_no_torch(tmp_path: Path) -> None:
    inflab.save(explanation(), tmp_path / "saved.zarr")
    code = (
        "import sys, inflab; e = inflab.Explorer(inflab.load(sys.argv[1])); e.position = 2\n"
        "e.set_state({'_asked': e.selected}); assert e._profile['svg']\n"
        "print(e, sorted({'torch', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "saved.zarr")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Explorer(3 queries, 40 training sequences, k=10) []"
