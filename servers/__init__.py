"""Real servers for the tests and the demo: on loopback, owned by pid, gone when their owner is."""
