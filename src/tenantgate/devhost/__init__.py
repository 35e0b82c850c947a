"""The embedded host: a gateway on a laptop that runs Kong's declarative configuration. For development.

It speaks Kong's side of the plugin-server protocol exactly, carries the stock plugins that our routes use,
and refuses by name whatever it can't do as Kong 3.9 does it. Comments that name a ``kong/…`` file point at
Kong 3.9.3's source.
"""
