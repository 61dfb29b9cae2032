"""Where the front end's files are: ES modules and style sheets, beside the package or inside it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import inflab
from inflab.errors import MissingDependencyError

__all__ = ["asset_path", "module", "styles"]

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_DEFAULT = re.compile(r"^export default ", re.MULTILINE)


def asset_path(name: str) -> Path:
    """Find a file of the front end.

    Args:
        name: such as "explorer.js".

    Returns:
        `<package>/static/name` of an installed wheel, else `<package>/../widgets/name` of a source tree.

    Raises:
        MissingDependencyError: when neither is there.

    Example:
        >>> inflab.widgets.asset_path("explorer.js").name
        'explorer.js'
    """
    package = Path(inflab.__file__).parent
    places = [package / "static" / name, package.parent / "widgets" / name]
    for place in places:
        if place.is_file():
            return place
    raise MissingDependencyError(
        f"the widget file {name!r} is neither {places[0]} nor {places[1]}; install inflab again"
    )


@cache
def module(name: str) -> str:
    """A module with all that it imports, in one text: its host loads it from a blob, where relative imports fail.

    What is read is what runs: the files in the order of their imports, each once, without the import lines; only the
    last keeps its default export.

    Args:
        name: of the part, such as "explorer".

    Returns:
        The text of the module.
    """
    files = _with_imports(f"{name}.js")
    texts = [_IMPORT.sub("", asset_path(file).read_text("utf-8")) for file in files]
    return "\n".join([*(_DEFAULT.sub("void ", text) for text in texts[:-1]), texts[-1]])


@cache
def styles(name: str) -> str:
    """The style sheet of a part: the common one, then those of all modules that it imports, where they have one.

    Args:
        name: of the part, such as "explorer".

    Returns:
        The style sheet.
    """
    found = [asset_path("base.css")]
    for file in _with_imports(f"{name}.js"):
        try:
            found.append(asset_path(file.removesuffix(".js") + ".css"))
        except MissingDependencyError:  # not every module draws
            continue
    return "\n".join(path.read_text("utf-8") for path in found)


def _with_imports(file: str) -> list[str]:
    """The file and all that it imports, what is imported first."""
    order: dict[str, None] = {}

    def visit(file: str) -> None:
        if file in order:
            return
        for needed in _IMPORT.findall(asset_path(file).read_text("utf-8")):
            visit(needed)
        order[file] = None

    visit(file)
    return list(order)
