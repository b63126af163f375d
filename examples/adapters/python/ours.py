#!/usr/bin/env python3
"""An adapter for selfheal in one file, without dependencies: copy it and put your own system behind it.

selfheal runs this program once for every call, in the policy's folder. One JSON document comes in on stdin, one goes
out on stdout; what is written to stderr is the step's log. The protocol is described in docs/adapters.md.

The "deployment system" behind it here is a folder with one JSON file for each application:

    state/shop.json   {"version": "v1", "replicas": 2, "ready": 2, "history": ["v1"], ...}

Replace `load`, `save` and the bodies of the verbs by calls of what you have: a client library, `kubectl`, `ssh`.

To try it by hand:

    echo '{"verb": "observe", "deployment": "shop", "target": {"app": "shop"}}' | ./ours.py
    ./ours.py --break crash shop      every replica is down; a restart cures it
    ./ours.py --break release shop    a release that does not start; only a rollback cures it
"""

import fcntl
import json
import os
import re
import sys
import time

MAX_REPLICAS = 10

# What this adapter can do. `effect` is what a verb does to people who use the service:
#   read      only looks; needs no lease, counts in no budget
#   change    changes something and takes no capacity away
#   disrupt   takes capacity away for a while (what a verb is when it does not say)
# `idempotent` says that the same call may come twice without harm.
DESCRIPTION = {
    "verbs": [
        {"verb": "restart", "effect": "disrupt", "idempotent": True, "params": [
            {"name": "grace", "type": "duration", "about": "how long a replica may take to end"},
        ]},
        {"verb": "scale", "effect": "change", "idempotent": True, "params": [
            {"name": "replicas", "type": "integer", "required": True, "about": "to this many, never by"},
        ]},
        {"verb": "rollback", "effect": "disrupt", "idempotent": True, "params": [
            {"name": "to", "type": "text", "about": "previous, or a version"},
        ]},
        {"verb": "logs", "effect": "read", "params": [
            {"name": "lines", "type": "integer", "about": "50 unless said"},
        ]},
    ],
    # The fields of a deployment's `target:`; a policy that misspells one does not load.
    "target": [
        {"name": "app", "type": "text", "required": True, "about": "the application's name in our system"},
        {"name": "state", "type": "text", "about": "the folder with the applications, `state` unless said"},
    ],
}


class Failed(Exception):
    """The call did not work. The class decides what selfheal does next:

    transient     the same call may work later: the step's `retry` applies
    permanent     it will not
    unauthorized  our credential was refused: one `refresh_auth`, one retry
    unsupported   there is no such verb for this target: the next rung of the ladder
    conflict      it is already so, or somebody else is at it
    """

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def log(line):
    """Writes to the step's log; stdout is for the answer alone."""
    print(line, file=sys.stderr, flush=True)


# --- the system that is repaired: here files, in your adapter the real thing ---------------------------------------


class App:
    """One application, held by a lock for as long as this program works on it."""

    def __init__(self, target):
        name = target.get("app", "")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise Failed("permanent", f"`app: {name}` is no name of an application")
        folder = target.get("state", "state")
        os.makedirs(folder, exist_ok=True)
        self.path = os.path.join(folder, name + ".json")
        self.log_path = os.path.join(folder, name + ".log")
        self.held = open(os.path.join(folder, f".{name}.lock"), "w", encoding="utf-8")
        fcntl.flock(self.held, fcntl.LOCK_EX)
        self.state = self.load()

    def load(self):
        try:
            with open(self.path, encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            # an application that was never seen runs its first version
            return {"version": "v1", "replicas": 2, "ready": 2, "history": ["v1"], "released": 1, "bad": [],
                    "fence": 0, "done": {}, "started_at": time.time()}

    def save(self):
        """Replaces the file in one step: killed at any moment, it is the old one or the new one."""
        beside = self.path + ".tmp"
        with open(beside, "w", encoding="utf-8") as file:
            json.dump(self.state, file, indent=1)
        os.replace(beside, self.path)

    def start_replicas(self):
        state = self.state
        state["ready"] = 0 if state["version"] in state["bad"] else state["replicas"]
        state["started_at"] = time.time()
        line = f"{state['ready']} of {state['replicas']} replicas of {state['version']} are ready"
        with open(self.log_path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        log(line)


# --- verbs: each gives the answer's output -------------------------------------------------------------------------


def restart(app, request):
    app.start_replicas()
    return {"restarted": app.state["replicas"]}


def scale(app, request):
    wanted = int(request["params"]["replicas"])
    to = min(max(wanted, 1), MAX_REPLICAS)
    if to != wanted:
        log(f"{wanted} replicas are beyond the bounds, going to {to}")
    if to == app.state["replicas"]:
        raise Failed("conflict", f"it has {to} replicas already")
    before, app.state["replicas"] = app.state["replicas"], to
    app.start_replicas()
    return {"replicas": to, "replicas_before": before}


def previous_version(state):
    """`history` ends with the version that runs; what was rolled back is no longer in it."""
    return state["history"][-2] if len(state["history"]) > 1 else None


def rollback(app, request):
    state = app.state
    to = request["params"].get("to", "previous")
    version = previous_version(state) if to == "previous" else to
    if version is None or version not in state["history"]:
        raise Failed("permanent", f"there is no version `{to}` to go back to; there were {', '.join(state['history'])}")
    if version == state["version"]:
        raise Failed("conflict", f"it runs {version} already")
    before, state["version"] = state["version"], version
    state["history"] = state["history"][: state["history"].index(version) + 1]
    log(f"{before} -> {version}")
    app.start_replicas()
    return {"version": version, "version_before": before}


def logs(app, request):
    lines = int(request["params"].get("lines", 50))
    try:
        with open(app.log_path, encoding="utf-8") as file:
            return "".join(file.readlines()[-lines:])
    except FileNotFoundError:
        return "nothing was logged yet"


VERBS = {"restart": restart, "scale": scale, "rollback": rollback, "logs": logs}
READS = {"logs"}


# --- the protocol --------------------------------------------------------------------------------------------------


def facts(app):
    """What rules read with `fact("…")`; numbers are also metrics, `last("fact_ready_replicas")`."""
    state = app.state
    seen = {
        "replicas": state["replicas"],
        "ready_replicas": state["ready"],
        "min_replicas": 1,
        "max_replicas": MAX_REPLICAS,
        "version": state["version"],
        "uptime": round(time.time() - state["started_at"], 1),
    }
    if previous_version(state):
        seen["previous_version"] = previous_version(state)
    return seen


def observe(app):
    replicas = [{"index": index, "up": index < app.state["ready"]} for index in range(app.state["replicas"])]
    return {"outcome": "done", "facts": facts(app), "replicas": replicas}


def act(app, request):
    """Calls a verb that changes something, once."""
    state, key, fence = app.state, request["idempotency_key"], request["fence"]
    if key in state["done"]:
        log("this call was done before: the same answer again")
        return state["done"][key]
    if fence < state["fence"]:
        # whoever decided this no longer holds the deployment's lease
        raise Failed("conflict", f"fence {fence} is over: {state['fence']} has acted since")
    state["fence"] = fence
    output = VERBS[request["verb"]](app, request)
    answer = {"outcome": "done", "output": output, "facts": facts(app)}
    # the effect and the memory of it are one write, so neither is ever there without the other
    state["done"] = dict(list(state["done"].items())[-19:] + [(key, answer)])
    app.save()
    return answer


def answer(request):
    verb = request["verb"]
    if verb == "describe":
        return DESCRIPTION
    if verb == "observe":
        return observe(App(request["target"]))
    if verb not in VERBS:
        raise Failed("unsupported", f"this adapter has no verb `{verb}`")
    app = App(request["target"])
    if verb in READS:
        return {"outcome": "done", "output": VERBS[verb](app, request)}
    return act(app, request)


def break_it(how, name):
    """For trying things out: makes the application sick."""
    app = App({"app": name})
    if how == "crash":
        app.state["ready"] = 0
    elif how == "release":
        app.state["released"] += 1
        version = f"v{app.state['released']}"
        app.state["history"].append(version)
        app.state["bad"].append(version)
        app.state["version"] = version
        app.start_replicas()
    else:
        sys.exit("usage: ours.py --break crash|release APP")
    app.save()


def main():
    if sys.argv[1:2] == ["--break"] and len(sys.argv) == 4:
        break_it(sys.argv[2], sys.argv[3])
        return
    try:
        document = answer(json.load(sys.stdin))
    except Failed as failed:
        document = {"outcome": "failed", "class": failed.kind, "message": str(failed)}
    except OSError as error:
        document = {"outcome": "failed", "class": "transient", "message": str(error)}
    # any other exception ends the program without a document: failed, for good, with the traceback's last line
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main()
