"""The process of one engine, ours or a peer's."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.dirname(HERE))

from peer_process import Failed, Missing, PeerProcess  # noqa: E402

__all__ = ["Failed", "Missing", "Runner", "ours", "peer"]
ANSWER_SECONDS = 3600  # a graph of a million vectors takes its time


class Runner(PeerProcess):
    def __init__(self, engine, command, log):
        self.engine = engine
        environment = {"OMP_WAIT_POLICY": "passive", "TF_CPP_MIN_LOG_LEVEL": "2"}
        super().__init__(command, log, environment, ANSWER_SECONDS)


def ours(build, files):
    vectors, rows, queries, count, truth = files
    options = [f"rows={rows}", f"queries={count}", f"threads={os.cpu_count()}", "turns=1"]
    return [f"{build}/bench_ann", *options, vectors, queries, truth]


def peer(engine, folder, files):
    return [sys.executable, f"{HERE}/peer.py", engine, folder, *map(str, files)]
