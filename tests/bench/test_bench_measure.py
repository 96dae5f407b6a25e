"""The loop with made-up peers: what it measures, compares, leaves out and prints; one run with real processes."""

import io
import json
import re
import time

import numpy as np
import pytest

from igc_gluon.bench import markdown, peers, worker
from igc_gluon.bench import measure as measuring
from igc_gluon.bench.cases import peer_keys
from igc_gluon.bench.measure import PeerFailed, Result, Timing, measure
from igc_gluon.bench.networks import zoo
from igc_gluon.cli import main
from igc_gluon.cli.bench import text_of
from igc_gluon.errors import UserError

NETWORK = zoo("cifar_plain_igc5_l2m3")


def constant(value, seconds=0.002):
    def make(job):
        def call():
            time.sleep(seconds)
            return np.full((len(job.images), 10), value, np.float32)

        return call

    return make


def broken(job):
    raise RuntimeError("no such operator\nand a long story")


@pytest.fixture
def made_up(monkeypatch):
    """Peers that sleep, in this process."""
    table = {
        "igc": peers.Peer("igc_gluon, compiled", ("json",), constant(2.0), constant(2.0), ours=True),
        "slow": peers.Peer("Slow", ("json",), constant(2.5, seconds=0.01)),
        "broken": peers.Peer("Broken", ("json",), broken),
        "absent": peers.Peer("Absent", ("no_such_module",), constant(1)),
        "other": peers.Peer("Rewritten", ("json",), constant(2, 0.001), modified=True),
    }
    for module in (peers, worker, measuring, markdown):
        monkeypatch.setattr(module, "PEERS", table)

    class Child:
        def __init__(self, peer, threads):
            self.worker, self.closed = worker.Worker(peer, threads), False
            children.append(self)

        def ask(self, do, limit=None, **arguments):
            answers = io.StringIO()
            worker.serve(self.worker, [json.dumps({"do": do, **arguments})], answers)
            answer = json.loads(answers.getvalue())
            if "error" in answer:
                raise PeerFailed(answer["error"])
            return answer

        def close(self):
            self.closed = True

    children = []
    monkeypatch.setattr(measuring, "Child", Child)
    return table, children


def test_times_errors_and_who_is_left_out(made_up):
    table, children = made_up
    result = measure(NETWORK, 4, 1, keys=tuple(table), repeats=3, seconds=0.02)
    assert list(result.timings) == ["igc", "slow", "other"]
    assert result.missing == {
        "absent": "no_such_module not installed (pip install 'igc-gluon[bench]')",
        "broken": "RuntimeError: no such operator",
    }
    assert all(len(timing.wall) == len(timing.cpu) == 3 for timing in result.timings.values())
    assert 0.0005 <= result.timings["igc"].seconds < result.timings["slow"].seconds  # 2 and 10 ms for 4 images
    assert result.timings["slow"].error == pytest.approx(0.25)
    assert all(child.closed for child in children)
    text = markdown.table(result)
    assert "| Slow |" in text and "Left out: Broken: RuntimeError: no such operator" in text
    fastest_first = sorted(result.timings, key=lambda key: result.timings[key].seconds)
    rows = [text.index(f"| {table[key].title} |") for key in fastest_first]
    assert rows == sorted(rows)


def test_the_table_for_a_terminal_fits_it():
    """What is left out for one reason is one text."""
    reason = "torch not installed (pip install 'igc-gluon[bench]')"
    missing = dict.fromkeys(("torch", "torch-channels-last", "torch-compile"), reason)
    made = result("cifar_plain_igc8_l24m2", igc=0.001, mxnet=0.01, onnxruntime=0.1, missing=missing)
    text = text_of(made, made)
    assert max(map(len, text.splitlines())) <= 80
    joined = " ".join(text.split())
    assert joined.count("Left out: ") == 1 and joined.endswith(reason)
    header, rows = markdown.cells(made, made)
    assert rows[0][1:3] == ["1,000.0", "1,000.0 to 1,000.0"] and rows[1][7:] == ["10.00x", "10.00x"]
    for cell in (*header, *(cell for row in rows for cell in row)):
        assert all(word in joined for word in cell.split())


def test_only_who_can_train_is_asked_to(made_up):
    table, _ = made_up
    result = measure(NETWORK, 4, 1, training=True, keys=tuple(table), repeats=1, seconds=0.01)
    assert list(result.timings) == ["igc"] and not result.missing


def test_workers_can_be_used_again(made_up):
    _, made = made_up
    children = {}
    for _ in range(2):
        measure(NETWORK, 1, 1, keys=("igc",), repeats=1, seconds=0.01, children=children)
    assert len(made) == 1 and not made[0].closed and list(children) == ["igc"]


def result(network, training=False, batch=64, madds=10**7, peaks=None, missing=None, **seconds):
    return Result(
        network,
        batch,
        2,
        training,
        madds,
        missing=missing or {},
        peaks=peaks or {"avx512": [1e11] * 3},
        timings={key.replace("_", "-"): Timing([time] * 3, [time] * 3, 10**6, 1e-7) for key, time in seconds.items()},
    )


def test_targets_stand_beside_what_was_measured():
    results = [
        result("A", igc=1e-4, igc_gluon=2e-4, mxnet=1e-3, openvino=5e-4, openvino_rewrite=2e-4),
        result("A", batch=1, igc=1e-3, openvino=1e-3),
        result("A", True, igc_gluon=1e-3, mxnet=1e-2, torch=4e-3, torch_compile=3e-3),
    ]
    targets = [markdown.Target("A", 4, 0.99, 3, 15), markdown.Target("B", 1, 1)]
    lines = markdown.verdicts(targets, results).splitlines()[2:]
    assert lines == [
        "| A | inference, against the best peer (OpenVINO) | 5.00x | 4.00x | yes | 80 % |",
        "| A | inference, of the FMA peak | 100 % | 99 % | yes | 99 % |",
        "| A | training step, against PyTorch's best (PyTorch, torch.compile) | 3.00x | 3.00x | yes | 30 % |",
        "| A | training step, against stock MXNet (MXNet, hybridized) | 10.00x | 15.00x | no | 45 % |",
    ]


def test_the_claim_is_judged_against_the_best_peer_of_the_other_network():
    results = [result("A", igc=1e-4, mxnet=1e-3), result("W", igc=1e-5, mxnet=4e-4, openvino=3e-4)]
    assert (
        markdown.claim(results, "A", "W")
        == "- A, inference, batch 64, 2 threads: 3.00 times the images/s of W on the best peer (OpenVINO): faster"
    )


def test_overview_has_a_column_for_each_peer():
    header, _, row = markdown.overview([result("A", igc=1e-4, mxnet=1e-3)]).splitlines()
    assert header == "| network | batch | igc_gluon, compiled | MXNet, hybridized | against the best peer |"
    assert row == "| A | 64 | 10,000.0 | 1,000.0 | 10.00x |"


def test_real_processes_agree_and_report(capsys, monkeypatch):
    """Both kinds in processes of their own, through the command."""
    monkeypatch.setattr("igc_gluon.text_table.WIDTH", 1000)
    code = main("bench cifar_plain_igc5_l2m3 --batch 2 --threads 1 --repeats 2 --seconds 0.01 --peers mxnet".split())
    out = capsys.readouterr().out
    assert code == 0
    for name, count in (("igc_gluon, compiled", 1), ("igc_gluon, in Gluon", 2), ("MXNet, hybridized", 2)):
        rows = [re.split(r"\s{2,}", line) for line in out.splitlines() if line.startswith(f"{name}  ")]
        assert len(rows) == count
        for row in rows:
            error = row[-3]
            assert error == "-" or float(error) < 1e-4
    assert "Left out: MXNet" not in out and "mxnet 1.9.1" in out


def test_a_process_that_ends_says_its_last_words(monkeypatch):
    child = measuring.Child("igc", "no number")
    with pytest.raises(PeerFailed, match="ended with code 2: .*invalid int value"):
        child.ask("memory")
    child.close()


def test_a_process_that_hangs_is_given_up():
    child = measuring.Child("igc", 1)
    with pytest.raises(PeerFailed, match="no answer within 0 s"):
        child.ask("memory", limit=0)
    child.close()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["cifar_plain_igc5_l2m4x"], "unknown model"),
        (["cifar_plain_igc5_l2m3", "--batch", "0"], "--batch"),
        (["cifar_plain_igc5_l2m3", "--peers", "caffe"], "no peer 'caffe'"),
        (["cifar_plain_igc5_l2m3", "--seconds", "nan"], "--seconds"),
    ],
)
def test_mistakes_take_one_line(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_ours_is_always_timed():
    assert peer_keys("openvino") == ["igc", "igc-gluon", "igc-half", "igc-int8", "openvino"] and peer_keys() == list(
        peers.PEERS
    )
    with pytest.raises(UserError):
        peer_keys("nobody")
