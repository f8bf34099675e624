#!/usr/bin/env python3
"""Measures promwatch, and the peers that are installed, on the same pages at the same time.

usage: bench.py BINARY [--no-peers] [--quick]

Everything runs on loopback: an exporter of its own for each agent, and an upstream that speaks TLS. Processor time is
what the kernel counted for the process (schedstat), never wall time, so a busy machine disturbs it little.
"""
import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import agents
import pages

from cloudwatch_logs import CloudWatchLogs

ROOT = Path(__file__).resolve().parents[2]


def wait_until(what, condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Upstream(CloudWatchLogs):
    """Also takes remote writes, which it only counts."""

    def __init__(self, folder):
        folder.mkdir(parents=True)
        super().__init__(folder, keep=False)

    def serve(self, headers, path, body):
        if path == "/write":
            self.requests += 1
            self.body_bytes += len(body)
            return 200, b""
        return super().serve(headers, path, body)


class Window:
    """An agent on a page, measured between two scrapes, half an interval after each: equal phases, whole cycles."""

    def __init__(self, start, folder, page, interval_s, warm, scrapes):
        self.page, self.interval_s, self.warm, self.scrapes = page, interval_s, warm, scrapes
        folder.mkdir(parents=True)
        (folder / "state").mkdir()
        self.exporter, self.upstream = pages.Exporter(page), Upstream(folder / "upstream")
        self.agent = start(folder, self.exporter, self.upstream, interval_s)
        self.error = None
        self.thread = threading.Thread(target=self.measure)
        self.thread.start()

    def snapshot(self):
        return (self.exporter.scrapes, self.agent.cpu_seconds(), self.upstream.body_bytes, self.agent.written_bytes(),
                self.agent.state_bytes())

    def measure(self):
        try:
            wait_until("the first scrapes", lambda: self.exporter.scrapes >= self.warm, 60 + self.warm * self.interval_s * 3)
            time.sleep(self.interval_s / 2)
            before = self.snapshot()
            rss, self.threads, end = [], 0, before[0] + self.scrapes
            limit = time.monotonic() + 30 + self.scrapes * self.interval_s * 3
            while self.exporter.scrapes < end and time.monotonic() < limit:
                rss.append(self.agent.memory()[0])
                self.threads = max(self.threads, self.agent.threads())
                time.sleep(0.05)
            time.sleep(self.interval_s / 2)
            after = self.snapshot()
            self.rss, self.peak = statistics.median(rss), self.agent.memory()[1]
            scrapes, cpu, wire, self.written, self.grown = (b - a for a, b in zip(before, after))
            self.cpu_ms_per_scrape = cpu * 1000 / scrapes
            self.cpu_ms_per_1000 = self.cpu_ms_per_scrape * 1000 / self.page.samples
            self.wire_per_sample = wire / scrapes / self.page.samples
            self.violations = self.upstream.violations
        except Exception as error:  # told where the row would be; the other agents' figures stand
            self.error = error
        finally:
            self.agent.stop()
            self.exporter.close()
            self.upstream.stop()


def first_scrapes(binary, folder, rounds):
    """Milliseconds from the start of the process until its first request reaches the exporter."""
    took = []
    page = pages.page("node")
    upstream = Upstream(folder / "upstream")
    for n in range(rounds):
        place = folder / str(n)
        (place / "state").mkdir(parents=True)
        exporter = pages.Exporter(page)
        agent = agents.promwatch(binary, place, exporter, upstream, 1)
        wait_until("the first scrape", lambda: exporter.scrapes, 30)
        took.append((exporter.times[0] - agent.began) * 1000)
        agent.stop()
        exporter.close()
    upstream.stop()
    return sorted(took)


class Outage(threading.Thread):
    """The node page for some scrapes with a link that refuses connections: what lies on disk, and what was written."""

    def __init__(self, binary, folder, scrapes):
        super().__init__()
        self.binary, self.folder, self.wanted = binary, folder, scrapes

    def run(self):
        page = pages.page("node")
        (self.folder / "state").mkdir(parents=True)
        exporter, upstream = pages.Exporter(page), Upstream(self.folder / "upstream")
        agent = agents.promwatch(self.binary, self.folder, exporter, upstream, 1)
        wait_until("the first scrapes", lambda: exporter.scrapes >= 8 and upstream.event_count, 60)
        upstream.stop()
        kept, written, scrapes = agent.state_bytes(), agent.written_bytes(), exporter.scrapes
        wait_until("the outage", lambda: exporter.scrapes >= scrapes + self.wanted, 60 + self.wanted * 3)
        written, scrapes = agent.written_bytes() - written, exporter.scrapes - scrapes
        agent.stop()  # what waits in memory is written too
        samples = scrapes * page.samples
        self.kept_per_sample = (agent.state_bytes() - kept) / samples
        self.written_per_sample = written / samples
        exporter.close()


class BlackHole(threading.Thread):
    """The node page every second while the upstream swallows every packet: the longest wait between two scrapes."""

    def __init__(self, binary, folder, seconds):
        super().__init__()
        self.binary, self.folder, self.seconds = binary, folder, seconds

    def run(self):
        (self.folder / "state").mkdir(parents=True)
        exporter, upstream = pages.Exporter(pages.page("node")), Upstream(self.folder / "upstream")
        upstream.stop()
        # A full queue of connections that nobody accepts: further SYNs stay unanswered.
        silent = socket.socket()
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        upstream.port = silent.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
            fillers.append(filler)
        time.sleep(0.2)
        agent = agents.promwatch(self.binary, self.folder, exporter, upstream, 1)
        time.sleep(self.seconds)
        agent.stop()
        times = exporter.times
        self.scrapes = len(times)
        self.late_s = max((b - a - 1 for a, b in zip(times, times[1:])), default=float("nan"))
        exporter.close()
        for s in [silent, *fillers]:
            s.close()


def instructions(binary, folder, name, few, many):
    """Instructions per scrape, steady: the difference of two runs under cachegrind, from scrape to acknowledged."""
    page = pages.page(name)
    counts = []
    for scrapes in (few, many):
        place = folder / f"{name}-{scrapes}"
        (place / "state").mkdir(parents=True)
        exporter, upstream = pages.Exporter(page), Upstream(place / "upstream")
        wrapper = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={place / 'out'}"]
        agent = agents.promwatch(binary, place, exporter, upstream, 1, wrapper)
        wait_until("the scrapes", lambda: exporter.scrapes >= scrapes, 300)
        agent.stop()
        found = re.search(r"I\s+refs:\s+([\d,]+)", (place / "log").read_text())
        if not found:
            raise RuntimeError((place / "log").read_text()[-500:])
        counts.append((exporter.scrapes, int(found[1].replace(",", ""))))
        exporter.close()
        upstream.stop()
    (n0, i0), (n1, i1) = counts
    return (i1 - i0) / (n1 - n0) / page.samples * 1000


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def budget(value, limit, unit=""):
    return f"{limit:,}{unit}" + ("" if value <= limit else " **over**")


def main():
    words = argparse.ArgumentParser()
    words.add_argument("binary")
    words.add_argument("--no-peers", action="store_true")
    words.add_argument("--quick", action="store_true", help="shorter windows, no valgrind")
    options = words.parse_args()
    binary = Path(options.binary).resolve()
    # Not in /tmp, which may lie in memory: bytes written to a disk are to be counted.
    (ROOT / "target").mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "target"))
    try:
        measure(binary, root, options)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(f"/dev/shm/promwatch-bench-{os.getpid()}", ignore_errors=True)


def measure(binary, root, options):
    mib = 1024 * 1024
    print(f"{binary} ({binary.stat().st_size} bytes), {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, "
          f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")

    row("binary", "bytes", "budget")
    row("---", "---:", "---")
    built = sorted((ROOT / "target/static").glob("*/promwatch"))
    for path in built:
        row(path.parent.name, f"{path.stat().st_size:,}", budget(path.stat().st_size, 2_000_000))
    if not built:
        row("none is built: scripts/build-static.sh", "", "")
    print()

    installed = [name for name in agents.PEERS if shutil.which(name)] if not options.no_peers else []
    starts = {"promwatch": lambda *words: agents.promwatch(binary, *words)}
    starts.update({name: agents.PEERS[name] for name in installed})
    row("page, interval", "agent", "peak MB (VmHWM)", "budget", "steady MB (VmRSS)", "CPU ms/scrape", "CPU ms/1,000 samples",
        "budget", "wire bytes/sample", "budget", "bytes written online", "budget", "threads", "budget")
    row(*["---"] * 2, *["---:"] * 12)
    short = options.quick
    for name, interval, warm, scrapes, peak_mb, wire in (
        ("node", 1, 8, 10 if short else 20, 3, 8), ("10000", 1, 5, 5 if short else 15, 8, None),
        ("100000", 5, 2, 2 if short else 4, 24, None),
    ):
        page = pages.page(name)
        title = f"{'node_exporter, ' if name == 'node' else ''}{page.samples:,} samples, {interval} s"
        windows = {agent: Window(start, root / f"{name}-{agent}", page, interval, warm, scrapes) for agent, start in starts.items()}
        for agent, window in windows.items():
            window.thread.join()
            if window.error:
                row(title, agent, f"failed: {window.error}", *[""] * 11)
                continue
            ours = agent == "promwatch"
            peak = window.peak / 1024
            written = window.written + (window.grown if ours else 0)
            row(title, agent, f"{peak:.2f}", budget(peak, peak_mb) if ours else "", f"{window.rss / 1024:.2f}",
                f"{window.cpu_ms_per_scrape:.2f}", f"{window.cpu_ms_per_1000:.2f}", budget(window.cpu_ms_per_1000, 1) if ours else "",
                f"{window.wire_per_sample:.2f}", budget(window.wire_per_sample, wire) if ours and wire else "",
                written, budget(written, 0) if ours else "", window.threads, budget(window.threads, 1) if ours else "")
            if window.violations:
                print(f"the upstream objects: {window.violations[:3]}")
    for name in agents.PEERS:
        if name not in installed:
            print(f"{name}: {'left out' if options.no_peers else 'not installed, skipped'}")
    print()

    seconds = 15 if short else 30
    outage, hole = Outage(binary, root / "outage", seconds), BlackHole(binary, root / "hole", seconds)
    outage.start()
    hole.start()
    outage.join()
    hole.join()
    took = first_scrapes(binary, root / "start", 7)
    row("promwatch", "value", "budget")
    row("---", "---:", "---")
    row("bytes kept on disk per sample offline, node page", f"{outage.kept_per_sample:.2f}", budget(outage.kept_per_sample, 2.1))
    row("bytes written to disk per sample offline (pages of 4 KiB, as the kernel counts)", f"{outage.written_per_sample:.1f}", "")
    row(f"scrape lateness with a black-holed uplink, s (longest of {hole.scrapes} scrapes)", f"{hole.late_s:.2f}", budget(hole.late_s, 2))
    row("start to first scrape, ms, median of 7", f"{took[3]:.1f} ({took[0]:.1f} to {took[-1]:.1f})", budget(took[3], 20))
    if options.quick:
        return
    # valgrind gives programs no usable auxiliary vector, so this is a build of the same source that asks libc.
    plain = ROOT / "target/instructions/release/promwatch"
    if not shutil.which("valgrind") or not plain.exists():
        print("instructions: skipped, they need valgrind and RUSTFLAGS='--cfg rustix_use_libc' cargo build --release "
              "--target-dir target/instructions")
        return
    for name, few, many, limit in (("node", 20, 60, 3_000), ("10000", 10, 20, 3_500)):
        count = instructions(plain, root / "instructions", name, few, many) / 1000
        row(f"instructions per sample, scrape to acknowledged, {name} page", f"{count:,.0f}", budget(count, limit))


if __name__ == "__main__":
    main()
