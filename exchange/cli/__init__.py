"""The command line: thin commands over the rooms; heavy imports happen inside a command.

stdout is data, stderr is output. Exit codes: 0 done · 1 a check failed · 2 changes pending ·
3 configuration · 4 cannot reach · 5 denied · 6 does not verify · 64 usage.
"""
