"""Real servers for the bench and the tests: on loopback, on free ports, ended by process id."""
