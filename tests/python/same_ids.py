"""Says whether Hugging Face's tokenizers give the ids that semd gives.

same_ids.py MODEL FILE: each line of FILE is a text's ids, with spaces, a tab, and the text.
Exits with 0 where all are equal, 1 where not, and 77 where tokenizers is missing.
"""

import sys

try:
    from tokenizers import Tokenizer
except ImportError:
    sys.exit(77)


def main(model, path):
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lines = 0
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            ids, text = line.rstrip("\n").split("\t", 1)
            found = tokenizer.encode(text).ids
            if found != [int(i) for i in ids.split()]:
                sys.exit(f"{text!r}: {ids} here, {found} there")
            lines += 1
    print(f"{lines} texts have equal ids")
    if lines == 0:
        sys.exit(1)


main(*sys.argv[1:])
