"""Requests per second of each host, every ten seconds.

web-1: 0.5 per second
web-1: 0.2 per second
"""

from streamkit import App
from streamkit.processors import rate

app = App("hosts")
requests = app.stream("requests", str)
rate(requests, over="10s").to("rates")

if __name__ == "__main__":
    with app.test() as t:
        for second in (0, 1, 2, 5, 9, 13, 14, 25):
            t.send("requests", "GET /", key="web-1", timestamp=second * 1000)
        t.run()
        for record in t.topic("rates"):
            print(f"{record.key}: {record.value} per second")
