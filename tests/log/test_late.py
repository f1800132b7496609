"""Loading late beside forks."""

import subprocess
import sys

FORKING = """
import os, threading, time
from streamkit.log.late import loading
import logging

forking = threading.Event()
inside = threading.Event()

def load():
    with loading():
        inside.set()
        forking.wait()
        time.sleep(0.2)  # the fork goes on, until it has to wait
        logging.getLogger("of.a.module.that.is.loaded")

thread = threading.Thread(target=load, daemon=True)
thread.start()
inside.wait()
os.register_at_fork(before=forking.set)
pid = os.fork()
if pid == 0:
    with loading():
        logging.getLogger("of.a.child")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
thread.join()
print("done")
"""


def test_a_fork_waits_for_what_is_being_loaded_and_not_the_other_way_round():
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "done\n", done.stderr
