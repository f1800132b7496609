import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.connect.retry import Backoff, Kind, kind_of, restart_delay
from streamkit.errors import (
    BadRow,
    ConfigError,
    CorruptLog,
    FatalError,
    Fenced,
    OutOfSpace,
    RecordTooLarge,
    SerdeError,
    TransientError,
    UnknownTopic,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TransientError("x"), Kind.TRANSIENT),
        (OutOfSpace("x"), Kind.TRANSIENT),
        (Fenced("x"), Kind.TRANSIENT),
        (UnknownTopic("x"), Kind.TRANSIENT),
        (ConnectionResetError("x"), Kind.TRANSIENT),
        (FileNotFoundError("x"), Kind.TRANSIENT),
        (PermissionError("x"), Kind.FATAL),
        (FatalError("x"), Kind.FATAL),
        (ConfigError("x"), Kind.FATAL),
        (ValueError("a bug"), Kind.FATAL),
        (BadRow("x"), Kind.DATA),
        (SerdeError("x"), Kind.DATA),
        (RecordTooLarge("x"), Kind.DATA),
        (CorruptLog("x"), Kind.STORAGE),
    ],
)
def test_every_error_has_its_kind(error: BaseException, kind: Kind) -> None:
    assert kind_of(error) is kind


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_delays_double_up_to_the_longest_and_keep_half_of_themselves(
    attempt: int, spread: float
) -> None:
    full = min(10.0, 0.3 * 2.0 ** min(attempt - 1, 60))
    assert full / 2 <= Backoff(0.3, 10.0).delay(attempt, spread) <= full


def test_restarts_come_ever_later_and_at_least_hourly() -> None:
    assert [restart_delay(n) / 60 for n in (1, 2, 3, 7, 8)] == [2, 6, 12, 56, 60]
