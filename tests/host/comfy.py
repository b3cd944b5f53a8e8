"""A real ComfyUI in a process of its own, driven over its API."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROBE = Path(__file__).parent / "probe"
START_SECONDS, RUN_SECONDS = 600, 900
ENVIRONMENT = "COMFYUI_DIR"

Graph = dict[str, dict[str, Any]]


def comfy_folder() -> Path | None:
    """Where a ComfyUI is, if there is one."""
    folder = Path(os.environ.get(ENVIRONMENT) or Path.home() / "ComfyUI")
    return folder if (folder / "main.py").is_file() else None


def python_of(folder: Path) -> str:
    """The Python that this ComfyUI runs on: COMFYUI_PYTHON, its own, or the one that tests."""
    own = folder / ".venv" / "bin" / "python"
    return os.environ.get("COMFYUI_PYTHON") or (str(own) if own.is_file() else sys.executable)


class Refused(Exception):
    """The host would not queue a graph."""


class Failed(Exception):
    """A node went red; the message is what the artist reads."""


class Comfy:
    """A host that is running. Everything it writes lies in `base`."""

    def __init__(self, folder: Path, base: Path, *options: str):
        self.base, self.log = base, base / "host.log"
        _lay_out(base)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [python_of(folder), "main.py", "--cpu", "--disable-api-nodes", "--port"]
        command += [str(self.port), "--base-directory", str(base), "--database-url"]
        command += ["sqlite:///:memory:", *options, *os.environ.get("COMFYUI_OPTIONS", "").split()]
        quiet = {"OMP_NUM_THREADS": "1", "RTR_CACHE": str(base / "cache")}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | quiet,
                start_new_session=True,
            )

    def wait(self) -> "Comfy":
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("/system_stats")
                return self
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        self.stop()
        raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)

    # ---- its API ----

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return json.loads(answer.read() or "null")

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            raise Refused(error.read().decode()) from error

    def queue(self, graph: Graph, workflow: str | None = None) -> str:
        body: dict[str, Any] = {"prompt": graph}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": {"id": workflow}}}
        return self.post("/prompt", body)["prompt_id"]

    def result(self, prompt: str) -> dict[str, Any]:
        """What came of a queued graph, by node. A node that failed raises what it said."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt}").get(prompt)
            if entry and entry["status"].get("status_str") in ("success", "error"):
                break
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI died:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)
        else:
            raise TimeoutError(f"{prompt} did not end")
        for kind, message in entry["status"]["messages"]:
            if kind == "execution_error":
                raise Failed(message["exception_message"].strip())
            if kind == "execution_interrupted":
                raise Failed("interrupted")
        return entry["outputs"]

    def run(self, graph: Graph, workflow: str | None = None) -> dict[str, Any]:
        return self.result(self.queue(graph, workflow))

    def complaints(self) -> list[str]:
        """Lines of its log that are warnings or errors."""
        words = ("warning", "error", "traceback", "memory leak", "exception")
        lines = self.log.read_text().splitlines()
        return [line for line in lines if any(word in line.lower() for word in words)]


def _lay_out(base: Path) -> None:
    """Folders of an installation, with this pack and the probe among its nodes."""
    for name in ("input", "output", "temp", "custom_nodes", "user", "models/loras"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for name, target in (("realtime-rerenderer", ROOT), ("probe", PROBE)):
        link = base / "custom_nodes" / name
        if not link.exists():
            link.symlink_to(target, target_is_directory=True)
