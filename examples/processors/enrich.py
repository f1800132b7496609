"""Orders with the names of their customers.

1 Ada Lovelace
2 unknown
"""

from msgspec import Struct

from streamkit import App
from streamkit.processors import enrich


class Order(Struct):
    id: str
    customer: str


class Customer(Struct):
    name: str


class Named(Struct):
    id: str
    customer: str
    name: str = "unknown"


app = App("shop")
orders = app.stream("orders", Order)
customers = app.table("customers", Customer)
enrich(orders, customers, Named, on="customer").to("named-orders")

if __name__ == "__main__":
    with app.test() as t:
        t.send("customers", Customer("Ada Lovelace"), key="ada")
        t.send("orders", Order("1", "ada"))
        t.send("orders", Order("2", "bob"))
        t.run()
        for order in sorted(t.values("named-orders"), key=lambda order: order.id):
            print(order.id, order.name)
