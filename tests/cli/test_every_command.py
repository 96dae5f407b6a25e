"""What holds of every command of `igc`, whatever it does: where its output goes, what its names hold."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon import cli, native
from igc_gluon.data import recordio
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.errors import UserError, printable

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "cifar_plain5_w4"
# A class, as a stranger may call it: it would clear the screen, change the title and add a line.
HOSTILE = "bee\x1b[2J\x1b]0;title\x07\n  99.99 %  \u202ewasp \u00e9"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, a photograph and a record file, under names that a shell and a terminal take badly."""
    root = tmp_path_factory.mktemp("x") / "it's a \u00fcber folder; $HOME"
    net = igc_gluon.get_model(MODEL, classes=3)
    mx.random.seed(1)
    net.initialize()
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    store = CheckpointStore(root / "run" / "checkpoints")
    for epoch in (1, 2):
        history = [{"epoch": e, "test_accuracy": 0.5, "seconds": 1.0} for e in range(epoch)]
        state = {"position": {"epoch": epoch, "batch": 0, "history": history}, "config": {"dataset": HOSTILE * epoch}}
        store.save(
            epoch,
            0,
            {"net.params": arrays, "training.params": {HOSTILE: np.full(3, epoch, "float32")}},
            state,
            best=True,
        )
    names = ["ant", HOSTILE, "cow"]
    (root / "run" / "config.json").write_text(
        json.dumps(
            {
                "model": MODEL,
                "dataset": "cifar10",
                "classes": 3,
                "class_names": names,
                "mean": [1, 2, 3],
                "std": [4, 5, 6],
                "image_shape": [3, 32, 32],
                "short_side": 32,
            }
        ),
        encoding="utf-8",
    )
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    framed = [
        recordio.frame(recordio.encode(n % 3, n, cv2.imencode(".png", image)[1].tobytes()))
        for n, image in enumerate(images)
    ]
    (root / "val.rec").write_bytes(b"".join(framed))
    starts = np.cumsum([0] + [len(record) for record in framed[:-1]])
    (root / "val.idx").write_text("".join(f"{n}\t{at}\n" for n, at in enumerate(starts)))
    (root / "photo \u2603.png").write_bytes(cv2.imencode(".png", images[0])[1].tobytes())
    return root


# Of each a call that prints something; {place} is the folder above.
COMMANDS = {
    "models": "models plain8_w16",
    "info": f"info {MODEL}",
    "widest": "widest --params 4672",
    "check": "check cifar_plain_igc5_l2m3 --no-picture",
    "tables": "tables --table 'IGCV1 1'",
    "reproduce": "reproduce --table 4 --data-dir '{place}'",
    "data verify": "data verify '{place}/val.rec'",
    "eval": "eval '{place}/run' --data '{place}/val.rec'",
    "predict": "predict '{place}/run' '{place}/photo \u2603.png'",
    "compile": "compile '{place}/run' '{place}/net.igc'",
    "export": "export '{place}/run' '{place}/exported-symbol.json'",
    "convert": "convert '{place}/run' '{place}/prefix'",
    "checkpoint ls": "checkpoint ls '{place}/run'",
    "checkpoint verify": "checkpoint verify '{place}/run'",
    "checkpoint diff": "checkpoint diff '{place}/run'",
    "train": f"train digits --network {MODEL} --benchmark 1",
    "launch": "launch -n 1 -s 0 -- printf 'one \u00e9\\ntwo\\n'",
    "help": "--help",
    "data help": "data imagenet --help",
}
CODES = {"checkpoint diff": 1}  # they differ


def words(name, place):
    quoted = str(place).replace("'", "'\\''")
    return shlex.split(COMMANDS[name].replace("{place}", quoted))


def igc(name, place, monkeypatch, stdout):
    """The exit code of the command with `stdout` for its standard output."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "stdout", stdout)
    return cli.main(words(name, place))


def errors(capfd):
    """Lines on stderr, but for progress bars."""
    return [
        line
        for line in capfd.readouterr().err.splitlines()
        if line.strip() and "images/s" not in line and not line.startswith("warning: class 1 is bee")
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_output_that_cannot_be_written_is_one_line(name, place, monkeypatch, capfd):
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert igc(name, place, monkeypatch, full) == CODES.get(name, 2)
    assert errors(capfd) == ["error: cannot write to standard output: No space left on device"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_that_has_seen_enough_is_no_error(name, place, monkeypatch, capfd):
    """And does not change the exit code: a checkpoint that is damaged is so for `| head -1` too."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8", buffering=1) as closed:  # every line at once
        assert igc(name, place, monkeypatch, closed) == CODES.get(name, 0)
    assert errors(capfd) == []


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("name", COMMANDS)
def test_output_in_an_encoding_that_cannot_hold_it(name, place, encoding, monkeypatch, capfd):
    data = io.BytesIO()
    assert igc(name, place, monkeypatch, io.TextIOWrapper(data, encoding=encoding)) == CODES.get(name, 0)
    text = data.getvalue().decode(encoding)
    assert text.count("\n") >= 1 and errors(capfd) == []
    assert all(c.isprintable() or c == "\n" for c in text), text
    assert "99.99" not in text or "\\n  99.99" in text


@pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))  # else a warning
def test_standard_files_that_are_closed(place):
    """Also for what MXNet prints itself, and for the first file that the command opens."""
    igc_command = [sys.executable, "-c", "import sys, igc_command; sys.exit(igc_command.main())"]
    command = shlex.join([*igc_command, "compile", str(place / "run"), str(place / "closed.igc")])
    for closed, code in (
        (">&-", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        (">/dev/full", 2),
        (">/dev/full 2>&1", 2),
        (">&- 2>/dev/full", 0),
        ("--no-such >&- 2>&-", 2),
    ):
        done = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == code, (closed, done)
        assert done.stderr in ("", "error: cannot write to standard output: No space left on device\n")
    from igc_gluon import deploy

    assert deploy.load(place / "closed.igc").name


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain \u00e9 \u96ea", "plain \u00e9 \u96ea"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x00\x7f\x85\u2028\u202e", "\\x00\\x7f\\x85\\u2028\\u202e"),
        ("\udcff", "\\udcff"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown == printable(shown)
    assert str(UserError(text)) == shown == f"{UserError(text)}"


def test_names_in_messages_are_one_line(tmp_path, capfd):
    name = f"x\x1b[2J\nerror: {'y'}"
    for arguments in (
        ["predict", name, name],
        ["info", name],
        [name],
        ["checkpoint", "ls", name],
        ["models", name],
        ["info", "cifar_plain5_w4", "--option", name],
        ["data", "verify", str(tmp_path / name)],
        ["launch", "-n", "1", "-H", name, "--", "true"],
        ["tables", "--table", name],
        ["compile", name, name],
        ["convert", name, "1", name],
        ["eval", name, "--data", name],
    ):
        assert cli.main(arguments) == 2
        out, err = capfd.readouterr()
        assert out == "" and len(err.splitlines()) == 1 and err.startswith("error: ") and "\x1b" not in err, err


def test_names_of_files_that_are_written_are_one_line(place, tmp_path, capsys):
    """And what such a file expects of images is found again."""
    prefix, params = (str(tmp_path / name) for name in ("x\x1b[2J\n  here", "y\n.params"))
    assert cli.main(["compile", str(place / "run"), prefix + ".igc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + native.available() and "\\x1b[2J\\n  here.igc, " in lines[1], lines
    assert cli.main(["convert", str(place / "run"), prefix]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert cli.main(["convert", prefix, "0", params, "--model", MODEL]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3 and "\x1b" not in shown and "--dataset" not in shown, shown
    assert cli.main(["predict", params, "--model", MODEL, str(place / "photo \u2603.png")]) == 0
    assert "ant" in capsys.readouterr().out


def test_paths_in_python_that_is_advised_are_whole(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.main(["convert", str(place / "run"), "~/prefix"]) == 0
    assert cli.main(["convert", "~/prefix", "0", "~/net.params", "--model", MODEL]) == 0
    for line in (line for line in capsys.readouterr().out.splitlines() if line.startswith("  in Python")):
        exec(line.partition("in Python")[2].strip(), {"igc_gluon": igc_gluon, "mx": mx})


NO_HOME = [
    ["eval", "resnet18_w64", "--data", "x.rec"],
    ["eval", "~/run", "--data", "x.rec"],
    ["predict", "~nobody-of-this-name/run", "x.png"],
    ["checkpoint", "ls", "~/run"],
    ["tables", "--table", "IGCV1 1", "--runs", "~/runs"],
    ["tables", "--table", "IGCV1 1", "--output", "~/x"],
    ["widest", "--params", "100", "--csv", "~/x.csv"],
    ["data", "imagenet", "--root", "~/x"],
    ["check", "cifar_plain_igc5_l2m3", "--picture", "~/x.png"],
    ["compile", "{place}/run", "~/net.igc"],
    ["convert", "{place}/run", "~/net"],
    pytest.param(
        ["compile", "{place}/run", "net.igc", "--int8", "--calibration", "cifar10"],
        marks=pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason())),
    ),
    ["reproduce", "--table", "4", "--dataset", "digits", "--num-epochs", "1", "--run", "--log-dir", "~/runs"],
]


@pytest.mark.parametrize("arguments", NO_HOME, ids=" ".join)
def test_without_a_home(arguments, place, monkeypatch, capsys, tmp_path):
    """A user of a container may have neither HOME nor a line in the password file."""
    import pwd

    def nobody(_):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "MXNET_HOME", "MXNET_GLUON_REPO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert cli.main([argument.replace("{place}", str(place)) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "HOME" in error
    assert not list(tmp_path.iterdir())


def test_ctrl_c_at_any_moment(place):
    """Python's start, the imports, the work, the end: no traceback, and 130 or, as the shell sees it, SIGINT."""
    # Python's own start-up, before it runs a line of ours, has a traceback of its own.
    code = (
        "import signal, sys; signal.signal(2, signal.SIG_DFL); sys.stderr.write('!'); "
        "import igc_command; sys.exit(igc_command.main())"
    )
    seconds, codes = 0.1, []
    while not codes or codes[-1]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words("predict", place)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stderr.read(1) == "!"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, 130, -signal.SIGINT) and err == "", (seconds, err)
        codes.append(process.returncode)
        seconds *= 1.6
    assert len(codes) > 3


def run_advice(message, **words):
    """Runs the command that a message advises, as a shell reads it, with `words` in place of its capital ones."""
    command = message[message.index("igc ") :]
    for name, value in words.items():
        command = command.replace(name, shlex.quote(str(value)))
    for end in (" writes ", " finds ", " drops ", "\n"):
        command = command.partition(end)[0]
    return cli.main(shlex.split(command)[1:])


def test_advice_works_when_obeyed(place, tmp_path, monkeypatch, capsys):
    """With paths that a shell would take apart."""
    folder = tmp_path / "it's; here $HOME"
    folder.mkdir()
    for name in ("val.rec", "val.idx"):
        (folder / name).write_bytes((place / name).read_bytes())
    file, index = folder / "val.rec", folder / "val.idx"
    good = index.read_bytes()
    for change in (index.unlink, lambda: index.write_bytes(b""), lambda: index.write_text("0 1")):
        change()
        assert cli.main(["data", "verify", str(file)]) == 2
        assert run_advice(capsys.readouterr().err) == 0 and index.read_bytes() == good
    data = bytearray(file.read_bytes())
    data[:4] = b"xxxx"
    file.write_bytes(data)
    capsys.readouterr()
    assert cli.main(["data", "verify", str(file), "--index"]) == 2
    assert run_advice(capsys.readouterr().err, **{"OUT.rec": folder / "out.rec"}) == 0
    assert cli.main(["data", "verify", str(folder / "out.rec")]) == 0
    good = (place / "val.rec").read_bytes()
    file.write_bytes(good[:60] + b"\0" * 20 + good[80:])
    index.write_bytes((place / "val.idx").read_bytes())
    assert cli.main(["eval", str(place / "run"), "--data", str(file)]) == 2
    assert run_advice(capsys.readouterr().err.replace("lists what", " finds what")) == 1
    only_val = folder / "val" / "ant"
    only_val.mkdir(parents=True)
    (only_val / "a.png").write_bytes((place / "photo \u2603.png").read_bytes())
    capsys.readouterr()
    assert cli.main(["data", "imagenet", "--root", str(folder)]) == 2
    root = shlex.split(capsys.readouterr().err.partition("or give ")[2])
    assert cli.main(["data", "imagenet", *root, "--short-side", "32", "--workers", "1"]) == 0


def test_advice_after_a_conversion_works(place, tmp_path, capsys):
    folder = tmp_path / "a b's"
    folder.mkdir()
    photo = str(place / "photo \u2603.png")
    assert cli.main(["convert", str(place / "run"), str(folder / "pre fix")]) == 0
    assert cli.main(["convert", str(folder / "pre fix"), "0", str(folder / "n e t.params"), "--model", MODEL]) == 0
    out = capsys.readouterr().out
    assert run_advice(out[out.index("  here") :], **{"photo.jpg": photo, "DATASET": "cifar10"}) == 0
    for line in (line for line in out.splitlines() if line.startswith("  in Python")):
        exec(line.partition("in Python")[2].strip(), {"igc_gluon": igc_gluon, "mx": mx})


def test_advice_to_launch_is_the_command_again(monkeypatch):
    from igc_gluon.engine import workers

    monkeypatch.setattr(sys, "argv", ["my scripts/train.py", "--exp-name", "it's; $HOME", "--kv-store", "dist_sync"])
    for name in workers.variables.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as error:
        workers.connect("dist_sync")
    assert shlex.split(str(error.value).partition("-- python ")[2]) == sys.argv
