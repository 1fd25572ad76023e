"""OCPP frames as odd as JSON allows, as text: spacing, escapes, unicode, unknown members, numbers that no float holds."""

import json

from hypothesis import strategies as st

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
HERE = "31415926535897"  # a number that stands nowhere else
NUMBERS = st.sampled_from(["0", "-0", "1.0", "1e3", "1.50E-7", "12345678901234567890123", "0.1000", "-5"])
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=36)
SPACE = st.sampled_from(["", " ", "\t", "\r\n", "  \n "])


@st.composite
def token(draw, depth=2):
    """JSON as odd as the grammar allows, as text."""
    kind = draw(st.integers(0, 6 if depth else 4))
    gap = draw(SPACE)
    if kind == 0:
        return draw(NUMBERS)
    if kind == 1:
        return json.dumps(draw(ANY_TEXT), ensure_ascii=draw(st.booleans()))
    if kind in {2, 3, 4}:
        return draw(st.sampled_from(["true", "false", "null"]))
    inner = draw(st.lists(token(depth=depth - 1), max_size=3))
    if kind == 5:
        return "[" + gap + (gap + ",").join(inner) + gap + "]"
    keys = [json.dumps(draw(ANY_TEXT), ensure_ascii=False) for _ in inner]
    return "{" + gap + ("," + gap).join(f"{k}{gap}:{gap}{v}" for k, v in zip(keys, inner, strict=True)) + gap + "}"


@st.composite
def payload(draw, fixed=()):
    """An object with these members, as pairs of JSON texts, among odd ones in any order."""
    members = [*fixed, ('"customData"', draw(token()))] if draw(st.booleans()) else list(fixed)
    members += [
        (json.dumps("x" + draw(ANY_TEXT), ensure_ascii=draw(st.booleans())), draw(token()))
        for _ in range(draw(st.integers(0, 4)))
    ]
    members = draw(st.permutations(members))
    gap = draw(SPACE)
    return "{" + gap + ("," + gap).join(f"{k}{gap}:{gap}{v}" for k, v in members) + gap + "}"


def call(draw, action, body, message_id="id-1"):
    """The text of a CALL."""
    gap = draw(SPACE)
    return (
        f"{gap}[{gap}2{gap},{gap}{spelled(draw, message_id)},{gap}{spelled(draw, action)}{gap},{gap}{body}{gap}]{gap}"
    )


def answer(draw, body, message_id="id-1"):
    """The text of a CALLRESULT."""
    gap = draw(SPACE)
    return f"[{gap}3,{gap}{spelled(draw, message_id)}{gap},{body}{gap}]{gap}"


def spelled(draw, text):
    """A JSON string, plain or with one letter written as an escape."""
    at = draw(st.integers(-3, len(text) - 1))
    plain = json.dumps(text, ensure_ascii=False)
    if at < 0 or not (text[at].isascii() and text[at].isalnum()):
        return plain
    return json.dumps(text[:at])[:-1] + f"\\u{ord(text[at]):04x}" + json.dumps(text[at + 1 :])[1:]
