"""Taking samples out of a frame and leaving every other sign of it as it was."""

from collections.abc import Callable, Mapping
from typing import Any

from cem.csms.frames import elements_at, members_at, payload_start


def cut_samples(text: str, keep: Callable[[Mapping[str, Any]], bool]) -> str | None:
    """A CALL without some of its samples.

    Args:
        text: The frame.
        keep: Whether a sample (an object of ``sampledValue``) stays.

    Returns:
        The frame; ``None`` where no sample is left at all.
    """
    found = next((m for m in members_at(text, payload_start(text)) if m[0] == "meterValue"), None)
    if found is None or text[found[2]] != "[":
        return text
    _, _, start, end = found
    values = elements_at(text, start)
    kept = [_cut_one(text, at, until, value, keep) for at, until, value in values]
    left = [value for value in kept if value is not None]
    if not left:
        return None
    if left == [text[at:until] for at, until, _ in values]:
        return text
    return f"{text[:start]}[{','.join(left)}]{text[end:]}"


def _cut_one(text: str, at: int, until: int, value: Any, keep: Callable[[Mapping[str, Any]], bool]) -> str | None:
    """One ``meterValue``; ``None`` where nothing of it stays."""
    whole = text[at:until]
    if not isinstance(value, Mapping):
        return whole
    found = next((m for m in members_at(text, at) if m[0] == "sampledValue"), None)
    if found is None or text[found[2]] != "[":
        return whole
    _, _, start, end = found
    samples = elements_at(text, start)
    left = [text[a:b] for a, b, sample in samples if not isinstance(sample, Mapping) or keep(sample)]
    if len(left) == len(samples):
        return whole
    return f"{text[at:start]}[{','.join(left)}]{text[end:until]}" if left else None
