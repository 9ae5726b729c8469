"""Compares semd's token ids with those of Hugging Face's tokenizers.

  compare_tokenizers.py BENCH_TOKENIZER [texts=N] [seed=N] [only=PART] [keep=DIR]

Trains tiny vocabularies with the library itself, writes a tokenizer.json for every
combination of parts below, encodes N random and hostile texts with each by both and
compares all ids. Ends with 1 if any differs or if one is refused. Texts at which the
library itself panics are counted and passed over.
"""

import json
import os
import random
import subprocess
import sys
import tempfile

os.environ["RUST_BACKTRACE"] = "0"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# pylint: disable=wrong-import-position
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN = GPT4.replace("{1,3}", "")

CORPUS = (
    "the quick brown fox jumps over the lazy dog and it's what we'll see when they've come in 1984 or 2026 . "
    "Der Fuchs ist schnell, größer und überall; l'été dernier, ça n'était pas là. Ελληνικά και русский текст 中文文本 日本語 "
    "한국어 텍스트 العربية हिन्दी ไทย 😀👨‍👩‍👧 naïve café résumé coöperate ﬁne ½ Ⅷ ①② ２０２６ "
    "information retrieval search engine embedding tokenizer normalization pre-tokenization don't can't she'd I'm "
).split() * 3 + ["a" * 8, "ab" * 5, "the the", "12345", "a_b", "x=y+z", "e\u0301", "\u0915\u093c"]

NORMALIZERS = {
    "none": None,
    "NFC": normalizers.NFC(),
    "NFD": normalizers.NFD(),
    "NFKC": normalizers.NFKC(),
    "NFKD": normalizers.NFKD(),
    "lower": normalizers.Lowercase(),
    "strip": normalizers.Strip(),
    "left": normalizers.Strip(right=False),
    "accents": normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]),
    "replace": normalizers.Sequence(
        [normalizers.Replace("``", '"'), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Replace(Regex("[0-9]"), "#")]
    ),
    "spaces": normalizers.Replace(Regex(" {2,}"), " "),
    "prepend": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
    "bert": normalizers.BertNormalizer(),
    "bert-cased": normalizers.BertNormalizer(lowercase=False),
    "bert-marks": normalizers.BertNormalizer(lowercase=False, strip_accents=True, clean_text=False),
    "nfc-bert": normalizers.Sequence([normalizers.NFC(), normalizers.BertNormalizer(), normalizers.Strip()]),
}

WORDS = {
    "bert": pre_tokenizers.BertPreTokenizer(),
    "whitespace": pre_tokenizers.Whitespace(),
    "split": pre_tokenizers.WhitespaceSplit(),
    "digits": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True)]),
    "numbers": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.BertPreTokenizer()]),
    "punctuation": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]),
    "punct-next": pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(behavior="merged_with_next")]
    ),
    "punct-before": pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(behavior="merged_with_previous")]
    ),
    "punct-run": pre_tokenizers.Punctuation(behavior="contiguous"),
    "delimiter": pre_tokenizers.CharDelimiterSplit(" "),
    "text": pre_tokenizers.Split("a", "removed"),
    "class": pre_tokenizers.Split(Regex(r"\s+"), "removed"),
    "inverted": pre_tokenizers.Split(Regex(r"\S+"), "removed", invert=True),
    "not-letters": pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}]+"), "merged_with_previous"),
    "gpt4": pre_tokenizers.Split(Regex(GPT4), "isolated"),
    "none": None,
}

META = {
    "meta": pre_tokenizers.Metaspace(),
    "meta-first": pre_tokenizers.Metaspace(prepend_scheme="first"),
    "meta-never": pre_tokenizers.Metaspace(prepend_scheme="never"),
    "meta-whole": pre_tokenizers.Metaspace(split=False),
    "meta-under": pre_tokenizers.Metaspace(replacement="_"),
    "split-meta": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
    "split-first": pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")]
    ),
    "whitespace": pre_tokenizers.Whitespace(),
    "none": None,
}


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**options)


BYTES = {
    "gpt2": byte_level(add_prefix_space=False),
    "roberta": byte_level(add_prefix_space=True),
    "split-gpt2": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(GPT2), "removed", invert=True), byte_level(add_prefix_space=False, use_regex=False)]
    ),
    "llama3": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(GPT4), "isolated"), byte_level(add_prefix_space=False, use_regex=False)]
    ),
    "qwen": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN), "isolated"), byte_level(add_prefix_space=False, use_regex=False)]
    ),
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(add_prefix_space=False)]),
    "punctuation": pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), byte_level(add_prefix_space=True)]),
    "one-word": byte_level(add_prefix_space=False, use_regex=False),
}

ADDED = {
    "no": [],
    "mask": [AddedToken("[MASK]", special=True, normalized=False, lstrip=True)],
    "many": [
        AddedToken("[MASK]", special=True, normalized=False),
        AddedToken("<l>", lstrip=True, normalized=False),
        AddedToken("<r>", rstrip=True, normalized=False),
        AddedToken("fox", single_word=True, normalized=False),
        AddedToken("Dog", normalized=True),
        AddedToken("été", normalized=True, single_word=True),
        AddedToken("  ", normalized=False),
        AddedToken("x =", normalized=True, rstrip=True),
    ],
}


def processor(tokenizer, kind):
    specials = [("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))]
    if kind == 0:
        return processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=specials)
    if kind == 1:
        return processors.RobertaProcessing(specials[1], specials[0])
    if kind == 2:
        return processors.BertProcessing(specials[1], specials[0])
    return processors.Sequence(
        [processors.ByteLevel(), processors.TemplateProcessing(single="[CLS] $A", pair="$A $B", special_tokens=specials[:1])]
    )


# Where semd takes prepend_scheme "first".
FIRST = {"meta-first": ("none", "NFC", "NFKD", "strip", "left", "spaces", "prepend", "bert"), "split-first": ("none",)}


SPECIAL = ["[UNK]", "[CLS]", "[SEP]"]


def trained(kind, pre):
    if kind == "WordPiece":
        model, trainer = models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20), trainers.WordPieceTrainer
        trainer = trainer(vocab_size=900, special_tokens=SPECIAL, show_progress=False)
    elif kind == "BPE":
        model = models.BPE()
        trainer = trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        model = models.Unigram()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False, max_piece_length=8
        )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre
    sentences = [" ".join(CORPUS[i : i + 9]) for i in range(0, len(CORPUS), 5)] * 2
    tokenizer.train_from_iterator(sentences, trainer)
    return json.loads(tokenizer.to_str())["model"]


def variants():
    kinds = (
        ("WordPiece", WORDS, pre_tokenizers.BertPreTokenizer()),
        ("BPE", BYTES, byte_level(add_prefix_space=True)),
        ("Unigram", META, pre_tokenizers.Metaspace()),
    )
    number = 0
    for kind, choices, training in kinds:
        model = trained(kind, training)
        for pre_name, pre in choices.items():
            for norm_name, norm in NORMALIZERS.items():
                if norm_name not in FIRST.get(pre_name, NORMALIZERS):
                    continue
                number += 1
                added = list(ADDED)[number % len(ADDED)]
                base = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
                whole = json.loads(base.to_str())
                whole["model"] = model
                tokenizer = Tokenizer.from_str(json.dumps(whole))
                if norm is not None:
                    tokenizer.normalizer = norm
                if pre is not None:
                    tokenizer.pre_tokenizer = pre
                tokenizer.post_processor = processor(tokenizer, number % 4)
                tokenizer.add_tokens(ADDED[added])
                yield f"{kind}/{pre_name}/{norm_name}/{added}", tokenizer


PIECES = (
    CORPUS[:60]
    + [" ", "  ", "   ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u200b", "\u200d", "\ufeff", "\ufffd", "\0", "▁", "_", "#", "##"]
    + ["[MASK]", "[MAS", "<l>", "<r>", "fox", "Dog", "dog", "ÉTÉ", "été", "[CLS]", "``", "'s", "'S", "'ſ", "'LL", "'Re", "'"]
    + ["\u0301", "\u0323", "\u0327", "\u302e", "\u1bf2", "\u034f", "가", "\u1100", "\u1161", "\u11a8", "각", "ﬃ", "ﷺ", "İ", "ẞ", "Σ"]
    + ["😀", "👨‍👩‍👧", "🇩🇪", "é", "e\u0301", "\u09c7\u09be", "\u0958", "𝒳", "١٢٣", "½", "₁", "$", "€", "…", "¿", "…!", "。"]
    + ["a" * 30, "1234567", "3.14", "x_y", "--", "!!!", "\u0600", "\u2028", "\x85", "\x1f", "中", "文文", "\U0001d15e", "\u2f800"]
)


def text(rng):
    out = []
    for _ in range(rng.randrange(14)):
        kind = rng.random()
        if kind < 0.62:
            out.append(rng.choice(PIECES))
        elif kind < 0.7:
            out.append(rng.choice(PIECES) * rng.randrange(1, 40))
        elif kind < 0.8:
            out.append("".join(chr(rng.randrange(32, 127)) for _ in range(rng.randrange(1, 12))))
        elif kind < 0.9:
            first = rng.choice([0x80, 0x300, 0x900, 0xE00, 0x1100, 0x1E00, 0x2000, 0x3000, 0xAC00, 0xFB00, 0x1F300, 0x1D100])
            out.append("".join(chr(first + rng.randrange(256)) for _ in range(rng.randrange(1, 6))))
        else:
            code = rng.randrange(0x110000)
            out.append(chr(code) if not 0xD800 <= code < 0xE000 else "?")
        if rng.random() < 0.4:
            out.append(" ")
    return "".join(out)


def encoded(tokenizer, sentence):
    """The ids, or None where the library panics."""
    try:
        return tokenizer.encode(sentence).ids
    except BaseException as error:  # pylint: disable=broad-except
        if type(error).__name__ != "PanicException":
            raise
        return None


def main():
    options = dict(argument.split("=", 1) for argument in sys.argv[2:])
    seed = int(options.get("seed", random.randrange(1 << 30)))
    count = int(options.get("texts", 1500))
    rng = random.Random(seed)
    print(f"seed={seed}")
    wrong = total = kinds = panics = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = options.get("keep", folder)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "texts.jsonl")
        for name, tokenizer in variants():
            texts = [text(rng) for _ in range(count)]
            if options.get("only", "") not in name:
                continue
            kinds += 1
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(json.dumps({"text": t}) + "\n" for t in texts)
            tokenizer.save(os.path.join(folder, "tokenizer.json"))
            expected = [encoded(tokenizer, t) for t in texts]
            panics += expected.count(None)
            run = subprocess.run([sys.argv[1], "ids=1", path, folder], capture_output=True, text=True, check=False)
            found = [[int(i) for i in line.split()] for line in run.stdout.split("\n")[:-1]]
            if run.returncode != 0:
                wrong += 1
                print(f"{name}: {run.stderr.strip()}")
                continue
            differ = [i for i in range(count) if expected[i] is not None and found[i] != expected[i]]
            total += count
            wrong += len(differ)
            if differ:
                first = min(differ, key=lambda i: len(texts[i]))
                print(f"{name}: {len(differ)} of {count} differ, such as {texts[first]!a}:\n  {found[first]}\n  {expected[first]}")
    print(f"{kinds} tokenizers, {total} texts, {wrong} wrong, {panics} passed over")
    return 1 if wrong or not kinds else 0


if __name__ == "__main__":
    sys.exit(main())
