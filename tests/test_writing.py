"""A file appears at its path only when it is whole, and takes the place of files alone."""

import os
import stat

import pytest

from lookahead.cli import InputError
from lookahead.files.writing import write_bytes, write_json, write_text


def test_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "there").write_text("old")
    for name in ("there", "dangling"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
        write_text(tmp_path / name, "é\n")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "disk" / name).read_bytes() == "é\n".encode()


def test_what_is_no_regular_file_is_rejected(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link", "/dev/null", "pipe/x"):
        with pytest.raises(InputError, match="cannot be written .(it is no regular|File exists)"):
            write_json(tmp_path / name, {})
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_after_a_failure_the_file_before_is_there_and_nothing_else(error, tmp_path):
    def pieces():
        yield b"new"
        raise error

    write_text(tmp_path / "x", "old")
    with pytest.raises(InputError if error is OSError else error):
        write_bytes(tmp_path / "x", pieces())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_two_writers_of_one_path_share_no_file(tmp_path):
    """One begins and ends while the other writes; the file of the last is there."""

    def pieces():
        yield b"one"
        write_text(tmp_path / "x", "the other")
        yield b" and all of it"

    write_bytes(tmp_path / "x", pieces())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["one and all of it"]
