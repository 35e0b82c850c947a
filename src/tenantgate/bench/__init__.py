"""The load harness: the same requests to a gateway with our plugins and without, side by side, and what it cost.

`workload` makes requests, `load` sends them at a set rate from a process of its own, `judging` says what became of
them, `stats` compares pairs, `report` writes the result down. `running` joins them; `commands` is `tenantgate bench`.
"""
