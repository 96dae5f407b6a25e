"""Networks that a file outside of the package registers: examples/own_networks.py as its reader uses it, and bad
files."""

import json
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

import igc_gluon
import train_cifar
from igc_gluon import cli
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.errors import UserError
from igc_gluon.graph import non_native_operators
from igc_gluon.model_zoo import imports, registry
from igc_gluon.model_zoo.imports import import_networks

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "own_networks.py"
NAME = "cifar_igc_bn5_l4m2"


pytestmark = pytest.mark.usefixtures("registry_as_before")


def train_main(*flags):
    return train_cifar.run(train_cifar.parse([*map(str, flags)]))


def unregister_example():
    registry._families = {template: family for template, family in registry._families.items() if family.source is None}
    imports._imported.clear()


def igc(capsys, *arguments):
    """(exit code, stdout, stderr)"""
    code = cli.main([*map(str, arguments)])
    return (code, *capsys.readouterr())


def test_the_example_is_trained_and_used_as_the_papers_networks_are(tmp_path, capsys, caplog):
    flags = ["--import", EXAMPLE, "--network", NAME, "--dataset", "digits", "--num-epochs", 1, "--log-dir", tmp_path]
    assert train_main(*flags) == 0
    folder = tmp_path / "digits" / NAME / "seed0"
    source = {"path": str(EXAMPLE), "sha256": igc_gluon.files.digest(EXAMPLE, "sha256")}
    assert json.loads((folder / "config.json").read_text())["model_file"] == source
    checkpoint = folder / "checkpoints" / (folder / "checkpoints" / "last").read_text().strip()
    assert json.loads((checkpoint / "state.json").read_text())["config"]["model_file"] == source
    assert not [record for record in caplog.records if "native CPU kernels" in record.getMessage()]
    net = open_network(folder)
    operators = {net.output.name, "classifier"}
    assert all(
        name.startswith(("fc_score", "flatten", "hybridsequential")) or name in operators or "pool" in name
        for name, _ in non_native_operators(net, (2, 3, 32, 32))
    )
    accuracy = json.loads((folder / "history.jsonl").read_text().splitlines()[-1])["test_accuracy"]
    code, out, _ = igc(capsys, "eval", folder, "--import", EXAMPLE)
    assert code == 0 and f"top-1          {100 * accuracy:.2f} %" in out
    code, out, _ = igc(capsys, "tables", "--table", "IGCV1 7", "--import", EXAMPLE, "--runs", tmp_path)
    row = next(line for line in out.splitlines() if line.startswith(NAME))
    assert code == 0 and f"{100 * accuracy:.2f} (1)" in row and "networks of own_networks.py" in " ".join(out.split())
    code, out, _ = igc(capsys, "check", NAME, "--import", EXAMPLE, "--no-picture")
    assert code == 0 and "3 of 3 blocks are dense, 3 of them with one path" in out
    code, out, _ = igc(capsys, "compile", folder, tmp_path / "net.igc", "--import", EXAMPLE)
    assert code == 0 and "runs    natively" in out
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype("float32")
    np.testing.assert_allclose(
        igc_gluon.deploy.load(tmp_path / "net.igc")(images), net(mx.nd.array(images)).asnumpy(), rtol=1e-3, atol=1e-4
    )
    unregister_example()
    code, _, err = igc(capsys, "eval", folder)
    assert code == 2 and f"{NAME} is a network of {EXAMPLE}; give that file: --import FILE.py" in err


def test_the_examples_block_computes_its_equation():
    import_networks(EXAMPLE)
    net = igc_gluon.get_model("cifar_igc_bn5_l4m2")
    net.initialize()
    block = net.features[1]
    values = {name[len("g1_b1_") :]: p.data() for name, p in block.collect_params().items()}
    x = mx.nd.random.normal(shape=(2, 8, 5, 6))
    bn = {"eps": 2e-5, "fix_gamma": False, "use_global_stats": True}

    def norm(y, name):
        return mx.nd.BatchNorm(
            y, *(values[f"{name}_{what}"] for what in ("gamma", "beta", "running_mean", "running_var")), **bn
        )

    y = norm(
        mx.nd.Convolution(
            x, values["conv1_weight"], num_filter=8, kernel=(3, 3), pad=(1, 1), num_group=4, no_bias=True
        ),
        "bn1",
    )
    y = y[:, [0, 2, 4, 6, 1, 3, 5, 7]]  # the first channel of each of 4 partitions, then the second
    y = mx.nd.Convolution(y, values["conv2_weight"], num_filter=8, kernel=(1, 1), num_group=2, no_bias=True)
    y = norm(y[:, [0, 4, 1, 5, 2, 6, 3, 7]], "bn2").relu()
    np.testing.assert_allclose(block(x).asnumpy(), y.asnumpy(), rtol=1e-4, atol=1e-5)


REGISTER = """
from igc_gluon.model_zoo import CIFARNet, register
from igc_gluon.nn import ConvBNReLU

@register({template!r}, published=[{numbers}])
def build(classes, w=4, **options):
    return CIFARNet(ConvBNReLU, w, (1, 1, 1), classes, **options)
"""


def write(path, template="my_net{w}", numbers='{"w": 4}', more=""):
    path.write_text(REGISTER.format(template=template, numbers=numbers) + more)
    return path


def test_a_file_that_has_changed(tmp_path, capsys, caplog):
    """A run is not resumed with it; what is evaluated is warned of. Imported again, the new file is the one that
    counts."""
    file = write(tmp_path / "mine.py")
    flags = ["--import", file, "--network", "my_net4", "--dataset", "digits", "--num-epochs", 1, "--log-dir", tmp_path]
    assert train_main(*flags) == 0
    moved = tmp_path / "elsewhere.py"
    file.rename(moved)
    unregister_example()
    assert train_main(*flags[2:], "--import", moved, "--resume") == 0  # the same code in another place
    write(moved, more="# more\n")
    capsys.readouterr()
    assert train_main(*flags[2:], "--import", moved, "--resume") == 2
    assert "bring the old one back" in capsys.readouterr().err
    open_network(tmp_path / "digits" / "my_net4" / "seed0")
    assert "has changed since" in caplog.text
    unregister_example()
    with pytest.raises(UserError, match=r"my_net4 is a network of .*mine.py, which is no longer there"):
        open_network(tmp_path / "digits" / "my_net4" / "seed0")


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "No such file"),
        ("", "registers no networks"),
        ("import mxnet\nx = = 1\n", "line 2: invalid syntax"),
        ("\n\nnames\n", "line 3: name 'names' is not defined .NameError."),
        (REGISTER.format(template="My{w}", numbers='{"w": 4}'), "lower case"),
        (REGISTER.format(template="my{w}", numbers='{"l": 4}'), "with the numbers w"),
        (REGISTER.format(template="my{w}", numbers=""), "published members"),
        (
            REGISTER.format(template="cifar_plain{d}_w{w}", numbers='{"w": 4, "d": 8}'),
            "which 'cifar_plain{depth}_w{w}' has",
        ),
        # cifar_igc38: of 3 and 8, or of 38?
        (REGISTER.format(template="cifar_igc{a}{b}", numbers='{"a": 3, "b": 8}'), "can be read in two ways"),
        (REGISTER.format(template="cifar_igc{a}8", numbers='{"a": 3}'), "can be read in two ways"),
        (REGISTER.format(template="my{a}.{b}", numbers='{"a": 3, "b": 8}'), "can be read in two ways"),
        # A name that neither family lists.
        (REGISTER.format(template="cifar_plain8_w{w}", numbers='{"w": 3}'), "the name cifar_plain8_w8, which"),
    ],
)
def test_files_that_register_nothing(tmp_path, text, message):
    if text is not None:
        (tmp_path / "bad.py").write_text(text)
    before = list(registry._families)
    with pytest.raises(UserError, match=message):
        import_networks(tmp_path / "bad.py")
    assert list(registry._families) == before


def test_a_network_without_numbers(tmp_path):
    import_networks(write(tmp_path / "one.py", template="my_only", numbers="{}"))
    assert igc_gluon.get_model("My_Only").collect_params()["g0_conv_weight"].shape == (4, 3, 3, 3)
    assert "my_only" in igc_gluon.get_model_list()
