"""The disk cache: contents, damage, permissions and many writers at once."""

import multiprocessing
import os
import stat
import warnings
from concurrent.futures import ProcessPoolExecutor

import pytest

from blocklang.cache import MARK, TEMPORARY_PREFIX, Cache, CacheWarning, key

posix_only = pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
KEY = key("source", "options")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def stored_file(cache):
    (path,) = cache.directory.glob("*/*")
    return path


def test_put_then_get_from_another_object(cache):
    cache.put(KEY, {"kernel.ptx": b"text", "kernel.cubin": b"\0\1\n"})
    other = Cache(cache.directory)
    assert other.get(KEY, "kernel.ptx") == b"text"
    assert other.get(KEY, "kernel.cubin") == b"\0\1\n"
    assert other.get(KEY, "kernel.json") is None
    assert other.get(key("other"), "kernel.ptx") is None


def test_empty_contents_are_not_a_miss(cache):
    cache.put(KEY, {"empty": b""})
    assert cache.get(KEY, "empty") == b""


def test_put_again_replaces(cache):
    cache.put(KEY, {"a": b"1"})
    cache.put(KEY, {"a": b"2"})
    assert cache.get(KEY, "a") == b"2"


def test_key_separates_parts_and_kinds():
    keys = [key(), key(""), key("ab", "c"), key("a", "bc"), key("abc"), key(b"abc"), key("abc", "")]
    assert len(set(keys)) == len(keys)
    assert key("ab", b"c") == key("ab", b"c")


@pytest.mark.parametrize("bad", ["", "0" * 63, "../" + "0" * 61, "G" * 64, KEY.upper() + "A"])
def test_bad_key_is_refused(cache, bad):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        cache.get(bad, "a")


@pytest.mark.parametrize("bad", ["", "../a", "a/b", ".hidden", "a\0b"])
def test_bad_name_is_refused(cache, bad):
    with pytest.raises(ValueError, match="cache file name"):
        cache.put(KEY, {bad: b""})


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[: len(MARK)],
        lambda data: (
            data[: len(MARK) + 40] + bytes([data[len(MARK) + 40] ^ 1]) + data[len(MARK) + 41 :]
        ),
        lambda data: data[: len(MARK)] + bytes(32) + data[len(MARK) + 32 :],
    ],
    ids=["cut", "longer", "only the mark", "flipped bit", "wrong checksum"],
)
def test_damaged_file_is_a_miss_and_removed(cache, damage):
    cache.put(KEY, {"a": b"some contents of a kernel"})
    path = stored_file(cache)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(KEY, "a") is None
    assert not path.exists()
    cache.put(KEY, {"a": b"again"})
    assert cache.get(KEY, "a") == b"again"


def test_entry_moved_to_another_key_is_a_miss(cache):
    cache.put(KEY, {"a": b"code of one kernel"})
    cache.put(key("other"), {"a": b"code of another"})
    first, second = cache.directory.glob("*/*")
    first.write_bytes(second.read_bytes())
    found = [cache.get(KEY, "a"), cache.get(key("other"), "a")]
    assert found in ([b"code of one kernel", None], [None, b"code of another"])


@pytest.mark.parametrize("contents", [b"", b"somebody else's notes"])
def test_foreign_file_is_a_miss_and_stays(cache, contents):
    cache.put(KEY, {"a": b"1"})
    path = stored_file(cache)
    path.write_bytes(contents)
    assert cache.get(KEY, "a") is None
    assert path.read_bytes() == contents


def test_size_and_clear_touch_only_entries(cache):
    assert cache.size() == 0
    cache.put(KEY, {"a": b"x" * 1000, "b": b""})
    assert 1000 < cache.size() < 1200
    notes = cache.directory / "notes.txt"
    notes.write_text("mine")
    neighbour = cache.directory / KEY[:2] / "README"
    neighbour.write_text("not an entry")
    abandoned = cache.directory / KEY[:2] / (TEMPORARY_PREFIX + "abc")
    abandoned.write_bytes(b"half")
    assert cache.clear() == 3
    assert cache.size() == 0
    assert cache.get(KEY, "a") is None
    assert notes.exists()
    assert neighbour.exists()


@posix_only
def test_folder_is_created_for_its_owner_alone(tmp_path):
    previous = os.umask(0)
    try:
        cache = Cache(tmp_path / "new" / "cache")
        cache.put(KEY, {"a": b"1"})
    finally:
        os.umask(previous)
    for path in (cache.directory, stored_file(cache).parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert not stat.S_IMODE(stored_file(cache).stat().st_mode) & 0o077


@posix_only
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_folder_that_others_can_write_is_refused_once(tmp_path, mode):
    folder = tmp_path / "shared"
    Cache(folder).put(KEY, {"a": b"1"})
    folder.chmod(mode)
    with pytest.warns(CacheWarning, match="written by other users") as caught:
        assert Cache(folder).get(KEY, "a") is None
        Cache(folder).put(key("new"), {"a": b"1"})
    assert len(caught) == 1
    assert len(list(folder.glob("*/*"))) == 1


@posix_only
def test_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.warns(CacheWarning, match="belongs to another user"):
        Cache(tmp_path).put(KEY, {"a": b"1"})
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_created_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache")
    with pytest.warns(CacheWarning, match="cannot be created"):
        cache.put(KEY, {"a": b"1"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get(KEY, "a") is None
        assert cache.size() == cache.clear() == 0


def test_disk_that_refuses_writing_is_no_error_and_leaves_nothing(cache, monkeypatch):
    def full_disk(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.warns(CacheWarning, match="No space left on device"):
        cache.put(KEY, {"a": b"1"})
    assert not list(cache.directory.glob("*/*"))
    assert not list(cache.directory.glob("*/.*"))


@posix_only
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root writes everywhere")
def test_unwritable_folder_still_reads(cache):
    cache.put(KEY, {"a": b"1"})
    shard = stored_file(cache).parent
    shard.chmod(0o500)
    try:
        with pytest.warns(CacheWarning, match="cannot be written"):
            cache.put(KEY, {"b": b"2"})
        assert cache.get(KEY, "a") == b"1"
    finally:
        shard.chmod(0o700)


def test_default_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("BLOCKLANG_CACHE_DIR", raising=False)
    assert "blocklang" in Cache().directory.parts
    assert Cache().directory.is_absolute()
    monkeypatch.setenv("BLOCKLANG_CACHE_DIR", str(tmp_path / "chosen"))
    assert Cache().directory == tmp_path / "chosen"


def contents_for(number):
    return bytes([number]) * (10_000 + number)


def hammer(directory):
    """Write and read the same few entries again and again; return what was ever read wrongly."""
    cache, wrong = Cache(directory), []
    for turn in range(60):
        number = turn % 4
        cache.put(key(str(number)), {"a": contents_for(number)})
        for other in range(4):
            found = cache.get(key(str(other)), "a")
            if found not in (None, contents_for(other)):
                wrong.append(found)
        if turn % 20 == 19:
            cache.clear()
    return wrong


def test_concurrent_processes_never_see_half_a_file(tmp_path):
    method = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=method) as pool:
        results = list(pool.map(hammer, [tmp_path / "cache"] * 3))
    assert results == [[], [], []]
    cache = Cache(tmp_path / "cache")
    cache.put(key("0"), {"a": contents_for(0)})
    assert cache.get(key("0"), "a") == contents_for(0)
    assert not list(cache.directory.glob(f"*/{TEMPORARY_PREFIX}*"))
