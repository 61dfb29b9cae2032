"""The front end is typed and asks nobody: checked by TypeScript's compiler where there is one, and by reading it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from inflab.widgets.assets import module, styles

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "widgets").glob("*.js"))
LOCAL_TSC = ROOT / "node_modules" / ".bin" / "tsc"
TSC = str(LOCAL_TSC) if LOCAL_TSC.exists() else shutil.which("tsc")
OPTIONS = (
    "--allowJs --checkJs --noEmit --strict --target es2022 --lib es2022,dom,dom.iterable --module es2022 "
    "--moduleResolution bundler"
).split()


@pytest.mark.skipif(TSC is None, reason="tsc is not installed: npm install --no-save typescript")
@pytest.mark.parametrize("module", [m for m in MODULES if ".test." not in m.name], ids=lambda module: module.name)
def test_types_agree(module: Path) -> None:
    assert TSC is not None
    done = subprocess.run([TSC, *OPTIONS, str(module)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_modules_say_that_they_are_checked(module: Path) -> None:
    assert module.read_text("utf-8").startswith("// @ts-check\n")


@pytest.mark.parametrize(
    "name",
    [m.stem for m in MODULES if "export default widget(" in m.read_text("utf-8")]
    + [
        "explorer",
        "offline",
    ],
)
def test_what_the_browser_gets_is_one_text_that_asks_nobody_and_writes_no_markup(name: str, tmp_path: Path) -> None:
    asks = r"https?://(?!www\.w3\.org/)|@import|^import |\bfetch\([\"'`]|XMLHttpRequest|sendBeacon|new WebSocket"
    writes_markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    for text in (module(name), styles(name)):
        assert not re.findall(f"{asks}|{writes_markup}", text, flags=re.MULTILINE)
    assert module(name).count("export default ") == (name != "offline")
    node = shutil.which("node")
    if node is not None:  # names that two files share would be a syntax error
        (tmp_path / "joined.mjs").write_text(module(name), encoding="utf-8")
        done = subprocess.run([node, "--check", str(tmp_path / "joined.mjs")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_modules_are_short() -> None:
    long = {path.name: n for path in MODULES if (n := len(path.read_text("utf-8").splitlines())) > 320}
    assert long == {}
