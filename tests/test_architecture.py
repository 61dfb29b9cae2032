"""The house plan holds: arrows run one way, readers of arrays load no torch, nothing is skipped silently."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = sorted((ROOT / "inflab").rglob("*.py"))


def _run(*command: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)


def test_imports_follow_the_arrows_of_the_house_plan() -> None:
    done = _run(
        sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("room", ["", ".schema", ".store", ".select", ".plot", ".widgets"])
def test_what_only_reads_arrays_loads_no_torch(room: str) -> None:
    code = f"import sys, inflab{room}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    done = _run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    code = "import inflab; print([name for name in inflab.__all__ if getattr(inflab, name, None) is None])"
    done = _run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def _calls_at_import(tree: ast.Module) -> set[str]:
    """Dotted names of what a module calls while it is imported: everything outside function bodies."""
    found, todo = set(), list(ast.iter_child_nodes(tree))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
        todo += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_import_sets_nothing_global(path: Path) -> None:
    settings = {
        "alt.renderers.enable",
        "alt.theme.enable",
        "logging.basicConfig",
        "open",
        "print",
        "torch.manual_seed",
        "torch.set_default_dtype",
        "torch.set_num_threads",
        "warnings.filterwarnings",
        "warnings.simplefilter",
        "xr.set_options",
    }
    assert not _calls_at_import(ast.parse(path.read_text("utf-8"))) & settings


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_can_be_read_in_a_sitting(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 320


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        "import pytest\ndef test(): pytest.skip('absent')",
        "import pytest\npytest.importorskip('no_such_module_at_all')\ndef test(): pass",
        "import pytest\n@pytest.mark.skipif(True, reason='absent')\ndef test(): pass",
    ],
    ids=["in the test", "at collection", "by mark"],
)
def test_a_skip_fails_when_every_part_is_required(tmp_path: Path, body: str, required: bool) -> None:
    done = _run_pytest(tmp_path, body, INFLAB_REQUIRE_ALL="1" if required else "")
    assert ("failed" in done.stdout or "error" in done.stdout) is required, done.stdout
    assert (done.returncode in (1, 2)) is required


def test_an_expected_failure_and_a_missing_accelerator_are_no_silent_skips(tmp_path: Path) -> None:
    body = (
        "import pytest\n"
        "@pytest.mark.xfail(strict=True)\ndef test_known(): assert False\n"
        "@pytest.mark.gpu\ndef test_accelerated(): pytest.skip('needs an accelerator')\n"
    )
    done = _run_pytest(tmp_path, body, INFLAB_REQUIRE_ALL="1")
    assert done.returncode == 0, done.stdout
    assert "1 skipped, 1 xfailed" in done.stdout


def _run_pytest(folder: Path, body: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on one small test file under this project's conftest."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_one.py").write_text(body, encoding="utf-8")
    return _run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, cwd=folder, **env
    )
