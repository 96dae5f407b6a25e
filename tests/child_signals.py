"""For the children of tests that send them signals: what nohup, or a shell's `&`, has the tests ignore counts again."""

import signal


def heed_all():
    """In the new process, before it runs its command."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
