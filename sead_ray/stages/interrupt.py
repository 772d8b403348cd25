"""SIGINT as the way in which a thread ends what the main thread waits for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def heard() -> Generator[None, None, None]:
    """SIGINT raises KeyboardInterrupt in the main thread within the block, also of a command that a script started in
    the background: shells have those ignore it."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
