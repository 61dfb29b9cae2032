"""Where the front end's files are: ES modules and style sheets, beside the package or inside it."""

from __future__ import annotations

from pathlib import Path

import inflab
from inflab.errors import MissingDependencyError

__all__ = ["asset_path"]


def asset_path(name: str) -> Path:
    """Find a file of the front end.

    Args:
        name: such as "explorer.js".

    Returns:
        `<package>/static/name` of an installed wheel, else `<package>/../widgets/name` of a source tree.

    Raises:
        MissingDependencyError: when neither is there.
    """
    package = Path(inflab.__file__).parent
    places = [package / "static" / name, package.parent / "widgets" / name]
    for place in places:
        if place.is_file():
            return place
    raise MissingDependencyError(
        f"the widget file {name!r} is neither {places[0]} nor {places[1]}; install inflab again"
    )
