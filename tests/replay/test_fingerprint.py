"""What makes an app another one, to a replay."""

import sys

import pytest

from streamkit.engine.source_file import import_file
from streamkit.replay.fingerprint import fingerprint

APP = """
from msgspec import Struct
from streamkit import App, tumbling
from {rules} import big_enough

class Order(Struct):
    customer: str
    amount: int

app = App("shop")
orders = app.stream("orders", Order)

@orders.process(to="big")
def big(order: Order) -> Order | None:
    return order if big_enough(order.amount) else None

orders.by("customer").window(tumbling("1m", grace="0s")).count(to="counts")
"""
RULES = """
def big_enough(amount):
    return amount > 10
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """What the app says it is, after its files were written."""
    rules = f"rules_{tmp_path.name}"
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(app=APP, rule=RULES):
        (tmp_path / "app.py").write_text(app.format(rules=rules))
        (tmp_path / f"{rules}.py").write_text(rule)
        module = import_file(str(tmp_path / "app.py"), f"app_{tmp_path.name}")
        return fingerprint(module.app.topology())

    yield of
    sys.modules.pop(f"app_{tmp_path.name}", None)
    sys.modules.pop(rules, None)


def test_the_same_code_is_the_same_app(code):
    assert code() == code()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('to="big"', 'to="large"'),
        ('"1m"', '"2m"'),
        ("amount: int", "amount: float"),
        ("else None", "else order"),
        ('app.stream("orders", Order)', 'app.stream("orders", Order, out_of_order="1s")'),
    ],
)
def test_another_line_makes_another_app(code, old, new):
    assert old in APP
    assert code() != code(APP.replace(old, new))


def test_another_line_in_a_module_beside_it_makes_another_app(code):
    assert code() != code(rule=RULES.replace("> 10", "> 20"))


def test_declarations_count_that_no_file_shows(code, monkeypatch):
    app = "import os\n" + APP.replace('"1m"', 'os.environ.get("SIZE", "1m")')
    before = code(app)
    monkeypatch.setenv("SIZE", "2m")
    assert code(app) != before


def test_what_is_aggregated_counts(code, monkeypatch):
    def of(aggregate):
        return code("import os\n" + APP.replace('count(to="counts")', aggregate))

    once = 'quantile(float(os.environ["PART"]), "amount", to="counts", name="n")'
    monkeypatch.setenv("PART", "0.5")
    median = of(once)
    assert of(once) == median
    monkeypatch.setenv("PART", "0.9")
    assert of(once) != median
