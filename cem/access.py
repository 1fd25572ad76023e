"""What an operator decided by command: rejected stations, station passwords (hashed), tags. One file, mode 0600.

A running controller reads the file again when it changes, so that a command needs no connection to it; whoever may
write in the storage directory may use the commands.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cem.csms.authorization import token_hash
from cem.errors import CemError

FILE = "access.json"
MOST_REJECTED = 1000
MOST_TAGS = 20_000
_SCRYPT = {"n": 1 << 14, "r": 8, "p": 1}
_HEX_KEY = 40
"""OCPP 1.6 security whitepaper A00: an AuthorizationKey of 20 bytes, configured as 40 hexadecimal digits."""
_EMPTY: Mapping[str, Mapping[str, Any]] = {"rejected": {}, "credentials": {}, "next": {}, "tags": {}}


def is_hex_key(password: str) -> bool:
    """It is 20 bytes in hexadecimal."""
    return len(password) == _HEX_KEY and all(c in "0123456789abcdefABCDEF" for c in password)


def same_password(given: bytes, password: str) -> bool:
    """Compares in constant time; a key in hexadecimal may be sent as text or as its 20 raw bytes."""
    if is_hex_key(password):
        return hmac.compare_digest(_hex_text(given), password.lower().encode())
    return hmac.compare_digest(given, password.encode())


def _hex_text(given: bytes) -> bytes:
    return given.hex().encode() if len(given) == _HEX_KEY // 2 else given.lower()


def hashed(password: str) -> dict[str, Any]:
    """What is kept of a password."""
    salt = secrets.token_bytes(16)
    is_hex = is_hex_key(password)
    digest = hashlib.scrypt((password.lower() if is_hex else password).encode(), salt=salt, dklen=32, **_SCRYPT)
    return {"salt": salt.hex(), "digest": digest.hex(), "hex": is_hex}


def matches(given: bytes, kept: Mapping[str, Any]) -> bool:
    """Whether this is the password; takes tens of milliseconds on purpose, so never on the loop."""
    text = _hex_text(given) if kept["hex"] else given
    digest = hashlib.scrypt(text, salt=bytes.fromhex(kept["salt"]), dklen=32, **_SCRYPT)
    return hmac.compare_digest(digest, bytes.fromhex(kept["digest"]))


def prepare(directory: Path) -> None:
    """Makes the storage directory for its owner only.

    Raises:
        CemError: It cannot be made.
    """
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            if os.geteuid() == 0:  # the controller, which is not root, reads what root makes here
                owner = directory.parent.stat()
                os.chown(directory, owner.st_uid, owner.st_gid)
    except OSError as problem:
        raise CemError(
            f"{directory}: cannot be made: {problem.strerror}. Run this as the controller's user"
        ) from problem


def write_private(path: Path, content: bytes) -> None:
    """Replaces a file at once and whole, readable by the owner of its folder only (also where root writes it).

    Raises:
        CemError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.part-{secrets.token_hex(4)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if os.geteuid() == 0:
                owner = path.parent.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as problem:
        with contextlib.suppress(OSError):
            part.unlink()
        raise CemError(f"{path}: cannot be written: {problem.strerror}. Run this as the controller's user") from problem


class Access:
    """Reads the file as often as it changes.

    Args:
        directory: The storage directory; ``None`` where nothing is kept.
    """

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None else directory / FILE
        self._stamp: tuple[int, int] | None = None
        self._kept: Mapping[str, Mapping[str, Any]] = _EMPTY
        self._told: Mapping[str, Mapping[str, Any]] | None = None

    def _read(self) -> Mapping[str, Mapping[str, Any]]:
        if self._path is None:
            return self._kept
        try:
            told = self._path.stat()
            stamp = (told.st_mtime_ns, told.st_ino)
        except FileNotFoundError:
            self._kept, self._stamp = _EMPTY, None
            return self._kept
        except OSError:
            return self._kept
        if stamp != self._stamp:
            with contextlib.suppress(CemError):  # a damaged file leaves what was known
                self._kept = load(self._path)
                self._stamp = stamp
        return self._kept

    def changes(self) -> list[str]:
        """What commands changed since the last call, for people."""
        kept, known = self._read(), self._told
        self._told = kept
        if known is None or kept is known:
            return []
        words = {
            "rejected": "rejection of",
            "credentials": "password of",
            "next": "next password of",
            "tags": "a tag was",
        }
        found = []
        for section, what in words.items():
            for name in sorted(kept[section].keys() | known[section].keys()):
                before, after = known[section].get(name), kept[section].get(name)
                if before != after:
                    verb = "set" if before is None else "removed" if after is None else "changed"
                    # Of a tag not even the hash: what is in the audit can never be taken out again.
                    found.append(f"{what}{'' if section == 'tags' else f' {name}'} {verb} by command")
        return found

    def rejected(self, station_id: str) -> bool:
        """Somebody said that this station does not belong here."""
        return station_id in self._read()["rejected"]

    def credential(self, station_id: str) -> Mapping[str, Any] | None:
        """The hashed password set by command; it takes the place of the site file's."""
        return self._read()["credentials"].get(station_id)

    def next_credential(self, station_id: str) -> Mapping[str, Any] | None:
        """The hashed password that it was given and has not come in with yet; it counts beside the other."""
        return self._read()["next"].get(station_id)

    def confirm(self, station_id: str) -> None:
        """The station came in with its next password: that takes the place of the other.

        Raises:
            CemError: The file cannot be written; both count until it can.
        """
        if self._path is not None:
            with changing(self._path.parent) as content:
                if station_id in content["next"]:
                    content["credentials"][station_id] = content["next"].pop(station_id)

    def tags(self) -> Mapping[str, Mapping[str, Any]]:
        """Token hash to what is known of the tag."""
        return self._read()["tags"]


def load(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """What the file says; nothing where there is none.

    Raises:
        CemError: It cannot be read or is damaged.
    """
    try:
        told = json.loads(path.read_bytes())
        kept = {name: dict(told.get(name, {})) for name in _EMPTY}
        for credential in (*kept["credentials"].values(), *kept["next"].values()):
            bytes.fromhex(credential["salt"]), bytes.fromhex(credential["digest"]), credential["hex"]
        for tag in kept["tags"].values():
            if tag.get("until") is not None:
                datetime.fromisoformat(tag["until"])
    except FileNotFoundError:
        return _EMPTY
    except OSError as problem:
        raise CemError(f"{path}: cannot be read: {problem.strerror}. Run this as the controller's user") from problem
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise CemError(f"{path} is damaged; restore it from a backup or delete it") from problem
    return kept


def offer_credential(directory: Path, station_id: str, password: str) -> None:
    """Keeps a password beside the one that counts, until the station has come in with it.

    Raises:
        CemError: The file cannot be written.
    """
    with changing(directory) as content:
        content["next"][station_id] = hashed(password)


def withdraw_credential(directory: Path, station_id: str) -> None:
    """The station does not have it after all; as ``offer_credential``."""
    with changing(directory) as content:
        content["next"].pop(station_id, None)


def forget_tag(directory: Path, tag: str) -> bool:
    """Takes a tag off the list, where it is on it; whether it was.

    Raises:
        CemError: The file cannot be read or written.
    """
    if token_hash(tag) not in load(directory / FILE)["tags"]:
        return False
    with changing(directory) as content:
        return content["tags"].pop(token_hash(tag), None) is not None


@contextlib.contextmanager
def changing(directory: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Hands out the file's content to change and writes it back; two commands at once wait for each other.

    Raises:
        CemError: It cannot be read or written.
    """
    prepare(directory)
    path = directory / FILE
    try:
        lock = os.open(directory / f".{FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise CemError(
            f"{directory}: cannot be written: {problem.strerror}. Run this as the controller's user"
        ) from problem
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = {name: dict(values) for name, values in load(path).items()}
        yield content
        write_private(path, json.dumps(content, indent=1, sort_keys=True).encode())
    finally:
        os.close(lock)
