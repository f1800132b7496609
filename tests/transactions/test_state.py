"""The table of states, and its drawing."""

from pathlib import Path

from streamkit.transactions.state import TRANSITIONS, State, diagram

PAGE = Path(__file__).parents[2] / "docs" / "transactions.md"


def test_the_states_have_kafkas_names_and_numbers():
    assert [state.title for state in State] == [
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "Dead",
        "PrepareEpochFence",
    ]
    assert [int(state) for state in State] == list(range(8))


def test_the_transitions_are_those_that_kafka_allows():
    before = {to: {state for state in State if to in TRANSITIONS[state]} for to in State}
    rest = {State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT}
    assert before == {
        State.EMPTY: rest,
        State.ONGOING: rest | {State.ONGOING},
        State.PREPARE_COMMIT: {State.ONGOING},
        State.PREPARE_ABORT: rest | {State.ONGOING, State.PREPARE_EPOCH_FENCE},
        State.COMPLETE_COMMIT: {State.PREPARE_COMMIT},
        State.COMPLETE_ABORT: {State.PREPARE_ABORT},
        State.DEAD: rest,
        State.PREPARE_EPOCH_FENCE: {State.ONGOING},
    }


def test_the_docs_draw_the_table():
    assert f"```mermaid\n{diagram()}\n```" in PAGE.read_text(), (
        f"put this into {PAGE.name}:\n{diagram()}"
    )


def test_a_state_is_at_rest_or_decided_or_neither():
    assert {state for state in State if state.resting} == {
        state for state in State if State.DEAD in TRANSITIONS[state]
    }
    assert {state for state in State if state.decided} == {
        State.PREPARE_COMMIT,
        State.PREPARE_ABORT,
    }
