"""Figures of Markdown pages: words, links, sentences, and how easy they are to read.

Code blocks, tables and headings do not count as sentences. Reading ease is Flesch's (1948):
206.835 - 1.015 * words per sentence - 84.6 * syllables per word; 60 to 70 is plain English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_FENCES = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^(?: {4}|\t).*\n?)+", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_SPAN = re.compile(r"`[^`\n]+`")
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_PERSON = re.compile(r"\b(?:you|your|yours|yourself|we|us|our|ours)\b", re.IGNORECASE)


def measure(pages: Sequence[str]) -> dict[str, float]:
    """Measure the text of pages together.

    Args:
      pages: Markdown.

    Returns:
      Name of the figure -> value.
    """
    bare = [without_code(page) for page in pages]
    words = sum(len(re.findall(r"\S*\w\S*", page)) for page in pages)
    running = sum(len(_WORD.findall(page)) for page in bare)
    found = [sentence for page in bare for sentence in sentences(page)]
    spoken = [_WORD.findall(sentence) for sentence in found]
    per_sentence = sum(map(len, spoken)) / max(1, len(spoken))
    per_word = sum(syllables(word) for words in spoken for word in words) / max(1, sum(map(len, spoken)))
    return {
        "words": words,
        "code_spans": sum(len(_SPAN.findall(_FENCES.sub("", page))) for page in pages),
        "links": sum(len(_LINK.findall(_FENCES.sub("", page))) for page in pages),
        "you_per_1000": round(1000 * sum(len(_PERSON.findall(page)) for page in bare) / max(1, running), 1),
        "semicolons_per_1000": round(1000 * sum(page.count(";") for page in bare) / max(1, running), 1),
        "words_per_sentence": round(per_sentence, 1),
        "reading_ease": round(206.835 - 1.015 * per_sentence - 84.6 * per_word, 1),
    }


def without_code(page: str) -> str:
    """Drop code blocks, and put the word "code" in place of code spans; links keep their text."""
    page = _INDENTED.sub("\n", _FENCES.sub("\n", page))
    return _LINK.sub(r"\1", _SPAN.sub("code", page))


def sentences(page: str) -> list[str]:
    """Split running text into sentences; tables and headings are left out.

    Args:
      page: from `without_code`.

    Returns:
      Those of three words and more.
    """
    kept = [line for line in page.splitlines() if not re.match(r"\s*(\||#|<|[-:| ]+$)", line)]
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[*-]|\d+\.)\s)", "\n".join(kept))
    parts = [part for block in blocks for part in re.split(r"(?<=[.!?:])\s+", " ".join(block.split()))]
    return [part for part in parts if len(_WORD.findall(part)) >= 3]


def syllables(word: str) -> int:
    """Count the groups of vowels of an English word, without a silent e at its end."""
    word = word.lower()
    count = len(re.findall(r"[aeiouy]+", word))
    silent = word.endswith("e") and not word.endswith(("le", "ee")) and count > 1
    return max(1, count - silent)
