"""The systems: how each is set up, started, and stopped again. Only processes that were started here are ended, by their ids."""

import glob
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import story

HERE = os.path.dirname(os.path.abspath(__file__))
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    pass


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Process:
    """One process in a group of its own, its output in a file or read line by line."""

    def __init__(self, arguments, folder, lines=False, environment=None):
        self.log = os.path.join(folder, os.path.basename(arguments[0]) + ".log")
        with open(self.log, "wb") as log:
            self.started = subprocess.Popen(
                arguments,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if lines else log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )
        self.pid = self.started.pid

    def cpu(self):
        """Processor seconds so far."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident(self):
        """MiB."""
        with open(f"/proc/{self.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) / 1024

    def wait_for(self, url, seconds=60, says=""):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.started.poll() is not None:
                break
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status == 200 and says in answer.read().decode():
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise Failed(f"{url} did not answer:\n{self.end_of_log()}")

    def end_of_log(self):
        with open(self.log, errors="replace") as log:
            return log.read()[-1_500:]

    def stop(self):
        self.started.terminate()
        try:
            self.started.wait(15)
        except subprocess.TimeoutExpired:
            self.started.kill()
            self.started.wait(15)
        if self.started.stdout:
            self.started.stdout.close()


def write(folder, files):
    for name, content in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(content)


def output_of(*arguments, environment=None):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=environment)
    return done.stdout + done.stderr


class Selfheal:
    remote_write_path = "/api/v1/write"

    def __init__(self, binary, folder, webhook, durability):
        self.port = free_port()
        write(
            folder,
            {
                "selfheal.yaml": f"""format: 1
server: {{ listen: "127.0.0.1:{self.port}" }}
data_dir: data
storage: {{ durability: {durability} }}
receivers:
  - {{ name: sink, rate: 10000/1m, webhook: {{ url: "{webhook}", format: alertmanager }} }}
route: {{ receiver: sink, group_by: [deployment], group_wait: 0s, group_interval: 5m }}
""",
                "rules/cpu.yaml": f"""rules:
  - {{ alert: HighCpu, when: 'last("cpu_percent") > {story.LIMIT}.0' }}
""",
            },
        )
        self.processes = [Process([binary, "run", "--policy", folder], folder)]
        self.processes[0].wait_for(f"http://127.0.0.1:{self.port}/readyz")

    @staticmethod
    def version(binary):
        return output_of(binary, "--version").split()[-1]


class Prometheus:
    remote_write_path = "/api/v1/write"

    def __init__(self, folder, webhook, interval):
        self.port, alertmanager = free_port(), free_port()
        write(
            folder,
            {
                "prometheus.yml": f"""global: {{ evaluation_interval: {interval} }}
rule_files: [rules.yml]
alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ["127.0.0.1:{alertmanager}"] }}] }}] }}
""",
                "rules.yml": f"""groups:
  - name: cpu
    rules: [{{ alert: HighCpu, expr: 'cpu_percent > {story.LIMIT}', for: 0s }}]
""",
                "alertmanager.yml": f"""route: {{ receiver: sink, group_by: [deployment], group_wait: 0s, group_interval: 5m }}
receivers: [{{ name: sink, webhook_configs: [{{ url: "{webhook}" }}] }}]
""",
            },
        )
        self.processes = [
            Process(
                [
                    "prometheus-alertmanager",
                    f"--config.file={folder}/alertmanager.yml",
                    f"--storage.path={folder}/alertmanager",
                    f"--web.listen-address=127.0.0.1:{alertmanager}",
                    "--cluster.listen-address=",
                    "--log.level=warn",
                ],
                folder,
            )
        ]
        self.processes[0].wait_for(f"http://127.0.0.1:{alertmanager}/-/ready")
        self.processes.append(
            Process(
                [
                    "prometheus",
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--web.enable-remote-write-receiver",
                    "--log.level=warn",
                ],
                folder,
            )
        )
        self.processes[1].wait_for(f"http://127.0.0.1:{self.port}/-/ready")
        # Prometheus finds its Alertmanager a few seconds after it is ready; alerts before that go nowhere
        self.processes[1].wait_for(f"http://127.0.0.1:{self.port}/api/v1/alertmanagers", says=str(alertmanager))

    @staticmethod
    def there():
        return shutil.which("prometheus") and shutil.which("prometheus-alertmanager")

    @staticmethod
    def version():
        both = (output_of(name, "--version") for name in ("prometheus", "prometheus-alertmanager"))
        return " + ".join(re.search(r"version ([\d.]+)", said).group(1) for said in both)


class AnsibleRulebook:
    """Reads the stream by a source plugin in its own process; what its actions print is how they are noticed."""

    def __init__(self, venv, folder, source, database=False, webhook=None):
        cheap = 'debug: { msg: "ACTED {{ event.deployment }} {{ event.sent }}" }'
        acting = f"""run_module:
          name: ansible.builtin.uri
          module_args:
            url: "{webhook}"
            method: POST
            body_format: json
            body: {{ alerts: [{{ status: firing, labels: {{ deployment: "{{{{ event.deployment }}}}" }} }}] }}"""
        source = dict(source, beside=HERE)
        variables = {"drools_db_file_path": os.path.join(folder, "state")} if database else {}
        write(
            folder,
            {
                "rulebook.yml": f"""- name: beside
  hosts: all
  gather_facts: false
  sources: [{{ name: stream, stream: {json.dumps(source)} }}]
  rules:
    - name: HighCpu
      condition: event.cpu_percent > {story.LIMIT}
      action:
        {acting if webhook else cheap}
""",
                "variables.json": json.dumps(variables),
                "inventory": f"localhost ansible_connection=local ansible_python_interpreter={venv}/bin/python3\n",
            },
        )
        command = [f"{venv}/bin/ansible-rulebook", "--rulebook", "rulebook.yml", "--inventory", "inventory"]
        command += ["--vars", "variables.json", "--source-dir", os.path.join(HERE, "rulebook")]
        if database:
            command += ["--persistence-id", "1"]
        self.processes = [Process(command, folder, lines=True, environment=self.environment(venv))]
        self._lines = queue.Queue()
        threading.Thread(target=self._read, args=(self.processes[0].started.stdout,), daemon=True).start()

    @staticmethod
    def environment(venv):
        java = os.environ.get("JAVA_HOME") or next(iter(sorted(glob.glob("/usr/lib/jvm/java-17-openjdk*"))), None)
        own = dict(os.environ, PATH=f"{venv}/bin:{os.environ['PATH']}", PYTHONDONTWRITEBYTECODE="1")
        if java:
            own["JAVA_HOME"] = java
        return own

    def _read(self, stdout):
        try:
            for line in stdout:
                at = time.monotonic()
                word = line.split()
                if word and word[0] in (b"ACTED", b"SENT"):
                    self._lines.put((word[0].decode(), word[1].decode(), float(word[2]), at))
        except ValueError:
            pass  # closed: it was stopped

    def next(self, until):
        """What it did next: (ACTED, deployment, when it was sent, when it was noticed); None when it is late."""
        try:
            return self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None

    def wait_for(self, name, seconds):
        until = time.monotonic() + seconds
        while said := self.next(until):
            if said[1] == name:
                return said[3]
        raise Failed(f"no action on {name!r} within {seconds} s:\n{self.processes[0].end_of_log()}")

    @classmethod
    def version(cls, venv):
        said = output_of(f"{venv}/bin/ansible-rulebook", "--version", environment=cls.environment(venv))
        found = re.search(r"ansible-rulebook \[([\d.]+)\]", said)
        if not found:
            raise Failed(f"ansible-rulebook does not start:\n{said[-1_500:]}")
        java = re.search(r"Java version = ([\d.]+)", said).group(1)
        return f"{found.group(1)}, Java {java}"


def stop(system):
    for process in reversed(system.processes):
        process.stop()
