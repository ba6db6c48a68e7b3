"""The names inside uvicorn that `vitlab serve` relies on although uvicorn does not document them.

An update of uvicorn that drops one fails here with the name. pyproject.toml bounds the version from above: raise the
bound together with the pin in constraints.txt, once all tests/test_serve_*.py pass.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tests.serving import Running, ask, running, tiny_classifier, wait_for
from vitlab.serve.server import Connection, VitlabServer

CONNECTION_HOOKS = {"connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing",
                    "send_400_response", "on_response_complete"}  # fmt: skip
CONNECTION_NAMES = {"app_state", "flow", "connections", "transport", "loop", "conn", "cycle", "timeout_keep_alive",
                    "timeout_keep_alive_task", "timeout_keep_alive_handler",
                    "_unset_keepalive_if_required"}  # fmt: skip
SERVER_HOOKS = {"handle_exit", "shutdown"}
SERVER_NAMES = {"run", "config", "servers", "server_state", "should_exit"}
ARGUMENTS = {"config", "server_state", "app_state"}  # of a connection that is made by hand
OTHERS = ("server_state.connections", "cycle.response_complete", "cycle.waiting_for_100_continue",
          "flow.pause_reading", "flow.resume_reading", "conn.their_state")  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server that has answered."""
    with running({"tiny": tiny_classifier()}, keep_alive_seconds=60) as made:
        yield made


@pytest.mark.parametrize("name", sorted(CONNECTION_HOOKS | SERVER_HOOKS))
def test_uvicorn_has_the_method_that_we_extend(name: str) -> None:
    base: type = H11Protocol if name in CONNECTION_HOOKS else uvicorn.Server
    assert hasattr(base, name), f"{base.__module__}.{base.__name__}.{name} is missing in uvicorn {uvicorn.__version__}"


def test_uvicorn_has_the_attributes_that_we_read(server: Running) -> None:
    with closing(server.connect()) as wire:
        assert ask(wire, "GET", "/livez").status == 200
        (connection,) = server.server.server_state.connections
        assert isinstance(connection, Connection)
        missing = [f"H11Protocol.{name}" for name in sorted(CONNECTION_NAMES) if not hasattr(connection, name)]
        missing += [f"Server.{name}" for name in sorted(SERVER_NAMES) if not hasattr(server.server, name)]
        for whole in OTHERS:
            owner, name = whole.split(".")
            holder = server.server if owner == "server_state" else connection
            if not hasattr(getattr(holder, owner), name):
                missing.append(whole)
        assert not missing, f"missing in uvicorn {uvicorn.__version__}: {', '.join(missing)}"
        wait_for(lambda: connection.cycle.response_complete)
        wait_for(lambda: connection.timeout_keep_alive_task is not None)


def test_a_connection_can_be_made_by_hand() -> None:
    missing = ARGUMENTS - set(inspect.signature(H11Protocol).parameters)
    assert not missing, f"arguments of H11Protocol that are missing in uvicorn {uvicorn.__version__}: {missing}"
    assert hasattr(ServerState(), "connections")


@pytest.mark.parametrize(
    ("own", "names", "hooks"),
    [(Connection, CONNECTION_NAMES, CONNECTION_HOOKS), (VitlabServer, SERVER_NAMES, SERVER_HOOKS)],
)
def test_every_name_that_is_used_is_in_the_lists_above(own: type, names: set[str], hooks: set[str]) -> None:
    (tree,) = ast.parse(inspect.getsource(own)).body
    assert isinstance(tree, ast.ClassDef)
    methods = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    made = {node.attr for node in of_self(methods["__init__"]) if isinstance(node.ctx, ast.Store)}
    used = {node.attr for node in of_self(tree)}
    assert used - made - set(methods) == names
    ours = {name for name in methods if not name.startswith("_")} - {"answer_until_stopped"}
    assert ours == hooks


def of_self(tree: ast.AST) -> list[ast.Attribute]:
    """Every attribute of self in a piece of code."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return [node for node in found if isinstance(node.value, ast.Name) and node.value.id == "self"]


def test_the_next_uvicorn_is_not_installed_unseen() -> None:
    root = Path(__file__).parents[1]
    bound = re.search(r'"uvicorn>=[\d.]+,<0\.(\d+)"', (root / "pyproject.toml").read_text())
    pin = re.search(r"^uvicorn==0\.(\d+)\.", (root / "constraints.txt").read_text(), re.MULTILINE)
    assert bound is not None
    assert pin is not None
    assert int(bound[1]) == int(pin[1]) + 1
