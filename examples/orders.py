"""A folder of CSV files, an app, and a table in SQLite: one file, one command.

mkdir incoming
printf 'id,customer,amount\n1,ada,250\n2,bob,3\n3,ada,40\n' > incoming/monday.csv
streamkit run examples/orders.py
sqlite3 shop.db 'SELECT * FROM spent'

Leave it running and put more files into the folder: the table follows. Kill it whenever you like:
each row counts once.
"""

from msgspec import Struct

from streamkit import App, State


class Order(Struct):
    id: str
    customer: str
    amount: float


class Spent(Struct):
    customer: str
    orders: int
    total: float


app = App("shop")
orders = app.source(
    "FileSource", Order, to="orders", path="incoming", csv_types={"amount": "float"}
)


@orders.by("customer").process(to="spent")
def spent(order: Order, sofar: State[Spent]) -> Spent:
    before = sofar.get(Spent(order.customer, 0, 0.0))
    sofar.set(Spent(order.customer, before.orders + 1, before.total + order.amount))
    return sofar.get(before)


spent.sink(
    "SqlSink",
    connection_url="sqlite:///shop.db",
    insert_mode="upsert",
    pk_mode="record_value",
    pk_fields=["customer"],
)

if __name__ == "__main__":
    app.run()
