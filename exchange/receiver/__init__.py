"""The receiver (接收端): the province's side of the cascade, real or simulated.

In: sealed batches by HTTP, signed by a known caller. Out: a receipt under the province's seal,
if and only if the batch passed every check and is durable here; the same receipt, byte for
byte, whenever the same batch comes again. Refusals are answers with the envelope
``{"code", "message", "data"}``; nothing that a caller sends raises.
"""
