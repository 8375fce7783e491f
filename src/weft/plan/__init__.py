"""Plans: recorded operations, fused, placed in memory, frozen and counted."""

from weft.plan.node import Node
from weft.plan.plan import Plan, freeze
from weft.plan.record import Recorder, Recording, Weights
from weft.plan.value import Parameter, State, Value

__all__ = ["Node", "Parameter", "Plan", "Recorder", "Recording", "State", "Value", "Weights", "freeze"]
