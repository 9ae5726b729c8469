"""The process of one who takes part in a benchmark: a line goes in, a line of JSON comes out."""

import json
import os
import select
import subprocess
import time


class Failed(Exception):
    pass


class Missing(Failed):
    """A peer that this Python cannot import."""


class PeerProcess:
    """ask() sends a line and returns the answer; ready is the first one, which comes by itself."""

    def __init__(self, command, log, environment, answer_seconds):
        self.log, self.answer_seconds = log, answer_seconds
        with open(log, "w", encoding="utf-8") as f:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=f,
                env={**os.environ, **environment},
                bufsize=0,
            )
        self.rest = b""
        self.ready = self.answer()

    def ask(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
        except OSError as failure:
            raise Failed(f"it has ended; see {self.log}") from failure
        return self.answer()

    def answer(self):
        until = time.monotonic() + self.answer_seconds
        while b"\n" not in self.rest:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))
            if not readable:
                self.process.kill()
                raise Failed(f"no answer in {self.answer_seconds} seconds; see {self.log}")
            more = os.read(self.process.stdout.fileno(), 1 << 20)
            if not more:
                raise Failed(f"it ended with status {self.process.wait()}: {self.last_words()}")
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        answer = json.loads(line)
        if "missing" in answer:
            raise Missing(answer["missing"])
        if "error" in answer:
            raise Failed(f"{answer['error']}; see {self.log}")
        return answer

    def last_words(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            lines = [line.strip() for line in f if line.strip()]
        return (lines[-1][:200] if lines else "no message") + f" (see {self.log})"

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
