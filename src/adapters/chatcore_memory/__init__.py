"""Every port of chatcore in memory: for tests, of chatcore and of programs that embed it.

    database = MemoryDatabase()                       # database.unit_of_work is the UnitOfWorkFactory
    clock = HandClock()                               # clock.advance(3600)
    model = ScriptedModel("Hel", Stall(), "lo")       # says "Hel", and "lo" once the stall is released

They keep the contracts that the real adapters keep (`chatcore_testing`), at once and without any protection.
"""

from chatcore_memory.clock import HandClock
from chatcore_memory.database import MemoryDatabase
from chatcore_memory.model import Call, ScriptedModel, Stall, Step
from chatcore_memory.rate_limits import MemoryLimiter
from chatcore_memory.relay import RelayCall, RelayStep, ScriptedRelay
from chatcore_memory.secrets import PlainCipher, PlainPasswords, PlainSigner

__all__ = [
    "Call",
    "HandClock",
    "MemoryDatabase",
    "MemoryLimiter",
    "PlainCipher",
    "PlainPasswords",
    "PlainSigner",
    "RelayCall",
    "RelayStep",
    "ScriptedModel",
    "ScriptedRelay",
    "Stall",
    "Step",
]
