"""The storm as a state machine that Hypothesis drives, and shrinks when a run breaks.

Rules only write the script, since a run is one Trio run: it is played at the machine's end. What
fails is printed with its seed and its script, and replays from these two.
"""

from __future__ import annotations

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.simulation.run import profile_of, run_seed

PAUSES_S = st.sampled_from((0.05, 0.5, 2.0))
#: One seed of each profile that has faults: what chance decides besides the script.
SEEDS = st.sampled_from((1, 2, 3, 4, 5))
STEPS_MIN = 3


class ClusterMachine(RuleBasedStateMachine):
    """A cluster that hosts join and leave while links, hosts and the registry fail."""

    def __init__(self) -> None:
        super().__init__()
        self.seed = -1
        self.script: list[tuple[str, float]] = []
        self.crashed = 0
        self.is_registry_up = True

    @initialize(seed=SEEDS)
    def draw(self, seed: int) -> None:
        self.seed = seed

    @rule(what=st.sampled_from(("join", "drain")), pause_s=PAUSES_S)
    def move(self, what: str, pause_s: float) -> None:
        self.script.append((what, pause_s))

    @rule(what=st.sampled_from(("freeze", "freeze at send", "stagger")), pause_s=PAUSES_S)
    def stall(self, what: str, pause_s: float) -> None:
        self.script.append((what, pause_s))

    @rule(pause_s=PAUSES_S)
    def crash(self, pause_s: float) -> None:
        self.crashed += 1
        self.script.append(("crash", pause_s))

    @precondition(lambda self: self.crashed > 0)
    @rule(pause_s=PAUSES_S)
    def restart(self, pause_s: float) -> None:
        self.crashed -= 1
        self.script.append(("restart", pause_s))

    @rule(what=st.sampled_from(("cut", "partition", "heal", "cut registry")), pause_s=PAUSES_S)
    def sever(self, what: str, pause_s: float) -> None:
        self.script.append((what, pause_s))

    @precondition(lambda self: bool(profile_of(self.seed).gusts))
    @rule(pause_s=PAUSES_S)
    def gust(self, pause_s: float) -> None:
        self.script.append(("gust", pause_s))

    @precondition(lambda self: profile_of(self.seed).may_lose_data())
    @rule(what=st.sampled_from(("failover", "old words", "clock")), pause_s=PAUSES_S)
    def fail_over(self, what: str, pause_s: float) -> None:
        self.script.append((what, pause_s))

    @rule(pause_s=PAUSES_S)
    def registry(self, pause_s: float) -> None:
        self.script.append(("registry down" if self.is_registry_up else "registry up", pause_s))
        self.is_registry_up = not self.is_registry_up

    def teardown(self) -> None:
        if len(self.script) < STEPS_MIN:
            return
        violations = run_seed(self.seed, script=self.script).violations
        if violations:
            script = ", ".join(f"{what} {pause_s}" for what, pause_s in self.script)
            note(f'replay: python -m tests.simulation --seed {self.seed} --script "{script}"')
        assert not violations, violations
