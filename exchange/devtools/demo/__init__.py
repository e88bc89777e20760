"""The demo: invented departments whose records look real, down to their check digits and faults.

In: the catalog and a seed. Out: a department's database, a folder of GBK files, an Excel folder
and the real divisions, with the count of every fault planted. No record describes a real person
or company; the division codes are real.
"""
