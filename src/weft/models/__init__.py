"""Models: one file an architecture, written with operations."""

from weft.models.build import build_plan
from weft.models.config import ModelConfig
from weft.models.registry import ARCHITECTURES, read_config

__all__ = ["ARCHITECTURES", "ModelConfig", "build_plan", "read_config"]
