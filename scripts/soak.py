#!/usr/bin/env python3
"""Hours of real time with random kills, outages and a 16 MiB file system that fills.

usage: scripts/soak.py BINARY [MINUTES] [SEED]        (root, to mount the file system; otherwise a folder is used)

An exporter counts its scrapes and a stand-in stores what it is sent. At random the agent is killed (-9), stopped and started,
the link goes down, the file system is filled and freed. At the end the link is up and everything drains. Then every event that
`buffer cat` ever showed must be stored or counted as dropped, no event may be there more often than kills and lost
answers allow, and the books must balance.
"""
import gzip
import http.server
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from email.utils import formatdate
from pathlib import Path

BINARY = os.path.abspath(sys.argv[1])
MINUTES = float(sys.argv[2]) if len(sys.argv) > 2 else 60
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else int(time.time())
SERIES = 300


class World:
    def __init__(self):
        self.up = True
        self.swallow = 0  # answers to lose after storing
        self.scrapes = 0
        self.stored = {}
        self.requests = 0
        self.lost_answers = 0


world = World()


class Exporter(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        world.scrapes += 1
        n = world.scrapes
        lines = ["# TYPE g gauge", f"g {n}", "# TYPE c_total counter"]
        lines += [f'c_total{{i="{i}"}} {n * (i + 1)}' for i in range(SERIES)]
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Logs(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if not world.up:
            self.connection.close()
            self.close_connection = True
            return
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        world.requests += 1
        for event in json.loads(body).get("logEvents", []):
            world.stored[event["message"]] = world.stored.get(event["message"], 0) + 1
        if world.swallow:
            world.swallow -= 1
            world.lost_answers += 1
            self.connection.close()
            self.close_connection = True
            return
        answer = b"{}"
        self.send_response(200)
        self.send_header("x-amzn-requestid", str(world.requests))
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def date_time_string(self, timestamp=None):
        return formatdate(timestamp, usegmt=True)

    def log_message(self, *_):
        pass


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def main():
    draw = random.Random(SEED)
    folder = Path(tempfile.mkdtemp(prefix="promwatch-soak-"))
    disk = folder / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True, check=False).returncode == 0
    exporter, logs = serve(Exporter), serve(Logs)
    (folder / "credentials").write_text("[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n")
    (folder / "prometheus.yaml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: soak\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{exporter}']\n")
    (folder / "agent.json").write_text(json.dumps({
        "agent": {"region": "eu-central-1"},
        "logs": {"endpoint_override": f"http://127.0.0.1:{logs}", "metrics_collected": {"prometheus": {
            "log_group_name": "/soak", "prometheus_config_path": str(folder / "prometheus.yaml")}}},
        "promwatch": {"buffer": {"max_bytes": "8MiB", "memory_bytes": "1MiB"},
                      "upload": {"jitter": 0, "backlog_requests_per_second": 50, "backlog_bytes_per_second": "10MiB"}}}))
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    env.update(HOME=str(folder), AWS_SHARED_CREDENTIALS_FILE=str(folder / "credentials"), RUNTIME_DIRECTORY=str(folder / "run"))
    state = disk / "state"
    log = open(folder / "log", "ab")

    def start():
        return subprocess.Popen([BINARY, "run", "--config", str(folder / "agent.json"), "--state-dir", str(state)],
                                env=env, stdout=log, stderr=log)

    def held():
        done = subprocess.run([BINARY, "buffer", "cat", "--state-dir", str(state)], capture_output=True, text=True, env=env)
        return [json.loads(line)["message"] for line in done.stdout.splitlines()]

    def status():
        done = subprocess.run([BINARY, "status", "--json", "--state-dir", str(state)], capture_output=True, text=True, env=env)
        return json.loads(done.stdout) if done.returncode == 0 else None

    seen, kills, junk = set(), 0, disk / "junk"
    agent = start()
    end = time.time() + MINUTES * 60
    while time.time() < end:
        time.sleep(draw.uniform(1, 8))
        chance = draw.random()
        if chance < 0.2:
            agent.send_signal(signal.SIGKILL)
            agent.wait()
            kills += 1
            seen.update(held())
            agent = start()
        elif chance < 0.3:
            agent.send_signal(signal.SIGTERM)
            began = time.time()
            assert agent.wait(timeout=15) == 0
            assert time.time() - began < 10, "a clean stop takes seconds"
            seen.update(held())
            agent = start()
        elif chance < 0.5:
            world.up = False
        elif chance < 0.75:
            world.up = True
        elif chance < 0.8:
            world.swallow = 1
        elif chance < 0.87 and mounted:
            try:
                with open(junk, "wb") as file:
                    while True:
                        file.write(b"x" * 65536)
            except OSError:
                pass
        elif chance < 0.95:
            junk.unlink(missing_ok=True)
        assert agent.poll() is None, "the agent never ends by itself"
    junk.unlink(missing_ok=True)
    world.up, world.swallow = True, 0
    deadline = time.time() + 300
    while time.time() < deadline:
        now = status()
        if now and now["backlog"]["events"] == 0 and now["disk"]["buffer"] == "disk":
            break
        time.sleep(1)
    time.sleep(6)
    now = status()
    events = now["events"]
    assert events["produced"] == events["delivered"] + events["pending"] + sum(events["dropped"].values()), events
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(timeout=15) == 0
    missing = len([message for message in seen if message not in world.stored])
    dropped = sum(events["dropped"].values())
    twice = sum(count - 1 for count in world.stored.values())
    print(f"seed {SEED}: {MINUTES} min, {world.scrapes} scrapes, {len(world.stored)} different events stored, {kills} kills, "
          f"{world.lost_answers} lost answers, {twice} duplicates, {dropped} dropped ({events['dropped']}), "
          f"{missing} of {len(seen)} events seen on disk are not stored; file system {'16 MiB tmpfs' if mounted else 'a folder'}")
    if mounted:
        subprocess.run(["umount", str(disk)], check=False)
    assert missing <= dropped, "every event that was on disk is delivered or counted"
    assert twice <= (kills + world.lost_answers) * 3000, "duplicates stay within a batch each"
    print("soak passed")


main()
