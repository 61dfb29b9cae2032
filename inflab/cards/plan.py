"""The table of a plan: per step its share of the work, the route taken and why; totals in words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import Any

from inflab.cards.page import SOFT, bar, cell
from inflab.cards.tables import Shown, table_html
from inflab.cards.words import count, duration, number, percent, size, visible

__all__ = ["PlanTable"]

_MOST = 3  # routes or reasons told in one cell


class PlanTable(Shown):
    """What `plan` gives: one row a route of a step and a layer. The card is about whole plans, not selections."""

    needed = frozenset({"step", "layer", "route", "flops", "bytes", "share", "seconds", "taken", "why"})

    def has_card(self) -> bool:
        """Whether all routes that are taken are here."""
        return super().has_card() and math.isclose(float(self["share"].sum()), 1.0, rel_tol=1e-6)

    def totals(self) -> str:
        """Time, operations, passes and peak memory."""
        return f"{self.waits()}: {self.work()}"

    def waits(self) -> str:
        """Seconds in words, "" when no rate is known."""
        seconds = self.attrs["seconds"]
        return "time unknown" if math.isnan(seconds) else f"about {duration(seconds)}"

    def work(self) -> str:
        """Operations, passes, and memory."""
        at = self.attrs
        passes = f"{at['passes']:.3g} pass{'' if at['passes'] == 1 else 'es'}"
        return (
            f"{number(at['flops'])} operations, {passes} over {count(at['examples'], 'example')} of "
            f"{number(at['tokens'])} tokens, {count(at['batch_size'])} at a time; {self.memory()}"
        )

    def memory(self) -> str:
        """Peak memory against the budget."""
        at = self.attrs
        held, budget = float(at["bytes"]), float(at.get("memory", math.nan))
        if math.isnan(budget):
            return f"peak memory {size(held)}"
        fits = "within" if held <= budget else "OVER"
        return f"peak memory {size(held)}, {fits} the budget of {size(budget)}"

    def card(self) -> str:
        """One row a step, summed over layers."""
        heads = ["step", "share of the work", "operations", "time", "holds", "route taken", "instead of"]
        rows = []
        for step, routes in _by(self.itertuples(index=False), "step").items():
            taken = [route for route in routes if route.taken]
            flops, share, held = (sum(getattr(route, name) for route in taken) for name in ("flops", "share", "bytes"))
            rows.append([
                cell(escape(visible(step))),
                cell(bar(share, 56) + percent(share)),
                cell(number(flops) if flops else "–", is_number=True),
                cell(duration(sum(route.seconds for route in taken)), is_number=True),
                cell(size(held) if held else "–", is_number=True),
                cell(_taken(taken), wraps=True),
                cell(f'<span style="{SOFT}">{_others(routes, taken)}</span>', wraps=True),
            ])
        what = "Plan of scoring" if "query_block" in self.attrs else "Plan of a fit"
        return table_html((what, self.waits(), self.work()), heads, rows, {"operations", "time", "holds"})


def _by(rows: Iterable[Any], name: str) -> dict[str, list[Any]]:
    """Rows by what they have in a column, in the order they come; pandas takes ten times as long for so few."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(getattr(row, name), []).append(row)
    return found


def _taken(taken: list[Any]) -> str:
    """The routes taken, for how many layers, and why."""
    told, layers = [], {row.layer for row in taken}
    for route, rows in _by(taken, "route").items():
        where = f" in {count(len(rows), 'layer')}" if len(rows) < len(layers) else ""
        reasons = "; ".join(list(_by((row for row in rows if row.why), "why"))[:_MOST])
        why = f'<span style="{SOFT}"> ({escape(visible(reasons, 120))})</span>' if reasons else ""
        told.append(f"{escape(visible(route, 80))}{where}{why}")
    return _list(told)


def _others(routes: list[Any], taken: list[Any]) -> str:
    """The routes not taken, and how their operations compare over the same layers."""
    told = []
    for route, rows in _by((row for row in routes if not row.taken), "route").items():
        layers = {row.layer for row in rows}
        own = sum(row.flops for row in taken if row.layer in layers)
        times = f": {sum(row.flops for row in rows) / own:.2g}× the operations" if own else ""
        told.append(f"{escape(visible(route, 80))}{times}")
    return _list(told)


def _list(told: list[str]) -> str:
    more = [f"and {len(told) - _MOST} more"] if len(told) > _MOST else []
    return "<br>".join([*told[:_MOST], *more])
