"""A stand-in for the Hugging Face Hub on this machine: what the real client asks of its HTTP API to push and to load."""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module, reload

from loopback import running

TOKEN = "hf_right"


class Handler(BaseHTTPRequestHandler):
    "Answers as huggingface.co does. Large files travel by Git LFS, a commit is a list of JSON lines."

    def answer(self, status=200, content=b"", **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content if self.command != "HEAD" else b"")

    def refuse(self, status, message, code=""):
        self.answer(status, {"error": message}, X_Error_Message=message, X_Error_Code=code)

    def handle_request(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, hub = self.path.partition("?")[0], self.server
        if path != "/api/agent-harnesses":  # the client's own question, once a day
            hub.asked.append(f"{self.command} {path}")
        if hub.broken:
            return self.refuse(500, "something broke")
        if self.headers.get("Authorization") not in (None, f"Bearer {TOKEN}") and not path.startswith("/lfs/"):
            return self.refuse(401, "Invalid credentials in Authorization header")
        for pattern, answer in ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return answer(self, body, *found.groups())
        return self.refuse(404, "Not Found")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, *args):
        pass

    # What can be asked for

    def check_card(self, body):
        self.answer(content={"errors": [], "warnings": []})

    def create(self, body):
        asked = json.loads(body)
        if self.headers.get("Authorization") is None:
            return self.refuse(401, "Invalid username or password.")
        name = f"{asked['organization']}/{asked['name']}"
        status = 409 if name in self.server.repos else 200
        self.server.repos.setdefault(name, {})
        self.server.visibility[name] = asked.get("visibility")
        return self.answer(status, {"url": f"{self.server.address}/datasets/{name}"})

    def preupload(self, body, repo):
        large = lambda path: "regular" if path.endswith(".md") else "lfs"  # noqa: E731
        files = [{"path": f["path"], "uploadMode": large(f["path"]), "shouldIgnore": False} for f in json.loads(body)["files"]]
        self.answer(content={"files": files})

    def batch(self, body, repo):
        upload = lambda x: {"upload": {"href": f"{self.server.address}/lfs/{x['oid']}"}}  # noqa: E731
        self.answer(content={"objects": [{**x, "actions": upload(x)} for x in json.loads(body)["objects"]]})

    def upload(self, body, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.objects[oid] = body
        self.answer()

    def commit(self, body, repo):
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.server.repos[repo][value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                self.server.repos[repo][value["path"]] = self.server.objects[value["oid"]]
        self.server.commits.append([line["key"] for line in lines])
        self.answer(content={"commitUrl": f"{self.server.address}/datasets/{repo}/commit/{COMMIT}", "commitOid": COMMIT})

    def describe(self, body, repo):
        files = [{"rfilename": path} for path in self.server.repos[repo]]
        self.answer(content={"_id": "0", "id": repo, "sha": COMMIT, "siblings": files, "tags": [], "private": False})

    def list_files(self, body, repo):
        facts = lambda data: {"size": len(data), "oid": hashlib.sha1(data).hexdigest()}  # noqa: E731
        self.answer(content=[{"type": "file", "path": path} | facts(data) for path, data in self.server.repos[repo].items()])

    def resolve(self, body, repo, revision, path):
        if repo not in self.server.repos:
            known = self.headers.get("Authorization")
            found = (404, "Repository not found") if known else (401, "Invalid username or password.")
            return self.refuse(*found, "RepoNotFound")  # with https the client concludes that from a 401 itself
        if revision not in ("main", COMMIT):
            return self.refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        if path not in self.server.repos[repo]:
            return self.refuse(404, "Entry not found", "EntryNotFound")
        content = self.server.repos[repo][path]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        size = self.server.claimed_size or len(content)
        return self.answer(200, content, X_Repo_Commit=COMMIT, ETag=etag, X_Linked_Etag=etag, X_Linked_Size=size)


COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROUTES = {
    "POST /api/validate-yaml": Handler.check_card,
    "POST /api/repos/create": Handler.create,
    "POST /api/datasets/([^/]+/[^/]+)/preupload/main": Handler.preupload,
    "POST /datasets/([^/]+/[^/]+).git/info/lfs/objects/batch": Handler.batch,
    "PUT /lfs/(.*)": Handler.upload,
    "POST /api/datasets/([^/]+/[^/]+)/commit/main": Handler.commit,
    f"GET /api/datasets/([^/]+/[^/]+)/revision/(?:main|{COMMIT})": Handler.describe,
    f"GET /api/datasets/([^/]+/[^/]+)/tree/{COMMIT}/?": Handler.list_files,
    "(?:GET|HEAD) /datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.*)": Handler.resolve,
}


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repos, self.objects, self.visibility = {}, {}, {}  # files by name, by repository; large files by hash
        self.asked, self.commits = [], []
        self.claimed_size = None  # of every file
        self.broken = False


@contextmanager
def standing_in(monkeypatch, cache):
    "A running stand-in that the real client takes for the hub, with a cache of its own and no token."
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_CACHE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    server = Hub()
    given = {"HF_ENDPOINT": server.address, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    constants = import_module("huggingface_hub.constants")
    reload(constants)  # it reads the environment once
    try:
        with running(server):
            yield server
    finally:
        monkeypatch.undo()
        reload(constants)
