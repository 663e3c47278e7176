"""A hub on loopback that speaks the part of Hugging Face's protocol that a snapshot needs, and serves plain files."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

REVISION = "a" * 40


@contextmanager
def serve(files, large=100):
    """Serves ``{"models/owner/name/file" or "plain/file": bytes}``; files of ``large`` bytes and more are LFS's.

    Yields its address, the paths that were asked for, and ``cut_after``: how many bytes of a body it sends before it
    hangs up, for each file's name.
    """
    asked, cut_after = [], {}

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            path = self.path.partition("?")[0].strip("/")
            asked.append((self.command, path, self.headers.get("Range")))
            for kind in ("models", "datasets"):
                if path.startswith(f"api/{kind}/"):
                    name = "/".join(path.split("/")[2:4])
                    inside = {
                        k.removeprefix(f"{kind}/{name}/"): v
                        for k, v in files.items()
                        if k.startswith(f"{kind}/{name}/")
                    }
                    if not inside:
                        return self.send({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
                    if "/tree/" in path:
                        return self.send(
                            [{"type": "file", "path": k, "size": len(v), "oid": "0" * 40} for k, v in inside.items()]
                        )
                    siblings = [{"rfilename": k} for k in inside]
                    return self.send({"id": name, "modelId": name, "sha": REVISION, "siblings": siblings})
            name, _, inside = path.partition("/resolve/")
            if inside:
                kind = "datasets/" if name.startswith("datasets/") else "models/"
                key = f"{kind}{name.removeprefix('datasets/')}/{inside.partition('/')[2]}"
            else:
                key = path
            if key not in files:
                return self.send({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            content = files[key]
            digest = hashlib.sha256(content).hexdigest()
            tag = digest if len(content) >= large else hashlib.sha1(content).hexdigest()
            heads = {"ETag": f'"{tag}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
            if len(content) >= large:
                heads |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            start = int((self.headers.get("Range") or "bytes=0-").partition("=")[2].partition("-")[0])
            if start >= len(content):
                return self.send({}, 416)
            if start:
                heads["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(content[start:], 206 if start else 200, heads, body, cut_after.get(key))

        def send(self, content, status=200, heads=None, body=True, cut=None):
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(heads or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if body and self.command != "HEAD":
                self.wfile.write(content[:cut])
            if cut is not None:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield SimpleNamespace(address=f"http://127.0.0.1:{server.server_port}", asked=asked, cut_after=cut_after)
    finally:
        server.shutdown()
        server.server_close()
