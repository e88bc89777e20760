"""The corridor: the one package that opens doors between rooms. Read this first.

Doors, each a transaction of the log, each safe to be killed before and after. Each serves
the lanes (分区) of a resource that the log assigns to this worker; order holds within a lane::

    pulling     PullDoor     connect ──► raw                  messages + cursor
    sealing     SealDoor     raw ──► sealed, quarantine       messages + lane + position
    delivering  CascadeDoor  sealed ──► province ──► receipt  the store first, then both
    showing     ViewDoor     sealed, quarantine ──► store     a view of the log

``house.House`` holds what the doors work with. Time, chance and the kill points (``at``) come in
as arguments.
"""
