"""A stand-in for the HTTP API of the Hugging Face hub, as far as this library uses it."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from dataclasses import dataclass, field


@dataclass
class Repo:
    """A model repository: its commits, newest last, as (commit, {file: content})."""

    private: bool = False
    gated: bool = False
    commits: list = field(default_factory=list)
    tags: dict = field(default_factory=dict)

    def __post_init__(self):
        self.commit({".gitattributes": b"*.safetensors filter=lfs\n"})

    def commit(self, files):
        content = {**(self.commits[-1][1] if self.commits else {}), **files}
        names = json.dumps([len(self.commits), sorted(content)])
        digest = hashlib.sha1(names.encode() + b"".join(content.values())).hexdigest()
        self.commits.append((digest, content))
        return digest

    def find(self, revision):
        revision = self.tags.get(revision, revision)
        if revision == "main":
            return self.commits[-1]
        return next((entry for entry in self.commits if entry[0] == revision), None)


class Hub:
    """The state of the hub.

    Attributes:
        repos: Repositories by name.
        tokens: What each token may do: "read", "write".
        requests: (method, path, user agent) of every request.
        status: Status with which each request is answered instead; None for none.
        objects: Content of uploaded LFS objects by SHA-256.
    """

    def __init__(self):
        self.repos, self.requests, self.status, self.objects = {}, [], None, {}
        self.tokens = {"reader": "read", "writer": "write"}
        self.url = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._handle()

    do_GET = do_POST = do_PUT = do_HEAD

    def _handle(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        path = urllib.parse.urlsplit(self.path).path
        self.hub.requests.append((self.command, path, self.headers["User-Agent"]))
        if self.hub.status is not None:
            return self._answer(self.hub.status, {"error": "the stub was told so"})
        routes = (
            (r"POST /api/repos/create", self._create),
            (r"POST /api/validate-yaml", self._validate),
            (r"GET /api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", self._info),
            (r"GET /api/models/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            (r"POST /api/models/([^/]+/[^/]+)/preupload/([^/]+)", self._preupload),
            (r"POST /api/models/([^/]+/[^/]+)/commit/([^/]+)", self._commit),
            (r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            (r"PUT /objects/(\w+)", self._put),
            (r"(?:HEAD|GET) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
        )
        for pattern, answer in routes:
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                return answer(*(part and urllib.parse.unquote(part) for part in match.groups()))
        return self._answer(404, {"error": f"the stub has no {self.command} {path}"})

    def _right(self):
        given = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        return self.hub.tokens.get(given)

    def _answer(self, status, content, **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("length", len(data)))
        self.send_header("X-HF-Warning", "unauthenticated; please log in")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _find(self, name, revision=None):
        """The repository and its (commit, files), or None after the answer was sent."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self._right() is None):
            status = 404 if self._right() else 401
            return self._answer(status, {}, X_Error_Code="RepoNotFound")
        found = repo.find(revision or "main")
        if found is None:
            return self._answer(404, {}, X_Error_Code="RevisionNotFound")
        return repo, found

    def _create(self):
        if self._right() != "write":
            message = "You don't have the rights to create a model under this namespace"
            return self._answer(403 if self._right() else 401, {"error": message})
        wanted = json.loads(self.body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repos:
            url = f"{self.hub.url}/{name}"
            return self._answer(409, {"error": "You already created this model repo", "url": url})
        self.hub.repos[name] = Repo(private=wanted.get("visibility") == "private")
        return self._answer(200, {"url": f"{self.hub.url}/{name}"})

    def _validate(self):
        content = json.loads(self.body)["content"]
        good = content.startswith("---\n")
        return self._answer(200 if good else 400, {"errors": [], "warnings": []})

    def _info(self, name, revision):
        if found := self._find(name, revision):
            repo, (commit, files) = found
            siblings = [{"rfilename": file} for file in files]
            described = {"id": name, "sha": commit, "private": repo.private, "siblings": siblings}
            self._answer(200, described)

    def _tree(self, name, revision):
        if found := self._find(name, revision):
            rows = [
                {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}
                for path, data in found[1][1].items()
            ]
            self._answer(200, rows)

    def _resolve(self, name, revision, path):
        if not (found := self._find(name, revision)):
            return None
        repo, (commit, files) = found
        if repo.gated and self._right() is None:
            return self._answer(403, {}, X_Error_Code="GatedRepo")
        if path not in files:
            return self._answer(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        headers = {"ETag": f'"{_blob(files[path])}"', "X_Repo_Commit": commit}
        return self._answer(200, files[path], **headers)

    def _preupload(self, name, revision):
        if self._right() != "write":
            return self._answer(403, {"error": "no right to write"})
        files = json.loads(self.body)["files"]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in files
        ]
        return self._answer(200, {"files": modes})

    def _batch(self, name):
        objects = [
            {
                **wanted,
                "actions": {"upload": {"href": f"{self.hub.url}/objects/{wanted['oid']}"}},
            }
            for wanted in json.loads(self.body)["objects"]
        ]
        return self._answer(200, {"transfer": "basic", "objects": objects})

    def _put(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._answer(400, {"error": "wrong content"})
        self.hub.objects[oid] = self.body
        return self._answer(200, {})

    def _commit(self, name, revision):
        if not (found := self._find(name, revision)):
            return None
        repo, (newest, _) = found
        header, *operations = map(json.loads, self.body.splitlines())
        if header["value"].get("parentCommit", newest) != newest:
            return self._answer(412, {"error": "A commit has happened since"})
        files = {}
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        commit = repo.commit(files)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        return self._answer(200, {"commitUrl": url, "commitOid": commit})


def _blob(data):
    """The name of a file's content in Git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def serve():
    """Serves a hub on a free port of this machine."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
