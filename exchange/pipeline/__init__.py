"""The pipeline: the one package that connects the others. Read this first.

A stage is a transaction of the log, and may be killed before and after it. Each serves the
partitions (分区) of a resource that the log assigns to this worker; order holds in a partition::

    pull     PullStage      connect ──► raw                  messages + cursor
    seal     SealStage      raw ──► sealed, quarantine       messages + state + position
    deliver  DeliverStage   sealed ──► province ──► receipt  the store first, then both
    project  ProjectStage   sealed, quarantine ──► store     a projection of the log
    record   EvidenceStage  sealed, receipts ──► evidence    entries + position

:class:`~exchange.pipeline.context.PipelineContext` holds what the stages work with. Time, entropy
and failpoints come in as arguments.
"""
