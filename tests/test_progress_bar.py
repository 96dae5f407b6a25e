"""A job's log gets lines, a terminal a bar that is drawn over itself."""

import io
import sys
import time

import pytest

from igc_gluon import progress_bar


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_where_there_is_no_terminal(monkeypatch, terminal):
    monkeypatch.setattr(sys, "stderr", Stream(terminal))
    monkeypatch.setattr(progress_bar, "INTERVAL", 0.01)
    with progress_bar.progress_bar(total=4, desc="epoch 1", mininterval=0, miniters=1) as bar:
        for _ in range(4):
            time.sleep(0.02)
            bar.update()
    text = sys.stderr.getvalue()
    if terminal:
        assert text.count("\r") >= 4 and "100%" in text
    else:
        lines = text.splitlines()
        assert "\r" not in text and [line.partition("|")[0] for line in lines] == [
            f"epoch 1:  {percent}%" for percent in (25, 50, 75)
        ] + ["epoch 1: 100%"]


def test_what_is_quick_leaves_no_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Stream(False))
    with progress_bar.progress_bar(total=2, delay=1) as bar:
        bar.update(2)
    assert sys.stderr.getvalue() == ""
