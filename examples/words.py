"""The smallest app: lines in, words out.

streamkit topics create lines
echo "to be or not to be" | streamkit produce lines
streamkit run examples/words.py --until-end
streamkit consume words
"""

from collections.abc import Iterator

from streamkit import App

app = App("hello")
lines = app.stream("lines", str)


@lines.process(to="words")
def words(line: str) -> Iterator[str]:
    yield from line.lower().split()


if __name__ == "__main__":
    app.run()
