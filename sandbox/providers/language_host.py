"""A `pulumi-language-python` for machines where the official one cannot be downloaded.

It serves the engine's LanguageRuntime protocol with the pieces of the Python SDK and runs the
program in its own process. It must be started with the Python of the project's virtual
environment: the wrapper that build.sh installs finds it.
"""
# ruff: noqa: N802, D102 - the methods of the servicer are named and described by the protocol.

from __future__ import annotations

import asyncio
import contextvars
import importlib.metadata
import logging
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
import pulumi
from google.protobuf import empty_pb2
from pulumi.runtime import run_in_stack, set_all_config
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2
from pulumi.runtime.settings import reset_options

# The engine's own limit for one message, in bytes.
LARGEST_MESSAGE = 400 * 1024 * 1024


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Runs one Python program for the engine that started this process."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> Any:
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.ended.set()
        return empty_pb2.Empty()

    def About(self, request: Any, context: grpc.ServicerContext) -> Any:
        return language_pb2.AboutResponse(
            executable=sys.executable, version=".".join(map(str, sys.version_info[:3]))
        )

    def GetRequiredPlugins(self, request: Any, context: grpc.ServicerContext) -> Any:
        return language_pb2.GetRequiredPluginsResponse()

    def GetRequiredPackages(self, request: Any, context: grpc.ServicerContext) -> Any:
        # Plugins are found on PATH. To name them here would make the engine try to download them.
        return language_pb2.GetRequiredPackagesResponse()

    def GetProgramDependencies(self, request: Any, context: grpc.ServicerContext) -> Any:
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=found.name, version=found.version)
                for found in importlib.metadata.distributions()
            ]
        )

    def RuntimeOptionsPrompts(self, request: Any, context: grpc.ServicerContext) -> Any:
        return language_pb2.RuntimeOptionsResponse()

    def InstallDependencies(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        requirements = Path(request.directory) / "requirements.txt"
        if not requirements.exists():
            return
        installer = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--requirement", str(requirements)],
            capture_output=True,
            check=False,
        )
        yield language_pb2.InstallDependenciesResponse(
            stdout=installer.stdout, stderr=installer.stderr
        )
        if installer.returncode != 0:
            context.abort(
                grpc.StatusCode.UNKNOWN, f"pip could not install what {requirements} lists"
            )

    def RunPlugin(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{request.program}: the sandbox's Python language host runs no plugins from source; "
            "install the official pulumi-language-python for that",
        )
        yield  # pragma: no cover - abort raises; the yield makes this a stream

    def Run(self, request: Any, context: grpc.ServicerContext) -> Any:
        # A copy of the context keeps the SDK's globals of this run apart from the server's.
        return contextvars.copy_context().run(self._run, request)

    def _run(self, request: Any) -> Any:
        # Resources that fail leave futures behind that nobody awaits; asyncio would report each.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        program = main_file(request)
        os.chdir(request.pwd or request.info.program_directory)
        sys.path.insert(0, str(program.parent))
        sys.argv = [str(program), *request.args[1:]]
        reset_options(
            project=request.project,
            stack=request.stack,
            root_directory=request.info.root_directory,
            parallel=request.parallel,
            engine_address=request.args[0] if request.args else "",
            monitor_address=request.monitor_address,
            preview=request.dryRun,
            organization=request.organization or "organization",
        )
        if not program.exists():
            pulumi.log.error(f"There is no program to run: {program} does not exist.")
            return language_pb2.RunResponse(bail=True)
        set_all_config(dict(request.config), list(request.configSecretKeys))
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        executor = ThreadPoolExecutor(max_workers=max(request.parallel, 1) * 4)
        loop.set_default_executor(executor)
        try:
            message = run_program(loop, str(program))
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            loop.close()
            sys.stdout.flush()
            sys.stderr.flush()
        if message:
            pulumi.log.error(message)
            # bail: the error was shown, so the engine adds no second one.
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse()


def run_program(loop: asyncio.AbstractEventLoop, program: str) -> str:
    """Run the program and its resource operations to the end; return what went wrong, or ""."""

    def main() -> None:
        runpy.run_path(program, run_name="__main__")

    try:
        loop.run_until_complete(run_in_stack(main))
    except pulumi.RunError as error:
        return str(error)
    except SystemExit as error:
        return "" if not error.code else f"The program ended itself: {error.code}"
    except grpc.RpcError as error:
        # A monitor that is gone means that the engine is ending by itself and tells why.
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            return ""
        return f"RPC error: {error.details()}"
    except BaseException as error:
        return "Program failed with an unhandled exception:\n" + program_traceback(error, program)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    return ""


def program_traceback(error: BaseException, program: str) -> str:
    """The traceback from the program's own first frame on; all of it if there is none."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename != program:
        frame = frame.tb_next
    if isinstance(error, SyntaxError):
        return "".join(traceback.format_exception_only(error))
    return "".join(
        traceback.format_exception(type(error), error, frame or error.__traceback__)
    ).rstrip()


def main_file(request: Any) -> Path:
    """The absolute path of the file to run."""
    directory = Path(request.info.program_directory or request.pwd)
    path: Path = (directory / (request.info.entry_point or request.program)).absolute()
    if path.is_dir():
        return path / "__main__.py"
    return path if path.exists() else path.with_suffix(".py")


def end_with_parent(host: LanguageHost) -> None:
    """An engine that was killed cannot stop its plugins: stop when it is gone."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    host.ended.set()


def main() -> None:
    """Serve until the engine cancels, ends or interrupts this process."""
    host = LanguageHost()
    server = grpc.server(
        ThreadPoolExecutor(max_workers=8),
        options=[
            ("grpc.max_receive_message_length", LARGEST_MESSAGE),
            ("grpc.max_send_message_length", LARGEST_MESSAGE),
        ],
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def end(_signal: int, _frame: FrameType | None) -> None:
        host.ended.set()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=end_with_parent, args=(host,), daemon=True).start()
    print(port, flush=True)
    host.ended.wait()
    # The program may sit in threads that nothing will ever wake: leave them behind.
    server.stop(grace=0)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
