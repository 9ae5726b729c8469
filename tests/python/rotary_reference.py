#!/usr/bin/env python3
"""Writes tests/model/data/rotary.json: what the families with rotary positions must give.

    python3 -m venv VENV && VENV/bin/pip install torch transformers
    VENV/bin/python tests/python/rotary_reference.py > tests/model/data/rotary.json

Weights and ids are not written but made again by the test (fill() and ids_of()
below, in integers, so that both sides get the same floats). config.json and the
names and shapes of the tensors are those of a checkpoint that transformers saves;
embeddings are its model's. The models that transformers has no class for (biases
in nomic-bert, its own configuration) are computed by own_nomic(), which must
first agree with transformers where both can compute.
"""

import json
import math
import sys
import tempfile

import torch
import transformers
from safetensors import safe_open
from transformers import ModernBertConfig, ModernBertModel, NomicBertConfig, NomicBertModel

VOCAB = 60
LENGTHS = [1, 2, 5, 9, 17, 31, 40, 70, 130, 257, 530]
MASK = (1 << 64) - 1


def mixed(x):
    """SplitMix64's finaliser."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def seed_of(name):
    """FNV-1a."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & MASK
    return h


def fill(name, shape):
    """16 bits a value, centred on 0, or on 1 for a LayerNorm's weight; matrices by their width."""
    seed, count = seed_of(name), math.prod(shape)
    centre = 1.0 if "norm" in name.lower() or "_ln" in name else 0.0
    centre = 0.0 if name.endswith(".bias") else centre
    scale = 0.5 if len(shape) == 1 or "embeddings" in name else 3.0 / math.sqrt(shape[1])
    values = [(mixed(seed + i & MASK) >> 48) - 32768 for i in range(count)]
    whole = torch.tensor(values, dtype=torch.float64) / 32768.0
    return (centre + whole * scale).to(torch.float32).reshape(shape)


def ids_of(length):
    return [mixed(length * 1000003 + i) % VOCAB for i in range(length)]


def unit(pooling, hidden):
    y = hidden[0] if pooling == "cls" else hidden.mean(0)
    return (y / y.norm()).tolist()


def own_nomic(config, tensors, ids):
    """nomic-bert as its own code computes it, one text at a time."""
    t, width, heads = tensors, config["n_embd"], config["n_head"]
    layer_norm = lambda x, name: torch.nn.functional.layer_norm(
        x, (width,), t[name + ".weight"], t[name + ".bias"], config["layer_norm_epsilon"])
    linear = lambda x, name: torch.nn.functional.linear(x, t[name + ".weight"], t.get(name + ".bias"))
    gate = torch.nn.functional.silu if config["activation_function"] == "swiglu" else torch.nn.functional.gelu
    n, size = len(ids), width // heads
    steps = 1.0 / config["rotary_emb_base"] ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    angles = torch.outer(torch.arange(n, dtype=torch.float32), steps)
    cos, sin = angles.cos()[:, None, :], angles.sin()[:, None, :]

    def turned(x):
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    x = t["embeddings.word_embeddings.weight"][ids]
    if config["type_vocab_size"] > 0:
        x = x + t["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(x, "emb_ln")
    for i in range(config["n_layer"]):
        at = "encoder.layers.%d." % i
        q, k, v = linear(x, at + "attn.Wqkv").reshape(n, 3, heads, size).unbind(1)
        scores = torch.einsum("ihd,jhd->hij", turned(q), turned(k)) / math.sqrt(size)
        context = torch.einsum("hij,jhd->ihd", scores.softmax(-1), v).reshape(n, width)
        x = layer_norm(x + linear(context, at + "attn.out_proj"), at + "norm1")
        wide = linear(x, at + "mlp.fc11") * gate(linear(x, at + "mlp.fc12"))
        x = layer_norm(x + linear(wide, at + "mlp.fc2"), at + "norm2")
    return x


def save_and_fill(model):
    """The checkpoint that transformers saves: its configuration and its tensors, with values of ours."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.load(open(folder + "/config.json"))
        with safe_open(folder + "/model.safetensors", "pt") as f:
            shapes = {name: f.get_slice(name).get_shape() for name in f.keys()}
        tensors = {name: fill(name, shape) for name, shape in shapes.items()}
        from safetensors.torch import save_file
        save_file(tensors, folder + "/model.safetensors", {"format": "pt"})
        return config, tensors, type(model).from_pretrained(folder).eval()


def transformers_case(name, model, pooling, change=None, prefix=""):
    """change: what is done to the configuration that semd reads, and must mean the same."""
    config, tensors, model = save_and_fill(model)
    expected = []
    with torch.no_grad():
        for length in LENGTHS:
            hidden = model(torch.tensor([ids_of(length)])).last_hidden_state[0]
            expected.append(unit(pooling, hidden))
    if change is not None:
        change(config)
    return case(name, config, tensors, pooling, expected, prefix)


def case(name, config, tensors, pooling, expected, prefix=""):
    return {
        "name": name,
        "config": config,
        "pooling": pooling,
        "prefix": prefix,
        "tensors": {key: list(value.shape) for key, value in tensors.items()},
        "embeddings": [[float("%.8g" % x) for x in row] for row in expected],
    }


def nomic_case(name, config, pooling):
    width, F = config["n_embd"], config.get("n_inner") or 8 * config["n_embd"] // 3
    F = (F + 255) // 256 * 256
    multiple = config["pad_vocab_size_multiple"]
    shapes = {"embeddings.word_embeddings.weight": [(VOCAB + multiple - 1) // multiple * multiple, width]}
    if config["type_vocab_size"] > 0:
        shapes["embeddings.token_type_embeddings.weight"] = [config["type_vocab_size"], width]
    norms = ["emb_ln"]
    for i in range(config["n_layer"]):
        at = "encoder.layers.%d." % i
        norms += [at + "norm1", at + "norm2"]
        for part, rows, columns, flag in (
            ("attn.Wqkv", 3 * width, width, "qkv_proj_bias"),
            ("attn.out_proj", width, width, "qkv_proj_bias"),
            ("mlp.fc11", F, width, "mlp_fc1_bias"),
            ("mlp.fc12", F, width, "mlp_fc1_bias"),
            ("mlp.fc2", width, F, "mlp_fc2_bias"),
        ):
            shapes[at + part + ".weight"] = [rows, columns]
            if config[flag]:
                shapes[at + part + ".bias"] = [rows]
    for norm in norms:
        shapes[norm + ".weight"] = [width]
        shapes[norm + ".bias"] = [width]
    tensors = {key: fill(key, shape) for key, shape in shapes.items()}
    with torch.no_grad():
        expected = [unit(pooling, own_nomic(config, tensors, ids_of(length))) for length in LENGTHS]
    return case(name, config, tensors, pooling, expected)


def nomic_config(**changes):
    return {
        "model_type": "nomic_bert", "activation_function": "swiglu", "attn_pdrop": 0.0, "resid_pdrop": 0.0,
        "embd_pdrop": 0.0, "causal": False, "layer_norm_epsilon": 1e-12, "max_trained_positions": 2048,
        "mlp_fc1_bias": False, "mlp_fc2_bias": False, "n_embd": 48, "n_head": 4, "n_inner": 256, "n_layer": 3,
        "n_positions": 8192, "pad_vocab_size_multiple": 64, "parallel_block": False, "prenorm": False,
        "qkv_proj_bias": False, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "type_vocab_size": 2, "use_rms_norm": False,
        "vocab_size": VOCAB,
        "auto_map": {"AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
                     "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
        **changes,
    }


def check_own_nomic(model, config):
    """own_nomic() against transformers' model."""
    _, tensors, model = save_and_fill(model)
    with torch.no_grad():
        for length in LENGTHS:
            right = model(torch.tensor([ids_of(length)])).last_hidden_state[0]
            found = own_nomic(config, tensors, ids_of(length))
            assert (right - found).abs().max() < 2e-5, (length, (right - found).abs().max())


def modernbert(**changes):
    sizes = dict(vocab_size=VOCAB, hidden_size=48, num_hidden_layers=4, num_attention_heads=4, intermediate_size=56,
                 max_position_embeddings=1024, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2,
                 sep_token_id=3)
    return ModernBertModel(ModernBertConfig(**{**sizes, **changes}))


def nomic():
    return NomicBertModel(NomicBertConfig(vocab_size=VOCAB, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
                                          intermediate_size=256, max_position_embeddings=1024))


def to_old_form(config):
    """What transformers 4 wrote instead of layer_types and rope_parameters."""
    del config["layer_types"], config["rope_parameters"]
    config.update(global_attn_every_n_layers=2, global_rope_theta=5000.0, local_rope_theta=300.0,
                  position_embedding_type="absolute", torch_dtype="float32", reference_compile=None)


def main():
    torch.set_num_threads(1)
    check_own_nomic(nomic(), nomic_config())
    cases = [
        transformers_case("modernbert", modernbert(), "mean"),
        transformers_case("modernbert-small-window", modernbert(local_attention=16), "cls"),
        transformers_case(
            "modernbert-old-form-all-biases",
            modernbert(hidden_size=64, num_attention_heads=2, num_hidden_layers=3, local_attention=31,
                       layer_types=["full_attention", "sliding_attention", "full_attention"],
                       rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 5000.0},
                                        "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}},
                       hidden_activation="silu", attention_bias=True, mlp_bias=True, norm_bias=True, norm_eps=1e-6),
            "mean", to_old_form, "model."),
        transformers_case("modernbert-no-global-layer",
                          modernbert(num_hidden_layers=2, layer_types=["sliding_attention"] * 2, local_attention=6),
                          "mean"),
        transformers_case("nomic-bert", nomic(), "mean"),
        nomic_case("nomic-bert-own-form", nomic_config(), "mean"),
        nomic_case("nomic-bert-all-biases",
                   nomic_config(n_embd=64, n_head=1, n_layer=2, n_inner=None, activation_function="geglu",
                                qkv_proj_bias=True, mlp_fc1_bias=True, mlp_fc2_bias=True, type_vocab_size=0,
                                rotary_emb_base=10000, layer_norm_epsilon=1e-5), "cls"),
    ]
    json.dump({"torch": torch.__version__, "transformers": transformers.__version__, "vocab": VOCAB,
               "lengths": LENGTHS, "cases": cases}, sys.stdout, indent=None, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
