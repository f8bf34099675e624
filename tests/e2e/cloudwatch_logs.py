"""A stand-in for CloudWatch Logs that speaks TLS: the three operations that a sender needs, with certificates that openssl
makes. It checks what AWS would check (signature, stream, batch rules) and keeps what it is given.

moto_server plays CloudWatch Logs in main.py; it speaks no TLS and checks no signature, which this does.
"""
import gzip
import hashlib
import hmac
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def make_certificates(folder):
    """An authority (ca.pem) and a server's certificate for 127.0.0.1 and localhost (server.pem, server.key)."""
    folder = Path(folder)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    openssl("req", "-x509", *key, "-days", 3650, "-subj", "/CN=test authority", "-keyout", folder / "ca.key",
            "-out", folder / "ca.pem", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", *key, "-subj", "/CN=localhost", "-keyout", folder / "server.key", "-out", folder / "server.csr")
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", folder / "server.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
            "-CAcreateserial", "-days", 3650, "-extfile", folder / "san", "-out", folder / "server.pem")
    return folder / "ca.pem"


def signature(method, path, headers, body, region_scope, signed, secret):
    """Signature Version 4, from the API reference's own description."""
    canonical = "\n".join([
        method, path, "", *(f"{name}:{' '.join(headers[name].split())}" for name in signed), "", ";".join(signed),
        hashlib.sha256(body).hexdigest(),
    ])
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], "/".join(region_scope),
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for word in region_scope:
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class CloudWatchLogs:
    """Listens on one port of 127.0.0.1, also after stop() and start(). `keep=False` counts events and forgets them."""

    def __init__(self, folder, keep=True):
        self.keep = keep
        self.keys = {ACCESS_KEY: SECRET_KEY}
        self.keys_seen = set()
        self.ca = make_certificates(folder)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(Path(folder) / "server.pem", Path(folder) / "server.key")
        self.streams = {}  # (group, stream): [(time, message)]
        self.groups = set()
        self.requests = self.body_bytes = self.event_count = self.handshakes = 0
        self.violations = []
        self.lock = threading.Lock()
        self.server, self.port, self.connections = None, 0, set()
        self.start()

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    def start(self):
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                self.request.settimeout(60)
                # In the connection's own thread, so that a slow handshake does not hold up the others.
                self.request = service.context.wrap_socket(self.request, server_side=True)
                service.handshakes += 1
                service.connections.add(self.request)
                super().setup()

            def finish(self):
                service.connections.discard(self.request)
                super().finish()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                with service.lock:
                    code, answer = service.serve({k.lower(): v for k, v in self.headers.items()}, self.path, body)
                self.send_response(code)
                self.send_header("x-amzn-requestid", "1")
                self.send_header("content-type", "application/x-amz-json-1.1")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request, client_address):
                pass  # a client that does not trust our certificate, or was killed

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

    def violation(self, text):
        self.violations.append(text)
        return self.error("InvalidParameterException", text)

    @staticmethod
    def error(kind, text):
        return 400, json.dumps({"__type": kind, "message": text}).encode()

    def serve(self, headers, path, body):
        self.requests += 1
        self.body_bytes += len(body)
        authorization = headers.get("authorization", "")
        if not authorization.startswith("AWS4-HMAC-SHA256 "):
            return self.violation("not signed")
        parts = dict(part.strip().split("=", 1) for part in authorization.split(" ", 1)[1].split(","))
        access_key, *scope = parts["Credential"].split("/")
        signed = parts["SignedHeaders"].split(";")
        secret = self.keys.get(access_key)
        if not secret or signature("POST", path, headers, body, scope, signed, secret) != parts["Signature"]:
            return self.violation("the signature does not match")
        self.keys_seen.add(access_key)
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        words = json.loads(body)
        action = headers["x-amz-target"].removeprefix("Logs_20140328.")
        group, stream = words["logGroupName"], words.get("logStreamName")
        if action == "CreateLogGroup":
            self.groups.add(group)
        elif action == "CreateLogStream":
            if group not in self.groups:
                return self.error("ResourceNotFoundException", "The specified log group does not exist.")
            self.streams.setdefault((group, stream), [])
        elif action == "PutLogEvents":
            if (group, stream) not in self.streams:
                return self.error("ResourceNotFoundException", "The specified log stream does not exist.")
            return self.put(self.streams[group, stream], words["logEvents"])
        return 200, b"{}"

    def put(self, stored, events):
        times = [event["timestamp"] for event in events]
        if times != sorted(times):
            return self.violation("events are not in order of time")
        if not 1 <= len(events) <= 10_000:
            return self.violation(f"{len(events)} events")
        if sum(len(event["message"].encode()) + 26 for event in events) > 1_048_576:
            return self.violation("more than 1,048,576 bytes")
        if times[-1] - times[0] > 86_400_000:
            return self.violation("more than 24 hours")
        if abs(times[-1] / 1000 - time.time()) > 7200:
            return self.violation("more than two hours away")
        self.event_count += len(events)
        if self.keep:
            stored += [(event["timestamp"], event["message"]) for event in events]
        return 200, b"{}"

    def events(self, stream="node"):
        with self.lock:
            return [event for (_, name), events in self.streams.items() if name == stream for event in events]
