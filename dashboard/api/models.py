"""Bodies of requests and answers."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    InstanceOf,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic import Tag as PydanticTag
from pydantic.json_schema import SkipJsonSchema

# PostgreSQL cannot hold NUL, and the rest only serves to confuse terminals and logs.
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f]")
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")


def _plain_text(value: str) -> str:
    if _CONTROL_CHARACTERS.search(value):
        raise ValueError("must not hold control characters")
    if _HALF_CHARACTERS.search(value):
        raise ValueError("must be valid Unicode")
    return value


_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _can_be_reckoned_with(value: datetime) -> datetime:
    if not _EARLIEST <= value < _LATEST:
        raise ValueError("must be in the years from 1970 to 2199")
    return value


def _as_in_a_batch(value: object) -> object:
    """A text as msgspec reads it, which rounds to microseconds where pydantic cuts the rest off.

    The time is a part of what an event is known by, so it must be the same each time it comes,
    alone or in a batch.
    """
    if isinstance(value, str):
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(value, datetime)
    return value


Text = Annotated[str, AfterValidator(_plain_text)]
ReportedTime = Annotated[AwareDatetime, BeforeValidator(_as_in_a_batch)]
# A time that somebody asks for. At the ends of the calendar a day more or less is an error.
Moment = Annotated[AwareDatetime, AfterValidator(_can_be_reckoned_with)]
DeviceId = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Tag = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9:_.-]{0,47}$")]
MetricName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$")]
# A host name or an address that Prometheus can scrape; never a URL.
Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$")]
Status = Literal["ok", "warning", "critical"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StatusReport(_Strict):
    """What a device reports about itself."""

    device_id: DeviceId
    event_id: UUID = Field(description="made by the device; the same when it is sent again")
    event_time: ReportedTime = Field(description="when it was true, by the device's clock")
    sent_at: ReportedTime | None = Field(
        default=None, description="now, by the device's clock; tells a wrong clock from a replay"
    )
    status: Status
    message: Annotated[Text, Field(max_length=500)] = ""
    uptime_seconds: Annotated[int, Field(ge=0, le=2**40)] | None = None
    config_version: Annotated[Text, Field(max_length=64)] | None = None
    agent_version: Annotated[Text, Field(max_length=32)] | None = None
    kernel: Annotated[Text, Field(max_length=128)] | None = None
    boot_id: UUID | None = Field(default=None, description="changes when the device boots")
    metrics: Annotated[dict[MetricName, FiniteFloat], Field(max_length=64)] = Field(
        default_factory=dict
    )


@dataclass(frozen=True)
class InvalidReport:
    """A report of a batch that is none.

    Args:
        event_id: as it was sent, whatever that is.
        error: what is wrong with it.
    """

    event_id: object
    error: ValidationError


def _valid_or_why(raw: Any, validate: ValidatorFunctionWrapHandler) -> StatusReport | InvalidReport:
    try:
        report: StatusReport = validate(raw)
    except ValidationError as error:
        if not isinstance(raw, dict):
            raise
        return InvalidReport(raw.get("event_id"), error)
    return report


_BatchItem = Annotated[
    Annotated[StatusReport, WrapValidator(_valid_or_why)]
    | SkipJsonSchema[InstanceOf[InvalidReport]],
    Field(union_mode="left_to_right"),
]


class StatusBatch(_Strict):
    """Many reports of one device, oldest first. Each is judged by itself."""

    reports: Annotated[list[_BatchItem], Field(min_length=1, max_length=500)] = Field(
        description="each as a single report"
    )


def _single_or_batch(body: Any) -> str:
    batch = isinstance(body, StatusBatch) or (isinstance(body, dict) and "reports" in body)
    return "batch" if batch else "single"


Reported = Annotated[
    Annotated[StatusReport, PydanticTag("single")] | Annotated[StatusBatch, PydanticTag("batch")],
    Discriminator(_single_or_batch),
]


class StatusReceipt(BaseModel):
    """What became of a report. Only after this may the device forget it."""

    device_id: str
    event_id: UUID
    result: Literal["recorded", "duplicate"]
    clock_skew_seconds: float | None = Field(description="positive: the device is ahead")
    clock_flagged: bool = Field(description="the clock is more than 30 s off")
    epoch: int | None = Field(
        description="when it changes, send again from the last event before the change"
    )


@dataclass(slots=True)
class BatchResult:
    """What became of one report of a batch. No model: there are 500 of it in an answer."""

    event_id: Annotated[
        UUID | str | None,
        # A UUID is written by the serializer at no cost, and is text to the one who reads it.
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
        Field(description="as it was sent; null when there was none"),
    ]
    result: Literal["recorded", "duplicate", "refused"]
    reason: Annotated[str | None, Field(description="why it will never be taken")] = None
    detail: str | None = None


class BatchReceipt(BaseModel):
    """What became of each report of a batch, in the order sent."""

    results: list[BatchResult]
    epoch: int | None


class Enrolment(_Strict):
    """A device that joins the fleet."""

    device_id: DeviceId
    name: Annotated[Text, Field(min_length=1, max_length=100)] | None = None
    tags: Annotated[list[Tag], Field(max_length=32)] = Field(default_factory=list)
    address: Address | None = Field(default=None, description="where Prometheus scrapes it")


class Enrolled(BaseModel):
    """The device's own token, shown this once."""

    device_id: str
    token: str


class LatestStatus(BaseModel):
    """The newest status of a device."""

    status: Status
    message: str
    event_time: datetime
    observed_at: datetime
    received_at: datetime
    uptime_seconds: int | None
    config_version: str | None
    agent_version: str | None
    kernel: str | None
    boot_id: UUID | None
    clock_skew_seconds: float | None
    metrics: dict[str, float]


class Report(LatestStatus):
    """A status of the past."""

    event_id: UUID


class HistoryPage(BaseModel):
    """A page of a device's reports."""

    items: list[Report]
    total: int = Field(description="reports in the time asked for, on all pages")
    page: int
    page_size: int


class MetricSeries(BaseModel):
    """A metric, one value a bucket; null where the bucket has none."""

    avg: list[float | None]
    min: list[float | None]
    max: list[float | None]


class Series(BaseModel):
    """A device's reports in buckets of equal length; buckets without a report are left out."""

    since: datetime = Field(alias="from")
    until: datetime = Field(alias="to")
    step_seconds: int
    times: list[int] = Field(description="start of each bucket, in seconds since 1970, ascending")
    status: list[Status] = Field(description="the worst of each bucket")
    config_version: list[str | None] = Field(description="the last of each bucket")
    metrics: dict[str, MetricSeries]


class FleetEvent(BaseModel):
    """Something that happened."""

    id: int
    at: datetime
    device_id: str | None
    kind: str
    detail: dict[str, Any]


class EventSlice(BaseModel):
    """Events, newest first."""

    items: list[FleetEvent]
    next: int | None = Field(description="give it as `before` to go on; null at the end")


class AuditEntry(BaseModel):
    """A change that somebody made."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    client: str | None
    detail: dict[str, Any]


class AuditSlice(BaseModel):
    """Changes, newest first."""

    items: list[AuditEntry]
    next: int | None = Field(description="give it as `before` to go on; null at the end")


class DeviceChange(_Strict):
    """What to change about a device; what is not given stays."""

    name: Annotated[Text, Field(min_length=1, max_length=100)] = ""
    tags: Annotated[list[Tag], Field(max_length=32)] = Field(default_factory=list)
    address: Address | None = None

    @model_validator(mode="after")
    def _something(self) -> DeviceChange:
        if not self.model_fields_set:
            raise ValueError("give at least one of name, tags and address")
        return self


class LogLine(BaseModel):
    """A line of a device's log."""

    at: datetime
    line: str
    labels: dict[str, str]


class LogLines(BaseModel):
    """Lines of a device's log, newest first."""

    items: list[LogLine]


class Matcher(_Strict):
    """Which alerts a silence covers."""

    name: Annotated[Text, Field(min_length=1, max_length=100)]
    value: Annotated[Text, Field(max_length=300)]
    isRegex: bool = False  # noqa: N815 (Alertmanager's own name)
    isEqual: bool = True  # noqa: N815


class NewSilence(_Strict):
    """A silence to make, as Alertmanager has it."""

    matchers: Annotated[list[Matcher], Field(min_length=1, max_length=20)]
    startsAt: Moment  # noqa: N815
    endsAt: Moment  # noqa: N815
    comment: Annotated[Text, Field(min_length=1, max_length=500)]


class NodeReport(BaseModel):
    """A node as its agent describes it."""

    node: str
    self: bool
    at: datetime
    status: dict[str, Any] | None
    error: str | None = Field(description="why there is no status")


class Nodes(BaseModel):
    """Both nodes."""

    nodes: list[NodeReport]


class ScrapeTarget(BaseModel):
    """A target in the format of Prometheus' HTTP service discovery."""

    targets: list[str]
    labels: dict[str, str]


class Device(BaseModel):
    """A device of the fleet."""

    device_id: str
    name: str
    tags: list[str]
    address: str | None
    enrolled_at: datetime
    retired_at: datetime | None
    online: bool = Field(description="reported within the last three minutes")
    latest: LatestStatus | None


class DevicePage(BaseModel):
    """A page of devices."""

    items: list[Device]
    total: int = Field(description="devices that match, on all pages")
    page: int
    page_size: int


class Health(BaseModel):
    """Whether the API can do its work."""

    status: Literal["ok", "degraded"]
    node: str
    database: Literal["up", "down"]
    leader: bool
