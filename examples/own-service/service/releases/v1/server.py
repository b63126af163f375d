#!/usr/bin/env python3
"""A service to try with: put your own in its place. It answers on loopback only.

    GET  /         a page
    GET  /health   200, or 503 after POST /break
    POST /break    makes this replica sick until it is restarted
"""

import argparse
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

healthy = True


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.answer(200 if healthy else 503, "ok\n" if healthy else "broken\n")
        elif self.path == "/":
            self.answer(200, f"replica {os.environ.get('REPLICA', '?')} of {os.environ.get('VERSION', '?')}\n")
        else:
            self.answer(404, "not found\n")

    def do_POST(self):
        global healthy
        if self.path == "/break":
            healthy = False
            print("broken on request", flush=True)
            self.answer(200, "broken until the next restart\n")
        else:
            self.answer(404, "not found\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *args):
        if self.path != "/health":
            print(form % args, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Handler)

    def end(*_):
        # from another thread: shutdown waits for the loop that this one runs
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    print(f"listening on {server.server_port}", flush=True)
    server.serve_forever()
    print("ended", flush=True)


if __name__ == "__main__":
    sys.exit(main())
