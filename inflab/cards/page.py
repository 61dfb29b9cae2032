"""The look of a card, and its twin in text.

Styles stand at each element: a notebook has no place for a style sheet of ours, and GitHub and untrusted notebooks
remove styles and pictures altogether. What then remains, a heading and a list of names and values, still reads well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from inflab.cards.words import visible

__all__ = [
    "BLUE", "CODE", "ORANGE", "RULE", "SOFT", "Card", "Fact", "as_html", "as_text", "bar", "cell", "frame", "heading",
]  # fmt: skip

# Okabe and Ito's blue and vermilion, drawn towards the host's ink: darker on a light page, lighter on a dark one.
BLUE = "color-mix(in srgb, #0072b2 72%, currentColor)"
ORANGE = "color-mix(in srgb, #d55e00 78%, currentColor)"
SOFT = "color:color-mix(in srgb, currentColor 74%, transparent)"
RULE = "var(--jp-border-color2, var(--vscode-panel-border, color-mix(in srgb, currentColor 22%, transparent)))"
CODE = "font-family:var(--jp-code-font-family, ui-monospace, monospace);font-size:11.5px"
_CARD = (
    f"box-sizing:border-box;width:fit-content;max-width:100%;margin:2px 0;border:1px solid {RULE};border-radius:6px;"
    "overflow:hidden;font:13px/1.45 var(--jp-ui-font-family, system-ui, sans-serif);font-variant-numeric:tabular-nums"
)
_PLAIN = "float:none;display:block;width:auto;margin:0;padding:0"  # JupyterLab has ideas of its own about lists
_MOST_ITEMS = 8
_MOST_TEXT = 300


@dataclass(frozen=True)
class Fact:
    """One row of a card.

    Args:
        name: a word or two; with the text behind it, it reads as a phrase. Without one, the fact is for the twin alone.
        text: what is so.
        share: of a whole, drawn as a bar before the text.
        items: names that follow the text, each in a frame.
        line: of the plain-text twin it stands on; 0: on none, since the first line says it.
        is_code: whether the text is to be copied letter by letter.
    """

    name: str
    text: str
    share: float | None = None
    items: Sequence[str] = ()
    line: int = 0
    is_code: bool = False


@dataclass(frozen=True)
class Card:
    """Facts under a heading.

    Args:
        title: what the object is.
        name: which one, in its own words.
        about: a phrase beside it.
        facts: the rows.
        picture: safe HTML, made by `inflab.cards.spectrum`.
    """

    title: str
    name: str
    about: str
    facts: Sequence[Fact]
    picture: str = ""

    def html(self) -> str:
        """The card for a notebook."""
        rows = "".join(_row(fact) for fact in self.facts if fact.name)
        listed = (
            '<dl style="display:grid;grid-template-columns:max-content minmax(0, 1fr);gap:1px 12px;margin:0;'
            f'flex:1 1 300px;min-width:0">{rows}</dl>'
        )
        inside = (
            f'<div style="display:flex;flex-wrap:wrap;gap:8px 24px;padding:7px 12px 8px">{listed}{self.picture}</div>'
        )
        return frame(heading(self.title, self.name, self.about) + inside, f"{self.title} {self.name}")

    def text(self, first: str) -> str:
        """The same facts as plain text under a first line: at most two more lines."""
        lines: dict[int, list[str]] = {}
        for fact in self.facts:
            if fact.line:
                phrase = (fact.name, visible(fact.text, _MOST_TEXT), ", ".join(_items(fact.items)))
                lines.setdefault(fact.line, []).append(" ".join(filter(None, phrase)))
        return "\n  ".join([first, *("; ".join(lines[line]) for line in sorted(lines))])


def as_html(build: Callable[[], str], plain: Callable[[], str], instead: str = "") -> str:
    """What `build` makes. A display must not fail: an error shows what there is `instead`, or the plain text."""
    try:
        return build()
    except Exception as error:  # whatever it is: the object is sound, only its picture is not
        why = escape(visible(f"(no card: {type(error).__name__}: {error})", 200))
        return instead or f"<pre>{escape(plain())}\n{why}</pre>"


def as_text(build: Callable[[], str], first: str) -> str:
    """What `build` makes; where that fails, the first line alone."""
    try:
        return build()
    except Exception:  # a repr stands in error messages and debuggers: it must not hide what they are about
        return first


def frame(inside: str, label: str) -> str:
    """The border around a card."""
    named = escape(visible(label, 120))
    return f'<div class="inflab-card" role="group" aria-label="{named}" style="{_CARD}">{inside}</div>'


def heading(title: str, name: str, about: str) -> str:
    """The strip at the top of a card."""
    strip = (
        f"display:flex;flex-wrap:wrap;align-items:baseline;gap:0 10px;padding:4px 12px;border-bottom:1px solid {RULE};"
        "background:color-mix(in srgb, currentColor 5%, transparent)"
    )
    title, name, about = (escape(visible(text, _MOST_TEXT)) for text in (title, visible(name, 100), about))
    return (
        f'<div style="{strip}"><span style="{SOFT}">{title}</span> <b style="font-weight:600">{name}</b> '
        f'<span style="{SOFT}">{about}</span></div>'
    )


def bar(share: float, width: int = 72, *, is_solid: bool = True) -> str:
    """A bar of a share between 0 and 1; hatched when it is not solid. The number stands beside it in words."""
    filled = round(100 * min(max(share, 0.0), 1.0), 1) if share == share else 0.0
    fill = BLUE if is_solid else "repeating-linear-gradient(135deg, currentColor 0 1px, transparent 1px 4px)"
    track = "background:color-mix(in srgb, currentColor 14%, transparent)"
    return (
        f'<span aria-hidden="true" style="display:inline-block;width:{width}px;height:8px;margin-right:8px;'
        f'border-radius:2px;overflow:hidden;vertical-align:baseline;{track}">'
        f'<span style="display:block;width:{filled}%;height:100%;background:{fill}"></span></span>'
    )


def cell(inside: str, *, tag: str = "td", is_number: bool = False, wraps: bool = False) -> str:
    """A cell of a table; `inside` is safe HTML."""
    scope, space = ' scope="col"' if tag == "th" else "", "normal" if wraps else "nowrap"
    style = f"text-align:{'right' if is_number else 'left'};padding:2px 8px;vertical-align:baseline;white-space:{space}"
    return f'<{tag}{scope} style="{style}">{inside}</{tag}>'


def _row(fact: Fact) -> str:
    text = escape(visible(fact.text, _MOST_TEXT))
    if fact.is_code:
        text = f'<code style="{CODE};background:none;padding:0;color:inherit">{text}</code>'
    drawn = "" if fact.share is None else bar(fact.share)
    chips = "".join(
        f'<span style="border:1px solid {RULE};border-radius:3px;padding:0 5px;margin-left:4px;font-size:11.5px">'
        f"{escape(item)}</span> "
        for item in _items(fact.items)
    )
    inside = f"{drawn}{text} {chips}".strip()
    return (
        f'<dt style="{_PLAIN};font-weight:normal;text-align:left;{SOFT}">{escape(fact.name)}</dt>'
        f'<dd style="{_PLAIN};overflow-wrap:anywhere">{inside}</dd>'
    )


def _items(items: Sequence[str]) -> list[str]:
    shown = [visible(item, 32) for item in items[:_MOST_ITEMS]]
    return shown if len(items) <= _MOST_ITEMS else [*shown, f"and {len(items) - _MOST_ITEMS} more"]
