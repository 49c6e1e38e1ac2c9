"""Count words with a pool of threads, one task for each paragraph of the event's text."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return the number of paragraphs and words, and the event's `top` (3 by default) most frequent words."""
    paragraphs = [part for part in event["text"].split("\n\n") if part.strip()]
    with ThreadPoolExecutor(max_workers=4) as pool:
        counts = sum(pool.map(count_words, paragraphs), Counter[str]())
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {"paragraphs": len(paragraphs), "words": counts.total(), "top": frequent[: event.get("top", 3)]}


def count_words(text: str) -> Counter[str]:
    """Count the words of one paragraph, in lower case."""
    return Counter(re.findall(r"\w+", text.lower()))
