"""Actors in processes of their own: ``class C(Actor, isolation="process")``.

- ``forkserver``: the program that imports the app once and forks a child per actor
- ``processes``: this host's fork server, its children and their common deadline
- ``proxy``: an actor's half here: hands turns to its child, and the child's calls to the router
- ``child``: the half over there: the real actor, in a system whose only road is its parent
- ``pipe``, ``messages``, ``deadline``, ``linux``: what both halves share

The mailbox, the claim, supervision and saving stay with the parent's activation; state, handlers,
``run()``, timers and background tasks are the child's.
"""
