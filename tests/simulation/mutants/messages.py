"""Mutants of streams of messages and of links (rules 4, 10 and 11)."""

from __future__ import annotations

from tests.simulation.mutants.edit import Edit
from tests.simulation.mutants.mutant import Mutant

_SESSION = "wire.session:LinkSession."
_INBOX = "actors.inbox:Inbox.judge"

MESSAGES: dict[str, Mutant] = {
    "duplicates-run": Mutant(
        "10",
        "a session and an activation take what they have taken before",
        (
            Edit(_SESSION + "receive", "if number == self.received + 1:", "if number > 0:"),
            Edit(_INBOX, "return Verdict.DUPLICATE if", "return Verdict.ACCEPT if"),
        ),
        ("once",),
        ("links",),
    ),
    "gaps-are-taken": Mutant(
        "10",
        "an activation takes what is not the next",
        (
            Edit(_INBOX, "if attempt <= stream.told:", "if False:"),
            Edit(
                _INBOX,
                "if seq == stream.expected:",
                "if seq >= stream.expected:\n        stream.expected = seq",
            ),
        ),
        ("order", "left", "planned"),
        ("planned", "links"),
    ),
    "taken-on-trial": Mutant(
        "10",
        "a message is confirmed before the claim of its actor is won",
        (Edit("actors.receiver:Receiver._note", "if not activation.epoch:", "if False:"),),
        ("planned", "left", "once"),
        ("planned", "links"),
    ),
    "doubt-is-resent": Mutant(
        "10",
        "what may have run on a lost host is sent again",
        (
            Edit(
                "actors.outgoing:Outgoing.lost",
                "call.idempotent and self.again(call)",
                "self.again(call)",
            ),
        ),
        ("once",),
        ("hosts", "storm"),
    ),
    "doubt-is-denied": Mutant(
        "10",
        "of what may have run on a lost host its caller is told that it did not",
        (
            Edit(
                "actors.outgoing:Outgoing.lost",
                "call.failed(lost(call, why))",
                "call.failed(Unavailable(why))",
            ),
        ),
        ("once",),
        ("hosts", "storm"),
    ),
    "unconfirmed-counts-as-unsent": Mutant(
        "11",
        "what a lost session has sent without an answer counts as never sent",
        (
            Edit(
                _SESSION + "unsent",
                "for data in self._envelopes",
                "for data in [*self._envelopes, *(encode_item(item) for sent in self._retained "
                "for item in decode_batch(sent.batch).items if type(item) in MESSAGES)]",
            ),
        ),
        ("once",),
        ("hosts", "storm"),
        first=155,
    ),
    "session-without-numbers": Mutant(
        "11",
        "a batch that arrives twice is handled twice",
        (Edit(_SESSION + "receive", "if number == self.received + 1:", "if number > 0:"),),
        ("streams", "once"),
        ("links",),
    ),
    "relink-forgets": Mutant(
        "11",
        "a session that resumes does not send again what was not acknowledged",
        (
            Edit(_SESSION + "resume", "deque(self._retained)", "deque()"),
            Edit(
                _SESSION + "receive",
                "if number == self.received + 1:",
                "if number > self.received:",
            ),
        ),
        ("left", "answers", "streams"),
        ("links",),
    ),
    "relink-reorders": Mutant(
        "11",
        "a session that resumes sends in another order, and nobody minds the numbers",
        (
            Edit(_SESSION + "resume", "deque(self._retained)", "deque(reversed(self._retained))"),
            Edit(_SESSION + "receive", "if number == self.received + 1:", "if number > 0:"),
            Edit(_INBOX, "if attempt <= stream.told:", "if False:"),
            Edit(
                _INBOX,
                "if seq == stream.expected:",
                "if seq >= stream.expected:\n        stream.expected = seq",
            ),
        ),
        ("order", "streams"),
        ("links",),
    ),
    "replies-need-credit": Mutant(
        "11",
        "replies and control frames wait for credit behind envelopes",
        (Edit(_SESSION + "push", "if type(item) in MESSAGES:", "if True:"),),
        ("links",),
        ("planned", "links"),
    ),
    "any-incarnation-will-do": Mutant(
        "4",
        "a link to an earlier incarnation is taken by whoever lives at its address",
        (
            Edit(
                "wire.handshake:check_dialer",
                'if hello.target not in ("", me.incarnation):',
                "if False:",
            ),
            Edit(
                "wire.handshake:check_acceptor",
                "if hello.incarnation != target.incarnation:",
                "if False:",
            ),
        ),
        ("links",),
        ("hosts", "storm"),
    ),
}
