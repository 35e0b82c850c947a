"""Says that something is missing, or there again."""

from tenantgate.telemetry import needs

version, priority = "1.0.0", 1
Schema = ({"there": {"type": "boolean", "required": True}},)


class Plugin:
    def __init__(self, config):
        self.there = config["there"]

    def access(self, kong):
        needs.tell("policies", there=self.there)
