"""Actors in processes of their own: ``class C(Actor, isolation="process")``.

- ``forkserver``: the program that imports the app once and forks a child per actor
- ``processes``: this host's fork server, its children and their common deadline
- ``proxy``: an actor's half here; ``turns`` hands turns to its child, ``relay`` its calls onwards
- ``child``: the half over there, with the real actor; ``child_system`` is the system that it sees,
  ``child_calls`` the road of its turns and calls to the parent
- ``pipe``, ``messages``, ``deadline``, ``linux``: what both halves share

The mailbox, the claim, supervision and saving stay with the parent's activation; state, handlers,
``run()``, timers and background tasks are the child's.
"""
