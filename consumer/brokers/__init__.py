"""Where messages come from and go to: the adapters of `ports.transport`, one package or module per broker.

They decide nothing about messages, know nothing of each other, and map their driver's exceptions at their edge.
"""
