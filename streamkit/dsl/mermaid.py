"""A topology as a Mermaid flowchart, for pages that draw them."""

from collections.abc import Iterator

from streamkit.dsl.outline import Outline


def mermaid(app: Outline) -> str:
    """The text of a flowchart: topics are rounded, stores are cylinders, connectors lean, tables
    join dotted."""
    topics: dict[str, str] = {}

    def topic(name: str) -> str:
        return topics.setdefault(name, f"topic{len(topics)}")

    body: list[str] = []
    edges: list[str] = []
    for at, part in enumerate(app.parts):
        # A stream is drawn as the topic it is read from.
        ids = {step.number: topic(step.reads[0]) for step in part.steps if step.reads}
        body.append(f"    subgraph sub{at}[{_quoted(part.name)}]")
        for step in part.steps:
            here = ids.setdefault(step.number, f"step{step.number}")
            if step.kind in ("to", "repartition"):
                edges += [
                    f"    {ids[n]} --> {topic(name)}" for n in step.after for name in step.writes
                ]
                continue
            if not step.reads:
                body.append(f"        {here}[{_quoted(step.described)}]")
            edges += [f"    {ids[above]} --> {here}" for above in step.after]
            edges += [f"    {topic(name)} -.-> {here}" for name in step.joins]
            edges += [f"    {here} --> {topic(name)}" for name in step.writes]
            for number, (name, _) in enumerate(step.stores):
                store = f"store{step.number}x{number}"
                body.append(f"        {store}[({_quoted(name)})]")
                edges.append(f"    {here} <--> {store}")
        body.append("    end")
    for at, one in enumerate(app.connectors):
        body.append(f"    connector{at}[/{_quoted(one.what)}/]")
        ends = [f"connector{at}", topic(one.topic)]
        first, last = ends if one.kind == "source" else reversed(ends)
        edges.append(f"    {first} --> {last}")
    return "\n".join(["flowchart LR", *_topics(topics), *body, *edges]) + "\n"


def _topics(topics: dict[str, str]) -> Iterator[str]:
    for name, number in topics.items():
        yield f"    {number}([{_quoted(name)}])"


def _quoted(text: str) -> str:
    """Text that Mermaid shows as it is: in quotes, with what would end them as entities."""
    escaped = text.replace("#", "#35;").replace('"', "#quot;")
    return f'"{escaped.replace("<", "#lt;").replace(">", "#gt;")}"'
