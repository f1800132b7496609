"""The two pages that are looked at most, minute by minute, whoever looks.

/lamps 3.0
/ 2.0
"""

from streamkit import App
from streamkit.processors import top_k

app = App("site")
pages = app.stream("pages", str)


def page(value: str) -> str:
    return value


top_k(pages, 2, page, every="1m").to("most-viewed")

if __name__ == "__main__":
    with app.test(partitions=1) as t:
        for second, path in enumerate(["/", "/lamps", "/cart", "/lamps", "/", "/lamps"]):
            t.send("pages", path, key=f"visitor-{second}", timestamp=second * 1000)
        t.send("pages", "/", key="visitor-0", timestamp=120_000)
        t.run()
        for ranked in t.values("most-viewed")[0]:
            print(ranked.item, ranked.total)
