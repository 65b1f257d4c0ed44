"""The one error an operator sees."""


class OverlordError(Exception):
    """Says what happened to which resource, and what to do next. Never holds a secret."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
