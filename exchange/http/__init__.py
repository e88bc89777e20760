"""HTTP: the one owner of ``requests``; deadlines, sizes, TLS and one map of errors."""
