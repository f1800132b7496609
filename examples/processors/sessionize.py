"""Visits to a web site: clicks of a visitor that are less than half an hour apart.

ada: 3 clicks in 20 minutes
ada: 1 clicks in 0 minutes
"""

from streamkit import App
from streamkit.processors import sessionize

app = App("site")
clicks = app.stream("clicks", str)
sessionize(clicks, "30m").to("visits")

if __name__ == "__main__":
    with app.test() as t:
        for minute, page in [(0, "/"), (5, "/lamps"), (20, "/cart"), (300, "/"), (600, "/")]:
            t.send("clicks", page, key="ada", timestamp=minute * 60_000)
        t.run()
        for record in t.topic("visits"):
            visit = record.value
            print(f"{record.key}: {visit.events} clicks in {visit.seconds // 60:.0f} minutes")
