"""The core of the placement protocol as explicit states, searched without gaps (docs/protocol.md).

    state, rules, bounds     what a state is; the clauses that can be switched off; the budgets
    server, hosting, lives   what may happen: scripts, one actor's steps, the whole cluster's
    invariants, shape        what must hold; which states count as the same
    space, search, trace     all that can be reached; shortest counter-examples, told
    mutants, report          a counter-example for each clause; the standard configurations

``python -m tests.simulation.model`` runs it.
"""
