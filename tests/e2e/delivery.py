#!/usr/bin/env python3
"""Exact delivery: the real binary and a CloudWatch Logs whose answers are late, lost, wrong or refused at chosen moments; kills,
stops, lost folders, damaged files. Nothing is there twice but what a lost answer or a kill may repeat, nothing is missing, and the
books say so.

usage: tests/e2e/delivery.py PROMWATCH [TEST ...]
"""
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from controlled_logs import Do, Exporter, identity
from delivery_disk import *  # its tests
from delivery_harness import all_of, once_each, own_mounts, run, stored
from processes import stop_all, wait_for

DAY_S = 86_400
# src/clock: no time before it is believed.
RELEASE_S = 1_795_305_600


def test_a_stop_repeats_nothing_that_was_answered(t):
    """SIGTERM between two bodies of a scrape, or while an answer is on its way for 1, 4, 8 s or for ever; or the stop's own body
    is answered late."""
    def stop_at(name, body, delay_s, next_delay_s=1.1):
        # The stop waits for its own bodies as long as nothing misses its time on the disk.
        world = t.world(name, Exporter(3001, scrapes=1), interval="1h", own={"buffer": {"sync_interval": "9s"}})
        asked = threading.Event()
        began, late = [], []

        def terminate():
            began.append(time.monotonic())
            world.agent.popen.send_signal(signal.SIGTERM)
            asked.set()

        def rule(request):
            if request.action != "PutLogEvents" or asked.is_set() or len(stored(world)) + 1 != body:
                return Do(delay_s=next_delay_s if asked.is_set() else 1.1)
            if delay_s:
                late.append(request.number)
                return Do(delay_s=delay_s, before=threading.Timer(0.3, terminate).start)
            return Do(delay_s=1.1, after=terminate)

        world.service.rule = rule
        world.start()
        assert asked.wait(30), f"there were only {len(stored(world))} bodies"
        code = world.agent.popen.wait(25)
        took = time.monotonic() - began[0]
        assert code == 0 and took < 15, f"the agent ended with {code} after {took:.1f} s"
        assert took > min(delay_s, 10) - 1, f"the stop did not wait for the answer: {took:.1f} s"
        assert world.status()["events"]["pending"] > 0, "the stop was not in the middle of the scrape"
        world.service.rule = lambda request: None
        world.start()
        world.drained()
        world.stop()
        unanswered = {identity(event) for r in stored(world) if delay_s > 10 and r.number == late[0] for event in r.events}
        once_each(world, all_of(world.exporters["node"], last=1), unanswered)
        assert len(world.service.copies()) == 3001

    cases = {f"after-{n}": (n, 0) for n in (1, 2, 3)} | {f"late-{s}": (2, s) for s in (1, 4, 8)} | {"never": (2, 60), "own-late": (1, 0, 5)}
    t.together({name: partial(stop_at, name, *case) for name, case in cases.items()})


def test_a_kill_repeats_one_body_at_most(t):
    """kill -9 with the link up, then at random moments of a drain."""
    draw = random.Random()
    exporter = Exporter(300)
    world = t.world("a", exporter)
    kills = []

    def kill():
        world.kill()
        sure = [r for r in stored(world) if r.epoch == world.runs and r.at < time.monotonic() - 7.5 and r.sent.startswith("200")]
        kills.append(sum(len(request.events) for request in sure))
        held = {who for who in world.held() if isinstance(who, tuple)}
        assert certain <= held | set(world.service.copies()), "what was on disk stays there until it is stored"
        certain.update(held)

    def counts_go_on():
        events = wait_for("the next agent's status", lambda: (s := world.status()) and s["pid"] == world.agent.popen.pid and s)["events"]
        assert events["delivered"] >= sum(kills), f"{kills} were answered 7.5 s before the kills, status says {events}"

    certain = set()
    world.start()
    wait_for("nine scrapes", lambda: exporter.count > 9)
    kill()
    world.service.stop()
    world.start()
    counts_go_on()
    already = exporter.count
    wait_for("three scrapes more", lambda: exporter.count >= already + 3)
    certain.update(world.held())
    world.service.rule = lambda request: Do(delay_s=0.4)
    world.service.start()
    for _ in range(2):
        wait_for("two bodies of this run", lambda: sum(r.epoch == world.runs for r in stored(world)) >= 2)
        time.sleep(draw.uniform(0.1, 0.7))
        kill()
        world.start()
        counts_go_on()
    exporter.scrapes = 0
    world.service.rule = lambda request: None
    world.drained()
    world.stop()
    copies = world.service.copies()
    assert certain and certain <= set(copies), f"{len(certain - set(copies))} events that were on disk are missing"
    for run in range(1, world.runs + 1):
        bodies = [request for request in stored(world) if request.epoch == run]
        again = {who for who, found in copies.items() if {r.epoch for r, _, _ in found} >= {run} and max(r.epoch for r, _, _ in found) > run}
        last = {identity(event) for event in bodies[-1].events} if bodies else set()
        assert again <= last, f"run {run}: {len(again)} events came again, {len(again - last)} not of its last body"
        inside = [r.digest for r in bodies]
        assert len(inside) == len(set(inside)), f"run {run} repeated a body although no answer was lost"
    changed = [who for who, found in copies.items() if len({(message, at) for _, message, at in found}) > 1]
    assert not changed, f"{len(changed)} events came again with another text or time, such as {changed[:3]}"


def test_a_refused_stream_keeps_nobody_waiting(t):
    """One stream is refused from its second body on, one altogether; the third goes on. Then the policy is mended."""
    exporters = {"big": Exporter(1500, scrapes=3), "none": Exporter(20, scrapes=10), "good": Exporter(20, scrapes=10)}
    world = t.world("a", exporters)
    mended = threading.Event()

    def rule(request):
        bad = request.stream == "none" or request.stream == "big" and any(r.stream == "big" for r in stored(world))
        return Do(400, "AccessDeniedException") if bad and not mended.is_set() and request.action == "PutLogEvents" else None

    world.service.rule = rule
    world.start()
    wait_for("seven scrapes", lambda: exporters["good"].count >= 7)
    time.sleep(2.5)
    stream_of = lambda job: {who for who in world.service.copies() if who[0] == job}
    late = all_of(exporters["good"], last=7, job="good") - stream_of("good")
    assert not late, f"{len(late)} events of the good stream wait for the refused ones"
    assert 0 < len(stream_of("big")) < 1500 and not stream_of("none")
    mended.set()
    wait_for("all pages", lambda: all(e.count == e.scrapes for e in exporters.values()))
    assert world.drained()["events"]["dropped"] == {}
    world.stop()
    once_each(world, set().union(*(all_of(e, job=job) for job, e in exporters.items())))


def test_a_lost_answer_brings_the_same_body_again(t):
    """The connection is closed, 500 comes, or nothing comes, after the second body was stored; twice in a row too."""
    def lose(name, do, times):
        world = t.world(name, Exporter(1500, scrapes=1), interval="1h")
        lost = []

        def rule(request):
            if request.action == "PutLogEvents" and (lost and len(lost) < times or len(stored(world)) == 1):
                lost.append(request)
                return do()
            return None

        world.service.rule = rule
        world.start()
        wait_for("lost answers", lambda: len(lost) == times)
        world.drained()
        took = world.stop()
        assert took < 5, took
        puts = [r for r in world.service.puts() if r.number >= lost[0].number]
        assert {r.digest for r in puts[:times + 1]} == {lost[0].digest}, "the same body follows, byte for byte"
        again = {identity(event) for event in lost[0].events}
        wrong = {who: len(c) for who, c in world.service.copies().items() if len(c) != (1 + times if who in again else 1)}
        assert not wrong, f"{len(wrong)} events are there too often, such as {list(wrong.items())[:3]}"
        assert set(world.service.copies()) == all_of(world.exporters["node"], last=1)

    ways = {"closed": lambda: Do(drop=True), "500": lambda: Do(500, "InternalFailure", store=True),
            "503": lambda: Do(503, "ServiceUnavailableException", store=True), "silent": lambda: Do(delay_s=4, drop=True)}
    cases = [(f"{way}-{times}", do, times) for way, do in ways.items() for times in (1, 2)]
    t.together({case[0]: partial(lose, *case) for case in cases})


def test_answers_that_lead_to_the_same_question_have_a_pace(t):
    """STS gives expired keys, or keys that CloudWatch Logs calls expired; CloudWatch Logs throttles, or refuses every signature."""
    def role(expires_s):
        at = lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + expires_s))
        return lambda: Do(text="<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>"
                          f"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{at()}"
                          "</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>")

    def ask(name, sts, logs, said):
        agent = {"credentials": {"role_arn": "arn:aws:iam::123456789012:role/edge"}} if sts else None
        world = t.world(name, Exporter(5), agent=agent)
        world.env["AWS_ENDPOINT_URL_STS"] = f"{world.service.url}/sts"
        world.service.rule = lambda request: sts() if request.action == "AssumeRole" else logs()
        world.start()
        wait_for("a request", lambda: world.service.requests)
        time.sleep(8)
        times = [request.at - world.service.requests[0].at for request in world.service.requests]
        count = sum(at <= 8 for at in times)
        assert count <= 10, f"{count} requests in 8 s"
        assert any(world.logged(text) for text in said), f"the log says none of {said}"
        error = world.fresh_status()["upstreams"][0]["last_error"]
        assert error and any(text in error for text in said), error
        world.stop()
        assert world.status()["events"]["dropped"] == {}

    expired = lambda: Do(400, "ExpiredTokenException")
    t.together({
        "expired": lambda: ask("expired", role(-3600), lambda: None, ["expired already"]),
        "refused": lambda: ask("refused", role(3600), expired, ["ExpiredToken"]),
        "second": lambda: ask("second", role(1), expired, ["no longer than seconds", "ExpiredToken"]),
        "file": lambda: ask("file", None, expired, ["ExpiredToken"]),
        "signature": lambda: ask("signature", None, lambda: Do(400, "InvalidSignatureException"), ["InvalidSignature"]),
        "throttled": lambda: ask("throttled", None, lambda: Do(400, "ThrottlingException"), ["Throttling"]),
        "group": lambda: ask("group", None, lambda: Do(400, "ResourceNotFoundException"), ["ResourceNotFound"]),
    })


def right_times(world, clock_s, first=1):
    """Each event has the service's time at its scrape."""
    times = world.exporters["node"].times
    off = {who: found[0][2] / 1000 - times[who[2]] - clock_s for who, found in world.service.copies().items() if who[2] >= first}
    wrong = {who: round(by, 1) for who, by in off.items() if abs(by) > 2}
    assert not wrong, f"{len(wrong)} of {len(off)} times are off, such as {list(wrong.items())[:3]} s"


def test_a_wrong_clock_drops_nothing(t):
    """The service's clock is days ahead of or behind ours. Backlog of the run before, of this boot or another."""
    def follow(name, clock_s, wrapper=(), confirmed=False):
        exporter = Exporter(20)
        world = t.world(name, exporter, clock_s=clock_s, wrapper=wrapper)
        if confirmed:
            world.start()
            wait_for("events", lambda: len(world.service.copies()) >= 60)
            world.service.stop()
        else:
            world.service.stop()
            world.start()
        wait_for("a backlog", lambda: len(world.held()) >= 60)
        world.kill() if confirmed else world.stop()
        backlog = world.held()
        if wrapper:
            (world.folder / "boot").write_text("01234567-89ab-cdef-0123-456789abcdef\n")
            subprocess.run([*wrapper, "mount", "--bind", world.folder / "boot", "/proc/sys/kernel/random/boot_id"], check=True)
        before = exporter.count
        world.service.start()
        world.start()
        began = time.monotonic()
        wait_for("events of this run", lambda: any(who[2] > before for who in world.service.copies()), 8)
        took = time.monotonic() - began
        assert took < 5, f"the first event came after {took:.1f} s"
        wait_for("the backlog", lambda: backlog <= set(world.service.copies()), 45)
        exporter.scrapes = 0
        time.sleep(1.5)
        events = world.drained()["events"]
        world.stop()
        assert events["dropped"] == {}, events
        right_times(world, clock_s, 1 if confirmed or not wrapper else before + 1)

    cases = {"ahead": lambda: follow("ahead", 3 * DAY_S), "far": lambda: follow("far", 30 * DAY_S)}
    if time.time() - 3 * DAY_S > RELEASE_S:
        cases["behind"] = lambda: follow("behind", -3 * DAY_S)
    else:
        print("    skipped: a service 3 days behind, which would be before the release", flush=True)
    keepers = []
    for name, days, confirmed in [("other-boot", 3, True), ("other-boot-never-confirmed", 30, False)]:
        wrapper, keeper = own_mounts()
        if not wrapper:
            print(f"    skipped: {name} (needs root and unshare)", flush=True)
            continue
        keepers.append(keeper)
        cases[name] = partial(follow, name, days * DAY_S, wrapper, confirmed)
    try:
        t.together(cases)
    finally:
        for keeper in keepers:
            keeper.stop(signal.SIGKILL)


def test_one_wrong_date_moves_nothing(t):
    """Nor where the service takes signatures of any time, and so does not itself refuse what would be moved."""
    def one(name, date_s, lenient):
        exporter = Exporter(20)
        world = t.world(name, exporter)
        world.service.lenient = lenient
        world.service.rule = lambda request: Do(date_s=date_s) if request.action == "PutLogEvents" and len(stored(world)) == 3 else None
        world.start()
        wait_for("twelve scrapes", lambda: exporter.count >= 12)
        exporter.scrapes = 0
        time.sleep(1.5)
        events = world.drained()["events"]
        world.stop()
        assert events["dropped"] == {}, events
        once_each(world, all_of(exporter))
        right_times(world, 0)

    cases = {"ahead": 30 * DAY_S, "1970": -time.time(), "day": -DAY_S}
    t.together({f"{name}{more}": partial(one, f"{name}{more}", date_s, bool(more)) for name, date_s in cases.items() for more in ("", "-lenient")})


def test_a_full_buffer_counts_what_it_drops(t):
    """The buffer overflows while a body is on its way that was stored without an answer."""
    exporter = Exporter(1500, fresh=True)
    world = t.world("a", exporter, own={"buffer": {"max_bytes": "1MiB", "memory_bytes": "64KiB"}})
    full = threading.Event()
    kept = []

    def rule(request):
        if request.action != "PutLogEvents" or full.is_set():
            return None
        kept.append(request)
        return Do(drop=True, delay_s=0.8)

    world.service.stop()
    world.start()
    wait_for("events on disk", lambda: sum(file.stat().st_size for file in (world.state / "spool").glob("seg-*")) > 300_000)
    world.service.rule = rule
    world.service.start()
    dropped = lambda: (s := world.status()) and s["events"]["dropped"].get("max_bytes", 0)
    wait_for("an overflow after a lost answer", lambda: kept and dropped() > 1000)
    exporter.scrapes = 0
    full.set()
    world.drained()
    wait_for("all losses to be told", lambda: sum(n for _, n in world.service.markers()) == sum(world.status()["events"]["dropped"].values()), 15)
    world.stop()
    events = world.status()["events"]
    copies = world.service.copies()
    assert set(events["dropped"]) == {"max_bytes"}, events
    assert events["produced"] == exporter.count * exporter.series, (events, exporter.count)
    assert len(copies) == events["delivered"], f"{len(copies)} different events are stored; {events}"
    again = {r.digest for r in kept}
    assert len(again) == 1, f"{len(again)} bodies were built where one waits for its answer"
    twice = {who for who, found in copies.items() if len(found) > 1}
    assert twice == {identity(event) for event in kept[0].events}, f"{len(twice)} events are there twice"


def main():
    only = sys.argv[2:]
    tests = {n: f for n, f in globals().items() if n.startswith("test_") and (not only or any(word in n for word in only))}
    try:
        with ThreadPoolExecutor(3) as pool:
            passed = list(pool.map(lambda item: run(*item), tests.items()))
    finally:
        stop_all()
    sys.exit(0 if all(passed) and passed else 1)


if __name__ == "__main__":
    main()
