"""Orders that a shop sends twice when it is not sure that the first try got through.

1 ada
2 bob
"""

from msgspec import Struct

from streamkit import App
from streamkit.processors import dedupe


class Order(Struct):
    id: str
    customer: str


app = App("shop")
orders = app.stream("orders", Order)
dedupe(orders, "id", within="1d").to("orders-once")

if __name__ == "__main__":
    with app.test() as t:
        for order in (Order("1", "ada"), Order("1", "ada"), Order("2", "bob")):
            t.send("orders", order, key=order.customer)
        t.run()
        for record in sorted(t.topic("orders-once"), key=lambda record: record.value.id):
            print(record.value.id, record.value.customer)
