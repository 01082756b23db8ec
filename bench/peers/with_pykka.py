# mypy: ignore-errors
"""The workloads on Pykka: actors that are threads of one process. It has no remote calls.

``ask`` and ``tell`` of plain messages, as its documentation begins with; proxies are slower.
"""

from __future__ import annotations

import time

import pykka
from workloads import PAYLOAD, rate, serve


class Echo(pykka.ThreadingActor):
    def __init__(self):
        super().__init__()
        self.told = 0

    def on_receive(self, message):
        if message is None:
            return self.told
        self.told += 1
        return message


def main():
    echo = Echo.start()

    def tells(seconds):
        before, start = echo.ask(None), time.perf_counter()
        rate(lambda: echo.tell(PAYLOAD), seconds)
        ran = echo.ask(None) - before  # behind all of them
        return ran / (time.perf_counter() - start)

    def spawn(seconds):
        started = []
        found = rate(lambda: started.append(Echo.start()), min(seconds, 1.0))
        for ref in started:
            ref.stop()
        return found

    serve({
        "local ask, one after another": lambda s: rate(lambda: echo.ask(PAYLOAD), s),
        "local tell": tells,
        "actors started": spawn,
    })  # fmt: skip
    pykka.ActorRegistry.stop_all()


if __name__ == "__main__":
    main()
