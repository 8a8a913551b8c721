"""A stand-in for the Hugging Face hub: what huggingface_hub asks of it to create, fill and download a repository."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_test"


class Hub(ThreadingHTTPServer):
    """Repositories by name, their files by path, and every request that came. Weights travel as LFS objects."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []


class Answers(BaseHTTPRequestHandler):
    """One request."""

    server: Hub

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self.read_chunks()
        path = self.path.split("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        words = path.strip("/").split("/")
        if path == "/":
            self.send(b"")
        elif words[0] == "objects" and self.command == "PUT":
            self.server.objects[words[1]] = body
            self.send(b"")
        elif words[:2] == ["api", "validate-yaml"]:
            self.send({"errors": [], "warnings": []})
        elif words[0] == "api" or words[1].endswith(".git"):
            if self.headers.get("Authorization") != f"Bearer {TOKEN}" and self.command != "GET":
                self.send({"error": "Invalid username or password."}, 401)
            else:
                self.send(*self.api(words, body))
        else:
            self.resolve("/".join(words[:2]), "/".join(words[4:]))

    def api(self, words: list[str], body: bytes) -> tuple[Any, int]:
        match words:
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                self.server.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
                self.server.repositories.setdefault(name, {})
                return {"url": f"{self.server.address}/{name}"}, 200
            case ["api", "models", owner, name, "preupload", _]:
                files = json.loads(body)["files"]
                modes = [
                    {**file, "uploadMode": "lfs" if file["path"].endswith("safetensors") else "regular"}
                    for file in files
                ]
                return {"files": [{**mode, "shouldIgnore": False} for mode in modes]}, 200
            case [owner, name, "info", "lfs", "objects", "batch"]:
                actions = [
                    {**entry, "actions": {"upload": {"href": f"{self.server.address}/objects/{entry['oid']}"}}}
                    for entry in json.loads(body)["objects"]
                ]
                return {"transfer": "basic", "objects": actions}, 200
            case ["api", "models", owner, name, "commit", _]:
                files = self.server.repositories[f"{owner}/{name}"]
                for line in map(json.loads, body.decode().splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        files[value["path"]] = self.server.objects[value["oid"]]
                address = f"{self.server.address}/{owner}/{name}/commit/{COMMIT}"
                return {"commitUrl": address, "commitOid": COMMIT, "success": True}, 200
            case ["api", "models", owner, name, "revision", _] if f"{owner}/{name}" in self.server.repositories:
                siblings = [{"rfilename": path} for path in self.server.repositories[f"{owner}/{name}"]]
                return {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings, "tags": []}, 200
            case ["api", "models", owner, name, "tree", *_]:
                files = self.server.repositories[f"{owner}/{name}"]
                return [
                    {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for path, content in files.items()
                ], 200
        return {"error": "Repository not found"}, 404

    def resolve(self, name: str, path: str) -> None:
        content = self.server.repositories.get(name, {}).get(path)
        if content is None:
            self.send({"error": "Entry not found"}, 404)
            return
        self.send(content, 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def read_chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


@contextmanager
def hub_of_the_test(monkeypatch: pytest.MonkeyPatch, cache: Path, token: str = TOKEN) -> Iterator[Hub]:
    """huggingface_hub asks the stand-in, keeps its files in `cache`, and is logged in by `token`."""
    from huggingface_hub import constants

    hub = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_TOKEN", token)
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
