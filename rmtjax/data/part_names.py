"""The names that people give to the parts of a set: one place for folders, tables and arrays."""

import re
from collections.abc import Iterable

_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
_PART = {word: part for part, words in _WORDS.items() for word in words}
_FILLERS = ("set", "data", "dataset", "images", "imgs", "split")  # as in `train_set` and `Test Images`


def part_of(name: str) -> str | None:
    """Returns "train", "validation" or "test" if what has this name is such a part, else None.

    Capitals do not matter, nor do words that add nothing: "Valid", "train_set" and "TestImages" are parts;
    "crash test" is none.
    """
    words = [word for word in _words(name) if word not in _FILLERS]
    if len(words) != 1:
        return None
    return _PART.get(words[0]) or _PART.get(re.sub(f"({'|'.join(_FILLERS)})$", "", words[0]))


def look_like_parts(names: Iterable[str]) -> bool:
    """Whether names that are no parts by themselves name training and another part, as seg_train and seg_test
    do.
    """
    found = {_PART[word] for name in names for word in _words(name) if word in _PART}
    return "train" in found and len(found) > 1


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())
