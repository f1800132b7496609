"""What is left of a segment whose log is gone."""

from streamkit.fsck.repair import repair

NOW = 1_000_000_000


def test_indexes_of_a_lost_segment_go_with_the_repair(folder, root, segments):
    lost = segments()[1]
    lost.unlink()
    repair(root, now=NOW)
    # Kafka's tools look for the log of every index.
    logs = {path.stem for path in folder.glob("*.log")}
    assert {path.stem for path in folder.glob("*index")} == logs
    assert lost.stem not in logs
