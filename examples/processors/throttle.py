"""An alarm that rings at most once a minute for each sensor, however often it is hot.

0 s: 91.0
70 s: 93.0
"""

from streamkit import App
from streamkit.processors import throttle

app = App("alarms")
celsius = app.stream("celsius", float)


@celsius.filter
def hot(value: float) -> bool:
    return value > 90


throttle(hot, 1, per="1m").to("alarms")

if __name__ == "__main__":
    with app.test() as t:
        for second, value in [(0, 91.0), (10, 92.0), (40, 20.0), (59, 95.0), (70, 93.0)]:
            t.send("celsius", value, key="boiler", timestamp=second * 1000)
        t.run()
        for record in t.topic("alarms"):
            print(f"{record.timestamp // 1000} s: {record.value}")
