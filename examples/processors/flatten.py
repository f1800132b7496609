"""Nested events for a table with columns.

{'customer_city': 'london', 'customer_name': 'ada', 'id': 1}
"""

from msgspec import Struct

from streamkit import App
from streamkit.processors import flatten


class Customer(Struct):
    name: str
    city: str


class Order(Struct):
    id: int
    customer: Customer


app = App("shop")
orders = app.stream("orders", Order)
flatten(orders).to("orders-flat")

if __name__ == "__main__":
    with app.test() as t:
        t.send("orders", Order(1, Customer("ada", "london")))
        t.run()
        for order in t.values("orders-flat"):
            print(order)
