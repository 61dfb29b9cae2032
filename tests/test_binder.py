"""What Binder would build: repo2docker's own Dockerfile, without Docker, and the links that open the lessons."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted(path.name for path in (ROOT / "notebooks" / "course").glob("*.ipynb"))


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `repo2docker --no-build` says it would do, of a copy that holds only what it reads."""
    copy = tmp_path_factory.mktemp("binder")
    (copy / "binder").mkdir()
    for path in (ROOT / "binder").iterdir():
        (copy / "binder" / path.name).write_bytes(path.read_bytes())
    command = [
        sys.executable,
        "-m",
        "repo2docker",
        "--no-build",
        "--debug",
        "--user-id",
        "1000",
        "--user-name",
        "jovyan",
    ]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_image_has_the_pinned_python(dockerfile: str) -> None:
    wanted = (ROOT / "binder" / "runtime.txt").read_text("utf-8").strip().removeprefix("python-")
    found = re.search(r"Building conda environment for python=([0-9.]+)", dockerfile)
    assert found and found[1] == wanted


def test_the_package_is_installed_from_the_whole_repository_then_artefacts_are_made(dockerfile: str) -> None:
    copied = dockerfile.index("COPY --chown=1000:1000 src/ ${REPO_DIR}/")
    install = dockerfile.index('pip install --no-cache-dir -r "binder/requirements.txt"')
    last = dockerfile.index("RUN ./binder/postBuild")
    assert copied < install < last


def test_every_lesson_and_no_other_file_has_a_link(dockerfile: str) -> None:
    links = re.findall(
        r"mybinder\.org/v2/gh/[\w.-]+/[\w.-]+/HEAD\?labpath=([^\s)\"]+)", (ROOT / "README.md").read_text("utf-8")
    )
    paths = [unquote(link) for link in links]
    assert [path for path in paths if not (ROOT / path).is_file()] == []
    assert {f"notebooks/course/{name}" for name in LESSONS} <= set(paths)
