"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """The processes that tests start hear Ctrl-C, also where the tests themselves run in the background, which ignores
    it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
