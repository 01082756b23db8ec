"""``make demo``: a library of real files on three hosts, one of which is killed half way.

Read ``app`` first: it is all that a user of Roost would write. The rest runs and checks it:

- ``corpus``: which files, and what a word is
- ``answers``: the same answers, plainly computed in this one process
- ``cluster``: a Redis of our own and the host processes
- ``job``: the work, the kill, and the comparison
- ``screen``: progress and the table at the end
"""
