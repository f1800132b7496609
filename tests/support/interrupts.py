"""Ctrl-C at every instant at which it can come."""

import sys


class Interrupt:
    """A profile function: KeyboardInterrupt at the `at`-th of the instants that Python gives it.

    Those are where a function of Python begins and where one of C has ended. What closes files
    that nobody uses any more is passed over: an error in there is only printed.
    """

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, frame: object, event: str, arg: object) -> None:
        name = frame.f_code.co_name  # type: ignore[attr-defined]
        if event in ("call", "c_return") and name not in ("abandon", "close", "__del__"):
            self._left -= 1
            if self._left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt
