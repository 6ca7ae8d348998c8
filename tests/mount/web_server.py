"""A web server on this machine for one file, which counts what it was asked for."""

import http.server
import os
import re
import threading


class WebServer:
    """Serves the file at `path` until the test ends."""

    def __init__(self, case, path):
        self.sent = 0  # bytes of the file
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(200, os.path.getsize(path))

            def do_GET(self):
                size = os.path.getsize(path)
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", f"bytes=0-{size - 1}"))
                first, last = (int(number) for number in wanted.groups())
                with open(path, "rb") as file:
                    file.seek(first)
                    data = file.read(last + 1 - first)
                self.answer(206, len(data), ("Content-Range", f"bytes {first}-{first + len(data) - 1}/{size}"))
                self.wfile.write(data)
                with outer.lock:
                    outer.sent += len(data)

            def answer(self, status, length, *headers):
                self.send_response(status)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(length))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/{os.path.basename(path)}"
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        case.addCleanup(thread.join)
        case.addCleanup(self.server.server_close)
        case.addCleanup(self.server.shutdown)
