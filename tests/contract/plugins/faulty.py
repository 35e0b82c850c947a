"""Everything a phase can do wrong, written for kong-pdk alone: the server must cope without our wrapper."""

import os
import threading
import time

from tenantgate.checkpoints import checkpoint

WORKED: list[int] = []
GATE = threading.Event()
RELEASE = threading.Event()  # never set: waiting on it blocks in C code


class Config:
    def __init__(self, on_error, deadline_ms):
        self.on_error, self.deadline_ms = on_error, deadline_ms


class Plugin:
    def __init__(self, config):
        if config.get("do") == "bad-start":
            raise ValueError("secret text")
        if config.get("do") == "open-gate-at-start":
            GATE.set()
        self.do = config.get("do", "nothing")
        self.config = Config(config.get("on_error", "pass"), config.get("deadline_ms", 1000))

    def access(self, kong):
        getattr(self, "do_" + self.do.replace("-", "_"))(kong)

    rewrite = log = response = access

    def do_nothing(self, kong):
        return None

    def do_share(self, kong):
        asked = kong.ctx.shared.get("asked")
        kong.ctx.shared.set("told", {"asked": asked})
        if asked["exit"]:
            kong.response.exit(403, "no")

    def do_share_and_raise(self, kong):
        kong.ctx.shared.set("told", {"asked": None})
        raise ValueError("secret text")

    def do_return_something(self, kong):
        return {"anything": object()}

    def do_raise_first(self, kong):
        raise ValueError("secret text")

    def do_raise_later(self, kong):
        kong.request.get_method()
        raise ValueError("secret text")

    def do_exit_process(self, kong):
        raise SystemExit(3)

    def do_unpackable(self, kong):
        kong.response.set_header("x", object())

    def do_exit_first(self, kong):
        kong.response.exit(403, "no")

    def do_error_first(self, kong):
        kong.response.error(403)

    def do_calls_after_exit(self, kong):
        kong.response.exit(200, "whole")
        try:
            kong.response.set_header("x-late", "1")
        except Exception:
            kong.response.set_header("x-later", "1")

    def do_exit_without_body(self, kong):
        kong.response.exit(403, None, {"x-why": "policy"})

    def do_echo(self, kong):
        kong.response.set_header("x-echo", kong.request.get_header("x-in"))

    def do_tell_process(self, kong):
        kong.response.set_header("x-process", str(os.getpid()))

    def do_work_hard(self, kong):
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass

    def do_headers(self, kong):
        kong.response.set_headers(kong.request.get_headers())

    def do_big(self, kong):
        kong.service.request.set_raw_body(kong.request.get_raw_body(0))

    def do_two_calls(self, kong):
        kong.request.get_method()
        kong.response.set_header("x-done", "1")

    def do_wait_at_gate(self, kong):
        kong.response.set_header("x-here", "1")
        kong.response.set_header("x-open", str(GATE.wait(8)))

    def do_wait_at_gate_first(self, kong):
        kong.response.set_header("x-open", str(GATE.wait(8)))

    def do_wait_aside(self, kong):
        kong.response.set_header("x-here", "1")
        with kong.aside() as may:
            if may:
                WORKED.append(1)
                GATE.wait(8)
        kong.response.set_header("x-open", "1")

    def do_open_gate(self, kong):
        GATE.set()

    def do_close_gate(self, kong):
        GATE.clear()

    def do_open_gate_at_start(self, kong):
        return None

    def do_work(self, kong):
        """Spin, with checkpoints; the tenant is asked for first."""
        kong.client.get_consumer()
        for _ in range(10_000_000):
            checkpoint()
            WORKED.append(1)

    def do_how_much(self, kong):
        kong.response.set_header("x-worked", str(len(WORKED)))

    def do_block(self, kong):
        RELEASE.wait(1)

    def do_block_for_long(self, kong):
        RELEASE.wait(60)

    def do_spin(self, kong):
        while True:
            pass

    def do_spin_catching_all(self, kong):
        until = time.monotonic() + 8
        while time.monotonic() < until:
            try:
                kong.request.get_method()
            except Exception:
                continue


Schema = [{"do": {"type": "string"}}]
version = "0.1.0"
priority = 10
