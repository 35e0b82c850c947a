"""Ends each process that is to serve as soon as it is forked."""

import os

os.register_at_fork(after_in_child=lambda: os._exit(3))


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        pass


Schema = []
version = "0.1.0"
priority = 1
