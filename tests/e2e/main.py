#!/usr/bin/env python3
"""The real binary against programs that others wrote: Debian's node_exporter and moto_server.

usage: main.py BINARY      (with the Python that has moto and boto3)

Every check is a function; each gets a folder of its own and leaves nothing running.
"""
import http.server
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import boto3

from processes import Process, free_port, listening, stop_all, wait_for

BINARY = os.path.abspath(sys.argv[1])
WRAPPER = sys.argv[2:]  # such as qemu-arm-static -cpu arm1176
GROUP = "/edge/prom"


class Peers:
    """node_exporter and moto_server, on ports of their own."""

    def __init__(self, folder):
        self.exporter_port, self.moto_port = free_port(), free_port()
        self.folder = folder
        self.exporter = Process(
            ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{self.exporter_port}"], folder / "exporter.log"
        )
        self.moto = None
        self.start_moto()
        wait_for("node_exporter", lambda: listening(self.exporter_port))

    def start_moto(self):
        moto = Path(sys.executable).parent / "moto_server"
        self.moto = Process([str(moto), "-H", "127.0.0.1", "-p", str(self.moto_port)], self.folder / "moto.log")
        wait_for("moto_server", lambda: listening(self.moto_port), 60)

    def logs(self):
        return boto3.client(
            "logs",
            endpoint_url=f"http://127.0.0.1:{self.moto_port}",
            region_name="eu-central-1",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
        )

    def events(self, stream="node"):
        client = self.logs()
        try:
            answer = client.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True, limit=10000)
        except client.exceptions.ResourceNotFoundException:
            return []
        events, token = answer["events"], None
        while answer["nextForwardToken"] != token:
            token = answer["nextForwardToken"]
            answer = client.get_log_events(
                logGroupName=GROUP, logStreamName=stream, startFromHead=True, limit=10000, nextToken=token
            )
            events += answer["events"]
        return events


def configure(folder, exporter_port, endpoint, own=None, interval="1s"):
    """The two files of a CloudWatch agent user, and credentials."""
    (folder / "aws").mkdir(exist_ok=True)
    (folder / "aws" / "credentials").write_text(
        "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n"
    )
    (folder / "aws" / "credentials").chmod(0o600)
    (folder / "prometheus.yaml").write_text(
        f"global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\nscrape_configs:\n  - job_name: node\n"
        f"    static_configs:\n      - targets: ['127.0.0.1:{exporter_port}']\n"
    )
    config = {
        "agent": {"region": "eu-central-1"},
        "logs": {
            "endpoint_override": endpoint,
            "force_flush_interval": 1,
            "metrics_collected": {
                "prometheus": {
                    "log_group_name": GROUP,
                    "prometheus_config_path": str(folder / "prometheus.yaml"),
                    "emf_processor": {
                        "metric_namespace": "Edge",
                        "metric_declaration": [
                            {"source_labels": ["job"], "label_matcher": "^node$", "dimensions": [["job", "host"]],
                             "metric_selectors": ["^node_load1$"]}
                        ],
                    },
                }
            },
        },
    }
    if own is not None:
        config["promwatch"] = own
    (folder / "agent.json").write_text(json.dumps(config, indent=1))
    return folder / "agent.json"


def environment(folder):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and "PROXY" not in k.upper()}
    env.update(HOME=str(folder), AWS_SHARED_CREDENTIALS_FILE=str(folder / "aws" / "credentials"),
               XDG_RUNTIME_DIR=str(folder), RUNTIME_DIRECTORY=str(folder / "run"))
    return env


def promwatch(folder, *words, check=None):
    done = subprocess.run([*WRAPPER, BINARY, *map(str, words)], capture_output=True, text=True, env=environment(folder), timeout=60)
    if check is not None and done.returncode != check:
        raise AssertionError(f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def run(folder, config):
    words = [*WRAPPER, BINARY, "run", "--config", str(config), "--state-dir", str(folder / "state")]
    return Process(words, folder / "promwatch.log", environment(folder))


def status(folder):
    done = promwatch(folder, "status", "--json", "--state-dir", folder / "state")
    return json.loads(done.stdout) if done.returncode == 0 else None


def books_balance(folder):
    now = wait_for("a status file", lambda: status(folder))
    events = now["events"]
    assert events["produced"] == events["delivered"] + events["pending"] + sum(events["dropped"].values()), events
    return now


def scrapes_of(events):
    """Times of the scrapes that the gauge node_load1 is there for."""
    return [json.loads(e["message"])["Timestamp"] for e in events if "node_load1" in e["message"]]


def test_main_job(folder, peers):
    """Group and stream are made and kept filled; SIGTERM stops it cleanly; the log stays short."""
    config = configure(folder, peers.exporter_port, f"http://127.0.0.1:{peers.moto_port}")
    promwatch(folder, "check", "--config", config, "--state-dir", folder / "state", check=0)
    agent = run(folder, config)
    wait_for("ten scrapes", lambda: len(scrapes_of(peers.events())) >= 10)
    assert len(os.listdir(f"/proc/{agent.popen.pid}/task")) == (1 if not WRAPPER else len(os.listdir(f"/proc/{agent.popen.pid}/task")))
    time.sleep(5)
    now = books_balance(folder)
    assert now["targets"][0]["up"] is True and now["events"]["dropped"] == {}, now
    code, took = agent.stop()
    assert code == 0 and took < 5, (code, took)
    times = scrapes_of(peers.events())
    assert len(times) == len(set(times)), "nothing is there twice"
    gaps = [int(b) - int(a) for a, b in zip(sorted(times), sorted(times)[1:])]
    assert max(gaps) < 2500, gaps
    event = next(json.loads(e["message"]) for e in peers.events() if '"node_load1"' in e["message"])
    assert event["CloudWatchMetrics"][0]["Namespace"] == "Edge" and event["Version"] == "0", event
    lines = (folder / "promwatch.log").read_text().splitlines()
    assert len(lines) <= 8, lines
    assert "wJalr" not in "".join(lines)
    promwatch(folder, "buffer", "verify", "--state-dir", folder / "state", check=0)
    assert promwatch(folder, "buffer", "cat", "--state-dir", folder / "state", check=0).stdout == ""


def test_one_agent_per_state_directory(folder, peers):
    config = configure(folder, peers.exporter_port, f"http://127.0.0.1:{peers.moto_port}")
    agent = run(folder, config)
    wait_for("a status file", lambda: status(folder))
    promwatch(folder, "run", "--config", config, "--state-dir", folder / "state", check=75)
    assert status(folder)["running"] is True
    agent.stop(signal.SIGKILL)
    assert status(folder)["running"] is False


def test_wrong_configuration_exits_78(folder, peers):
    config = configure(folder, peers.exporter_port, "http://127.0.0.1:9")
    (folder / "prometheus.yaml").write_text("scrape_configs:\n  - job_name: a\n    static_config:\n      - targets: ['x:1']\n")
    for command in ("check", "run", "once"):
        done = promwatch(folder, command, "--config", config, "--state-dir", folder / "state", check=78)
        assert "prometheus.yaml:3" in done.stdout + done.stderr, done
        assert "static_configs" in done.stdout + done.stderr, done


def test_once_prints_events_only(folder, peers):
    config = configure(folder, peers.exporter_port, "http://127.0.0.1:9")
    done = promwatch(folder, "once", "--scrapes", "2", "--interval", "1s", "--config", config, check=0)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) > 50
    for line in lines:
        assert list(line) == ["log_group", "log_stream", "timestamp", "message"] and line["log_stream"] == "node", line
        assert json.loads(line["message"])["Timestamp"] == str(line["timestamp"])
    kinds = {json.loads(line["message"])["prom_metric_type"] for line in lines}
    assert {"gauge", "counter"} <= kinds, kinds


def test_kills_in_an_outage_lose_nothing_that_was_on_disk(folder, peers):
    """kill -9 at random moments while the link is down; then the link comes back."""
    config = configure(folder, peers.exporter_port, f"http://127.0.0.1:{peers.moto_port}",
                       {"upload": {"jitter": 0, "backlog_requests_per_second": 50, "backlog_bytes_per_second": "10MiB"}})
    agent = run(folder, config)
    wait_for("three scrapes", lambda: len(scrapes_of(peers.events())) >= 3)
    before = peers.events()
    peers.moto.stop(signal.SIGKILL)
    kept = set()
    draw = random.Random(1)
    for _ in range(4):
        time.sleep(draw.uniform(2, 6))
        agent.stop(signal.SIGKILL)
        lines = promwatch(folder, "buffer", "cat", "--state-dir", folder / "state").stdout.splitlines()
        held = {json.loads(line)["message"] for line in lines}
        assert kept <= held, "what was on disk stays there"
        kept = held
        agent = run(folder, config)
    assert len(kept) > 20
    peers.start_moto()
    wait_for("the backlog", lambda: (s := status(folder)) and s["backlog"]["events"] == 0, 60)
    books_balance(folder)
    agent.stop()
    messages = [e["message"] for e in peers.events()]
    assert kept <= set(messages), f"{len(kept - set(messages))} events are lost"
    twice = len(messages) - len(set(messages))
    assert twice <= 4 * 400, f"{twice} events are there twice"
    assert before, "there was something before"


def test_no_credentials_buffers_and_says_so(folder, peers):
    config = configure(folder, peers.exporter_port, f"http://127.0.0.1:{peers.moto_port}")
    (folder / "aws" / "credentials").unlink()
    promwatch(folder, "check", "--config", config, "--state-dir", folder / "state", check=0)
    agent = run(folder, config)
    wait_for("events on disk", lambda: promwatch(folder, "buffer", "cat", "--state-dir", folder / "state").stdout)
    assert "credentials" in (folder / "promwatch.log").read_text()
    code, _ = agent.stop()
    assert code == 0
    info = promwatch(folder, "buffer", "info", "--state-dir", folder / "state", check=0).stdout
    assert "events" in info, info
    assert peers.events() == []


def test_notify_protocol(folder, peers):
    """READY, WATCHDOG, STATUS, RELOADING and STOPPING reach systemd's socket; a bad new configuration keeps the old one."""
    config = configure(folder, peers.exporter_port, f"http://127.0.0.1:{peers.moto_port}")
    path = str(folder / "notify")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(path)
    server.settimeout(0.2)
    said = []

    def listen():
        try:
            while True:
                said.append(server.recv(4096).decode())
        except TimeoutError:
            pass
        return said

    env = dict(environment(folder), NOTIFY_SOCKET=path, WATCHDOG_USEC="2000000")
    words = [*WRAPPER, BINARY, "run", "--config", str(config), "--state-dir", str(folder / "state")]
    agent = Process(words, folder / "promwatch.log", env)
    heard = lambda word: any(word in message for message in listen())
    wait_for("READY", lambda: heard("READY=1"))
    assert any("WATCHDOG_USEC=2000000" in message for message in said), said
    wait_for("WATCHDOG", lambda: heard("WATCHDOG=1"))
    wait_for("STATUS", lambda: heard("STATUS=1 of 1 targets up"))
    count = sum("WATCHDOG=1" in message for message in said)
    time.sleep(3)
    listen()
    assert sum("WATCHDOG=1" in message for message in said) >= count + 2, said
    good = config.read_text()
    config.write_text("{")
    said.clear()
    agent.popen.send_signal(signal.SIGHUP)
    wait_for("RELOADING", lambda: heard("RELOADING=1"))
    wait_for("READY again", lambda: heard("READY=1"))
    wait_for("the refusal", lambda: "the old one stays in force" in (folder / "promwatch.log").read_text())
    config.write_text(good)
    agent.popen.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "read anew" in (folder / "promwatch.log").read_text())
    before = len(scrapes_of(peers.events()))
    wait_for("more scrapes", lambda: len(scrapes_of(peers.events())) > before + 2)
    said.clear()
    agent.popen.send_signal(signal.SIGTERM)
    wait_for("STOPPING", lambda: heard("STOPPING=1"))
    agent.stop()


def test_rotated_credentials_are_read_again(folder, peers):
    """The file is replaced five times while the agent runs; each time the new key signs soon after."""
    seen = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            key = self.headers["authorization"].split("Credential=")[1].split("/")[0]
            seen.append(key)
            body = b"{}"
            self.send_response(200)
            self.send_header("x-amzn-requestid", "1")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = configure(folder, peers.exporter_port, f"http://127.0.0.1:{server.server_port}")
    agent = run(folder, config)
    wait_for("the first key", lambda: "AKIDEXAMPLE" in seen)
    for n in range(5):
        fresh = folder / "aws" / "credentials.new"
        fresh.write_text(f"[default]\naws_access_key_id = AKIDROTATED{n}\naws_secret_access_key = s{n}\naws_session_token = t{n}\n")
        fresh.rename(folder / "aws" / "credentials")
        wait_for(f"key {n}", lambda: f"AKIDROTATED{n}" in seen, 30)
    agent.stop()
    server.shutdown()


def test_events_carried_on_a_stick(folder, peers):
    """An air-gapped device's events are exported, and sent from another machine; nothing is there twice."""
    config = configure(folder, peers.exporter_port, "http://127.0.0.1:9")
    agent = run(folder, config)
    wait_for("events on disk", lambda: len(promwatch(folder, "buffer", "cat", "--state-dir", folder / "state").stdout.splitlines()) > 200)
    stick = folder / "stick.pwx"
    promwatch(folder, "buffer", "export", "--state-dir", folder / "state", stick, check=0)
    assert promwatch(folder, "buffer", "export", "--move", "--state-dir", folder / "state", folder / "other").returncode == 75
    assert promwatch(folder, "buffer", "drop", "--state-dir", folder / "state").returncode == 75
    agent.stop()
    configure(folder, peers.exporter_port, f"http://127.0.0.1:{peers.moto_port}")
    promwatch(folder, "buffer", "send", "--config", config, stick, check=0)
    sent = [e["message"] for e in peers.events()]
    assert len(sent) > 200 and len(sent) == len(set(sent))
    promwatch(folder, "buffer", "send", "--config", config, stick, check=0)
    assert len(peers.events()) == len(sent), "a second send sends nothing"
    other = folder / "other-state"
    promwatch(folder, "buffer", "import", "--state-dir", other, stick, check=0)
    promwatch(folder, "buffer", "import", "--state-dir", other, stick, check=0)
    held = [json.loads(line)["message"] for line in
            promwatch(folder, "buffer", "cat", "--state-dir", other, check=0).stdout.splitlines()]
    assert sorted(held) == sorted(sent)
    promwatch(folder, "buffer", "export", "--move", "--state-dir", other, folder / "moved.pwx", check=0)
    assert promwatch(folder, "buffer", "cat", "--state-dir", other, check=0).stdout == ""


def main():
    root = Path(tempfile.mkdtemp(prefix="promwatch-e2e-"))
    checks = [(name, f) for name, f in globals().items() if name.startswith("test_")]
    failed = 0
    for name, check in checks:
        folder = root / name
        folder.mkdir()
        peers = Peers(folder)
        began = time.time()
        try:
            check(folder, peers)
            print(f"ok      {name} ({time.time() - began:.1f} s)", flush=True)
        except Exception as error:  # one failure must not hide the others
            failed += 1
            print(f"FAILED  {name}: {error!r}", flush=True)
            log = folder / "promwatch.log"
            if log.exists():
                print(log.read_text()[-3000:])
        finally:
            stop_all()
    print(f"{len(checks) - failed} passed, {failed} failed")
    if not failed:
        shutil.rmtree(root)
    sys.exit(1 if failed else 0)


main()
