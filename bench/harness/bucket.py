"""A bucket in memory behind HTTP on loopback: just enough S3 for a cache, without checking signatures. Counts requests,
and can take its time for each."""

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

NAME = "bench"


class Bucket:
    """The server; `requests` counts by method and kind, `bytes_in` and `bytes_out` what bodies held. Each request waits
    `delay_s` first."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.bytes_in = self.bytes_out = 0
        self.delay_s = 0.0
        self.lock = threading.Lock()
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def reply(self, status: int, body: bytes = b"", length: int | None = None) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_PUT(self) -> None:
                name = bucket.count(self)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with bucket.lock:
                    taken = self.headers.get("If-None-Match") == "*" and name in bucket.objects
                    if not taken:
                        bucket.objects[name] = body
                        bucket.bytes_in += len(body)
                self.reply(412 if taken else 200)

            def do_HEAD(self) -> None:
                found = bucket.objects.get(bucket.count(self))
                self.reply(404 if found is None else 200, length=len(found or b""))

            def do_GET(self) -> None:
                name = bucket.count(self)
                if name:
                    found = bucket.objects.get(name)
                    bucket.bytes_out += len(found or b"")
                    return self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>") if found is None else self.reply(200, found)
                self.reply(200, bucket.listing(parse_qs(urlsplit(self.path).query)))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def count(self, request: BaseHTTPRequestHandler) -> str:
        name = unquote(urlsplit(request.path).path).removeprefix(f"/{NAME}").lstrip("/")
        kind = next((kind for kind in ("packs", "manifests", "inputs", "_manifests") if f"/{kind}/" in f"/{name}"), "list")
        with self.lock:
            self.requests[f"{request.command} {kind}"] += 1
        if self.delay_s:
            time.sleep(self.delay_s)
        return name

    def listing(self, query: dict[str, list[str]]) -> bytes:
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", [""])[0]
        names = sorted(name for name in self.objects if name.startswith(prefix) and name > after)
        page, more = names[:1000], len(names) > 1000
        contents = "".join(f"<Contents><Key>{escape(name)}</Key><Size>{len(self.objects[name])}</Size></Contents>" for name in page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        truncated = "true" if more else "false"
        return f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{contents}{token}</ListBucketResult>".encode()

    def reset(self) -> None:
        with self.lock:
            self.requests.clear()
            self.bytes_in = self.bytes_out = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def env(self) -> dict[str, str]:
        """Variables that make kache use it."""
        return {
            "KACHE_S3_ENDPOINT": self.endpoint,
            "KACHE_S3_BUCKET": NAME,
            "KACHE_S3_ACCESS_KEY": "bench",
            "KACHE_S3_SECRET_KEY": "bench",
        }
