"""The cascade (级联): sealed batches go up to the province, one at a time per resource (D9).

In: sealed batches with their facts. Out: the province's answer, as an event of the delivery.
``delivery`` decides without I/O, ``profiles`` speak the interfaces of the field, ``transport``
is the only module that opens a connection. Nothing is raised for a province that is down,
slow or refusing: that is an event. A receipt counts only after the pipeline has checked it;
a wrong one halts the resource until a person releases it.
"""
