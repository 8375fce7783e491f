"""Jinja2's sandbox, tightened: every operation of a template is charged to a budget before it runs.

The library's sandbox keeps templates from Python's internals; it does not keep them from asking for
`'a' * 10**9` or from looping for years. Here the syntax tree is rewritten so that loops, literals, joins and
plain text pass through charged filters, and filters and methods are those whose cost is known.
"""

from __future__ import annotations

from types import BuiltinMethodType
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from weft.io.text.template_budget import current_budget, measure
from weft.io.text.template_filters import (
    charge_output,
    check_format,
    check_method,
    check_power,
    filters,
    functions,
    product_size,
)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """The environment that chat templates are compiled and rendered in; render inside `spending()`."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        # The optimizer would run parts of the template while it is compiled, when nothing is charged.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=charge_output,
            extensions=[loopcontrols, GenerationTag],
        )
        self.filters = filters()
        self.globals = dict(functions())

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Charging().visit(super()._parse(source, name, filename))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = current_budget()
        most = budget.largest_value
        sizes = measure(left, most), measure(right, most)
        if operator == "*":
            budget.step(product_size(left, right, sizes))
        elif operator == "**":
            check_power(left, right)
        elif operator == "%" and isinstance(left, str):
            check_format(left, sizes[1])
        budget.step(sum(sizes))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        budget = current_budget()
        # Namespaces may be handed to macros; the library adds the variables of the loop around a call.
        named = [value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars")]
        values = [value for value in (*args, *named) if not isinstance(value, Namespace)]
        size = measure(values, budget.largest_value)
        # The library hands out str.format wrapped.
        method = getattr(__obj, "__wrapped__", __obj)
        if isinstance(method, BuiltinMethodType):
            size += measure(method.__self__, budget.largest_value)
            check_method(method.__self__, method.__name__, args, size)
        budget.step(size)
        return super().call(__context, __obj, *args, **kwargs)


class GenerationTag(Extension):
    """`{% generation %}`: marks the assistant's part for training in published templates; here, its body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Charging(NodeTransformer):
    """Routes what a template builds, loops over and writes through the charged filters."""

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        return nodes.Const(node.data, lineno=node.lineno)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "weft_loop", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._filtered(nodes.List(node.nodes, lineno=node.lineno), "weft_concat")

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return self._filtered(node, "weft_built")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return self._filtered(node, "weft_built")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return self._filtered(node, "weft_built") if node.ctx == "load" else node

    def _filtered(self, node: nodes.Expr, name: str) -> nodes.Expr:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
