"""A signal is no error: nobody who handles errors handles one by mistake."""

from __future__ import annotations

from snapshot.errors import InterruptedBySignalError, SafeSnapshotError, exit_codes


def test_a_signal_is_neither_an_error_of_ours_nor_an_exception() -> None:
    assert not issubclass(InterruptedBySignalError, SafeSnapshotError)
    assert not issubclass(InterruptedBySignalError, Exception)


def test_a_signal_says_what_it_is_and_ends_the_run_as_shells_expect() -> None:
    signalled = InterruptedBySignalError(15, remedy="look")
    assert (signalled.exit_code, str(signalled)) == (143, "ended by signal 15; look")
    assert InterruptedBySignalError(2, "ended by Ctrl-C").message == "ended by Ctrl-C"


def test_the_table_of_exit_codes_has_it_too() -> None:
    assert (128, ("interrupted",)) in [(number, codes) for number, codes, _ in exit_codes()]
