"""An import finder that makes etcd3 importable under every protobuf version.

protobuf 4 and later refuse etcd3's generated code. That code also registers file names without a folder (``rpc.proto``)
in the descriptor pool that all packages share, where they clash with others. So this module rebuilds the message classes
from the serialized descriptors in the installed package, in a separate descriptor pool. It publishes them under the
names that etcd3 imports. This runs no code of the installed package, and changes no file. The package may be in a
folder, in a zip or in a frozen program, with or without its source.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, cast

_PACKAGE = "etcd3.etcdrpc"
# In dependency order: each file comes after those that it imports.
_FILES = ("kv", "auth", "rpc")
_NAMES = {f"{_PACKAGE}.{name}_pb2": f"{name}.proto" for name in _FILES}

_pool: Any = None
_factory: Any = None
_messages: Any = None


def install() -> None:
    """Install the finder for the first ``import etcd3``. If a working etcd3 was already imported, that one is used."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def messages() -> Any:
    """Return a module with etcd3's message classes, without loading etcd3's client.

    They are the same classes that ``import etcd3`` provides, in whichever order the two run.

    Raises:
        ImportError: etcd3 is not installed, or is not version 0.12.
    """
    global _messages  # noqa: PLW0603 - as below
    if sys.modules.get(_PACKAGE) is not None:
        return import_module(_PACKAGE)  # waits for another thread that is importing it
    if _messages is None:
        path: Sequence[str] | None = None
        for package in ("etcd3", _PACKAGE):
            found = _find(package, path)
            if found is None or not found.submodule_search_locations:
                raise ImportError("etcd3 is not installed: etcdleader needs its message classes", name="etcd3")
            path = found.submodule_search_locations
        pool = _filled_pool(path)
        made = ModuleType(_PACKAGE)  # not in sys.modules: ``import etcd3`` loads its own package, with these classes
        for name in _NAMES.values():
            _publish(made, pool.FindFileByName(name), pool)
        _messages = made  # set when complete: another thread may call this in the meantime
    return _messages


# These classes have no base from importlib.abc, and this module uses no Path: importing either takes longer than all of
# this module.
class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del target
        if fullname not in _NAMES:
            return None
        found = _find(fullname, path)
        if found is None:
            return None
        return ModuleSpec(fullname, cast("Any", _Loader(path)), origin=found.origin)


class _Loader:
    def __init__(self, path: Sequence[str] | None) -> None:
        self._path = path

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        del spec
        return None

    def exec_module(self, module: ModuleType) -> None:
        pool = _filled_pool(self._path)
        _publish(module, pool.FindFileByName(_NAMES[module.__name__]), pool)


def _find(fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Find a module as Python does, but skip this module's finder."""
    for finder in sys.meta_path:
        if not isinstance(finder, _Finder) and (found := finder.find_spec(fullname, path)) is not None:
            return found
    return None


def _filled_pool(path: Sequence[str] | None) -> Any:
    global _pool  # noqa: PLW0603 - descriptors refer to others in their pool, so all three modules share one
    if _pool is None:
        from google.protobuf.descriptor_pool import DescriptorPool

        pool = DescriptorPool()
        for name in _FILES:
            pool.AddSerializedFile(_serialized(name, path))
        _pool = pool
    return _pool


def _serialized(name: str, path: Sequence[str] | None) -> bytes:
    """Return the serialized descriptor of one of etcd3's files.

    Raises:
        ImportError: The file has no such descriptor.
    """
    module = f"{_PACKAGE}.{name}_pb2"
    found = _find(module, path)
    loader: Any = None if found is None else found.loader
    if loader is not None:
        source = loader.get_source(module)
        value = _in_source(source) if source is not None else _in_code(loader.get_code(module), f"{name}.proto")
        if value is not None:
            return value
    raise ImportError(f"{module} has no serialized descriptor: is this etcd3 0.12?", name=module)


def _in_source(generated: str) -> bytes | None:
    """Find the descriptor in generated source: ``serialized_pb=_b('...')``, in Latin-1."""
    import ast
    import re

    # It is one literal in many thousand lines. Parsing them all would take longer than the rest of this module.
    found = re.search(r"""\bserialized_pb=(?:_b\()?(b?(['"])(?:\\.|(?!\2).)*\2)""", generated)
    if found is None:
        return None
    value = ast.literal_eval(found[1])
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def _in_code(code: CodeType, file: str) -> bytes | None:
    """Find the descriptor among the constants of compiled code. It begins with its file's name."""
    beginning = b"\n" + bytes([len(file)]) + file.encode()
    for constant in code.co_consts:
        value = constant.encode("latin-1", "replace") if isinstance(constant, str) else constant
        if isinstance(value, bytes) and value.startswith(beginning):
            return value
    return None


def _publish(module: ModuleType, file: Any, pool: Any) -> None:
    """Add the names of the generated code to ``module``: messages, enums and their values."""
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

    names = vars(module)
    names["DESCRIPTOR"] = file
    for name, descriptor in file.message_types_by_name.items():
        names[name] = _message_class(descriptor, pool)
    for name, descriptor in file.enum_types_by_name.items():
        names[name] = EnumTypeWrapper(descriptor)
        names.update({value.name: value.number for value in descriptor.values})


def _message_class(descriptor: Any, pool: Any) -> Any:
    from google.protobuf import message_factory

    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    global _factory  # noqa: PLW0603 - one factory creates each class only once
    if _factory is None:
        _factory = message_factory.MessageFactory(pool)
    return _factory.GetPrototype(descriptor)  # protobuf 3.20
