"""The disk cache of compiled kernels: content-addressed, checked, safe for many processes.

An entry is a set of named files under one key; the key is the hash of everything that the
contents depend on, so entries are never updated and need no locks. Invariants:

- A file appears under its name complete or not at all: it is written to a temporary file in the
  same folder and renamed. Two processes that write the same file write the same contents.
- A file starts with a mark and a checksum over key, name and contents. Whatever does not agree
  with it is a miss; it is removed where the mark shows that it was ours.
- Cached files are code that will run, so the folder must belong to the user, and nobody else may
  write it. Any other folder is refused, with one warning, and nothing is cached.

A cache may always be absent: no method raises because of the state of the disk. This module does
not know what is cached, and does not limit the size.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import platformdirs

from blocklang import environment

MARK = b"blocklang cache 1\n"
KEY_PATTERN = re.compile(r"[0-9a-f]{64}")
NAME_PATTERN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
TEMPORARY_PREFIX = ".writing-"

_refused_folders: set[Path] = set()


class CacheWarning(UserWarning):
    """The disk cache cannot be used as it was meant; everything works, but compiles again."""


def key(*parts: str | bytes) -> str:
    """Return the hash of `parts` as 64 hexadecimal digits.

    Neither moving text from one part to the next nor changing `str` to `bytes` gives the same key.
    """
    digest = hashlib.sha256()
    for part in parts:
        kind, data = (b"s", part.encode()) if isinstance(part, str) else (b"b", part)
        digest.update(kind + len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


class Cache:
    """The cache in one folder: by default BLOCKLANG_CACHE_DIR, or else the user's cache folder."""

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        chosen = directory or environment.CACHE_DIR.get()
        self.directory = Path(chosen or platformdirs.user_cache_dir("blocklang", appauthor=False))

    def get(self, key: str, name: str) -> bytes | None:
        """Return the contents of the file `name` under `key`; None if absent or damaged."""
        path = self._path(key, name)
        if not self._usable:
            return None
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        if not stored.startswith(MARK):
            return None
        contents = stored[len(MARK) + hashlib.sha256().digest_size :]
        if stored != _sealed(key, name, contents):
            with suppress(OSError):
                path.unlink()
            return None
        return contents

    def put(self, key: str, files: Mapping[str, bytes]) -> None:
        """Store `files` (name to contents) under `key`; a disk that refuses gives one warning.

        Each file appears atomically, one after the other, in the order of `files`.
        """
        paths = {name: self._path(key, name) for name in files}
        if not self._usable:
            return
        try:
            for name, contents in files.items():
                _write_atomically(paths[name], _sealed(key, name, contents))
        except OSError as error:
            self._refuse(f"cannot be written ({error.strerror or error})")

    def clear(self) -> int:
        """Remove every entry, and what interrupted writers left; return the number of files."""
        removed = 0
        for path in list(self._files()):
            with suppress(OSError):
                path.unlink()
                removed += 1
        return removed

    def size(self) -> int:
        """Return the number of bytes that the cache takes on the disk."""
        total = 0
        for path in self._files():
            with suppress(OSError):
                total += path.stat().st_size
        return total

    def _path(self, key: str, name: str) -> Path:
        if not KEY_PATTERN.fullmatch(key):
            raise ValueError(
                f"cache key {key!r}; expected the 64 hexadecimal digits that key() returns"
            )
        if not NAME_PATTERN.fullmatch(name):
            raise ValueError(
                f"cache file name {name!r}; expected letters, digits, '_', '-' and inner '.'"
            )
        return self.directory / key[:2] / f"{key[2:]}.{name}"

    def _files(self) -> Iterator[Path]:
        if not self._usable:
            return
        for path in self.directory.glob("[0-9a-f][0-9a-f]/*"):
            digits, _, name = path.name.partition(".")
            ours = KEY_PATTERN.fullmatch(path.parent.name + digits) and NAME_PATTERN.fullmatch(name)
            if ours or path.name.startswith(TEMPORARY_PREFIX):
                yield path

    @cached_property
    def _usable(self) -> bool:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            problem = _access_problem(self.directory)
        except OSError as error:
            problem = f"cannot be created ({error.strerror or error})"
        if problem:
            self._refuse(problem)
        return not problem

    def _refuse(self, problem: str) -> None:
        if self.directory in _refused_folders:
            return
        _refused_folders.add(self.directory)
        warnings.warn(
            f"compiled kernels are not cached on disk: the folder {self.directory} {problem}. "
            f"Set {environment.CACHE_DIR.name} to a folder of your own to change this.",
            CacheWarning,
            stacklevel=2,
        )


def _access_problem(directory: Path) -> str | None:
    """Say why other users could put files into `directory`; None if they cannot."""
    if os.name != "posix":
        return None  # Elsewhere, permission bits say nothing; user folders are private by default.
    status = directory.stat()
    if status.st_uid != os.getuid():
        return f"belongs to another user (number {status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by other users (chmod go-w would mend that)"
    return None


def _sealed(key: str, name: str, contents: bytes) -> bytes:
    checksum = hashlib.sha256(f"{key}/{name}/".encode() + contents).digest()
    return MARK + checksum + contents


def _write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        # Windows refuses to replace a file that another process reads: the same contents, then.
        if not (os.name == "nt" and path.exists()):
            raise
