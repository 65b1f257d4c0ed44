"""Bodies of requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat


def _plain_text(value: str) -> str:
    # PostgreSQL cannot hold NUL, and the rest only serves to confuse terminals and logs.
    if any(ord(character) < 32 and character not in "\n\t" for character in value):
        raise ValueError("must not hold control characters")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise ValueError("must be valid Unicode")
    return value


Text = Annotated[str, AfterValidator(_plain_text)]
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
    event_time: AwareDatetime = Field(description="when it was true, by the device's clock")
    sent_at: AwareDatetime | None = Field(
        default=None, description="now, by the device's clock; tells a wrong clock from a replay"
    )
    status: Status
    message: Annotated[Text, Field(max_length=500)] = ""
    uptime_seconds: Annotated[int, Field(ge=0, le=2**40)] | None = None
    config_version: Annotated[Text, Field(max_length=64)] | None = None
    agent_version: Annotated[Text, Field(max_length=32)] | None = None
    metrics: Annotated[dict[MetricName, FiniteFloat], Field(max_length=64)] = Field(
        default_factory=dict
    )


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
    clock_skew_seconds: float | None
    metrics: dict[str, float]


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
