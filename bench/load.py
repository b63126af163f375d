"""What sends and what hears: bodies of events, connections that post them, and the sink of webhooks."""

import http.server
import json
import multiprocessing
import os
import random
import socket
import struct
import threading
import time

import story

# of one body, and connections of the stream that comes as fast as it is taken; each has deployments of its own, as
# Prometheus' own sender does it, so that the samples of a series come in order
BODY = 1_000
CONNECTIONS = 10


# bodies


def ndjson(samples):
    line = '{"type":"metric","deployment":"%s","name":"cpu_percent","value":%s}\n'
    return "".join(line % sample for sample in samples).encode()


def _varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number, content):
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _label(name, value):
    return _field(1, _field(1, name.encode()) + _field(2, value.encode()))


def _labels(deployment):
    return _label("__name__", "cpu_percent") + _label("deployment", deployment)


def _snappy(content):
    """Snappy's block format with literals only: nothing is compressed."""
    out = [_varint(len(content))]
    for start in range(0, len(content), 65_536):
        part = content[start : start + 65_536]
        out += [bytes([61 << 2]), struct.pack("<H", len(part) - 1), part]
    return b"".join(out)


def _sample_head(value):
    # Sample { double value = 1; int64 timestamp = 2 }, as a field of a TimeSeries; a timestamp takes six bytes until 2109
    return b"\x12\x10\x09" + struct.pack("<d", value) + b"\x10"


def remote_write(samples, at):
    """A WriteRequest of one moment, in milliseconds; a deployment comes once."""
    stamp = _varint(at)
    assert len(stamp) == 6
    series = (_field(1, _labels(name) + _sample_head(value) + stamp) for name, value in samples)
    return _snappy(b"".join(series))


class Stamped:
    """Bodies that carry the time, no two of them the same."""

    def __init__(self):
        self.last = 0

    def remote_write(self, samples):
        self.last = max(self.last + 1, int(time.time() * 1e3))
        return remote_write(samples, self.last)


class Fast:
    """The bodies of one connection, of the stream that comes as fast as it is taken."""

    def __init__(self, connection):
        share = story.DEPLOYMENTS // CONNECTIONS
        self.names = [story.name(connection * share + n) for n in range(share)]
        self.chance = random.Random(connection)

    def _values(self):
        values = [round(self.chance.uniform(0, story.LIMIT - 0.1), 1) for _ in range(BODY)]
        for first in range(0, BODY, story.ONE_IN):
            values[self.chance.randrange(first, min(first + story.ONE_IN, BODY))] = story.HIGH
        return values

    def ndjson(self):
        made = [
            ndjson((self.names[n % len(self.names)], value) for n, value in enumerate(self._values())) for _ in range(40)
        ]
        while True:
            yield from made

    def remote_write(self, at):
        """Each sample of a series one millisecond after the one before, as a series of its own: so Prometheus sends them,
        and so selfheal judges each by itself. What comes together about one deployment at one instant it judges once."""
        heads = [[_sample_head(value) for value in self._values()] for _ in range(40)]
        stamp = len(_varint(at))
        starts = []
        for name in self.names:
            labels = _labels(name)
            starts.append(b"\x0a" + _varint(len(labels) + len(heads[0][0]) + stamp) + labels)
        share = len(starts)
        while True:
            for of_body in heads:
                series = []
                for first in range(0, BODY, share):
                    time_of = _varint(at)
                    at += 1
                    for start, head in zip(starts, of_body[first : first + share]):
                        series += (start, head, time_of)
                yield _snappy(b"".join(series))


# connections

NDJSON = "content-type: application/x-ndjson\r\n"
REMOTE_WRITE = (
    "content-type: application/x-protobuf\r\ncontent-encoding: snappy\r\nx-prometheus-remote-write-version: 0.1.0\r\n"
)


class Client:
    """Posts bodies over one connection."""

    def __init__(self, port, path, headers):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.head = f"POST {path} HTTP/1.1\r\nhost: beside\r\n{headers}content-length: "
        self.said = ""

    def post(self, body):
        """The status."""
        self.socket.sendall(f"{self.head}{len(body)}\r\n\r\n".encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, rest = answer.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(rest) < length:
            rest += self._more()
        status = int(head[9:12])
        if status >= 300:
            self.said = f"{status} {rest[:200].decode(errors='replace')}"
        return status

    def _more(self):
        more = self.socket.recv(65_536)
        if not more:
            raise OSError("the connection was closed")
        return more


class Flood:
    """Posts over all connections as fast as it is answered."""

    def __init__(self, port, path, headers, bodies):
        self.taken = [0] * CONNECTIONS
        self.refused = [0] * CONNECTIONS
        self.said = None
        self.ended = False
        self.threads = [
            threading.Thread(target=self._post, args=(n, Client(port, path, headers), own), daemon=True)
            for n, own in enumerate(bodies)
        ]

    def _post(self, number, client, bodies):
        try:
            for body in bodies:
                if self.ended:
                    return
                if client.post(body) < 300:
                    self.taken[number] += BODY
                else:
                    self.refused[number] += BODY
                    self.said = client.said
        except OSError as error:
            self.said = str(error)

    def measure(self, warm, seconds, cpu):
        """Events a second that were accepted, and the system's processor seconds for each of them."""
        for thread in self.threads:
            thread.start()
        time.sleep(warm)
        taken, used, began = sum(self.taken), cpu(), time.monotonic()
        time.sleep(seconds)
        taken, used, took = sum(self.taken) - taken, cpu() - used, time.monotonic() - began
        self.ended = True
        for thread in self.threads:
            thread.join(30)
        return taken / took, used / max(taken, 1)


def pace(paced, client, body_of):
    """Posts the paced stream; when each deployment's crossing was sent, and how far the sending fell behind."""
    sent, behind, refused = {}, 0.0, 0
    began = time.monotonic()
    for due, samples in paced.ticks():
        wait = began + due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        behind = max(behind, -wait)
        now = time.monotonic()
        for name, value in samples:
            if value == story.HIGH:
                sent.setdefault(name, now)
        refused += client.post(body_of(samples)) >= 300
    return sent, behind, refused


# the sink


class Sink:
    """Takes webhooks in a process of its own, and says when the first "firing" of each deployment came."""

    def __init__(self):
        self.said = multiprocessing.Queue()
        ready = multiprocessing.Queue()
        self.process = multiprocessing.Process(target=_serve, args=(self.said, ready), daemon=True)
        self.process.start()
        self.port = ready.get(timeout=20)
        self.url = f"http://127.0.0.1:{self.port}/"

    def heard(self, wanted, seconds):
        """Until all of `wanted` were heard, or so long."""
        heard, until = {}, time.monotonic() + seconds
        while time.monotonic() < until and not wanted <= heard.keys():
            try:
                name, at = self.said.get(timeout=0.2)
            except Exception:  # the queue's Empty has no public name
                continue
            heard.setdefault(name, at)
        return heard

    def forget(self):
        self.heard({None}, 0.5)

    def stop(self):
        self.process.terminate()
        self.process.join(10)


def _serve(said, ready):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            at = time.monotonic()
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()
            for alert in json.loads(body)["alerts"]:
                if alert["status"] == "firing":
                    said.put((alert["labels"]["deployment"], at))

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    ready.put(server.server_address[1])
    server.serve_forever()


def disk_sync(folder):
    """What a sync of 4 KiB takes on this disk: the median of 200, in ms."""
    spans = []
    with open(os.path.join(folder, "sync"), "wb") as file:
        for _ in range(200):
            file.write(bytes(4096))
            file.flush()
            began = time.monotonic()
            os.fdatasync(file.fileno())
            spans.append(time.monotonic() - began)
    return sorted(spans)[100] * 1e3
