"""What is measured: how many hosts, how far away, and how many are asked at once."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_S = 1.0  # the operator's default; what a fleet waits for on each host
# What one sample takes over a new connection: TCP, the banners, KEXINIT, the key exchange, the service
# request, the login, the channel, the command, and the agent with its answer.
ROUND_TRIPS = 9


@dataclass(frozen=True, slots=True)
class Work:
    """So many hosts, each ``rtt_ms`` away."""

    name: str
    hosts: int
    rtt_ms: int = 0
    concurrency: int = 64

    @property
    def implied_seconds(self) -> float:
        """Return what the round trips, the window and the concurrency alone take."""
        rounds = -(-self.hosts // self.concurrency)
        return rounds * (ROUND_TRIPS * self.rtt_ms / 1000 + WINDOW_S)


# All hosts share this machine's processors: with a round trip so few are asked at once that they, and not
# the processors, are what is waited for.
WORKS = {
    work.name: work
    for work in (
        Work("1", 1),
        Work("10", 10),
        Work("100", 100, concurrency=100),
        Work("500", 500),
        Work("1000", 1000),
        Work("100-1ms", 100, 1, 16),
        Work("100-20ms", 100, 20, 16),
        Work("100-100ms", 100, 100, 16),
        Work("500-100ms", 500, 100, 16),
    )
}
# Beyond these a contender takes so long that a run tells nothing new.
LIMITS = {"restrack": 1000, "ssh": 1000, "ansible": 100, "one-task-per-host": 10}


def contenders_of(work: Work, names: list[str]) -> list[str]:
    """Return those of the contenders that take part in a work."""
    return [name for name in names if work.hosts <= LIMITS[name]]
