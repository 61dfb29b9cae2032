"""A real JupyterLab or Notebook 7 with nothing of the user's in it: own config, data, runtime folders; no network."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

App = Literal["lab", "notebook"]

NO_NEWS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


class Lab:
    """A running server.

    Args:
        port: where it listens on 127.0.0.1.
        token: what it asks for.
        app: whose page shows a notebook.
    """

    def __init__(self, port: int, token: str, app: App = "lab") -> None:
        self.home, self.token = f"http://127.0.0.1:{port}", token
        self.place = "lab/tree" if app == "lab" else "notebooks"

    def open(self, page: Any, notebook: str) -> None:
        """Open a notebook and wait for its kernel."""
        page.goto(f"{self.home}/{self.place}/{notebook}?reset&token={self.token}")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
        self.wait_idle(page)

    def run_all(self, page: Any, timeout: float = 60) -> None:
        """Run every cell and wait until the kernel has done them."""
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.wait_idle(page, timeout)

    def wait_idle(self, page: Any, timeout: float = 60) -> None:
        """Wait until the kernel is idle."""
        page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
            " && !document.querySelector('.jp-Notebook .jp-InputPrompt')?.textContent.includes('*')",
            timeout=1000 * timeout,
        )

    def run_last_cell(self, page: Any) -> str:
        """Put the cursor into the last cell, run it with Shift+Enter, return what it printed."""
        before = page.locator(".jp-Cell.jp-CodeCell").last.locator(".jp-InputPrompt").text_content()
        page.locator(".jp-Cell.jp-CodeCell").last.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        page.wait_for_function(
            "before => { const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];"
            " const said = prompts.at(-1).textContent; return said !== before && !said.includes('*'); }",
            arg=before,
        )
        return str(page.locator(".jp-Cell.jp-CodeCell").last.locator(".jp-OutputArea-output").last.text_content())

    def ask(self, page: Any, code: str) -> str:
        """Run code in the notebook's kernel, as a cell would, and return what it printed."""
        return str(
            page.evaluate(
                """async (code) => {
                  const future = jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
                  let said = "";
                  future.onIOPub = ({ content }) => { said += content.text ?? content.evalue ?? ""; };
                  await future.done;
                  return said;
                }""",
                code,
            )
        )


@contextmanager
def running_lab(folder: Path, notebooks: Path, app: App = "lab") -> Iterator[Lab]:
    """Start JupyterLab or Notebook 7 on `notebooks`, with all it writes in `folder`; stop it at the end."""
    settings = folder / "lab-settings"
    settings.mkdir(parents=True)
    (settings / "overrides.json").write_text(json.dumps(NO_NEWS), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    env = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "user-settings"),
    }
    module, name = ("jupyterlab", "LabApp") if app == "lab" else ("notebook", "JupyterNotebookApp")
    command = [
        sys.executable, "-m", module, "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebooks}", "--ServerApp.port_retries=0",
        f"--{name}.expose_app_in_browser=True", f"--{name}.app_settings_dir={settings}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=",
    ]  # fmt: skip
    with open(folder / "lab.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            _wait_until_it_answers(server, port, folder / "lab.log")
            yield Lab(port, token, app)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text("utf-8")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/api")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise AssertionError(log.read_text("utf-8"))
