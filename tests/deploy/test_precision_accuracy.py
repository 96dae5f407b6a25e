"""Top-1 accuracy of trained networks in half precision and on 8-bit integers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from igc_gluon import data, deploy, native

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))


@pytest.mark.long
@pytest.mark.parametrize(
    "network,on_bytes,options",
    [
        ("cifar_plain_igc8_l24m2", 6, ()),
        ("cifar_plain_igc8_l4m8", 6, ()),
        ("cifar_plain8_w16", 6, ()),
        ("cifar_igcv2_8_c64", 11, ("--num-epochs", "10")),
        # An epoch of IGCV3 takes about ten times as long as one of RegConv: few, of small batches.
        ("cifar_igcv3_d0.5", 27, ("--num-epochs", "7", "--batch-size", "32", "--lr", "0.05")),
    ],
)
def test_top_1_loss_on_digits_is_under_a_point(network, on_bytes, options, tmp_path):
    """On one core a minute each, IGCV3 three. on_bytes: how many layers run on 8-bit integers. In half precision it may
    be an image more or less: 0.3 points are one of 360."""
    subprocess.run(
        [
            sys.executable,
            ROOT / "train_cifar.py",
            "--dataset",
            "digits",
            "--network",
            network,
            "--log-dir",
            tmp_path,
            *options,
        ],
        check=True,
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    (run,) = tmp_path.glob("digits/*/seed0")
    exact, half = (deploy.compile(run, precision=precision) for precision in ("float32", "half"))
    compiled = deploy.compile(run, calibration=True)
    assert not native.library.has("int8") or compiled.reduced_layers == on_bytes
    images, labels = data.load("digits", "test")
    x = exact.normalize(images)
    accuracy = [100 * (net(x).argmax(1) == labels).mean() for net in (exact, half, compiled)]
    print("{}: {:.2f} % in float32, {:.2f} % in half, {:.2f} % in int8".format(network, *accuracy))
    assert accuracy[0] > 95 and abs(accuracy[1] - accuracy[0]) < 0.3 and accuracy[2] > accuracy[0] - 1
