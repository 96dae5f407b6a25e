"""A compiled network runs where there is NumPy and nothing else: neither MXNet nor OpenCV, nor what downloads need."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from igc_gluon import deploy, native
from igc_gluon.model_zoo import get_model

ROOT = Path(__file__).resolve().parent.parent
# Only what stands here can be imported beside Python's own modules.
ALONE = """
import sys

class Others:
    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first not in sys.stdlib_module_names and first not in ("numpy", "igc_gluon", "igc_command"):
            raise ModuleNotFoundError(f"No module named {first!r}", name=first)

sys.meta_path.insert(0, Others())
"""
RUN = """
import pickle
import numpy as np
import igc_gluon
net = igc_gluon.deploy.load(sys.argv[1])
images = np.load(sys.argv[2])
scores = net(net.normalize(images))
assert pickle.loads(pickle.dumps(net))(net.normalize(images)).tolist() == scores.tolist()
net.save(sys.argv[1])
np.save(sys.argv[3], scores)
"""
COMMAND = """
import igc_command
sys.exit(igc_command.main())
"""


def alone(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", ALONE + code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    if sys.version_info < (3, 10):
        pytest.skip("Python 3.10 has the list of its own modules")
    if not native.available():
        pytest.skip(str(native.unavailable_reason()))
    folder = tmp_path_factory.mktemp("core")
    net = deploy.compile(get_model("cifar_plain_igc8_l24m2", pretrained="fashion-mnist"))
    net.save(folder / "net.igc")
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (2, *net.input_shape[1:], 3), np.uint8))
    return net, folder


def test_scores(compiled):
    net, folder = compiled
    done = alone(RUN, folder / "net.igc", folder / "images.npy", folder / "scores.npy")
    assert done.returncode == 0, done.stderr
    images = np.load(folder / "images.npy")
    np.testing.assert_array_equal(np.load(folder / "scores.npy"), net(net.normalize(images)))


def test_commands_say_what_they_lack(compiled):
    _, folder = compiled
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for command in (["predict", folder / "net.igc", folder / "photo.png"], ["data", "verify", folder / "photo.png"]):
        done = alone(COMMAND, *command)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert "pip install 'igc-gluon[cpu]'" in done.stderr
