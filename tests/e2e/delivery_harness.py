"""What a test of delivery.py stands on: its folder and worlds, what must be stored at the end, and what is shown when it fails."""
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from controlled_logs import World
from processes import Process, wait_for

BINARY = os.path.abspath(sys.argv[1])
ROOT = os.geteuid() == 0


class Test:
    """A test's folder and worlds."""

    def __init__(self, folder):
        self.folder, self.worlds = folder, []

    def world(self, name, exporters, **more):
        exporters = exporters if isinstance(exporters, dict) else {"node": exporters}
        self.worlds.append(World(BINARY, self.folder / name, exporters, **more))
        return self.worlds[-1]

    @staticmethod
    def together(cases):
        """Runs {name: function} at the same time; the first failure is told with its name."""
        with ThreadPoolExecutor(len(cases)) as pool:
            running = {name: pool.submit(case) for name, case in cases.items()}
        for name, result in running.items():
            if error := result.exception():
                raise AssertionError(f"{name}: {error}") from error


def all_of(exporter, first=1, last=None, job="node"):
    """Every identity of these scrapes."""
    last = exporter.count if last is None else last
    return {(job, str(i), n) for n in range(first, last + 1) for i in range(exporter.series)}


def once_each(world, expected, unanswered=frozenset()):
    """Exactly these events are stored, each once, but for those of an answer that was lost."""
    copies = world.service.copies()
    missing, more = expected - set(copies), set(copies) - expected
    twice = {who: [r.number for r, _, _ in found] for who, found in copies.items() if len(found) > 1 and who not in unanswered}
    assert not missing, f"{len(missing)} of {len(expected)} events are missing, such as {sorted(missing)[:3]}"
    assert not more, f"{len(more)} events are too many, such as {sorted(more)[:3]}"
    assert not twice, f"{len(twice)} of {len(expected)} events are there twice, such as {list(twice.items())[:2]}"
    assert not world.service.violations, world.service.violations


def stored(world):
    return [request for request in world.service.puts() if request.stored]


def own_mounts():
    """Words that run a program with mounts of its own, and the process that keeps those; nothing where that is not allowed."""
    if not ROOT or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        return None, None
    keeper = Process(["unshare", "-m", "--propagation", "private", "sleep", "600"], os.devnull)
    wait_for("mounts of its own", lambda: os.readlink(f"/proc/{keeper.popen.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"))
    return ["nsenter", f"--mount=/proc/{keeper.popen.pid}/ns/mnt"], keeper


def run(name, test):
    """True when it passed."""
    folder = Path(tempfile.mkdtemp(prefix="promwatch-delivery-"))
    began, t = time.monotonic(), Test(folder)
    try:
        test(t)
        print(f"  {name} ok ({time.monotonic() - began:.0f} s)", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        return True
    except BaseException as error:
        blamed = [world for world in t.worlds if str(error).startswith(f"{world.folder.name}: ")] or t.worlds
        text = "\n".join([*(world.describe() for world in blamed[:2]), traceback.format_exc()])
        print(f"{text}\n  {name} FAILED ({time.monotonic() - began:.0f} s); see {folder}", flush=True)
        return False
