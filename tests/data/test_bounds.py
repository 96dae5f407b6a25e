"""What is made to grow: refused in one line, with little memory and at once, by every reader."""

import bz2
import gzip
import io
import os
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import cv2
import make_archives
import numpy as np
import pytest

from igc_gluon import files
from igc_gluon.data import DATASETS, bounds, idx, load, photos, recordio, repair
from igc_gluon.data.matfile import read_arrays
from igc_gluon.errors import UserError

MOST_MEMORY = 64 << 20
MOST_SECONDS = 10  # of the processor
CIFAR = "cifar-10-binary.tar.gz"


def refusal(action):
    """The message of the UserError that `action` raises in a process of its own, within the bounds of memory and
    time."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        code = 1
        try:
            Path("/proc/self/clear_refs").write_text("5")
            before, begin = _kilobytes("VmRSS"), time.process_time()
            try:
                action()
                message = "accepted"
            except UserError as error:
                message = str(error)
            except BaseException as error:
                message = f"{type(error).__name__}: {error}"
            grown = _kilobytes("VmHWM") - before
            os.write(write, f"{grown} {time.process_time() - begin} {message}".encode()[:4000])
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    kilobytes, seconds, message = said.split(" ", 2)
    assert int(kilobytes) << 10 < MOST_MEMORY, said
    assert float(seconds) < MOST_SECONDS, said
    assert "\n" not in message and message != "accepted" and "Error: " not in message, said
    return message


def _kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


# images


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height):
    """Gray, of zeros, which end early."""
    pixels = zlib.compress(bytes(1 << 20))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def claiming(ending, width, height):
    """A small image whose header claims another size."""
    if ending == ".pgm":
        return b"P5\n# a comment\n%d %d\n255\n" % (width, height) + bytes(100)
    data = bytearray(cv2.imencode(ending, np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    if ending == ".jpg":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif ending == ".bmp":
        data[18:26] = struct.pack("<ii", width, height)
    elif ending == ".tiff":
        (at,) = struct.unpack_from("<I", data, 4)
        for entry in range(struct.unpack_from("<H", data, at)[0]):
            tag, kind, _ = struct.unpack_from("<HHI", data, at + 2 + 12 * entry)
            if tag in (256, 257):
                struct.pack_into("<HHII", data, at + 2 + 12 * entry, tag, 4, 1, width if tag == 256 else height)
    return bytes(data)


@pytest.fixture(scope="module")
def bombs():
    return {
        "png": png(30000, 30000),
        "jpeg": claiming(".jpg", 30000, 30000),
        "bmp": claiming(".bmp", 30000, 30000),
        "negative bmp": claiming(".bmp", 30000, -30000),
        "pgm": claiming(".pgm", 30000, 30000),
        "tiff": claiming(".tiff", 30000, 30000),
    }


KINDS = ["png", "jpeg", "bmp", "negative bmp", "pgm", "tiff"]


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (37, 211, 3), (211, 37, 3)])
def test_sizes_are_those_of_opencv(ending, shape):
    image = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    data = cv2.imencode(ending, image)[1].tobytes()
    assert bounds.image_size(data) == (*shape[:2], shape[0] * shape[1])
    np.testing.assert_array_equal(bounds.decode(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm"])
def test_any_mutation_of_an_image_is_refused_or_of_the_size_it_claims(ending):
    rng = np.random.RandomState(0)
    whole = cv2.imencode(ending, rng.randint(0, 256, (20, 30, 3)).astype(np.uint8))[1].tobytes()
    for _ in range(300):
        data = bytearray(whole)
        for position in rng.randint(0, min(len(data), 400), rng.randint(1, 4)):
            data[position] = rng.randint(0, 256)
        try:
            image = bounds.decode(bytes(data), 4000, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except UserError:
            continue
        assert image.shape[:2] == bounds.image_size(bytes(data))[:2] and image.size <= 12000


@pytest.mark.parametrize("kind", KINDS)
def test_a_photograph(tmp_path, bombs, kind):
    path = tmp_path / "photo"
    path.write_bytes(bombs[kind])
    assert "claims 30,000x30,000 pixels; at most 134,217,728" in refusal(lambda: photos.read_photo(path))


@pytest.mark.parametrize("kind", KINDS)
def test_records(tmp_path, bombs, kind):
    path = tmp_path / "train.rec"
    whole = recordio.encode(1.0, 0, make_archives.jpeg(np.zeros((32, 32, 3), np.uint8)))
    path.write_bytes(recordio.frame(whole) + recordio.frame(recordio.encode(1.0, 1, bombs[kind])))

    def verify():
        report = repair.verify(path)
        raise UserError(f"{report.whole} whole, {report.broken}")

    assert refusal(verify).startswith("1 whole, [(1, ")
    (tmp_path / "test.rec").write_bytes(path.read_bytes())
    assert "record 1 holds" in refusal(lambda: load("cifar10", "train", tmp_path))


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("packed", [True, False])
def test_tiny_imagenet(tmp_path, bombs, kind, packed):
    members, _, _ = make_archives.tiny_imagenet_members()
    name = next(name for name in members if name.endswith(".JPEG") and "/val/" in name)
    members[name] = bombs[kind] + b"\xff\xd9"
    if packed:
        with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        for name, content in members.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    message = refusal(lambda: load("tiny-imagenet", "test", tmp_path))
    assert "30000x30000 pixels, not 64x64" in message or "claims" in message or "has more than" in message


def test_a_jpeg_of_endless_scans():
    """Each costs the time of the whole image."""
    image = cv2.imencode(".jpg", np.zeros((4000, 4000), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    at = image.rindex(b"\xff\xda")
    many = image[:at] + image[at:-2] * 5000 + b"\xff\xd9"
    assert "more than 100 scans" in refusal(lambda: bounds.decode(many))
    assert bounds.decode(image).shape == (4000, 4000, 3)


# archives


def write_gz(path, *parts):
    with gzip.open(path, "wb", 9) as file:
        for part in parts:
            file.write(part)


def header(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def test_an_archive_that_unpacks_to_a_multiple(tmp_path):
    size = 2000 * 3073
    for name, mode in ((CIFAR, gzip.open), ("as bzip2", bz2.open)):
        with mode(tmp_path / name, "wb") as file:
            for part in range(1, 6):
                file.write(header(f"data_batch_{part}.bin", size))
                for _ in range(size // (1 << 20) + 1):
                    file.write(b"\0" * (1 << 20))
        path = tmp_path / CIFAR
        os.replace(tmp_path / name, path)
        assert "unpacks to more than" in refusal(lambda: load("cifar10", "train", tmp_path))


def test_long_names_in_a_row(tmp_path):
    """Python's tarfile calls itself for each."""
    parts = header("././@LongLink", 5, tarfile.GNUTYPE_LONGNAME) + b"name\0" + bytes(507)
    write_gz(tmp_path / CIFAR, parts * 20000)
    assert "more than 10,000 files" in refusal(lambda: load("cifar10", "train", tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        b"1" * 900000,
        b"9" * 4000 + b" path=x\n",
        b"0 path=x\n" * 90000,
        b" " * 900000,
        b"11 path=\xff\n" * 80000,
        b"11 size=-5\n",
        b"11 size=1x\n",
        b"-3 path=x\n",
    ],
)
def test_headers_of_many_records(tmp_path, text):
    """CVE-2024-6232: the square of the header's length."""
    write_gz(
        tmp_path / CIFAR,
        header("x", len(text), tarfile.XHDTYPE),
        text,
        bytes(-len(text) % 512),
        header("data_batch_1.bin", 3073),
        bytes(3073 + 511),
        bytes(1024),
    )
    assert CIFAR in refusal(lambda: load("cifar10", "train", tmp_path))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members_are_those_of_tarfile(tmp_path, format):
    contents = {"a": b"1" * 5, "folder/b": b"", "long/" * 19 + "c" * 90: b"2" * 1024, "ünicode": b"3" * 513}
    if format == tarfile.USTAR_FORMAT:
        del contents["ünicode"]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    for pack in (bytes, gzip.compress, bz2.compress):
        stream = bounds.Unpacked(io.BytesIO(pack(file.getvalue())))
        members = {name: member.read(size) for name, size, member in bounds.tar_members(stream)}
        assert members == {name.rpartition("/")[2]: content for name, content in contents.items()}


def test_a_zip_of_endless_files_and_one_that_lies_about_sizes(tmp_path):
    path = tmp_path / "tiny-imagenet-200.zip"
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = 400000
    path.write_bytes(entry * count + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(entry) * count, 0, 0))
    assert "claims more than 125,000 files" in refusal(lambda: load("tiny-imagenet", "test", tmp_path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny-imagenet-200/wnids.txt", b"\0" * (100 << 20))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", 100 << 20), struct.pack("<L", 1000)))
    assert "wnids.txt" in refusal(lambda: load("tiny-imagenet", "test", tmp_path))


def test_a_mat_file_that_unpacks_to_a_multiple(tmp_path):
    size = 3072 * 30000
    body = (
        struct.pack("<IIIIII", 6, 8, 9, 0, 5, 16)
        + struct.pack("<4i", 32, 32, 3, 30000)
        + struct.pack("<HH4s", 1, 1, b"X")
        + struct.pack("<II", 2, size)
    )
    packer = zlib.compressobj(9)
    packed = packer.compress(struct.pack("<II", 14, len(body) + size) + body)
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    path = tmp_path / "x.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + struct.pack("<II", 15, len(packed)) + packed)
    assert f"X claims {size:,} bytes out of" in refusal(lambda: read_arrays(path, ("X",)))


def test_an_idx_file_that_unpacks_to_a_multiple(tmp_path):
    count = 100000
    path = tmp_path / "images.gz"
    write_gz(path, struct.pack(">4I", 0x803, count, 28, 28), bytes(count * 784))
    assert f"claims {count * 784:,} bytes out of" in refusal(lambda: idx.read(DATASETS["mnist"], "test", (path, path)))


# pipes in place of files


@pytest.mark.parametrize(
    "read",
    [
        photos.read_photo,
        lambda path: files.digest(path, "sha256"),
        lambda path: read_arrays(path, ("X",)),
        lambda path: __import__("igc_gluon.params_file").params_file.load(path),
    ],
)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((UserError, OSError), match="it is no (regular )?file"):
        read(tmp_path / "pipe")


def test_pipes_among_the_files_of_tiny_imagenet(tmp_path):
    members, _, _ = make_archives.tiny_imagenet_members()
    for name, content in members.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    victim = next(name for name in members if name.endswith(".JPEG") and "/val/" in name)
    (tmp_path / victim).unlink()
    os.mkfifo(tmp_path / victim)
    with pytest.raises(UserError, match="it is no (regular )?file"):
        load("tiny-imagenet", "test", tmp_path)


def test_the_official_sizes_are_within_the_bounds():
    """Of CIFAR-10: 6 x 10,000 records; of CIFAR-100 and SVHN: from the papers' counts of images."""
    assert 60000 * 3074 < bounds.ARCHIVE_BYTES and 6 * 3073 * 10000 < bounds.ARCHIVE_BYTES
    assert sys.maxsize > bounds.PHOTO_PIXELS > 9331 * 6530  # the largest image of ImageNet
