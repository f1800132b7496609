"""A topology as text for a terminal: a tree of steps per sub-topology."""

from collections.abc import Iterator

from streamkit.dsl.outline import Outline, Part, Step


def tree(app: Outline) -> str:
    """Lines of text: what each sub-topology reads, does, keeps and writes."""
    lines = [f"app {app.app}"]
    for one in app.connectors:
        way = f"{one.what} → {one.topic}" if one.kind == "source" else f"{one.topic} → {one.what}"
        lines.append(f"  {one.kind} {one.name}: {way}")
    for part in app.parts:
        lines += ["", f"sub-topology {part.name}"]
        tables = dict.fromkeys(topic for step in part.steps for topic in step.joins)
        lines += [f"  table {topic}{_type_of(app, topic)}" for topic in tables]
        for step in part.first():
            lines += _step(app, part, step, "  ", "  ")
        if part.journal is not None:
            lines.append(f"  journal → {part.journal}")
    return "\n".join(lines) + "\n"


def _step(app: Outline, part: Part, step: Step, first: str, rest: str) -> Iterator[str]:
    """The lines of a step and all that follow it; `first` begins its own, `rest` the others."""
    yield first + _line(app, step)
    below = [f"store {name} ⇄ {changelog}" for name, changelog in step.stores]
    if step.kind not in ("to", "repartition"):
        below += [f"→ {topic}{_type_of(app, topic)}" for topic in step.writes]
    following = part.follow(step)
    left = len(below) + len(following)
    for text in below:
        left -= 1
        yield f"{rest}{'├─' if left else '└─'} {text}"
    for other in following:
        left -= 1
        yield from _step(
            app, part, other, f"{rest}{'├─' if left else '└─'} ", f"{rest}{'│ ' if left else '  '} "
        )


def _line(app: Outline, step: Step) -> str:
    if step.reads:
        topic = step.reads[0]
        said = [f"{key} {value}".strip() for key, value in step.settings.items()]
        return ", ".join([f"{topic}{_type_of(app, topic)}", *said])
    if step.kind in ("to", "repartition"):
        return " ".join(f"→ {topic}{_type_of(app, topic)}" for topic in step.writes)
    place = f"  [{step.function}]" if step.function else ""
    return f"{step.described}{place}"


def _type_of(app: Outline, topic: str) -> str:
    value = app.types.get(topic, ("", ""))[1]
    return f": {value}" if value not in ("", "Untyped") else ""
