"""`.igc` files: whole ones give the same results everywhere, all others are refused."""

import base64
import ctypes
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from deploy_networks import images, small

from igc_gluon import deploy, native
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.deploy import file
from igc_gluon.errors import UserError
from igc_gluon.native import library
from igc_gluon.native.library import CONV, MAX_POOL, MEAN_POOL, PERMUTE, Op

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SHAPE = (3, 8, 8)


def python(*arguments, environment=()):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=str(ROOT),
        capture_output=True,
        text=True,
        timeout=600,
        env=dict(os.environ, PYTHONPATH=str(ROOT), **dict(environment)),
    )


@pytest.fixture(scope="module", params=library.PRECISIONS)
def compiled(request):
    calibration = images(SHAPE, 16, 7) if request.param == "int8" else None
    return deploy.compile(
        small("cifar_plain_igc5_l2m3", 8),
        SHAPE,
        calibration=calibration,
        precision=request.param,
        mean=(120, 121, 122.5),
        std=(60, 61, 62),
        class_names=[f"Klasse \N{LATIN SMALL LETTER A WITH DIAERESIS}{i}" for i in range(9)] + [""],
    )


@pytest.fixture(scope="module")
def saved(compiled, tmp_path_factory):
    path = tmp_path_factory.mktemp("igc") / "net.igc"
    compiled.save(path)
    return path


def test_what_is_loaded_is_what_was_saved(compiled, saved, tmp_path):
    loaded = deploy.load(saved, threads=1)
    x = images(SHAPE, 3)
    np.testing.assert_array_equal(loaded(x), compiled(x))
    for attribute in ("name", "input_shape", "output_shape", "preprocessing", "multiply_adds", "precision", "layers"):
        assert getattr(loaded, attribute) == getattr(compiled, attribute)
    names = loaded.preprocessing.class_names
    assert names[2] == "Klasse \u00e42" and names[9] == "" and loaded.preprocessing.mean == (120, 121, 122.5)
    loaded.save(tmp_path / "again.igc")
    assert (tmp_path / "again.igc").read_bytes() == saved.read_bytes()


def test_loading_needs_no_mxnet(compiled, saved):
    program = (
        "import sys, numpy as np; from igc_gluon import deploy\n"
        f"y = deploy.load({str(saved)!r})(np.ones((1, 3, 8, 8), np.float32))\n"
        "assert not any(name.split('.')[0] in ('mxnet', 'gluoncv') for name in sys.modules)\n"
        "print(y.tobytes().hex())"
    )
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == compiled(np.ones((1, *SHAPE), np.float32)).tobytes().hex()


# Written by release 0.1: a convolution by the weights -2 to 3, the mean; the second with ranges.
VERSION_1 = (
    "iAhI84GJ0x0RR918z=;c7y$qP000000{{R31ONa41ONa40RR910ssI22mk;81^@s6000000ssI200000004kL0000$002Nh004kM005vs006*1"
    "0RR9100000|NsC00ssI20RR910RR910RR910RR91000000000000000000000000000000|NsC0|NsC0|NsC0|NsC0|NsC0|NsC01poj50RR91"
    "|NsC0000000RR910RR910RR910RR9100000000000000000000|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0Z){`$VE|$P0002M004l$"
    "00000004kL0000$002Nh"
)
VERSION_2 = (
    "iAhI84GJ0x0ssI2?~8lQFaZDn000000{{R31ONa41ONa40RR910ssI22mk;81^@s6000000ssI21^@s6004kL0000$002Nh004kM005vs006*1"
    "0RR9100000|NsC00ssI20RR910RR910RR910RR91000000000000000000000000000000|NsC0|NsC0|NsC0|NsC0|NsC0|NsC01poj50RR91"
    "|NsC0000000RR910RR910RR910RR9100000000000000000000|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0Z){`$VE|$P0002M004l$"
    "00000004kL0000$002Nh^=xs#@;O96S28KV)Y98PY}~KESM``b"
)


VERSION_3 = (
    "iAhI84GJ0x0{{R3_h-9$C;<Qf000000{{R31ONa41ONa40RR910ssI22mk;81^@s6000000ssI2000002LJ#70RR910RR910RR91004kL0000$"
    "002Nh004kM005vs006*10RR9100000|NsC00ssI20RR910RR910RR910RR91000000000000000000000000000000|NsC0|NsC0|NsC0|NsC0"
    "|NsC0|NsC01poj50RR91|NsC0000000RR910RR910RR910RR9100000000000000000000|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0"
    "Z){`$VE|$P0002M004l$00000004kL0000$002Nh"
)
VERSION_4 = (
    "iAhI84GJ0x1ONa4DrqD2FaZDn000000{{R31ONa41ONa40RR910ssI22mk;81^@s6000000ssI2000002LJ#70RR910RR910RR910RR912><{9"
    "004kL0000$002Nh004kM005vs006*10RR9100000|NsC00ssI20RR910RR910RR910RR91000000000000000000000000000000|NsC0|NsC0"
    "|NsC0|NsC0|NsC0|NsC01poj50RR91|NsC0000000RR910RR910RR910RR9100000000000000000000|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0"
    "|NsC0|NsC0Z){`$VE|$P0002M004l$00000004kL0000$002Nh"
)
USUAL = Preprocessing((4, 4), 4, (1, 2, 3), (4, 5, 6), class_names=("a", "b"))


@pytest.mark.parametrize(
    "old, expected",
    [
        (VERSION_1, USUAL),
        (VERSION_2, USUAL),
        (VERSION_3, replace(USUAL, short_side=7, interpolation="bilinear", color_order="BGR")),
        (VERSION_4, replace(USUAL, short_side=7, interpolation="bilinear", color_order="BGR", border=1, fill=9)),
    ],
    ids="1234",
)
def test_files_of_older_releases(old, expected):
    """What they do not say, up to 2 the short side, up to 3 the border, up to 4 the precision, is as usual."""
    compiled = deploy.Compiled(base64.b85decode(old))
    assert compiled.name == "old" and compiled.input_shape == (3, 4, 4)
    assert compiled.preprocessing == expected
    assert compiled.precision == ("int8" if old is VERSION_2 else "float32")
    x = images((3, 4, 4), 2)
    expected = x.mean(axis=(2, 3)) @ (np.arange(6).reshape(2, 3) - 2).T
    np.testing.assert_allclose(compiled(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "expected",
    [
        Preprocessing((8, 6), 11, (1, 2, 3), (4, 5, 6), "bilinear", "BGR", ("a", "b")),
        Preprocessing((8, 6), 9, (1, 2, 3), (4, 5, 6), border=2, fill=255),
        Preprocessing((8, 6), border=1),
        Preprocessing((8, 6), interpolation="nearest"),
        Preprocessing((8, 6), 9, (1, 2, 3), (1, 1, 1), "bicubic"),
    ],
)
def test_all_that_a_network_expects_is_in_its_file(expected):
    ops = [Op(CONV, 0, 2, weight=np.ones((2, 3, 1, 1), np.float32)), Op(MEAN_POOL, 1)]
    assert deploy.Compiled(file.dumps(ops, (3, 8, 6), True, "net", expected)).preprocessing == expected
    with pytest.raises(UserError, match="takes images of"):
        file.dumps(ops, (3, 6, 8), True, "net", expected)


def test_home_and_what_is_no_file(compiled, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    compiled.save("~/net.igc")
    assert (tmp_path / "net.igc").is_file() and deploy.load("~/net.igc").preprocessing == compiled.preprocessing
    os.mkfifo(tmp_path / "pipe.igc")
    with pytest.raises(UserError, match="no regular file"):
        deploy.load(tmp_path / "pipe.igc")


def test_maps_as_results(tmp_path):
    weight = np.arange(24, dtype=np.float32).reshape(8, 3, 1, 1)
    data = file.dumps([Op(CONV, 0, 8, weight=weight)], SHAPE, False)
    x = images(SHAPE, 2)
    scores = deploy.Compiled(data)(x)
    np.testing.assert_allclose(scores, np.einsum("nihw,oi->nohw", x, weight[:, :, 0, 0]), rtol=1e-5, atol=1e-5)


def test_missing_and_unwritable(compiled, tmp_path):
    for path in (tmp_path / "none.igc", tmp_path):
        with pytest.raises(UserError, match="cannot read"):
            deploy.load(path)
    with pytest.raises(UserError, match="cannot write"):
        compiled.save(tmp_path / "no folder" / "net.igc")


def test_every_cut_and_every_flipped_byte_is_refused(saved):
    data = saved.read_bytes()
    for size in [*range(0, 200), *range(200, len(data), 97), len(data) - 1]:
        with pytest.raises(UserError):
            deploy.Compiled(data[:size])
    for at in [*range(0, 120), *range(120, len(data), 53)]:
        with pytest.raises(UserError):
            deploy.Compiled(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    with pytest.raises(UserError, match="follows its end"):
        deploy.Compiled(data + b"x")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89IGC",
        b"PK\x03\x04" + bytes(100),
        bytes(64),
        b"\x12\x01" + bytes(200),
        file.MAGIC + bytes(100),
        file.MAGIC.replace(b"\r\n", b"\n") + bytes(100),
    ],
)
def test_foreign_files_are_refused_with_one_line(content, tmp_path):
    path = tmp_path / "net.igc"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a whole .igc file") as refused:
        deploy.load(path)
    assert str(refused.value).startswith(str(path)) and "\n" not in str(refused.value)


def changed(data, at, form, value):
    data = bytearray(data)
    struct.pack_into("<" + form, data, at, value)
    data[12:16] = struct.pack("<I", zlib.crc32(data[16:]))
    return bytes(data)


OPS = 96 + 8 * 3


@pytest.mark.parametrize(
    "at,form,value,message",
    [
        (8, "I", 6, "another version"),
        (8, "I", 0, "another version"),
        (16, "Q", 1 << 60, "cut off"),
        (24, "i", 0, "channels"),
        (24, "i", 5000, "channels"),
        (28, "i", -1, "rows"),
        (28, "i", 1 << 30, "rows"),
        (36, "i", 2, "header"),
        (40, "I", 1 << 31, "ops"),
        (44, "I", 7, "texts"),
        (48, "Q", 1 << 62, "weights"),
        (56, "I", 9, "names"),
        (60, "I", 1, "header|add up"),
        (64, "i", 7, "prepared"),
        (64, "i", -1, "prepared"),
        (64, "i", 1 << 21, "prepared"),
        (68, "i", 4, "prepared"),
        (68, "i", -1, "prepared"),
        (72, "i", 2, "prepared"),
        (76, "i", 2, "prepared"),
        (80, "i", -1, "prepared"),
        (80, "i", 4, "prepared"),
        (80, "i", 1 << 30, "prepared"),
        (84, "i", -1, "prepared"),
        (84, "i", 256, "prepared"),
        (88, "i", 3, "precision"),
        (88, "i", -1, "precision"),
        (92, "i", 1, "precision"),
        (96, "f", float("nan"), "finite"),
        (108, "f", 0.0, "deviations"),
        (108, "f", -1.0, "deviations"),
        (OPS, "i", 9, "unknown kind"),
        (OPS + 4, "i", 1, "input"),
        (OPS + 8, "i", 1, "residual"),
        (OPS + 12, "i", 1 << 30, "channels"),
        (OPS + 16, "i", 0, "groups"),
        (OPS + 20, "i", 0, "kernel"),
        (OPS + 28, "i", 0, "stride"),
        (OPS + 32, "i", -1, "pad"),
        (OPS + 40, "i", 7, "activation"),
        (OPS + 48, "q", -2, "weight"),
        (OPS + 48, "q", 1 << 62, "weight"),
        (OPS + 80 + 48, "q", 0, "overlap"),
    ],
)
def test_numbers_out_of_range_are_named(saved, at, form, value, message):
    with pytest.raises(UserError, match=message):
        deploy.Compiled(changed(saved.read_bytes(), at, form, value))


@pytest.mark.parametrize(
    "ops,shape,message",
    [
        ([Op(PERMUTE, 0)] * 5000, SHAPE, "too many ops"),
        ([Op(MAX_POOL, i, kernel=(1, 1)) for i in range(4000)], (4096, 1, 1), "too many channels"),
        ([Op(CONV, 0, 1 << 17, weight=np.zeros(1 << 17, np.float32))], (1, 1, 1), "too many channels"),
        ([Op(CONV, 0, 1 << 12, weight=np.zeros(1 << 12, np.float32)), Op(MEAN_POOL, 1)], (1, 512, 512), "too large"),
        ([Op(MAX_POOL, 0, kernel=(1, 1))], (1, 32768, 32768), "too large"),
        ([], SHAPE, "1 to 65536 ops"),
    ],
)
def test_networks_beyond_reason(ops, shape, message):
    with pytest.raises(UserError, match=message):
        deploy.Compiled(file.dumps(ops, shape, False))


def test_memory_of_one_image_is_bounded():
    widen, mix = np.ones(64, np.float32), np.ones((64, 64), np.float32)
    # Three maps of 1 GB in use together: the sum still needs the first one.
    ops = [Op(CONV, 0, 64, weight=widen), Op(CONV, 1, 64, weight=mix), Op(CONV, 2, 64, weight=mix, residual=1)]
    with pytest.raises(UserError, match="more than 2 GB"):
        deploy.Compiled(file.dumps(ops, (1, 2000, 2000), False))


def fuzz(saved, tmp_path, seed, count, **environment):
    other = tmp_path / "other.igc"
    deploy.compile(small("cifar_igcv2_8_c6", 8), SHAPE).save(other)
    done = python(HERE / "fuzz_files.py", seed, count, saved, other, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    refused, accepted = map(int, done.stdout.split())
    assert refused + accepted == count and accepted > count // 100


def test_damaged_files_never_crash(saved, tmp_path):
    fuzz(saved, tmp_path, 0, 4000)


@pytest.mark.long
def test_sanitizers_find_nothing_in_damaged_files(saved, tmp_path, sanitized):
    """With address and undefined-behavior sanitizers: about three minutes."""
    fuzz(saved, tmp_path, 1, 20000, **sanitized)


@pytest.fixture(scope="module")
def classify(tmp_path_factory):
    """Runs examples/classify.c."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    folder = library.path().parent
    program = tmp_path_factory.mktemp("program") / "classify"
    subprocess.run(
        [
            *"cc -std=c99 -Wall -Werror".split(),
            "-O1",
            ROOT / "examples" / "classify.c",
            f"-I{ROOT / 'igc_gluon' / 'native' / 'include'}",
            f"-L{folder}",
            f"-l:{library.path().name}",
            f"-Wl,-rpath,{folder}",
            "-lm",
            "-o",
            program,
        ],
        check=True,
    )
    return lambda *arguments: subprocess.run([program, *arguments], capture_output=True, text=True)


class Photograph:
    """A network in a file through the C interface."""

    def __init__(self, path):
        self._library, self._model = library.load(), ctypes.c_void_p()
        library.check(self._library.igc_load(str(path).encode(), ctypes.byref(self._model)))

    def __call__(self, function, image, size):
        out = np.zeros(size, np.float32)
        library.check(
            getattr(self._library, function)(
                self._model,
                image.ctypes.data_as(ctypes.c_void_p),
                *image.shape[:2],
                out.ctypes.data_as(ctypes.c_void_p),
            )
        )
        return out

    def __del__(self):
        self._library.igc_free.argtypes = [ctypes.c_void_p]
        self._library.igc_free(self._model)


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(
    "size, border, short_side", [((8, 8), 0, 8), ((6, 10), 0, 13), ((8, 8), 2, 8), ((33, 32), 1, 40)]
)
def test_c_prepares_a_photograph_as_python_does(tmp_path, interpolation, size, border, short_side):
    """Larger and smaller ones, whole multiples and others, on edge and flat, blurred and noisy, with the border and
    without."""
    rng, off = np.random.default_rng(0), 0
    expected = Preprocessing(size, short_side, (10, 20, 30), (2, 3, 4), interpolation, "BGR", border=border, fill=9)
    network = file.dumps([Op(MEAN_POOL, 0)], (3, *size), True, "net", expected)
    (tmp_path / "net.igc").write_bytes(network)
    net = Photograph(tmp_path / "net.igc")
    inner = short_side - 2 * border
    for height, width in (
        size,
        (inner, inner),
        (3, 5),
        (7, 61),
        (90, 4),
        (2 * inner, 2 * inner),
        (3 * inner, 4 * inner),
        (101, 67),
    ):
        for blurred in (False, True):
            image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
            image = cv2.GaussianBlur(image, (5, 5), 2) if blurred else image
            pixels = (
                net("igc_prepare", image, (3, *size)) * np.array(expected.std)[:, None, None]
                + np.array(expected.mean)[:, None, None]
            )
            wanted = expected.pixels(image).transpose(2, 0, 1)
            difference = np.abs(pixels - wanted)
            assert difference.max() < 1.01  # cubic sums: OpenCV has them rounded in several ways
            off += (difference > 0.01).mean()
    assert off / 16 < (0.01 if interpolation in ("area", "bicubic") else 1e-9)
    bordered = expected.bordered(rng.integers(0, 256, (*expected.window, 3)).astype(np.uint8))
    np.testing.assert_allclose(
        net("igc_prepare", bordered, (3, *size)), expected.prepare(bordered)[0], rtol=1e-5, atol=1e-5
    )


def test_from_a_photograph_to_its_class(classify, compiled, saved, tmp_path):
    """One call of Python, one of C, and the program in examples print the same."""
    names = compiled.preprocessing.class_names
    for seed, shape in enumerate(((8, 8), (30, 40), (5, 7))):
        image = np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)
        picture = tmp_path / "image.ppm"
        picture.write_bytes(b"P6\n%d %d\n255\n" % shape[::-1] + image.tobytes())
        scores = compiled(compiled.preprocessing.prepare(image))[0].astype(np.float64)
        probabilities = np.exp(scores) / np.exp(scores).sum()
        likeliest = compiled.classify(image, top=3)
        assert [name for name, _ in likeliest] == [names[i] for i in np.argsort(-probabilities)[:3]]
        np.testing.assert_allclose([p for _, p in likeliest], np.sort(probabilities)[::-1][:3], rtol=1e-6)
        assert compiled.classify(str(picture)) == compiled.classify(image)
        np.testing.assert_allclose(Photograph(saved)("igc_classify", image, len(names)), probabilities, atol=0.01)
        done = classify(saved, picture)
        assert done.returncode == 0, done.stderr
        rows = [re.fullmatch(r" +([\d.]+) %  (.+)", line).groups() for line in done.stdout.splitlines()]
        assert [name for _, name in rows] == [name for name, _ in compiled.classify(image)]
        np.testing.assert_allclose(
            [float(p) for p, _ in rows], [100 * p for _, p in compiled.classify(image)], atol=0.5
        )


def test_a_c_program_reads_png(classify, compiled, saved, tmp_path):
    if not Path("/usr/include/stb/stb_image.h").exists():
        pytest.skip("needs libstb-dev")
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
    done = classify(saved, tmp_path / "image.png")
    assert done.stdout.splitlines()[0].endswith(f"%  {compiled.classify(image)[0][0]}"), done.stderr


def test_mistakes_of_a_c_program(classify, saved, tmp_path):
    picture = tmp_path / "image.ppm"
    picture.write_bytes(b"P6\n8 8\n255\n" + bytes(192))
    damaged = tmp_path / "damaged.igc"
    damaged.write_bytes(saved.read_bytes()[:-3])
    no_scores, gray, unknown = (tmp_path / f"{name}.igc" for name in ("maps", "gray", "unknown"))
    no_scores.write_bytes(file.dumps([Op(MEAN_POOL, 0)], SHAPE, False))
    gray.write_bytes(file.dumps([Op(MEAN_POOL, 0)], (1, 8, 8), True, "net", Preprocessing((8, 8), mean=(0,), std=(1,))))
    unknown.write_bytes(file.dumps([Op(MEAN_POOL, 0)], (3, 8, 8), True))
    long = tmp_path / "long.ppm"
    long.write_bytes(b"P6\n30000 1\n255\n" + bytes(50000))  # cut off
    for arguments, message in (
        ((damaged, picture), "cut off"),
        ((tmp_path / "none.igc", picture), "cannot be opened"),
        ((tmp_path, picture), "cannot be read"),
        ((no_scores, picture), "gives no scores"),
        ((gray, picture), "no images in color"),
        ((unknown, picture), "without the mean"),
        ((saved, tmp_path / "none.ppm"), "no such image"),
        ((saved, saved), "no such image"),
        ((saved,), "give a network and an image"),
        (("/dev/zero", picture), "does not begin"),
    ):
        done = classify(*arguments)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_small_file_makes_no_large_plan(tmp_path):
    """Ops without weights cost 80 bytes each, and as much memory as their channels: 200 kB claimed 718 MB."""
    script = """
import struct
from dataclasses import replace
from pathlib import Path
from igc_gluon.deploy import file
from igc_gluon.errors import UserError
from igc_gluon.native.library import PERMUTE, Op
import sys
def kilobytes(name):
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(name)).split()[1])
data = file.dumps([Op(PERMUTE, i, groups=2) for i in range(2000)], (4096, 1, 1), False)
path = Path(sys.argv[1]) / "a.igc"
path.write_bytes(data)
from igc_gluon import deploy
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS")
try:
    deploy.load(path)
    print("accepted")
except UserError as error:
    print(error)
print((kilobytes("VmHWM") - before) // 1024)
"""
    done = python("-c", script, tmp_path)
    message, megabytes = done.stdout.splitlines()
    assert "it has too many channels" in message and int(megabytes) < 64, done.stdout + done.stderr
