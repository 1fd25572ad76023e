"""OCPP-J frames: parsed once, the original text kept, and edited in place where a rule must change one value.

A frame that passes through is forwarded as the very text that came in; key order, number formats, spacing and unknown
fields survive because nothing is ever encoded again.
"""

import hashlib
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson

MAX_ID_LENGTH = 36
DEEP, SHORT = 300, 1000
"""Nesting beyond this is looked at; a text that is no longer than this cannot be nested too deeply to walk through."""
_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


class Kind(Enum):
    """OCPP-J message types (OCPP 2.1 Part 4 section 4.1.3)."""

    CALL = 2
    RESULT = 3
    ERROR = 4
    RESULT_ERROR = 5
    SEND = 6


_KINDS = {kind.value: kind for kind in Kind}


@dataclass(slots=True)
class Frame:
    """One message; not frozen, since one is made of every frame that comes, and that would take three times as long.

    Attributes:
        kind: Message type.
        message_id: As the sender wrote it.
        text: The frame, unchanged.
        action: Of a CALL or SEND; empty for answers.
        payload: Of a CALL, CALLRESULT or SEND; the error details of the others.
        code: Error code of a CALLERROR or CALLRESULTERROR.
    """

    kind: Kind
    message_id: str
    text: str
    action: str = ""
    payload: Any = None
    code: str = ""
    _mark: str = field(default="", init=False, compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """What a repeat under another message id has in common with the first."""
        if not self._mark:
            content = self.action.encode() + orjson.dumps(self.payload)
            self._mark = hashlib.sha256(content).hexdigest()[:32]
        return self._mark


class BadFrame(ValueError):
    """The text is no OCPP-J message.

    Attributes:
        message_id: Of the CALL that could be answered with an error; ``None`` where even that is unreadable.
    """

    def __init__(self, problem: str, message_id: str | None = None) -> None:
        super().__init__(problem)
        self.message_id = message_id


def parse(text: str) -> Frame:
    """Reads one frame.

    Raises:
        BadFrame: The text is not JSON or not an OCPP-J message.
    """
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        raise BadFrame(f"not JSON: {problem}") from None
    if len(text) > SHORT and text.count("[") + text.count("{") > DEEP and _too_deep(text):
        raise BadFrame("nested too deeply")
    if not isinstance(message, list) or len(message) < 3 or not isinstance(message[1], str):
        raise BadFrame("not an OCPP-J message array")
    number, message_id = message[0], message[1]
    if not isinstance(number, int) or isinstance(number, bool) or not 2 <= number <= 6:
        raise BadFrame(f"unknown message type {str(number)[:20]}")
    kind = _KINDS[number]
    if kind is Kind.CALL or kind is Kind.SEND:
        answerable = message_id if kind is Kind.CALL else None
        if not message_id or len(message_id) > MAX_ID_LENGTH:
            raise BadFrame("message id must have 1 to 36 characters", answerable)
        if len(message) != 4 or not isinstance(message[2], str) or not isinstance(message[3], dict):
            raise BadFrame("a call needs an action and an object", answerable)
        return Frame(kind, message_id, text, action=message[2], payload=message[3])
    if kind is Kind.RESULT:
        if not isinstance(message[2], dict):
            raise BadFrame("a call result needs an object")
        return Frame(kind, message_id, text, payload=message[2])
    details = message[4] if len(message) > 4 else {}
    return Frame(kind, message_id, text, payload=details, code=str(message[2]))


def _too_deep(text: str) -> bool:
    """Whether the scanner that edits frames could not walk this one."""
    try:
        _DECODER.decode(text)
    except RecursionError:
        return True
    return False


def call(message_id: str, action: str, payload: Any) -> str:
    """A CALL of ours."""
    return orjson.dumps([2, message_id, action, payload]).decode()


def result(message_id: str, payload: Any) -> str:
    """A CALLRESULT of ours."""
    return orjson.dumps([3, message_id, payload]).decode()


def error(message_id: str, code: str, description: str = "") -> str:
    """A CALLERROR of ours; the description has at most 255 characters (OCPP-J 4.2.3)."""
    return orjson.dumps([4, message_id, code, description[:255], {}]).decode()


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


def payload_start(text: str) -> int:
    """Index of the payload's opening brace: the last element of a CALL or CALLRESULT."""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "{":
        _, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        at = _skip(text, at + 1)  # the comma
    return at


def _members(text: str) -> list[tuple[str, int, int, int]]:
    return members_at(text, payload_start(text))


def members_at(text: str, start: int) -> list[tuple[str, int, int, int]]:
    """Each member of the object at ``start`` as (key, start of key, start of value, end of value), in the order written."""
    found = []
    at = _skip(text, start + 1)
    while text[at] != "}":
        start = at
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        value = _skip(text, at + 1)  # after the colon
        _, end = _DECODER.raw_decode(text, value)
        found.append((key, start, value, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def elements_at(text: str, start: int) -> list[tuple[int, int, Any]]:
    """Each element of the array at ``start`` as (start, end, value)."""
    found = []
    at = _skip(text, start + 1)
    while text[at] != "]":
        value, end = _DECODER.raw_decode(text, at)
        found.append((at, end, value))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def payload_text(frame: Frame) -> str:
    """The payload exactly as the sender wrote it."""
    start = payload_start(frame.text)
    _, end = _DECODER.raw_decode(frame.text, start)
    return frame.text[start:end]


def answer_again(answer: Frame, message_id: str) -> str:
    """The same CALLRESULT, its payload as it was written, to a CALL with another message id."""
    return f"[3,{orjson.dumps(message_id).decode()},{payload_text(answer)}]"


def with_value(text: str, key: str, value: Any) -> str:
    """The same frame with one top-level payload value replaced, or added in front where it was missing."""
    token = orjson.dumps(value).decode()
    members = _members(text)
    for name, _, start, end in reversed(members):
        if name == key:
            text = text[:start] + token + text[end:]
    if all(name != key for name, *_ in members):
        at = payload_start(text) + 1
        text = f'{text[:at]}"{key}":{token}{"," if members else ""}{text[at:]}'
    return text


def without(text: str, key: str) -> str:
    """The same frame without one top-level payload member."""
    members = _members(text)
    for index in reversed(range(len(members))):
        name, start, _, end = members[index]
        if name != key:
            continue
        if index + 1 < len(members):
            end = members[index + 1][1]
        elif index > 0:
            start = members[index - 1][3]
        text = text[:start] + text[end:]
        members = _members(text)
    return text
