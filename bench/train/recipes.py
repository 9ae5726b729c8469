"""Recipes of semtrain, from dictionaries: a section's name to its keys and values."""

import json
import os

import children


def text_of(sections):
    """A value that is a list stands as so many lines of its key."""
    found = []
    for name, keys in sections.items():
        found.append(f"[{name}]")
        for key, value in keys.items():
            for one in value if isinstance(value, list) else [value]:
                found.append(f"{key} = {str(one).lower() if isinstance(one, bool) else one}")
        found.append("")
    return "\n".join(found)


def with_changes(sections, changes):
    """The sections with some of their values changed, or sections added."""
    found = {name: dict(keys) for name, keys in sections.items()}
    for name, keys in changes.items():
        found.setdefault(name, {}).update(keys)
    return found


def run(build, command, sections, path, wrap=""):
    """Writes the recipe to path and gives it to semtrain: the lines of JSON that it printed."""
    with open(path, "w", encoding="utf-8") as f:
        f.write(text_of(sections))
    return children.lines_of([f"{build}/semtrain", "-j", command, path], f"{path}.{command}.log", wrap)


def is_done(sections, path):
    """Whether a run of this very recipe has left its results in path."""
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as f:
        return json.load(f)["recipe"] == text_of(sections)
