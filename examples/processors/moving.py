"""Temperatures that are unusual for their sensor, by how they were lately.

boiler: 35.0, where 20.2 is usual
"""

from streamkit import App
from streamkit.processors import Moving, z_score

app = App("sensors")
celsius = app.stream("celsius", float)
scores = z_score(celsius, lambda value: value, last=100, name="lately")


@scores.filter
def unusual(score: Moving) -> bool:
    return abs(score.z or 0) > 3


unusual.to("unusual")

if __name__ == "__main__":
    with app.test() as t:
        for value in (20.0, 20.5, 20.0, 20.5, 20.0, 35.0, 20.0):
            t.send("celsius", value, key="boiler")
        t.run()
        for record in t.topic("unusual"):
            print(f"{record.key}: {record.value.value}, where {record.value.mean:.1f} is usual")
