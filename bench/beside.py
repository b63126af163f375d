#!/usr/bin/env python3
"""selfheal beside ansible-rulebook and beside Prometheus with Alertmanager: the same stream, in one run, on this machine.

bench/README.md says what is measured, and what is not."""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback

import load
import story
import systems
from systems import AnsibleRulebook, Failed, Prometheus, Selfheal

ROOT = os.path.dirname(systems.HERE)
WARM, SECONDS = 3, 8


def note(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


class Kind:
    """A system as it is run here."""

    def __init__(self, name, version, durable, start, form=None, counts=None):
        self.name, self.version, self.durable, self.start = name, version, durable, start
        # how it takes events: "ndjson", "remote write", or None for ansible-rulebook's own source
        self.form = form
        # of ansible-rulebook: events to warm up with, and to measure
        self.counts = counts
        self.floods, self.latencies = [], {}

    def inside(self, act, *arguments, **more):
        """Acts on a fresh one, and stops it whatever happens."""
        with tempfile.TemporaryDirectory(prefix="beside-") as folder:
            system = self.start(folder, **more)
            try:
                return act(system, *arguments)
            finally:
                systems.stop(system)


def cpu_of(system):
    return sum(process.cpu() for process in system.processes)


def resident_of(system):
    return sum(process.resident() for process in system.processes)


# events a second


def flood_http(system, form):
    bodies = [load.Fast(n) for n in range(load.CONNECTIONS)]
    if form == "ndjson":
        path, headers, bodies = "/api/v1/events", load.NDJSON, [own.ndjson() for own in bodies]
    else:
        at = int(time.time() * 1e3)
        path, headers, bodies = system.remote_write_path, load.REMOTE_WRITE, [own.remote_write(at) for own in bodies]
        # made before, as far as they last
        bodies = [made_before(own, (WARM + SECONDS) * 150) for own in bodies]
    flood = load.Flood(system.port, path, headers, bodies)
    own = time.process_time()
    rate, cpu = flood.measure(WARM, SECONDS, lambda: cpu_of(system))
    own = (time.process_time() - own) / (WARM + SECONDS)
    if sum(flood.refused) or flood.said:
        note(f"  refused {sum(flood.refused)} of {sum(flood.refused) + sum(flood.taken)}: {flood.said}")
    if not rate:
        raise Failed(f"it took nothing: {flood.said}")
    note(f"  the sender took {own:.2f} of a core")
    return rate, cpu, resident_of(system)


def made_before(bodies, count):
    made = [next(bodies) for _ in range(count)]

    def all_of_them():
        yield from made
        yield from bodies

    return all_of_them()


def flood_rulebook(system, count):
    began = system.wait_for("begins", 120)
    cpu = cpu_of(system)
    ended = system.wait_for("ends", 180)
    return count / (ended - began), (cpu_of(system) - cpu) / count, resident_of(system)


def flood(kind):
    if kind.form:
        return kind.inside(flood_http, kind.form)
    warm, count = kind.counts
    return kind.inside(flood_rulebook, count, source={"warm": warm, "count": count})


# from the event to what follows


def latency_http(system, form, rate, sink):
    paced = story.Paced(rate)
    if form == "ndjson":
        client, body = load.Client(system.port, "/api/v1/events", load.NDJSON), load.ndjson
    else:
        client = load.Client(system.port, system.remote_write_path, load.REMOTE_WRITE)
        body = load.Stamped().remote_write
    sent, behind, refused = load.pace(paced, client, body)
    heard = sink.heard(set(sent), 15)
    if behind > 0.1 or refused:
        note(f"  the sender fell {behind * 1e3:.0f} ms behind; {refused} bodies refused {client.said}")
    return [heard[name] - at for name, at in sent.items() if name in heard], len(sent), resident_of(system)


def latency_rulebook(system, rate):
    system.wait_for("begins", 120)
    until, first = time.monotonic() + story.Paced(rate).seconds + 30, {}
    while len(first) < story.DEPLOYMENTS and (said := system.next(until)):
        _, name, sent, at = said
        first.setdefault(name, at - sent)
    return list(first.values()), story.DEPLOYMENTS, resident_of(system)


def latency_module(system, count, pause, sink):
    sent, until = {}, time.monotonic() + 60 + count * pause
    while len(sent) < count and (said := system.next(until)):
        if said[0] == "SENT":
            sent[said[1]] = said[2]
    heard = sink.heard(set(sent), 30)
    return [heard[name] - at for name, at in sent.items() if name in heard], count, resident_of(system)


def latency(kind, rate, sink):
    sink.forget()
    if kind.form:
        return kind.inside(latency_http, kind.form, rate, sink)
    return kind.inside(latency_rulebook, rate, source={"rate": rate})


# the run


def quantile(spans, share):
    return sorted(spans)[int((len(spans) - 1) * share)]


def ms(span):
    return f"{span * 1e3:,.1f}" if span < 0.1 else f"{span * 1e3:,.0f}"


def in_ms(outcome):
    if outcome is None:
        return "failed"
    spans, of, _ = outcome
    if not spans:
        return f"none of {of} came"
    text = " / ".join(ms(span) for span in (quantile(spans, 0.5), quantile(spans, 0.99), max(spans)))
    return text if len(spans) == of else f"{text} ({of - len(spans)} of {of} never came)"


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def attempt(what, act, *arguments, **more):
    """None, said loudly, when it fails: the others are still measured."""
    note(what)
    try:
        return act(*arguments, **more)
    except Exception:
        note(f"FAILED: {what}")
        traceback.print_exc()
        return None


def commit():
    said = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return said.stdout.strip() or "unknown"


def kinds_of(arguments, sink):
    kinds, missing = [], []
    binary, venv = (os.path.abspath(path) for path in (arguments.selfheal, arguments.venv))
    if os.access(binary, os.X_OK):
        version = f"{Selfheal.version(binary)} ({commit()})"
        for durability, form, durable in [
            ("sync", "ndjson", "synced before the answer"),
            ("sync", "remote write", "synced before the answer"),
            ("100ms", "remote write", "written before the answer, synced within 100 ms"),
        ]:
            start = lambda folder, durability=durability: Selfheal(binary, folder, sink.url, durability)
            kinds.append(Kind(f"selfheal, {form}", version, durable, start, form))
    else:
        missing.append(f"selfheal: there is no {binary}; cargo build --release")
    if Prometheus.there():
        start = lambda folder: Prometheus(folder, sink.url, "1s")
        durable = "written before the answer, not synced"
        kinds.append(Kind("Prometheus + Alertmanager, remote write", Prometheus.version(), durable, start, "remote write"))
    else:
        missing.append("Prometheus: apt-get install prometheus prometheus-alertmanager")
    module = None
    if os.access(f"{venv}/bin/ansible-rulebook", os.X_OK):
        version = AnsibleRulebook.version(venv)
        memory = lambda folder, source: AnsibleRulebook(venv, folder, source)
        database = lambda folder, source: AnsibleRulebook(venv, folder, source, database=True)
        module = Kind(
            "ansible-rulebook, run_module", version, "", lambda folder, source: AnsibleRulebook(venv, folder, source, webhook=sink.url)
        )
        kinds.append(Kind("ansible-rulebook, in memory", version, "no", memory, counts=(10_000, 40_000)))
        kinds.append(
            Kind("ansible-rulebook, H2", version, "state written, H2 syncs it later", database, counts=(2_000, 8_000))
        )
    else:
        missing.append(f"ansible-rulebook: there is none in {venv}; bench/setup.sh")
    return kinds, module, missing


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--selfheal", default=f"{ROOT}/target/release/selfheal", help="the release binary")
    parser.add_argument("--venv", default=f"{ROOT}/target/beside/venv", help="with ansible-rulebook in it; bench/setup.sh")
    parser.add_argument("--rounds", type=int, default=3, help="of the fastest stream; the best one counts")
    parser.add_argument("--modules", type=int, default=20, help="modules that ansible-rulebook runs, one after the other")
    parser.add_argument("--only", default="", help="systems whose name holds this")
    arguments = parser.parse_args()
    sink = load.Sink()
    try:
        run(arguments, sink)
    finally:
        sink.stop()


def run(arguments, sink):
    kinds, module, missing = kinds_of(arguments, sink)
    for text in missing:
        note(f"MISSING, and left out: {text}")
    kinds = [kind for kind in kinds if arguments.only in kind.name]
    with tempfile.TemporaryDirectory(prefix="beside-") as folder:
        sync = load.disk_sync(folder)
    print(f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}; "
          f"a sync of 4 KiB takes {sync:.2f} ms; load before the run {os.getloadavg()[0]:.1f}\n", flush=True)

    # in turns, so that what else the machine does falls on all of them
    for number in range(arguments.rounds):
        for kind in kinds:
            if outcome := attempt(f"as fast as it is taken, round {number + 1}: {kind.name} ({kind.durable})", flood, kind):
                note(f"  {outcome[0]:,.0f} events/s, {outcome[1] * 1e6:.2f} s of processor for a million, {outcome[2]:.0f} MiB")
                kind.floods.append(outcome)
    for rate in (200, 10_000):
        for kind in kinds:
            if rate > 200 and not kind.form:
                continue
            kind.latencies[rate] = attempt(f"at {rate} events/s: {kind.name} ({kind.durable})", latency, kind, rate, sink)
            note(f"  {in_ms(kind.latencies[rate])} ms")
    modules = None
    if module and arguments.only in module.name:
        pause = 5.0
        sink.forget()
        source = {"only_crossings": arguments.modules, "pause": pause}
        modules = attempt(module.name, module.inside, latency_module, arguments.modules, pause, sink, source=source)
        note(f"  {in_ms(modules)} ms")

    rows = []
    for kind in kinds:
        best = max(kind.floods, default=None)
        paced = [in_ms(kind.latencies[rate]) if rate in kind.latencies else "not tried" for rate in (200, 10_000)]
        flat = kind.latencies.get(200)
        rows.append(
            [
                kind.name,
                kind.version,
                kind.durable,
                f"{best[0]:,.0f}" if best else "failed",
                " to ".join(f"{rate:,.0f}" for rate in (min(kind.floods)[0], best[0])) if best else "",
                f"{best[1] * 1e6:,.2f}" if best else "",
                *paced,
                f"{best[2]:.0f}" if best else "",
                f"{flat[2]:.0f}" if flat else "",
            ]
        )
    head = ["system", "version", "durable", "events/s", f"of {arguments.rounds} rounds", "processor s per million events"]
    head += ["event to effect at 200/s, ms: p50 / p99 / max", "at 10,000/s"]
    head += ["MiB resident after the fastest stream", "after 200/s"]
    print()
    table(head, rows)
    if module:
        print(f"ansible-rulebook, event to webhook by run_module: {in_ms(modules)} ms")
    print(f"load after the run {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
