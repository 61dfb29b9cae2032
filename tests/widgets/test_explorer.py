"""The Python half of the Explorer: state seen and set from Python, errors in words, a static twin, no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from torch import nn
from traitlets import TraitError

import inflab
from inflab import Explorer
from inflab.errors import InflabError, MissingDependencyError, SettingError
from inflab.widgets.assets import asset_path
from tests.widgets.synthetic import FakeInfluence, corpus, explanation

FIRST = {"query": "q0", "train": "t0", "rank": 1, "sign": "positive"}


@pytest.fixture
def influence() -> FakeInfluence:
    return FakeInfluence()


@pytest.fixture
def explorer(influence: FakeInfluence) -> Explorer:
    return Explorer(influence, corpus(4, "query"), k=5)


def _asked(explorer: Explorer, kind: str, **args: Any) -> Any:
    """Ask as the browser does; the answer, or the error in words."""
    said: list[dict[str, Any]] = []
    explorer.send = lambda content, buffers=None: said.append(content)  # type: ignore[method-assign]
    explorer._on_question(explorer, {"id": "1", "kind": kind, "args": args}, [])
    json.dumps(said, allow_nan=False)
    return said[-1].get("answer", said[-1].get("error"))


def test_it_opens_on_the_first_query_and_its_strongest_sequence(explorer: Explorer) -> None:
    assert explorer.position == 0
    assert explorer.selected == FIRST
    assert explorer._item["train"] == "t0"
    assert explorer._page["query"]["completion"] == " Zorald Pfaff."
    assert explorer.tokens is not None
    assert dict(explorer.tokens.sizes) == {"layer": 8, "token": 10}


def test_a_step_from_the_browser_brings_the_page_and_nothing_dear(explorer: Explorer, influence: FakeInfluence) -> None:
    explorer.set_state({"position": 2})
    assert explorer._page["query"]["id"] == "q2"
    assert explorer.selected["query"] == "q2"
    assert explorer.error == ""
    assert (influence.scored, influence.attributed) == (1, [])


def test_a_pick_from_the_browser_says_what_was_picked(explorer: Explorer, influence: FakeInfluence) -> None:
    item = explorer._page["negative"]["items"][2]
    explorer.set_state({"selected": {"query": "q0", "train": item["train"], "rank": 3, "sign": "negative"}})
    assert explorer._item == item
    sent = _asked(explorer, "tokens.view", position=0, train=item["train"])
    assert sum(sent["effect"]) == pytest.approx(item["effect"], rel=1e-4)
    _asked(explorer, "tokens.view", position=0, train=explorer._page["negative"]["items"][0]["train"])
    assert [len(ranks) for _, ranks in influence.attributed] == [5]  # the list at once, and once


def test_the_place_in_each_query_is_kept(explorer: Explorer) -> None:
    explorer.selected = {"sign": "negative", "rank": 2}
    picked = explorer.selected
    explorer.position = 1
    assert explorer.selected["query"] == "q1"
    explorer.position = 0
    assert explorer.selected == picked == {**picked, "query": "q0", "sign": "negative", "rank": 2}


def test_picking_in_another_query_steps_there(explorer: Explorer) -> None:
    explorer.selected = {"query": "q3", "sign": "positive", "rank": 2}
    assert explorer.position == 3
    assert explorer._page["query"]["id"] == "q3"
    assert explorer._item["rank"] == explorer.selected["rank"] == 2


def test_ranks_go_through_the_whole_training_set(explorer: Explorer) -> None:
    total = explorer._page["positive"]["total"] + explorer._page["negative"]["total"]
    assert total == 40
    explorer.selected = {"sign": "positive", "rank": explorer._page["positive"]["total"]}
    with pytest.raises(TraitError, match="rank="):
        explorer.selected = {"sign": "positive", "rank": explorer._page["positive"]["total"] + 1}


def test_layers_rank_again_and_keep_a_place_of_their_own(explorer: Explorer) -> None:
    layers = explorer._source.by_layer(0)["layer"].to_numpy().tolist()[:2]
    explorer.layers = layers
    value = explorer._source.by_layer(0).sel(layer=layers).sum("layer")
    order = value["train"].to_numpy()[np.argsort(-value.to_numpy(), kind="stable")]
    assert [item["train"] for item in explorer._page["positive"]["items"][:3]] == order[:3].tolist()
    explorer.selected = {"sign": "positive", "rank": 3}
    assert explorer.selected["train"] == order[2]
    explorer.layers = []
    assert explorer.selected == FIRST
    saved = Explorer(explanation(2))
    with pytest.raises(TraitError, match="explain"):
        saved.layers = layers


def test_a_question_that_was_asked_joins_the_batch(influence: FakeInfluence) -> None:
    explorer = Explorer(influence, corpus(4, "query"), k=5, compare=FakeInfluence(seed=5))
    assert _asked(explorer, "tail.query", position=0)["words"]
    asked = corpus(7, "query").isel(query=[5, 6])
    scores = influence.score(asked)
    difference = scores.isel(query=[0]).copy()
    difference["influence"] = scores["influence"].isel(query=[0]) - scores["influence"].isel(query=1, drop=True)
    position = explorer._on_new(asked, difference.assign_coords(query=np.array(["ask-1"], dtype=object)), "pass")
    assert (position, explorer._summary["n_query"]) == (4, 5)
    explorer.position = 4
    assert (explorer._page["query"]["id"], explorer._page["contrast"]) == ("ask-1", True)
    best = explorer._item
    assert best["effect"] == pytest.approx(float(difference["influence"].max()) / 40, rel=1e-5)
    assert explorer.tokens is not None
    assert _asked(explorer, "tail.query", position=4)["words"]
    assert "asked these queries alone" in _asked(explorer, "compare.query", position=4, k=10, sign="positive")
    np.testing.assert_allclose(
        explorer._source.by_layer(4).sum("layer"), difference["influence"].isel(query=0), rtol=1e-4, atol=1e-4
    )


def test_another_influence_beside_this_one(influence: FakeInfluence) -> None:
    explorer = Explorer(influence, corpus(3, "query"), compare=FakeInfluence(seed=5), names=("one", "two"))
    assert "compare" in explorer._summary["can"]
    assert _asked(explorer, "compare.query", position=1, k=10, sign="positive")
    assert "compare" not in Explorer(influence, corpus(3, "query"))._summary["can"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"compare": 3}, "compare is a int"),
        ({"compare": xr.Dataset({"other": ("query", [1.0])})}, "influence"),
        ({"compare": FakeInfluence(seed=5), "names": ("one", "one")}, "two different names"),
        ({"compare": FakeInfluence(seed=5), "names": 3}, "two different names"),
        ({"recipe": "adam"}, "recipe is a str"),
        ({"recipe": nn.Linear(1, 1)}, "recipe is a Linear"),
        ({"tokenizer": "gpt2"}, "tokenizer is a str"),
        ({"index": "index.zarr"}, "index is a str"),
        ({"k": 0}, "k=0"),
    ],
    ids=["number", "no scores", "same names", "no names", "recipe", "model", "tokenizer", "index", "k"],
)
def test_what_cannot_be_used_is_refused_before_anything_is_scored(
    given: dict[str, Any], says: str, influence: FakeInfluence
) -> None:
    with pytest.raises(InflabError, match=says):
        Explorer(influence, corpus(3, "query"), **given)
    assert influence.scored == 0
    assert not isinstance(given.get("compare"), FakeInfluence) or given["compare"].scored == 0


def test_a_method_that_predicts_nothing_is_shown_in_its_own_units() -> None:
    class Similar(FakeInfluence):
        offers: frozenset[str] = frozenset()

        def score(self, queries: xr.Dataset, **settings: Any) -> xr.Dataset:
            found = super().score(queries, **settings)
            found["influence"].attrs |= {"units": "1", "long_name": "similarity"}
            return found

    explorer = Explorer(Similar(), corpus(2, "query"))
    assert explorer._summary["units"] == "1"
    assert {"nats", "tokens", "pairs", "layers"} & set(explorer._summary["can"]) == set()
    assert explorer._item["effect"] == pytest.approx(60)  # as it is, not per copy
    assert "no tokens" in _asked(explorer, "tokens.view", position=0, train="t0")


def test_an_error_is_said_and_the_widget_goes_on(explorer: Explorer, influence: FakeInfluence) -> None:
    influence.fails = "layer h.0 gives NaN"
    explorer.set_state({"position": 1})
    assert _asked(explorer, "tokens.view", position=1, train="t1") == "ValueError: layer h.0 gives NaN"
    assert explorer.error == "ValueError: layer h.0 gives NaN"
    assert _asked(explorer, "no.such") == explorer.error == "LookupError: nobody answers 'no.such'"
    influence.fails = ""
    explorer.set_state({"position": 3})
    assert explorer.error == ""
    assert _asked(explorer, "tokens.view", position=3, train="t3")["text"]


def test_a_query_without_lists_shows_nothing_and_breaks_nothing() -> None:
    def empty(node: xr.Dataset) -> xr.Dataset:
        return node.assign(influence=node["influence"] * float("nan")) if "influence" in node else node

    explorer = Explorer(explanation(2).map_over_datasets(empty))
    assert (explorer.selected, explorer._item, explorer.tokens) == ({}, {}, None)
    assert "none" in explorer._repr_mimebundle_()[0]["text/html"]


def test_first_paint_is_light() -> None:
    explorer = Explorer(explanation(100, 400, 100), k=100)
    state = explorer.get_state()
    front_end = sum(len(state.pop(name)) for name in ("_esm", "_css"))
    assert len(json.dumps(state)) < 100_000
    assert front_end < 350_000


def test_every_trait_the_browser_sees_is_described() -> None:
    source = Path(sys.modules[Explorer.__module__].__file__ or "").read_text("utf-8")
    for name in set(Explorer.class_own_traits(sync=True)) - {"_esm", "_css"}:
        assert f"    {name} = traitlets." in source
        assert source.split(f"    {name} = traitlets.")[1].split("\n")[1].startswith('    """'), name


def test_opening_saved_arrays_loads_no_torch(tmp_path: Path) -> None:
    inflab.save(explanation(), tmp_path / "saved.zarr")
    code = (
        "import sys, inflab; e = inflab.Explorer(inflab.load(sys.argv[1])); e.position = 2\n"
        "assert e.tokens is not None; e.to_html(sys.argv[2], progress=False)\n"
        "print(e, sorted({'torch', 'transformers', 'sklearn', 'altair'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "saved.zarr"), str(tmp_path / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Explorer(3 queries, 40 training sequences, k=10) []"


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
        ({"sign": "positive", "rank": 41}, "rank=41"),
        ({"sign": "positive"}, "rank=None"),
        ({**FIRST, "query": "q9"}, "query='q9'"),
        ({**FIRST, "train": "t39"}, "train='t39'"),
    ],
)
def test_a_pick_that_is_not_there_is_refused(explorer: Explorer, wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(TraitError, match=words):
        explorer.selected = wanted
    assert explorer.selected == FIRST


def test_unknown_keywords_and_sources_raise() -> None:
    with pytest.raises(TypeError, match="colour"):
        Explorer(explanation(), colour="red")  # type: ignore[call-arg]
    with pytest.raises(SettingError):
        Explorer(3)


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


def test_a_missing_asset_names_both_places() -> None:
    with pytest.raises(MissingDependencyError) as error:
        asset_path("no-such.js")
    assert "static" in str(error.value)
    assert "widgets" in str(error.value)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"index": "index.zarr"}, "index is a str; give the Index itself"),
        ({"tokenizer": "gpt2"}, "tokenizer is a str; give the model's tokenizer itself"),
    ],
)
def test_what_is_only_named_is_refused_before_any_work(influence: FakeInfluence, more: Any, says: str) -> None:
    before = influence.scored
    with pytest.raises(SettingError, match=says):
        Explorer(influence, corpus(2, "query"), **more)
    assert influence.scored == before
