"""All clicks of about a tenth of the visitors: enough to try something on.

70 of 1000 clicks, of 7 of 100 visitors
"""

from streamkit import App
from streamkit.processors import sample

app = App("site")
clicks = app.stream("clicks", int)
sample(clicks, 0.1, whole_keys=True).to("clicks-of-some")

if __name__ == "__main__":
    with app.test() as t:
        for number in range(1000):
            t.send("clicks", number, key=f"visitor-{number % 100}")
        t.run()
        some = t.topic("clicks-of-some")
        visitors = {record.key for record in some}
        print(f"{len(some)} of 1000 clicks, of {len(visitors)} of 100 visitors")
