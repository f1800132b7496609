"""`streamkit graph`: what an app consists of."""

import sys
from enum import Enum
from typing import Annotated

import typer

from streamkit.cli.loading import load_app
from streamkit.cli.output import print_json


class Format(Enum):
    text = "text"
    mermaid = "mermaid"


def graph(
    app: Annotated[str, typer.Argument(metavar="APP.PY[:NAME]", help="A file or a module.")],
    format: Annotated[
        Format, typer.Option("--format", "-f", help="A tree for the terminal, or a flowchart.")
    ] = Format.text,
    json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Show an app's sub-topologies: topics, steps and their functions, stores.

    No log is needed. Mermaid's flowcharts are drawn by GitHub, GitLab and many editors.
    """
    from streamkit.dsl.mermaid import mermaid
    from streamkit.dsl.outline import outline
    from streamkit.dsl.tree import tree

    drawn = outline(load_app(app).topology())
    if json:
        print_json(
            {
                "app": drawn.app,
                "sources": drawn.sources,
                "sinks": drawn.sinks,
                "topics": {
                    topic: {"key": key, "value": value}
                    for topic, (key, value) in drawn.types.items()
                },
                "connectors": [
                    {"name": one.name, "kind": one.kind, "connector": one.what, "topic": one.topic}
                    for one in drawn.connectors
                ],
                "subtopologies": [
                    {
                        "name": part.name,
                        "journal": part.journal,
                        "steps": [
                            {
                                "number": step.number,
                                "kind": step.kind,
                                "name": step.name,
                                "function": step.function,
                                "settings": dict(step.settings),
                                "after": step.after,
                                "reads": step.reads,
                                "joins": step.joins,
                                "stores": [
                                    {"name": name, "changelog": changelog}
                                    for name, changelog in step.stores
                                ],
                                "writes": step.writes,
                            }
                            for step in part.steps
                        ],
                    }
                    for part in drawn.parts
                ],
            }
        )
    else:
        sys.stdout.write(mermaid(drawn) if format is Format.mermaid else tree(drawn))
