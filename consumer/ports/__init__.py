"""The protocols between the path and the outside, cut by caller. The contract of each verb is written on the verb.

Ports are batch-first: a verb takes a sequence and does all of it in one statement, transaction or script; the answers
come in the order of what was asked. Adapters decide nothing, use the store's clock, and map their driver's exceptions to
`StoreUnavailable` or `BrokerUnavailable` at their edge. `consumer.testing.contract` is the suite that every store passes.
"""
