"""Failed logins, as fail2ban tells them."""

from overlord.facts.logins import Logins, read_logins
from overlord.runner import Result
from tests.unit.overlord.fakes import FakeRunner

STATUS = """Status for the jail: sshd
|- Filter
|  |- Currently failed:\t2
|  |- Total failed:\t41
|  `- Journal matches:\t_SYSTEMD_UNIT=sshd.service + _COMM=sshd
`- Actions
   |- Currently banned:\t3
   |- Total banned:\t7
   `- Banned IP list:\t192.0.2.1 192.0.2.2 192.0.2.3
"""


def test_failures_and_bans_are_counted() -> None:
    runner = FakeRunner({"fail2ban-client status sshd": Result(0, STATUS)})
    assert read_logins(runner) == Logins(failed=41, banned=3)


def test_a_guard_that_does_not_answer_is_no_count_of_zero() -> None:
    for result in (Result(255, errors="Failed to access socket"), Result(127), Result(0, "?")):
        assert read_logins(FakeRunner({"fail2ban-client": result})) is None
