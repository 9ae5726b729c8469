"""Who takes part, and the process of one of them."""
import os
import sys
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.dirname(HERE))

from peer_process import Failed, PeerProcess  # noqa: E402

__all__ = ["Entrant", "Failed", "Runner", "Setting", "OURS", "PEERS", "ST", "HERE"]
ANSWER_SECONDS = 600
# What keeps the peers' libraries, and us, from using AVX-512.
AVX2 = {
    "SEMD_SIMD": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "CT2_FORCE_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
}


@dataclass(frozen=True)
class Entrant:
    name: str
    precision: str
    engine: str  # "" is ours
    kind: str  # the engine's own name of the precision
    needs: tuple = ()  # of prepare.py, in this order
    bfloat16: bool = False  # needs the instructions
    avx2: bool = False  # takes part with AVX-512 turned off

    @property
    def ours(self):
        return self.engine == ""

    @property
    def label(self):
        return f"{self.name} {self.precision}"


OURS = [
    Entrant("semd", "float32", "", "float32", avx2=True),
    Entrant("semd", "bfloat16", "", "bfloat16", bfloat16=True),
    Entrant("semd", "int8", "", "int8", avx2=True),
    Entrant("semd", "auto", "", "auto"),
]
ST, ORT, OV, CT2 = "sentence-transformers", "onnxruntime", "openvino", "ctranslate2"
OV_GRAPH = ("onnx", "openvino")
# In the order of their turns: what competes stands together.
PEERS = [
    Entrant(ST, "float32", ST, "float32"),
    Entrant(ORT, "float32", ORT, "float32", ("onnx", "ort-float32")),
    Entrant(CT2, "float32", CT2, "float32", ("ct2",), avx2=True),
    Entrant(OV, "float32", OV, "float32@f32", OV_GRAPH, avx2=True),
    Entrant(OV, "bfloat16", OV, "float32@bf16", OV_GRAPH, bfloat16=True),
    Entrant(ST, "bfloat16", ST, "bfloat16", bfloat16=True),
    Entrant(OV, "int8 weights", OV, "weights@bf16", (*OV_GRAPH, "openvino-weights"), bfloat16=True),
    Entrant(OV, "int8", OV, "int8@bf16", (*OV_GRAPH, "openvino-int8"), bfloat16=True),
    Entrant(OV, "int8 in f32", OV, "int8@f32", (*OV_GRAPH, "openvino-int8"), avx2=True),
    Entrant(ORT, "int8", ORT, "int8", ("onnx", "ort-float32", "ort-int8")),
    Entrant(CT2, "int8", CT2, "int8", ("ct2",), avx2=True),
]


@dataclass
class Setting:
    """What is the same for all entrants of a contest."""

    build: str
    model: str
    folder: str
    python: str
    workload: str
    texts: str  # .jsonl
    threads: int
    avx2: bool = False
    tag: str = field(default="")  # of remembered plans


class Runner(PeerProcess):
    """An entrant's process."""

    def __init__(self, entrant, setting):
        self.entrant, self.setting = entrant, setting
        threads = str(setting.threads)
        environment = {
            "OMP_NUM_THREADS": threads,
            "RAYON_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "true" if setting.threads > 1 else "false",
            "OPENBLAS_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            **(AVX2 if setting.avx2 else {}),
        }
        name = f"{entrant.label}-{setting.workload}-{threads}{'-avx2' if setting.avx2 else ''}".replace(" ", "-")
        log = f"{setting.folder}/logs/{name}.log"
        os.makedirs(os.path.dirname(log), exist_ok=True)
        super().__init__(self.command(), log, environment, ANSWER_SECONDS)

    def command(self):
        s, e = self.setting, self.entrant
        if e.ours:
            options = [f"precision={e.kind}", f"threads={s.threads}", "turns=1"]
            return [f"{s.build}/bench_encode", *options, s.model, s.texts]
        return [s.python, f"{HERE}/peer.py", e.engine, e.kind, str(s.threads), s.folder, s.model, s.texts]
