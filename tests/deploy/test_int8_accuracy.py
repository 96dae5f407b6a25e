"""Top-1 accuracy of trained networks on 8-bit integers."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from igc_gluon import data, deploy, native

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.why_not()))


@pytest.mark.long
@pytest.mark.parametrize("primary,secondary", [(24, 2), (4, 8)])
def test_top_1_loss_on_digits_is_under_a_point(primary, secondary, tmp_path):
    """Depth 8, the data set's own schedule: about a minute each."""
    subprocess.run([sys.executable, ROOT / "train_cifar.py", "--dataset", "digits", "--network", "plain_igc",
                    "--depth", "8", "--primary-partition", str(primary), "--secondary-partition", str(secondary),
                    "--log-dir", tmp_path], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                   env=dict(os.environ, PYTHONPATH=str(ROOT)))
    run, = tmp_path.glob("digits/*/seed0")
    exact, compiled = deploy.compile(run), deploy.compile(run, calibration=True)
    assert not native.library.has_int8() or compiled.int8_layers == 6
    images, labels = data.load("digits", "test")
    x = exact.normalise(images)
    accuracy = [100 * (net(x).argmax(1) == labels).mean() for net in (exact, compiled)]
    print(f"L{primary}M{secondary}: {accuracy[0]:.2f} % in float32, {accuracy[1]:.2f} % on 8-bit integers")
    assert accuracy[0] > 95 and accuracy[1] > accuracy[0] - 1
