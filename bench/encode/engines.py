"""The peers: what each needs to load, and how it is run at its best.

An engine is made for a number of threads and has

    plans       the ways of batching worth trying (see Plan)
    start(plan) builds what the plan's streams need; called again when they change
    run(ids)    one padded batch: list of id lists -> [B, E] float32, unit length
    run_all(batches, store)   all of them; store(batch, vectors) keeps the result
    one(ids)    a single text as quickly as it can, after start_one()

Batches are lists of text numbers, ids a list of token ids for every text. What is
not used by an engine is not imported, so that its peak memory is its own.
"""
import threading
from collections import namedtuple

import numpy as np

# At most `texts` in a batch or at most `tokens` padded tokens (the other is None),
# and `streams` batches at once.
Plan = namedtuple("Plan", "texts tokens streams")
SIZES = [(None, 256), (None, 512), (None, 1024), (8, None), (32, None)]


def padded(ids):
    width = max(map(len, ids))
    tokens = np.zeros((len(ids), width), np.int64)
    mask = np.zeros((len(ids), width), np.int64)
    for row, i in enumerate(ids):
        tokens[row, : len(i)] = i
        mask[row, : len(i)] = 1
    return tokens, mask


class Engine:
    def __init__(self, folder, model, precision, threads):
        self.folder, self.model, self.precision, self.threads = folder, model, precision, threads
        self.plans = [Plan(*size, streams) for streams in sorted({1, threads}) for size in SIZES]

    def start(self, plan):
        pass

    def start_one(self):
        self.start(Plan(1, None, 1))

    def one(self, ids):
        return self.run([ids])

    def run_all(self, plan, batches, ids, store):
        """One batch after the other, or as many Python threads as streams: every
        engine lets go of Python's lock while it computes."""
        lock = threading.Lock()
        waiting = iter(batches)
        failures = []

        def work():
            try:
                while True:
                    with lock:
                        batch = next(waiting, None)
                    if batch is None:
                        return
                    store(batch, self.run([ids[i] for i in batch]))
            except Exception as failure:
                failures.append(failure)

        helpers = [threading.Thread(target=work) for _ in range(plan.streams - 1)]
        for helper in helpers:
            helper.start()
        work()
        for helper in helpers:
            helper.join()
        if failures:
            raise failures[0]


class SentenceTransformers(Engine):
    """PyTorch, through the model's own modules (pooling and normalise included)."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        import torch
        from sentence_transformers import SentenceTransformer

        self.torch = torch
        kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.precision]
        self.st = SentenceTransformer(self.model, device="cpu", model_kwargs={"dtype": kind}).eval()
        torch.set_num_threads(self.threads)
        self.plans = [plan for plan in self.plans if plan.streams == 1]

    def run(self, ids):
        torch = self.torch
        tokens, mask = padded(ids)
        features = {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            return self.st(features)["sentence_embedding"].float().numpy()


class OnnxRuntime(Engine):
    """The transformer optimiser's graph, float32 or quantised."""

    def start(self, plan):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = max(1, self.threads // plan.streams)
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            f"{self.folder}/ort-{self.precision}.onnx", options, providers=["CPUExecutionProvider"]
        )

    def run(self, ids):
        tokens, mask = padded(ids)
        return self.session.run(None, {"input_ids": tokens, "attention_mask": mask})[0]


class OpenVino(Engine):
    """precision is GRAPH@HINT: float32@f32, float32@bf16, int8@bf16, weights@bf16."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        import openvino as ov

        self.ov = ov
        self.graph, self.hint = self.precision.split("@")
        self.plans = [plan for plan in self.plans if plan.streams == self.threads]
        self.compiled = None

    def compile(self, hint, **more):
        name = {"float32": "openvino", "int8": "openvino-int8", "weights": "openvino-weights"}[self.graph]
        settings = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": self.hint,
            **more,
        }
        return self.ov.Core().compile_model(f"{self.folder}/{name}.xml", "CPU", settings)

    def start(self, plan):
        if self.compiled is None:
            self.compiled = self.compile("THROUGHPUT", NUM_STREAMS=self.threads)

    def run_all(self, plan, batches, ids, store):
        queue = self.ov.AsyncInferQueue(self.compiled, plan.streams)
        queue.set_callback(lambda request, given: store(given[0], request.get_output_tensor(0).data))
        for batch in batches:
            tokens, mask = padded([ids[i] for i in batch])
            # Inputs are not copied: what is handed to the callback keeps them.
            inputs = {"input_ids": tokens, "attention_mask": mask}
            queue.start_async(inputs, (batch, inputs), share_inputs=True)
        queue.wait_all()

    def start_one(self):
        self.compiled = None
        self.request = self.compile("LATENCY").create_infer_request()

    def one(self, ids):
        inputs = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        self.request.infer(inputs, share_inputs=True)
        return self.request.get_output_tensor(0).data


class CTranslate2(Engine):
    def start(self, plan):
        import ctranslate2

        self.ct2 = ctranslate2
        self.encoder = ctranslate2.Encoder(
            f"{self.folder}/ct2",
            device="cpu",
            compute_type=self.precision,
            inter_threads=plan.streams,
            intra_threads=max(1, self.threads // plan.streams),
        )

    def run(self, ids):
        hidden = np.asarray(self.encoder.forward_batch(ids).last_hidden_state)  # [B, T, H]
        lengths = np.array([len(i) for i in ids])
        weights = (np.arange(hidden.shape[1]) < lengths[:, None]) / lengths[:, None]
        vectors = np.matmul(weights[:, None, :].astype(np.float32), hidden)[:, 0]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


ENGINES = {
    "sentence-transformers": SentenceTransformers,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "ctranslate2": CTranslate2,
}
