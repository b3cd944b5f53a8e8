"""Long lists of names, cut short for a message."""

from collections.abc import Sequence

MOST = 5


def few(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
