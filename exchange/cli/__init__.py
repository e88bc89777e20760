"""The command line: one module a group of commands; heavy imports stand inside a command.

stdout is data, stderr is messages. Exit codes: 0 done · 1 a check failed · 2 changes pending ·
3 configuration · 4 cannot reach · 5 denied · 6 does not verify · 64 usage.
"""
