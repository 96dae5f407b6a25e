"""The loop's answers to signals, as far as they need no run; tests/test_faults.py has runs."""

from types import SimpleNamespace

import numpy as np
import pytest

from igc_gluon.engine.loop import Stopped, TrainingLoop
from igc_gluon.engine.workers import SingleWorker


class Loop(TrainingLoop):
    """Saves nothing."""

    def _stop(self, number):
        raise Stopped(number, None)


def test_a_signal_ends_validation_after_the_batch_at_hand():
    stop, batches = SimpleNamespace(number=None), []

    def predict(data):
        batches.append(data)
        stop.number = 15 if len(batches) == 2 else None
        return np.ones((len(data), 3), "float32")

    test = SimpleNamespace(epoch=lambda number: iter([(np.zeros((4, 3, 2, 2), "float32"), np.zeros(4, "float32"))] * 5))
    loop = Loop(
        SimpleNamespace(workers=SingleWorker(), predict=predict),
        None,
        test,
        schedule=None,
        log=None,
        checkpoints=None,
        config={},
    )
    with pytest.raises(Stopped):
        loop.evaluate(stop, test)
    assert len(batches) == 2
