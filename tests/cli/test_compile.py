"""`igc compile` and what it compiles: runs, checkpoints, `.params` files under every kind of names."""

import json
import os

import numpy as np
import pytest

import igc_gluon
from igc_gluon import deploy, native, params_file
from igc_gluon.cli import main
from igc_gluon.data import DATASETS, load
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.engine.experiment import Experiment, _module_checkpoints
from igc_gluon.engine.schedule import Schedule
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import find_model

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))

MODEL = "cifar_plain_igc5_l2m3"
X = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)


def network(**options):
    net = igc_gluon.get_model(MODEL, **options)
    net.initialize()
    return net


def scores(net):
    return deploy.compile(net)(X)


@pytest.fixture
def run_folder(tmp_path):
    """A run with two checkpoints, the first of which is the best, and their networks."""
    folder, nets = tmp_path / "runs" / "seed0", []
    store = CheckpointStore(folder / "checkpoints")
    for epoch in (1, 2):
        nets.append(network(spatial="secondary"))
        arrays = {name: p.data().asnumpy() for name, p in nets[-1].collect_params().items()}
        store.save(epoch, 0, {"net.params": arrays, "training.params": {}}, {}, best=epoch == 1)
    experiment = Experiment(
        find_model(MODEL), "digits", Schedule(0.1, 2, 0.1, (1,)), model_options={"spatial": "secondary"}
    )
    (folder / "config.json").write_text(json.dumps({**experiment.as_config(), "seed": 0}))
    return folder, nets


def test_a_run_and_its_checkpoints(run_folder, tmp_path, capsys):
    folder, (best, last) = run_folder
    out, names = tmp_path / "net.igc", tmp_path / "names.txt"
    names.write_text("".join(f"digit {i}\n" for i in range(10)))
    assert main(["compile", str(folder), str(out), "--class-names", str(names)]) == 0
    shown = capsys.readouterr().out
    assert MODEL in shown and "3x32x32 -> 10" in shown and "mean 77.866, 77.866, 77.866" in shown
    loaded = deploy.load(out)
    np.testing.assert_array_equal(loaded(X), scores(best))
    assert loaded.name == MODEL and loaded.preprocessing.class_names[7] == "digit 7"
    np.testing.assert_allclose(loaded.preprocessing.std, DATASETS["digits"].std, rtol=1e-6)
    checkpoints = folder / "checkpoints"
    np.testing.assert_array_equal(deploy.compile(checkpoints)(X), scores(best))
    np.testing.assert_array_equal(deploy.compile(checkpoints / "epoch-0002-batch-000000")(X), scores(last))
    config = json.loads((folder / "config.json").read_text())
    assert deploy.compile(folder).input_shape == (3, 32, 32)
    (folder / "config.json").write_text(json.dumps({**config, "dataset": "unknown"}))
    assert deploy.compile(folder).preprocessing.mean is None
    assert deploy.compile(folder, input_shape=(3, 16, 16)).input_shape == (3, 16, 16)


def test_a_damaged_run_is_named(run_folder, tmp_path, capsys):
    folder, _ = run_folder
    with open(folder / "checkpoints" / "epoch-0001-batch-000000" / "net.params", "r+b") as file:
        file.seek(300)
        file.write(b"\xff\xff")
    with pytest.raises(UserError, match="net.params: it is not what was written"):
        deploy.compile(folder)
    with pytest.raises(UserError, match="knows its model"):
        deploy.compile(folder, model=MODEL)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json is damaged"):
        deploy.compile(folder)
    (folder / "checkpoints" / "best").unlink()
    (folder / "checkpoints" / "last").unlink()
    with pytest.raises(UserError, match="no checkpoint yet"):
        deploy.compile(folder)
    assert main(["compile", str(tmp_path), str(tmp_path / "net.igc")]) == 2
    assert "is no run" in capsys.readouterr().err and not (tmp_path / "net.igc").exists()


def test_params_files_of_all_kinds(tmp_path):
    net = network(classes=7)
    by_name = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    (tmp_path / "own.params").write_bytes(params_file.dumps(by_name))
    net.save_parameters(str(tmp_path / "gluon.params"))
    _module_checkpoints(net, str(tmp_path / "module"))(3)
    for file in ("own.params", "gluon.params", "module-0003.params"):
        compiled = deploy.compile(tmp_path / file, model=MODEL, classes=7)
        np.testing.assert_array_equal(compiled(X), scores(net))
    out = tmp_path / "net.igc"
    assert (
        main(
            [
                "compile",
                str(tmp_path / "gluon.params"),
                str(out),
                "--model",
                MODEL.upper(),
                *"--classes 7 --size 16 --mean 1,2,3 --std 4,5,6".split(),
            ]
        )
        == 0
    )
    loaded = deploy.load(out)
    assert (loaded.input_shape, loaded.output_shape) == ((3, 16, 16), (7,))
    assert loaded.preprocessing == Preprocessing((16, 16), 16, (1, 2, 3), (4, 5, 6))


SEVEN = ["--model", MODEL, "--classes", "7", "--mean", "1,2,3", "--std", "4,5,6"]


@pytest.mark.parametrize(
    "flags,message",
    [
        (["--model", MODEL], "fc_score_weight"),  # 10 classes, not 7
        ([], "give model"),
        (["--model", "nothing"], "unknown model"),
        (["--model", MODEL, "--size", "0"], "--size"),
        (["--model", MODEL, "--classes", "7"], "give --dataset or --mean and --std"),
        ([*SEVEN[:-1], "1,2"], "three numbers each"),
        ([*SEVEN, "--class-names", "none.txt"], "cannot read none.txt"),
        ([*SEVEN, "--class-names", os.devnull], "no regular file"),
        ([*SEVEN, "--class-names", __file__], "is blank"),
        (SEVEN, None),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, flags, message):
    network(classes=7).save_parameters(str(tmp_path / "net.params"))
    code = main(["compile", str(tmp_path / "net.params"), str(tmp_path / "net.igc"), *flags])
    error = capsys.readouterr().err
    assert code == (2 if message else 0) and (message or "") in error and error.count("\n") == (1 if message else 0), (
        error
    )


def test_a_compiled_file_is_no_source(tmp_path, capsys):
    """No message may advise --model, with which it would be read as a .params file."""
    path = tmp_path / "net.igc"
    deploy.compile(network(), mean=0, std=1).save(path)
    for arguments in (
        ["eval", str(path), "--data", "digits"],
        ["convert", str(path), str(tmp_path / "prefix")],
        ["compile", str(path), str(tmp_path / "again.igc")],
        ["compile", str(path), str(tmp_path / "again.igc"), "--model", MODEL, "--dataset", "digits"],
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert f"{path} is compiled" in error and "give the run" in error and error.count("\n") == 1, error


def test_names_that_are_nothing(tmp_path, capsys):
    out = str(tmp_path / "net.igc")
    for source, message in (
        ("cifar_plain_igc20_l24m2", "no published weights"),
        ("cifar_plain_igc", "did you mean"),
        ("runs/none", "no file or folder"),
        (str(tmp_path / "none.params"), "no file or folder"),
    ):
        assert main(["compile", source, out]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "torn.params").write_bytes(b"\x12\x01")
    assert main(["compile", str(tmp_path / "torn.params"), out, "--model", MODEL]) == 2
    assert "not a whole .params file" in capsys.readouterr().err
    network().save_parameters(str(tmp_path / "net.params"))
    assert (
        main(
            [
                "compile",
                str(tmp_path / "net.params"),
                str(tmp_path / "none" / "net.igc"),
                "--model",
                MODEL,
                "--dataset",
                "cifar10",
            ]
        )
        == 2
    )
    assert "cannot write" in capsys.readouterr().err


def test_int8(run_folder, tmp_path, capsys):
    folder, (best, _) = run_folder
    out = tmp_path / "net.igc"
    assert main(["compile", str(folder), str(out), "--int8"]) == 0
    assert "layers in int8" in capsys.readouterr().out
    loaded = deploy.load(out)
    x = loaded.normalize(load("digits", "test").images[:8])
    expected = deploy.compile(best)(x)
    np.testing.assert_allclose(loaded(x), expected, atol=0.1 * np.abs(expected).max())
    np.save(tmp_path / "pixels.npy", np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8))
    assert main(["compile", str(folder), str(out), "--int8", "--calibration", str(tmp_path / "pixels.npy")]) == 0
    capsys.readouterr()
    for flags, message in (
        (["--calibration", "digits"], "goes with --int8"),
        (["--precision", "half", "--calibration", "digits"], "goes with --int8"),
        (["--precision", "half", "--int8"], "exclude each other"),
        (["--int8", "--calibration", "none.npy"], "cannot read images"),
        (["--int8", "--calibration", "digits", "--size", "16"], "pixels for calibration"),
    ):
        assert main(["compile", str(folder), str(out), *flags]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error


def test_half(run_folder, tmp_path, capsys, monkeypatch):
    """One file, which runs in half precision or in float32; igc info says what runs, layer by layer."""
    monkeypatch.setenv("IGC_NATIVE_HALF", "emulate")
    monkeypatch.setenv("IGC_NATIVE_AMX", "off")
    folder, (best, _) = run_folder
    out = tmp_path / "net.igc"
    assert main(["compile", str(folder), str(out), "--precision", "half"]) == 0
    assert "layers in half" in capsys.readouterr().out
    x = deploy.load(out).normalize(load("digits", "test").images[:4])
    expected = deploy.compile(best)(x)
    np.testing.assert_allclose(deploy.load(out)(x), expected, atol=0.03 * np.abs(expected).max())
    assert main(["info", str(out)]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if " convolution " in line or " IGC block " in line]
    in_half = [line.split()[0] for line in rows if line.endswith(" half")]
    assert 0 < len(in_half) < len(rows)
    assert sum(line.endswith(" float32") for line in rows) == len(rows) - len(in_half)
    # The column of units is too wide to stand beside the others.
    assert "\n".join(f"{layer:5}  AVX512-BF16, emulated" for layer in in_half) in said
    assert said.count("AVX512-BF16, emulated\n") == len(in_half)
    summary = (
        f"{len(in_half)} layers in it: {len(in_half)} on AVX512-BF16, emulated (no AMX: IGC_NATIVE_AMX=off says so)"
    )
    assert summary in said
    monkeypatch.setenv("IGC_NATIVE_AMX", "emulate")
    monkeypatch.setenv("IGC_NATIVE_HALF", "off")
    assert main(["info", str(out)]) == 0
    said = capsys.readouterr().out
    assert "\n1      AMX-BF16, emulated\n" in said and " on AMX-BF16, emulated\n" in said and "no AMX" not in said
    np.testing.assert_allclose(deploy.load(out)(x), expected, atol=0.03 * np.abs(expected).max())
    monkeypatch.setenv("IGC_NATIVE_AMX", "off")
    monkeypatch.setenv("IGC_NATIVE_HALF", "off")
    np.testing.assert_array_equal(deploy.load(out)(x), expected)
    assert main(["info", str(out)]) == 0
    said = capsys.readouterr().out
    assert "all in float32: IGC_NATIVE_HALF=off says so" in said and said.count("half") == 1
    assert main(["info", str(tmp_path / "none.igc")]) == 2
    assert "cannot read" in capsys.readouterr().err
