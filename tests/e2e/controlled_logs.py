"""What delivery.py tests with: CloudWatch Logs whose every answer is under control, an exporter whose events have an identity
of their own, and an agent with both.

The service keeps a record of each request: the digest of its body, what was stored of it, and whether the answer went out. It
has a clock of its own, and refuses signatures that are more than five minutes off it, as AWS does.
"""
import gzip
import hashlib
import http.server
import json
import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time
from calendar import timegm
from email.utils import formatdate
from pathlib import Path

from cloudwatch_logs import ACCESS_KEY, SECRET_KEY, signature
from processes import Process, wait_for

EVENTS_OF_A_BODY = 260  # about; an event has some 250 bytes


class Do:
    """What is done with one request, where it is not just stored and answered."""

    def __init__(self, status=200, error=None, store=None, delay_s=0.0, drop=False, date_s=0, before=None, after=None, text=None):
        self.status, self.error, self.text = status, error, text
        self.store = status == 200 if store is None else store
        self.delay_s = delay_s  # before the answer
        self.drop = drop  # the connection is closed instead of an answer
        self.date_s = date_s  # added to this answer's Date
        self.before, self.after = before, after  # called around the answer


class Request:
    """One request, what it brought and how it was answered."""

    def __init__(self, number, path, headers, wire):
        self.number, self.path, self.at = number, path, time.monotonic()
        self.action = headers.get("x-amz-target", "").removeprefix("Logs_20140328.") or ("AssumeRole" if b"AssumeRole" in wire else "GET")
        self.digest = hashlib.sha256(wire).hexdigest()[:16]
        self.stream, self.events, self.epoch = "", [], 0
        self.stored, self.sent = False, "no answer"

    def __str__(self):
        first = f"{identity(self.events[0])} .. {identity(self.events[-1])}" if self.events else ""
        stored = "stored" if self.stored else "not stored"
        return (f"{self.number:4} {self.at:.2f} run {self.epoch} {self.action} {self.stream} {len(self.events)} events {first} "
                f"{self.digest} {stored}, {self.sent}")


def identity(event):
    """(stream's job, series, scrape) of an event; a marker's own text."""
    message = event["message"]
    fields = json.loads(message)
    return (fields["job"], fields["id"], int(fields["g"])) if "id" in fields else message


class Service:
    """`rule(request)` says what is done with a request; None: it is stored and answered."""

    def __init__(self, clock_s=0):
        self.clock_s = clock_s  # ahead of the machine's clock
        self.lenient = False  # takes signatures of any time
        self.rule = lambda request: None
        self.requests, self.epoch, self.lock = [], 0, threading.RLock()
        self.streams, self.groups, self.violations = set(), set(), []
        self.server, self.port, self.connections = None, 0, set()
        self.start()
        self.url = f"http://127.0.0.1:{self.port}"

    def now_s(self):
        return time.time() + self.clock_s

    def start(self):
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                service.connections.add(self.request)
                super().setup()

            def finish(self):
                service.connections.discard(self.request)
                super().finish()

            def do_POST(self):
                wire = self.rfile.read(int(self.headers["content-length"] or 0))
                service.answer(self, {k.lower(): v for k, v in self.headers.items()}, wire)

            do_GET = do_POST

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads, allow_reuse_address = True, True

            def handle_error(self, request, client_address):
                pass

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        """The port refuses connections, and those that are open break."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def answer(self, handler, headers, wire):
        with self.lock:
            request = Request(len(self.requests), handler.path, headers, wire)
            request.epoch = self.epoch
            self.requests.append(request)
            refused = self.read(request, headers, wire) if request.action not in ("GET", "AssumeRole") else None
            do = refused or self.rule(request) or Do()
            if do.status == 200 and request.action == "CreateLogStream":
                self.streams.add(request.stream)
            request.stored = do.store and request.action == "PutLogEvents"
        if do.before:
            do.before()
        time.sleep(do.delay_s)
        if do.drop:
            request.sent = "connection closed"
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        text = do.text or ("{}" if not do.error else json.dumps({"__type": do.error, "message": "by the test"}))
        head = (f"HTTP/1.1 {do.status} X\r\nDate: {formatdate(self.now_s() + do.date_s, usegmt=True)}\r\n"
                f"x-amzn-requestid: {request.number}\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {len(text)}\r\n\r\n")
        try:
            handler.wfile.write((head + text).encode())
            request.sent = f"{do.status} {do.error or ''} sent"
        except OSError:
            request.sent = f"{do.status} not sent: nobody waits for it"
        if do.after:
            do.after()

    def read(self, request, headers, wire):
        """Checks what AWS would check; says what is wrong with it."""
        words = headers.get("authorization", "").removeprefix("AWS4-HMAC-SHA256 ")
        parts = dict(part.strip().split("=", 1) for part in words.split(","))
        _, *scope = parts["Credential"].split("/")
        made = signature("POST", request.path, headers, wire, scope, parts["SignedHeaders"].split(";"), SECRET_KEY)
        if made != parts["Signature"]:
            self.violations.append(f"request {request.number}: the signature does not match")
        body = gzip.decompress(wire) if headers.get("content-encoding") == "gzip" else wire
        fields = json.loads(body)
        request.stream, request.events = fields.get("logStreamName", ""), fields.get("logEvents", [])
        signed_s = timegm(time.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ"))
        if abs(signed_s - self.now_s()) > 300 and not self.lenient:
            return Do(400, "InvalidSignatureException")
        times = [event["timestamp"] for event in request.events]
        if times != sorted(times) or times and times[-1] - times[0] > 86_400_000:
            self.violations.append(f"request {request.number}: times are not in order, or more than a day")
        if request.action == "PutLogEvents" and request.stream not in self.streams:
            return Do(400, "ResourceNotFoundException")
        return None

    def puts(self, stream=None):
        """Requests that brought events, in order."""
        with self.lock:
            return [r for r in self.requests if r.events and (stream is None or r.stream == stream)]

    def copies(self):
        """{identity: [(request, message, time)]} of what was stored, markers left out."""
        found = {}
        for request in self.puts():
            for event in request.events if request.stored else []:
                who = identity(event)
                if isinstance(who, tuple):
                    found.setdefault(who, []).append((request, event["message"], event["timestamp"]))
        return found

    def markers(self):
        """[(reason, count)] of the losses that were told; a body that came again tells nothing new."""
        bodies = {request.digest: request.events for request in self.puts() if request.stored}
        texts = [json.loads(e["message"]) for events in bodies.values() for e in events if '"promwatch":"lost"' in e["message"]]
        return [(text["reason"], text["count"]) for text in texts]


class Exporter:
    """Pages of gauges: series `id`, value the number of the scrape. `scrapes` pages, then empty ones. `fresh`: no label returns."""

    def __init__(self, series, scrapes=10**9, fresh=False):
        self.series, self.scrapes, self.count, self.times = series, scrapes, 0, {}
        exporter = self
        pad = random.Random(7)
        pads = [pad.randbytes(24).hex() for _ in range(series)]

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                lines = ["# TYPE g gauge"]
                if exporter.count < exporter.scrapes:
                    exporter.count += 1
                    n = exporter.count
                    exporter.times[n] = time.time()
                    more = os.urandom(50).hex() if fresh else ""
                    lines += [f'g{{id="{i}",pad="{os.urandom(90).hex() if fresh else pads[i]}{more}"}} {n}' for i in range(exporter.series)]
                body = ("\n".join(lines) + "\n").encode()
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.port = server.server_port


class World:
    """A service, exporters (by job, each with a stream of its own) and an agent's files."""

    def __init__(self, binary, folder, exporters, interval="1s", own=None, clock_s=0, agent=None, env=None, wrapper=()):
        self.binary, self.folder, self.exporters = binary, Path(folder), exporters
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state, self.log = self.folder / "state", self.folder / "log"
        self.service = Service(clock_s)
        self.wrapper, self.env, self.agent, self.runs = list(wrapper), env or {}, None, 0
        upload = {"jitter": 0, "backlog_requests_per_second": 100, "backlog_bytes_per_second": "50MiB"}
        self.config = self.configure("agent.json", exporters, interval, {"upload": upload, "log_stream_name": "{job}", **(own or {})}, agent)

    def configure(self, name, exporters, interval, own, agent=None):
        scrapes = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{e.port}"]}]} for job, e in exporters.items()]
        yaml = self.folder / f"{name}.yaml"
        yaml.write_text(json.dumps({"global": {"scrape_interval": interval, "scrape_timeout": interval if interval.endswith("ms") else "1s"}, "scrape_configs": scrapes}))
        (self.folder / name).write_text(json.dumps({
            "agent": {"region": "eu-central-1", **(agent or {})},
            "logs": {"endpoint_override": self.service.url, "force_flush_interval": 1, "metrics_collected": {"prometheus": {
                "log_group_name": "/delivery", "prometheus_config_path": str(yaml)}}},
            "promwatch": own}))
        return self.folder / name

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and "PROXY" not in k.upper()}
        env.update(HOME=str(self.folder), RUNTIME_DIRECTORY=str(self.folder / "run"), AWS_ACCESS_KEY_ID=ACCESS_KEY,
                   AWS_SECRET_ACCESS_KEY=SECRET_KEY, **self.env)
        env.pop("JOURNAL_STREAM", None)
        return env

    def words(self, *words):
        return [*self.wrapper, self.binary, *map(str, words), "--state-dir", str(self.state)]

    def start(self, config=None):
        self.runs += 1
        self.service.epoch = self.runs
        agent = Process(self.words("run", "--config", config or self.config), self.log, self.environment())
        if config is None:
            self.agent = agent
        return agent

    def stop(self, seconds=15):
        """A clean stop; the seconds it took."""
        code, took = self.agent.stop(seconds=seconds + 10)
        assert code == 0 and took < seconds, f"the agent ended with {code} after {took:.1f} s"
        return took

    def kill(self):
        self.agent.stop(signal.SIGKILL)

    def status(self):
        """The status file of the agent that runs now, or of the last one; its books must balance."""
        done = subprocess.run(self.words("status", "--json"), capture_output=True, text=True, env=self.environment(), timeout=60)
        assert done.returncode in (0, 1), f"status ended with {done.returncode}: {done.stderr}"
        if done.returncode == 1:
            return None
        status = json.loads(done.stdout)
        events = status["events"]
        assert events["produced"] == events["delivered"] + events["pending"] + sum(events["dropped"].values()), events
        return status

    def fresh_status(self, since_s=0.0):
        """The running agent's first status that was written after `since_s` (now, by default)."""
        since_ms = (since_s or time.time()) * 1000

        def look():
            status = self.status()
            return status and status["pid"] == self.agent.popen.pid and status["written_ms"] >= since_ms and status
        return wait_for("a fresh status file", look)

    def drained(self, seconds=30):
        """Waits until nothing is pending; the status then."""
        return wait_for("an empty buffer", lambda: (s := self.status()) and s["pid"] == self.agent.popen.pid
                        and s["events"]["pending"] == 0 and s["events"]["produced"] > 0 and s, seconds)

    def held(self):
        """Identities in the spool."""
        done = subprocess.run(self.words("buffer", "cat"), capture_output=True, text=True, env=self.environment(), timeout=60)
        return {identity(json.loads(line)) for line in done.stdout.splitlines()}

    def logged(self, text):
        return text in self.log.read_text(errors="replace")

    def describe(self):
        """What a failure is understood by."""
        requests = [str(request) for request in self.service.requests]
        left = [f"... {len(requests) - 120} more ..."] if len(requests) > 120 else []
        lines = self.log.read_text(errors="replace").splitlines()[-40:] if self.log.exists() else []
        return "\n".join([f"--- {self.folder}", *requests[:60], *left, *requests[60:][-60:], "--- log", *lines,
                          "--- wrong requests", *self.service.violations])


def records(path):
    """[(offset of the body, its length, events)] of a segment's records (docs/spool-format.md)."""
    data, at, found = path.read_bytes(), 80, []
    while at + 92 <= len(data) and data[at:at + 4] == b"\xa7PWR":
        kind, length = data[at + 5], struct.unpack_from("<I", data, at + 8)[0]
        group, stream = struct.unpack_from("<HH", data, at + 80)
        body = at + 92 + group + stream
        if kind in (1, 3):
            found.append((body, length, struct.unpack_from("<I", data, at + 24)[0]))
        at = body + length
    return found
