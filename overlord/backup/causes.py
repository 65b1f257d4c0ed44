"""What is behind an error of pgBackRest or of B2: what happened and what to do, for the person on
call. Pure functions over what they said, and one that runs a command and raises the result."""

import html
import re
from dataclasses import dataclass

from overlord.errors import OverlordError
from overlord.runner import Command, CommandFailedError, Result, Runner

NOT_ARCHIVED = "was not archived before"
"""pgBackRest waited for a piece of the log; why it did not come is known to the archiver only."""
_GOES_ON = "the log waits on the disk and goes on by itself"
_KEY = f"set a valid key: docs/operations/production.md; {_GOES_ON}"


@dataclass(frozen=True)
class Cause:
    """A known cause."""

    what: str
    remedy: str


_OUR_CLOCK = Cause(
    "B2 refuses it because this node's clock is too far off (RequestTimeTooSkewed)",
    f"`chronyc tracking` shows by how much; {_GOES_ON} when the clock is right",
)
_DECRYPTION = Cause(
    "what is in the bucket cannot be decrypted: it is damaged, or this node's backup_cipher_key is "
    "another one",
    "delete nothing; where `overlordctl backup list` works it is damaged: docs/runbooks/backup.md; "
    "else compare the key with the one in Pulumi's state",
)
_ANOTHER_DATABASE = Cause(
    "the repository belongs to another database than this node's",
    "stop, and delete nothing: docs/operations/disaster-recovery.md",
)
_NO_POSTGRES = Cause(
    "PostgreSQL of this node stopped or does not answer",
    "`overlordctl logs postgres` says why; `df -h` shows a full disk",
)
_LOG_STUCK = Cause(
    "the database's log does not reach the bucket in time",
    "the archiver says why: `overlordctl logs postgres`",
)


def cause_of_answer(code: str, message: str) -> Cause:
    """The cause behind an error answer of B2's S3 API."""
    if "cap exceeded" in message:
        return Cause(
            f"B2 takes no more: {message}",
            f"raise the cap at Backblaze under Caps & Alerts; {_GOES_ON}",
        )
    if code == "RequestTimeTooSkewed":
        return _OUR_CLOCK
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return Cause(f"B2 refuses the node's key ({code}): it is wrong or revoked", _KEY)
    if code in ("AccessDenied", "UnauthorizedAccess"):
        return Cause(f"B2 says that the node's key may not do this ({code}: {message})", _KEY)
    if code == "NoSuchBucket":
        return Cause("there is no such bucket", "`pulumi up` makes it; is it another account?")
    return Cause(f"B2 answers {code}: {message}", f"see https://status.backblaze.com; {_GOES_ON}")


def cause_of(said: str) -> Cause | None:
    """The cause in what a program said; None when nothing in it is known."""
    if damaged := re.search(
        r"unable to get (\w{24}):\n\s+repo1: \S+ \[(?:CryptoError|FormatError)\]", said
    ):
        return Cause(
            f"piece {damaged[1]} of the log in the archive is damaged",
            "make a full backup; a restore `--at` a moment before that piece works: "
            "docs/runbooks/backup.md",
        )
    if code := re.search(r"<Code>(\w+)</Code>", said):
        message = re.search(r"<Message>([^<]*)</Message>", said)
        return cause_of_answer(code[1], html.unescape(message[1]) if message else "no word")
    if no_room := re.search(r"No space left on device|unable to write '[^']+'", said):
        return Cause(
            f"the disk is full, or cannot be written to ({no_room[0]})",
            "`df -h`, then docs/runbooks/backup.md; what is in the bucket stays good",
        )
    if failed := re.search(r"HTTP request failed with 5\d\d[^:\n]*", said):
        return Cause(f"B2 is down: {failed[0]}", f"see https://status.backblaze.com; {_GOES_ON}")
    if silent := re.search(
        r"(?:timeout after \d+ms|unable to connect to '(?!dbname)|unable to get address"
        r"|TLS error|unexpected eof)[^\n]*",
        said,
    ):
        return Cause(
            f"B2 does not answer: {silent[0].strip()}",
            f"see https://status.backblaze.com and the node's way out; {_GOES_ON}",
        )
    if re.search(r"CryptoError|key/value found outside of section", said):
        return _DECRYPTION
    if "do not match the database" in said:
        return _ANOTHER_DATABASE
    if re.search(r"server terminated abnormally|connection to server on socket", said):
        return _NO_POSTGRES
    if NOT_ARCHIVED in said:
        return _LOG_STUCK
    return None


def failure(work: str, command: Command, result: Result, remedy: str) -> OverlordError:
    """The error of a command that failed: its cause, or what it said where that is not known.

    Args:
        work: what the command was for, such as `the full backup`.
        remedy: what to do about an unknown cause.
    """
    cause = cause_of(f"{result.errors}\n{result.output}")
    if cause is None:
        return CommandFailedError(command, result, remedy)
    return OverlordError(f"{work} failed: {cause.what}", cause.remedy)


def run_tool(runner: Runner, work: str, command: Command, remedy: str) -> Result:
    """Run a command that must succeed. Raises OverlordError, see `failure`."""
    result = runner.run(command)
    if result.code:
        raise failure(work, command, result, remedy)
    return result
