#!/usr/bin/env python3
"""The real binary among strangers: names and texts that would forge lines on a terminal, lists that point at sockets, folders
and files of other users.

usage: tests/e2e/strangers.py PROMWATCH [TEST ...]
"""
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from processes import Process, stop_all, wait_for

BINARY = os.path.abspath(sys.argv[1])
NOBODY = 65534
ROOT = os.geteuid() == 0
# Everything that moves the cursor, starts a line, turns the direction of writing or hides text.
EVIL = [chr(c) for r in ((1, 0x20), (0x7F, 0xA0), (0x200B, 0x2010), (0x2028, 0x202F), (0x2060, 0x2065), (0x2066, 0x2070)) for c in range(*r)]
EVIL += ["\u00ad", "\u061c", "\ufeff", "\U000e0041"]
# A forged line in the log's own manner, and one of systemd's.
FORGED = "a\n2026-01-01T00:00:00Z I! forged\n<6>I! forged\r\x1b[2J\x1b]0;x\x07\u202etxt\u2028" + "".join(EVIL) + "z"


class Server:
    """An HTTP server on loopback; `answer(path)` gives status, headers and body."""

    def __init__(self, answer):
        self.seen = seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen.append((self.path, dict(self.headers), body))
                status, headers, body = answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # connections that the agent closes
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.port = server.server_address[1]


def page(text):
    return lambda _: (200, {"Content-Type": "text/plain; version=0.0.4"}, text.encode())


def environment(folder, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and "PROXY" not in k.upper()}
    env.pop("JOURNAL_STREAM", None)
    env.update(HOME=str(folder), RUNTIME_DIRECTORY=str(folder / "run"), AWS_ACCESS_KEY_ID="A", AWS_SECRET_ACCESS_KEY="B", **more)
    return env


def configure(folder, scrape_configs, endpoint="http://127.0.0.1:9", own=None):
    (folder / "prometheus.yaml").write_text(json.dumps({"scrape_configs": scrape_configs}))  # JSON is YAML
    (folder / "agent.json").write_text(json.dumps({
        "agent": {"region": "eu-central-1"},
        "logs": {"endpoint_override": endpoint, "force_flush_interval": 1, "metrics_collected": {"prometheus": {
            "log_group_name": "/strangers", "prometheus_config_path": str(folder / "prometheus.yaml")}}},
        "promwatch": own or {},
    }))
    return folder / "agent.json"


def promwatch(folder, *words, env=None):
    done = subprocess.run([BINARY, *map(str, words)], capture_output=True, env=env or environment(folder), timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def agent(folder, config, env=None):
    return Process([BINARY, "run", "--config", config, "--state-dir", folder / "state"], folder / "log", env or environment(folder))


def calm(what, text):
    """Nothing but lines of printable text."""
    raw = sorted({f"U+{ord(c):04X}" for c in text if c in EVIL and c != "\n"})
    assert not raw, f"{what} shows {raw[:9]} raw:\n{text[:2000]!r}"
    long = [len(line.encode()) for line in text.split("\n") if len(line.encode()) > 4200 and not line.startswith("{")]
    assert not long, f"{what} has lines of {long} bytes"


def test_names_and_texts_of_others_forge_no_line(folder):
    # The C0 controls that YAML and JSON carry as escapes all arrive; a label's value may hold anything.
    escaped = FORGED.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    good = Server(page(f'# TYPE g gauge\ng{{evil="{escaped}"}} 1\n'))
    bad = Server(page(f"g {FORGED[1:].replace(chr(10), chr(13))} 1\n"))
    odd = Server(lambda _: (200, {"Content-Type": "text/html;\u00a0\x1b[31m".encode().decode("latin-1")}, b"x"))
    address = f"127.0.0.1:{good.port}"
    (folder / "list.json").write_text(json.dumps([
        {"targets": [address, f"127.0.0.1:{bad.port}", "x/" + FORGED], "labels": {"evil": FORGED, "instance": FORGED, "job": FORGED}},
        {"targets": [f"127.0.0.1:{bad.port}"], "labels": {"instance": "x" * 9000 + FORGED}},
    ]))
    listing = Server(lambda path: (200, {"Content-Type": "application/json"}, json.dumps(
        [{FORGED: 1}] if path == "/key" else [{"targets": [FORGED + "/" * 5000]}]).encode()))
    service = Server(lambda _: (400, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(
        {"__type": "AccessDeniedException", "message": FORGED}).encode()))
    name = FORGED.replace("/", "")[:90]
    odd_folder = folder / name
    odd_folder.mkdir()
    (odd_folder / "text").mkdir()
    (odd_folder / "text" / "a\x1b[31m.prom").write_bytes(b"bad \x1b line\n")
    config = configure(odd_folder, [
        {"job_name": "evil" + FORGED.replace("\U000e0041", ""), "scrape_interval": "1s", "scrape_timeout": "900ms",
         "file_sd_configs": [{"files": [str(folder / "list.json")]}],
         "http_sd_configs": [{"url": f"http://127.0.0.1:{listing.port}/key"}, {"url": f"http://127.0.0.1:{listing.port}/targets"}]},
        {"job_name": "odd", "scrape_interval": "1s", "scrape_timeout": "900ms", "static_configs": [{"targets": [f"127.0.0.1:{odd.port}"]}]},
    ], f"http://127.0.0.1:{service.port}", {"log_stream_name": "{instance}", "textfile": {"directory": str(odd_folder / "text"), "interval": "1s"},
                                            "labels": {"more": FORGED.replace("{", "").replace("}", "")}})

    code, out, err = promwatch(folder, "check", "--config", config, "--state-dir", folder / "state")
    assert code == 0, (code, out, err)
    assert "evil" in out and "\\u202e" in out, out
    calm("check", out + err)
    (odd_folder / "wrong.json").write_text(json.dumps({"logs": {FORGED: 1}}))
    code, out, err = promwatch(folder, "check", "--config", odd_folder / "wrong.json")
    assert code == 78, (code, out, err)
    calm("check of a wrong file", out + err)
    code, out, err = promwatch(folder, "run", "--config", odd_folder / "wrong.json")
    assert code == 78 and err
    calm("a refused start", out + err)
    code, out, err = promwatch(folder, FORGED)
    assert code == 64
    calm("wrong usage", out + err)

    code, out, err = promwatch(folder, "once", "--config", config)
    assert code == 0 and err
    calm("once", out + err)
    messages = [json.loads(json.loads(line)["message"]) for line in out.splitlines()]
    assert any(message.get("evil") == FORGED for message in messages), "the content is the same"
    assert any(FORGED.replace(":", "_") in json.loads(line)["log_stream"] for line in out.splitlines()), out[:500]

    for journal in (False, True):
        shutil.rmtree(folder / "state", ignore_errors=True)
        (folder / "log").unlink(missing_ok=True)
        env = environment(folder, **({"JOURNAL_STREAM": "1:2"} if journal else {}))
        run = agent(folder, config, env)
        ready = lambda: promwatch(folder, "buffer", "cat", "--state-dir", folder / "state")[1]
        wait_for("events on disk", ready)
        wait_for("all targets", lambda: promwatch(folder, "status", "--state-dir", folder / "state")[1].count(" failed, last") == 5)
        wait_for("the service's answer", lambda: "AccessDenied" in (folder / "log").read_bytes().decode())
        code, out, err = promwatch(folder, "status", "--state-dir", folder / "state")
        assert code == 0, err
        calm("status", out + err)
        heads = ("promwatch", "events", "          ", "backlog", "upstream", "credentials", "clock", "buffer", "loop", "left out", "discovery", "target")
        assert all(line.startswith(heads) for line in out.splitlines()), out
        assert len([line for line in out.splitlines() if line.startswith("target ")]) == 5, out
        code, out, err = promwatch(folder, "status", "--json", "--state-dir", folder / "state")
        calm("status --json", out + err)
        status = json.loads(out)
        assert any(target["instance"] == FORGED for target in status["targets"]), status["targets"]
        assert all(len(target["last_error"] or "") < 2500 for target in status["targets"]), status["targets"]
        assert all(len(error) < 2500 for error in status["discovery_errors"]) and status["discovery_errors"], status["discovery_errors"]
        run.stop()
        log = (folder / "log").read_bytes().decode()
        calm("the log", log)
        form = r"<[3-7]>[EWID]! " if journal else r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [EWID]! "
        assert log and all(re.match(form, line) for line in log.splitlines()), log
        assert len(log.splitlines()) < 40, log
    for words in (["info"], ["list"], ["cat"], ["verify"], ["export", odd_folder / "x.pwx"]):
        code, out, err = promwatch(folder, "buffer", *words, "--state-dir", folder / "state")
        assert code == 0 and out, (words, code, err)
        calm(f"buffer {words[0]}", out + err)
        if words == ["cat"]:
            assert any(json.loads(json.loads(line)["message"]).get("evil") == FORGED for line in out.splitlines())
        if words == ["list"]:
            assert all(re.match(r"\d+ \d{4}-", line) for line in out.splitlines()), out


def test_an_error_text_that_varies_is_logged_once(folder):
    count = [0]

    def answer(_):
        count[0] += 1
        return 200, {"Content-Type": "text/plain"}, f"broken {count[0]}x\n".encode()

    config = configure(folder, [{"job_name": "varies", "scrape_interval": "100ms", "scrape_timeout": "90ms",
                                 "static_configs": [{"targets": [f"127.0.0.1:{Server(answer).port}"]}]}])
    run = agent(folder, config)
    wait_for("sixty scrapes", lambda: count[0] > 60)
    time.sleep(5.5)
    said = json.loads(promwatch(folder, "status", "--json", "--state-dir", folder / "state")[1])["targets"][0]
    run.stop()
    lines = [line for line in (folder / "log").read_text().splitlines() if "target down" in line]
    assert len(lines) == 1, lines
    number = int(re.search(r"(\d+)x", said["last_error"]).group(1))
    assert number > 60, said


def test_a_list_from_the_network_names_no_socket(folder):
    path = str(folder / "engine.sock")
    engine = socket.socket(socket.AF_UNIX)
    engine.bind(path)
    engine.listen()
    asked = []

    def serve():
        while True:
            connection, _ = engine.accept()
            asked.append(connection.recv(4096))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\nthe engine's secret 1\n")
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    listing = json.dumps([{"targets": [f"unix:{path}", f"unix:{path}:/v1.43/info", "a:1"], "labels": {"to": f"unix:{path}"}}])
    server = Server(lambda _: (200, {"Content-Type": "application/json"}, listing.encode()))
    (folder / "list.json").write_text(listing)
    rules = [{"source_labels": ["__address__"], "regex": "a:1", "target_label": "__address__", "replacement": f"unix:{path}"}]
    remote = configure(folder, [{"job_name": "remote", "http_sd_configs": [{"url": f"http://127.0.0.1:{server.port}/"}], "relabel_configs": rules}])
    code, out, err = promwatch(folder, "once", "--config", remote)
    assert asked == [] and out == "", (asked, out)
    assert err.count("cannot name a Unix socket") == 3 and "secret" not in err, err
    run = agent(folder, remote)
    told = lambda: "cannot name a Unix socket" in promwatch(folder, "status", "--state-dir", folder / "state")[1]
    wait_for("the refusal in status", told)
    run.stop()
    assert asked == []
    local = configure(folder, [{"job_name": "local", "file_sd_configs": [{"files": ["list.json"]}], "relabel_configs": rules}])
    promwatch(folder, "once", "--config", local)
    assert len(asked) >= 2, asked


def test_a_redirect_to_another_port_gets_no_credentials(folder):
    target = Server(page("# TYPE g gauge\ng 1\n"))
    first = Server(lambda path: (302, {"Location": f"http://127.0.0.1:{target.port}/metrics" if path == "/metrics" else "/"}, b""))
    config = configure(folder, [{
        "job_name": "moved", "authorization": {"credentials": "hunter2"}, "http_headers": {"X-Key": {"secrets": ["hunter2"]}},
        "static_configs": [{"targets": [f"127.0.0.1:{first.port}"]}]}])
    code, out, err = promwatch(folder, "once", "--config", config)
    assert code == 0 and out, err
    assert "hunter2" in str(first.seen) and target.seen and "hunter2" not in str(target.seen), target.seen


def status_dirs(*dirs):
    return [path for dir in dirs for path in dir.glob("status-*")] if all(dir.exists() for dir in dirs) else None


def test_folders_and_files_of_other_users_are_left_alone(folder):
    config = configure(folder, [{"job_name": "a", "static_configs": [{"targets": ["127.0.0.1:9"]}]}])
    bad = folder / "run"
    elsewhere = folder / "elsewhere"

    def open_to_all():
        bad.mkdir()
        bad.chmod(0o777)

    def link():
        elsewhere.mkdir(exist_ok=True)
        bad.symlink_to(elsewhere)

    def of_nobody():
        bad.mkdir(mode=0o700)
        os.chown(bad, NOBODY, NOBODY)

    cases = [(open_to_all, "writable"), (link, "link")] + ([(of_nobody, f"user {NOBODY}")] if ROOT else [])
    for slash in ("", "/"):
        for make, word in cases:
            make()
            own = folder / "own"
            env = environment(folder, XDG_RUNTIME_DIR=str(own))
            env["RUNTIME_DIRECTORY"] = str(bad) + slash
            run = agent(folder, config, env)
            wait_for("a status file elsewhere", lambda: list(own.glob("promwatch/status-*")))
            run.stop()
            assert os.stat(own / "promwatch").st_mode & 0o777 == 0o700
            assert not list(bad.glob("*")), word
            log = (folder / "log").read_text()
            assert f"no status file in {bad}" in log and word in log, log
            code, out, err = promwatch(folder, "status", "--config", config, "--state-dir", folder / "state", env=env)
            assert code == 0, err
            shutil.rmtree(own)
            bad.unlink() if bad.is_symlink() else shutil.rmtree(bad)
            (folder / "log").unlink()

    # Shared memory, where anybody may be first.
    shared = pathlib.Path(f"/dev/shm/promwatch-{os.getuid()}")
    if ROOT and not shared.exists():
        shared.mkdir()
        os.chown(shared, NOBODY, NOBODY)
        try:
            of_nobody()
            run = agent(folder, config, environment(folder, XDG_RUNTIME_DIR="/proc"))
            wait_for("the refusal", lambda: f"no status file in {shared}" in (folder / "log").read_text())
            time.sleep(1)
            run.stop()
            assert not list(shared.iterdir())
            shutil.rmtree(bad)
        finally:
            shutil.rmtree(shared)

    # What was written is believed only as long as nobody else can have written it.
    run = agent(folder, config)
    file, = wait_for("a status file", lambda: list(bad.glob("status-*.json")))
    run.stop()
    status = lambda: promwatch(folder, "status", "--state-dir", folder / "state")
    assert status()[0] == 0
    good = file.read_bytes()

    def refused(word):
        code, out, err = status()
        assert code == 1 and word in err and not out, (code, out, err)

    bad.chmod(0o777)
    refused("writable")
    bad.chmod(0o700)
    file.rename(folder / "kept")
    file.symlink_to(folder / "kept")
    refused("regular")
    file.unlink()
    file.write_bytes(good)
    if ROOT:
        os.chown(file, NOBODY, NOBODY)
        refused(f"user {NOBODY}")
        os.chown(bad, NOBODY, NOBODY)
        refused(f"user {NOBODY}")
        # An agent of that user's would own the state directory too.
        os.chown(folder / "state", NOBODY, NOBODY)
        assert status()[0] == 0, status()
    # A link where the file is to be written is replaced, not followed.
    if not ROOT:
        return
    os.chown(bad, 0, 0)
    file.unlink()
    victim = folder / "victim"
    victim.write_text("precious")
    file.symlink_to(victim)
    file.with_suffix(".tmp").symlink_to(victim)
    run = agent(folder, config)
    wait_for("a new status file", lambda: not file.is_symlink() and status()[0] == 0)
    run.stop()
    assert victim.read_text() == "precious"


def test_check_warns_of_what_others_can_read(folder):
    (folder / "aws").mkdir()
    keys = folder / "aws" / "credentials"
    keys.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = hunter2\n")
    secret = folder / "secret"
    secret.write_text("hunter2\n")
    config = configure(folder, [{
        "job_name": "far", "scheme": "https", "bearer_token_file": "secret", "tls_config": {"insecure_skip_verify": True},
        "static_configs": [{"targets": ["192.0.2.1:9100"]}]}, {
        "job_name": "plain", "bearer_token_file": "secret", "static_configs": [{"targets": ["192.0.2.2:9100", "localhost:1"]}],
    }], "http://192.0.2.3:5000")
    env = environment(folder, AWS_SHARED_CREDENTIALS_FILE=str(keys))
    for mode, count in ((0o644, 3), (0o640, 3), (0o600, 0)):
        for path in (keys, secret):
            path.chmod(mode)
        code, out, err = promwatch(folder, "check", "--config", config, "--state-dir", folder, env=env)
        assert code == 0 and "hunter2" not in out + err, (code, out, err)
        warnings = [line for line in out.splitlines() if line.startswith("warning: ")]
        assert len(warnings) == 3 + count, out
        assert sum("other users of the machine" in line for line in warnings) == count, out
        assert sum(str(keys) + ":3:1: aws_secret_access_key" in line for line in warnings) == (count > 0), out
        for word in ("events go unencrypted to 192.0.2.3:5000", "any certificate is accepted", "credentials go unencrypted to 192.0.2.2:9100"):
            assert sum(word in line for line in warnings) == 1, out


def main():
    only = sys.argv[2:]
    failed = 0
    for name, test in [(n, t) for n, t in globals().items() if n.startswith("test_")]:
        if only and not any(word in name for word in only):
            continue
        folder = pathlib.Path(tempfile.mkdtemp(prefix="promwatch-strangers-"))
        begun = time.monotonic()
        try:
            test(folder)
            print(f"  {name} ok ({time.monotonic() - begun:.0f} s)", flush=True)
            shutil.rmtree(folder)
        except BaseException:
            failed += 1
            traceback.print_exc()
            print(f"  {name} FAILED; see {folder}", flush=True)
        finally:
            stop_all()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
