#!/usr/bin/env python3
"""Turns a sentence-transformers model (BERT) into what each peer runs.

    prepare.py WHAT MODEL OUT [CALIBRATION.jsonl]

WHAT: onnx, ort-float32, ort-int8, openvino, openvino-int8, openvino-weights, ct2.
Each is made from the one before it in OUT, which the driver sees to. Every graph
but CTranslate2's takes input_ids and attention_mask and returns unit vectors.
"""
import json
import os
import sys

MAX_TOKENS = 256


def onnx_model(model, out):
    import torch
    from transformers import AutoModel

    class Embedder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = AutoModel.from_pretrained(model, attn_implementation="eager", dtype=torch.float32)

        def forward(self, input_ids, attention_mask):
            hidden = self.bert(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=torch.zeros_like(input_ids)
            ).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            return mean / mean.norm(dim=-1, keepdim=True)

    example = torch.ones(2, 16, dtype=torch.int64)
    names = {"input_names": ["input_ids", "attention_mask"], "output_names": ["embedding"]}
    axes = {0: "texts", 1: "tokens"}
    torch.onnx.export(
        Embedder().eval(),
        (example, example),
        f"{out}/model.onnx",
        dynamo=False,
        opset_version=17,
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "texts"}},
        **names,
    )


def ort_float32(model, out):
    from onnxruntime.transformers import optimizer

    with open(f"{model}/config.json", encoding="utf-8") as f:
        config = json.load(f)
    optimised = optimizer.optimize_model(
        f"{out}/model.onnx",
        model_type="bert",
        num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
        opt_level=1,
    )
    fused = optimised.get_fused_operator_statistics()
    optimised.save_model_to_file(f"{out}/ort-float32.onnx")
    print(json.dumps({name: count for name, count in fused.items() if count}))


def ort_int8(model, out):
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # The fused operators' shapes cannot be inferred: say that they are float32.
    quantize_dynamic(
        f"{out}/ort-float32.onnx",
        f"{out}/ort-int8.onnx",
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def openvino(model, out):
    import openvino as ov

    ov.save_model(ov.convert_model(f"{out}/model.onnx"), f"{out}/openvino.xml", compress_to_fp16=False)


def openvino_int8(model, out, calibration):
    import nncf
    import numpy as np
    import openvino as ov
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    with open(calibration, encoding="utf-8") as f:
        ids = [tokenizer.encode(json.loads(line)["text"]).ids for line in f]
    inputs = [{"input_ids": np.array([i]), "attention_mask": np.ones((1, len(i)), np.int64)} for i in ids]
    quantised = nncf.quantize(
        ov.Core().read_model(f"{out}/openvino.xml"),
        nncf.Dataset(inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(inputs),
    )
    ov.save_model(quantised, f"{out}/openvino-int8.xml", compress_to_fp16=False)


def openvino_weights(model, out):
    import nncf
    import openvino as ov

    compressed = nncf.compress_weights(ov.Core().read_model(f"{out}/openvino.xml"))
    ov.save_model(compressed, f"{out}/openvino-weights.xml", compress_to_fp16=False)


def ct2(model, out):
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(model).convert(f"{out}/ct2", force=True)


MAKERS = {
    "onnx": onnx_model,
    "ort-float32": ort_float32,
    "ort-int8": ort_int8,
    "openvino": openvino,
    "openvino-int8": openvino_int8,
    "openvino-weights": openvino_weights,
    "ct2": ct2,
}

if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in MAKERS:
        sys.exit(__doc__)
    os.makedirs(sys.argv[3], exist_ok=True)
    MAKERS[sys.argv[1]](*sys.argv[2:])
