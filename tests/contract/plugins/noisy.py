"""Prints on every way there is while it is imported."""

import os
import sys

print("printed")
sys.stdout.write("written\n")
os.write(1, b"to the descriptor\n")
os.system("echo from a child process")


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        pass


Schema = []
version = "0.1.0"
priority = 1
