"""state.json and config.json of a stranger: every field of a real run's takes every value that is wrong.

Whoever reads them says one line, or goes on where the value does no harm; nothing ends in a traceback or hangs.
"""

import copy
import hashlib
import json
import logging

import mxnet as mx
import pytest

from igc_gluon import cli
from igc_gluon.cli import checkpoint
from igc_gluon.data import Batches
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine import experiment as engine
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.engine.experiment import Experiment, Settings
from igc_gluon.engine.inputs import Input
from igc_gluon.engine.progress import Progress
from igc_gluon.engine.saved_networks import open_network, read_config
from igc_gluon.engine.schedule import Schedule
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import find_model
from igc_gluon.paper.runs import Runs

DEEP = []
for _ in range(500):
    DEEP = [DEEP]
MISSING = object()
WRONG = [
    MISSING,
    None,
    True,
    -1,
    0,
    1,
    2,
    10**400,
    -(10**400),
    2**63,
    0.5,
    -0.5,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "x" * 100000,
    "\x1b[2J\n",
    "1",
    [],
    [None],
    [[]],
    DEEP,
    {},
    {"x": {}},
    {"classes": 5},
    {"pretrained": True},
]
EPOCHS = 3


class Digits(Input):
    """Eight images, as an input of `igc_gluon.engine.inputs`."""

    name, classes, preprocessing = "digits", 10, Preprocessing((32, 32), 32, (0,) * 3, (255,) * 3)

    def config(self):
        return {"pad": "mean"}

    def prepare(self):
        pass

    def batches(self, batch_size, seed, part_index=0, num_parts=1):
        from igc_gluon.data import load

        images, labels = (array[:8] for array in load("digits", "test"))
        mean, std = self.preprocessing.mean, self.preprocessing.std
        return (
            Batches(images, labels, batch_size, mean, std, seed=seed),
            Batches(images, labels, batch_size, mean, std, train=False),
        )

    def validation(self, part_index=0, num_parts=1):
        return None


EXPERIMENT = Experiment(
    find_model("cifar_plain5_w4"), "digits", Schedule(EPOCHS, 0.01, 0.1, (2,)), batch_size=4, batch_shards=1
)


def train(log_dir, resume=False):
    settings = Settings([mx.cpu()], log_dir=str(log_dir), resume=resume, keep_checkpoints=EPOCHS)
    (summary,) = engine.run(EXPERIMENT, Digits(), settings, range(1), report=lambda line: None)
    return summary


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder of a run, arrays and state of its checkpoint after two of three epochs)."""
    logger = logging.getLogger("igc_gluon")
    before = logger.level
    logger.setLevel(logging.ERROR)
    log_dir = tmp_path_factory.mktemp("runs")
    train(log_dir)
    folder = engine.run_folder(EXPERIMENT, Settings([mx.cpu()], log_dir=str(log_dir)), 0)
    store = CheckpointStore(folder / "checkpoints")
    name = f"epoch-{EPOCHS - 1:04d}-batch-000000"
    yield (folder, *store.load(name))
    logger.setLevel(before)


def paths(value, at=()):
    """The place of every field of a JSON object, of lists the first and the last."""
    if at:
        yield at
    items = (
        value.items()
        if isinstance(value, dict)
        else [(0, value[0]), (len(value) - 1, value[-1])]
        if isinstance(value, list) and value
        else []
    )
    for key, inner in items:
        yield from paths(inner, (*at, key))


def forged(value, at, wrong):
    """A copy of `value` with `wrong` at the place `at`."""
    value = copy.deepcopy(value)
    inner = value
    for key in at[:-1]:
        inner = inner[key]
    if wrong is MISSING:
        del inner[at[-1]]
    else:
        inner[at[-1]] = wrong
    return value


def forge(folder, text):
    """Puts `text` in place of the state of a checkpoint, and a manifest that says so."""
    (folder / "state.json").write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["state.json"] = {"size": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def through_json(value):
    """As it comes from a file; None where it cannot, which `load` refuses."""
    try:
        return json.loads(json.dumps(value))
    except (ValueError, RecursionError):
        return None


def test_every_field_of_a_position(run):
    """What is accepted can be used: drawn, logged, compared, summed up."""
    _, _, state = run
    true = Progress.from_state(state, 2, EPOCHS)
    assert true.epoch == EPOCHS - 1
    changes = [(at, wrong) for at in paths({"position": state["position"]}) for wrong in WRONG]
    accepted = []
    for at, wrong in changes:
        other = through_json(forged(state, at, wrong))
        if other is None:
            continue
        try:
            progress = Progress.from_state(other, 2, EPOCHS)
        except UserError as error:
            assert "does not say where in the training it was made" in str(error)
            continue
        if progress != true:
            accepted.append((at[1:], wrong))
        assert progress.epoch == EPOCHS - 1 and 0 <= progress.images and len(progress.history) == EPOCHS - 1
        assert all(abs(entry["test_accuracy"]) <= 1e30 for entry in progress.history)
    # In what these fields say, another number of the right kind cannot be told from the right one.
    free = {"seconds", "loss", "best_accuracy", "history", "correct", "correct_of_five"}
    assert {at[0] for at, _ in accepted} <= free
    assert len(changes) > 600 and len(accepted) < len(changes) / 4


@pytest.mark.parametrize("wrong", range(len(WRONG)))
def test_every_field_of_a_state_through_the_commands(run, tmp_path, wrong, capsys, monkeypatch):
    """igc checkpoint ls, verify, diff: any of them may say that it is damaged."""
    _, arrays, state = run
    monkeypatch.setattr(checkpoint, "GOING_SECONDS", 0)
    store = CheckpointStore(tmp_path / "checkpoints", keep=5)
    store.save(1, 0, arrays, state, best=True)
    made = store.save(2, 0, arrays, state, best=False)
    for at in [at for at in paths(state) if len(at) < 5]:
        try:
            text = json.dumps(forged(state, at, WRONG[wrong]))
        except RecursionError:
            continue
        forge(made, text)
        for action in ("ls", "diff"):
            assert cli.main(["checkpoint", action, str(tmp_path)]) in (0, 1, 2)
            out, err = capsys.readouterr()
            assert "\x1b" not in out and len(err.splitlines()) <= 1 and len(out) < 10**7


@pytest.mark.parametrize("field", ["position", "epoch", "history", "config", "best_accuracy", "schedule"])
@pytest.mark.parametrize(
    "wrong", [MISSING, None, -1, DEEP], ids=lambda value: "missing" if value is MISSING else str(value)[:5]
)
def test_going_on_with_a_forged_state(run, tmp_path, field, wrong):
    folder, arrays, state = run
    at = {"position": ("position",), "config": ("config",), "schedule": ("config", "schedule")}.get(
        field, ("position", field)
    )
    log_dir = tmp_path / "runs"
    here = engine.run_folder(EXPERIMENT, Settings([mx.cpu()], log_dir=str(log_dir)), 0)
    here.mkdir(parents=True)
    (here / "config.json").write_text((folder / "config.json").read_text())
    CheckpointStore(here / "checkpoints").save(EPOCHS - 1, 0, arrays, forged(state, at, wrong), best=True)
    try:
        summary = train(log_dir, resume=True)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert summary["epochs"] == EPOCHS and summary["seconds"] >= 0


def open_if_sound(folder):
    """Opens the network, which takes long, only where a field says what is built."""
    config, _ = read_config(folder / "config.json")
    if any(
        config.get(key) != value
        for key, value in (
            ("model", EXPERIMENT.model.name),
            ("model_options", None),
            ("classes", 10),
            ("image_shape", [3, 32, 32]),
            ("mean", [0] * 3),
        )
    ):
        open_network(folder)


@pytest.mark.parametrize("wrong", range(len(WRONG)))
def test_every_field_of_a_config(run, tmp_path, wrong):
    """Opened as a network, read for the tables, and resumed as far as the comparison of the configurations."""
    folder, arrays, state = run
    config = json.loads((folder / "config.json").read_text())
    here = tmp_path / "digits" / "net" / "seed0"
    CheckpointStore(here / "checkpoints").save(EPOCHS, 0, arrays, state, best=True)
    (here / "history.jsonl").write_text((folder / "history.jsonl").read_text())
    for at in [*paths(config), ("model_options",), ("new",)]:
        try:
            text = json.dumps(
                forged(config, at, WRONG[wrong]) if at[0] in config or WRONG[wrong] is not MISSING else config
            )
        except RecursionError:
            continue
        (here / "config.json").write_text(text)
        for read in (
            open_if_sound,
            lambda path: Runs(tmp_path).summary("cifar_plain5_w4", "digits"),
            lambda path: engine.check_same(engine.RunLog(path).read_config(), config, path),
        ):
            try:
                read(here)
            except UserError as error:
                assert "\n" not in str(error)
