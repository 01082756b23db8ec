"""Mutants: Roost with one decision broken on purpose, and the simulator that must find it.

    python -m tests.simulation.mutants              all of them
    python -m tests.simulation.mutants save-by-anyone

``edit`` changes one expression of the real code, ``catalogue`` says which, ``hunt`` goes through
seeds until the invariant that the mutant should break is broken.
"""
