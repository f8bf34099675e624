"""Exact delivery when the state directory is lost, taken or damaged, or its small files are absurd; run by delivery.py."""
import json
import os
import shutil
import signal
import subprocess
import time
from functools import partial

from controlled_logs import Exporter, records
from delivery_harness import all_of, own_mounts
from processes import wait_for


def test_a_lost_state_directory_is_made_again(t):
    def lose(name, way, up, wrapper=()):
        exporter = Exporter(50)
        world = t.world(name, exporter, wrapper=wrapper)
        run = lambda *words: subprocess.run([*wrapper, *map(str, words)], check=True, capture_output=True, text=True).stdout
        if not up:
            world.service.stop()
        world.start()
        if up:
            wait_for("three scrapes", lambda: len(world.service.copies()) >= 150)
        else:
            wait_for("three scrapes on disk", lambda: len(world.held()) >= 150)
            world.fresh_status()
        old = t.folder / name / "old"
        if way == "removed":
            shutil.rmtree(world.state)
        elif way == "replaced":
            world.state.rename(old)
            world.state.mkdir()
        else:
            run("mount", "-t", "tmpfs", "tmpfs", world.state)
        wait_for("the directory again", lambda: set(run("sh", "-c", f"ls {world.state} || true").split()) >= {"lock", "state.json"}, 8)
        first = exporter.count + 2
        if up:
            world.service.stop()
        size = sum(file.stat().st_size for file in old.rglob("*"))
        wait_for("four scrapes more", lambda: exporter.count >= first + 4)
        time.sleep(0.5)
        assert size == sum(file.stat().st_size for file in old.rglob("*")), "nothing is written where the name leads no more"
        before = world.status()["events"]
        world.kill()
        last = exporter.count - 1
        gone = all_of(exporter, first + (3 if up else 0), last) - world.held()
        assert not gone, f"{len(gone)} events were not on disk before the kill"
        world.service.start()
        world.start()
        exporter.scrapes = 0
        events = world.drained()["events"]
        world.stop()
        missing = all_of(exporter, 1, last) - set(world.service.copies())
        dropped = sum(events["dropped"].values())
        if up:
            # What was in memory when the link went down reached nothing when it was killed.
            assert not {who for who in missing if who[2] >= first + 3}, f"{len(missing)} events are missing"
            assert dropped == 0, events
            return
        assert set(events["dropped"]) == {"damaged"}, events
        assert dropped >= before["dropped"].get("damaged", 0), (before, events)
        assert len(missing) == dropped, f"{len(missing)} events are missing, {dropped} are counted"
        assert not {who for who in missing if who[2] > first}, "what came after that is not lost"

    cases = {"removed": lambda: lose("removed", "removed", False), "removed-up": lambda: lose("removed-up", "removed", True),
             "replaced": lambda: lose("replaced", "replaced", False)}
    wrapper, keeper = own_mounts()
    if wrapper:
        cases["mounted"] = lambda: lose("mounted", "mounted", False, wrapper)
    else:
        print("    skipped: a file system mounted over the state directory (needs root and unshare)", flush=True)
    try:
        t.together(cases)
    finally:
        if keeper:
            keeper.stop(signal.SIGKILL)


def test_one_agent_has_a_state_directory(t):
    """A second agent is refused before and after the directory was made again. Where it was quicker, the first lets it be."""
    exporter, other = Exporter(20), Exporter(20)
    world = t.world("a", exporter)
    second = world.configure("second.json", {"other": other}, "1s", {"log_stream_name": "{job}"})
    world.service.stop()
    refused = lambda: subprocess.run(world.words("run", "--config", second), capture_output=True, env=world.environment(), timeout=20).returncode
    world.start()
    wait_for("events on disk", world.held)
    assert refused() == 75
    inode = world.state.stat().st_ino
    shutil.rmtree(world.state)
    wait_for("the directory again", lambda: (world.state / "state.json").exists(), 8)
    assert inode and refused() == 75
    world.agent.popen.send_signal(signal.SIGSTOP)
    shutil.rmtree(world.state)
    agent = world.start(second)
    wait_for("the second's events", world.held)
    kept = json.loads((world.state / "state.json").read_text())["id"]
    world.agent.popen.send_signal(signal.SIGCONT)
    wait_for("the first's word", lambda: world.logged("another promwatch has taken the state directory"), 8)
    already = exporter.count
    wait_for("more scrapes by the first", lambda: exporter.count > already + 5)
    held = world.held()
    assert {who[0] for who in held} == {"other"}, "the first writes into the second's directory"
    assert world.status()["pid"] == agent.popen.pid, "the first writes the second's status file"
    world.service.start()
    wait_for("events of both", lambda: {who[0] for who in world.service.copies()} == {"node", "other"})
    world.stop()
    assert json.loads((world.state / "state.json").read_text())["id"] == kept
    assert (world.state / "lock").exists() and agent.popen.poll() is None
    agent.stop()


def test_an_absurd_state_file_costs_no_event(t):
    """Counts near 2^64, garbage, absurd times and boots: it is a hint."""
    base = t.world("base", Exporter(40))
    base.service.stop()
    base.start()
    wait_for("events on disk", lambda: len(base.held()) >= 80)
    base.stop()
    backlog = base.held()
    good = json.loads((base.state / "state.json").read_text())
    huge = 2**64 - 1
    boot = good["boots"][-1]
    odd = [dict(boot, id=f"{n:032x}", base_ms=(-1) ** n * (2**63 - 1), last_monotonic_ms=huge) for n in range(1000)]
    loss = {"group": "/delivery", "stream": "node", "reason": "max_age", "count": huge, "from_ms": -2**63, "to_ms": 2**63 - 1}
    cases = {
        "produced": dict(good, produced=huge), "delivered": dict(good, delivered=huge - 1, produced=huge),
        "dropped": dict(good, dropped={"max_age": huge, "max_bytes": huge}), "halves": dict(good, dropped={"damaged": 2**63, "expired": 2**63}),
        "losses": dict(good, losses=[loss, dict(loss, reason="odd\x1b")] * 3), "boots": dict(good, boots=odd + good["boots"]),
        "boot-names": dict(good, boots=[dict(boot, id="zz" * 99), dict(boot, id="")]), "year-2500": dict(good, credible_ms=16_725_225_600_000),
        "year-2100": dict(good, credible_ms=4_102_444_800_000), "no-time": dict(good, credible_ms=-2**63), "last-time": dict(good, credible_ms=2**63 - 1),
        "garbage": os.urandom(5000), "empty": b"", "half": json.dumps(good).encode()[:-90], "deep": b"[" * 200_000, "large": b" " * (9 << 20),
        "too-large": json.dumps(dict(good, produced=10**30)).encode(),
    }

    def start(name, state):
        world = t.world(name, {"new": Exporter(5)})
        shutil.copytree(base.state, world.state)
        (world.state / "state.json").write_bytes(state if isinstance(state, bytes) else json.dumps(state).encode())
        world.start()
        wait_for("the backlog", lambda: backlog <= set(world.service.copies()), 20)
        assert world.agent.popen.poll() is None, f"it ended with {world.agent.popen.poll()}"
        world.fresh_status()
        world.exporters["new"].scrapes = 0
        time.sleep(1)
        events = world.drained()["events"]
        numbers = [events["produced"], events["delivered"], *events["dropped"].values()]
        assert max(numbers) < 2**56 and events["delivered"] >= len(backlog) and events["dropped"] == {}, events
        world.stop()
        late = [who for who, found in world.service.copies().items() if abs(found[0][2] / 1000 - time.time()) > 120]
        assert not late, f"{len(late)} events have a wrong time"
        twice = [who for who, found in world.service.copies().items() if len(found) > 1]
        assert not twice, f"{len(twice)} events are there twice"

    t.together({name: partial(start, name, state) for name, state in cases.items()})


def test_damage_is_counted_exactly(t):
    """Of several segments on disk one in the middle is damaged, in one way or another."""
    exporter = Exporter(300, fresh=True)
    base = t.world("base", exporter, interval="300ms", own={"buffer": {"max_bytes": "2MiB"}})
    base.service.stop()
    base.start()
    wait_for("four segments", lambda: len(list((base.state / "spool").glob("seg-*"))) >= 4)
    base.stop()
    backlog = {who for who in base.held()}

    def damage(name, change):
        world = t.world(name, Exporter(1, scrapes=0), own={"buffer": {"max_bytes": "2MiB"}})
        shutil.copytree(base.state, world.state)
        segment = sorted((world.state / "spool").glob("seg-*"))[1]
        data = bytearray(segment.read_bytes())
        found = records(segment)
        assert len(found) > 1 and sum(events for _, _, events in found) < len(backlog)
        lost = change(segment, data, found)
        if segment.exists():
            segment.write_bytes(data)
        world.start()
        world.drained()
        told = lambda: sum(count for reason, count in world.service.markers() if reason == "damaged")
        wait_for("the loss to be told", lambda: told() == lost, 10)
        world.stop()
        events = world.status()["events"]
        copies = world.service.copies()
        assert events["dropped"] == ({"damaged": lost} if lost else {}), f"{lost} are lost, {events}"
        assert len(copies) == events["delivered"] == len(backlog) - lost, f"{len(copies)} of {len(backlog)} are stored; {events}"
        assert set(copies) <= backlog and all(len(found) == 1 for found in copies.values())

    def body(_, data, found):
        at, length, events = found[1]
        for byte in range(at + length // 2, at + length // 2 + 9):
            data[byte] ^= 0x55
        return events

    def sector(_, data, found):
        at = found[1][0] - 60  # within the header
        data[at:at + 8] = bytes(8)
        return found[1][2]

    def header(_, data, found):
        data[10:40] = bytes(30)
        return 0

    def tail(_, data, found):
        del data[found[-1][0]:]
        return found[-1][2]

    def gone(segment, _, found):
        segment.unlink()
        return sum(events for _, _, events in found)

    t.together({change.__name__: partial(damage, change.__name__, change) for change in (body, sector, header, tail, gone)})
