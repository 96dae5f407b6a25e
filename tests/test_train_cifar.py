"""train_cifar.py as its users run it: a process, its exit code, what it prints and what it leaves behind."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from child_signals import heed_all

import train_cifar
from igc_gluon import get_model, params_file
from igc_gluon.engine.experiment import build_network

ROOT = Path(__file__).resolve().parent.parent
# 23 batches an epoch, a fraction of a second
TINY = "--dataset digits --network plain --depth 5 --primary-partition 4 --secondary-partition 1".split()


def start(*flags, env=None, **kwargs):
    # One thread where the network is TINY: two would mostly wait for each other.
    threads = {"OMP_NUM_THREADS": "1"} if flags[: len(TINY)] == tuple(TINY) else {}
    env = {**os.environ, **threads, **(env or {})}
    kwargs.setdefault("preexec_fn", heed_all)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train_cifar.py"), *map(str, flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        **kwargs,
    )


def run(*flags, code=0, timeout=300, **kwargs):
    process = start(*flags, **kwargs)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    return out, err


def refused(*flags, **kwargs):
    """The one line of an error."""
    _, err = run(*flags, code=2, **kwargs)
    lines = [line for line in err.splitlines() if line.strip()]
    assert "Traceback" not in err and len(lines) == 1 and lines[0].startswith("error: "), err
    return lines[0]


def folder(log_dir, seed=0, model="cifar_plain5_w4", dataset="digits"):
    return Path(log_dir) / dataset / model / f"seed{seed}"


def final_files(log_dir, **where):
    """The bytes of parameters and optimizer state of the last checkpoint."""
    checkpoints = folder(log_dir, **where) / "checkpoints"
    last = checkpoints / (checkpoints / "last").read_text().strip()
    return {file: (last / file).read_bytes() for file in ("net.params", "training.params")}


def history(log_dir, **where):
    return [json.loads(line) for line in (folder(log_dir, **where) / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    log_dir = tmp_path_factory.mktemp("undisturbed")
    out, err = run(*TINY, "--num-epochs", 3, "--log-dir", log_dir)
    return log_dir, out, err


TAGS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr", "images_per_second")


def events(here):
    """{(tag, step): value} of the run's TensorBoard events, read by their framing: length, checksum, event,
    checksum."""
    from tensorboardX.proto.event_pb2 import Event

    scalars = {}
    (path,) = (here / "tensorboard").iterdir()
    data = path.read_bytes()
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        scalars.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
        data = data[12 + length + 4 :]
    return scalars


def test_what_a_run_leaves_behind(undisturbed):
    log_dir, out, err = undisturbed
    here = folder(log_dir)
    entries = history(log_dir)
    assert [e["epoch"] for e in entries] == [0, 1, 2]
    np.testing.assert_allclose(
        [e["lr"] for e in entries], [0.1, 0.1, 0.01]
    )  # drops once 1/2, 3/4, 7/8 are over: 2, 3, 3
    assert entries[-1]["train_loss"] < entries[0]["train_loss"] and entries[-1]["train_accuracy"] > 0.2
    config = json.loads((here / "config.json").read_text())
    assert (
        config["model"] == "cifar_plain5_w4" and config["seed"] == 0 and config["versions"]["mxnet"] == mx.__version__
    )
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert config["processor"] and (config["commit"] or "").rstrip("+") == head
    log = (here / "log.txt").read_text()
    for text in ("Epoch[0] Train-accuracy=", "Epoch[2] Validation-accuracy=", "Epoch[1] Time cost="):
        assert text in log
    assert (here / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert events(here) == {(tag, e["epoch"]): pytest.approx(e[tag], rel=1e-6) for e in entries for tag in TAGS}
    assert {"best", "last", "epoch-0003-batch-000000"} <= {p.name for p in (here / "checkpoints").iterdir()}
    assert f"{100 * entries[-1]['test_accuracy']:.2f} % at the end" in out and "epoch   3" in out


def test_the_best_and_the_last_checkpoint_are_the_networks_they_claim(undisturbed):
    import igc_gluon
    from igc_gluon.data import DATASETS, Batches, load

    log_dir = undisturbed[0]
    info, test = DATASETS["digits"], load("digits", "test")
    checkpoints = folder(log_dir) / "checkpoints"
    net = igc_gluon.get_model("cifar_plain5_w4")
    net.initialize()
    accuracies = {}
    for which in ("best", "last"):
        arrays = params_file.load(checkpoints / (checkpoints / which).read_text().strip() / "net.params")
        for name, parameter in net.collect_params().items():
            parameter.set_data(mx.nd.array(arrays[name]))
        batches = Batches(test.images, test.labels, 400, info.mean, info.std, train=False)
        accuracies[which] = np.mean(
            [(net(mx.nd.array(x)).asnumpy().argmax(axis=1) == y).mean() for x, y in batches.epoch(0)]
        )
    entries = history(log_dir)
    np.testing.assert_allclose(accuracies["last"], entries[-1]["test_accuracy"])
    np.testing.assert_allclose(accuracies["best"], max(e["test_accuracy"] for e in entries))


def check_kills(tmp_path, flags, model, signals):
    """A run that gets a signal at each of so many random moments ends with the bits of an undisturbed one."""
    seed = random.randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)
    begin = time.monotonic()
    process = start(*flags, "--log-dir", tmp_path / "a", env={"PYTHONUNBUFFERED": "1"})
    process.stdout.readline()  # says that training begins
    until_training = time.monotonic() - begin
    process.communicate(timeout=300)
    assert process.returncode == 0
    # Within the start or the next part of the work, so that the run is not over before the last signal.
    longest = until_training + (time.monotonic() - begin - until_training) / len(signals)
    codes = []
    for number in signals:
        process = start(*flags, "--resume", "--log-dir", tmp_path / "b")
        time.sleep(rng.uniform(0, longest))
        process.send_signal(number)
        process.communicate(timeout=120)
        codes.append(process.returncode)
    # A machine that is faster than during the first run may finish before a signal, but not before most of them.
    assert set(codes) <= {0} | {-number for number in signals} | {128 + number for number in signals}, (seed, codes)
    assert codes.count(0) <= len(codes) / 2, (seed, codes)
    run(*flags, "--resume", "--log-dir", tmp_path / "b")
    assert final_files(tmp_path / "b", model=model) == final_files(tmp_path / "a", model=model), (seed, codes)
    keys = ("epoch", "train_loss", "test_loss", "train_accuracy", "test_accuracy", "lr")
    disturbed, undisturbed = ([[e[k] for k in keys] for e in history(tmp_path / d, model=model)] for d in "ba")
    assert disturbed == undisturbed, (seed, codes)
    assert len(events(folder(tmp_path / "b", model=model))) == len(TAGS) * len(disturbed)


def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bits(tmp_path):
    check_kills(
        tmp_path,
        [*TINY, "--num-epochs", 8, "--checkpoint-epochs", 2],
        "cifar_plain5_w4",
        [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT],
    )


@pytest.mark.long
@pytest.mark.parametrize("network", ["plain_igc", "resnet_igc"])
def test_sigkill_at_ten_random_moments(tmp_path, network):
    """With IGC blocks, on all cores."""
    check_kills(
        tmp_path,
        [
            "--dataset",
            "digits",
            "--network",
            network,
            "--depth",
            8,
            "--primary-partition",
            4,
            "--secondary-partition",
            2,
            "--num-epochs",
            20,
        ],
        f"cifar_{network}8_l4m2",
        [signal.SIGKILL] * 10,
    )


@pytest.mark.parametrize("number,code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_exits_with_the_usual_code(tmp_path, number, code):
    process = start(*TINY, "--num-epochs", 500, "--log-dir", tmp_path)
    checkpoints = folder(tmp_path) / "checkpoints"
    while not (checkpoints / "last").exists():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    last = (checkpoints / "last").read_text().strip()
    assert f"saved in {checkpoints / last}; go on with --resume" in err and "Traceback" not in err


def test_ctrl_c_ends_all_of_several_runs(tmp_path):
    """Also where it comes while a run's last epoch is being finished."""
    process = start(*TINY, "--num-epochs", 1, "--num-runs", 50, "--log-dir", tmp_path)
    while not (folder(tmp_path) / "curves.png").exists():
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert len(list(folder(tmp_path).parent.iterdir())) <= 3


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path):
    process = start(*TINY, "--num-epochs", 2, "--log-dir", tmp_path, env={"PYTHONUNBUFFERED": "1"})
    process.stdout.readline()
    process.stdout.close()  # as `| head -1` does
    err = process.stderr.read()
    assert process.wait(timeout=60) == 0 and "Traceback" not in err, err
    assert len(history(tmp_path)) == 2


def test_other_threads_are_named(tmp_path, undisturbed):
    flags = [*TINY, "--num-epochs", 500, "--log-dir", tmp_path]
    process = start(*flags)
    while not (folder(tmp_path) / "curves.png").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    process = start(*flags, "--resume", env={"OMP_NUM_THREADS": "2"})
    line = process.stderr.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "OMP_NUM_THREADS 1 -> 2" in line and "not with the same last bits" in line


@pytest.mark.parametrize("text", ["5", '"seed"', "{"])
def test_a_foreign_config(tmp_path, text):
    folder(tmp_path).mkdir(parents=True)
    (folder(tmp_path) / "config.json").write_text(text)
    assert "config.json is damaged" in refused(*TINY, "--log-dir", tmp_path, "--resume")


def test_a_finished_run_is_not_run_again(undisturbed):
    log_dir = undisturbed[0]
    before = final_files(log_dir)
    flags = [*TINY, "--num-epochs", 3, "--log-dir", log_dir]
    assert "holds a run already; add --resume" in refused(*flags)
    out, _ = run(*flags, "--resume")
    assert "at the end" in out and final_files(log_dir) == before
    assert "was begun with wd 0.0001, not 0.01" in refused(*flags, "--resume", "--wd", "0.01")


def test_two_runs_in_one_folder(tmp_path):
    begin = time.monotonic()
    first = start(*TINY, "--num-epochs", 500, "--log-dir", tmp_path)
    try:
        while not (folder(tmp_path) / "history.jsonl").exists():
            time.sleep(0.05)
        assert "another run is at work" in refused(
            *TINY, "--num-epochs", 500, "--log-dir", tmp_path, "--resume", timeout=20 + 4 * (time.monotonic() - begin)
        )
    finally:
        first.kill()
        first.communicate()


def test_two_devices_train_as_one(tmp_path, undisturbed):
    run(*TINY, "--num-epochs", 3, "--log-dir", tmp_path, "--cpus", 2)
    (one, two) = (params_file.loads(final_files(d)["net.params"]) for d in (undisturbed[0], tmp_path))
    for name, value in one.items():
        assert np.linalg.norm(two[name] - value) <= 1e-3 * max(1, np.linalg.norm(value)), name


def test_several_runs_give_mean_and_deviation(tmp_path):
    """Said where the output cannot hold the folder's name."""
    log_dir = tmp_path / "\u00fc \u2603"
    flags = [*TINY, "--num-epochs", 1, "--log-dir", log_dir, "--num-runs", 2, "--rand-seed", 5]
    out, err = run(*flags, env={"PYTHONIOENCODING": "ascii"})
    assert "\\xfc \\u2603" in out and "Traceback" not in err
    accuracies = [100 * history(log_dir, seed=seed)[-1]["test_accuracy"] for seed in (5, 6)]
    assert f"last  {np.mean(accuracies):.2f} +- {np.std(accuracies, ddof=1):.2f}" in out
    summary = json.loads((folder(log_dir).parent / "summary.json").read_text())
    np.testing.assert_allclose(summary["last_test_accuracy"]["mean"], np.mean(accuracies))
    assert final_files(log_dir, seed=5) != final_files(log_dir, seed=6)


def test_files_for_the_module_api(tmp_path):
    prefix = tmp_path / "exported"
    flags = [*TINY, "--num-epochs", 2, "--model-prefix", prefix]
    run(*flags, "--log-dir", tmp_path / "a")
    symbol, arg_params, aux_params = mx.model.load_checkpoint(str(prefix), 2)
    ours = params_file.loads(final_files(tmp_path / "a")["net.params"])
    np.testing.assert_array_equal(arg_params["g0_conv_weight"].asnumpy(), ours["g0_conv_weight"])
    np.testing.assert_array_equal(aux_params["g0_bn_moving_var"].asnumpy(), ours["g0_bn_running_var"])
    module = mx.mod.Module(symbol)
    module.bind([("data", (2, 3, 32, 32))], [("softmax_label", (2,))], for_training=False)
    module.set_params(arg_params, aux_params)
    # and back: epoch 3 of 4 begins with these weights and the rate of the schedule
    run(*TINY, "--num-epochs", 3, "--model-prefix", prefix, "--load-epoch", 2, "--log-dir", tmp_path / "b")
    entries = history(tmp_path / "b")
    assert [e["epoch"] for e in entries] == [2]
    assert entries[0]["train_loss"] < history(tmp_path / "a")[0]["train_loss"]
    assert "No such file" in refused(*TINY, "--model-prefix", prefix, "--load-epoch", 9, "--log-dir", tmp_path / "c")
    assert "these parameters are not this network's" in refused(
        *TINY, "--depth", 8, "--model-prefix", prefix, "--load-epoch", 2, "--log-dir", tmp_path / "d"
    )


def test_benchmark(tmp_path):
    out, _ = run(*TINY, "--benchmark", 1, "--log-dir", tmp_path)
    assert "images/s in training" in out and not list(tmp_path.iterdir())


def test_numbers_that_go_wrong_stop_the_run_and_name_layer_epoch_and_batch(tmp_path):
    """At such a rate the first update breaks the weights, or, layer by layer, they break the second batch."""
    flags = [*TINY, "--network", "resnet", "--depth", 8, "--checkpoint-batches", 1]
    _, err = run(*flags, "--lr", "1e30", "--log-dir", tmp_path / "a", code=2)
    line = err.splitlines()[-1]  # after the bar
    assert "Traceback" not in err and line.startswith("error: in layer ") and "after epoch 1, batch 1;" in line
    assert "--lr" in line and "there is no checkpoint yet" in line
    _, err = run(*flags, "--lr", "1e16", "--detect-anomaly", "--log-dir", tmp_path / "b", code=2)
    line = err.splitlines()[-1]
    assert "native CPU kernels are not used" in err and line.startswith("error: ") and "epoch 1, batch " in line
    assert "a lower --lr may help" in line


BAD = [
    (["--network", "vgg"], "unknown model 'vgg'"),
    (["--network", "cifar_plain20_w16"], "leave --depth"),
    (["--network", "igcv3_0.7"], "igcv3_0.7 takes images of 224x224 pixels, digits has 32x32"),
    (["--rand-seed", "99999999999"], "seeds must be below"),
    (["--model-prefix", "no/such/folder/x"], "cannot write to the folder"),
    (["--model-prefix", "x", "--load-epoch", "400"], "leaves nothing of 30 epochs"),
    (["--depth", "9"], "nearest valid: 8 and 11"),
    (["--depth", "x"], "--depth"),
    (["--primary-partition", "0"], "0 primary partitions"),
    (["--dataset", "stl10"], "--dataset"),
    (["--gpus", "0"], "without CUDA"),
    (["--gpus", "x"], "--gpus wants numbers"),
    (["--kv-store", "fast"], "--kv-store must be one of"),
    (["--batch-size", "0"], "--batch-size"),
    (["--dataset", "digits", "--batch-size", "1438"], "digits has 1437 training images, fewer than a batch of 1438"),
    (["--batch-size", "3", "--batch-shards", "4"], "cannot be cut into 4 shards"),
    (["--num-epochs", "0"], "--num-epochs"),
    (["--lr", "nan"], "--lr"),
    (["--lr-steps", "3,2"], "--lr-steps"),
    (["--lr-steps", "a"], "--lr-steps"),
    (["--wd", "-1"], "--wd"),
    (["--momentum", "1"], "--momentum"),
    (["--rand-seed", "-1"], "--rand-seed"),
    (["--num-runs", "2", "--model-prefix", "x"], "--model-prefix"),
    (["--load-epoch", "1"], "--load-epoch needs --model-prefix"),
    (["--downsample", "code"], "no option 'downsample'"),
    (["--option", "spatial"], "wants NAME=VALUE"),
    (["--option", "color=red"], "has no option 'color'"),
    (["--network", "plain_igc", "--option", "between=tanh"], "between must be None or relu"),
    (["--network", "plain_igc", "--option", "bottleneck=x"], "the bottleneck must divide M = 1"),
    (["--network", "resnet_igc", "--depth", "8", "--option", "bottleneck=2", "--downsample", "code"], "no bottleneck"),
    (["--option", "stem_strides=3"], "stem_strides must be 1 or 2"),
    (["--dataset", "tiny-imagenet", "--pad", "zero"], "tiny-imagenet is not padded"),
    (["--dataset", "svhn", "--pad", "mean"], "svhn is not padded"),
    (["--log-dir", __file__], "cannot write"),
    (["--unknown"], "--unknown"),
]


@pytest.mark.parametrize("flags,text", BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else None)
def test_a_mistake_is_one_line(flags, text, tmp_path, capfd):
    """In this process, which saves the import of MXNet; that the exit code arrives is tested above."""
    try:
        args = train_cifar.parse([*TINY, "--log-dir", str(tmp_path / "runs"), *flags])
        code = train_cifar.run(args)
    except SystemExit as error:  # argparse
        code = error.code
    lines = capfd.readouterr().err.splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and text in lines[0], lines
    assert not list(tmp_path.glob("**/checkpoints"))


def test_shards_of_a_small_batch(tmp_path, monkeypatch, capfd):
    """One of 16 images, unless it is said or a run was begun with another number."""
    begun = []
    monkeypatch.setattr("igc_gluon.engine.experiment.run", lambda experiment, *_: begun.append(experiment.batch_shards))

    def shards(*flags, lines=0):
        args = train_cifar.parse([*TINY, "--log-dir", str(tmp_path), "--batch-size", "16", *flags])
        assert train_cifar.run(args) == 0
        out, err = capfd.readouterr()
        assert out.count("into 1 shard, not the usual 2, so that BN sees more than 8") == lines and not err
        return begun.pop()

    assert shards(lines=1) == shards("--resume", lines=1) == 1
    assert shards("--batch-shards", "4") == 4 and shards("--batch-size", "64") == 2
    folder = tmp_path / "digits" / "cifar_plain5_w4" / "seed0"
    folder.mkdir(parents=True)
    for config, number in (
        ({"model": "x", "batch_shards": 8}, 8),
        ({"model": "x"}, 2),
    ):  # the second of an older release
        (folder / "config.json").write_text(json.dumps(config))
        assert shards("--resume") == number and shards(lines=1) == 1 == shards("--resume", "--batch-shards", "1")


def cifar10_archive(path, train_images=4, test_images=4):
    """In the official format: a label byte, then 32x32 red, green and blue bytes."""
    rng = np.random.RandomState(0)
    with tarfile.open(path, "w:gz") as archive:
        for name, count in [(f"data_batch_{i}.bin", train_images) for i in range(1, 6)] + [
            ("test_batch.bin", test_images)
        ]:
            records = rng.randint(0, 256, (count, 3073)).astype(np.uint8)
            records[:, 0] %= 10
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = records.size
            archive.addfile(info, io.BytesIO(records.tobytes()))


def tiny_imagenet_archive(path):
    """In the official format: 200 classes of one image each, three to test, each image of a color."""
    ids = [f"n{number:08d}" for number in range(200)]
    rng = np.random.RandomState(0)

    def image():
        color = np.broadcast_to(rng.randint(0, 256, 3).astype(np.uint8), (64, 64, 3))
        return cv2.imencode(".jpg", color)[1].tobytes()

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny-imagenet-200/wnids.txt", "\n".join(ids))
        for i in ids:
            archive.writestr(f"tiny-imagenet-200/train/{i}/{i}_boxes.txt", f"{i}_0.JPEG\t0\t0\t63\t63\n")
            archive.writestr(f"tiny-imagenet-200/train/{i}/images/{i}_0.JPEG", image())
        archive.writestr(
            "tiny-imagenet-200/val/val_annotations.txt",
            "".join(f"val_{n}.JPEG\t{ids[n]}\t0\t0\t63\t63\n" for n in range(3)),
        )
        for n in range(3):
            archive.writestr(f"tiny-imagenet-200/val/images/val_{n}.JPEG", image())


def test_tiny_imagenet(tmp_path):
    import igc_gluon
    from igc_gluon import complexity

    tiny_imagenet_archive(tmp_path / "tiny-imagenet-200.zip")
    flags = [*TINY, "--dataset", "tiny-imagenet", "--data-dir", tmp_path]
    out, _ = run(*flags, "--num-epochs", 1, "--log-dir", tmp_path)
    assert "1 epochs of 4 batches of 64 images" in out
    where = {"model": "cifar_plain5_w4", "dataset": "tiny-imagenet"}
    config = json.loads((folder(tmp_path, **where) / "config.json").read_text())
    assert config["model_options"] == {"stem_strides": 2}
    assert params_file.loads(final_files(tmp_path, **where)["net.params"])["fc_score_weight"].shape == (200, 16)
    # as many multiply-adds as at 32x32, but for the stem, which has the same, and the classes
    net = igc_gluon.get_model("cifar_plain5_w4", classes=200)
    assert f"{complexity.totals(net).multiply_adds / 1e8:.3f} x 10^8 multiply-adds" in out
    out, _ = run(*flags, "--benchmark", 1, "--log-dir", tmp_path / "none")
    assert "images/s in training" in out


def test_the_papers_settings_for_tiny_imagenet():
    def experiment(*flags):
        return train_cifar.experiment(train_cifar.parse(["--dataset", "tiny-imagenet", *flags]), 2)

    chosen = experiment("--network", "cifar_igcv2_20_c64")
    assert chosen.schedule.num_epochs == 200 and chosen.schedule.lr_steps == (100, 150, 175)
    assert [round(chosen.schedule.lr_at(epoch), 6) for epoch in (0, 99, 100, 150, 199)] == [
        0.1,
        0.1,
        0.01,
        0.001,
        0.0001,
    ]
    assert chosen.model_options == {"stem_strides": 2}
    both = experiment("--network", "resnet_igc", "--depth", "50", "--downsample", "code").model_options
    assert both == {"downsample": "code", "stem_strides": 2}


@pytest.mark.parametrize(
    "network, option",
    [
        ("plain_igc", ("between", "relu")),
        ("resnet_igc", ("spatial", "secondary")),
        ("plain_igc", ("spatial", "both")),
        ("plain_igc", ("bottleneck", 2)),
        ("cifar_igcv3_d0.5", ("strides", (64, 160))),
        ("cifar_igcv3_d0.5", ("partitions", (2, 4))),
        ("cifar_igcv3_d0.5", ("block", "paper")),
        ("cifar_igcv1_8_c16", ("between", "relu")),
    ],
)
def test_options_make_the_network_that_the_getter_makes(network, option):
    name, value = option
    text = ",".join(map(str, value)) if isinstance(value, tuple) else value
    flags = ["--network", network, "--dataset", "digits", "--option", f"{name}={text}"]
    flags += ["--depth", "8", "--primary-partition", "3", "--secondary-partition", "4"] * (not network.startswith("c"))
    experiment = train_cifar.experiment(train_cifar.parse(flags), 2)
    assert experiment.model_options == {name: value}
    built, expected = (build_network(experiment, [mx.cpu()], 10, 0), get_model(experiment.model.name, **{name: value}))
    usual = get_model(experiment.model.name)
    graphs = [net(mx.sym.var("data")).tojson() for net in (built, expected, usual)]
    assert strip(graphs[0]) == strip(graphs[1]) != strip(graphs[2])


def strip(graph):
    """The layers of a symbol: operators and attributes."""
    return [
        (node["op"], {key: text for key, text in node.get("attrs", {}).items() if not key.startswith("__")})
        for node in json.loads(graph)["nodes"]
    ]


USERS_OWN = ["--network", "plain_igc", "--primary-partition", "24", "--secondary-partition", "2"]


def test_the_users_own_command_trains_on_cifar10(tmp_path):
    """As it stands, with the archive where the default folder is; stopped after its first epoch."""
    home = tmp_path / "home"
    (home / "datasets" / "cifar10").mkdir(parents=True)
    cifar10_archive(
        home / "datasets" / "cifar10" / "cifar-10-binary.tar.gz", train_images=13
    )  # 65: one more than a batch
    process = start(*USERS_OWN, cwd=tmp_path, env={"MXNET_HOME": str(home)})
    here = folder(tmp_path / "runs", model="cifar_plain_igc38_l24m2", dataset="cifar10")
    while not (here / "curves.png").exists():  # drawn after the first epoch
        time.sleep(0.1)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    config = json.loads((here / "config.json").read_text())
    assert config["schedule"] == {
        "num_epochs": 400,
        "lr": 0.1,
        "lr_factor": 0.1,
        "lr_steps": [200, 300, 350],
        "lr_decay": 1.0,
        "warmup_epochs": 0,
        "mode": "step",
        "power": 2.0,
        "target_lr": 0.0,
    }
    assert (config["batch_size"], config["wd"], config["momentum"]) == (64, 1e-4, 0.9)
    assert "400 epochs of 2 batches of 64" in out


def test_the_users_own_command_without_files(tmp_path):
    # a proxy that is not there stands for a machine without network
    line = refused(
        *USERS_OWN,
        cwd=tmp_path,
        env={"MXNET_HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
    )
    assert "cifar-10-binary.tar.gz" in line and str(tmp_path) in line and "--dataset digits" in line
