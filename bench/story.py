"""The stream that every system is given: cpu_percent of 100 deployments, and when it is over 90."""

import random

DEPLOYMENTS = 100
LIMIT = 90
HIGH = 99.0
# one event in so many is over the limit
ONE_IN = 1_000

_chance = random.Random(7)
_VALUES = [round(_chance.uniform(0, LIMIT - 0.1), 1) for _ in range(4_093)]


def name(deployment):
    return f"web-{deployment}"


def sample(number):
    """The deployment and the value of an event of the stream that comes as fast as it is taken."""
    high = number % ONE_IN == (number // ONE_IN * 37) % ONE_IN
    return name(number % DEPLOYMENTS), HIGH if high else _VALUES[number % len(_VALUES)]


class Paced:
    """The stream at a rate: every deployment in turn, and one after the other they cross the limit once."""

    CROSSINGS = DEPLOYMENTS
    # no multiple of a second: who looks once a second must not be met at the same moment each time
    BETWEEN = 0.373
    # so long a crossing lasts: long enough to be seen by who looks once a second
    LASTS = 2.0
    BEFORE = 2.0

    def __init__(self, rate):
        self.tick = 0.05 if rate <= 1_000 else 0.01
        self.of_tick = round(rate * self.tick)
        self.seconds = self.BEFORE + self.CROSSINGS * self.BETWEEN + self.LASTS + 1.0

    def crosses(self, deployment, at):
        began = self.BEFORE + deployment * self.BETWEEN
        return began <= at < began + self.LASTS

    def ticks(self):
        """When, from the beginning, and what: (seconds, [(deployment, value)])."""
        at_once = 0
        for number in range(int(self.seconds / self.tick)):
            at = number * self.tick
            samples = []
            for _ in range(self.of_tick):
                deployment = at_once % DEPLOYMENTS
                high = self.crosses(deployment, at)
                samples.append((name(deployment), HIGH if high else _VALUES[at_once % len(_VALUES)]))
                at_once += 1
            yield at, samples
