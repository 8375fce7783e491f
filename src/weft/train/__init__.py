"""Training: data to slices, the loop, the optimizer, checkpoints, adapters, and what a run leaves behind.

`weft.train(...)` trains: the package itself can be called, since Python gives its name to the package once
any module of it is imported. What is called is `weft.tasks.train.train`.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        # By name, when it is called: tasks stand above this package, which must not depend on them.
        return importlib.import_module("weft.tasks.train").train(*arguments, **settings)


sys.modules[__name__].__class__ = _CallablePackage
