"""Payments for those who count them, but are not to see cards and names.

***1111 fe95b59097f1fad3 25.0
"""

from msgspec import Struct

from streamkit import App
from streamkit.processors import mask


class Payment(Struct):
    card: str
    name: str
    amount: float


app = App("payments")
payments = app.stream("payments", Payment)
stars = mask(payments, "card", keep=4)
mask(stars, "name", secret="from a vault", name="pseudonyms").to("payments-masked")

if __name__ == "__main__":
    with app.test() as t:
        t.send("payments", Payment("4111111111111111", "Ada", 25.0))
        t.run()
        for payment in t.values("payments-masked"):
            print(payment.card, payment.name, payment.amount)
