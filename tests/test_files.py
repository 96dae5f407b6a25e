"""Atomic writes and downloads, against a server on the loopback interface that misbehaves on demand."""

import errno
import hashlib
import multiprocessing
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time

import portalocker
import pytest
from loopback import CONTENT

from igc_gluon import downloads, files
from igc_gluon.errors import UserError
from igc_gluon.locks import Lock

pytestmark = pytest.mark.usefixtures("quick_and_direct")
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def part_of(path, expected=SHA256):
    return path.with_name(f"{path.name}.{expected[:8]}.part")


# write_atomically


def test_write_replaces_whole_file_and_leaves_nothing_beside(tmp_path):
    target = tmp_path / "a.txt"
    for text in ("first", "zweite Größe"):
        with files.write_atomically(target, "w") as file:
            file.write(text)
        assert target.read_text(encoding="utf-8") == text
    with files.write_atomically(target) as file:
        file.write(b"\0\1")
    assert target.read_bytes() == b"\0\1"
    assert names(tmp_path) == ["a.txt"]


def test_write_gives_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    with files.write_atomically(tmp_path / "atomic") as file:
        file.write(b"x")
    mode = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")}
    assert mode["plain"] == mode["atomic"]


def test_old_file_is_there_until_the_block_ends(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with files.write_atomically(target) as file:
        file.write(b"new" * 10000)
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new" * 10000


@pytest.mark.parametrize("error", [KeyError("bug"), KeyboardInterrupt(), OSError(errno.EACCES, "no", "other/file")])
def test_write_passes_foreign_errors_on_and_cleans_up(tmp_path, error):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(type(error)) as caught, files.write_atomically(target) as file:
        file.write(b"half")
        raise error
    assert caught.value is error
    assert names(tmp_path) == ["a"] and target.read_bytes() == b"old"


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_full_disk_is_a_user_error_and_keeps_the_old_file(tmp_path, monkeypatch, where):
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where != "write":
        monkeypatch.setattr(files.os, where, full)
    message = f"cannot write {target}: No space left on device"
    with pytest.raises(UserError, match=message), files.write_atomically(target) as file:
        file.write(b"half")
        if where == "write":
            full()
    assert names(tmp_path) == ["a"] and target.read_bytes() == b"old"


def test_truly_full_device_is_a_user_error():
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("no /dev/full here")
    # The kernel's own ENOSPC, raised by write(2): it carries no file name, like that of a full disk.
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError) as caught:
        full.write(b"x")
    assert caught.value.filename is None and caught.value.errno == errno.ENOSPC


def test_names_with_nul_and_names_as_long_as_may_be(tmp_path):
    with pytest.raises(UserError, match=r"a\\x00b: no file has such a name"), files.write_atomically(tmp_path / "a\0b"):
        pass
    for name in ("x" * 255, "\u65e5" * 85):
        with files.write_atomically(tmp_path / name) as file:
            file.write(b"whole")
        assert (tmp_path / name).read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 2


def test_missing_folder_is_a_user_error(tmp_path):
    message = "cannot write .*nowhere/a: No such file or directory"
    with pytest.raises(UserError, match=message), files.write_atomically(tmp_path / "nowhere" / "a"):
        pass


def test_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="mode"), files.write_atomically(tmp_path / "a", "a"):
        pass


def device(path, minor):
    """A null device (minor 3) or one that is always full (7): a copy, which may be harmed."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        path.open("wb").close()
    except OSError:
        pytest.skip("devices can be made by root alone")


def save(path, data=b"new"):
    with files.write_atomically(path) as file:
        file.write(data)


def test_devices_are_written_through_and_not_replaced(tmp_path):
    device(tmp_path / "null", 3)
    device(tmp_path / "full", 7)
    os.symlink("null", tmp_path / "link")
    for name in ("null", "link"):
        save(tmp_path / name)
    with pytest.raises(UserError, match="cannot write .*full: No space left on device"):
        save(tmp_path / "full")
    assert all(stat.S_ISCHR((tmp_path / name).stat().st_mode) for name in ("null", "full"))
    assert (tmp_path / "link").is_symlink() and names(tmp_path) == ["full", "link", "null"]


def test_pipes_are_written_through_at_the_end_and_whole(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="nobody reads from the pipe .*pipe"):
        save(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(KeyError), files.write_atomically(pipe) as file:
        file.write(b"half")
        raise KeyError
    with files.write_atomically(pipe, "w") as file:
        file.write("zweite Größe")
    assert os.read(reader, 100).decode() == "zweite Größe"
    os.set_blocking(reader, True)
    read = []

    def read_all():  # before there is a writer, and after it, a read gives nothing
        while sum(map(len, read)) < 3 * len(CONTENT):
            read.append(os.read(reader, 1 << 16))
            if not read[-1]:
                time.sleep(0.01)

    thread = threading.Thread(target=read_all)
    thread.start()
    save(pipe, CONTENT * 3)  # more than a pipe holds
    thread.join()
    os.close(reader)
    assert b"".join(read) == CONTENT * 3 and names(tmp_path) == ["pipe"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_symbolic_links_stay_and_what_they_lead_to_is_replaced_whole(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "old").write_bytes(b"old")
    for name, target in (("to-old", "elsewhere/old"), ("to-none", elsewhere / "none"), ("twice", "to-old")):
        os.symlink(target, tmp_path / name)
        save(tmp_path / name, name.encode())
        assert (tmp_path / name).is_symlink() and (tmp_path / name).read_bytes() == name.encode()
    assert names(elsewhere) == ["none", "old"] and names(tmp_path) == ["elsewhere", "to-none", "to-old", "twice"]
    with pytest.raises(KeyError), files.write_atomically(tmp_path / "to-old") as file:
        file.write(b"half")
        raise KeyError
    assert (elsewhere / "old").read_bytes() == b"twice"
    os.symlink("loop", tmp_path / "loop")
    with pytest.raises(UserError, match="cannot write .*loop: Too many levels of symbolic links"):
        save(tmp_path / "loop")


def test_folders_and_disks_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, "/", "", ".", ".."):
        with pytest.raises(UserError, match="cannot write .*: Is a directory" if folder else "is empty"):
            save(folder)
    assert names(tmp_path) == []
    try:
        os.mknod(tmp_path / "disk", 0o666 | stat.S_IFBLK, os.makedev(7, 250))  # a loop device that is not there
    except OSError:
        pytest.skip("devices can be made by root alone")
    with pytest.raises(UserError, match="cannot write .*disk: it is a disk"):
        save(tmp_path / "disk")
    assert stat.S_ISBLK((tmp_path / "disk").stat().st_mode)


@pytest.mark.parametrize("name", ["stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_to_wherever_it_goes(tmp_path, name):
    os.symlink("/proc/self/fd/1", tmp_path / "stdout")  # what /dev/stdout is, which a failure would replace
    name = tmp_path / name
    script = (
        "import sys\nfrom igc_gluon.files import write_atomically\nprint('before', flush=True)\n"
        "with write_atomically(sys.argv[1]) as file:\n    file.write(b'new\\n')\nprint('after')"
    )
    command = [sys.executable, "-c", script, name]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0 and done.stdout == b"before\nnew\nafter\n"
    with open(tmp_path / "out", "ab") as out:
        subprocess.run(command, stdout=out, check=True)
        out.write(b"and the shell's own\n")
    assert (tmp_path / "out").read_bytes() == b"before\nnew\nafter\nand the shell's own\n"
    assert os.readlink(tmp_path / "stdout") == "/proc/self/fd/1"


def test_downloads_go_where_a_link_leads(tmp_path, server):
    (tmp_path / "store").mkdir()
    os.symlink("store/data", tmp_path / "a")
    downloads.download([server.url], tmp_path / "a", "sha256", SHA256)
    assert (tmp_path / "a").is_symlink() and (tmp_path / "store" / "data").read_bytes() == CONTENT
    assert names(tmp_path) == ["a", "store"] and names(tmp_path / "store") == ["data"]
    device(tmp_path / "null", 3)
    with pytest.raises(UserError, match="cannot write .*null: it is no file"):
        downloads.download([server.url], tmp_path / "null", "sha256", SHA256)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="cannot write .*pipe: it is no file"):
        downloads.download([server.url], tmp_path / "pipe", "sha256", SHA256)


# digest


def test_digest_equals_hashlib_and_git(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    assert files.digest(path, "sha256") == SHA256
    assert files.digest(path, "md5") == hashlib.md5(CONTENT).hexdigest()
    path.write_bytes(b"hello\n")
    assert files.digest(path, "git-blob") == "ce013625030ba8dba906f756967f9e9ca394464a"
    git = subprocess.run(["git", "hash-object", str(path)], stdout=subprocess.PIPE, check=False)
    if git.returncode == 0:
        assert git.stdout.decode().strip() == files.digest(path, "git-blob")


# download


def test_download_brings_the_file_shows_a_bar_and_leaves_nothing_beside(tmp_path, server, capfd, monkeypatch):
    monkeypatch.setattr("igc_gluon.progress_bar.INTERVAL", 0)
    target = tmp_path / "deep" / "file.bin"
    assert downloads.download([server.url], target, "sha256", SHA256) == target
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["file.bin"]
    out, err = capfd.readouterr()
    assert out == "" and re.search(r"^file.bin: +\d+%", err, re.M)


def test_download_asks_nobody_when_the_file_is_there(tmp_path, server):
    target = tmp_path / "file.bin"
    target.write_bytes(CONTENT)
    downloads.download([server.url], target, "sha256", SHA256)
    assert server.requests == []


def test_download_replaces_a_damaged_file(tmp_path, server):
    target = tmp_path / "file.bin"
    target.write_bytes(CONTENT[:-1])
    downloads.download([server.url], target, "sha256", SHA256)
    assert target.read_bytes() == CONTENT


def test_cut_connection_is_taken_up_where_it_broke(tmp_path, server):
    server.cuts = 4  # more than TRIES: every cut still brought something new
    downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    offsets = [0 if header is None else int(header[6:-1]) for header in server.requests]
    assert offsets[0] == 0 and offsets == sorted(set(offsets)) and len(offsets) == 5


def test_part_of_an_earlier_call_is_continued(tmp_path, server):
    target = tmp_path / "file.bin"
    part_of(target).write_bytes(CONTENT[:300000])
    downloads.download([server.url], target, "sha256", SHA256)
    assert target.read_bytes() == CONTENT and server.requests == ["bytes=300000-"]


def test_whole_part_needs_no_server(tmp_path):
    target = tmp_path / "file.bin"
    part_of(target).write_bytes(CONTENT)
    downloads.download(["http://127.0.0.1:9/nobody"], target, "sha256", SHA256)
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * (len(CONTENT) + 5)], ids=["foreign", "too long"])
def test_bad_part_is_thrown_away_and_the_file_fetched_anew(tmp_path, server, part):
    target = tmp_path / "file.bin"
    part_of(target).write_bytes(part)
    downloads.download([server.url], target, "sha256", SHA256)
    assert target.read_bytes() == CONTENT and server.requests[-1] is None


def test_server_that_cannot_continue_starts_over(tmp_path, server):
    target = tmp_path / "file.bin"
    part_of(target).write_bytes(CONTENT[:300000])
    server.ranges = False
    downloads.download([server.url], target, "sha256", SHA256)
    assert target.read_bytes() == CONTENT


def test_server_that_cannot_continue_and_always_cuts_is_given_up(tmp_path, server):
    server.ranges, server.cuts = False, 1000
    with pytest.raises(UserError, match="cut again and again"):
        downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
    assert len(server.requests) == downloads.TRIES + 1


def test_answer_with_another_range_is_not_appended(tmp_path, server):
    target = tmp_path / "file.bin"
    part_of(target).write_bytes(CONTENT[:300000])
    server.shift_range = 5
    downloads.download([server.url], target, "sha256", SHA256)
    assert target.read_bytes() == CONTENT and server.requests == ["bytes=300000-", None]


def test_wrong_digest_names_both_and_keeps_nothing(tmp_path, server):
    server.content = b"another release"
    actual = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(UserError, match=f"sha256 {actual}, expected {SHA256}") as caught:
        downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
    assert "\n" not in str(caught.value) and len(server.requests) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("says", [True, False])
def test_a_server_that_sends_too_much_is_left(tmp_path, server, says, monkeypatch):
    """Whether or not it says so before; the disk is not filled."""
    if not says:
        real = downloads.requests.get

        def get(*args, **kwargs):
            answer = real(*args, **kwargs)
            del answer.headers["Content-Length"]
            return answer

        monkeypatch.setattr(downloads.requests, "get", get)
    with pytest.raises(UserError, match="sends more than 100,000 bytes, which is another file; get .* by other means"):
        downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256, most=100000)
    assert names(tmp_path) == [] and len(server.requests) == 1
    downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256, most=len(CONTENT))


def test_a_server_that_sends_byte_after_byte_is_left(tmp_path, server, monkeypatch):
    """It is never silent for long, and would take days."""
    server.trickles = 0.02
    monkeypatch.setattr(downloads, "PATIENCE", 0.1)
    with pytest.raises(
        UserError, match="127.0.0.1:[0-9]* sends less than 16,384 bytes in 0.1 s; get .* by other means"
    ):
        downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
    assert len(server.requests) == downloads.TRIES and names(tmp_path) == [part_of(tmp_path / "file.bin").name]


def test_a_slow_server_is_waited_for(tmp_path, server, monkeypatch):
    """Whose pieces each come in time, though all of them together do not."""
    monkeypatch.setattr(downloads, "PATIENCE", 5)
    monkeypatch.setattr(downloads, "PIECE", 100)
    server.content, server.trickles = CONTENT[:300], 0.001
    downloads.download([server.url], tmp_path / "file.bin", "sha256", hashlib.sha256(CONTENT[:300]).hexdigest())


def test_a_server_that_stops_within_the_file_is_given_up(tmp_path, server, monkeypatch):
    server.stops_at = 100000
    monkeypatch.setattr(downloads, "TIMEOUTS", (1, 0.1))
    server.ranges = False
    with pytest.raises(UserError, match="127.0.0.1:[0-9]* stops sending within the file; get"):
        downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
    server.ranges, server.stops_at = True, None
    downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
    assert server.requests[-1] == f"bytes={100000 // downloads.PIECE * downloads.PIECE}-"


def test_a_circle_of_redirections_is_left(tmp_path, server):
    server.leads_to = server.url
    with pytest.raises(UserError, match="file.bin leads round in a circle; get .* by other means"):
        downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
    assert len(server.requests) <= 31 and names(tmp_path) == []
    server.leads_to = "file:///etc/passwd"
    with pytest.raises(UserError, match="cannot download file.bin"):
        downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)


@pytest.mark.parametrize("says", ["\u00b2", "-1", "1e3", "9" * 5000, "9" * 18, ""], ids=lambda says: says[:18])
def test_a_length_that_is_no_file_s(says, tmp_path, server):
    server.says = says
    if says == "9" * 18:
        with pytest.raises(UserError, match="sends more than"):
            downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
        return
    downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("says, text", [("100", "expected"), ("600000", "is cut again and again")])
def test_a_length_that_is_not_this_file_s(says, text, tmp_path, server):
    server.says = says
    with pytest.raises(UserError, match=text):
        downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)


def test_git_blob_digest_is_verified(tmp_path, server):
    server.content = b"hello\n"
    blob = "ce013625030ba8dba906f756967f9e9ca394464a"
    downloads.download([server.url], tmp_path / "a", "git-blob", blob)
    with pytest.raises(UserError, match="git-blob"):
        downloads.download([server.url], tmp_path / "b", "git-blob", blob[::-1])


def test_missing_file_is_asked_for_once_and_says_where_to_put_it(tmp_path, server):
    server.status = {"/file.bin": 404}
    target = tmp_path / "file.bin"
    with pytest.raises(UserError, match="answers 404 Not Found") as caught:
        downloads.download([server.url], target, "sha256", SHA256)
    assert f"get {server.url} by other means and put it at {target}" in str(caught.value)
    assert len(server.requests) == 1 and not target.exists()


def test_busy_server_is_asked_again(tmp_path, server):
    server.status = {"/file.bin": 503}
    with pytest.raises(UserError, match="answers 503"):
        downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
    assert len(server.requests) == downloads.TRIES


def test_mirror_takes_over(tmp_path, server):
    server.status = {"/file.bin": 404}
    mirror = server.url.replace("file.bin", "mirror.bin")
    downloads.download(["http://127.0.0.1:9/dead", server.url, mirror], tmp_path / "file.bin", "sha256", SHA256)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_no_network_is_one_clear_line(tmp_path, monkeypatch):
    def no_resolver(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_resolver)
    target = tmp_path / "file.bin"
    with pytest.raises(UserError) as caught:
        downloads.download(["https://www.example.org/file.bin"], target, "sha256", SHA256)
    assert str(caught.value) == (
        "cannot download file.bin: no connection to www.example.org; "
        f"get https://www.example.org/file.bin by other means and put it at {target}"
    )


def test_no_network_and_a_damaged_file_says_so(tmp_path):
    (tmp_path / "file.bin").write_bytes(b"damaged")
    with pytest.raises(UserError, match="is there, but damaged"):
        downloads.download(["http://127.0.0.1:9/file.bin"], tmp_path / "file.bin", "sha256", SHA256)
    assert (tmp_path / "file.bin").read_bytes() == b"damaged"


def test_silent_server_is_given_up(tmp_path, server, monkeypatch):
    server.gate = threading.Event()
    monkeypatch.setattr(downloads, "TIMEOUTS", (1, 0.05))
    monkeypatch.setattr(downloads, "TRIES", 2)
    with pytest.raises(UserError, match="does not answer"):
        downloads.download([server.url], tmp_path / "file.bin", "sha256", SHA256)
    server.gate.set()


def test_full_disk_during_download_is_a_user_error_and_keeps_the_part(tmp_path, server, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    target = tmp_path / "file.bin"
    with pytest.raises(UserError, match=f"cannot write {target}: No space left on device"):
        downloads.download([server.url], target, "sha256", SHA256)
    assert part_of(target).exists() and not target.exists()


def test_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        downloads.download(["http://127.0.0.1:9/x"], tmp_path / "file" / "x", "sha256", SHA256)


def test_of_several_processes_one_downloads(tmp_path, server):
    server.gate = threading.Event()
    fork = multiprocessing.get_context("fork")
    target = tmp_path / "file.bin"
    workers = [fork.Process(target=downloads.download, args=([server.url], target, "sha256", SHA256)) for _ in range(3)]
    for worker in workers:
        worker.start()
    # No other process may come through while the first one waits for the server.
    for worker in workers:
        worker.join(0.3)
    assert server.requests == [None]
    server.gate.set()
    for worker in workers:
        worker.join(10)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert server.requests == [None] and target.read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]


def test_a_lock_that_its_holder_deleted_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """Who waited for it would otherwise download beside the next one, into the same part."""
    lock, original = tmp_path / ".file.bin.lock", portalocker.lock

    def after_the_holder(file, flags):
        monkeypatch.setattr(portalocker, "lock", original)
        lock.unlink()
        original(file, flags)

    monkeypatch.setattr(portalocker, "lock", after_the_holder)
    with Lock(lock, temporary=True), open(lock, "a") as other, pytest.raises(portalocker.LockException):
        portalocker.lock(other, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    assert names(tmp_path) == []


def test_lock_of_a_killed_process_does_not_block(tmp_path, server):
    server.gate = threading.Event()
    target = tmp_path / "file.bin"
    worker = multiprocessing.get_context("fork").Process(
        target=downloads.download, args=([server.url], target, "sha256", SHA256)
    )
    worker.start()
    while not server.requests:
        worker.join(0.02)
    worker.kill()
    worker.join()
    server.gate.set()
    server.gate = None
    downloads.download([server.url], target, "sha256", SHA256)
    assert target.read_bytes() == CONTENT
