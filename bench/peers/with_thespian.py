# mypy: ignore-errors
"""The workloads on Thespian: multiprocTCPBase, every actor a process of its own.

From outside an actor system asks are one at a time, so for many at once the caller tells and
listens for the answers. For the local figures its simpleSystemBase, which runs in the caller's
own process.
"""

from __future__ import annotations

import socket
import time

from thespian.actors import ActorExitRequest, ActorSystem, ActorTypeDispatcher
from workloads import ACTORS, OUTSTANDING, PAYLOAD, rate, serve

LIMIT_S = 30
#: It starts a process for each, and has no bound on what waits: fewer tells than it could send.
BURST = 200


class Echo(ActorTypeDispatcher):
    told = 0

    def receiveMsg_bytes(self, message, sender):
        self.send(sender, message)

    def receiveMsg_tuple(self, message, sender):
        self.told += 1

    def receiveMsg_str(self, message, sender):
        self.send(sender, self.told)


def tells_of(system, echoes, seconds):
    before = sum(system.ask(e, "told", LIMIT_S) for e in echoes)
    sent, end = 0, (start := time.perf_counter()) + seconds
    while time.perf_counter() < end:
        for echo in echoes:
            for _ in range(BURST // len(echoes)):
                system.tell(echo, (PAYLOAD,))
                sent += 1
        while sum(system.ask(e, "told", LIMIT_S) for e in echoes) < before + sent:
            time.sleep(0.001)
    return sent / (time.perf_counter() - start)


def main():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    own = {"Admin Port": port, "Admin Address": "127.0.0.1", "Convention Address.IPv4": ""}
    away = ActorSystem("multiprocTCPBase", capabilities=own, transientUnique=True)
    here = ActorSystem("simpleSystemBase", transientUnique=True)
    try:
        echoes = [away.createActor(Echo) for _ in range(ACTORS)]
        near = here.createActor(Echo)
        for echo in echoes:
            away.ask(echo, "told", LIMIT_S)

        def asks(seconds):
            for number in range(OUTSTANDING):
                away.tell(echoes[number % ACTORS], PAYLOAD)
            done, end = 0, (start := time.perf_counter()) + seconds
            while time.perf_counter() < end:
                if away.listen(LIMIT_S) is None:
                    raise TimeoutError
                away.tell(echoes[done % ACTORS], PAYLOAD)
                done += 1
            for _ in range(OUTSTANDING):
                away.listen(LIMIT_S)
            return (done + OUTSTANDING) / (time.perf_counter() - start)

        def spawn(seconds):
            started = []

            def one():
                started.append(away.createActor(Echo))
                away.ask(started[-1], "told", LIMIT_S)

            found = rate(one, seconds)
            for echo in started:
                away.tell(echo, ActorExitRequest())
            return found

        serve({
            "remote round trip, 1 outstanding": lambda s: 1e6 / rate(
                lambda: away.ask(echoes[0], PAYLOAD, LIMIT_S), s),
            "remote asks, 64 outstanding": asks,
            "remote tells": lambda s: tells_of(away, echoes, s),
            "local ask, one after another": lambda s: rate(
                lambda: here.ask(near, PAYLOAD, LIMIT_S), s),
            "local tell": lambda s: tells_of(here, [near], s),
            "actors started": spawn,
        })  # fmt: skip
    finally:
        away.shutdown()


if __name__ == "__main__":
    main()
