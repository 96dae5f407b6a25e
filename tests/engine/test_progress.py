"""Which epoch is the best, and that a run goes on with the entries that it began with."""

import math

from igc_gluon.engine.inputs import RecordInput, record_preprocessing
from igc_gluon.engine.loop import LoopOptions, TrainingLoop
from igc_gluon.engine.progress import Progress, best_entry


def entry(accuracy, loss, **more):
    return {"test_accuracy": accuracy, "test_loss": loss, **more}


def test_of_equal_accuracies_the_lower_loss_is_the_best():
    history = [
        entry(0.5, 2.0),
        entry(0.9, 1.0),
        entry(0.9, None),
        entry(0.9, math.nan),
        entry(0.9, 0.4),
        entry(0.9, 0.4),
    ]
    progress = Progress()
    assert [progress.add_entry(each) for each in history] == [True, True, False, False, True, False]
    assert best_entry(history) is history[4] and progress.best_accuracy == 0.9
    # The images that are held out for it decide, where there are some.
    history = [
        entry(0.9, 0.1, validation_accuracy=0.5, validation_loss=1.0),
        entry(0.2, 9.0, validation_accuracy=0.5, validation_loss=0.5),
    ]
    assert best_entry(history) is history[1]


def test_top5_is_reported_from_20_classes_on(tmp_path):
    expected = record_preprocessing((3, 32, 32), (0.0,) * 3, (1.0,) * 3)
    for classes in (3, 19, 20, 1000):
        assert RecordInput(None, tmp_path / "val.rec", expected, classes).top5 == (classes >= 20)


def test_a_run_that_has_top5_goes_on_with_it():
    """Of a run that an older release began: the entries of a history are alike."""

    class Parallel:
        def load_state_dict(self, arrays):
            pass

    for begun in (True, False):
        loop = TrainingLoop.__new__(TrainingLoop)
        loop.parallel, loop.train, loop.config = Parallel(), range(4), {}
        loop.schedule = type("Schedule", (), {"num_epochs": 3})
        loop.workers = type("Workers", (), {"rank": 0})
        loop.options = LoopOptions(top5=not begun)
        numbers = dict.fromkeys(
            ("lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds", "images_per_second"), 0.5
        )
        history = [{"epoch": 0, **numbers, **({"test_top5": 1.0, "train_top5": 1.0} if begun else {})}]
        loop.restore({}, {"position": {"epoch": 1, "batch": 0, "history": history}})
        assert loop.options.top5 == begun
