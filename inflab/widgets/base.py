"""What every widget shares: its files, errors in words, and questions that the browser asks.

The browser asks `{id, kind, args}` and is told `{id, progress}` any number of times, then `{id, answer}` or
`{id, error}`. Who answers a kind is a plain function, so that the parts of the Explorer can be put together and tested
without a browser.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import anywidget
import traitlets

from inflab.widgets.assets import module, styles
from inflab.widgets.payload import sendable

__all__ = ["Answers", "Part", "Progress", "in_words"]

#: Kind of question -> what answers it: called with its arguments by name, and with `progress` if it takes it.
Answers = Mapping[str, Callable[..., Any]]


class Progress:
    """Tells the browser how far an answer is.

    Args:
        tell: sends a message.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None] = lambda message: None) -> None:
        self._tell = tell

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say what is being done; `total=0` when the end is not known."""
        self._tell({"what": what, "done": int(done), "total": int(total)})


class Part(anywidget.AnyWidget):
    """A widget of one part: `widgets/<part>.js`.

    Args:
        answers: what the browser may ask.
        **traits: first values.
    """

    error = traitlets.Unicode("").tag(sync=True)
    """What went wrong last, in words, as shown in the widget. `str`, "" when nothing did."""

    part: ClassVar[str] = ""

    def __init__(self, answers: Answers | None = None, **traits: Any) -> None:
        self._esm = module(self.part)
        self._css = styles(self.part)
        self._answers: dict[str, Callable[..., Any]] = dict(answers or {})
        self._failed = ""
        super().__init__(**traits)
        self.on_msg(self._on_question)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take a change made in the browser. What fails is said in the widget: there, no cell shows a traceback."""
        try:
            super().set_state(sync_data)
        except Exception as error:  # whatever it is, the reader must learn of it, and the widget go on
            self.error = in_words(error)

    def _on_question(self, widget: Any, content: Any, buffers: Any) -> None:
        if not isinstance(content, dict) or "kind" not in content:
            return
        number, kind, args = content.get("id"), content["kind"], content.get("args") or {}
        try:
            answer = self._answers.get(kind)
            if answer is None:
                raise LookupError(f"nobody answers {kind!r}")
            if "progress" in inspect.signature(answer).parameters:
                args = {**args, "progress": Progress(lambda message: self.send({"id": number, "progress": message}))}
            self.send({"id": number, "answer": sendable(answer(**args))})
            if kind == self._failed:  # what had failed goes again; what others said stays
                self._failed, self.error = "", ""
        except KeyboardInterrupt:
            self.send({"id": number, "error": "interrupted"})
        except Exception as error:
            self._failed, self.error = kind, in_words(error)
            self.send({"id": number, "error": self.error})


def in_words(error: BaseException) -> str:
    """What went wrong, for a reader who sees no traceback."""
    return f"{type(error).__name__}: {error}"
