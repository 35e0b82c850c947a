"""Tells of its life: how many objects were made and closed, and whether it is warm."""

import threading

made: list[int] = []
closed: list[int] = []
WARM = threading.Event()


def warm_up():
    WARM.set()


def stop():
    print("stopped in order")


class Plugin:
    def __init__(self, config):
        made.append(1)

    def close(self):
        closed.append(1)

    def access(self, kong):
        kong.response.set_header("x-life", f"{len(made)} {len(closed)} {WARM.is_set()}")


Schema = []
version = "0.1.0"
priority = 1
