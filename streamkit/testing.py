"""Test doubles: an app in memory, and a clock that is set by hand.

    def test_big_orders_are_let_through():
        with app.test() as t:
            t.send("orders", Order(amount=200), key="a")
            t.run()
            assert t.values("big-orders") == [Order(amount=200)]

`app.test()` gives a `TestRun`: the tasks that run live, in several partitions; only the log is a
list and the clock stands still.
"""

from streamkit.clock import ManualClock
from streamkit.engine.trial import TestRun

__all__ = ["ManualClock", "TestRun"]
