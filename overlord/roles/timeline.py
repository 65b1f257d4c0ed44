"""Whether a copy of the database can follow another one."""

from math import inf

from overlord.facts.database import Database


def ahead_of(own: Database, timeline: int, history: tuple[tuple[int, int], ...]) -> int | None:
    """How many bytes of log this copy has that the other one never had; 0 when it can follow.

    Both histories are walked from their common beginning to where they part.

    Args:
        own: this node's database.
        timeline: the other one's present timeline.
        history: timelines that the other one descends from, and where each was left.

    Returns:
        None when the two have no beginning in common.
    """
    if (own.timeline > 1 and not own.history) or (timeline > 1 and not history):
        return 0  # a history that cannot be read proves nothing
    mine: list[tuple[int, float]] = [*own.history, (own.timeline, own.lsn)]
    others: list[tuple[int, float]] = [*history, (timeline, inf)]
    common = None
    for index, (line, left) in enumerate(mine):
        if index == len(others) or others[index][0] != line:
            break
        other_left = others[index][1]
        if index == len(mine) - 1 and left <= other_left:
            return 0  # this copy ends on the other one's way
        common = min(left, other_left)
        if left != other_left:
            break
    return None if common is None else max(1, int(own.lsn - common))
