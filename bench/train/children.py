"""Runs the measured programs, each in a process of its own."""

import json
import os
import shlex
import subprocess
import sys
import time

TCMALLOC = "libtcmalloc_minimal.so.4"


def say(*words):
    print(f"{time.strftime('%H:%M:%S')} ", *words, flush=True)


def has_tcmalloc():
    """Without it page faults take up to 43% of PyTorch's time."""
    check = subprocess.run(
        ["/bin/true"], env={**os.environ, "LD_PRELOAD": TCMALLOC}, stderr=subprocess.PIPE, check=False
    )
    return not check.stderr


def python_environment():
    """Of sentence-transformers at its best, without a look at the network."""
    environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "OMP_NUM_THREADS": "2"}
    environment["THP_MEM_ALLOC_ENABLE"] = "1"
    if has_tcmalloc():
        environment["LD_PRELOAD"] = TCMALLOC
    else:
        say(f"{TCMALLOC} (Debian's libtcmalloc-minimal4) is not here: sentence-transformers runs without it, slower")
    return environment


def lines_of(command, log, wrap="", environment=None):
    """What the lines of JSON that the command prints hold. Its standard error goes to the file log. A
    command that fails ends the benchmark."""
    with open(log, "w", encoding="utf-8") as f:
        found = subprocess.run(
            shlex.split(wrap) + command,
            stdout=subprocess.PIPE,
            stderr=f,
            text=True,
            env={**os.environ, **(environment or {})},
            check=False,
        )
    if found.returncode != 0:
        with open(log, encoding="utf-8") as f:
            sys.exit(f"{command[0]} ended with status {found.returncode}; see {log}:\n{f.read()[-600:]}")
    return [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
