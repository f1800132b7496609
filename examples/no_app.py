"""The log alone, without any app: produce, consume with a group, look at the lag.

python examples/no_app.py
"""

import tempfile

from streamkit import Admin, Consumer, Producer

with tempfile.TemporaryDirectory() as folder:
    log = f"{folder}/log"
    with Admin(log) as admin:
        admin.create_topic("readings", partitions=4)

    with Producer(log) as producer:
        for number in range(1000):
            producer.send("readings", {"celsius": 20 + number % 5}, key=f"sensor-{number % 8}")

    with Consumer(log, "readings", group="averages", value_type=dict[str, int]) as consumer:
        values = [record.value["celsius"] for record in consumer.until_end()]
    print(f"{len(values)} readings, {sum(values) / len(values):.1f} degrees on average")

    with Admin(log) as admin:
        print("still to read:", sum(admin.lag("averages").values()))
