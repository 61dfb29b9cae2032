"""The front end is typed and asks nobody: checked by TypeScript's compiler where there is one, and by reading it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from inflab.widgets.assets import asset_path

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "widgets").glob("*.js"))
LOCAL_TSC = ROOT / "node_modules" / ".bin" / "tsc"
TSC = str(LOCAL_TSC) if LOCAL_TSC.exists() else shutil.which("tsc")
OPTIONS = "--allowJs --checkJs --noEmit --strict --target es2022 --lib es2022,dom,dom.iterable --module es2022".split()


@pytest.mark.skipif(TSC is None, reason="tsc is not installed: npm install --no-save typescript")
@pytest.mark.parametrize("module", [m for m in MODULES if ".test." not in m.name], ids=lambda module: module.name)
def test_types_agree(module: Path) -> None:
    assert TSC is not None
    done = subprocess.run([TSC, *OPTIONS, str(module)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_modules_say_that_they_are_checked(module: Path) -> None:
    assert module.read_text("utf-8").startswith("// @ts-check\n")


@pytest.mark.parametrize("name", ["explorer.js", "explorer.css"])
def test_what_the_browser_gets_is_self_contained_and_never_writes_markup(name: str) -> None:
    text = asset_path(name).read_text("utf-8")
    asks = r"https?://|@import|^import |\bfetch\(|XMLHttpRequest"
    writes_markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\("
    assert not re.findall(f"{asks}|{writes_markup}", text, flags=re.MULTILINE)
