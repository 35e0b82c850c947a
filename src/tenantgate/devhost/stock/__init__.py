"""The stock plugins of Kong that the embedded host knows, as Kong 3.9 runs them."""
