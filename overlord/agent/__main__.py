"""python3 -m overlord.agent: observe, decide, act, every few seconds."""

import logging
import signal
import threading
import time
from types import FrameType

from overlord.agent.act import Actor
from overlord.agent.http import Service
from overlord.agent.notify import notify
from overlord.agent.state import State
from overlord.decide import Action, History, RestartService, decide, remember, with_restart
from overlord.facts.observe import Facts, observe, observe_slow
from overlord.facts.peer import PORT
from overlord.files import write
from overlord.paths import Paths
from overlord.roles.manager import RoleManager
from overlord.runner import SystemRunner
from overlord.settle import code_digest

ROUND_SECONDS = 5.0
STARTING_SECONDS = 1.0
"""Between rounds while a container starts: /health must not call a node ill that is well by now."""
SLOW_SECONDS = 30.0

log = logging.getLogger("overlord.agent")


def run(paths: Paths, stop: threading.Event) -> None:
    """The loop, until stop is set."""
    runner = SystemRunner()
    state = State(paths=paths)
    history = History()
    service = Service(state)
    threading.Thread(target=service.serve_forever, name="http", daemon=True).start()
    manager = RoleManager(paths, runner, state.roles)
    threading.Thread(target=manager.run, args=(stop,), name="roles", daemon=True).start()
    to_peer: tuple[str, Service] | None = None
    write(paths.agent_code, code_digest().encode())
    slow, slow_at = observe_slow(paths, runner), time.monotonic()
    ready = False
    hands: threading.Thread | None = None
    while True:
        if time.monotonic() - slow_at >= SLOW_SECONDS:
            slow, slow_at = observe_slow(paths, runner), time.monotonic()
        facts = observe(paths, slow)
        history = remember(history, facts)
        actions = decide(facts, history)
        state.publish(facts, actions)
        to_peer = _listen(to_peer, facts.compose_address, state, manager)
        if not ready:
            notify("READY=1")
            ready = True
        notify(f"WATCHDOG=1\nSTATUS={_summary(state)}")
        if actions and not (hands and hands.is_alive()):
            for action in actions:
                if isinstance(action, RestartService):
                    history = with_restart(history, action.service, facts.time)
            # Apart from the loop: a restart takes as long as a service's grace period, and
            # meanwhile /leader must go on telling the truth.
            hands = threading.Thread(
                target=_act, args=(Actor(paths, runner, facts.node), actions), daemon=True
            )
            hands.start()
            slow_at -= SLOW_SECONDS  # see soon whether it helped
        if stop.wait(pause(facts, actions)):
            break
    notify("STOPPING=1")
    service.shutdown()


def pause(facts: Facts, actions: tuple[Action, ...]) -> float:
    """Seconds until the next round. Docker ends the state `starting` by itself, so the short pause
    comes to an end; what the agent does about a node is not done more often for it."""
    starts = any(one.health == "starting" for one in facts.containers)
    return STARTING_SECONDS if starts and not actions else ROUND_SECONDS


def _act(actor: Actor, actions: tuple[Action, ...]) -> None:
    for action in actions:
        actor.act(action)


def _listen(
    current: tuple[str, Service] | None, address: str | None, state: State, manager: RoleManager
) -> tuple[str, Service] | None:
    """The service on the tailnet address: started once that is known, moved when it changes."""
    if address is None or (current and current[0] == address):
        return current
    try:
        service = Service(state, (address, PORT), manager)
    except OSError as error:
        log.error("%s port %d: %s", address, PORT, error)
        return current
    threading.Thread(target=service.serve_forever, name="http-tailnet", daemon=True).start()
    if current:
        current[1].shutdown()
        current[1].server_close()
    return address, service


def _summary(state: State) -> str:
    view = state.roles.fresh()
    return f"{view.decision.state}: {view.decision.reason}" if view else "unknown"


def main() -> None:
    """Run until systemd says stop."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    run(Paths(), stop)


if __name__ == "__main__":
    main()
